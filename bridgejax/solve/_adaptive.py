"""Adaptive steps: ``diffrax.diffeqsolve`` with a Brownian tree, from the first time of a grid to the last."""

from __future__ import annotations

from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._numerics import cast_like
from bridgejax._types import Args, PyTree, State
from bridgejax.processes._keys import stream
from bridgejax.processes.sde import SDE
from bridgejax.solve._accepted import times_for, unwrapped
from bridgejax.solve._solvers.terms import BoolLike, StepResult, Terms, make_terms, noise_structure

_FINEST = 2.0**-20  # below this share of an adaptive solve the Brownian tree is smooth: steps must be longer


def _levy_area(
    solver: dfx.AbstractSolver,
) -> type[dfx.BrownianIncrement | dfx.SpaceTimeLevyArea | dfx.SpaceTimeTimeLevyArea]:
    """The least of diffrax's Brownian increments that carries what ``solver`` (perhaps wrapped) asks for."""
    asked = getattr(unwrapped(solver), "minimal_levy_area", dfx.AbstractBrownianIncrement)
    made = (dfx.BrownianIncrement, dfx.SpaceTimeLevyArea, dfx.SpaceTimeTimeLevyArea)
    return next(kind for kind in made if issubclass(kind, asked))


class _HalfSolver(dfx.HalfSolver):
    """``diffrax.HalfSolver`` with a dense output that ends where its two half steps do, not at the whole step's end."""

    @property
    def interpolation_cls(self) -> type[dfx.LocalLinearInterpolation]:
        """A line."""
        return dfx.LocalLinearInterpolation

    def step(
        self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args, solver_state: PyTree, made_jump: BoolLike
    ) -> StepResult:
        """One step in two halves, and the whole one to compare with."""
        y1, error, _, state, result = super().step(terms, t0, t1, y0, args, solver_state, made_jump)
        return y1, error, dict(y0=y0, y1=y1), state, result


def solve_adaptive(
    sde: SDE,
    key: Array,
    x0: State,
    ts: Array,
    args: Args,
    solver: dfx.AbstractSolver,
    controller: dfx.AbstractAdaptiveStepSizeController,
    *,
    save: bool,
) -> tuple[PyTree, PyTree]:
    """From ``ts[0]`` to ``ts[-1]`` with steps chosen by ``controller``, noise from a Brownian tree.

    Steps end at every time of ``ts``: between the ends of a step there is no draw of X, only a line, whose variance is
    too small and whose increments are all one. Where noise depends on x, times of rejected steps are met as well: to
    reject them for their noise and to forget it is to choose the noise (Foster & Jelincic 2023, arXiv 2311.14201).
    """
    # diffrax takes a state up to the dtype of the times, and its solvers make numbers of JAX's default dtype
    wide = jnp.promote_types(ts.dtype, jnp.result_type(float))
    begin = jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, wide)), x0)
    ts = times_for(ts, begin, sde.T)
    like = noise_structure(sde, ts[0], begin, args)
    tree: Any = None
    if like is not None:
        finest = _FINEST * (ts[-1] - ts[0])
        tree = dfx.VirtualBrownianTree(ts[0], ts[-1], finest, like, stream(key, "noise"), _levy_area(solver))
    rejected = 100 if sde.diffusion is not None and sde.noise == "state" else None  # so many at one place: an error
    between = ts[1:-1] if ts.shape[0] > 2 else None
    solution = dfx.diffeqsolve(
        make_terms(sde, tree),
        _HalfSolver(solver.solver) if type(solver) is dfx.HalfSolver else solver,
        ts[0],
        ts[-1],
        ts[1] - ts[0],
        begin,
        args,
        saveat=dfx.SaveAt(ts=ts[1:]) if save else dfx.SaveAt(t1=True),
        stepsize_controller=dfx.ClipStepSizeController(controller, between, store_rejected_steps=rejected),
        max_steps=1 << 14,
    )
    noise = None if tree is None or not save else jax.vmap(tree.evaluate)(ts[:-1], ts[1:])
    ys = cast_like(solution.ys, x0)
    return jax.tree.map(lambda leaf: leaf[-1], ys), ((ys, noise) if save else None)
