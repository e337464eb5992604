"""What a learnt deep Gaussian process says of rows, by draws of its inducing values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_count, describe
from bridgejax._numerics import as_wide
from bridgejax._summary import summary
from bridgejax._types import Numbers, Params
from bridgejax.gp.likelihoods import Likelihood
from bridgejax.methods.variational import _posteriors as posteriors
from bridgejax.methods.variational._bounds import as_targets, log_likelihoods, log_prior, row_noise
from bridgejax.methods.variational.deep_gp import Function
from bridgejax.processes import Process
from bridgejax.processes._keys import check_one_key, streams


class Prediction(NamedTuple):
    """What a deep Gaussian process says of rows, by draws of its inducing values.

    Attributes:
        mean: of the observed targets, (n, p); of classes the mean of f.
        variance: theirs, the noise of the likelihood included, (n, p); of classes that of f.
        draws: mean of f for every draw, (draws, n, p).
        log_prob: log predictive density of every target, (n,), or None without targets.
        error: standard error of its mean over rows, of the draws, or None.
        quantiles: of every target, (levels, n, p), or None where none were asked for.
        cdf: probability of a target at most the one that was given, (n, p); None without targets, and of classes.
        probabilities: of every class, (n, classes), or None of numbers.
    """

    mean: Array
    variance: Array
    draws: Array
    log_prob: Array | None = None
    error: Array | None = None
    quantiles: Array | None = None
    cdf: Array | None = None
    probabilities: Array | None = None

    __repr__ = summary


def _is_classes(likelihood: Likelihood) -> bool:
    return likelihood.noise is None


def _log_classes(likelihood: Likelihood, params: Params, mean: Array, variance: Array, noise: Array) -> Array:
    """log E P(y = c | f) of every class, (n, classes)."""

    def one(label: Array) -> Array:
        single = partial(likelihood.predictive, params, label)
        return jax.vmap(single)(mean, variance, noise)

    return jax.vmap(one, out_axes=1)(jnp.arange(likelihood.outputs or 2, dtype=mean.dtype)[:, None])


def _quantiles(likelihood: Likelihood, params: Params, means: Array, variances: Array, levels: Array) -> Array:
    """Where the mean over draws of the cdf is at the levels, (levels, n, p), by bisection."""
    cdf = likelihood.cdf
    assert cdf is not None

    def share(y: Array) -> Array:
        return jnp.mean(cdf(params, y, means, variances), axis=0)

    low, high = jnp.min(means, axis=0), jnp.max(means, axis=0)
    unit = 1.0 + jnp.max(high - low) + jnp.sqrt(jnp.max(variances))

    def short(width: Array) -> Array:
        inside = jnp.any(share(low - width) > jnp.min(levels)) | jnp.any(share(high + width) < jnp.max(levels))
        return inside & (width < 1e6 * unit)

    width = jax.lax.while_loop(short, lambda width: 2.0 * width, unit)

    def one(level: Array) -> Array:
        def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = 0.5 * (ends[0] + ends[1])
            below = share(middle) < level
            return jnp.where(below, middle, ends[0]), jnp.where(below, ends[1], middle)

        return sum(jax.lax.fori_loop(0, 40, halve, (low - width, high + width))) / 2.0  # pyright: ignore

    return jax.lax.map(one, levels)


@partial(jax.jit, static_argnames=("draws",))
def _predict(
    process: Process, key: Array, x: Array, y: Array | None, levels: Array | None, ends: Array | None, draws: int
) -> tuple[Array | None, ...]:
    function: Function = process.decode  # pyright: ignore
    model, params, law = function.model, function.params, function.posterior
    likelihood, own = model.likelihood, params["likelihood"]

    def one(given: tuple[Array, Array | None]) -> tuple[Array | None, ...]:
        key, end = given
        walk_key, noise_key = streams(key, "process", 2)
        if end is not None:
            w = end
        elif law.apply is None:
            w = process.start(walk_key, None)
        else:
            w = posteriors.walk(law.chain(params), walk_key).end
        row_keys = jax.vmap(partial(jax.random.fold_in, noise_key))(jnp.arange(x.shape[0]))
        v, noise = law.values(params, w), row_noise(model, row_keys)
        mean, variance, _ = model.propagate(params, v, x, noise)
        classes = None
        if _is_classes(likelihood) and (likelihood.outputs or mean.shape[1] == 1):
            classes = _log_classes(likelihood, own, mean, variance, noise[-1])
        if y is None:
            return mean, variance, None, None, classes
        targets = as_targets(y, model)
        logs = jax.vmap(partial(likelihood.predictive, own))(targets, mean, variance, noise[-1])
        below = None if likelihood.cdf is None else likelihood.cdf(own, targets, mean, variance)
        return mean, variance, logs, below, classes

    means, variances, logs, below, classes = jax.lax.map(one, (streams(key, "evaluation", draws), ends))
    variance = jnp.mean(variances, axis=0) + jnp.var(means, axis=0)
    if likelihood.noise is not None:
        variance = variance + likelihood.noise(own)
    top = error = quantiles = None
    if logs is not None:
        top = logsumexp(logs, axis=0) - math.log(draws)
        shares = jnp.exp(logs - top)  # of mean 1 over draws
        error = jnp.std(jnp.mean(shares, axis=1), ddof=1) / math.sqrt(draws)
    if levels is not None:
        quantiles = _quantiles(likelihood, own, means, variances, levels)
    cdf = None if below is None else jnp.mean(below, axis=0)
    probabilities = None if classes is None else jax.nn.softmax(logsumexp(classes, axis=0), axis=1)
    return jnp.mean(means, axis=0), variance, means, top, error, quantiles, cdf, probabilities


def _checked_targets(targets: Numbers, rows: int, likelihood: Likelihood) -> Numbers:
    y = as_real(targets, "targets")
    if y.shape[:1] != (rows,):
        raise ValueError(f"targets must have {rows} rows as inputs have, got shape {y.shape}")
    classes = likelihood.outputs or 2
    if _is_classes(likelihood) and not np.all(np.isin(np.asarray(y), np.arange(classes))):
        raise ValueError(f"targets must be labels 0 .. {classes - 1}, those that were learnt")
    return y


def _levels(quantiles: Sequence[float], likelihood: Likelihood) -> Array | None:
    found = np.asarray(as_real(quantiles, "quantiles"), np.float64)
    if found.ndim != 1 or not np.all((found > 0) & (found < 1)):
        raise ValueError(f"quantiles must be levels between 0 and 1, got {describe(quantiles)}")
    if not len(found):
        return None
    if likelihood.cdf is None:
        raise ValueError("quantiles are of numbers, and this process was learnt of classes; leave them out")
    return jnp.asarray(found, jnp.result_type(float))


def predict(
    process: Process,
    key: Array,
    inputs: Numbers,
    targets: Numbers | None = None,
    *,
    draws: int = 128,
    ends: Numbers | None = None,
    quantiles: Sequence[float] = (),
) -> Prediction:
    """Predictions of a deep Gaussian process at many inputs.

        p(y | x) = E_v p(y | x, v),      by ``draws`` draws of v, each with one of the hidden layers at every row

    Args:
        process: of a ``deep_gp`` method.
        key: one key.
        inputs: ``[n, d]``, standardised as in training.
        targets: ``[n]`` or ``[n, p]``: their log predictive densities are returned too.
        draws: at least 2.
        ends: w of every draw, ``[draws, size]``, from elsewhere, as MCMC of ``log_joint``; None: the process's own.
        quantiles: levels between 0 and 1, of numbers, not classes.

    Returns:
        A ``Prediction``. Its log densities are low by about their variance over draws / (2 draws).

    Raises:
        ValueError: a process of another method, rows of another shape, labels that were not learnt, quantiles of
            classes or outside (0, 1).

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> x, y = jnp.linspace(-1.0, 1.0, 20)[:, None], jnp.linspace(-1.0, 1.0, 20)
        >>> method = bj.methods.deep_gp(x, y, posterior="full", layers=1, inducing=5)
        >>> process = method.process(method.init(jax.random.key(0), None))
        >>> bj.methods.predict(process, jax.random.key(1), x, y, draws=4).log_prob.shape
        (20,)
        >>> bj.methods.predict(process, jax.random.key(1), x, draws=4, quantiles=(0.1, 0.9)).quantiles.shape
        (2, 20, 1)
    """
    function = getattr(process, "decode", None)
    if not isinstance(function, Function):
        raise ValueError(f"process must be one of methods.deep_gp, got {describe(process)}")
    x = jnp.asarray(as_real(inputs, "inputs"), jnp.result_type(float))
    width = function.params["layers"][0]["inducing"].shape[1]
    if x.ndim != 2 or x.shape[1] != width:
        raise ValueError(f"inputs must have shape (n, {width}), got {x.shape}")
    likelihood = function.model.likelihood
    y = None if targets is None else _checked_targets(targets, x.shape[0], likelihood)
    levels, size = _levels(quantiles, likelihood), function.posterior.shapes.size
    if ends is not None:
        ends = as_wide(as_real(ends, "ends"))
        if ends.ndim != 2 or ends.shape[1] != size:
            raise ValueError(f"ends must have shape (draws, {size}), got {ends.shape}")
        draws = ends.shape[0]
    draws = check_count("draws", draws, 2)
    return Prediction(*_predict(process, check_one_key(key), x, y, levels, ends, draws))  # pyright: ignore


def log_joint(
    process: Process, inputs: Numbers, targets: Numbers, *, rows: int | None = None, key: Array | None = None
) -> Callable[[Array], Array]:
    """log p(y | v) + log N(v; 0, I) + log |det e| at the end w of a chain, of all rows or estimated from a batch.

    ``bj.log_weights(process, keys, methods.log_joint(process, x, y))`` has the bound as its mean, and tighter ones in
    ``bj.weights``: bounds for one layer; with more the hidden layers are those of one draw. Its gradient is what MCMC
    asks for, of a batch what stochastic gradient MCMC does; of "ddvi" with ``residual=None`` w is v itself.

    Args:
        process: of a ``deep_gp`` method with a chain, "ddvi" or "dbvi".
        inputs: ``[n, d]``.
        targets: ``[n]`` or ``[n, p]``.
        rows: N of all the data, where these are a batch: their log likelihood is multiplied by N / n. None: n.
        key: of the hidden layers; None: always the same, so that the function has no noise.

    Returns:
        ``log_density(w)``, the numbers of one path's end to a number.

    Raises:
        ValueError: a process of another method or posterior, inputs and targets of different length, or fewer rows
            than there are inputs.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> x, y = jnp.linspace(-1.0, 1.0, 20)[:, None], jnp.linspace(-1.0, 1.0, 20)
        >>> method = bj.methods.deep_gp(x, y, posterior="dbvi", layers=1, inducing=5)
        >>> process = method.process(method.init(jax.random.key(0), None))
        >>> bj.log_weights(process, bj.keys(jax.random.key(1), 4), bj.methods.log_joint(process, x, y)).shape
        (4,)
    """
    function = getattr(process, "decode", None)
    if not isinstance(function, Function) or function.posterior.apply is None:
        raise ValueError("process must be of methods.deep_gp with posterior 'ddvi' or 'dbvi'")
    x, y = jnp.asarray(inputs, jnp.result_type(float)), as_targets(jnp.asarray(targets), function.model)
    if x.ndim != 2 or x.shape[0] != y.shape[0]:
        raise ValueError(f"inputs and targets must have as many rows, got shapes {x.shape} and {y.shape}")
    rows = x.shape[0] if rows is None else check_count("rows", rows, x.shape[0])
    key = jax.random.key(0) if key is None else check_one_key(key)
    return Partial(_joint, function, x, y, rows / x.shape[0], key)


def _joint(function: Function, x: Array, y: Array, times: float, key: Array, w: Array) -> Array:
    v, log_det = posteriors.place(function.posterior.shapes, function.params["posterior"], w)
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(x.shape[0]))
    logs, _ = log_likelihoods(function.model, function.params, v, x, y, keys, predictive=False)
    return times * jnp.sum(logs) + log_det + log_prior(v)
