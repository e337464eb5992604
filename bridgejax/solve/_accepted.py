"""What a simulation accepts: a grid of times, a start state and a solver that fits the SDE; errors for all else."""

from __future__ import annotations

from typing import Any, get_args, get_origin

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._checks import describe, is_real
from bridgejax._numerics import as_time
from bridgejax._types import DType, State
from bridgejax.processes.sde import SDE, check_sde
from bridgejax.solve._solvers.geodesic import AbstractGeodesic, GeodesicEuler, GeodesicMidpoint
from bridgejax.solve._solvers.multistep import DPMSolverPP2M
from bridgejax.solve._solvers.one_step import AbstractExponential, Euler, ExponentialEuler, Heun

SLACK = 1e-6  # a grid that ends this close to T, relatively, ends at T


def default_solver(sde: SDE) -> dfx.AbstractSolver:
    """The solver used when none is named.

    Geodesic on a manifold, exponential where the SDE has a semilinear form, else Heun (ODE) or Euler (SDE).
    """
    if sde.manifold is not None:
        return GeodesicMidpoint() if sde.diffusion is None else GeodesicEuler()
    if sde.semilinear is not None:
        return DPMSolverPP2M() if sde.diffusion is None else ExponentialEuler()
    return Heun() if sde.diffusion is None else Euler()


def check_grid(sde: SDE, ts: Any) -> tuple[Array, bool | None]:
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
    slack = SLACK * T
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


def unwrapped(solver: dfx.AbstractSolver) -> Any:
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


def check_solver(sde: SDE, solver: Any, *, fixed: bool = True) -> dfx.AbstractSolver:
    if solver is None:
        return default_solver(sde)
    if not isinstance(solver, dfx.AbstractSolver):
        raise ValueError(f"solver must be a diffrax solver such as bridgejax.solvers.Euler(), got {solver!r}")
    wrapped, solver = solver, unwrapped(solver)
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
