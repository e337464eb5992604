"""What diffrax solvers see of an SDE: a drift term, a noise term and a path of increments already drawn.

    dx = drift dt + G dW   ->   MultiTerm(DriftTerm(drift), NoiseTerm(G, path))

The increment of the current step comes from a ``StepIncrement`` made inside the scan, so there is no look-up in time
and nothing is drawn twice. ``ControlTerm`` would want a lineax operator for every diffusion; ``NoiseTerm`` takes
scalars and diagonals as they are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax
from jax import Array

from bridgejax._checks import check_like
from bridgejax._numerics import linear_combination
from bridgejax.processes.noise import check_additive, check_diffusion, times_noise
from bridgejax.processes.sde import SDE, Semilinear


class DriftTerm(dfx.AbstractTerm):
    """The drift, with what the exponential and the geodesic solvers ask for: the linear part, the manifold."""

    drift: Any
    semilinear: Semilinear | None
    manifold: Any = None

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        """drift(t, y, args), in float32 at least and no wider than y."""
        drift = check_like(self.drift(t, y, args), y, "drift")
        return jax.tree.map(lambda v, leaf: jnp.asarray(v, jnp.promote_types(leaf.dtype, jnp.float32)), drift, y)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        """t1 - t0."""
        return t1 - t0

    def prod(self, vf: Any, control: Any) -> Any:
        """Drift times step, in the dtype of the drift."""
        return linear_combination((control, vf))


class StepIncrement(dfx.AbstractPath):
    """The Brownian increment over one step: W, and space-time Levy area H where a solver wants it."""

    t0: Any
    t1: Any
    w: Any
    h: Any

    def evaluate(self, t0: Any, t1: Any = None, left: Any = True, use_levy: Any = False) -> Any:
        """The increment over [t0, t1], which must be the step itself."""
        if t0 is not self.t0 or t1 is not self.t1:
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

    diffusion: Any
    control: Any

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        """diffusion(t, y, args)."""
        return self.diffusion(t, y, args)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        """The Brownian increment over the step."""
        return self.control.evaluate(t0, t1, **kwargs)

    def prod(self, vf: Any, control: Any) -> Any:
        """G w."""
        return times_noise(vf, control)


def make_terms(sde: SDE, path: Any) -> dfx.AbstractTerm:
    """The terms of one step (or of an adaptive solve)."""
    drift = DriftTerm(sde.drift, sde.semilinear, sde.manifold)
    if sde.diffusion is None:
        return drift
    return dfx.MultiTerm(drift, NoiseTerm(sde.diffusion, path))


def split_of(terms: dfx.AbstractTerm) -> Semilinear:
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


def _denoised(denoiser: Any, t: Any, x: Any, args: Any) -> Any:
    return check_like(denoiser(t, x, args), x, "denoiser")


def noise_structure(sde: SDE, t: Array, x: Any, args: Any) -> Any:
    """Shapes and dtypes of the noise that drives ``sde`` at x; None for an ODE.

    Raises:
        ValueError: a diffusion that does not fit x, or depends on it without noise="state".
    """
    if sde.diffusion is None:
        return None
    found: list[Any] = []

    def look(t: Array, x: Any, args: Any) -> None:
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
