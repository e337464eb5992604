"""Losses: matching along an interpolant and implicit score matching, with weightings and time samplers."""

from bridgejax.objectives import times as times
from bridgejax.objectives import weightings as weightings
from bridgejax.objectives.implicit import implicit as implicit
from bridgejax.objectives.matching import matching as matching
