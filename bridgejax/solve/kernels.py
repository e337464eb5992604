"""Step kernels: the exact law of one step of a simulation, so that a simulated path can be weighed without bias.

    euler          N(x + b h, Sigma h)
    exponential    N((sigma_u/sigma_t) e^-h x + alpha_u (1 - e^-2h) D, sigma_u^2 (1 - e^-2h))       (SEEDS-1, DDPM)
    ou             the exact noising step N(S_tu x, V_tu) of a schedule
    gaussian       N(mean(t, u, x, args), scale(t, u, x, args)^2), for anything else
    underdamped    on (x, v): v1 = a v + sqrt(2 g) h c + sqrt(1 - a^2) z,  a = e^(-g h),  then one leapfrog step

Where a step has a law at all, F(x_u | x_t) and a backward B(x_t | x_u) have a ratio, also where the noise is singular:
a coordinate without noise must be at its mean on both sides and drops out, and an underdamped step is a volume-
preserving map of (x, v1), so both densities are those of the velocity's noise. A step with no noise at all has no
density, and its ``log_prob`` is nan. (Geffner & Domke 2023, arXiv 2208.07698; Blessing, Berner, Richter & Neumann
2025, arXiv 2503.01006.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import lineax
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from bridgejax._checks import check_like, check_number, check_positive
from bridgejax._numerics import as_wide, cast_like, gaussian_log_density, linear_combination, normal_like, safe_sqrt
from bridgejax._types import Args, Field, Numbers, PyTree, Scalar, State, TimeFn
from bridgejax.processes._keys import check_one_key, stream
from bridgejax.processes._schedule import Center, Schedule, check_schedule, noising
from bridgejax.processes.linear import gaussian_vector_log_prob
from bridgejax.processes.noise import check_diffusion, times_noise
from bridgejax.processes.sde import SDE, Kernel, check_callable, check_end, check_flat, check_sde
from bridgejax.solve._accepted import check_state, check_times, times_for
from bridgejax.solve._simulate import Path
from bridgejax.solve._solvers.one_step import step_coefficients

__all__ = ["euler", "exponential", "gaussian", "ou", "underdamped", "walk"]


def __dir__() -> list[str]:
    return __all__


TransitionFn = Callable[[Array, Array, State, Args], State]  # f(t, u, x, args), a coefficient of the step from t to u
_ON_MEAN = 1e-5  # a coordinate without noise may miss its mean by this much, relatively: float32 rounding

# Gaussian kernels ---------------------------------------------------------------------------------------------------


def _scales(scale: State, x: State) -> State:
    """``scale`` as a pytree like x."""
    if jax.tree.structure(scale) != jax.tree.structure(x):
        scale = jax.tree.map(lambda leaf: scale, x)
    return jax.tree.map(lambda s, leaf: jnp.broadcast_to(s, jnp.shape(leaf)), scale, x)


def _gaussian_sample(
    mean: TransitionFn, scale: TransitionFn, key: Array, t: Array, u: Array, x: State, args: Args
) -> State:
    drawn = times_noise(scale(t, u, x, args), normal_like(key, x))
    return linear_combination((1.0, mean(t, u, x, args)), (1.0, drawn))


def diagonal_log_prob(y: State, mean: State, scale: State) -> Array:
    """log N(y; mean, diag(scale^2)) over the coordinates with noise.

    Nan where none has any, or where one without noise is not on its mean.
    """
    y, mean, scale = (as_wide(ravel_pytree(tree)[0]) for tree in (y, mean, _scales(scale, y)))
    noisy = scale > 0
    safe = jnp.where(noisy, scale, 1.0)
    terms = jnp.where(noisy, gaussian_log_density(((y - mean) / safe) ** 2, 2.0 * jnp.log(safe)), 0.0)
    missed = ~noisy & (jnp.abs(y - mean) > _ON_MEAN * (1.0 + jnp.abs(mean)))
    return jnp.where(jnp.any(noisy) & ~jnp.any(missed), jnp.sum(terms), jnp.nan)


def _gaussian_log_prob(
    mean: TransitionFn, scale: TransitionFn, t: Array, u: Array, x: State, y: State, args: Args
) -> Array:
    return diagonal_log_prob(y, mean(t, u, x, args), scale(t, u, x, args))


def gaussian(mean: TransitionFn, scale: TransitionFn, T: float = 1.0) -> Kernel:
    """N(mean, scale^2).

    Args:
        mean: ``mean(t, u, x, args)``, shaped like x.
        scale: ``scale(t, u, x, args)``, the standard deviation: a number, or an array or pytree like x.
        T: end of its clock.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> halved = bj.kernels.gaussian(lambda t, u, x, args: 0.5 * x, lambda t, u, x, args: 1.0)
        >>> x = jnp.array([2.0])
        >>> print(round(float(halved.log_prob(0.0, 1.0, x, jnp.array([1.0]), None)), 4))   # on its mean: -log(2 pi) / 2
        -0.9189
    """
    mean = check_callable(mean, "mean", "mean(t, u, x, args)")
    scale = check_callable(scale, "scale", "scale(t, u, x, args)")
    return Kernel(Partial(_gaussian_sample, mean, scale), Partial(_gaussian_log_prob, mean, scale), T)


# kernels of an SDE --------------------------------------------------------------------------------------------------


def _require_noise(sde: object, name: str) -> None:
    if not isinstance(sde, SDE):
        raise ValueError(f"kernels.{name} needs an SDE, got {type(sde).__name__}")
    check_sde(sde)
    check_flat(sde, f"kernels.{name}")
    if sde.diffusion is None:
        raise ValueError(f"kernels.{name}: this SDE has no noise (diffusion=None), so its steps have no density")


def _euler_mean(sde: SDE, t: Array, u: Array, x: State, args: Args) -> State:
    return linear_combination((1.0, x), (u - t, check_like(sde.drift(t, x, args), x, "drift")))


def _euler_sample(sde: SDE, key: Array, t: Array, u: Array, x: State, args: Args) -> State:
    assert sde.diffusion is not None
    g = sde.diffusion(t, x, args)
    check_diffusion(g, x)
    noise = normal_like(key, g.in_structure() if isinstance(g, lineax.AbstractLinearOperator) else x)
    return linear_combination((1.0, _euler_mean(sde, t, u, x, args)), (jnp.sqrt(u - t), times_noise(g, noise)))


def _euler_log_prob(sde: SDE, t: Array, u: Array, x: State, y: State, args: Args) -> Array:
    assert sde.diffusion is not None
    g, mean = sde.diffusion(t, x, args), _euler_mean(sde, t, u, x, args)
    check_diffusion(g, x)
    root = jnp.sqrt(u - t)
    if not isinstance(g, lineax.AbstractLinearOperator):
        return diagonal_log_prob(y, mean, jax.tree.map(lambda leaf: root * leaf, g))
    matrix = root * g.as_matrix()
    return gaussian_vector_log_prob(ravel_pytree(y)[0], ravel_pytree(mean)[0], matrix @ matrix.T)


def euler(sde: SDE) -> Kernel:
    """The Euler-Maruyama step of an SDE, as ``simulate(..., solver=Euler())`` takes it.

    A dense diffusion must have full rank; of a diagonal one coordinates may be without noise.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> law = bj.kernels.euler(bj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0))
        >>> path = bj.kernels.walk(law, jax.random.key(0), jnp.ones(2), bj.grids.uniform(10))
        >>> path.xs.shape
        (11, 2)
    """
    _require_noise(sde, "euler")
    return Kernel(Partial(_euler_sample, sde), Partial(_euler_log_prob, sde), sde.T)


def _exponential_mean(sde: SDE, s: Array, v: Array, x: State, args: Args) -> State:
    assert sde.semilinear is not None
    schedule, denoiser = sde.semilinear
    t, u = schedule.T - s, schedule.T - v
    ratio, decay, gain = step_coefficients(schedule, t, u)
    return linear_combination(
        (ratio * decay, x), (schedule.alpha(u) * gain, check_like(denoiser(t, x, args), x, "denoiser"))
    )


def _exponential_scale(schedule: Schedule, s: Array, v: Array, x: State, args: Args) -> Array:
    t, u = schedule.T - s, schedule.T - v
    return schedule.sigma(u) * safe_sqrt(step_coefficients(schedule, t, u)[2])


def exponential(sde: SDE) -> Kernel:
    """The step of ``ExponentialEuler`` for a reverse SDE made from a Schedule.

    A step into clean data (sigma_u = 0) has no density; end the grid before T.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule, data = bj.schedules.vp(), bj.mixtures.gaussian_mixture([[0.0]], 1.0)
        >>> law = bj.kernels.exponential(bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule)))
        >>> bj.kernels.walk(law, jax.random.key(0), jnp.zeros(1), bj.grids.uniform(10, 0.9)).xs.shape
        (11, 1)
    """
    _require_noise(sde, "exponential")
    if sde.semilinear is None:
        raise ValueError("kernels.exponential needs an SDE made from a Schedule (sde.semilinear); use kernels.euler")
    return gaussian(Partial(_exponential_mean, sde), Partial(_exponential_scale, sde.semilinear.schedule), sde.T)


def ou(schedule: Schedule, center: Center = 0.0) -> Kernel:
    """The exact noising step of a schedule, on the noising clock: the backward kernel of a learned sampler.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> law, x = bj.kernels.ou(bj.schedules.vp()), jnp.ones(2)
        >>> law.sample(jax.random.key(0), 0.0, 0.5, x, None).shape
        (2,)
    """
    check_schedule(schedule)
    law = noising(schedule, center).kernel
    assert law is not None
    return law


# underdamped --------------------------------------------------------------------------------------------------------


class _Langevin(NamedTuple):
    """What a step is made of."""

    force: Field
    friction: Scalar
    control: Field | None
    clock: TimeFn | None
    stop_gradient: object  # None, or anything: draws are constants to a gradient

    def duration(self, t: Array, u: Array) -> Array:
        """h, the time that a step from t to u takes."""
        return u - t if self.clock is None else self.clock(u) - self.clock(t)


def _refresh(law: _Langevin, t: Array, u: Array, x: State, v: State, args: Args) -> tuple[State, Array]:
    """Mean and standard deviation of the velocity after the noise of a step (t, u)."""
    h, friction, control = law.duration(t, u), law.friction, law.control
    spread = safe_sqrt(-jnp.expm1(-2.0 * friction * h))
    mean = linear_combination((jnp.exp(-friction * h), v))
    if control is not None:
        mean = linear_combination((1.0, mean), (jnp.sqrt(2.0 * friction) * h, control(t, (x, v), args)))
    return mean, spread


def _leapfrog(law: _Langevin, t: Array, u: Array, z: State, args: Args, *, sign: float) -> tuple[PyTree, PyTree]:
    """Half a kick, a drift, half a kick, all at u; ``sign=-1`` takes them back. It keeps volumes."""
    x, v = z
    h = sign * law.duration(t, u)
    v = linear_combination((1.0, v), (0.5 * h, law.force(u, x, args)))
    x = linear_combination((1.0, x), (h, v))
    return x, linear_combination((1.0, v), (0.5 * h, law.force(u, x, args)))


def _forward_sample(law: _Langevin, key: Array, t: Array, u: Array, z: State, args: Args) -> State:
    x, v = z
    mean, spread = _refresh(law, t, u, x, v, args)
    kicked = linear_combination((1.0, mean), (spread, normal_like(key, v)))
    kicked = kicked if law.stop_gradient is None else jax.lax.stop_gradient(kicked)
    return _leapfrog(law, t, u, (x, kicked), args, sign=1.0)


def _forward_log_prob(law: _Langevin, t: Array, u: Array, z: State, y: State, args: Args) -> Array:
    x, v = z
    _, kicked = _leapfrog(law, t, u, y, args, sign=-1.0)
    return diagonal_log_prob(kicked, *_refresh(law, t, u, x, v, args))


def _backward_sample(law: _Langevin, T: float, key: Array, s: Array, r: Array, z: State, args: Args) -> State:
    t, u = T - r, T - s
    x, kicked = _leapfrog(law, t, u, z, args, sign=-1.0)
    mean, spread = _refresh(law, t, u, x, kicked, args)
    return x, linear_combination((1.0, mean), (spread, normal_like(key, mean)))


def _backward_log_prob(law: _Langevin, T: float, s: Array, r: Array, z: State, y: State, args: Args) -> Array:
    t, u = T - r, T - s
    x, kicked = _leapfrog(law, t, u, z, args, sign=-1.0)
    return diagonal_log_prob(y[1], *_refresh(law, t, u, x, kicked, args))


def underdamped(
    force: Field,
    friction: Scalar = 1.0,
    *,
    control: Field | None = None,
    clock: TimeFn | None = None,
    T: float = 1.0,
    direction: str = "forward",
    stop_gradient: bool = False,
) -> Kernel:
    """Underdamped Langevin steps on a state ``(x, v)``: noise on the velocity, then one leapfrog step.

    Forward and backward kernels of the same ``force`` undo each other's leapfrog exactly, so their ratio is that of
    two Gaussians of the velocity.

    Args:
        force: ``force(t, x, args) = grad log density`` at t, shaped like x; t on the forward clock in both directions.
        friction: g, per unit time.
        control: ``control(t, (x, v), args)`` shaped like v, in units of the noise; None: none.
        clock: ``clock(t)``, increasing: a step from t to u takes the time h = clock(u) - clock(t); None: u - t.
        T: end of the clock.
        direction: "forward", or "backward" for the kernel that ``path_log_ratio`` takes as its backward one (its own
            times run from T - u to T - t).
        stop_gradient: the velocities drawn are constants to a gradient, for estimators that differentiate the densities
            of a path and not the path. The positions still depend on the parameters, through the leapfrog step.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> law = bj.kernels.underdamped(lambda t, x, args: -x, friction=2.0)
        >>> path = bj.kernels.walk(law, jax.random.key(0), (jnp.zeros(2), jnp.zeros(2)), bj.grids.uniform(20))
        >>> x, v = path.xs
        >>> x.shape, v.shape
        ((21, 2), (21, 2))
    """
    force, T = check_callable(force, "force", "force(t, x, args)"), check_end(T)
    check_number(friction=friction)
    check_positive(friction=friction)
    control = None if control is None else check_callable(control, "control", "control(t, (x, v), args)")
    clock = None if clock is None else check_callable(clock, "clock", "clock(t)")
    law = _Langevin(force, friction, control, clock, () if stop_gradient else None)
    if direction == "forward":
        return Kernel(Partial(_forward_sample, law), Partial(_forward_log_prob, law), T)
    if direction != "backward":
        raise ValueError(f"direction must be 'forward' or 'backward', got {direction!r}")
    return Kernel(Partial(_backward_sample, law, T), Partial(_backward_log_prob, law, T), T)


# running one --------------------------------------------------------------------------------------------------------


def walk_steps(kernel: Kernel, key: Array, x0: State, ts: Array, args: Args) -> tuple[PyTree, PyTree]:
    """The last state and all later ones; step k draws from ``fold_in(stream(key, "steps"), k)``."""
    key = stream(key, "steps")

    def step(x: State, interval: PyTree) -> tuple[PyTree, PyTree]:
        k, t, u = interval
        y = cast_like(kernel.sample(jax.random.fold_in(key, k), t, u, x, args), x)
        return y, y

    ts = times_for(ts, x0, kernel.T)
    return jax.lax.scan(step, x0, (jnp.arange(ts.shape[0] - 1), ts[:-1], ts[1:]))


@jax.jit
def _walk(kernel: Kernel, key: Array, x0: State, ts: Array, args: Args) -> State:
    xs = walk_steps(kernel, key, x0, ts, args)[1]
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), x0, xs)


def walk(kernel: Kernel, key: Array, x0: State, ts: Numbers, args: Args = None) -> Path:
    """A path of one kernel over a grid, one sample; step k draws from ``fold_in(stream(key, "steps"), k)``.

    Args:
        kernel: the law of a step.
        key: one threefry key.
        x0: start state.
        ts: increasing times within [0, T].
        args: the sample's own condition.

    Returns:
        Path with ``noise`` None.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> law = bj.kernels.ou(bj.schedules.vp())
        >>> bj.kernels.walk(law, jax.random.key(0), jnp.ones(3), jnp.array([0.0, 0.4, 1.0])).xs.shape
        (3, 3)
    """
    if not isinstance(kernel, Kernel):
        raise ValueError(f"kernel must be a Kernel, got {type(kernel).__name__}")
    check_callable(kernel.sample, "sample", "sample(key, t, u, x, args) of the kernel")
    times, _ = check_times(kernel.T, ts)
    x0 = check_state(x0)
    times = times_for(times, x0, kernel.T)
    return Path(times, _walk(kernel, check_one_key(key), x0, times, args), None)
