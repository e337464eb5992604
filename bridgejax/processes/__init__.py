"""SDE, Kernel, Process and the schedules."""

from bridgejax.processes import linear as linear
from bridgejax.processes import mixtures as mixtures
from bridgejax.processes import schedules as schedules
from bridgejax.processes import starts as starts
from bridgejax.processes._keys import keys as keys
from bridgejax.processes._keys import stream as stream
from bridgejax.processes._keys import streams as streams
from bridgejax.processes._schedule import Schedule as Schedule
from bridgejax.processes._schedule import noising as noising
from bridgejax.processes._schedule import transition as transition
from bridgejax.processes.linear import LinearSDE as LinearSDE
from bridgejax.processes.mixtures import GaussianMixture as GaussianMixture
from bridgejax.processes.sde import SDE as SDE
from bridgejax.processes.sde import Kernel as Kernel
from bridgejax.processes.sde import Process as Process
from bridgejax.processes.sde import Semilinear as Semilinear

__all__ = [
    "SDE",
    "GaussianMixture",
    "Kernel",
    "LinearSDE",
    "Process",
    "Schedule",
    "Semilinear",
    "keys",
    "linear",
    "mixtures",
    "noising",
    "schedules",
    "starts",
    "stream",
    "streams",
    "transition",
]


def __dir__() -> list[str]:
    return __all__
