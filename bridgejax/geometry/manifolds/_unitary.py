"""Matrix functions of orthogonal and unitary matrices, with derivatives that no coincident eigenvalue spoils.

    exponential   exp(A) = V e^(i theta) V*,  A = V i theta V* skew-Hermitian
                  d exp(A)[E] = V (F o V* E V) V*,       F_jk = e^(i (theta_j + theta_k)/2) sinc((theta_j - theta_k)/2)
    logarithm     log Q = A g(S),   A = (Q - Q*)/2,  S = (Q + Q*)/2,  g(cos theta) = theta / sin theta
                  Q* dQ = V X V*  ->  d log = V (G o X) V*,   G_jk = (d/2) cot(d/2) + i d/2,  d = theta_j - theta_k
    polar factor  U of X = U (X* X)^(1/2):  X = W s Z*,  dU = W ((W* dX Z - Z* dX* W) / (s_j + s_k)) Z*

The logarithm takes theta / sin theta from the eigenvalues cos theta of S, whose degeneracy (each belongs to +theta and
-theta) does no harm: S and A commute. Where theta is near pi it takes A = K sin theta by its singular values instead,
log = K (pi - arcsin); K, a complex structure, is what a rotation by pi leaves open, and one is chosen. So eigenvectors
of a normal matrix are never asked for, and it runs where eigh and svd do.
(Higham 2008, Functions of Matrices.)
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._numerics import safe_divide


def mm(*matrices: Array) -> Array:
    """Their product, in full precision on every device."""
    product = matrices[0]
    for matrix in matrices[1:]:
        product = jnp.matmul(product, matrix, precision="highest")
    return product


def dagger(a: Array) -> Array:
    """The conjugate transpose."""
    return jnp.conj(jnp.swapaxes(a, -1, -2))


def skew(a: Array) -> Array:
    """(a - a*) / 2."""
    return 0.5 * (a - dagger(a))


def _spectrum(a: Array) -> tuple[Array, Array]:
    """theta, V of a = V i theta V*, for a skew-Hermitian; ascending."""
    return jnp.linalg.eigh(-1j * a, symmetrize_input=True)


def _like(a: Array, value: Array) -> Array:
    """The value, real where a is."""
    return value if jnp.iscomplexobj(a) else jnp.real(value)


def _sinc(x: Array) -> Array:
    return jnp.sinc(x / math.pi)


@jax.custom_jvp
def exponential(a: Array) -> Array:
    """exp(a) of a skew-Hermitian (or real skew) matrix."""
    return _exponential(a)[0]


def _exponential(a: Array) -> tuple[Array, Array, Array]:
    theta, v = _spectrum(a)
    return _like(a, mm(v * jnp.exp(1j * theta), dagger(v))), theta, v


@exponential.defjvp
def _exponential_jvp(primals: Any, tangents: Any) -> Any:
    (a,), (da,) = primals, tangents
    value, theta, v = _exponential(a)
    mean, gap = 0.5 * (theta[:, None] + theta), 0.5 * (theta[:, None] - theta)
    inner = jnp.exp(1j * mean) * _sinc(gap) * mm(dagger(v), skew(da).astype(v.dtype), v)
    return value, _like(a, mm(v, inner, dagger(v)))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def logarithm(q: Array, group: str) -> Array:
    """The least skew-Hermitian logarithm of an orthogonal or unitary matrix; group "SU": of those without trace."""
    return _logarithm(q, group)


def _logarithm(q: Array, group: str) -> Array:
    a, s = skew(q), 0.5 * (q + dagger(q))
    cosines, v = jnp.linalg.eigh(s, symmetrize_input=False)
    far = cosines < _threshold(cosines)
    theta = jnp.arccos(jnp.clip(jnp.where(far, 0.0, cosines), -1.0, 1.0))
    near = mm(v * jnp.where(far, 0.0, 1.0 / _sinc(jnp.where(far, 0.0, theta))), dagger(v), a)
    # where theta is near pi, in the basis of S; the other directions are set aside with singular value 2
    block = skew(mm(dagger(v), a, v)) * far[:, None] * far
    angles = (_angles_complex if jnp.iscomplexobj(q) else _angles_real)(block, jnp.diag(2.0 * ~far))
    value = skew(near + mm(v, angles, dagger(v)))
    return _without_trace(value) if group == "SU" else value


def _threshold(cosines: Array) -> Array:
    """The middle of the largest gap between eigenvalues from -0.95 to -0.6, so that none is cut from its double."""
    inside = jnp.clip(cosines, -0.95, -0.6)
    ends = jnp.concatenate([jnp.full((1,), -0.95, cosines.dtype), inside, jnp.full((1,), -0.6, cosines.dtype)])
    widest = jnp.argmax(ends[1:] - ends[:-1])
    return 0.5 * (ends[widest] + ends[widest + 1])


def _angles_complex(block: Array, aside: Array) -> Array:
    """Eigenvalue i sin theta to i theta, theta beyond pi/2; i pi for 0."""
    sines, u = jnp.linalg.eigh(-1j * block + aside, symmetrize_input=True)
    turn = math.pi - jnp.arcsin(jnp.clip(jnp.abs(sines), 0.0, 1.0))
    theta = jnp.where(sines > 1.5, 0.0, jnp.where(sines < 0, -turn, turn))
    return mm(u * (1j * theta), dagger(u))


def _angles_real(block: Array, aside: Array) -> Array:
    """K sin theta to K theta, of a real block; where sin theta vanishes, a pair of singular vectors is turned.

    Singular values come in pairs, here from the smallest.
    """
    n = block.shape[-1]
    w, sines, z = jnp.linalg.svd(block + aside)
    w, sines, z = w[:, ::-1], sines[::-1], z[::-1]
    index = jnp.arange(n)
    partner = jnp.minimum(index ^ 1, n - 1)
    gone = 0.5 * (sines + sines[partner]) < 32.0 * n * jnp.finfo(block.dtype).eps
    left = jnp.where(gone, jnp.where(index % 2 == 0, 1.0, -1.0) * z[partner].T, w)
    turn = jnp.where(sines > 1.5, 0.0, math.pi - jnp.arcsin(jnp.clip(sines, 0.0, 1.0)))
    return mm(left * turn, z)


def _without_trace(a: Array) -> Array:
    """The angles of a logarithm moved by 2 pi so that they add up to 0, the largest first."""
    theta, v = _spectrum(a)
    turns = jnp.round(jnp.sum(theta) / (2.0 * math.pi))
    index = jnp.arange(theta.shape[0])
    down, up = index >= theta.shape[0] - turns, index < -turns
    theta = theta - 2.0 * math.pi * down + 2.0 * math.pi * up
    theta = theta - jnp.mean(theta)
    return mm(v * (1j * theta), dagger(v))


@logarithm.defjvp
def _logarithm_jvp(group: str, primals: Any, tangents: Any) -> Any:
    (q,), (dq,) = primals, tangents
    value = _logarithm(q, group)
    theta, v = _spectrum(value)
    half = 0.5 * (theta[:, None] - theta)
    # (x cot x): finite up to the cut locus, |x| = pi, where it is cut off
    sine = _sinc(jnp.clip(half, -3.1, 3.1))
    weight = jnp.cos(half) / sine + 1j * half
    inner = mm(dagger(v), skew(mm(dagger(q), dq)).astype(v.dtype), v)
    return value, _like(q, mm(v, weight * inner, dagger(v)))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def polar(a: Array, group: str) -> Array:
    """The nearest orthogonal or unitary matrix; group "SO": among those of determinant 1."""
    return _polar(a, group)[0]


def _polar(a: Array, group: str) -> tuple[Array, Array, Array, Array]:
    w, s, z = jnp.linalg.svd(a)
    if group == "SO":
        sign = jnp.where(jnp.linalg.det(mm(w, z)) < 0, -1.0, 1.0).astype(a.dtype)
        w, s = w.at[:, -1].multiply(sign), s.at[-1].multiply(sign)
    return mm(w, z), w, s, dagger(z)


@polar.defjvp
def _polar_jvp(group: str, primals: Any, tangents: Any) -> Any:
    (a,), (da,) = primals, tangents
    value, w, s, z = _polar(a, group)
    inner = mm(dagger(w), da, z)
    turned = safe_divide(inner - dagger(inner), s[:, None] + s)
    return value, mm(w, turned, dagger(z))


def polished(u: Array) -> Array:
    """A matrix that is unitary but for rounding, one Newton step closer: u (3 - u* u) / 2."""
    return 1.5 * u - 0.5 * mm(u, mm(dagger(u), u))
