"""Solvers for SDEs on a manifold: every step is a geodesic, so every state is a point of the manifold.

    geodesic Euler      x' = exp_x(b h + g w),    w normal of the tangent space at x, of variance h
                        (the geodesic random walk; weak order 1)
    geodesic midpoint   y = exp_x(h b(t, x) / 2),    x' = exp_x(h P_x P_y b(t + h/2, y))    for an ODE; order 2
                        half the noise, then that, then half the noise    for an SDE with noise g(t); weak order 2

P_x is the projection onto the tangent space at x, which differs from parallel transport along the step by O(h^2) only.
Half the noise is exp_x((1 - q Ric/12) sqrt(q) z), q = g(t + h/2)^2 h/2: a normal step of variance q errs by q^2/12 Ric
of the second derivatives, and on a symmetric space, where Ric is parallel, steps shortened like this are Brownian
motion to second order. (On the sphere of dimension d, Ric = d - 1, E cos(sqrt(q) |z|) = 1 - d q/2 + d (d + 2) q^2/24 +
..., for e^(-d q/2).)

(Jorgensen 1975 for the walk; Strang 1968 for the splitting.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import diffrax as dfx
import jax
import lineax
from jax import Array

from bridgejax._numerics import linear_combination
from bridgejax._types import Args, NoiseFactor, PyTree, State
from bridgejax.geometry.manifolds import Manifold
from bridgejax.processes.noise import times_noise
from bridgejax.solve._solvers.terms import BoolLike, DriftTerm, StepResult, Terms

_OK = dfx.RESULTS.successful


def tangent_step(manifold: Manifold, g: NoiseFactor, x: State, w: PyTree) -> State:
    """g w as a tangent vector at x: g times normal coordinates, projected, or what an operator g makes of them."""
    if isinstance(g, lineax.AbstractLinearOperator):
        return g.mv(w)
    return manifold.tangent_noise(x, times_noise(g, w))


class AbstractGeodesic(dfx.AbstractItoSolver):
    """A solver for SDEs with a manifold."""

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., dfx.LocalLinearInterpolation]] = dfx.LocalLinearInterpolation

    def init(self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args) -> None:
        """No state."""
        return None

    def func(self, terms: Terms, t0: Array, y0: State, args: Args) -> State:
        """The vector field."""
        return terms.vf(t0, y0, args)

    def _parts(self, terms: Terms) -> tuple[PyTree, PyTree, PyTree]:
        """Manifold, drift and noise (None for an ODE) of the terms."""
        drift, noise = terms.terms if isinstance(terms, dfx.MultiTerm) else (terms, None)
        if not isinstance(drift, DriftTerm) or drift.manifold is None:
            raise ValueError(
                f"{type(self).__name__} needs the manifold of an SDE, which diffrax's own terms do not have; call "
                "bridgejax.simulate(bridgejax.SDE(..., manifold=...), ..., solver=...)"
            )
        return drift.manifold, drift, noise


class GeodesicEuler(AbstractGeodesic):
    """x' = exp_x(b h + g w): the geodesic random walk, weak order 1, for any noise.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sphere = bj.manifolds.Sphere(2)
        >>> sde = bj.SDE(lambda t, x, args: 0.0 * x, lambda t, x, args: 1.0, manifold=sphere)   # Brownian motion
        >>> pole, solver = jnp.array([0.0, 0.0, 1.0]), bj.solvers.GeodesicEuler()
        >>> x = bj.simulate(sde, jax.random.key(0), pole, bj.grids.uniform(50), solver=solver)
        >>> bool(abs(x @ x - 1.0) < 1e-5)
        True
    """

    def order(self, terms: Terms) -> int:
        """Order for ODEs."""
        return 1

    def strong_order(self, terms: Terms) -> float:
        """Strong order."""
        return 0.5

    def step(
        self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args, solver_state: PyTree, made_jump: BoolLike
    ) -> StepResult:
        """One step."""
        manifold, drift, noise = self._parts(terms)
        v = linear_combination((t1 - t0, drift.vf(t0, y0, args)))
        if noise is not None:
            w = tangent_step(manifold, noise.vf(t0, y0, args), y0, noise.contr(t0, t1))
            v = linear_combination((1.0, v), (1.0, w))
        y1 = manifold.exp(y0, v)
        return y1, None, dict(y0=y0, y1=y1), None, _OK


class GeodesicMidpoint(AbstractGeodesic):
    """Geodesic midpoint rule for the drift, between two halves of the noise: order 2, weak order 2 for noise g(t).

    Two evaluations of the drift a step.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sphere = bj.manifolds.Sphere(2)
        >>> sde = bj.SDE(lambda t, x, args: 0.0 * x, lambda t, x, args: 1.0, manifold=sphere)   # Brownian motion
        >>> pole, solver = jnp.array([0.0, 0.0, 1.0]), bj.solvers.GeodesicMidpoint()
        >>> x = bj.simulate(sde, jax.random.key(0), pole, bj.grids.uniform(50), solver=solver)
        >>> bool(abs(x @ x - 1.0) < 1e-5)
        True
    """

    def order(self, terms: Terms) -> int:
        """Order for ODEs."""
        return 2

    def strong_order(self, terms: Terms) -> float:
        """Strong order."""
        return 0.5

    def step(
        self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args, solver_state: PyTree, made_jump: BoolLike
    ) -> StepResult:
        """One step."""
        manifold, drift, noise = self._parts(terms)
        h, middle = t1 - t0, 0.5 * (t0 + t1)
        if noise is None:
            y1 = self._drift(manifold, drift, t0, middle, h, y0, args)
            return y1, None, dict(y0=y0, y1=y1), None, _OK
        path = noise.contr(t0, t1, use_levy=True)
        # W and H are independent, of variance h and h/12: so are these two, of variance h/2 each
        halves = [linear_combination((0.5, path.W), (sign * math.sqrt(3.0), path.H)) for sign in (1.0, -1.0)]
        y1 = self._diffuse(manifold, noise.vf(middle, y0, args), h, y0, halves[0])
        y1 = self._drift(manifold, drift, t0, middle, h, y1, args)
        y1 = self._diffuse(manifold, noise.vf(middle, y1, args), h, y1, halves[1])
        return y1, None, dict(y0=y0, y1=y1), None, _OK

    def _drift(
        self, manifold: Manifold, drift: Terms, t0: Array, middle: Array, h: Array, x: State, args: Args
    ) -> State:
        y = manifold.exp(x, linear_combination((0.5 * h, drift.vf(t0, x, args))))
        there = manifold.to_tangent(y, drift.vf(middle, y, args))
        return manifold.exp(x, linear_combination((h, there)))

    def _diffuse(self, manifold: Manifold, g: NoiseFactor, h: Array, x: State, w: PyTree) -> State:
        v = manifold.tangent_noise(x, times_noise(g, w))
        shorter = manifold.ricci(x, times_noise(jax.tree.map(lambda leaf: leaf**2 * h / 24.0, g), v))
        return manifold.exp(x, linear_combination((1.0, v), (-1.0, shorter)))
