"""What diffrax solvers see of an SDE: a drift term, a noise term and a path of increments already drawn.

    dx = drift dt + G dW   ->   MultiTerm(DriftTerm(drift), NoiseTerm(G, path))

The increment of the current step comes from a ``StepIncrement`` made inside the scan, so there is no look-up in time
and nothing is drawn twice. ``ControlTerm`` would want a lineax operator for every diffusion; ``NoiseTerm`` takes
scalars and diagonals as they are.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax
from jax import Array

from bridgejax._checks import check_like
from bridgejax._numerics import linear_combination
from bridgejax._types import Args, DiffusionFn, Field, PyTree, State
from bridgejax.geometry.manifolds import Manifold
from bridgejax.processes.noise import check_additive, check_diffusion, times_noise
from bridgejax.processes.sde import SDE, Semilinear

BoolLike: TypeAlias = bool | Array
"""A boolean, Python's or an array of shape ()."""

Terms: TypeAlias = Any
"""A diffrax term, or a ``MultiTerm`` of a drift and a noise, whose ``.terms`` its base class does not declare."""

StepResult: TypeAlias = tuple[State, State | None, dict[str, State], PyTree, dfx.RESULTS]
"""What a solver's ``step`` returns: the state, its error estimate, the dense output, the solver's state, a result."""


class DriftTerm(dfx.AbstractTerm):
    """The drift, with what the exponential and the geodesic solvers ask for: the linear part, the manifold."""

    drift: Field
    semilinear: Semilinear | None
    manifold: Manifold | None = None

    def vf(self, t: Array, y: State, args: Args) -> PyTree:
        """drift(t, y, args), in float32 at least and no wider than y."""
        drift = check_like(self.drift(t, y, args), y, "drift")
        return jax.tree.map(lambda v, leaf: jnp.asarray(v, jnp.promote_types(leaf.dtype, jnp.float32)), drift, y)

    def contr(self, t0: Array, t1: Array, **kwargs: bool) -> Array:
        """t1 - t0."""
        return t1 - t0

    def prod(self, vf: PyTree, control: PyTree) -> PyTree:
        """Drift times step, in the dtype of the drift."""
        return linear_combination((control, vf))


class StepIncrement(dfx.AbstractPath):
    """The Brownian increment over one step: W, and space-time Levy area H where a solver wants it."""

    t0: Array
    t1: Array
    w: PyTree
    h: PyTree

    def evaluate(self, t0: Array, t1: Array | None = None, left: BoolLike = True, use_levy: BoolLike = False) -> PyTree:
        """The increment over [t0, t1], which must be the step itself."""
        if t1 is None or t0 is not self.t0 or t1 is not self.t1:
            raise ValueError(
                "this solver asks for noise inside a step, which a fixed grid of increments does not have; "
                "use another solver, or an adaptive solve (controller=...), which draws from a Brownian tree"
            )
        if not use_levy:
            return self.w
        dt = jnp.asarray(t1 - t0)
        if self.h is None:
            return dfx.BrownianIncrement(dt=dt, W=self.w)
        return dfx.SpaceTimeLevyArea(dt=dt, W=self.w, H=self.h)


class NoiseTerm(dfx.AbstractTerm):
    """diffusion(t, x, args) dW."""

    diffusion: DiffusionFn
    control: PyTree

    def vf(self, t: Array, y: State, args: Args) -> PyTree:
        """diffusion(t, y, args)."""
        return self.diffusion(t, y, args)

    def contr(self, t0: Array, t1: Array, **kwargs: bool) -> PyTree:
        """The Brownian increment over the step."""
        return self.control.evaluate(t0, t1, **kwargs)

    def prod(self, vf: PyTree, control: PyTree) -> PyTree:
        """G w."""
        return times_noise(vf, control)


def make_terms(sde: SDE, path: dfx.AbstractPath) -> dfx.AbstractTerm:
    """The terms of one step (or of an adaptive solve)."""
    drift = DriftTerm(sde.drift, sde.semilinear, sde.manifold)
    if sde.diffusion is None:
        return drift
    return dfx.MultiTerm(drift, NoiseTerm(sde.diffusion, path))


def semilinear_of(terms: dfx.AbstractTerm) -> Semilinear:
    """The ``(schedule, denoiser)`` of the drift's term, alone or beside the noise."""
    drift = terms.terms[0] if isinstance(terms, dfx.MultiTerm) else terms
    drift = getattr(drift, "term", drift)  # diffeqsolve wraps terms for time's direction, which is forward here
    if not isinstance(drift, DriftTerm):
        raise ValueError(
            "an exponential solver needs the schedule and denoiser of an SDE, which diffrax's own terms do not have; "
            "call bridgejax.simulate(sde, ..., solver=...) instead of diffrax.diffeqsolve"
        )
    assert drift.semilinear is not None  # simulate refuses an exponential solver for an SDE without one
    return Semilinear(drift.semilinear.schedule, partial(_denoised, drift.semilinear.denoiser))


def _denoised(denoiser: Field, t: Array, x: State, args: Args) -> State:
    return check_like(denoiser(t, x, args), x, "denoiser")


def noise_structure(sde: SDE, t: Array, x: State, args: Args) -> PyTree:
    """Shapes and dtypes of the noise that drives ``sde`` at x; None for an ODE.

    Raises:
        ValueError: a diffusion that does not fit x, or depends on it without noise="state".
    """
    if sde.diffusion is None:
        return None
    found: list[PyTree] = []

    def look(t: Array, x: State, args: Args) -> None:
        assert sde.diffusion is not None
        g = sde.diffusion(t, x, args)
        check_diffusion(g, x)
        found.append(g.in_structure() if isinstance(g, lineax.AbstractLinearOperator) else None)

    jax.eval_shape(look, t, x, args)
    if sde.noise == "additive":
        check_additive(sde.diffusion, t, x, args)
    if found[0] is not None:
        return found[0]
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), x)
