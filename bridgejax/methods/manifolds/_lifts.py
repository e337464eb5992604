"""From a manifold to flat space and back: what the projected diffusion needs to know of torus, sphere and groups.

Flat noise  z = alpha psi(x) + sigma eps,  reversed  dH = (-r H + g^2 s) dt + g dB,  s = -eps / sigma,  r = log alpha'.
Its projection y = phi(H) has, at z,

    torus       phi(z) = z mod 2 pi             drift -r z + g^2 s                       covariance g^2
    sphere      phi(z) = z / |z|                drift (g^2 / |z|) P s                    covariance (g^2 / |z|^2) P
    U(n), SO(n) phi(z) = eigenvectors, by descending eigenvalue, of z Hermitian or symmetric
                drift U K,  K_ji = g^2 (U* s U)_ji / gap_ij,  gap_ij = lambda_i - lambda_j
                covariance g^2 / gap_ij^2 of the component of column i along column j

the parts of Ito's correction that are normal to the manifold left out: a geodesic step supplies them. In units of
g^2 / sigma and of g^2 these are ``m`` and ``c``, with -r sigma / g^2 = ``ratio``, and a network learns E[m | y] and
log E[c | y]. On the groups r z commutes with z and drops out. Nothing is differentiated through an eigendecomposition.

psi is the identity on torus and sphere; on a group psi(x) = x L x*, L = diag of equally spaced numbers, which forgets
the phases (signs) of the columns. They run beside it on a torus, n angles for U(n), n - 1 for SO(n), whose last sign is
that of the determinant; so the group is covered whole. The frame itself is brought to one form, each column with a real
and positive product with that of a reference, before a network sees it; data near the reference are far from where
that form jumps.

c has a mean, E[gap^-2], for U(n) and the spheres of dimension 2 and more, none for SO(n) and the circle: gaps and
lengths below ``floor`` sigma count as that, and their share is reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import lineax
from jax import Array

from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Key, NoiseFactor, Numbers, Scalar, State
from bridgejax.geometry.manifolds import SO, Manifold, Product, Sphere, Torus, U, complex_of, real_pair
from bridgejax.geometry.manifolds._unitary import dagger, mm, skew


class Targets(NamedTuple):
    """What a network is shown and learns, of one draw z.

    Attributes:
        y: the projection of z.
        m: drift, in units of g^2 / sigma, as a vector.
        c: variances, in units of g^2, as a vector.
        clipped: share of gaps (or lengths) that were raised to the floor.
    """

    y: State
    m: Array
    c: Array
    clipped: Array

    __repr__ = summary


class Lift(Protocol):
    """What every lift has; y is a state of its process, in flat space or beside it."""

    @property
    def state(self) -> Manifold:
        """The manifold of y."""
        ...

    @property
    def sizes(self) -> tuple[int, int]:
        """How many numbers a network returns: of m, and of log c."""
        ...

    def up(self, x: Array) -> State:
        """z_0 of a point."""
        ...

    def noise(self, key: Key) -> State:
        """Standard noise shaped like z."""
        ...

    def down(self, z: State) -> State:
        """y of z."""
        ...

    def features(self, y: State) -> Array:
        """What a network is shown of y."""
        ...

    def targets(self, z: State, eps: State, ratio: Scalar, floor: Scalar) -> Targets:
        """What a network regresses on."""
        ...

    def weights(self, log_c: Array) -> Array:
        """The weights of the coordinates of m in the loss."""
        ...

    def drift(self, y: State, m: Array) -> State:
        """The drift of y by m."""
        ...

    def diffusion(self, y: State, g: Scalar, c: Array) -> NoiseFactor:
        """The noise factor of y by c."""
        ...

    def decode(self, y: State) -> Array:
        """The point of y."""
        ...


@partial(register_dataclass, data_fields=(), meta_fields=("manifold",))
@dataclass(frozen=True)
class TorusLift:
    """Angles as numbers."""

    manifold: Torus

    __repr__ = summary

    @property
    def state(self) -> Manifold:
        """Where the process runs."""
        return self.manifold

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers in m and in c, which is constant here."""
        return self.manifold.d, 0

    def up(self, x: Array) -> Array:
        """psi."""
        return x

    def noise(self, key: Key) -> Array:
        """eps."""
        return jax.random.normal(key, self.manifold.shape)

    def down(self, z: Array) -> Array:
        """phi."""
        return self.manifold.project(z)

    def features(self, y: Array) -> Array:
        """What a network is shown."""
        return self.manifold.features(y)

    def targets(self, z: Array, eps: Array, ratio: Scalar, floor: Scalar) -> Targets:
        """m and c at z."""
        return Targets(self.down(z), ratio * z - eps, jnp.zeros((0,)), jnp.zeros(()))

    def weights(self, log_c: Array) -> Array:
        """1 over the variance of each component of m, in the units of m."""
        return jnp.ones(self.sizes[0])

    def drift(self, y: Array, m: Array) -> Array:
        """m as a tangent vector."""
        return m

    def diffusion(self, y: Array, g: Scalar, c: Array) -> NoiseFactor:
        """The noise of covariance g^2 c."""
        return g

    def decode(self, y: Array) -> Array:
        """The point of the manifold that the state stands for."""
        return y


@partial(register_dataclass, data_fields=(), meta_fields=("manifold",))
@dataclass(frozen=True)
class SphereLift:
    """Unit vectors as vectors."""

    manifold: Sphere

    __repr__ = summary

    @property
    def state(self) -> Manifold:
        """Where the process runs."""
        return self.manifold

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers in m and in c."""
        return self.manifold.d + 1, 1

    def up(self, x: Array) -> Array:
        """psi."""
        return x

    def noise(self, key: Key) -> Array:
        """eps."""
        return jax.random.normal(key, self.manifold.shape)

    def down(self, z: Array) -> Array:
        """phi."""
        return self.manifold.project(z)

    def features(self, y: Array) -> Array:
        """What a network is shown."""
        return y

    def targets(self, z: Array, eps: Array, ratio: Scalar, floor: Scalar) -> Targets:
        """m and c at z."""
        length, y = jnp.sqrt(jnp.sum(z**2)), self.down(z)
        r = jnp.maximum(length, floor)
        return Targets(y, -self.manifold.to_tangent(y, eps) / r, (1.0 / r**2)[None], (length < floor) * 1.0)

    def weights(self, log_c: Array) -> Array:
        """1 over the variance of each component of m, in the units of m."""
        return jnp.exp(-log_c[0]) * jnp.ones(self.sizes[0])

    def drift(self, y: Array, m: Array) -> Array:
        """m as a tangent vector."""
        return self.manifold.to_tangent(y, m)

    def diffusion(self, y: Array, g: Scalar, c: Array) -> NoiseFactor:
        """The noise of covariance g^2 c: a number."""
        return g * jnp.sqrt(c[0])

    def decode(self, y: Array) -> Array:
        """The point of the manifold that the state stands for."""
        return y


def _rotate(y: Array, c: Array, g: Scalar, real: object, w: State) -> State:
    """Noise w, shaped like (frame, angles), as a tangent vector: y (sqrt c * skew normal), and g times the angles."""
    a = skew(mm(dagger(y), w[0] if real else complex_of(w[0]))) * (math.sqrt(2.0) if real else 1.0)
    moved = mm(y, g * jnp.sqrt(c) * a)
    return (moved if real else real_pair(moved)), g * w[1]


@partial(register_dataclass, data_fields=("reference",), meta_fields=("manifold", "spacing"))
@dataclass(frozen=True)
class FrameLift:
    """Columns of a unitary or orthogonal matrix as eigenvectors, their phases or signs beside them."""

    manifold: U | SO
    reference: Array
    spacing: float = 1.0

    __repr__ = summary

    @property
    def real(self) -> bool:
        """Whether it is SO(n)."""
        return isinstance(self.manifold, SO)

    @property
    def angles(self) -> int:
        """How many phases."""
        return self.manifold.n - 1 if self.real else self.manifold.n

    @property
    def state(self) -> Manifold:
        """Where the process runs."""
        return Product(self.manifold, Torus(self.angles))

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers in m (K and the drift of the angles) and in c."""
        n = self.manifold.n
        return n * n * (1 if self.real else 2) + self.angles, n * n

    @property
    def levels(self) -> Array:
        """L, descending, of sum 0."""
        n = self.manifold.n
        return self.spacing * (0.5 * (n - 1) - jnp.arange(n))

    def _matrix(self, x: Array) -> Array:
        return x if self.real else complex_of(x)

    def _array(self, u: Array) -> Array:
        return u if self.real else real_pair(u)

    def _phases(self, u: Array) -> Array:
        """The phases (signs) of the columns beside those of the reference; 1 where they are orthogonal."""
        inner = jnp.sum(jnp.conj(self._matrix(self.reference)) * u, axis=0)
        size = jnp.abs(inner)
        return jnp.where(size > 0, inner / jnp.where(size > 0, size, 1.0), 1.0)

    def up(self, x: Array) -> tuple[Array, Array]:
        """psi: x L x*, and the angles."""
        u = self._matrix(x)
        phases = self._phases(u)
        angles = jnp.where(phases[:-1] < 0, math.pi, 0.0) if self.real else jnp.angle(phases)
        return mm(u * self.levels, dagger(u)), angles

    def noise(self, key: Key) -> tuple[Array, Array]:
        """Eps: a matrix of the Gaussian orthogonal or unitary ensemble, E |off-diagonal|^2 = 1, and normal angles.

        The diagonal has variance 2 (symmetric) or 1 (Hermitian), without which no rotation leaves the law as it is.
        """
        matrix_key, angle_key = jax.random.split(key)
        w = self._matrix(jax.random.normal(matrix_key, self.manifold.shape))
        # an entry of w has variance 1, of which a complex one has two
        return (w + dagger(w)) * (math.sqrt(0.5) if self.real else 0.5), jax.random.normal(angle_key, (self.angles,))

    def _eigen(self, h: Array) -> tuple[Array, Array]:
        """Descending eigenvalues, and eigenvectors in their one form."""
        values, vectors = jnp.linalg.eigh(h, symmetrize_input=False)
        values, vectors = values[::-1], vectors[:, ::-1]
        return values, vectors * jnp.conj(self._phases(vectors))

    def _frame(self, c: Array) -> Array:
        """A frame as a point of the group: of SO(n) the last column may change its sign."""
        if self.real:
            c = c.at[:, -1].multiply(jnp.where(jnp.linalg.det(c) < 0, -1.0, 1.0))
        return self._array(c)

    def down(self, z: tuple[Array, Array]) -> tuple[Array, Array]:
        """phi."""
        return self._frame(self._eigen(z[0])[1]), Torus(self.angles).project(z[1])

    def features(self, y: tuple[Array, Array]) -> Array:
        """What a network is shown: the frame in its one form, and cos and sin of the angles."""
        u = self._matrix(y[0])
        return jnp.concatenate([self._array(u * jnp.conj(self._phases(u))).reshape(-1), jnp.cos(y[1]), jnp.sin(y[1])])

    def targets(self, z: State, eps: State, ratio: Scalar, floor: Scalar) -> Targets:
        """m and c at z: one eigendecomposition and elementwise division."""
        values, u = self._eigen(z[0])
        n = self.manifold.n
        gaps = values[None, :] - values[:, None]  # (j, i): lambda_i - lambda_j
        off = ~jnp.eye(n, dtype=bool)
        small = off & (jnp.abs(gaps) < floor)
        size = jnp.where(off, jnp.maximum(jnp.abs(gaps), floor), 1.0)
        inverse = jnp.where(off, jnp.where(gaps < 0, -1.0, 1.0) / size, 0.0)
        k = -mm(dagger(u), eps[0], u) * inverse
        m = jnp.concatenate([self._array(k).reshape(-1), ratio * z[1] - eps[1]])
        y = self._frame(u), Torus(self.angles).project(z[1])
        return Targets(y, m, jnp.where(off, inverse**2, 1.0).reshape(-1), jnp.sum(small) / max(n * (n - 1), 1))

    def weights(self, log_c: Array) -> Array:
        """1 over the variance of each component of m, in the units of m."""
        n = self.manifold.n
        precision = jnp.broadcast_to(jnp.exp(-log_c.reshape(n, n)), self.manifold.shape)
        return jnp.concatenate([precision.reshape(-1), jnp.ones(self.angles)])

    def drift(self, y: tuple[Array, Array], m: Array) -> tuple[Array, Array]:
        """m as a tangent vector: K from the frame's one form to the frame, its diagonal dropped."""
        u, n = self._matrix(y[0]), self.manifold.n
        phases = self._phases(u)
        k = self._matrix(m[: m.size - self.angles].reshape(self.manifold.shape))
        k = skew(jnp.where(jnp.eye(n, dtype=bool), 0.0, k))
        return self._array(mm(u * jnp.conj(phases), k) * phases), m[m.size - self.angles :]

    def diffusion(self, y: tuple[Array, Array], g: Scalar, c: Array) -> NoiseFactor:
        """The noise of covariance g^2 c in the frame, and g^2 of the angles."""
        u, n = self._matrix(y[0]), self.manifold.n
        c = c.reshape(n, n)
        c = jnp.where(jnp.eye(n, dtype=bool), 0.0, 0.5 * (c + c.T))
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), y)
        return lineax.FunctionLinearOperator(partial(_rotate, u, c, g, self.real), like)

    def decode(self, y: tuple[Array, Array]) -> Array:
        """The matrix: the frame in its one form times the phases; signs to the nearer of two, det 1."""
        u = self._matrix(y[0])
        u = u * jnp.conj(self._phases(u))
        if not self.real:
            return self._array(u * jnp.exp(1j * y[1]))
        signs = jnp.concatenate([jnp.where(jnp.cos(y[1]) < 0, -1.0, 1.0), jnp.ones((1,))])
        return self._frame(u * signs)


def lift_of(manifold: Manifold, spacing: float = 1.0, reference: Numbers | None = None) -> Lift:
    """The lift of a manifold.

    Raises:
        ValueError: a manifold that has none.
    """
    if isinstance(manifold, Torus):
        return TorusLift(manifold)
    if isinstance(manifold, Sphere):
        return SphereLift(manifold)
    if isinstance(manifold, U | SO):
        identity = jnp.eye(manifold.n)
        default = identity if isinstance(manifold, SO) else real_pair(identity)
        return FrameLift(manifold, default if reference is None else manifold.check(reference, "reference"), spacing)
    raise ValueError(
        f"projected diffusion knows Torus, Sphere, SO and U, got {manifold!r}; use riemannian_flow or riemannian_score"
    )


def normal_of(lift: Lift, key: Key) -> State:
    """A state of the law that pure noise projects to."""
    return lift.down(lift.noise(key))
