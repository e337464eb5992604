"""What every manifold here shares: one metric, a constant multiple of that of the coordinates a point is written in.

    <u, v> = c sum u v         grad f = (1/c) P_x (df/dx)        N(0, 1) of the tangent space: P_x w / sqrt(c)

with P_x the orthogonal projection onto the tangent space at x and w standard normal in the coordinates.
"""

from __future__ import annotations

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._checks import describe, is_real
from bridgejax._numerics import dtype_of, normal_like, safe_sqrt
from bridgejax._types import PyTree, State

_TOLERANCE = 128.0  # in units of the dtype's epsilon: 1.5e-5 in float32


class Manifold:
    """A Riemannian manifold in coordinates of a Euclidean space; see ``bridgejax.manifolds`` for those there are.

    A manifold of your own is a subclass, a frozen dataclass registered as a pytree, that gives what raises here.
    """

    metric: ClassVar[float] = 1.0

    # what each one gives --------------------------------------------------------------------------------------------

    @property
    def shape(self) -> PyTree:
        """Shape of a point."""
        raise NotImplementedError

    @property
    def dim(self) -> int:
        """Dimension of the manifold."""
        raise NotImplementedError

    def defect(self, x: State) -> Array:
        """How far x is from satisfying the manifold's equations, 0 on it."""
        raise NotImplementedError

    def project(self, x: State) -> State:
        """The nearest point of the manifold."""
        raise NotImplementedError

    def to_tangent(self, x: State, v: State) -> State:
        """The orthogonal projection of v onto the tangent space at x."""
        raise NotImplementedError

    def exp(self, x: State, v: State) -> State:
        """Where the geodesic that leaves x with velocity v is after unit time; the tangent part of v is used."""
        raise NotImplementedError

    def log(self, x: State, y: State) -> State:
        """The velocity with which the shortest geodesic leaves x to reach y in unit time; one of them where several do.

        exp(x, log(x, y)) = y everywhere. On the cut locus (antipodes, rotations by pi) it is one of the shortest
        geodesics, the same one for the same points; values and gradients are finite there.
        """
        raise NotImplementedError

    def uniform(self, key: Array) -> State:
        """A draw of the uniform law: Haar measure on a group, volume over its total elsewhere."""
        raise NotImplementedError

    @property
    def log_volume(self) -> float:
        """Log of the total volume, in this metric: the uniform law has density exp(-log_volume)."""
        raise NotImplementedError

    def ricci(self, x: State, v: State) -> State:
        """The Ricci curvature as an operator on tangent vectors, Ric(v, .) = <ricci(x, v), .>."""
        raise NotImplementedError

    # what follows ---------------------------------------------------------------------------------------------------

    def contains(self, x: State) -> Array:
        """Whether x is a point of the manifold to rounding: its defect within 128 epsilons, 1.5e-5 in float32."""
        eps = max(float(jnp.finfo(dtype_of(leaf)).eps) for leaf in jax.tree.leaves(x))
        return self.defect(x) <= _TOLERANCE * eps

    def inner(self, x: State, u: State, v: State) -> Array:
        """<u, v> at x."""
        products = jax.tree.map(lambda a, b: self.metric * jnp.sum(a * b), u, v)
        return sum(jax.tree.leaves(products), start=jnp.zeros(()))

    def distance(self, x: State, y: State) -> Array:
        """Length of the shortest geodesic."""
        v = self.log(x, y)
        return safe_sqrt(self.inner(x, v, v))

    def tangent_noise(self, x: State, w: State) -> State:
        """The standard normal of the tangent space at x made from standard normal coordinates w, shaped like x."""
        v = self.to_tangent(x, w)
        return v if self.metric == 1.0 else jax.tree.map(lambda leaf: leaf * (1.0 / math.sqrt(self.metric)), v)

    def tangent_normal(self, key: Array, x: State) -> State:
        """A standard normal draw of the tangent space: E <u, v>^2 = <u, u> for every tangent u."""
        return self.tangent_noise(x, normal_like(key, x))

    def gradient(self, x: State, euclidean: State) -> State:
        """The Riemannian gradient at x of a function whose gradient in the coordinates is ``euclidean``."""
        v = self.to_tangent(x, euclidean)
        return v if self.metric == 1.0 else jax.tree.map(lambda leaf: leaf / self.metric, v)

    def features(self, x: State) -> Array:
        """x as a vector without a seam, for a network to read: here its coordinates."""
        return jnp.asarray(x).reshape(-1)

    def check(self, x: State, name: str = "x") -> State:
        """Return x, one point or many with leading axes, if it lies on the manifold.

        Raises:
            ValueError: another shape, complex or no numbers, not finite, or off the manifold: by how much, and where.
        """
        self._check_form(x, name)
        if isinstance(x, Tracer):
            return x
        with jax.ensure_compile_time_eval():  # also where the caller is traced
            x = jnp.asarray(x, dtype_of(jnp.asarray(x)))
            rows = x.reshape(-1, *self.shape)
            if not np.all(np.isfinite(np.asarray(rows))):
                raise ValueError(f"{name} holds numbers that are not finite")
            if rows.shape[0] == 0:
                raise ValueError(f"{name} holds no point")
            defects = np.asarray(jax.vmap(self.defect)(rows))
        worst = int(np.argmax(defects))
        if defects[worst] > _TOLERANCE * float(jnp.finfo(rows.dtype).eps):
            where = f" (row {worst} of {len(rows)})" if len(rows) > 1 else ""
            raise ValueError(f"{name} must lie on {self!r}: {self._complaint(rows[worst], defects[worst])}{where}")
        return x

    def _one(self, x: Array) -> Array:
        """Return x if it has the shape of one point: every function here takes one, and a sum over rows would be wrong.

        Raises:
            ValueError: another shape.
        """
        if jnp.iscomplexobj(x) or jnp.shape(x) != self.shape:
            self._check_form(x, "x")
            raise ValueError(f"x must be one point of {self!r}, of shape {self.shape}, got {jnp.shape(x)}; use vmap")
        return x

    def _complaint(self, x: Array, defect: float) -> str:
        return f"it is off by {defect:.3g}; take the nearest point, manifold.project(x), by vmap for many"

    def _check_form(self, x: State, name: str) -> None:
        """Raise unless x is an array of real numbers whose last axes are those of a point."""
        if isinstance(x, tuple | list) and any(hasattr(part, "shape") for part in x):
            raise ValueError(f"{name} must be one array of last axes {self.shape}, a point of {self!r}, got a tuple")
        dtype = getattr(x, "dtype", None)
        if dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(f"{name} must be real, a point of {self!r}, got {dtype}{self._of_complex(x)}")
        if not is_real(x):
            raise ValueError(f"{name} must be an array of real numbers, a point of {self!r}, got {describe(x)}")
        shape, size = np.shape(x), len(self.shape)
        if len(shape) < size or shape[len(shape) - size :] != self.shape:
            raise ValueError(f"{name} must have last axes {self.shape}, a point of {self!r}, got shape {shape}")

    def _of_complex(self, x: State) -> str:
        return "; this manifold has no complex points, take x.real if the imaginary part is zero"
