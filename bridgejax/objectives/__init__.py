"""Losses: matching along an interpolant, with weightings and time samplers."""

from bridgejax.objectives import times as times
from bridgejax.objectives import weightings as weightings
from bridgejax.objectives.matching import matching as matching
