"""Bridges that end in a set: the Omega-bridge of a linear reference.

For x_T | x_t ~ N(S x_t, V I) the process conditioned to end in Omega has the drift of Doob's transform with
h(t, x) = P(x_T in Omega | x_t = x), and every case is one identity,

    eta(t, x) = g^2 S (E[Y | Y in Omega] - S x) / V,      Y ~ N(S x, V I),

so a domain only has to know its restricted Gaussian (geometry/domains.py). Adding g f(t, x) with a finite
E int |f|^2 dt keeps the end in Omega, which is what makes a network safe there (Liu, Wu, Ye & Liu 2022, arXiv
2208.14699):

    dx = [rate x + eta + g f] dt + g dW

On a finite set the drift may be given instead by a tilt of the reference's probabilities, P(Y = y_k) exp(tilt_k(t, x)),
with E[Y | Y in Omega] and the last step those of the tilted law. Where the tilt is bounded f is safe, and the best one
for weights pi on the whole set is constant: log pi_k less the log of the reference's probability of y_k.

The terminal kernel is exact, the restricted Gaussian itself; with f frozen over the interval the Gaussian is
shifted by V f / (S g), with a tilt it is tilted. So every sample is in Omega and nothing is rounded outside the
process. At f = 0 the last step is exact whatever the interval: with ``ts = [0, T]`` one step draws the law of x_T given
that it is in Omega.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._numerics import linear_combination, safe_divide
from bridgejax._types import Args, Field, State, Time
from bridgejax.geometry._domain import Domain
from bridgejax.processes._schedule import Schedule, check_schedule, schedule_diffusion
from bridgejax.processes.sde import SDE, Kernel, check_callable

_METHODS = ("contains", "snap", "expectation", "sample", "log_prob")


def check_domain(domain: object) -> None:
    """Raise a ``ValueError`` unless ``domain`` is a pytree with the methods of ``geometry.domains.Domain``."""
    missing = [name for name in _METHODS if not callable(getattr(domain, name, None))]
    if missing:
        raise ValueError(
            f"domain must have the methods {', '.join(_METHODS)}; {type(domain).__name__} has no {missing[0]}"
        )
    if jax.tree_util.all_leaves([domain]):
        raise ValueError(
            f"domain must be a pytree, so that it can be traced; {type(domain).__name__} is none: decorate the class "
            "with jax.tree_util.register_dataclass or register_static"
        )


def check_tilt(domain: object) -> None:
    """Raise a ``ValueError`` unless the points of ``domain`` can be tilted."""
    if not callable(getattr(domain, "tilt_shape", None)):
        raise ValueError(
            f"a tilt needs a finite set (FinitePoints, IntegerGrid, Categorical), and {type(domain).__name__} is none; "
            "use f"
        )


def expected_end(schedule: Schedule, domain: Domain, t: Time, x: State, *tilt: Array) -> tuple[State, Array, Array]:
    """``(E[x_T | x_t = x, x_T in Omega], S, V)``, of the tilted law where there is a tilt."""
    scale, variance = schedule.scale(t, schedule.T), schedule.variance(t, schedule.T)
    return domain.expectation(linear_combination((scale, x)), variance, *tilt), scale, variance


def _at(tilt: Field | None, t: Array, x: State, args: Args) -> tuple[Array, ...]:
    return () if tilt is None else (tilt(t, x, args),)


def _drift(
    schedule: Schedule, domain: Domain, f: Field | None, tilt: Field | None, t: Array, x: State, args: Args
) -> State:
    end, scale, variance = expected_end(schedule, domain, t, x, *_at(tilt, t, x, args))
    pull = safe_divide(schedule.diffusion_squared(t) * scale, variance)
    terms = [(schedule.rate(t) - pull * scale, x), (pull, end)]
    if f is not None:
        terms.append((schedule.diffusion(t), f(t, x, args)))
    return linear_combination(*terms)


def _terminal_moments(schedule: Schedule, f: Field | None, t: Array, x: State, args: Args) -> tuple[State, Array]:
    """Mean and variance of the Gaussian to restrict."""
    scale, variance = schedule.scale(t, schedule.T), schedule.variance(t, schedule.T)
    mean = linear_combination((scale, x))
    if f is None:
        return mean, variance
    shift = safe_divide(variance, scale * schedule.diffusion(t))
    return linear_combination((1.0, mean), (shift, f(t, x, args))), variance


def _terminal_sample(
    schedule: Schedule,
    domain: Domain,
    f: Field | None,
    tilt: Field | None,
    key: Array,
    t: Array,
    u: Array,
    x: State,
    args: Args,
) -> State:
    mean, variance = _terminal_moments(schedule, f, t, x, args)
    return domain.sample(key, mean, variance, *_at(tilt, t, x, args))


def _terminal_log_prob(
    schedule: Schedule,
    domain: Domain,
    f: Field | None,
    tilt: Field | None,
    t: Array,
    u: Array,
    x: State,
    y: State,
    args: Args,
) -> Array:
    return domain.log_prob(y, *_terminal_moments(schedule, f, t, x, args), *_at(tilt, t, x, args))


def constrain(schedule: Schedule, domain: Domain, f: Field | None = None, *, tilt: Field | None = None) -> SDE:
    """The schedule's SDE conditioned to end in ``domain``, with an optional learnt drift g f on top.

    Args:
        schedule: the linear reference; it runs from the start (0) to the data (T): ``brownian``, ``ou``, ...
        domain: see ``geometry.domains``, or a user's own.
        f: ``f(t, x, args)`` shaped like x, bounded; None: the reference itself given its end in the domain.
        tilt: ``tilt(t, x, args)`` of shape ``domain.tilt_shape(x.shape)``, bounded: log weights of the points of a
            finite set, ``FinitePoints``, ``IntegerGrid`` or ``Categorical``.

    Returns:
        An SDE that ends in the domain exactly; ``terminal_kernel.log_prob`` is the law of its last step.

    Raises:
        ValueError: no Schedule, one whose signal vanishes at T, a domain without the methods, or a tilt of one that is
            not finite.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.constrain(bj.schedules.brownian(1.0), bj.domains.Box(0.0, 1.0))
        >>> x = bj.simulate(sde, jax.random.key(0), jnp.zeros(3), bj.grids.uniform(10))
        >>> bool(jnp.all((x >= 0.0) & (x <= 1.0)))
        True
    """
    check_schedule(schedule)
    if schedule.zero_terminal_snr:
        raise ValueError("this schedule forgets its start before T, so no state can be pulled; use brownian or ou")
    check_domain(domain)
    f = None if f is None else check_callable(f, "f", "f(t, x, args)")
    if tilt is not None:
        check_tilt(domain)
        tilt = check_callable(tilt, "tilt", "tilt(t, x, args)")
    bound = (schedule, domain, f, tilt)
    terminal = Kernel(Partial(_terminal_sample, *bound), Partial(_terminal_log_prob, *bound), schedule.T)
    return SDE(Partial(_drift, *bound), Partial(schedule_diffusion, schedule), schedule.T, terminal_kernel=terminal)


def residual(schedule: Schedule, domain: Domain, t: Time, x: State, end: State) -> State:
    """What f has to learn: (b(t, x | x_T = end) - eta) / g = g S (end - E[x_T | x_t, Omega]) / V.

    Args:
        schedule: the reference.
        domain: the set.
        t: time before T.
        x: a state of the bridge to ``end``.
        end: a data point.
    """
    expected, scale, variance = expected_end(schedule, domain, t, x)
    factor = safe_divide(schedule.diffusion(t) * scale, variance)
    return jax.tree.map(lambda a, b: jnp.asarray(factor * (a - b), b.dtype), end, expected)
