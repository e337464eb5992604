"""Markov chain Monte Carlo moves: Langevin and Hamiltonian, adjusted or not, by energies or by scores alone.

One family. Refresh the momentum, take L leapfrog steps of size e, accept or turn back:

    v <- c v + sqrt(1 - c^2) xi,    v+ = v + e/2 s(x),    x' = x + e v+,    v' = v+ + e/2 s(x')        L times
    accept with probability min(1, exp(log p(x') - log p(x) + |v|^2/2 - |v'|^2/2));  on rejection v <- -v

    name   L    c    accepts     in the other notation
    ula    1    0    always      x' = x + h s + sqrt(2 h) xi,  h = e^2 / 2
    mala   1    0    Metropolis  the same; its ratio of N(x; x' + h s', 2h) has the exponents -|.|^2 / (4h)
    uhmc   L    c    always
    hmc    L    c    Metropolis  generalised HMC; without the sign flip on rejection it has another stationary law

Where only the score is known, log p(x') - log p(x) is its line integral by the trapezoidal rule, on the straight line
from x to x' ("line", n nodes, n - 2 more scores) or along the leapfrog points, whose scores are there already ("path").
Both are exact for a Gaussian, the first tends to exact with n. Along the path the acceptance probability is exactly
exp(-e^2 (|s(x')|^2 - |s(x)|^2) / 8): the kinetic energy cancels all else. (Du et al. 2023, Reduce, reuse, recycle; the
line integral: Sjoeberg, Lindqvist, Oestman & Schliep 2023, arXiv 2307.14012; partial refreshment: Horowitz 1991.)

A point whose log density or score is not finite has density zero by rule: no move goes there, and each one refused for
that is counted (``refused``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._checks import as_real, check_count, check_number, check_positive, describe
from bridgejax._numerics import as_wide, cast_like, normal_like
from bridgejax._summary import summary
from bridgejax._types import LogDensity, Numbers, PyTree, Scalar

DIFFERENCES = ("energy", "line", "path")


@dataclass(frozen=True)
class Move:
    """A Markov kernel; made by ``ula``, ``mala``, ``uhmc`` or ``hmc``. Hashable: a static argument."""

    leapfrogs: int = 1
    persistence: float = 0.0
    adjusted: bool = True
    difference: str | None = None
    nodes: int = 5

    __repr__ = summary


def _move(leapfrogs: int, persistence: float, *, adjusted: bool, difference: str | None, nodes: int) -> Move:
    check_number(persistence=persistence)
    if not 0.0 <= persistence < 1.0:
        raise ValueError(f"persistence must lie in [0, 1), the share of momentum kept, got {persistence}")
    if difference is not None and (not isinstance(difference, str) or difference not in DIFFERENCES):
        raise ValueError(f"difference must be None or one of {DIFFERENCES}, got {describe(difference)}")
    return Move(
        check_count("leapfrogs", leapfrogs), float(persistence), adjusted, difference, check_count("nodes", nodes, 2)
    )


def ula() -> Move:
    """Unadjusted Langevin: biased by its step size.

    Example:
        >>> import bridgejax as bj
        >>> bj.mcmc.ula().adjusted
        False
    """
    return _move(1, 0.0, adjusted=False, difference=None, nodes=2)


def mala(*, difference: str | None = None, nodes: int = 5) -> Move:
    """Metropolis-adjusted Langevin.

    Args:
        difference: how log p(x') - log p(x) is found: "energy", "line" or "path" (see above); None: "energy" where the
            density has one, else "line".
        nodes: of the line integral, ends included.

    Example:
        >>> import bridgejax as bj
        >>> bj.mcmc.mala().leapfrogs
        1
    """
    return _move(1, 0.0, adjusted=True, difference=difference, nodes=nodes)


def uhmc(*, leapfrogs: int = 3, persistence: float = 0.5) -> Move:
    """Unadjusted Hamiltonian moves: biased by their step size.

    Args:
        leapfrogs: L.
        persistence: c, the share of momentum kept between moves, in [0, 1).

    Example:
        >>> import bridgejax as bj
        >>> bj.mcmc.uhmc(leapfrogs=5).adjusted
        False
    """
    return _move(leapfrogs, persistence, adjusted=False, difference=None, nodes=2)


def hmc(*, leapfrogs: int = 3, persistence: float = 0.5, difference: str | None = None, nodes: int = 5) -> Move:
    """Hamiltonian Monte Carlo with partial refreshment.

    Args:
        leapfrogs: L.
        persistence: c, the share of momentum kept between moves, in [0, 1).
        difference: as in ``mala``.
        nodes: as in ``mala``.

    Example:
        >>> import bridgejax as bj
        >>> move = bj.mcmc.hmc(leapfrogs=5)
        >>> move.leapfrogs, move.adjusted
        (5, True)
    """
    return _move(leapfrogs, persistence, adjusted=True, difference=difference, nodes=nodes)


def check_move(move: object) -> None:
    """Raise a ``ValueError`` unless ``move`` is one, or None."""
    if move is not None and not isinstance(move, Move):
        raise ValueError(f"move must be made by mcmc.ula, mala, uhmc or hmc, got {describe(move)}")


def check_sizes(move: object, step_sizes: Numbers | None, count: int) -> Array:
    """Leapfrog steps of ``count`` levels, from one number or as many.

    Raises:
        ValueError: a move without step sizes, sizes that are not positive or of another number.
    """
    if move is not None and step_sizes is None:
        raise ValueError("move needs step_sizes, one number or one for each level; see mcmc.tune")
    sizes = as_wide(as_real(1.0 if step_sizes is None else step_sizes, "step_sizes"))
    check_positive(step_sizes=sizes)
    if sizes.shape not in ((), (count,)):
        raise ValueError(f"step_sizes must be a number or ({count},), one for each level, got {sizes.shape}")
    return jnp.broadcast_to(sizes, (count,))


# one move of one chain --------------------------------------------------------------------------------------------


class Chain(NamedTuple):
    """State of a chain; score and log density are those at x, kept so that no point is evaluated twice."""

    x: Array
    v: Array
    score: Array
    log_density: Array

    __repr__ = summary


class Outcome(NamedTuple):
    """Acceptance probability (of an unadjusted move: that it would have had), and whether the proposal was invalid."""

    acceptance: Array
    refused: Array

    __repr__ = summary


def start_chain(score: Callable[[Array], Array], log_density: LogDensity | None, x: Array, v: Array) -> Chain:
    """A chain at x; where the density is not finite it counts as zero, and the score as zero.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> log_density = lambda x: -0.5 * jnp.sum(x**2)
        >>> chain = bj.mcmc.start_chain(jax.grad(log_density), log_density, jnp.ones(2), jnp.zeros(2))
        >>> float(chain.log_density)
        -1.0
    """
    s = score(x)
    value = jnp.zeros(()) if log_density is None else log_density(x)
    valid = jnp.isfinite(value) & jnp.all(jnp.isfinite(s))
    return Chain(x, v, jnp.where(valid, s, 0.0), jnp.where(valid, value, -jnp.inf))


def _line(score: Callable[[Array], Array], x: Array, y: Array, first: Array, last: Array, nodes: int) -> Array:
    """int_0^1 s(x + r (y - x)) . (y - x) dr by the trapezoidal rule."""
    inner = [score(x + (k / (nodes - 1)) * (y - x)) for k in range(1, nodes - 1)]
    total = 0.5 * (first + last) + sum(inner, start=jnp.zeros_like(x))
    return jnp.sum(total * (y - x)) / (nodes - 1)


def step(
    move: Move, score: Callable[[Array], Array], log_density: LogDensity | None, key: Array, chain: Chain, size: Scalar
) -> tuple[Chain, Outcome]:
    """One move of one chain at a fixed target.

    Args:
        move: which.
        score: ``score(x)``.
        log_density: ``log_density(x)``, or None where the line integral is used.
        key: of this move.
        chain: the state, from ``start_chain``.
        size: leapfrog step e.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> log_density = lambda x: -0.5 * jnp.sum(x**2)
        >>> score = jax.grad(log_density)
        >>> chain = bj.mcmc.start_chain(score, log_density, jnp.ones(2), jnp.zeros(2))
        >>> chain, outcome = bj.mcmc.step(bj.mcmc.hmc(), score, log_density, jax.random.key(0), chain, 0.3)
        >>> chain.x.shape, bool(outcome.acceptance <= 1.0)
        ((2,), True)
    """
    noise_key, accept_key = jax.random.split(key)
    xi = normal_like(noise_key, chain.v)
    v = move.persistence * chain.v + jnp.sqrt(1.0 - move.persistence**2) * xi

    def leapfrog(carry: PyTree, _: object) -> PyTree:
        x, v, s, work = carry
        half = v + 0.5 * size * s
        y = x + size * half
        new = score(y)
        return cast_like((y, half + 0.5 * size * new, new, work + 0.5 * jnp.sum((s + new) * (y - x))), carry), None

    begin = (chain.x, v, chain.score, jnp.zeros(()))
    (y, u, s, work), _ = jax.lax.scan(leapfrog, begin, None, move.leapfrogs)
    new = jnp.zeros(()) if log_density is None else log_density(y)
    if log_density is not None:
        gain = new - chain.log_density
    else:
        gain = work if move.difference == "path" else _line(score, chain.x, y, chain.score, s, move.nodes)
    gain = gain + 0.5 * jnp.sum(v**2) - 0.5 * jnp.sum(u**2)
    invalid = ~(jnp.isfinite(new) & jnp.all(jnp.isfinite(y)) & jnp.all(jnp.isfinite(s)))
    escaping = jnp.isneginf(chain.log_density)  # from a point of density zero any valid point is better
    gain = jnp.where(escaping, jnp.inf, gain)
    acceptance = jnp.where(invalid | jnp.isnan(gain), 0.0, jnp.exp(jnp.minimum(gain, 0.0)))
    accept = jax.random.uniform(accept_key) < acceptance if move.adjusted else ~invalid
    turned = Chain(chain.x, -v, chain.score, chain.log_density)
    chosen = jax.tree.map(partial(jnp.where, accept), Chain(y, u, s, new), turned)
    return cast_like(chosen, chain), Outcome(acceptance, invalid)


def several(
    move: Move,
    score: Callable[[Array], Array],
    log_density: LogDensity | None,
    key: Array,
    x: Array,
    v: Array,
    size: Scalar,
    count: int,
) -> tuple[Chain, Outcome]:
    """``count`` moves of one chain at a fixed target, see ``step``. The outcome is summed over them."""

    def one(chain: Chain, key: Array) -> tuple[Chain, Outcome]:
        return step(move, score, log_density, key, chain, size)

    chain, outcome = jax.lax.scan(one, start_chain(score, log_density, x, v), jax.random.split(key, count))
    return chain, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), outcome)
