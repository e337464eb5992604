"""A deep Gaussian process of a table before training: its inducing inputs, mean functions and first parameters."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import as_real, check_finite
from bridgejax._summary import summary
from bridgejax._types import Numbers, Params
from bridgejax.gp.covariances import Covariance, pairwise, rbf
from bridgejax.gp.layers import DeepGP, Layer
from bridgejax.gp.likelihoods import Likelihood
from bridgejax.methods.variational._posteriors import Shapes

_GRAM = jax.jit(lambda apply, params, z: pairwise(apply, params, z, z), static_argnums=0)
_ROUNDING = 1e-3  # of the mean variance, of an eigenvalue that is 0
NARROW = 1e-2  # deviation of v at the start in the layers before the last: they begin as their mean functions


def spread_points(x: np.ndarray, count: int) -> np.ndarray:
    """``count`` rows of x far from each other: each the farthest from those before, from the row nearest the mean."""
    first = int(np.argmin(np.sum((x - x.mean(0)) ** 2, axis=1)))
    chosen, nearest = [first], np.sum((x - x[first]) ** 2, axis=1)
    while len(chosen) < count:
        following = int(np.argmax(nearest))
        if not nearest[following] > 0:
            raise ValueError(
                f"inducing must be at most the number of different rows of inputs, {len(chosen)}, got {count}; lower it"
            )
        chosen.append(following)
        nearest = np.minimum(nearest, np.sum((x - x[following]) ** 2, axis=1))
    return x[chosen]


def _principal(x: np.ndarray, width: int) -> np.ndarray:
    """The matrix to the leading principal components, (d, width); with zeros where there are more than d."""
    _, _, right = np.linalg.svd(x - x.mean(0), full_matrices=False)
    kept = right[:width].T
    return np.pad(kept, ((0, 0), (0, width - kept.shape[1])))


class Plan(NamedTuple):
    """A model with its first parameters."""

    model: DeepGP
    params: Params
    shapes: Shapes
    widths: list[int]

    __repr__ = summary


def make_plan(
    x: np.ndarray,
    count: int,
    hidden: list[int],
    outputs: int,
    covariance: Covariance | None,
    likelihood: Likelihood,
    *,
    skip: bool,
) -> Plan:
    at = spread_points(x, count)
    seen, rows, layers, params, widths = x, at, [], [], []
    wide = jnp.result_type(float)
    for index, width in enumerate([*hidden, outputs]):
        last = index == len(hidden)
        given, inducing = (np.hstack([seen, x]), np.hstack([rows, at])) if skip and index else (seen, rows)
        if last:
            mean = None
        elif width == given.shape[1]:
            mean = np.eye(width)
        else:
            mean = _principal(given, width)
        own = rbf(math.sqrt(inducing.shape[1])) if covariance is None else covariance
        layers.append(Layer(own.apply, width, None if mean is None else jnp.asarray(mean, wide)))
        lengths = _wide_lengths(own.params, inducing.shape[1])
        params.append({"covariance": lengths, "inducing": jnp.asarray(inducing, wide)})
        widths.append(inducing.shape[1])
        if mean is not None:
            seen, rows = given @ mean, inducing @ mean
    model = DeepGP(tuple(layers), likelihood._replace(params={}), skip)
    shapes = Shapes(tuple((count, layer.outputs) for layer in layers))
    return Plan(model, {"layers": params, "likelihood": likelihood.params}, shapes, widths)


def check_definite(plan: Plan) -> None:
    """Raise a ``ValueError`` for a covariance with which some values of a function would have a negative variance."""
    layer, params = plan.model.layers[0], plan.params["layers"][0]
    matrix = np.asarray(_GRAM(layer.covariance, params["covariance"], params["inducing"]), np.float64)
    level = float(np.mean(np.diagonal(matrix)))
    least = float(np.linalg.eigvalsh(matrix)[0]) if np.isfinite(matrix).all() else float("nan")
    if not least > -_ROUNDING * max(level, 0.0):
        raise ValueError(
            f"covariance is not positive definite: at the {len(matrix)} inducing inputs its least eigenvalue is "
            f"{least:.3g}, beside a mean variance of {level:.3g}; use a sum or product of those in bridgejax.gp"
        )


def _wide_lengths(params: Params, width: int) -> Params:
    """The parameters of a layer's covariance: a length for every one of its inputs where one was given for all."""

    def widen(path: tuple[object, ...], leaf: Array) -> Array:
        name = getattr(path[-1], "key", None) if path else None
        return jnp.full((width,), leaf) if name == "log_length" and jnp.ndim(leaf) == 0 else leaf

    return jax.tree_util.tree_map_with_path(widen, params)


def checked_data(inputs: Numbers, targets: Numbers, likelihood: Likelihood) -> tuple[np.ndarray, int]:
    """Inputs in float64, and how many values f has."""
    x, y = np.asarray(as_real(inputs, "inputs")), np.asarray(as_real(targets, "targets"))
    check_finite(inputs=x, targets=y)
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(f"inputs must have one row per observation, shape (n, d), got shape {x.shape}")
    if y.shape[:1] != x.shape[:1] or y.ndim > 2:
        raise ValueError(f"targets must have shape ({x.shape[0]},) or ({x.shape[0]}, p), got {y.shape}")
    constant = np.flatnonzero(np.ptp(x, axis=0) == 0)
    if constant.size and x.shape[0] > 1:
        raise ValueError(f"inputs column {int(constant[0])} has one value for all rows; leave it out")
    if likelihood.outputs is None:
        return x.astype(np.float64), 1 if y.ndim == 1 else y.shape[1]
    if y.ndim > 1 or not np.all((y == np.floor(y)) & (y >= 0) & (y < likelihood.outputs)):
        raise ValueError(f"targets must be labels 0 .. {likelihood.outputs - 1}, shape ({x.shape[0]},)")
    return x.astype(np.float64), likelihood.outputs
