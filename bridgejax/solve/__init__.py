"""Running SDEs: solvers, grids, simulation, sampling."""

from bridgejax.solve import grids as grids
from bridgejax.solve import kernels as kernels
from bridgejax.solve import solvers as solvers
from bridgejax.solve._batch import sample as sample
from bridgejax.solve._batch import simulate_batch as simulate_batch
from bridgejax.solve._simulate import Path as Path
from bridgejax.solve._simulate import simulate as simulate
from bridgejax.solve._simulate import simulate_path as simulate_path

__all__ = ["Path", "grids", "kernels", "sample", "simulate", "simulate_batch", "simulate_path", "solvers"]


def __dir__() -> list[str]:
    return __all__
