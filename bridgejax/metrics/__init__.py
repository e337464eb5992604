"""Distances between two samples: arrays in, one number out."""

from bridgejax.metrics.clouds import chamfer as chamfer
from bridgejax.metrics.clouds import one_nn_accuracy as one_nn_accuracy
from bridgejax.metrics.clouds import unevenness as unevenness
from bridgejax.metrics.floors import Floor as Floor
from bridgejax.metrics.floors import floor as floor
from bridgejax.metrics.gaussian import bw2_uvp as bw2_uvp
from bridgejax.metrics.gaussian import conditional_bw2_uvp as conditional_bw2_uvp
from bridgejax.metrics.gaussian import frechet as frechet
from bridgejax.metrics.gaussian import frechet_gaussian as frechet_gaussian
from bridgejax.metrics.kernels import energy_distance as energy_distance
from bridgejax.metrics.kernels import median_bandwidth as median_bandwidth
from bridgejax.metrics.kernels import mmd as mmd
from bridgejax.metrics.modes import entropic_mode_coverage as entropic_mode_coverage
from bridgejax.metrics.modes import mode_coverage as mode_coverage
from bridgejax.metrics.neighbours import coverage as coverage
from bridgejax.metrics.neighbours import density as density
from bridgejax.metrics.neighbours import precision as precision
from bridgejax.metrics.neighbours import recall as recall
from bridgejax.metrics.transport import sliced_wasserstein2 as sliced_wasserstein2
from bridgejax.metrics.transport import wasserstein2 as wasserstein2

__all__ = [
    "Floor",
    "bw2_uvp",
    "chamfer",
    "conditional_bw2_uvp",
    "coverage",
    "density",
    "energy_distance",
    "entropic_mode_coverage",
    "floor",
    "frechet",
    "frechet_gaussian",
    "median_bandwidth",
    "mmd",
    "mode_coverage",
    "one_nn_accuracy",
    "precision",
    "recall",
    "sliced_wasserstein2",
    "unevenness",
    "wasserstein2",
]


def __dir__() -> list[str]:
    return __all__
