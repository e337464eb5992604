"""How far a potential, density or score is from being that of a diffusion: the residual of its evolution equation.

Let p_t be the marginals of dX = f dt + G dW with Sigma = G G^T, and v = f - (div Sigma + Sigma grad log p) / 2 their
velocity, that of the probability flow. For V = -log p_t the Fokker-Planck equation reads

    -dV/dt + div v - v . grad V = 0,

and for noise g(t), with r = T - t, the Hamilton-Jacobi-Bellman equation

    V_r + g^2 Delta V / 2 - f . grad V - g^2 |grad V|^2 / 2 + div f = 0        (Premkumar 2023, arXiv 2310.04490).

Its gradient is the equation of a score s = -grad V:  ds/dt + grad (div v + v . s) = 0.  (Lai et al. 2023, FP-Diffusion:
improving score-based diffusion models by enforcing the underlying score Fokker-Planck equation, arXiv 2210.04296).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, as_reals, check_like, check_number, describe
from bridgejax._numerics import as_time, linear_combination
from bridgejax._types import Args, Field, ScalarField, State, Time
from bridgejax.bridges._reverse import probability_flow
from bridgejax.processes._schedule import Schedule
from bridgejax.processes.sde import SDE, check_callable
from bridgejax.weigh._divergence import divergence


def _value(function: ScalarField, sign: float, name: str, t: Array, x: State, args: Args) -> Array:
    found = jnp.asarray(function(t, x, args))
    if found.shape != ():
        raise ValueError(f"{name} must return a number for one sample, got shape {found.shape}; sum over coordinates")
    return sign * found


def _score_of(potential: ScalarField, t: Array, x: State, args: Args) -> State:
    return jax.tree.map(jnp.negative, jax.grad(potential, argnums=1)(t, x, args))


def _dot(a: State, b: State) -> Array:
    terms = jax.tree.map(lambda u, v: jnp.sum(u * v), a, b)
    return sum(jax.tree.leaves(terms), start=jnp.zeros(()))


def _spread(sde_or_schedule: SDE | Schedule, score: Field, t: Array, x: State, args: Args) -> Array:
    """div v + v . s, which is -dV/dt where s is the score of the marginals."""
    flow = probability_flow(sde_or_schedule, score)  # it runs back: its drift is -v at T - t
    velocity, trace = divergence(lambda x: flow.drift(flow.T - t, x, args), x)
    return -trace - _dot(velocity, check_like(score(t, x, args), x, "score"))


def hjb_residual(
    sde_or_schedule: SDE | Schedule,
    t: Time,
    x: State,
    args: Args = None,
    *,
    log_density: ScalarField | None = None,
    potential: ScalarField | None = None,
    score: Field | None = None,
) -> Array | State:
    """The residual of the Hamilton-Jacobi-Bellman equation at one time and state; ``vmap`` it for many.

        V_r + g^2 Delta V / 2 - f . grad V - g^2 |grad V|^2 / 2 + div f,     V = -log p_t,  r = T - t

    It is 0 everywhere for the marginals of the SDE from whatever data, so it measures a learnt density without knowing
    the data, and does as a penalty in training. Noise that is a matrix or depends on the state is taken as it is. The
    cost is d + 1 derivatives of the velocity. (Premkumar 2023, Generative diffusion from an action principle, arXiv
    2310.04490.)

    Args:
        sde_or_schedule: what runs from data to noise; of a Schedule ``noising`` is meant.
        t: time on the noising clock.
        x: one state, an array or a pytree.
        args: its condition.
        log_density: ``log_density(t, x, args)``, log p_t(x) with its normalising constant, as it depends on t.
        potential: instead of it V = -log p_t.
        score: instead of it grad log p_t; the residual is then that of the gradient of the equation, in V's sign.

    Returns:
        A number per unit time; for a score a state like x.

    Raises:
        ValueError: none or several of log_density, potential and score, one that does not return a number (a state), an
            SDE on a manifold, t outside of the clock.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> schedule, law = bj.schedules.vp(), bj.mixtures.gaussian_mixture([[-1.0], [2.0]], 0.5)
        >>> log_density = lambda t, x, args: law.diffuse(schedule, t).log_prob(x)
        >>> residual = bj.hjb_residual(schedule, 0.3, jnp.array([0.7]), log_density=log_density)
        >>> bool(abs(residual) < 1e-4)
        True
    """
    if not isinstance(sde_or_schedule, SDE | Schedule):
        raise ValueError(f"sde_or_schedule must be an SDE or a Schedule, got {describe(sde_or_schedule)}")
    if isinstance(sde_or_schedule, SDE) and sde_or_schedule.manifold is not None:
        raise ValueError("sde_or_schedule runs on a manifold, and hjb_residual is for states in R^d")
    given = {"log_density": log_density, "potential": potential, "score": score}
    names = [name for name, function in given.items() if function is not None]
    if len(names) != 1:
        raise ValueError(f"pass one of log_density, potential and score, got {' and '.join(names) or 'none'}")
    check_number(t=t)
    time = as_time(as_real(t, "t") * 1.0)
    if not isinstance(time, Tracer) and not 0.0 <= float(time) <= sde_or_schedule.T * (1.0 + 1e-6):
        raise ValueError(f"t must be a time on the clock, in [0, {sde_or_schedule.T:g}], got {float(time):g}")
    state = as_reals(x, "x")
    function = check_callable(given[names[0]], names[0], f"{names[0]}(t, x, args) on the noising clock")
    if score is not None:
        _, moved = jax.jvp(lambda t: function(t, state, args), (time,), (jnp.ones_like(time),))
        pull = jax.grad(lambda x: _spread(sde_or_schedule, function, time, x, args))(state)
        return linear_combination((1.0, check_like(moved, state, "score")), (1.0, pull))
    bound = Partial(_value, function, -1.0 if log_density is not None else 1.0, names[0])
    slope = jax.grad(lambda t: bound(t, state, args))(time)
    return -slope + _spread(sde_or_schedule, Partial(_score_of, bound), time, state, args)
