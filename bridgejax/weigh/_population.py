"""Populations of weighted particles: gather weights, resample where they have degenerated, keep log Z.

    w_i <- w_i * gain_i;    where ESS = (sum w)^2 / (n sum w^2) < threshold:    log Z += log mean w, resample, w = 1

A gain that is nan or +inf is no weight: it is counted, and the particle gets weight zero. Particles interact, one
depends on the others and their number; one key serves all.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._summary import summary
from bridgejax._types import PyTree, Scalar
from bridgejax.weigh import weights as weighing


class Population(NamedTuple):
    """A weighted population at the last level.

    Attributes:
        x: states, (n, *shape), weighted; ``x[weights.systematic(key, log_weights)]`` are of equal weight.
        log_weights: (n,), with mean weight 1; -inf for a particle that was excluded.
        log_z: log Z, accumulated over resamplings: exact weights, log int prod_i q_i^b_i at the last level; rate
            weights, its ratio to that at the first. Its error comes from independent runs, not from one.
        ess: effective sample size before resampling, as a share of n, (steps,).
        resampled: whether the step resampled, (steps,).
        refused: weights that were nan or +inf, over all steps: those particles were given weight zero.
    """

    x: Array
    log_weights: Array
    log_z: Array
    ess: Array
    resampled: Array
    refused: Array

    __repr__ = summary


class Tally(NamedTuple):
    """Log weights since the last resampling, log Z of those before, and how many weights were none."""

    log_weights: Array
    log_z: Array
    refused: Array

    __repr__ = summary


def new_tally(num: int) -> Tally:
    """Equal weights."""
    return Tally(jnp.zeros(num), jnp.zeros(()), jnp.zeros((), jnp.int32))


def collect(
    particles: PyTree, tally: Tally, gain: Array, key: Array, threshold: Scalar
) -> tuple[PyTree, tuple[Array, Array]]:
    """Add the gains, count what is no weight, resample where the population has degenerated.

    Args:
        particles: pytree with a leading axis of n.
        tally: their weights.
        gain: (n,), logarithms.
        key: of the resampling.
        threshold: share of n.

    Returns:
        ``((particles, tally), (ess, resampled))``, as a scan wants it.
    """
    num = gain.shape[0]
    wrong = jnp.isnan(gain) | (gain == jnp.inf)
    log_w = jnp.where(wrong, -jnp.inf, tally.log_weights + gain)
    share = weighing.ess(log_w)
    share = jnp.where(jnp.isnan(share), 0.0, share)
    poor = (share < threshold) & (share > 0.0)
    rows = jnp.where(poor, weighing.systematic(key, log_w), jnp.arange(num))
    mean = jax.nn.logsumexp(log_w) - jnp.log(num)
    left = Tally(
        jnp.where(poor, 0.0, log_w),
        tally.log_z + jnp.where(poor, mean, 0.0),
        tally.refused + jnp.sum(wrong, dtype=jnp.int32),
    )
    return (jax.tree.map(lambda leaf: leaf[rows], particles), left), (share, poor)


def population(x: Array, tally: Tally, history: tuple[Array, Array]) -> Population:
    """What is left at the end."""
    mean = jax.nn.logsumexp(tally.log_weights) - jnp.log(tally.log_weights.shape[0])
    return Population(x, tally.log_weights - mean, tally.log_z + mean, *history, tally.refused)


def check_alive(found: Population, num: int, name: str) -> Population:
    """Raise a ``ValueError`` for a population without weight (outside ``jit``)."""
    if not isinstance(found.log_z, Tracer) and not np.isfinite(found.log_z):
        raise ValueError(
            f"all {num} particles ended with weight zero ({int(found.refused)} weights were nan or infinite): {name} "
            "is not finite where they are; use more particles or steps, or end the grid before it loses its support"
        )
    return found
