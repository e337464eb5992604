"""From what a network predicts to what an SDE needs: one small linear solve instead of a table of conversions.

On the path x_t = a x0 + b x1 + c eps every predictable quantity is a row of coefficients on (x0, x1, eps):

    x0        (1, 0, 0)              x_t       (a, b, c)
    x1        (0, 1, 0)              velocity  (a', b', c')                    = d x_t / dt
    eps       (0, 0, 1)              drift     (a', b', c' - g^2 / (2 c))      = velocity + g^2 score / 2
    score     (0, 0, -1/c)           backward_drift (-a', -b', -c' - g^2 / (2 c))  = -velocity + g^2 score / 2
    residual  (-a, 1 - b, -c) / r, r = sqrt(a)                                 = (x1 - x_t) / r

``residual`` is what is left to go, in units that keep it bounded: sqrt(1 - t) times the drift of a Brownian bridge.
``score`` is grad log p(x_t | x0, x1); taking conditional expectations given x_t keeps every relation, which is why
a network trained by any of these regressions serves all of them. ``drift`` is that of the SDE with noise g which has
the path's marginals, ``backward_drift`` its reversal on the backward clock (their sum is g^2 score). The state and the
known predictions are the equations; the request is written as a combination of them (Cramer's rule, so coefficients
combine before anything is divided). A column whose coefficient is absent drops out.

The bridge of a reference SDE has one more relation: its forward drift is a function of x_t and x1 alone, its backward
drift of x_t and x0 alone (Doob). With g left out their eps coefficients are therefore c a'/a and -c b'/b, which no
end point spoils; drift, residual and x1 give each other, and so do backward_drift and x0, even though two unknowns
remain. Without a second end the forward drift is that of the noising SDE, f x_t: it is determined by x_t, and says
nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._checks import as_real, as_reals, check_like, check_nonnegative, check_number
from bridgejax._numerics import as_time, linear_combination, safe_divide, safe_sqrt
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Field, Scalar, State, Time
from bridgejax.bridges.interpolants import Interpolant, diffusion
from bridgejax.processes._schedule import Schedule
from bridgejax.processes.sde import check_callable

__all__ = [
    "QUANTITIES",
    "Converted",
    "convert",
    "solve",
]


def __dir__() -> list[str]:
    return __all__


QUANTITIES = ("x0", "x1", "eps", "score", "velocity", "drift", "backward_drift", "residual")
_PLAIN = ("x0", "x1", "eps", "score")

_Row: TypeAlias = Mapping[str, Scalar]  # coefficients of x0, x1 and eps in a quantity; zeros are left out


def _coefficients(interpolant: Interpolant, t: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Coefficient and its time derivative for every column the path has."""
    functions = {"x0": interpolant.a, "x1": interpolant.b, "eps": interpolant.c}
    present = {name: f for name, f in functions.items() if f is not None}
    pairs = {name: jax.value_and_grad(f)(t) for name, f in present.items()}
    return {n: p[0] for n, p in pairs.items()}, {n: p[1] for n, p in pairs.items()}


def _row(name: str, value: dict[str, Array], slope: dict[str, Array], g: Scalar | None) -> _Row:
    """Row of ``name``, zeros left out; ``g`` None: the path's own reference. A score is the eps it stands for."""
    if name in _PLAIN:
        return {"eps" if name == "score" else name: 1.0}
    if name == "residual":
        scale = safe_divide(1.0, safe_sqrt(value["x0"]))
        return {column: scale * ((column == "x1") - value[column]) for column in value}
    sign = -1.0 if name == "backward_drift" else 1.0
    row = {column: sign * slope[column] for column in value}
    if name == "velocity":
        return row
    if g is not None:
        row["eps"] = row["eps"] - 0.5 * safe_divide(jnp.square(g), value["eps"])
    elif name == "drift":  # in the span of x_t and x1
        row["eps"] = safe_divide(value["eps"] * slope["x0"], value["x0"])
    elif "x1" in value:  # in the span of x_t and x0
        row["eps"] = -safe_divide(value["eps"] * slope["x1"], value["x1"])
    else:  # velocity - drift is half of g^2 score
        row["eps"] = safe_divide(value["eps"] * slope["x0"], value["x0"]) - 2.0 * slope["eps"]
    return row


def _determinant(rows: Sequence[_Row], columns: list[str]) -> Scalar | None:
    """Expanded along the first row; None where it is zero by structure, which keeps unit rows free of arithmetic."""
    if not columns:
        return 1.0
    total: Scalar | None = None
    for i, column in enumerate(columns):
        minor = _determinant(rows[1:], columns[:i] + columns[i + 1 :]) if column in rows[0] else None
        if minor is not None:
            term = (-1.0) ** i * rows[0][column] * minor
            total = term if total is None else total + term
    return total


def _cramer(rows: Sequence[_Row], target: _Row, columns: list[str]) -> list[Array | None]:
    """Weights w with sum_i w_i rows_i = target on ``columns``, as many as rows; None for a weight of zero."""
    full = _determinant(rows, columns)
    parts = [_determinant([*rows[:i], target, *rows[i + 1 :]], columns) for i in range(len(rows))]
    return [None if part is None else safe_divide(part, jnp.asarray(full)) for part in parts]


def _check(interpolant: Interpolant, known: Mapping[str, State], to: str, g: Scalar | None) -> None:
    if not isinstance(interpolant, Interpolant):
        raise ValueError(f"interpolant must be an Interpolant, got {type(interpolant).__name__}")
    if not isinstance(known, Mapping) or not known:
        raise ValueError(f"known must name at least one prediction, for example {{'eps': value}}, got {known!r}")
    for role, name in (*(("known", name) for name in known), ("to", to)):
        if not isinstance(name, str) or name not in QUANTITIES:
            raise ValueError(f"{role} names the unknown quantity {name!r}; known ones are {', '.join(QUANTITIES)}")
        ends, noise = name in ("x1", "residual"), name in ("eps", "score")
        if (ends and interpolant.b is None) or (noise and interpolant.c is None):
            raise ValueError(f"this path has no {'x1' if ends else 'eps'}, so {name!r} means nothing on it")
        if name.endswith("drift"):
            if interpolant.c is None:
                raise ValueError(f"this path has no noise, so {name!r} means nothing on it; its ODE has the 'velocity'")
            if g is None and interpolant.reference is None:
                raise ValueError(f"{name!r} depends on the noise level: pass g, the diffusion of the SDE it belongs to")


def _tells(name: str, *, own: bool, two_ended: bool) -> str:
    """What ``name`` tells beside x_t. Two quantities that tell the same determine each other."""
    if name == "score":
        return "eps"
    if name == "residual":
        return "x1"
    if own and name == "drift":
        return "x1" if two_ended else "nothing"
    return "x0" if own and name == "backward_drift" else name


def _basis(
    interpolant: Interpolant, known: Mapping[str, State], to: str, g: Scalar | None
) -> tuple[list[str | None], list[str]]:
    """Quantities that span the request (None is x_t itself), and the columns that tell them apart.

    Raises:
        ValueError: too few are known.
    """
    _check(interpolant, known, to, g)
    functions = {"x0": interpolant.a, "x1": interpolant.b, "eps": interpolant.c}
    columns = [name for name, f in functions.items() if f is not None]
    two_ended = "x1" in columns
    tells = partial(_tells, own=g is None, two_ended=two_ended)
    facts: dict[str, str] = {}  # one quantity for each thing told, plain ones first: their rows are never degenerate
    for name in sorted(known, key=lambda n: n not in _PLAIN):
        facts.setdefault(tells(name), name)
    facts.pop("nothing", None)

    wanted = tells(to)
    if wanted == "nothing":
        return [None], ["x0"]
    if wanted == "eps" and wanted in facts:
        return [facts[wanted]], ["eps"]
    if wanted in facts and two_ended:
        return [None, facts[wanted]], ["x0", "x1"]
    plain = [name for name in facts.values() if name in _PLAIN]
    basis = [*plain, None, *(name for name in facts.values() if name not in plain)][: len(columns)]
    if to not in known and len(basis) < len(columns):
        missing = [name for name in (*columns, "velocity") if name not in known]
        raise ValueError(
            f"{to!r} is not determined by x_t and {sorted(known)}: this path has the unknowns {sorted(columns)}; "
            f"also give one of {missing}"
        )
    return basis, columns


def solve(
    t: Time, x: State, interpolant: Interpolant, known: Mapping[str, State], to: str, g: Scalar | None = None
) -> State:
    """The quantity ``to`` at (t, x), from the predictions ``known``.

    Args:
        t: time on the interpolant's clock.
        x: state x_t.
        interpolant: the path.
        known: predictions by name, each shaped like x: ``{"eps": v}``, ``{"x0": u, "x1": w}``, ...
        to: one of x0, x1, eps, score, velocity, drift, backward_drift, residual.
        g: diffusion g(t) (a number) of the SDE a drift belongs to; left out, the interpolant's reference.

    Returns:
        A state shaped like x. At end points where the quantity is infinite or undefined it is 0, with finite
        gradients; with a terminal kernel it is never evaluated there.

    Raises:
        ValueError: an unknown name, an under-determined request (naming what would settle it), or a drift without g.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> path = bj.interpolants.diffusion(bj.schedules.brownian())                # x_t = x0 + sqrt(t) eps
        >>> print(bj.predictions.solve(0.25, jnp.array([2.0]), path, {"eps": jnp.array([1.0])}, "x0"))
        [1.5]
    """
    basis, columns = _basis(interpolant, known, to, g)
    t, x = as_real(t, "t"), as_reals(x, "x")
    known = {n: check_like(as_reals(given, f"known[{n!r}]"), x, f"known[{n!r}]") for n, given in known.items()}
    if g is not None:
        check_number(g=g)
        check_nonnegative(g=g)
    if to in known:
        return known[to]
    value, slope = _coefficients(interpolant, as_time(t))
    rows = [value if name is None else _row(name, value, slope, g) for name in basis]
    weights = _cramer(rows, _row(to, value, slope, g), columns)
    terms = []
    for name, weight in zip(basis, weights, strict=True):
        if weight is not None:
            weight = -value["eps"] * weight if name == "score" else weight
            weight = -safe_divide(weight, value["eps"]) if to == "score" else weight
            terms.append((weight, x if name is None else known[name]))
    return jax.tree.map(lambda new, leaf: jnp.asarray(new, jnp.result_type(leaf)), linear_combination(*terms), x)


# networks as denoisers and scores ------------------------------------------------------------------------------------


@partial(register_dataclass, data_fields=("interpolant", "network"), meta_fields=("kind", "to"))
@dataclass(frozen=True)
class Converted:
    """``network(t, x, args)``, which predicts ``kind``, read as ``to``. A pytree; call it like the network."""

    interpolant: Interpolant
    network: Field
    kind: str
    to: str

    __repr__ = summary

    def __call__(self, t: Array, x: State, args: Args = None) -> State:
        """The quantity ``to`` at (t, x)."""
        return solve(t, x, self.interpolant, {self.kind: self.network(t, x, args)}, self.to)


def convert(path: Schedule | Interpolant, network: Field, kind: str, to: str) -> Converted:
    """``network(t, x, args)``, which predicts ``kind``, as a function that returns ``to``.

    ``bridgejax.reverse(schedule, denoiser=convert(schedule, network, "eps", "x0"))`` is the usual use.

    Args:
        path: a Schedule (its ``diffusion`` interpolant) or any Interpolant.
        network: what was learnt.
        kind: the quantity it predicts.
        to: the quantity wanted.

    Raises:
        ValueError: an unknown or under-determined quantity, or a network that is not callable.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> denoiser = bj.predictions.convert(bj.schedules.brownian(), lambda t, x, args: jnp.ones(1), "eps", "x0")
        >>> print(denoiser(0.25, jnp.array([2.0]), None))                            # x - sqrt(t) eps
        [1.5]
    """
    if not isinstance(kind, str) or kind not in QUANTITIES:
        raise ValueError(f"kind names the unknown quantity {kind!r}; known ones are {', '.join(QUANTITIES)}")
    interpolant = diffusion(path) if isinstance(path, Schedule) else path
    _basis(interpolant, {kind: None}, to, None)
    return Converted(interpolant, check_callable(network, "network", "network(t, x, args)"), kind, to)
