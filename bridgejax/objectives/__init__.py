"""Losses: matching along an interpolant or x-bridges and implicit score matching, with weightings and time samplers."""

from bridgejax.objectives import times as times
from bridgejax.objectives import weightings as weightings
from bridgejax.objectives._bridging import bridge_loss as bridge_loss
from bridgejax.objectives._implicit import implicit as implicit
from bridgejax.objectives._matching import matching as matching

__all__ = ["bridge_loss", "implicit", "matching", "times", "weightings"]


def __dir__() -> list[str]:
    return __all__
