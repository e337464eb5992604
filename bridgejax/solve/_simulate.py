"""Run an SDE: a diffrax solver's own ``step`` under one ``lax.scan`` over a fixed grid.

The noise of a step is G sqrt(dt) z with z drawn in blocks of 32 steps, block j from ``fold_in(stream(key, "noise"),
j)``. A small state draws all blocks up front, a large one streams them; the numbers are the same, so a sample depends
on its key and its grid and on nothing else. The step is rematerialised, so a gradient stores the states and no
intermediate of the network; the noise is scaled outside that body. Where the grid ends at the SDE's T and the SDE knows
the law of its last interval (``terminal_kernel``), that law takes the last interval, and nothing is evaluated at T.

Adaptive solves (``controller=``) go through ``diffrax.diffeqsolve`` with a Brownian tree, and land in the same way.

Precision. The state keeps the dtype it starts with, leaf by leaf, and what a solver remembers of it does too: each step
ends by casting both back, whatever a drift returns. Times are as precise as the state, at least float32, and are never
rounded below what was given; so are the coefficients and steps made of them. Where nothing gives a dtype (``grids``,
``starts.normal``, the particles of a density, which take that of their levels) it is JAX's default: float32, or float64
under ``jax_enable_x64``. So float64 stays float64 to the end, and a float32 state stays float32 also there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, get_args, get_origin

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._checks import describe, is_real
from bridgejax._numerics import as_time, cast_like, normal_like
from bridgejax._summary import summary
from bridgejax._types import Args, DType, Numbers, PyTree, State
from bridgejax.processes._keys import check_key, stream
from bridgejax.processes.sde import SDE, check_sde
from bridgejax.solve._solvers.geodesic import AbstractGeodesic, GeodesicEuler, GeodesicMidpoint
from bridgejax.solve._solvers.multistep import DPMSolverPP2M
from bridgejax.solve._solvers.one_step import AbstractExponential, Euler, ExponentialEuler, Heun, PredictorCorrector
from bridgejax.solve._solvers.tableaus import unrolled_rk_step
from bridgejax.solve._solvers.terms import BoolLike, StepIncrement, StepResult, Terms, make_terms, noise_structure

BLOCK = 32
_SLACK = 1e-6  # a grid that ends this close to T, relatively, ends at T
_FINEST = 2.0**-20  # below this share of an adaptive solve the Brownian tree is smooth: steps must be longer
# Numbers of noise per sample up to which all blocks are drawn at once, whatever the batch, which must not show in a
# sample: 20,000 samples then hold 0.6 GiB at most. More are as fast streamed, but the step is compiled twice.
_UP_FRONT = 1 << 11


class Path(NamedTuple):
    """A simulated path.

    Args:
        ts: times, (n + 1,).
        xs: states at those times, leading axis n + 1; ``xs[0]`` is the start.
        noise: Brownian increments over the intervals of ``ts``, leading axis n (n - 1 where the last interval landed);
            on a fixed grid those of the solver's steps. None for an ODE, and of a path that a kernel walked.

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


# what the caller gave ---------------------------------------------------------------------------------------------


def default_solver(sde: SDE) -> dfx.AbstractSolver:
    """The solver used when none is named.

    Geodesic on a manifold, exponential where the SDE has a split, else Heun (ODE) or Euler (SDE).
    """
    if sde.manifold is not None:
        return GeodesicMidpoint() if sde.diffusion is None else GeodesicEuler()
    if sde.semilinear is not None:
        return DPMSolverPP2M() if sde.diffusion is None else ExponentialEuler()
    return Heun() if sde.diffusion is None else Euler()


def check_grid(sde: SDE, ts: Numbers) -> tuple[Array, bool | None]:
    """``check_times`` on the clock of an SDE, which is checked as well."""
    check_sde(sde)
    return check_times(sde.T, ts)


def check_times(T: float, ts: Any) -> tuple[Array, bool | None]:
    """``ts`` as times, and whether the grid ends at T (None: traced, so decided at run time).

    Raises:
        ValueError: fewer than two times, not increasing, not finite, or outside the clock [0, T].
    """
    wide = isinstance(ts, jax.Array) and ts.dtype in (jnp.float32, jnp.float64)
    if not wide:
        if not is_real(ts):
            raise ValueError(f"ts must hold real numbers, increasing times, got {describe(ts)}")
        ts = ts if isinstance(ts, jax.Array) else np.asarray(ts)
    if jnp.ndim(ts) != 1 or jnp.shape(ts)[0] < 2:
        raise ValueError(f"ts must hold at least two times in one axis, got shape {jnp.shape(ts)}")
    if isinstance(ts, Tracer):
        return as_time(ts), None
    times = ts
    if not (wide and not ts.weak_type):  # which spares a dispatch
        with jax.ensure_compile_time_eval():  # a list is concrete under jit too
            times = as_time(ts)  # checked as it will be used: two float64 times may be one float32 time
    host = np.asarray(times, np.float64)
    slack = _SLACK * T
    inside = -slack <= host[0] and host[-1] <= T + slack
    if not (inside and np.min(host[1:] - host[:-1]) > 0):  # so written, it is also what a NaN or an inf fails
        raise ValueError(_grid_error(host, T, times.dtype))
    return times, bool(host[-1] >= T - slack)


def _grid_error(host: np.ndarray, T: float, dtype: DType) -> str:
    """What is wrong with a grid that failed the check."""
    if not np.all(np.isfinite(host)):
        return "ts holds times that are not finite"
    falls = np.diff(host) <= 0
    if np.any(falls):
        k = int(np.argmax(falls))
        return (
            f"ts must increase, in {dtype} too: ts[{k}] = {host[k]:.9g}, ts[{k + 1}] = {host[k + 1]:.9g}; time runs "
            "forward in every solve, bridgejax.reverse gives the SDE of the other direction"
        )
    return f"ts runs over [{host[0]:g}, {host[-1]:g}], beyond the SDE's clock [0, {T:g}]"


def times_for(ts: Array, x: State, T: float) -> Array:
    """``ts`` in a dtype that holds the times and the state ``x``; widening may not carry a time beyond T."""
    dtype = jnp.result_type(ts, *(leaf.dtype for leaf in jax.tree.leaves(x)))
    return ts if ts.dtype == dtype else jnp.minimum(ts.astype(dtype), T)


def check_start(sde: SDE, x0: State, name: str = "x0") -> State:
    """``check_state`` of a start of this SDE, one or many: on a manifold every one must be a point of it."""
    return check_state(x0 if sde.manifold is None else sde.manifold.check(x0, name), name)


def check_state(x0: State, name: str = "x0") -> State:
    """A start state as arrays.

    Raises:
        ValueError: no array, or one that is not floating point (complex numbers are pairs of real ones).
    """
    if not isinstance(x0, jax.Array):
        for leaf in jax.tree.leaves(x0):
            if getattr(getattr(leaf, "dtype", None), "kind", "V") in "OSU" or not (
                hasattr(leaf, "dtype") or is_real(leaf)
            ):
                raise ValueError(f"{name} must be an array or a pytree of them, got {describe(leaf)}")
        x0 = jax.tree.map(jnp.asarray, x0)
    for leaf in jax.tree.leaves(x0):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"{name} must be floating point, got {leaf.dtype}; use {name}.astype(jnp.float32)")
    if not jax.tree.leaves(x0):
        raise ValueError(f"{name} holds no array")
    return x0


def _unwrapped(solver: dfx.AbstractSolver) -> Any:
    """The solver inside diffrax's wrappers, which answer ``isinstance`` for it and have none of its attributes."""
    while isinstance(solver, dfx.AbstractWrappedSolver):
        solver = solver.solver
    return solver


def _check_terms(sde: SDE, solver: dfx.AbstractSolver) -> None:
    """Refuse a solver of diffrax's for other terms than a drift, or a drift and a noise."""
    name, structure = type(solver).__name__, solver.term_structure
    parts = [get_origin(part) or part for pair in get_args(structure) for part in get_args(pair)]
    pair = bool(parts) and all(part is dfx.AbstractTerm for part in parts)
    takes_noise = isinstance(solver, dfx.AbstractItoSolver | dfx.AbstractStratonovichSolver)
    if structure is not dfx.AbstractTerm and not (pair and takes_noise):
        raise ValueError(
            f"{name} solves an equation whose drift is split into terms of its own, which an SDE here is not; use "
            "diffrax.Kvaerno5() for a stiff ODE, Heun() for another, Euler() for an SDE"
        )
    if sde.diffusion is None and structure is not dfx.AbstractTerm:
        raise ValueError(f"{name} needs a diffusion, and this SDE has none; use Heun(), or diffrax.Tsit5(), for an ODE")
    if sde.diffusion is not None and isinstance(solver, dfx.AbstractImplicitSolver):
        raise ValueError(f"{name} is an implicit solver, for ODEs (diffusion=None); use Euler() for this SDE")


def _check_geodesic(sde: SDE, solver: dfx.AbstractSolver, *, fixed: bool) -> None:
    """Refuse a Euclidean solver on a manifold and a geodesic one off it, and what no geodesic solver does."""
    name, geodesic = type(solver).__name__, isinstance(solver, AbstractGeodesic)
    if sde.manifold is None:
        if geodesic:
            raise ValueError(f"{name} needs an SDE with a manifold, and this one runs in R^d; use Euler() or Heun()")
        return
    if not fixed:
        raise ValueError(
            f"an adaptive controller needs an error estimate, and a geodesic walk on {sde.manifold!r} has none; leave "
            "out the controller and give the steps as a grid ts"
        )
    if not geodesic:
        raise ValueError(
            f"{name} adds vectors, which leaves the manifold {sde.manifold!r} of this SDE; use GeodesicEuler() or "
            "GeodesicMidpoint()"
        )
    if isinstance(solver, GeodesicMidpoint) and sde.noise == "state":
        raise ValueError("GeodesicMidpoint needs noise that does not depend on x; use GeodesicEuler() for this SDE")


def _check_solver(sde: SDE, solver: Any, *, fixed: bool = True) -> dfx.AbstractSolver:
    if solver is None:
        return default_solver(sde)
    if not isinstance(solver, dfx.AbstractSolver):
        raise ValueError(f"solver must be a diffrax solver such as bridgejax.solvers.Euler(), got {solver!r}")
    wrapped, solver = solver, _unwrapped(solver)
    _check_terms(sde, solver)
    _check_geodesic(sde, solver, fixed=fixed)
    tolerance = getattr(getattr(solver, "root_finder", None), "rtol", 0.0)
    if fixed and not (isinstance(tolerance, int | float) or hasattr(tolerance, "dtype")):
        raise ValueError(
            f"{type(solver).__name__} takes its root finder's tolerance from a controller, and fixed steps have none; "
            "pass root_finder=diffrax.VeryChord(rtol=1e-6, atol=1e-6) to the solver, or a controller"
        )
    if isinstance(solver, AbstractExponential) and sde.semilinear is None:
        raise ValueError(
            f"{type(solver).__name__} needs an SDE made from a Schedule (sde.semilinear); for this one use Euler()"
        )
    name = type(solver).__name__
    if isinstance(solver, AbstractExponential) and sde.diffusion is not None and not solver.takes_sde:
        raise ValueError(f"{name} solves the probability flow; for a reverse SDE use ExponentialEuler()")
    if isinstance(solver, AbstractExponential) and sde.diffusion is None and not solver.takes_ode:
        raise ValueError(f"{name} needs the noise of a reverse SDE; for a probability flow use DPMSolverPP2M()")
    vanishes = sde.semilinear is not None and sde.diffusion is not None and sde.semilinear.schedule.zero_terminal_snr
    if vanishes and not isinstance(solver, AbstractExponential):
        raise ValueError(
            "this schedule has no signal left at T, so its reverse SDE is infinite there and "
            f"{name}() would be silently wrong; use ExponentialEuler(), or probability_flow, whose "
            "velocity is finite"
        )
    if sde.diffusion is not None and sde.noise == "state":
        if not isinstance(solver, dfx.AbstractItoSolver):  # an ODE solver fed with increments is Stratonovich too
            raise ValueError(
                f"{name} converges to the Stratonovich solution, and this SDE is Ito with noise that "
                "depends on x; use Euler() or diffrax.ItoMilstein()"
            )
    return wrapped


def split_solver(solver: PyTree) -> tuple[PyTree, PyTree]:
    """Solver (and controller) as what ``jit`` traces and what it takes as static; None where nothing is static.

    Most solvers hold no leaves at all. They pass as a pytree, which ``jit`` compares faster than a static argument.
    """
    if all(eqx.is_array(leaf) for leaf in jax.tree.leaves(solver)):
        return solver, None
    return eqx.partition(solver, eqx.is_array)


def join_solver(dynamic: PyTree, static: PyTree) -> PyTree:
    """The inverse of ``split_solver``."""
    return dynamic if static is None else eqx.combine(dynamic, static)


def _differentiable(solver: dfx.AbstractSolver) -> dfx.AbstractSolver:
    """Choose, for an implicit Runge-Kutta solver, the loop over stages that a scan can differentiate cheaply."""
    inner = _unwrapped(solver)
    if not isinstance(inner, dfx.AbstractRungeKutta) or inner.scan_kind is not None:
        return solver
    return eqx.tree_at(lambda s: _unwrapped(s).scan_kind, solver, "bounded", is_leaf=lambda leaf: leaf is None)


# noise ------------------------------------------------------------------------------------------------------------


def _block(block_key: Array, like: PyTree, size: int) -> PyTree:
    """Standard normals of the first ``size`` steps of a block.

    Threefry numbers are a function of key and index, so a shorter block is the beginning of a full one.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), like)
    return normal_like(block_key, shapes)


def draw_noise(key: Array, like: PyTree, count: int) -> PyTree:
    """Standard normals for ``count`` steps at once, leading axis ``count``: blocks of 32, the last one shorter."""
    whole, rest = divmod(count, BLOCK)
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(whole + bool(rest), dtype=jnp.uint32))
    parts = []
    if whole:
        blocks = jax.vmap(lambda k: _block(k, like, BLOCK))(keys[:whole])
        parts.append(jax.tree.map(lambda leaf: leaf.reshape(whole * BLOCK, *leaf.shape[2:]), blocks))
    if rest:
        parts.append(_block(keys[whole], like, rest))
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _scaled(z: PyTree, variances: Array) -> PyTree:
    root = jnp.sqrt(variances)

    def scale(leaf: Array) -> Array:
        return (root.reshape(-1, *(1,) * (leaf.ndim - 1)) * leaf).astype(leaf.dtype)

    return jax.tree.map(scale, z)


def _zero_of(*trees: PyTree) -> Array:
    """A zero that varies over a mesh wherever one of the trees does, so that ``shard_map`` accepts the carry."""
    total = jnp.zeros(())
    for leaf in jax.tree.leaves(trees):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        total = total + jnp.sum(jnp.zeros_like(leaf)).astype(jnp.float32)
    return total


# the scan ---------------------------------------------------------------------------------------------------------


def _scan_grid(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    key: Array,
    ts: Array,
    like: PyTree,
    *,
    levy: bool,
) -> tuple[PyTree, PyTree]:
    """Scan ``step`` over the intervals of ``ts`` with their noise, drawn at once or block by block."""
    count = ts.shape[0] - 1

    def with_noise(ts: Array, draw: Callable[[Array], PyTree]) -> tuple[PyTree, ...]:
        dts = ts[1:] - ts[:-1]
        return ts[:-1], ts[1:], _scaled(draw(noise_key), dts), (_scaled(draw(levy_key), dts / 12.0) if levy else None)

    if like is None:
        return jax.lax.scan(step, carry, (ts[:-1], ts[1:], None, None))
    noise_key, levy_key = stream(key, "noise"), (stream(key, "levy") if levy else key)
    numbers = count * sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(like))
    if numbers <= _UP_FRONT or count <= BLOCK:
        return jax.lax.scan(step, carry, with_noise(ts, lambda k: draw_noise(k, like, count)))

    def run_block(carry: PyTree, j: Array | int, size: int = BLOCK) -> tuple[PyTree, PyTree]:
        times = jax.lax.dynamic_slice_in_dim(ts, j * BLOCK, size + 1)
        return jax.lax.scan(step, carry, with_noise(times, lambda k: _block(jax.random.fold_in(k, j), like, size)))

    whole, rest = divmod(count, BLOCK)
    # rematerialised as a block too: the gradient draws the noise again instead of storing it
    streamed = jax.checkpoint(run_block, prevent_cse=False)
    carry, saved = jax.lax.scan(streamed, carry, jnp.arange(whole, dtype=jnp.int32))
    saved = jax.tree.map(lambda leaf: leaf.reshape(whole * BLOCK, *leaf.shape[2:]), saved)
    if rest:
        carry, last = run_block(carry, whole, rest)
        saved = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), saved, last)
    return carry, saved


def _solve_grid(
    sde: SDE, key: Array, x0: State, ts: Array, args: Args, solver: dfx.AbstractSolver, *, save: bool
) -> tuple[PyTree, PyTree]:
    """Every interval of ``ts`` by the solver. Returns the last state and, where saved, all later states and noise."""
    like = noise_structure(sde, ts[0], x0, args)
    levy = isinstance(solver, dfx.AbstractSRK | PredictorCorrector | GeodesicMidpoint)
    stages = unrolled_rk_step(solver)
    solver = _differentiable(solver)

    def one_step(x: State, memory: PyTree, t0: Array, t1: Array, w: PyTree, h: PyTree) -> tuple[PyTree, PyTree]:
        terms = make_terms(sde, StepIncrement(t0, t1, w, h))
        if stages is None:
            y, _, _, state, _ = solver.step(terms, t0, t1, x, args, memory, False)
        else:
            y, state = stages(terms, t0, t1, x, args), memory
        return cast_like((y, state), (x, memory))

    one_step = jax.checkpoint(one_step, prevent_cse=False)

    def step(carry: PyTree, interval: PyTree) -> tuple[PyTree, PyTree]:
        t0, t1, w, h = interval
        x, state = carry
        carry = one_step(x, state, t0, t1, w, h)
        return carry, ((carry[0], w) if save else None)

    nothing = None if like is None else jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    terms = make_terms(sde, StepIncrement(ts[0], ts[1], nothing, nothing if levy else None))
    stateless = stages is not None and isinstance(solver, dfx.AbstractERK)  # init of the others checks the noise
    carry = (x0, None if stateless else solver.init(terms, ts[0], ts[1], x0, args))
    (x, _), saved = _scan_grid(step, carry, key, ts, like, levy=levy)
    return x, saved


def _append(xs: State, x: State) -> State:
    return jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), xs, x)


def _levy_area(
    solver: dfx.AbstractSolver,
) -> type[dfx.BrownianIncrement | dfx.SpaceTimeLevyArea | dfx.SpaceTimeTimeLevyArea]:
    """The least of diffrax's Brownian increments that carries what ``solver`` (perhaps wrapped) asks for."""
    asked = getattr(_unwrapped(solver), "minimal_levy_area", dfx.AbstractBrownianIncrement)
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


def _solve_adaptive(
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


def _run(
    sde: SDE,
    key: Array,
    x0: State,
    ts: Array,
    args: Args,
    solver: dfx.AbstractSolver,
    *,
    lands: bool | None,
    save: bool,
    controller: dfx.AbstractAdaptiveStepSizeController | None = None,
) -> tuple[PyTree, PyTree, PyTree]:
    """``(x_T, states after the start, noise)``; the last two None unless ``save``."""
    ts, zero = times_for(ts, x0, sde.T), _zero_of(sde, key, ts, args)
    x0 = jax.tree.map(lambda leaf: leaf + zero.astype(leaf.dtype), x0)
    solve = partial(_solve_grid, solver=solver)
    if controller is not None:
        solve = partial(_solve_adaptive, solver=solver, controller=controller)
    if sde.terminal_kernel is None or lands is False:
        x, saved = solve(sde, key, x0, ts, args, save=save)
        return (x, *saved) if save else (x, None, None)

    land_key = stream(key, "landing")
    x, xs, noise = x0, None, None
    if ts.shape[0] > 2:
        x, saved = solve(sde, key, x0, ts[:-1], args, save=save)
        xs, noise = saved if save else (None, None)
    land = sde.terminal_kernel

    def landed(x: State) -> State:
        return land.sample(land_key, ts[-2], ts[-1], x, args)

    def stepped(x: State) -> State:
        return solve(sde, jax.random.fold_in(land_key, 0), x, ts[-2:], args, save=False)[0]

    def like_x(f: Callable[[State], State]) -> Callable[[State], State]:
        return lambda x: cast_like(f(x), x)

    # a traced grid is compared with T at run time; cond, not where, so that the other branch is never differentiated
    at_end = ts[-1] >= (1.0 - _SLACK) * sde.T
    x = like_x(landed)(x) if lands else jax.lax.cond(at_end, like_x(landed), like_x(stepped), x)
    if save:
        xs = jax.tree.map(lambda leaf: leaf[None], x) if xs is None else _append(xs, x)
    return x, xs, noise


@partial(jax.jit, static_argnames=("static", "lands", "save"))
def _run_jit(
    sde: SDE,
    key: Array,
    x0: State,
    ts: Array,
    args: Args,
    dynamic: PyTree,
    static: PyTree,
    *,
    lands: bool | None,
    save: bool,
) -> tuple[PyTree, PyTree, PyTree]:
    return _run(sde, key, x0, ts, args, join_solver(dynamic, static), lands=lands, save=save)


@partial(jax.jit, static_argnames=("static", "lands", "save"))
def _adaptive_jit(
    sde: SDE,
    key: Array,
    x0: State,
    ts: Array,
    args: Args,
    dynamic: PyTree,
    static: PyTree,
    *,
    lands: bool | None,
    save: bool,
) -> tuple[PyTree, PyTree, PyTree]:
    solver, controller = join_solver(dynamic, static)
    return _run(sde, key, x0, ts, args, solver, lands=lands, save=save, controller=controller)


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
    times, lands = check_grid(sde, ts)
    key, x0 = check_key(key), check_start(sde, x0)
    if key.ndim != 0:
        raise ValueError(f"key must be one key, got shape {key.shape}; simulate_batch takes one key per sample")
    if controller is None:
        dynamic, static = split_solver(_check_solver(sde, solver))
        return times, x0, _run_jit(sde, key, x0, times, args, dynamic, static=static, lands=lands, save=save)
    if solver is None:
        if sde.diffusion is not None and sde.manifold is None:
            raise ValueError(
                "an adaptive solve of an SDE needs a solver with an error estimate, named by you: for additive noise "
                "diffrax.ShARK(), else diffrax.HalfSolver(diffrax.ItoMilstein())"
            )
        solver = dfx.Tsit5()
    solver = _check_solver(sde, solver, fixed=False)
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
    dynamic, static = split_solver((solver, controller))
    return times, x0, _adaptive_jit(sde, key, x0, times, args, dynamic, static=static, lands=lands, save=save)


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
            the first step and, where the SDE lands, the last interval; ``ts=[0, first, T]`` leaves it free beyond the
            first. An SDE needs a solver named.

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
