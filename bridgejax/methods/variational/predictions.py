"""What a learnt deep Gaussian process says of rows, by draws of its inducing values."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_count, describe
from bridgejax._summary import summary
from bridgejax._types import Numbers
from bridgejax.gp import likelihoods
from bridgejax.methods.variational import _posteriors as posteriors
from bridgejax.methods.variational._bounds import as_targets, log_likelihoods, log_prior, row_noise
from bridgejax.methods.variational.deep_gp import Function
from bridgejax.processes import Process
from bridgejax.processes._keys import check_one_key, streams


class Prediction(NamedTuple):
    """What a deep Gaussian process says of rows, by draws of its inducing values.

    Attributes:
        mean: of the observed targets, (n, p); of classes the mean of f.
        variance: theirs, noise of a Gaussian likelihood included, (n, p).
        draws: mean of f for every draw, (draws, n, p).
        log_prob: log predictive density of every target, (n,), or None without targets.
        error: standard error of its mean over rows, of the draws, or None.
    """

    mean: Array
    variance: Array
    draws: Array
    log_prob: Array | None
    error: Array | None

    __repr__ = summary


@partial(jax.jit, static_argnames=("draws",))
def _predict(process: Process, key: Array, x: Array, y: Array | None, draws: int) -> tuple[Array, Array, Array | None]:
    function: Function = process.decode  # pyright: ignore
    model, params, law = function.model, function.params, function.posterior

    def one(key: Array) -> tuple[Array, Array, Array | None]:
        walk_key, noise_key = streams(key, "process", 2)
        if law.apply is None:
            w = process.start(walk_key, None)
        else:
            w = posteriors.walk(law.chain(params), walk_key).end
        row_keys = jax.vmap(partial(jax.random.fold_in, noise_key))(jnp.arange(x.shape[0]))
        v, noise = law.values(params, w), row_noise(model, row_keys)
        mean, variance, _ = model.propagate(params, v, x, noise)
        if y is None:
            return mean, variance, None
        single = partial(model.likelihood.predictive, params["likelihood"])
        return mean, variance, jax.vmap(single)(as_targets(y, model), mean, variance, noise[-1])

    return jax.lax.map(one, streams(key, "evaluation", draws))


def predict(
    process: Process, key: Array, inputs: Numbers, targets: Numbers | None = None, *, draws: int = 128
) -> Prediction:
    """Predictions of a deep Gaussian process at many inputs.

        p(y | x) = E_v p(y | x, v),      by ``draws`` draws of v, each with one of the hidden layers at every row

    Args:
        process: of a ``deep_gp`` method.
        key: one key.
        inputs: ``[n, d]``, standardised as in training.
        targets: ``[n]`` or ``[n, p]``: their log predictive densities are returned too.
        draws: at least 2.

    Returns:
        A ``Prediction``. Its log densities are low by about their variance over draws / (2 draws).

    Raises:
        ValueError: a process of another method, or rows of another shape.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> x, y = jnp.linspace(-1.0, 1.0, 20)[:, None], jnp.linspace(-1.0, 1.0, 20)
        >>> method = bj.methods.deep_gp(x, y, posterior="full", layers=1, inducing=5)
        >>> process = method.process(method.init(jax.random.key(0), None))
        >>> bj.methods.predict(process, jax.random.key(1), x, y, draws=4).log_prob.shape
        (20,)
    """
    function = getattr(process, "decode", None)
    if not isinstance(function, Function):
        raise ValueError(f"process must be one of methods.deep_gp, got {describe(process)}")
    x = jnp.asarray(as_real(inputs, "inputs"), jnp.result_type(float))
    width = function.params["layers"][0]["inducing"].shape[1]
    if x.ndim != 2 or x.shape[1] != width:
        raise ValueError(f"inputs must have shape (n, {width}), got {x.shape}")
    y = None if targets is None else as_real(targets, "targets")
    if y is not None and y.shape[:1] != x.shape[:1]:
        raise ValueError(f"targets must have {x.shape[0]} rows as inputs have, got shape {y.shape}")
    means, variances, logs = _predict(process, check_one_key(key), x, y, check_count("draws", draws, 2))
    variance = jnp.mean(variances, axis=0) + jnp.var(means, axis=0)
    scale = function.params["likelihood"]
    if function.model.likelihood.draw is likelihoods._gaussian_draw:
        variance = variance + jnp.exp(2.0 * scale["log_scale"])
    if logs is None:
        return Prediction(jnp.mean(means, axis=0), variance, means, None, None)
    top = logsumexp(logs, axis=0) - math.log(draws)
    shares = jnp.exp(logs - top)  # of mean 1 over draws
    error = jnp.std(jnp.mean(shares, axis=1), ddof=1) / math.sqrt(draws)
    return Prediction(jnp.mean(means, axis=0), variance, means, top, error)


def log_joint(process: Process, inputs: Numbers, targets: Numbers) -> Callable[[Array], Array]:
    """log p(y | v) + log N(v; 0, I) + log |det e| at the end w of a chain, of all rows.

    ``bj.log_weights(process, keys, methods.log_joint(process, x, y))`` has the bound as its mean, and tighter ones in
    ``bj.weights``: bounds for one layer; with more the hidden layers are those of one fixed draw.

    Args:
        process: of a ``deep_gp`` method with a chain, "ddvi" or "dbvi".
        inputs: ``[n, d]``.
        targets: ``[n]`` or ``[n, p]``.

    Returns:
        ``log_density(w)``, the numbers of one path's end to a number.

    Raises:
        ValueError: a process of another method or posterior.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> x, y = jnp.linspace(-1.0, 1.0, 20)[:, None], jnp.linspace(-1.0, 1.0, 20)
        >>> method = bj.methods.deep_gp(x, y, posterior="dbvi", layers=1, inducing=5)
        >>> process = method.process(method.init(jax.random.key(0), None))
        >>> bj.log_weights(process, bj.keys(jax.random.key(1), 4), bj.methods.log_joint(process, x, y)).shape
        (4,)
    """
    function = getattr(process, "decode", None)
    if not isinstance(function, Function) or function.apply is None:
        raise ValueError("process must be of methods.deep_gp with posterior 'ddvi' or 'dbvi'")
    wide = jnp.result_type(float)
    return Partial(_joint, function, jnp.asarray(inputs, wide), as_targets(jnp.asarray(targets), function.model))


def _joint(function: Function, x: Array, y: Array, w: Array) -> Array:
    v, log_det = posteriors.place(function.shapes, function.params["posterior"], w)
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(x.shape[0]))
    logs, _ = log_likelihoods(function.model, function.params, v, x, y, keys, predictive=False)
    return jnp.sum(logs) + log_det + log_prior(v)
