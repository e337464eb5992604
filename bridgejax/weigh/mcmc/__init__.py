"""Markov chain Monte Carlo: moves at one target, and chains annealed through the noise levels of a density."""

from bridgejax.weigh.mcmc.annealing import Annealed as Annealed
from bridgejax.weigh.mcmc.annealing import annealed as annealed
from bridgejax.weigh.mcmc.annealing import tune as tune
from bridgejax.weigh.mcmc.moves import Chain as Chain
from bridgejax.weigh.mcmc.moves import Move as Move
from bridgejax.weigh.mcmc.moves import Outcome as Outcome
from bridgejax.weigh.mcmc.moves import hmc as hmc
from bridgejax.weigh.mcmc.moves import mala as mala
from bridgejax.weigh.mcmc.moves import start_chain as start_chain
from bridgejax.weigh.mcmc.moves import step as step
from bridgejax.weigh.mcmc.moves import uhmc as uhmc
from bridgejax.weigh.mcmc.moves import ula as ula

__all__ = [
    "Annealed",
    "Chain",
    "Move",
    "Outcome",
    "annealed",
    "hmc",
    "mala",
    "start_chain",
    "step",
    "tune",
    "uhmc",
    "ula",
]


def __dir__() -> list[str]:
    return __all__
