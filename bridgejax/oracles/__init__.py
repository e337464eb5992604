"""Closed-form truths: Gaussian Schroedinger bridges, diffusions with known densities, grid solutions."""

from bridgejax.oracles import diffusions as diffusions
from bridgejax.oracles import grid as grid
from bridgejax.oracles.gaussian import GaussianBridge as GaussianBridge
from bridgejax.oracles.gaussian import StaticBridge as StaticBridge
from bridgejax.oracles.gaussian import gaussian_bridge as gaussian_bridge
from bridgejax.oracles.gaussian import static_gaussian_bridge as static_gaussian_bridge
