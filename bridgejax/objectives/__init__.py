"""Losses: matching along interpolants or x-bridges, implicit, adversarial; with weightings and time samplers."""

from bridgejax.objectives import times as times
from bridgejax.objectives import weightings as weightings
from bridgejax.objectives._adversarial import discriminator_loss as discriminator_loss
from bridgejax.objectives._adversarial import generator_loss as generator_loss
from bridgejax.objectives._adversarial import lazy as lazy
from bridgejax.objectives._adversarial import r1_penalty as r1_penalty
from bridgejax.objectives._bridging import bridge_loss as bridge_loss
from bridgejax.objectives._implicit import implicit as implicit
from bridgejax.objectives._matching import matching as matching

__all__ = [
    "bridge_loss",
    "discriminator_loss",
    "generator_loss",
    "implicit",
    "lazy",
    "matching",
    "r1_penalty",
    "times",
    "weightings",
]


def __dir__() -> list[str]:
    return __all__
