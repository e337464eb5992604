"""The solvers by name: our own, and diffrax's ``Euler``; any other diffrax solver serves as well."""

from diffrax import Euler as Euler

from bridgejax.solve._solvers.geodesic import GeodesicEuler as GeodesicEuler
from bridgejax.solve._solvers.geodesic import GeodesicMidpoint as GeodesicMidpoint
from bridgejax.solve._solvers.multistep import DPMSolverPP2M as DPMSolverPP2M
from bridgejax.solve._solvers.multistep import DPMSolverPP3M as DPMSolverPP3M
from bridgejax.solve._solvers.multistep import UniPC as UniPC
from bridgejax.solve._solvers.one_step import ExponentialEuler as ExponentialEuler
from bridgejax.solve._solvers.one_step import Heun as Heun
from bridgejax.solve._solvers.one_step import PredictorCorrector as PredictorCorrector

__all__ = [
    "DPMSolverPP2M",
    "DPMSolverPP3M",
    "Euler",
    "ExponentialEuler",
    "GeodesicEuler",
    "GeodesicMidpoint",
    "Heun",
    "PredictorCorrector",
    "UniPC",
]


def __dir__() -> list[str]:
    return __all__
