"""Running SDEs: solvers, grids, simulation, sampling."""

from bridgejax.solve import grids as grids
from bridgejax.solve import kernels as kernels
from bridgejax.solve import solvers as solvers
from bridgejax.solve import weights as weights
from bridgejax.solve.batch import sample as sample
from bridgejax.solve.batch import simulate_batch as simulate_batch
from bridgejax.solve.likelihood import LogProb as LogProb
from bridgejax.solve.likelihood import bits_per_dim as bits_per_dim
from bridgejax.solve.likelihood import log_prob as log_prob
from bridgejax.solve.simulate import Path as Path
from bridgejax.solve.simulate import simulate as simulate
from bridgejax.solve.simulate import simulate_path as simulate_path
from bridgejax.solve.smoothing import pcn as pcn
from bridgejax.solve.weigh import log_weights as log_weights
from bridgejax.solve.weigh import path_log_ratio as path_log_ratio
from bridgejax.solve.weigh import weighted_samples as weighted_samples
