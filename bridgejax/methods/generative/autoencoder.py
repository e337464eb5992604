"""Encoders and decoders: the linear one, which is exact, and a variational autoencoder.

    pca     encode x -> B (x - m),   decode z -> m + B^T z,    B the leading eigenvectors of the covariance, m the mean
    vae     q(z | x) = N(e(x), s(x)^2),   p(x | z) = N(D(z), tau^2 I),   z ~ N(0, I), trained by the bound
            -log p(x) <= E_q |x - D(z)|^2 / (2 tau^2) + (d / 2) log(2 pi tau^2) + beta KL(q(z | x) || N(0, I))

PCA is the linear projection of least error: E |x - decode(encode(x))|^2 is the sum of the eigenvalues left out, and its
root is the distance W2 of the data to the decoded law, since no coupling moves the part outside the plane by less. With
a linear decoder and the posterior for q, beta = 1 makes the bound an equality (Kingma & Welling 2014, arXiv 1312.6114).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_count, check_finite, check_nonnegative, check_number, check_positive
from bridgejax._numerics import as_wide, gaussian_log_density, normal_like
from bridgejax._summary import summary
from bridgejax._types import Args, Batch, MethodState, Network, Params, State
from bridgejax.methods._arguments import TRAINING, NetworkLike, documented
from bridgejax.networks import functional
from bridgejax.objectives._matching import unpack
from bridgejax.processes import SDE, Process, starts
from bridgejax.training import Method, adam, gradient_method
from bridgejax.training.method import averaged


class Codec(NamedTuple):
    """An encoder and a decoder of one sample, pure functions.

    Attributes:
        encode: ``encode(x) -> z``.
        decode: ``decode(z) -> x``.
    """

    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]

    __repr__ = summary


# principal components -----------------------------------------------------------------------------------------------


def _project(basis: Array, mean: Array, x: Array) -> Array:
    return jnp.matmul(basis, (x - mean).reshape(-1), precision="highest")


def _lift(basis: Array, mean: Array, z: Array) -> Array:
    return mean + jnp.matmul(z, basis, precision="highest").reshape(mean.shape)


def pca(x: State, dim: int) -> tuple[Codec, Array]:
    """Principal components: the exact linear encoder and its isometric decoder.

    Args:
        x: (n, *shape), n >= 2.
        dim: d*, components kept, at most min(n, size of a sample).

    Returns:
        The codec, and all eigenvalues of the covariance, (size,), largest first. The sum of those from ``dim`` on is
        the mean squared error of a round trip over the rows.

    Raises:
        ValueError: fewer than two rows, values that are not finite, more components than there can be.
    """
    check_count("dim", dim)
    points = as_real(x, "x")
    check_finite(x=points)
    if points.ndim < 2 or points.shape[0] < 2:
        raise ValueError(f"x must have shape (n, *shape) with n >= 2 rows, got {points.shape}")
    flat = np.asarray(points, np.float64).reshape(len(points), -1)
    if dim > min(flat.shape):
        raise ValueError(f"dim = {dim} is more than {min(flat.shape)}, what {len(flat)} rows of {flat.shape[1]} have")
    mean = flat.mean(axis=0)
    _, singular, rows = np.linalg.svd(flat - mean, full_matrices=False)
    rows *= np.sign(np.take_along_axis(rows, np.abs(rows).argmax(axis=1, keepdims=True), axis=1))  # else the machine's
    values = np.zeros(flat.shape[1])
    values[: len(singular)] = singular**2 / len(flat)
    basis, centre = as_wide(rows[:dim]), as_wide(mean.reshape(points.shape[1:]))
    return Codec(Partial(_project, basis, centre), Partial(_lift, basis, centre)), as_wide(values)


# variational autoencoder --------------------------------------------------------------------------------------------


def _encode(apply: Network, params: Params, x: Array) -> Array:
    return apply(params, jnp.zeros(()), x, None)[0]


def _decode(apply: Network, params: Params, z: Array) -> Array:
    return apply(params, jnp.zeros(()), z, None)


def _decoded(apply: Network, params: Params, key: Array, z: Array, args: Args) -> Array:
    return _decode(apply, params, z)


def _zero_drift(t: Array, z: Array, args: Args) -> Array:
    return jnp.zeros_like(z)


@documented(TRAINING)
def vae(
    encoder: NetworkLike,
    decoder: NetworkLike,
    *,
    shape: tuple[int, ...],
    latent: int,
    noise: float = 0.1,
    beta: float = 1.0,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
) -> Method:
    """A variational autoencoder as a Method.

    Args:
        encoder: a flax.nnx module or ``(apply, params)``, called at time 0, that returns (2, latent): the mean of
            q(z | x) and the logarithm of its variance (``MLP(shape, outputs=(2, latent))``).
        decoder: one that returns ``shape`` (``MLP((latent,), outputs=shape)``).
        shape: shape of one sample.
        latent: d*, size of the code.
        noise: tau, standard deviation of a pixel or column given the code, in units of the data.
        beta: weight of the KL divergence.

    Returns:
        A Method whose data are arrays (n, *shape). Its loss is the bound above, in nats; its Process decodes draws of
        the prior. ``codec(encoder, decoder, state)`` is what was learnt.

    Raises:
        ValueError: sizes, noise or beta out of range; at trace time networks that return another shape.
    """
    check_count("latent", latent)
    check_number(noise=noise, beta=beta)
    check_positive(noise=noise)
    check_nonnegative(beta=beta)
    (encode, first), (decode, second) = functional(encoder), functional(decoder)
    prior, decoded = starts.normal((latent,)), partial(_decoded, decode)  # one function: jit knows it again
    shape = starts.normal(shape).mean.shape  # refuses what is no shape
    size = int(np.prod(shape))

    def one(params: Params, key: Array, x: Array) -> tuple[Array, Array]:
        code = encode(params["encoder"], jnp.zeros(()), x, None)
        if jnp.shape(code) != (2, latent):
            raise ValueError(f"encoder must return shape (2, {latent}), mean and log variance, got {jnp.shape(code)}")
        mean, log_var = as_wide(code)
        y = _decode(decode, params["decoder"], mean + jnp.exp(0.5 * log_var) * normal_like(key, mean))
        if jnp.shape(y) != shape:
            raise ValueError(f"decoder must return the sample's shape {shape}, got {jnp.shape(y)}")
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(log_var) - log_var - 1.0)
        return jnp.sum((x - y) ** 2), kl

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        x = jnp.asarray(unpack(batch)[0])
        if x.shape[1:] != shape:
            raise ValueError(f"a batch has rows of shape {x.shape[1:]}, and this method was made for {shape}")
        squares, kl = jax.vmap(one, (None, 0, 0))(params, keys, x)
        log_likelihood = gaussian_log_density(squares.mean() / noise**2, 2.0 * size * math.log(noise), size)
        value = beta * kl.mean() - log_likelihood
        return value, {"kl": kl.mean(), "rmse": jnp.sqrt(squares.mean() / size)}

    def process(params: Params) -> Process:
        return Process(prior, SDE(_zero_drift, None), jnp.array([0.0, 1.0]), None, Partial(decoded, params["decoder"]))

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    return gradient_method(loss, process, optimizer, ema, accumulate, params={"encoder": first, "decoder": second})


def codec(encoder: NetworkLike, decoder: NetworkLike, state: MethodState) -> Codec:
    """The codec in a trained ``vae`` state: x -> the posterior's mean, z -> the decoder's.

    Args:
        encoder: the module or ``(apply, params)`` that ``vae`` was given.
        decoder: the module or ``(apply, params)`` that ``vae`` was given.
        state: what ``fit`` returned; its averaged parameters are used where there are any.

    Returns:
        A Codec of arrays of one sample: ``encode(x) -> (latent,)``, ``decode(z) -> shape``.

    Raises:
        ValueError: a state of another method.
    """
    if not isinstance(getattr(state, "params", None), dict) or set(state.params) != {"encoder", "decoder"}:
        raise ValueError(f"state must be what fit returned for methods.vae, got {type(state).__name__}")
    params = averaged(state)
    (encode, _), (decode, _) = functional(encoder), functional(decoder)
    return Codec(
        Partial(partial(_encode, encode), params["encoder"]), Partial(partial(_decode, decode), params["decoder"])
    )
