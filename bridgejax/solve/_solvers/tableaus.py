"""One step of diffrax's explicit Runge-Kutta solvers, written out stage by stage from their tableaus.

    Runge-Kutta             z_j = x + sum_{i<j} a_ji k_i,    k_j = F(t + c_j h, z_j),    x' = x + sum_j b_j k_j

with F = drift dt + G dW, and for SDEs with the space-time Levy area H of the step (Foster, dos Reis & Strange 2023,
arXiv 2210.17543),

    general noise           z_j = x + sum_{i<j} (a_ji f_i h + aW_ji g_i W + aH_ji g_i H)
                            x'  = x + sum_j (b_j f_j h + bW_j g_j W + bH_j g_j H)
    additive noise          z_j = x + sum_{i<j} a_ji f_i h + g(t) (aW_j W + aH_j H)
                            x'  = x + sum_j b_j f_j h + g(t) (bW W + bH H) + (g(t') - g(t)) (W/2 - H)

diffrax runs the stages in a loop with a buffer, which a rematerialised scan can only differentiate at several times
the cost (2-10 times on an MLP). Written out, a step and its gradient cost what they cost by hand, a stage that nothing
uses is dropped by the compiler, and the numbers agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import diffrax as dfx
import jax
import numpy as np
from jax import Array

from bridgejax._numerics import linear_combination
from bridgejax._types import Args, State
from bridgejax.solve._solvers.terms import Terms

Step = Callable[[Terms, Array, Array, State, Args], State]
Tableau: TypeAlias = Any  # diffrax's, whose fields differ by the kind of noise
Row: TypeAlias = np.ndarray | tuple[()]


def unrolled_rk_step(solver: dfx.AbstractSolver) -> Step | None:
    """``step(terms, t0, t1, x, args) -> x'`` of an explicit Runge-Kutta solver; None for any other solver.

    A solver that overrides diffrax's ``step`` keeps its own, and so does one that needs more than W and H.
    """
    step, tableau = type(solver).step, getattr(type(solver), "tableau", None)
    if isinstance(solver, dfx.AbstractERK) and step is dfx.AbstractRungeKutta.step:
        return partial(_runge_kutta, tableau) if isinstance(tableau, dfx.ButcherTableau) else None
    if isinstance(solver, dfx.AbstractSRK) and step is dfx.AbstractSRK.step:
        assert isinstance(tableau, dfx.StochasticButcherTableau)
        if tableau.coeffs_kk is None:
            return partial(_additive_noise if tableau.is_additive_noise() else _general_noise, tableau)
    return None


def _plus(x: State, *terms: tuple[Any, State]) -> State:
    """x + sum of coefficient * increment, without the coefficients that are zero."""
    return linear_combination((1.0, x), *((float(c), k) for c, k in terms if c != 0))


def _below(rows: Row, j: int) -> Row:
    """Row j of a strictly lower triangle stored without its empty first row."""
    return rows[j - 1] if j else ()


def _time(c: Row, j: int, t0: Array, t1: Array) -> Array:
    """Time of stage j; exactly the ends of the step where c is 0 or 1."""
    share = float(c[j - 1]) if j else 0.0
    return t0 if share == 0 else t1 if share == 1 else t0 + share * (t1 - t0)


def _runge_kutta(tableau: Tableau, terms: Terms, t0: Array, t1: Array, x: State, args: Args) -> State:
    control = terms.contr(t0, t1)
    ks: list[State] = []
    for j in range(len(tableau.b_sol)):
        z = _plus(x, *zip(_below(tableau.a_lower, j), ks, strict=True))
        ks.append(terms.vf_prod(_time(tableau.c, j, t0, t1), z, args, control))
    return _plus(x, *zip(tableau.b_sol, ks, strict=True))


def _additive_noise(tableau: Tableau, terms: Terms, t0: Array, t1: Array, x: State, args: Args) -> State:
    drift, noise = terms.terms
    path = noise.contr(t0, t1, use_levy=True)
    g0, g1 = noise.vf(t0, x, args), noise.vf(t1, x, args)
    w = noise.prod(g0, path.W)
    on_w, on_h = tableau.coeffs_w, tableau.coeffs_hh
    h = None if on_h is None else noise.prod(g0, path.H)

    def shift(c_w: Row, c_h: Row | None) -> tuple[tuple[Any, State], ...]:
        return ((c_w, w),) if on_h is None else ((c_w, w), (c_h, h))

    ks: list[State] = []
    for j in range(len(tableau.b_sol)):
        pushed = shift(on_w.a[j], None if on_h is None else on_h.a[j])
        z = _plus(x, *zip(_below(tableau.a, j), ks, strict=True), *pushed)
        ks.append(drift.vf_prod(_time(tableau.c, j, t0, t1), z, args, drift.contr(t0, t1)))
    rise = jax.tree.map(lambda a, b: 0.5 * (b - a), g0, g1)
    area = path.W if on_h is None else linear_combination((1.0, path.W), (-2.0, path.H))
    pushed = shift(on_w.b_sol, None if on_h is None else on_h.b_sol)
    return _plus(x, *zip(tableau.b_sol, ks, strict=True), *pushed, (1.0, noise.prod(rise, area)))


def _general_noise(tableau: Tableau, terms: Terms, t0: Array, t1: Array, x: State, args: Args) -> State:
    drift, noise = terms.terms
    path = noise.contr(t0, t1, use_levy=True)
    drives = [(tableau.coeffs_w, path.W)]
    if tableau.coeffs_hh is not None:
        drives.append((tableau.coeffs_hh, path.H))
    ks: list[State] = []
    gs: list[list[State]] = [[] for _ in drives]
    for j in range(len(tableau.b_sol)):
        pushed = [p for (on, _), g in zip(drives, gs, strict=True) for p in zip(_below(on.a, j), g, strict=True)]
        z = _plus(x, *zip(_below(tableau.a, j), ks, strict=True), *pushed)
        t = _time(tableau.c, j, t0, t1)
        ks.append(drift.vf_prod(t, z, args, drift.contr(t0, t1)))
        for (_, increment), g in zip(drives, gs, strict=True):
            g.append(noise.vf_prod(t, z, args, increment))
    pushed = [p for (on, _), g in zip(drives, gs, strict=True) for p in zip(on.b_sol, g, strict=True)]
    return _plus(x, *zip(tableau.b_sol, ks, strict=True), *pushed)
