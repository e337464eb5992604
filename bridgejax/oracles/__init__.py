"""Closed-form truths: Schroedinger bridges, Gaussian data and their flow, finite data, entropic plans, diffusions with
known densities, grids, heat kernels, and targets with known normalising constants.
"""

from bridgejax.oracles import diffusions as diffusions
from bridgejax.oracles import grid as grid
from bridgejax.oracles import heat as heat
from bridgejax.oracles import quantum as quantum
from bridgejax.oracles import targets as targets
from bridgejax.oracles.entropic import EntropicPair as EntropicPair
from bridgejax.oracles.entropic import entropic_pair as entropic_pair
from bridgejax.oracles.entropic import random_entropic_pair as random_entropic_pair
from bridgejax.oracles.finite import EmpiricalLaw as EmpiricalLaw
from bridgejax.oracles.finite import empirical_law as empirical_law
from bridgejax.oracles.gaussian import GaussianBridge as GaussianBridge
from bridgejax.oracles.gaussian import StaticBridge as StaticBridge
from bridgejax.oracles.gaussian import gaussian_bridge as gaussian_bridge
from bridgejax.oracles.gaussian import static_gaussian_bridge as static_gaussian_bridge
from bridgejax.oracles.regimes import CollapseTime as CollapseTime
from bridgejax.oracles.regimes import collapse_time as collapse_time
from bridgejax.oracles.regimes import estimate_collapse_time as estimate_collapse_time
from bridgejax.oracles.regimes import speciation_time as speciation_time
from bridgejax.processes._gaussian_fit import fit_gaussian as fit_gaussian
from bridgejax.processes._gaussian_flow import GaussianFlow as GaussianFlow
from bridgejax.processes._gaussian_flow import gaussian_flow as gaussian_flow
from bridgejax.processes.gaussians import GaussianLaw as GaussianLaw
from bridgejax.processes.gaussians import gaussian_law as gaussian_law
from bridgejax.processes.gaussians import low_rank_gaussian as low_rank_gaussian

__all__ = [
    "CollapseTime",
    "EmpiricalLaw",
    "EntropicPair",
    "GaussianBridge",
    "GaussianFlow",
    "GaussianLaw",
    "StaticBridge",
    "collapse_time",
    "diffusions",
    "empirical_law",
    "entropic_pair",
    "estimate_collapse_time",
    "fit_gaussian",
    "gaussian_bridge",
    "gaussian_flow",
    "gaussian_law",
    "grid",
    "heat",
    "low_rank_gaussian",
    "quantum",
    "random_entropic_pair",
    "speciation_time",
    "static_gaussian_bridge",
    "targets",
]


def __dir__() -> list[str]:
    return __all__
