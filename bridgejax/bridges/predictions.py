"""From what a network predicts to what an SDE needs: one small linear solve instead of a table of conversions.

On the path x_t = a x0 + b x1 + c eps every predictable quantity is a row of coefficients on (x0, x1, eps):

    x0        (1, 0, 0)              x_t       (a, b, c)
    x1        (0, 1, 0)              velocity  (a', b', c')                    = d x_t / dt
    eps       (0, 0, 1)              drift     (a', b', c' - g^2 / (2 c))      = velocity + g^2 score / 2
    score     (0, 0, -1/c)           back_drift (-a', -b', -c' - g^2 / (2 c))  = -velocity + g^2 score / 2

``score`` is grad log p(x_t | x0, x1); taking conditional expectations given x_t keeps every relation, which is why
a network trained by any of these regressions serves all of them. ``drift`` is that of the SDE with noise g which has
the path's marginals, ``back_drift`` its reversal on the backward clock (their sum is g^2 score). The state and the
known predictions are the equations; the request is written as a combination of them (Cramer's rule, so coefficients
combine before anything is divided). A column whose coefficient is absent drops out.

The bridge of a reference SDE has one more relation: its forward drift is a function of x_t and x1 alone, its backward
drift of x_t and x0 alone (Doob). So with g left out, drift and x1 give each other, and so do back_drift and x0, even
though two unknowns remain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax.bridges.interpolants import Interpolant, diffusion
from bridgejax.processes.numerics import as_time, axpy, safe_divide
from bridgejax.processes.schedules import Schedule
from bridgejax.processes.sde import check_callable

QUANTITIES = ("x0", "x1", "eps", "score", "velocity", "drift", "back_drift")
_COLUMNS = ("x0", "x1", "eps")
_DOOB = ({"drift", "x1"}, {"back_drift", "x0"})


def _coefficients(interpolant: Interpolant, t: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Coefficient and its time derivative for every column the path has."""
    functions = {"x0": interpolant.a, "x1": interpolant.b, "eps": interpolant.c}
    present = {name: f for name, f in functions.items() if f is not None}
    pairs = {name: jax.value_and_grad(f)(t) for name, f in present.items()}
    return {n: p[0] for n, p in pairs.items()}, {n: p[1] for n, p in pairs.items()}


def _row(name: str, value: dict[str, Array], slope: dict[str, Array], g: Array | None) -> dict[str, Array]:
    """Row of ``name``. A score is written as the eps it stands for; the caller divides by c last."""
    zero = jnp.zeros_like(value["x0"])
    if name in _COLUMNS or name == "score":
        hot = "eps" if name == "score" else name
        if hot not in value:
            raise ValueError(f"this path has no {hot}, so {name!r} means nothing on it")
        return {column: zero + (column == hot) for column in value}
    sign = -1.0 if name == "back_drift" else 1.0
    row = {column: sign * slope[column] for column in value}
    if name != "velocity" and g is not None and "eps" in value:
        row["eps"] = row["eps"] - 0.5 * safe_divide(g**2, value["eps"])
    return row


def _cramer(rows: list[dict[str, Array]], target: dict[str, Array]) -> list[Array]:
    """Weights w with sum_i w_i rows_i = target, for as many rows as columns."""
    columns = list(target)

    def determinant(matrix: list[dict[str, Array]], names: list[str]) -> Array:
        if len(names) == 1:
            return matrix[0][names[0]]
        first, rest = matrix[0], matrix[1:]
        total = jnp.zeros_like(first[names[0]])
        for i, name in enumerate(names):
            minor = determinant(rest, names[:i] + names[i + 1 :])
            total = total + (-1.0) ** i * first[name] * minor
        return total

    full = determinant(rows, columns)
    replaced = [[*rows[:i], target, *rows[i + 1 :]] for i in range(len(rows))]
    return [safe_divide(determinant(matrix, columns), full) for matrix in replaced]


def _check(interpolant: Interpolant, known: Mapping[str, Any], to: str, g: Any) -> None:
    if not isinstance(interpolant, Interpolant):
        raise ValueError(f"interpolant must be an Interpolant, got {type(interpolant).__name__}")
    for name in (*known, to):
        if name not in QUANTITIES:
            raise ValueError(f"unknown quantity {name!r}; known ones are {', '.join(QUANTITIES)}")
    if not known:
        raise ValueError("known is empty: name at least one prediction, for example known={'eps': value}")
    drifts = [name for name in (*known, to) if name.endswith("drift")]
    if drifts and g is None and interpolant.reference is None:
        raise ValueError(f"{drifts[0]!r} depends on the noise level: pass g, the diffusion of the SDE it belongs to")


def solve(t: Any, x: Any, interpolant: Interpolant, known: Mapping[str, Any], to: str, g: Any = None) -> Any:
    """The quantity ``to`` at (t, x), from the predictions ``known``.

    Args:
        t: time on the interpolant's clock.
        x: state x_t.
        interpolant: the path.
        known: predictions by name, each shaped like x: ``{"eps": v}``, ``{"x0": u, "x1": w}``, ...
        to: one of x0, x1, eps, score, velocity, drift, back_drift.
        g: diffusion g(t) (a number) of the SDE a drift belongs to; left out, the interpolant's reference.

    Returns:
        A state shaped like x. At end points where the quantity is infinite or undefined it is 0, with finite
        gradients; solvers that land never ask there.

    Raises:
        ValueError: an unknown name, an under-determined request (naming what would settle it), or a drift without g.
    """
    _check(interpolant, known, to, g)
    t = as_time(t)
    if to in known:
        return known[to]
    value, slope = _coefficients(interpolant, t)
    if "eps" in known:  # the score says nothing that eps does not
        known = {name: v for name, v in known.items() if name != "score"}
    own_noise = g is None
    if g is None and interpolant.reference is not None:
        g = jnp.sqrt(interpolant.reference(t))
    target = _row(to, value, slope, g)
    states = [x, *(axpy((-value["eps"], v)) if n == "score" else v for n, v in known.items())]
    rows = [value, *(_row(name, value, slope, g) for name in known)]
    if len(rows) < len(value):
        # Doob: the bridge's own drift does not see eps once the end it heads for is known
        if not (own_noise and {to, *known} in _DOOB):
            missing = [n for n in (*value, "velocity") if n not in known]
            raise ValueError(
                f"{to!r} is not determined by x_t and {sorted(known)}: this path has the unknowns {sorted(value)}; "
                f"also give one of {missing}"
            )
        rows, target = ([{n: v for n, v in row.items() if n != "eps"} for row in rows]), dict(target)
        target.pop("eps")
    rows, states = rows[: len(target)], states[: len(target)]
    weights = _cramer(rows, target)
    result = axpy(*zip(weights, states, strict=True))
    return axpy((-safe_divide(1.0, value["eps"]), result)) if to == "score" else result


# networks as denoisers and scores ------------------------------------------------------------------------------------


@partial(jax.tree_util.register_dataclass, data_fields=("interpolant", "network"), meta_fields=("kind", "to"))
@dataclass(frozen=True)
class Converted:
    """``network(t, x, args)``, which predicts ``kind``, read as ``to``. A pytree; call it like the network."""

    interpolant: Interpolant
    network: Callable[..., Any]
    kind: str
    to: str

    def __call__(self, t: Any, x: Any, args: Any = None) -> Any:
        """The quantity ``to`` at (t, x)."""
        return solve(t, x, self.interpolant, {self.kind: self.network(t, x, args)}, self.to)


def convert(path: Schedule | Interpolant, network: Callable[..., Any], kind: str, to: str) -> Converted:
    """``network(t, x, args)``, which predicts ``kind``, as a function that returns ``to``.

    ``bridgejax.reverse(schedule, denoiser=convert(schedule, network, "eps", "x0"))`` is the usual use.

    Args:
        path: a Schedule (its ``diffusion`` interpolant) or any Interpolant.
        network: what was learnt.
        kind: the quantity it predicts.
        to: the quantity wanted.

    Raises:
        ValueError: an unknown quantity, or a network that is not callable.
    """
    interpolant = diffusion(path) if isinstance(path, Schedule) else path
    _check(interpolant, {kind: None}, to, None)
    return Converted(interpolant, check_callable(network, "network", "network(t, x, args)"), kind, to)
