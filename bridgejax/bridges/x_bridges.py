"""Diffusions that end at a given point x: four ways to make one, and mixtures of them.

An x-bridge is an SDE with Q(Z_T = x) = 1, dZ = b(t, Z | x) dt + g(t) dW, Z_0 ~ Q_0(. | x) (Liu, Wu, Ye & Liu 2022,
arXiv 2208.14699). Drawing x from data makes a mixture of bridges; its Markov projection, the drift

    s*(t, z) = E[b(t, Z_t | X) | Z_t = z],                                             the minimiser of
    E_X E_{Z ~ Q^X} int |s(t, Z_t) - b(t, Z_t | X)|^2 / (2 g^2) dt,

has the mixture's marginals and so ends in the data's law. All are linear, Z_t | x ~ N(mean, std^2 I):

    pinned    Doob's transform of a schedule     rate z + g^2 S (x - S z) / V           start chosen, law of ``pin``
    reversal  a noising run from x, backwards    (f - 2 r) z + 2 (r - f) alpha x        Z_0 ~ N(alpha_T x, sigma_T^2)
    forced    Lyapunov: |z - x|^2 pulled down    -alpha_t (z - x)                       start chosen
    added     one of these, plus g f(t, z, x)    f bounded: the paths' laws are equivalent, so the end is the same

``reversal`` of ``schedules.ve`` is SMLD and of ``schedules.vp`` DDPM: bridges whose start depends on x. ``forced`` with
alpha_t = g^2 / (beta_T - beta_t) is ``pinned`` on Brownian motion. With A(t) = int_0^t alpha its law is

    mean = x + e^-A (z_0 - x),      variance = e^-2A (start_std^2 + int_0^t e^2A(s) g_s^2 ds),

and it ends at x when A(T) is infinite and g^2 / alpha vanishes at T, which is the caller's to see to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_broadcasts, check_finite, check_nonnegative, check_number
from bridgejax._numerics import as_time, dtype_of, linear_combination, normal_like, safe_sqrt
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Field, NoiseFactor, Numbers, Scalar, State, Time, TimeFn
from bridgejax.bridges import interpolants
from bridgejax.bridges._reverse import reverse
from bridgejax.bridges.pinned import pin
from bridgejax.bridges.transforms import control
from bridgejax.processes._schedule import Schedule, check_schedule, gaussian_log_prob
from bridgejax.processes.sde import SDE, Kernel, bind, check_callable, check_end

__all__ = [
    "XBridge",
    "added",
    "forced",
    "pinned",
    "posterior",
    "projection",
    "reversal",
]


def __dir__() -> list[str]:
    return __all__


@partial(register_dataclass, data_fields=("sde_fn", "marginal_fn"), meta_fields=("T",))
@dataclass(frozen=True)
class XBridge:
    """A family of SDEs, one for every end point x; made by the functions of this module.

    Args:
        sde_fn: ``sde_fn(T, x)``, the SDE that ends at x at time T, which is static and so no leaf of its own.
        marginal_fn: ``marginal_fn(t, x) -> (mean, std)`` of Z_t given x; None where there is no closed form.
        T: end of the clock (static).
    """

    sde_fn: Callable[..., SDE]
    marginal_fn: Callable[..., tuple[State, Array]] | None = None
    T: float = 1.0

    __repr__ = summary

    def __post_init__(self) -> None:
        object.__setattr__(self, "T", check_end(self.T))
        for name in ("sde_fn", "marginal_fn"):
            object.__setattr__(self, name, bind(getattr(self, name), name))

    def sde(self, x: Array) -> SDE:
        """The SDE that ends at x exactly."""
        return self.sde_fn(self.T, x)

    def drift(self, t: Time, z: Array, x: Array) -> Array:
        """b(t, z | x), what a matching loss regresses on."""
        return self.sde(x).drift(as_time(t), z, None)

    def marginal(self, t: Time, x: Array) -> tuple[Array, Array]:
        """``(mean, std)`` of Z_t given x.

        Raises:
            ValueError: the bridge has no closed form.
        """
        if self.marginal_fn is None:
            raise ValueError("this bridge has no closed marginal (it was given an extra drift); simulate its sde(x)")
        return self.marginal_fn(as_time(t), x)

    def start(self, key: Array, x: Array) -> Array:
        """A draw of Z_0 given x."""
        return self.draw(key, 0.0, x)

    def draw(self, key: Array, t: Time, x: Array) -> Array:
        """A draw of Z_t given x."""
        mean, std = self.marginal(t, x)
        return linear_combination((1.0, mean), (std, normal_like(key, x)))


def check_bridge(bridge: object, name: str = "bridge") -> None:
    """Raise a ``ValueError`` unless ``bridge`` is an XBridge."""
    if not isinstance(bridge, XBridge):
        raise ValueError(f"{name} must be an XBridge, got {type(bridge).__name__}; see bridgejax.bridges.x_bridges")


def _check_start(start: Numbers, std: Scalar) -> tuple[Array, Array]:
    start = as_real(start, "start")
    check_finite(start=start)
    check_number(start_std=std)
    check_nonnegative(start_std=std)
    return start, as_real(std, "start_std")


def _like(start: Array, x: Array) -> Array:
    check_broadcasts(start, x, "start")
    return jnp.broadcast_to(start, x.shape).astype(dtype_of(x))


# (i) conditioning ---------------------------------------------------------------------------------------------------


def _pinned_sde(schedule: Schedule, T: float, x: Array) -> SDE:
    return pin(schedule, x)


def _pinned_marginal(schedule: Schedule, start: Array, std: Array, t: Array, x: Array) -> tuple[Array, Array]:
    path = interpolants.bridge(schedule)
    assert path.b is not None
    assert path.c is not None
    a = path.a(t)
    mean = linear_combination((a, _like(start, x)), (path.b(t), x))
    return mean, safe_sqrt((a * std) ** 2 + path.c(t) ** 2)


def pinned(schedule: Schedule, start: Numbers = 0.0, start_std: Scalar = 0.0) -> XBridge:
    """(i) The schedule's SDE from N(start, start_std^2 I) conditioned to be at x at time T (``pin``).

    Args:
        schedule: the reference, running from the start (0) to the data (T): ``brownian``, ``ou``, ...
        start: a number or an array that broadcasts to x.
        start_std: a number >= 0.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bridge = bj.x_bridges.pinned(bj.schedules.brownian())
        >>> mean, std = bridge.marginal(0.25, jnp.array([4.0]))                      # from 0 to 4
        >>> float(mean[0]), round(float(std), 4)
        (1.0, 0.433)
    """
    check_schedule(schedule)
    bound = (schedule, *_check_start(start, start_std))
    return XBridge(Partial(_pinned_sde, schedule), Partial(_pinned_marginal, *bound), schedule.T)


# (ii) time reversal -------------------------------------------------------------------------------------------------


def _always(value: Array, t: Array, z: Array, args: Args) -> Array:
    return value


def _reversal_sde(schedule: Schedule, T: float, x: Array) -> SDE:
    return reverse(schedule, denoiser=Partial(_always, x))


def _reversal_marginal(schedule: Schedule, t: Array, x: Array) -> tuple[Array, Array]:
    return linear_combination((schedule.alpha(schedule.T - t), x)), schedule.sigma(schedule.T - t)


def reversal(schedule: Schedule) -> XBridge:
    """(ii) The schedule's noising SDE run from x and reversed: Z_0 | x ~ N(alpha_T x, sigma_T^2 I).

    Args:
        schedule: on the noising clock: ``ve`` (SMLD), ``vp`` (DDPM), ... The bridge runs on T less that clock.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bridge = bj.x_bridges.reversal(bj.schedules.vp())
        >>> mean, std = bridge.marginal(1.0, jnp.array([4.0]))                       # at its end it is at x
        >>> float(mean[0]), float(std)
        (4.0, 0.0)
    """
    check_schedule(schedule)
    return XBridge(Partial(_reversal_sde, schedule), Partial(_reversal_marginal, schedule), schedule.T)


# (iii) forced convergence -------------------------------------------------------------------------------------------

_PANELS = 64
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(6)


def _forced_moments(alpha: TimeFn, sigma: TimeFn, T: float, t: Array) -> tuple[Array, Array]:
    """``(A, int_0^t e^{-2 (A(t) - A(s))} g_s^2 ds)`` on the clock w = -log(1 - s/T), where c / (T - s) is constant."""
    end = -jnp.log(jnp.maximum(1.0 - t / T, 1e-7))
    h = end / _PANELS
    # within a panel: integrals from its beginning to each node, of the polynomial through the nodes
    powers = np.arange(6)
    inverse = np.linalg.inv(_POINTS[:, None] ** powers)
    to_node = (_POINTS[:, None] ** (powers + 1) - (-1.0) ** (powers + 1)) / (powers + 1) @ inverse
    w = h * (jnp.arange(_PANELS)[:, None] + 0.5 * (1.0 + jnp.asarray(_POINTS, h.dtype)))
    s = -T * jnp.expm1(-w)
    speed = T * jnp.exp(-w)
    rates = jax.vmap(jax.vmap(alpha))(s) * speed
    noise = jax.vmap(jax.vmap(sigma))(s) ** 2 * speed
    weights = 0.5 * h * jnp.asarray(_WEIGHTS, h.dtype)
    panels = rates @ weights
    with jax.default_matmul_precision("highest"):
        inside = 0.5 * h * rates @ jnp.asarray(to_node.T, h.dtype)
    # A(t) - A(s), counted from the end: nothing cancels
    left = (jnp.cumsum(panels[::-1])[::-1])[:, None] - inside
    return jnp.sum(panels), jnp.sum(weights * noise * jnp.exp(-2.0 * left))


def _forced_marginal(
    alpha: TimeFn, sigma: TimeFn, start: Array, std: Array, T: float, t: Array, x: Array
) -> tuple[Array, Array]:
    total, variance = _forced_moments(alpha, sigma, T, t)
    left = jnp.where(t >= T, 0.0, jnp.exp(-total))
    mean = linear_combination((left, _like(start, x)), (1.0 - left, x))
    return mean, safe_sqrt(jnp.where(t >= T, 0.0, (left * std) ** 2 + variance))


def _forced_drift(alpha: TimeFn, x: Array, t: Array, z: Array, args: Args) -> Array:
    rate = alpha(t)
    return linear_combination((-rate, z), (rate, x))


def _forced_noise(sigma: TimeFn, t: Array, z: Array, args: Args) -> Array:
    return sigma(t)


def _end_point(x: Array, key: Array, t: Array, u: Array, z: Array, args: Args) -> Array:
    return x


def _forced_sde(alpha: TimeFn, sigma: TimeFn, T: float, x: Array) -> SDE:
    return SDE(
        Partial(_forced_drift, alpha, x),
        Partial(_forced_noise, sigma),
        T,
        terminal_kernel=Kernel(Partial(_end_point, x), T=T),
    )


def _check_rate(f: TimeFn, name: str, T: float) -> TimeFn:
    f = check_callable(f, name, f"{name}(t)")
    values = jax.vmap(f)(T * jnp.asarray([0.0, 0.25, 0.5, 0.75]))
    if values.shape != (4,):
        raise ValueError(f"{name} must return one number for a time, got shape {values.shape[1:]}")
    if not isinstance(values, Tracer) and not bool(jnp.all(jnp.isfinite(values) & (values > 0))):
        raise ValueError(
            f"{name} must be positive and finite before T, got {np.asarray(values)} at t/T = 0, 1/4, 1/2, 3/4"
        )
    return f


def forced(
    alpha: TimeFn,
    sigma: TimeFn,
    start: Numbers = 0.0,
    start_std: Scalar = 0.0,
    T: float = 1.0,
) -> XBridge:
    """(iii) dZ = -alpha(t) (Z - x) dt + sigma(t) dW, pulled to x by the Lyapunov function |z - x|^2.

    Moments by Gauss-Legendre in -log(1 - t/T). For alpha = c / (T - t) with c <= 30 the rule's own error is below
    float32 rounding: std to 6e-6 up to t = 0.999 T and 1e-4 at 0.9999 T; c = 100 costs 3e-3 at 0.999 T.

    Args:
        alpha: ``alpha(t) > 0`` with an infinite integral up to T, finite before it; not checked beyond its sign.
        sigma: ``sigma(t) > 0`` with sigma^2 / alpha vanishing at T.
        start: a number or an array that broadcasts to x.
        start_std: a number >= 0.
        T: end of the clock.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bridge = bj.x_bridges.forced(lambda t: 1.0 / (1.0 - t), lambda t: 1.0)   # the Brownian bridge
        >>> print(bridge.drift(0.5, jnp.array([1.0]), jnp.array([4.0])))
        [6.]
    """
    T = check_end(T)
    alpha, sigma = _check_rate(alpha, "alpha", T), _check_rate(sigma, "sigma", T)
    bound = (alpha, sigma, *_check_start(start, start_std))
    return XBridge(Partial(_forced_sde, alpha, sigma), Partial(_forced_marginal, *bound, T), T)


# (iv) extra drift, and mixtures -------------------------------------------------------------------------------------


def _with_end(f: Field, x: Array, t: Array, z: Array, args: Args) -> Array:
    return f(t, z, x)


def _added_sde(bridge: XBridge, f: Field, T: float, x: Array) -> SDE:
    bent = control(bridge.sde(x), Partial(_with_end, f, x))
    return replace(bent, terminal_kernel=Kernel(Partial(_end_point, x), T=bridge.T))


def added(bridge: XBridge, f: Field) -> XBridge:
    """(iv) Another drift on top, dZ = [b + g f(t, Z, x)] dt + g dW, which still ends at x; no closed marginal.

    Args:
        bridge: an XBridge.
        f: ``f(t, z, x)`` shaped like x, with E int |f|^2 dt finite: bounded will do.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bridge = bj.x_bridges.added(bj.x_bridges.pinned(bj.schedules.brownian()), lambda t, z, x: jnp.ones(1))
        >>> print(bridge.drift(0.5, jnp.array([1.0]), jnp.array([4.0])))             # (4 - 1) / 0.5 and 1 on top
        [7.]
    """
    check_bridge(bridge)
    return XBridge(Partial(_added_sde, bridge, check_callable(f, "f", "f(t, z, x)")), None, bridge.T)


def posterior(bridge: XBridge, points: Array, weights: Array, t: Time, z: Array) -> Array:
    """log P(X = x_k | Z_t = z), shape (K,), for data x_k with ``weights``: what Bayes' rule says of the end.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bridge, points = bj.x_bridges.pinned(bj.schedules.brownian()), jnp.array([[0.0], [4.0]])
        >>> logs = bj.x_bridges.posterior(bridge, points, jnp.ones(2), 0.5, jnp.array([1.0]))
        >>> print(jnp.exp(logs))                                                     # half-way between the two means
        [0.5 0.5]
    """

    def log_joint(x: Array) -> Array:
        mean, std = bridge.marginal(t, x)
        return gaussian_log_prob(z, mean, std**2)

    return jax.nn.log_softmax(jnp.log(weights) + jax.vmap(log_joint)(points))


def _projected_drift(bridge: XBridge, points: Array, weights: Array, t: Array, z: Array, args: Args) -> Array:
    drifts = jax.vmap(bridge.drift, (None, None, 0))(t, z, points)
    # at a time where the bridges start from one point the densities say nothing of the end: the prior
    logs = posterior(bridge, points, weights, t, z)
    logs = jnp.where(jnp.isnan(logs), jnp.log(weights), logs)
    return jnp.tensordot(jnp.exp(logs), drifts, 1).astype(dtype_of(z))


def _projected_noise(bridge: XBridge, points: Array, t: Array, z: Array, args: Args) -> NoiseFactor:
    diffusion = bridge.sde(points[0]).diffusion
    assert diffusion is not None
    return diffusion(t, z, args)


def _projected_terminal_sample(
    bridge: XBridge, points: Array, weights: Array, key: Array, t: Array, u: Array, z: Array, args: Args
) -> Array:
    logs = posterior(bridge, points, weights, t, z)
    logs = jnp.where(jnp.isnan(logs), jnp.log(weights), logs)
    return points[jax.random.categorical(key, logs)].astype(dtype_of(z))


def projection(bridge: XBridge, points: Numbers, weights: Numbers | None = None) -> SDE:
    """The Markov projection of the mixture of bridges to finitely many data, in closed form.

    Its drift is what a network trained on them would be at best, s*(t, z) = sum_k P(x_k | Z_t = z) b(t, z | x_k); its
    last interval ends at a datum drawn by that probability.

    Args:
        bridge: an XBridge with a closed marginal.
        points: (K, *shape), the data.
        weights: (K,), positive; None: equal. They are normalised.

    Raises:
        ValueError: a bridge without marginal, weights that do not fit or are not positive.

    (Liu, Wu, Ye & Liu 2022, Let us build bridges: understanding and extending diffusion generative models, arXiv
    2208.14699.)

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bridge, points = bj.x_bridges.pinned(bj.schedules.brownian()), jnp.array([[0.0], [4.0]])
        >>> sde = bj.x_bridges.projection(bridge, points)
        >>> print(sde.drift(0.5, jnp.array([1.0]), None))                            # the mean of -2 and 6
        [2.]
    """
    check_bridge(bridge)
    if bridge.marginal_fn is None:
        raise ValueError(
            "projection needs the marginals of the bridge; one with an extra drift has none in closed form"
        )
    points = as_real(points, "points")
    if points.ndim < 1 or points.shape[0] == 0:
        raise ValueError(f"points must have shape (K, *shape) with K >= 1, got {points.shape}")
    weights = jnp.ones(points.shape[0]) if weights is None else as_real(weights, "weights")
    if weights.shape != points.shape[:1]:
        raise ValueError(f"weights must have shape {points.shape[:1]}, one for each point, got {weights.shape}")
    if not isinstance(weights, Tracer) and not bool(jnp.all((weights > 0) & jnp.isfinite(weights))):
        raise ValueError(f"weights must be positive and finite, got {np.asarray(weights)}")
    bound = (bridge, points, weights / jnp.sum(weights))
    terminal = Kernel(Partial(_projected_terminal_sample, *bound), T=bridge.T)
    return SDE(
        Partial(_projected_drift, *bound), Partial(_projected_noise, bridge, points), bridge.T, terminal_kernel=terminal
    )
