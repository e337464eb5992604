"""The bound on the evidence of a deep Gaussian process, of one draw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._numerics import normal_log_prob
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Network, Params
from bridgejax.gp.layers import DeepGP, Whitened
from bridgejax.methods.variational import _posteriors as posteriors
from bridgejax.methods.variational._posteriors import Chain, Shapes


def as_targets(y: Array, model: DeepGP) -> Array:
    return y if model.likelihood.labels or y.ndim == 2 else y.reshape(y.shape[0], -1)


def row_noise(model: DeepGP, keys: Array) -> list[Array]:
    """Standard normal numbers for the hidden layers and one more for the likelihood, of each row's own key."""
    widths = [layer.outputs for layer in model.layers]
    flat = jax.vmap(lambda key: jax.random.normal(key, (sum(widths),), jnp.result_type(float)))(keys)
    return jnp.split(flat, np.cumsum(widths)[:-1], axis=1)


def log_likelihoods(
    model: DeepGP, params: Params, v: Whitened, x: Array, y: Array, keys: Array, *, predictive: bool
) -> tuple[Array, Array]:
    """E log p(y | f_L), or its predictive, of every row, (n,), and the largest jitter."""
    noise = row_noise(model, keys)
    mean, variance, jitter = model.propagate(params, v, x, noise)
    one = model.likelihood.predictive if predictive else model.likelihood.expected
    return jax.vmap(partial(one, params["likelihood"]))(y, mean, variance, noise[-1]), jitter


@partial(register_dataclass, data_fields=("ts",), meta_fields=("shapes", "apply"))
@dataclass(frozen=True)
class Posterior:
    """What a law needs beside its parameters.

    Args:
        shapes: of the inducing values.
        apply: of the network of a chain; None: a Gaussian.
        ts: the clock of the chain.
    """

    shapes: Shapes
    apply: Network | None = None
    ts: Array | None = None

    __repr__ = summary

    def chain(self, params: Params) -> Chain:
        """The chain at these parameters."""
        own = params["posterior"]
        inducing = [layer["inducing"] for layer in params["layers"]]
        mean = posteriors.amortised_mean(self.shapes, own, inducing)
        assert self.apply is not None
        assert self.ts is not None
        return Chain(self.apply, own["network"], own["log_noise"], mean, self.ts)

    def values(self, params: Params, w: Array) -> list[Array]:
        """v of every layer, from where a process ends."""
        own = params["posterior"]
        if self.apply is None:
            return posteriors.draw(self.shapes, posteriors.normals(own), w)
        return posteriors.place(self.shapes, own, w)[0]


def log_prior(v: list[Array]) -> Array:
    """log N(v; 0, I) of all layers."""
    return sum((jnp.sum(normal_log_prob(part, 0.0, 1.0)) for part in v), jnp.zeros((), v[0].dtype))


class Bound(NamedTuple):
    """Terms of the bound on log p(y) of all rows, of one draw.

    Attributes:
        data: (N/B) sum_i E log p(y_i | f_L).
        kl: of the posterior to the prior.
        jitter: largest of a layer.
    """

    data: Array
    kl: Array
    jitter: Array

    __repr__ = summary


def estimate(
    model: DeepGP, posterior: Posterior, rows: int, params: Params, key: Array, x: Array, y: Array, keys: Array
) -> Bound:
    """One estimate, without bias."""
    own = params["posterior"]
    if posterior.apply is None:
        v = posteriors.normals(own)
        kl = sum((law.kl() for law in v), jnp.zeros(()))
    else:
        path = posteriors.walk(posterior.chain(params), key)
        v, log_det = posteriors.place(posterior.shapes, own, path.end)
        kl = -log_prior(v) - log_det - path.gain
    logs, jitter = log_likelihoods(model, params, v, x, y, keys, predictive=False)
    return Bound(rows * jnp.mean(logs), kl, jitter)
