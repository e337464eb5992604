# ruff: noqa: I001 (in the order of the story, not of the alphabet)
# nouns
from .processes import SDE as SDE
from .processes import Kernel as Kernel
from .processes import Process as Process
from .processes import Schedule as Schedule
from .training import Method as Method

# make
from .processes import GaussianMixture as GaussianMixture
from .processes import keys as keys
from .processes import linear as linear
from .processes import mixtures as mixtures
from .processes import noising as noising
from .processes import schedules as schedules
from .processes import starts as starts
from .processes import transition as transition

# bend
from .geometry import domains as domains
from .geometry import manifolds as manifolds
from .geometry import mirrors as mirrors
from .bridges import Observation as Observation
from .bridges import clamp as clamp
from .bridges import compose as compose
from .bridges import constrain as constrain
from .bridges import control as control
from .bridges import doob as doob
from .bridges import guidance as guidance
from .bridges import guide as guide
from .bridges import pin as pin
from .bridges import probability_flow as probability_flow
from .bridges import reverse as reverse
from .bridges import stop as stop
from .bridges import teleport as teleport
from .bridges import transport as transport
from .bridges import x_bridges as x_bridges

# interpolate
from .bridges import Interpolant as Interpolant
from .bridges import interpolants as interpolants
from .bridges import predictions as predictions

# run
from .solve import Path as Path
from .solve import grids as grids
from .weigh import mcmc as mcmc
from .solve import sample as sample
from .solve import simulate as simulate
from .solve import simulate_batch as simulate_batch
from .solve import simulate_path as simulate_path
from .solve import solvers as solvers
from .weigh import superpose as superpose

# weigh
from .weigh import bits_per_dim as bits_per_dim
from .weigh import feynman_kac as feynman_kac
from .weigh import hjb_residual as hjb_residual
from .weigh import smc as smc
from .solve import kernels as kernels
from .weigh import log_prob as log_prob
from .weigh import log_weights as log_weights
from .weigh import path_log_ratio as path_log_ratio
from .weigh import pcn as pcn
from .weigh import weighted_paths as weighted_paths
from .weigh import weighted_samples as weighted_samples
from .weigh import weights as weights

# learn
from . import couplings as couplings
from . import data as data
from . import evaluation as evaluation
from . import gp as gp
from . import metrics as metrics
from . import networks as networks
from . import oracles as oracles
from .oracles import targets as targets
from . import objectives as objectives
from . import methods as methods
from . import training as training
from .runs import Run as Run
from .runs import load as load
from .training import fit as fit
from .training import gradient_method as gradient_method

__version__: str
