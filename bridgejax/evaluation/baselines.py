"""Simple models of a target, for what a deeper one is to be compared with.

    constant     N(mean, variance) of the training targets, or the shares of their classes: no inputs at all
    linear       least squares, y ~ N(w x, s^2 (1 + x^T (X^T X)^-1 x)); of classes softmax of w x, ridge 1e-3
    sparse GP    a Gaussian process with M inducing inputs, all of it learnt by Titsias' collapsed bound

Inputs and targets are those that a model sees, scaled; what they say is in the data's units.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.scipy.linalg import solve_triangular

from bridgejax._types import Params
from bridgejax.evaluation.arrays import generator
from bridgejax.evaluation.predictive import Forecast
from bridgejax.gp import collapsed_bound, rbf, root
from bridgejax.gp.covariances import Covariance, CovarianceFn, pairwise
from bridgejax.gp.inducing import features, regression

_MOST = 20_000  # training rows of the sparse Gaussian process
_UPDATES = 400
_RIDGE = 1e-3


def normal_forecast(mean: np.ndarray, variance: np.ndarray, truth: np.ndarray, shift: float, scale: float) -> Forecast:
    """Of N(mean, variance) in the model's units, and truths in the data's."""
    mean, deviation = mean * scale + shift, np.sqrt(variance) * scale
    r = (truth - mean) / deviation
    log_prob = -0.5 * r**2 - np.log(deviation) - 0.5 * math.log(2 * math.pi)
    cdf = 0.5 * (1.0 + np.vectorize(math.erf, otypes=[float])(r / math.sqrt(2.0)))
    return Forecast(mean, deviation, log_prob, cdf)


def constant(y: np.ndarray, truth: np.ndarray, shift: float, scale: float, classes: int = 0) -> Forecast:
    """Without a look at the inputs; of classes their shares, one row added to each."""
    if classes:
        shares = (np.bincount(y.astype(int), minlength=classes) + 1.0) / (len(y) + classes)
        return Forecast(probabilities=np.broadcast_to(shares, (len(truth), classes)))
    ones = np.ones(len(truth))
    return normal_forecast(y.mean() * ones, y.var() * ones, truth, shift, scale)


def linear(
    x: np.ndarray, y: np.ndarray, at: np.ndarray, truth: np.ndarray, shift: float, scale: float, classes: int = 0
) -> Forecast:
    """A linear model of training rows (x, y) at the rows ``at``."""
    if classes:
        p = _logistic(jnp.asarray(x), jnp.asarray(y, jnp.int32), jnp.asarray(at), classes)
        return Forecast(probabilities=np.asarray(p, np.float64))
    design, seen = (np.hstack([np.asarray(part, np.float64), np.ones((len(part), 1))]) for part in (x, at))
    inverse = np.linalg.pinv(design.T @ design, rcond=1e-10, hermitian=True)
    weights = inverse @ (design.T @ y)
    left = max(len(y) - np.linalg.matrix_rank(design), 1)
    residual = np.sum((y - design @ weights) ** 2) / left
    variance = residual * (1.0 + np.einsum("ni,ij,nj->n", seen, inverse, seen))
    return normal_forecast(seen @ weights, variance, truth, shift, scale)


@partial(jax.jit, static_argnames=("classes",))
def _logistic(x: Array, y: Array, at: Array, classes: int) -> Array:
    """Probabilities at ``at`` of multinomial logistic regression, by L-BFGS."""

    def loss(w: Params) -> Array:
        logits = x @ w["slope"] + w["level"]
        fit = -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1))
        return fit + 0.5 * _RIDGE * jnp.sum(w["slope"] ** 2)

    first = {"slope": jnp.zeros((x.shape[1], classes)), "level": jnp.zeros(classes)}
    solver = optax.lbfgs()
    both = optax.value_and_grad_from_state(loss)

    def step(_: int, carry: tuple[Params, optax.OptState]) -> tuple[Params, optax.OptState]:
        w, state = carry
        value, grad = both(w, state=state)
        updates, state = solver.update(grad, state, w, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(w, updates), state

    w, _ = jax.lax.fori_loop(0, 100, step, (first, solver.init(first)))
    return jax.nn.softmax(at @ w["slope"] + w["level"])


def sparse_gp(
    x: np.ndarray, y: np.ndarray, at: np.ndarray, truth: np.ndarray, shift: float, scale: float, inducing: int
) -> tuple[Forecast, int]:
    """A sparse Gaussian process of training rows (x, y) at the rows ``at``, and how many rows it learnt from."""
    random = generator(0, 51)
    rows = np.sort(random.permutation(len(x))[:_MOST])
    x, y = x[rows], y[rows]
    distinct = np.unique(x, axis=0)
    z = distinct[np.sort(random.permutation(len(distinct))[:inducing])]
    start = rbf(np.full(x.shape[1], math.sqrt(x.shape[1])))
    mean, variance = _sparse(
        start.apply,
        start.params,
        *(jnp.asarray(part, jnp.result_type(float)) for part in (x, y, at, z)),
    )
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    return normal_forecast(mean, variance, truth, shift, scale), len(rows)


@partial(jax.jit, static_argnums=0)
def _sparse(apply: CovarianceFn, start: Params, x: Array, y: Array, at: Array, z: Array) -> tuple[Array, Array]:
    """Mean and variance at ``at``, noise included, after so many updates of the collapsed bound."""
    first = {"covariance": start, "inducing": z, "log_noise": jnp.asarray(math.log(0.3), x.dtype)}

    def loss(params: Params) -> Array:
        covariance = Covariance(apply, params["covariance"])
        return -collapsed_bound(covariance, params["inducing"], x, y, jnp.exp(params["log_noise"])) / len(y)

    solver = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(optax.cosine_decay_schedule(0.05, _UPDATES)))

    def step(_: int, carry: tuple[Params, optax.OptState]) -> tuple[Params, optax.OptState]:
        params, state = carry
        updates, state = solver.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    params, _ = jax.lax.fori_loop(0, _UPDATES, step, (first, solver.init(first)))
    covariance, z, noise = params["covariance"], params["inducing"], jnp.exp(params["log_noise"])
    lower = root(pairwise(apply, covariance, z, z)).lower
    a, _ = features(apply, covariance, z, lower, x)
    seen, rest = features(apply, covariance, z, lower, at)
    found = regression(a, y, noise)
    told = solve_triangular(found.lower, seen, lower=True)
    mean = told.T @ found.projected
    return mean, rest + jnp.sum(told**2, axis=0) + noise**2
