"""A deep Gaussian process as pure functions: layers of sparse Gaussian processes, each on the draws of the one before.

    f_0 = x,      f_l | f_{l-1}, v_l  ~  N(a_l^T v_l + m_l(f_{l-1}),  k_l(f, f) - |a_l|^2)     for every output

a_l, v_l of ``inducing``. One draw of f_1 .. f_{L-1} at every row by itself gives an unbiased estimate of
E log p(y | f_L), since that depends on the marginals of the rows only. (Salimbeni & Deisenroth 2017, Doubly stochastic
variational inference for deep Gaussian processes, arXiv 1705.08933.) The mean m_l is the identity where the width
stays, the leading principal components where it changes, and 0 in the last layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
from jax import Array

from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Params
from bridgejax.gp.covariances import CovarianceFn, pairwise
from bridgejax.gp.inducing import Normal, features, root
from bridgejax.gp.likelihoods import Likelihood

Whitened = list[Array] | list[Normal]
"""v of every layer, (M, D): values, or their laws."""


@partial(register_dataclass, data_fields=("mean",), meta_fields=("covariance", "outputs"))
@dataclass(frozen=True)
class Layer:
    """One sparse Gaussian process of several independent outputs with one covariance.

    Args:
        covariance: k, ``apply(params, x, y)``.
        outputs: D.
        mean: the matrix of a linear mean function, (d, D); None: 0.
    """

    covariance: CovarianceFn
    outputs: int
    mean: Array | None

    __repr__ = summary


@partial(register_dataclass, data_fields=("layers",), meta_fields=("likelihood", "skip"))
@dataclass(frozen=True)
class DeepGP:
    """The fixed parts of a deep Gaussian process; what is trained is given beside it.

    Args:
        layers: from the inputs on.
        likelihood: of a row, without its params, which are trained.
        skip: whether every layer but the first sees the inputs too.
    """

    layers: tuple[Layer, ...]
    likelihood: Likelihood
    skip: bool = False

    __repr__ = summary

    def propagate(self, params: Params, v: Whitened, x: Array, noise: list[Array]) -> tuple[Array, Array, Array]:
        """Mean and variance of the last layer at every row, and the largest jitter of a layer.

        Args:
            params: ``layers``, one dictionary of ``covariance`` and ``inducing`` each.
            v: of every layer.
            x: inputs, (n, d).
            noise: standard normal, (n, D) for every layer but the last.

        Returns:
            (n, D), (n, D), a number.
        """
        f, jitter = x, jnp.zeros(())
        for index, (layer, own, values) in enumerate(zip(self.layers, params["layers"], v, strict=True)):
            given = jnp.concatenate([f, x], axis=1) if self.skip and index else f
            mean, variance, used = _layer(layer, own, values, given)
            jitter = jnp.maximum(jitter, used)
            if index + 1 == len(self.layers):
                return mean, variance, jitter
            f = mean + jnp.sqrt(variance) * noise[index]
        raise AssertionError("a deep Gaussian process has a layer")


def _layer(layer: Layer, params: Params, v: Array | Normal, x: Array) -> tuple[Array, Array, Array]:
    inducing = params["inducing"]
    factor = root(pairwise(layer.covariance, params["covariance"], inducing, inducing))
    a, rest = features(layer.covariance, params["covariance"], inducing, factor.lower, x)
    at = v.mean if isinstance(v, Normal) else v
    mean = jnp.matmul(a.T, at, precision="highest")
    if layer.mean is not None:
        mean = mean + jnp.matmul(x, layer.mean, precision="highest")
    variance = jnp.broadcast_to(rest[:, None], mean.shape)
    if isinstance(v, Normal):
        variance = variance + v.spread(a)
    return mean, variance, factor.jitter
