# ruff: noqa: I001 (in the order of the story, not of the alphabet)
"""bridgejax: diffusion models and diffusion bridges in JAX.

One noun, the SDE, written as pure functions f(t, x, args); four verbs, and one way to learn.

    make    parameters -> SDE           noising(schedule), SDE(drift, diffusion)
    bend    SDE -> SDE                  reverse, probability_flow, pin, guide, constrain, doob, control, clamp, ...
    run     SDE, key, x0 -> x_T         simulate, simulate_path, simulate_batch, sample
    weigh   path, two kernels -> number path_log_ratio, log_weights, weights, log_prob
    learn   Method -> Process           fit, methods, load

A call sees one sample; ``vmap`` (or ``simulate_batch``) makes many. This file is the table of contents.
"""

# nouns
from bridgejax.processes import SDE as SDE
from bridgejax.processes import Kernel as Kernel
from bridgejax.processes import Process as Process
from bridgejax.processes import Schedule as Schedule
from bridgejax.training import Method as Method

# make
from bridgejax.processes import GaussianMixture as GaussianMixture
from bridgejax.processes import keys as keys
from bridgejax.processes import linear as linear
from bridgejax.processes import mixtures as mixtures
from bridgejax.processes import noising as noising
from bridgejax.processes import schedules as schedules
from bridgejax.processes import starts as starts
from bridgejax.processes import transition as transition

# bend
from bridgejax.geometry import domains as domains
from bridgejax.bridges import Observation as Observation
from bridgejax.bridges import clamp as clamp
from bridgejax.bridges import compose as compose
from bridgejax.bridges import constrain as constrain
from bridgejax.bridges import control as control
from bridgejax.bridges import doob as doob
from bridgejax.bridges import guidance as guidance
from bridgejax.bridges import guide as guide
from bridgejax.bridges import pin as pin
from bridgejax.bridges import probability_flow as probability_flow
from bridgejax.bridges import reverse as reverse
from bridgejax.bridges import transport as transport
from bridgejax.bridges import x_bridges as x_bridges

# interpolate
from bridgejax.bridges import Interpolant as Interpolant
from bridgejax.bridges import interpolants as interpolants
from bridgejax.bridges import predictions as predictions

# run
from bridgejax.solve import Path as Path
from bridgejax.solve import grids as grids
from bridgejax.solve import mcmc as mcmc
from bridgejax.solve import sample as sample
from bridgejax.solve import simulate as simulate
from bridgejax.solve import simulate_batch as simulate_batch
from bridgejax.solve import simulate_path as simulate_path
from bridgejax.solve import solvers as solvers
from bridgejax.solve import superpose as superpose

# weigh
from bridgejax.solve import bits_per_dim as bits_per_dim
from bridgejax.solve import feynman_kac as feynman_kac
from bridgejax.solve import smc as smc
from bridgejax.solve import kernels as kernels
from bridgejax.solve import log_prob as log_prob
from bridgejax.solve import log_weights as log_weights
from bridgejax.solve import path_log_ratio as path_log_ratio
from bridgejax.solve import pcn as pcn
from bridgejax.solve import weighted_paths as weighted_paths
from bridgejax.solve import weighted_samples as weighted_samples
from bridgejax.solve import weights as weights

# learn
from bridgejax import couplings as couplings
from bridgejax import data as data
from bridgejax import evaluation as evaluation
from bridgejax import metrics as metrics
from bridgejax import networks as networks
from bridgejax import oracles as oracles
from bridgejax.oracles import targets as targets
from bridgejax import objectives as objectives
from bridgejax import methods as methods
from bridgejax.methods.runs import Run as Run
from bridgejax.methods.runs import load as load
from bridgejax.training import fit as fit
from bridgejax.training import gradient_method as gradient_method

__version__ = "0.1.0"
