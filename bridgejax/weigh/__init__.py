"""WEIGH: a number from a path or a density: path weights, likelihood, populations (SMC, Feynman-Kac), MCMC."""

from bridgejax.weigh import mcmc as mcmc
from bridgejax.weigh import weights as weights
from bridgejax.weigh._feynman_kac import feynman_kac as feynman_kac
from bridgejax.weigh._hjb import hjb_residual as hjb_residual
from bridgejax.weigh._likelihood import LogProb as LogProb
from bridgejax.weigh._likelihood import bits_per_dim as bits_per_dim
from bridgejax.weigh._likelihood import log_prob as log_prob
from bridgejax.weigh._path_mcmc import pcn as pcn
from bridgejax.weigh._path_mcmc import weighted_paths as weighted_paths
from bridgejax.weigh._path_weights import log_weights as log_weights
from bridgejax.weigh._path_weights import path_log_ratio as path_log_ratio
from bridgejax.weigh._path_weights import weighted_samples as weighted_samples
from bridgejax.weigh._population import Population as Population
from bridgejax.weigh._smc import smc as smc
from bridgejax.weigh._superpose import Superposed as Superposed
from bridgejax.weigh._superpose import superpose as superpose

__all__ = [
    "LogProb",
    "Population",
    "Superposed",
    "bits_per_dim",
    "feynman_kac",
    "hjb_residual",
    "log_prob",
    "log_weights",
    "mcmc",
    "path_log_ratio",
    "pcn",
    "smc",
    "superpose",
    "weighted_paths",
    "weighted_samples",
    "weights",
]


def __dir__() -> list[str]:
    return __all__
