"""Run an SDE: a diffrax solver's own ``step`` under one ``lax.scan`` over a fixed grid.

Where the grid ends at the SDE's T and the SDE knows the law of its last interval (``terminal_kernel``), that law takes
the last interval, and nothing is evaluated at T. Adaptive solves (``controller=``) end in the same way.

    _accepted.py      the grid, the start state and the solver, or what is wrong with them
    _fixed_grid.py    the scan, and its noise
    _adaptive.py      diffrax's ``diffeqsolve``

Precision. The state keeps the dtype it starts with, leaf by leaf, and what a solver remembers of it does too: each step
ends by casting both back, whatever a drift returns. Times are as precise as the state, at least float32, and are never
rounded below what was given; so are the coefficients and steps made of them. Where nothing gives a dtype (``grids``,
``starts.normal``, the particles of a density, which take that of their levels) it is JAX's default: float32, or float64
under ``jax_enable_x64``. So float64 stays float64 to the end, and a float32 state stays float32 also there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._numerics import cast_like
from bridgejax._summary import summary
from bridgejax._types import Args, Numbers, PyTree, State
from bridgejax.processes._keys import check_key, stream
from bridgejax.processes.sde import SDE
from bridgejax.solve._accepted import SLACK, check_grid, check_solver, check_start, times_for
from bridgejax.solve._adaptive import solve_adaptive
from bridgejax.solve._fixed_grid import solve_grid
from bridgejax.solve._solvers.one_step import PredictorCorrector


class Path(NamedTuple):
    """A simulated path.

    Args:
        ts: times, (n + 1,).
        xs: states at those times, leading axis n + 1; ``xs[0]`` is the start.
        noise: Brownian increments over the intervals of ``ts``, leading axis n (n - 1 where the terminal kernel
            took the last); on a fixed grid those of the solver's steps. None for an ODE, and for a path drawn by a
            kernel.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> ode = bj.SDE(lambda t, x, args: jnp.ones_like(x))                  # dx = dt
        >>> path = bj.simulate_path(ode, jax.random.key(0), jnp.zeros(1), bj.grids.uniform(4))
        >>> path.xs.ravel().tolist(), path.noise
        ([0.0, 0.25, 0.5, 0.75, 1.0], None)
    """

    ts: Array
    xs: State
    noise: PyTree

    __repr__ = summary


def partition_solver(solver: PyTree) -> tuple[PyTree, PyTree]:
    """Solver (and controller) as what ``jit`` traces and what it takes as static; None where nothing is static.

    Most solvers hold no leaves at all. They pass as a pytree, which ``jit`` compares faster than a static argument.
    """
    if all(eqx.is_array(leaf) for leaf in jax.tree.leaves(solver)):
        return solver, None
    return eqx.partition(solver, eqx.is_array)


def combine_solver(dynamic: PyTree, static: PyTree) -> PyTree:
    """The inverse of ``partition_solver``."""
    return dynamic if static is None else eqx.combine(dynamic, static)


def _zero_of(*trees: PyTree) -> Array:
    """A zero that varies over a mesh wherever one of the trees does, so that ``shard_map`` accepts the carry."""
    total = jnp.zeros(())
    for leaf in jax.tree.leaves(trees):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        total = total + jnp.sum(jnp.zeros_like(leaf)).astype(jnp.float32)
    return total


def _append(xs: State, x: State) -> State:
    return jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), xs, x)


def _run(
    sde: SDE,
    key: Array,
    x0: State,
    ts: Array,
    args: Args,
    solver: dfx.AbstractSolver,
    *,
    reaches_end: bool | None,
    save: bool,
    controller: dfx.AbstractAdaptiveStepSizeController | None = None,
) -> tuple[PyTree, PyTree, PyTree]:
    """``(x_T, states after the start, noise)``; the last two None unless ``save``."""
    ts, zero = times_for(ts, x0, sde.T), _zero_of(sde, key, ts, args)
    x0 = jax.tree.map(lambda leaf: leaf + zero.astype(leaf.dtype), x0)
    solve = partial(solve_grid, solver=solver)
    if controller is not None:
        solve = partial(solve_adaptive, solver=solver, controller=controller)
    if sde.terminal_kernel is None or reaches_end is False:
        x, saved = solve(sde, key, x0, ts, args, save=save)
        return (x, *saved) if save else (x, None, None)

    terminal_key = stream(key, "terminal")
    x, xs, noise = x0, None, None
    if ts.shape[0] > 2:
        x, saved = solve(sde, key, x0, ts[:-1], args, save=save)
        xs, noise = saved if save else (None, None)
    terminal = sde.terminal_kernel

    def by_terminal_kernel(x: State) -> State:
        return terminal.sample(terminal_key, ts[-2], ts[-1], x, args)

    def by_solver(x: State) -> State:
        return solve(sde, jax.random.fold_in(terminal_key, 0), x, ts[-2:], args, save=False)[0]

    def like_x(f: Callable[[State], State]) -> Callable[[State], State]:
        return lambda x: cast_like(f(x), x)

    # a traced grid is compared with T at run time; cond, not where, so that the other branch is never differentiated
    at_end = ts[-1] >= (1.0 - SLACK) * sde.T
    x = (
        like_x(by_terminal_kernel)(x)
        if reaches_end
        else jax.lax.cond(at_end, like_x(by_terminal_kernel), like_x(by_solver), x)
    )
    if save:
        xs = jax.tree.map(lambda leaf: leaf[None], x) if xs is None else _append(xs, x)
    return x, xs, noise


@partial(jax.jit, static_argnames=("static", "reaches_end", "save"))
def _run_jit(
    sde: SDE,
    key: Array,
    x0: State,
    ts: Array,
    args: Args,
    dynamic: PyTree,
    static: PyTree,
    *,
    reaches_end: bool | None,
    save: bool,
) -> tuple[PyTree, PyTree, PyTree]:
    return _run(sde, key, x0, ts, args, combine_solver(dynamic, static), reaches_end=reaches_end, save=save)


@partial(jax.jit, static_argnames=("static", "reaches_end", "save"))
def _adaptive_jit(
    sde: SDE,
    key: Array,
    x0: State,
    ts: Array,
    args: Args,
    dynamic: PyTree,
    static: PyTree,
    *,
    reaches_end: bool | None,
    save: bool,
) -> tuple[PyTree, PyTree, PyTree]:
    solver, controller = combine_solver(dynamic, static)
    return _run(sde, key, x0, ts, args, solver, reaches_end=reaches_end, save=save, controller=controller)


def _dispatch(
    sde: SDE,
    key: Array,
    x0: State,
    ts: Numbers,
    args: Args,
    solver: dfx.AbstractSolver | None,
    controller: dfx.AbstractAdaptiveStepSizeController | None,
    *,
    save: bool,
) -> tuple[Array, State, tuple[State, State, PyTree]]:
    times, reaches_end = check_grid(sde, ts)
    key, x0 = check_key(key), check_start(sde, x0)
    if key.ndim != 0:
        raise ValueError(f"key must be one key, got shape {key.shape}; simulate_batch takes one key per sample")
    if controller is None:
        dynamic, static = partition_solver(check_solver(sde, solver))
        return (
            times,
            x0,
            _run_jit(sde, key, x0, times, args, dynamic, static=static, reaches_end=reaches_end, save=save),
        )
    if solver is None:
        if sde.diffusion is not None and sde.manifold is None:
            raise ValueError(
                "an adaptive solve of an SDE needs a solver with an error estimate, named by you: for additive noise "
                "diffrax.ShARK(), else diffrax.HalfSolver(diffrax.ItoMilstein())"
            )
        solver = dfx.Tsit5()
    solver = check_solver(sde, solver, fixed=False)
    if isinstance(solver, PredictorCorrector):
        raise ValueError(
            "PredictorCorrector cannot be solved adaptively: its corrector's step does not shrink with the "
            "predictor's, so no error estimate does; use diffrax.HalfSolver(ExponentialEuler()), or fixed steps"
        )
    if not isinstance(controller, dfx.AbstractAdaptiveStepSizeController):
        raise ValueError(
            "controller must be an adaptive diffrax step size controller such as diffrax.PIDController(rtol=1e-4, "
            f"atol=1e-4), got {controller!r}; fixed steps are the grid ts, without a controller"
        )
    dynamic, static = partition_solver((solver, controller))
    return (
        times,
        x0,
        _adaptive_jit(sde, key, x0, times, args, dynamic, static=static, reaches_end=reaches_end, save=save),
    )


def simulate(
    sde: SDE,
    key: Array,
    x0: State,
    ts: Numbers,
    args: Args = None,
    *,
    solver: dfx.AbstractSolver | None = None,
    controller: dfx.AbstractAdaptiveStepSizeController | None = None,
) -> State:
    """Run one sample of ``sde`` from ``x0`` over the grid ``ts`` and return the last state.

    It jits itself: a second call with the same shapes, or with another SDE of the same structure, compiles nothing.

    Args:
        sde: the SDE, or ODE (``diffusion=None``).
        key: one threefry key; it alone decides the noise.
        x0: start state, floating point, an array of any shape or a pytree of them.
        ts: increasing times of shape (n + 1,) within [0, T].
        args: the sample's own condition, passed unchanged to every part.
        solver: a diffrax solver. None: where the SDE was made from a Schedule ``DPMSolverPP2M`` (ODE) or
            ``ExponentialEuler`` (SDE), on a manifold ``GeodesicMidpoint`` (ODE) or ``GeodesicEuler`` (SDE), else
            ``Heun`` (ODE) or ``Euler`` (SDE).
        controller: an adaptive step size controller of diffrax. Its steps meet every time of ``ts``, which also gives
            the first step and, for the terminal kernel, the last interval; ``ts=[0, first, T]`` leaves it free
            beyond the first. An SDE needs a solver named.

    Returns:
        x at ``ts[-1]``, shaped like ``x0``.

    Raises:
        ValueError: a grid that does not increase or leaves the clock, an integer state, a solver that does not fit.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)        # Ornstein-Uhlenbeck
        >>> bj.simulate(sde, jax.random.key(0), jnp.ones(2), bj.grids.uniform(100)).shape
        (2,)
    """
    return _dispatch(sde, key, x0, ts, args, solver, controller, save=False)[2][0]


def simulate_path(
    sde: SDE,
    key: Array,
    x0: State,
    ts: Numbers,
    args: Args = None,
    *,
    solver: dfx.AbstractSolver | None = None,
    controller: dfx.AbstractAdaptiveStepSizeController | None = None,
) -> Path:
    """``simulate``, keeping every state of the grid and the noise.

    Args:
        sde: as there, and so all arguments and errors.
        key: as there.
        x0: as there.
        ts: as there.
        args: as there.
        solver: as there.
        controller: as there.

    Returns:
        A ``Path``: ``ts``, states ``xs`` with a leading axis of len(ts), and the noise of the steps.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)
        >>> path = bj.simulate_path(sde, jax.random.key(0), jnp.zeros(2), bj.grids.uniform(10))
        >>> path.xs.shape, path.noise.shape
        ((11, 2), (10, 2))
    """
    times, x0, (_, xs, noise) = _dispatch(sde, key, x0, ts, args, solver, controller, save=True)
    xs = jax.tree.map(lambda one, many: jnp.concatenate([one[None], many]), x0, xs)
    return Path(times_for(times, x0, sde.T), xs, noise)
