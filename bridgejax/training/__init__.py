"""Training: Method, gradient_method, fit, checkpoints, averages, optimizers."""

from bridgejax.training import callbacks as callbacks
from bridgejax.training import checkpoints as checkpoints
from bridgejax.training import ema as ema
from bridgejax.training import optimizers as optimizers
from bridgejax.training import records as records
from bridgejax.training._fit import Diverged as Diverged
from bridgejax.training._fit import Info as Info
from bridgejax.training._fit import fit as fit
from bridgejax.training.checkpoints import CheckpointError as CheckpointError
from bridgejax.training.checkpoints import Restored as Restored
from bridgejax.training.checkpoints import latest_step as latest_step
from bridgejax.training.checkpoints import restore as restore
from bridgejax.training.checkpoints import save as save
from bridgejax.training.interrupts import Interrupted as Interrupted
from bridgejax.training.locks import InUse as InUse
from bridgejax.training.method import Method as Method
from bridgejax.training.method import State as State
from bridgejax.training.method import gradient_method as gradient_method
from bridgejax.training.optimizers import adam as adam
from bridgejax.training.watchdogs import LossExplosion as LossExplosion
from bridgejax.training.watchdogs import NonFiniteLoss as NonFiniteLoss
from bridgejax.training.watchdogs import NonFiniteParameters as NonFiniteParameters

__all__ = [
    "CheckpointError",
    "Diverged",
    "InUse",
    "Info",
    "Interrupted",
    "LossExplosion",
    "Method",
    "NonFiniteLoss",
    "NonFiniteParameters",
    "Restored",
    "State",
    "adam",
    "callbacks",
    "checkpoints",
    "ema",
    "fit",
    "gradient_method",
    "latest_step",
    "optimizers",
    "records",
    "restore",
    "save",
]


def __dir__() -> list[str]:
    return __all__
