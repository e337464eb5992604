"""Closed-form truths: Schroedinger bridges, entropic plans, diffusions with known densities, grids, heat kernels,
and targets with known normalising constants.
"""

from bridgejax.oracles import diffusions as diffusions
from bridgejax.oracles import grid as grid
from bridgejax.oracles import heat as heat
from bridgejax.oracles import quantum as quantum
from bridgejax.oracles import targets as targets
from bridgejax.oracles.entropic import EntropicPair as EntropicPair
from bridgejax.oracles.entropic import entropic_pair as entropic_pair
from bridgejax.oracles.entropic import random_entropic_pair as random_entropic_pair
from bridgejax.oracles.gaussian import GaussianBridge as GaussianBridge
from bridgejax.oracles.gaussian import StaticBridge as StaticBridge
from bridgejax.oracles.gaussian import gaussian_bridge as gaussian_bridge
from bridgejax.oracles.gaussian import static_gaussian_bridge as static_gaussian_bridge

__all__ = [
    "EntropicPair",
    "GaussianBridge",
    "StaticBridge",
    "diffusions",
    "entropic_pair",
    "gaussian_bridge",
    "grid",
    "heat",
    "quantum",
    "random_entropic_pair",
    "static_gaussian_bridge",
    "targets",
]


def __dir__() -> list[str]:
    return __all__
