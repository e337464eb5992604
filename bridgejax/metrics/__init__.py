"""Distances between two samples: arrays in, one number out."""

from bridgejax.metrics.floors import Floor as Floor
from bridgejax.metrics.floors import floor as floor
from bridgejax.metrics.gaussian import frechet as frechet
from bridgejax.metrics.gaussian import frechet_gaussian as frechet_gaussian
from bridgejax.metrics.kernels import energy_distance as energy_distance
from bridgejax.metrics.kernels import median_bandwidth as median_bandwidth
from bridgejax.metrics.kernels import mmd as mmd
from bridgejax.metrics.transport import sliced_wasserstein2 as sliced_wasserstein2
from bridgejax.metrics.transport import wasserstein2 as wasserstein2
