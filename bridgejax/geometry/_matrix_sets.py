"""Mirror maps of sets of matrices: positive definite ones and density matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import check_count
from bridgejax._pytrees import register_dataclass
from bridgejax._types import Shape
from bridgejax.geometry._mirror_map import ConvexSet, check_margin, sum_zero_basis, tolerance
from bridgejax.geometry._spectral import adjoint, exp_hermitian, hermitian_part, log_det_of_log, log_positive


def _off_diagonal(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(n, 1)


def _coordinates(a: Array, diagonal: Array) -> Array:
    """Orthonormal coordinates of a Hermitian matrix: the diagonal's, then sqrt(2) of what is above, Re and Im."""
    above = math.sqrt(2.0) * a[_off_diagonal(a.shape[0])]
    parts = [diagonal, above.real, above.imag] if jnp.iscomplexobj(a) else [diagonal, above]
    return jnp.concatenate(parts)


def _matrix(z: Array, n: int, diagonal: Array, *, complex_entries: bool) -> Array:
    """The Hermitian (or symmetric) matrix of a diagonal and the coordinates ``z`` of what is above it."""
    pairs = n * (n - 1) // 2
    above = z / math.sqrt(2.0)
    above = jax.lax.complex(above[:pairs], above[pairs:]) if complex_entries else above
    upper = jnp.zeros((n, n), above.dtype).at[_off_diagonal(n)].set(above)
    return upper + adjoint(upper) + jnp.diag(diagonal).astype(above.dtype)


def _is_hermitian(x: Array) -> Array:
    return jnp.max(jnp.abs(x - adjoint(x))) <= tolerance(x) * jnp.max(jnp.abs(x))


@partial(register_dataclass, data_fields=(), meta_fields=("n",))
@dataclass(frozen=True, repr=False)
class PositiveDefinite(ConvexSet):
    """Symmetric matrices with positive eigenvalues, shape (n, n): phi = tr (X log X - X), z = log X in R^(n(n+1)/2).

    Args:
        n: rows, >= 1.

    Raises:
        ValueError: n below 1.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> print(bj.mirrors.PositiveDefinite(2).to_dual(jnp.eye(2)))
        [0. 0. 0.]
    """

    n: int

    def __post_init__(self) -> None:
        check_count("n", self.n, 1)

    @property
    def dual_shape(self) -> Shape:
        """(n (n + 1) / 2,)."""
        return (self.n * (self.n + 1) // 2,)

    def potential(self, x: Array) -> Array:
        """tr (X log X - X)."""
        return jnp.trace(x @ log_positive(x) - x)

    def to_dual(self, x: Array) -> Array:
        """log X: its diagonal, then sqrt(2) times what is above it."""
        log = log_positive(hermitian_part(x))
        return _coordinates(log, jnp.diagonal(log))

    def _log(self, z: Array) -> Array:
        return _matrix(z[self.n :], self.n, z[: self.n], complex_entries=False)

    def to_primal(self, z: Array) -> Array:
        """exp Z."""
        return exp_hermitian(self._log(z))

    def log_det(self, z: Array) -> Array:
        """- sum l + sum over pairs of log (l_i - l_j) / (e^l_i - e^l_j), l the eigenvalues of Z."""
        return log_det_of_log(jnp.linalg.eigvalsh(self._log(z)), complex_entries=False)

    def depth(self, x: Array) -> Array:
        """The least eigenvalue over the largest; nan where X is not symmetric."""
        values = jnp.linalg.eigvalsh(hermitian_part(x))
        return jnp.where(_is_hermitian(x), values[0] / jnp.max(jnp.abs(values)), jnp.nan)


@partial(register_dataclass, data_fields=(), meta_fields=("n", "margin"))
@dataclass(frozen=True, repr=False)
class DensityMatrix(ConvexSet):
    """States of a quantum system of n levels: Hermitian, positive, trace one, complex, shape (n, n).

    phi = tr R log R, minus the von Neumann entropy; z in R^(n^2 - 1) are the coordinates of the traceless part Z of
    log R, so that x is the Gibbs state of the Hamiltonian -Z.

    Args:
        n: levels, >= 2; 2^k for k qubits.
        margin: share of the maximally mixed state that every state is given (a depolarising channel), for pure states
            and others without full rank, whose logarithm is infinite.

    Raises:
        ValueError: n below 2, a margin outside [0, 1).

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> print(bj.mirrors.DensityMatrix(2).to_primal(jnp.zeros(3)).real)
        [[0.5 0. ]
         [0.  0.5]]
    """

    n: int
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_count("n", self.n, 2)
        check_margin(self.margin)

    @property
    def dual_shape(self) -> Shape:
        """(n^2 - 1,)."""
        return (self.n**2 - 1,)

    def _inside(self, x: Array) -> Array:
        mixed = jnp.eye(self.n, dtype=x.dtype) / self.n
        return hermitian_part((1.0 - self.margin) * x + self.margin * mixed)

    def potential(self, x: Array) -> Array:
        """tr R log R."""
        x = self._inside(x)
        return jnp.trace(x @ log_positive(x)).real / (1.0 - self.margin)

    def to_dual(self, x: Array) -> Array:
        """log R in an orthonormal basis of traceless Hermitian matrices: n - 1 diagonal ones, then Re and Im pairs."""
        x = x.astype(jnp.result_type(x, jnp.complex64))
        log = log_positive(self._inside(x))
        diagonal = jnp.diagonal(log).real
        return _coordinates(log, diagonal @ jnp.asarray(sum_zero_basis(self.n), diagonal.dtype))

    def _log(self, z: Array) -> Array:
        """Z, the traceless part of log R."""
        diagonal = jnp.asarray(sum_zero_basis(self.n), z.dtype) @ z[: self.n - 1]
        return _matrix(z[self.n - 1 :], self.n, diagonal, complex_entries=True)

    def to_primal(self, z: Array) -> Array:
        """exp Z / tr exp Z.

        No eigenvalue is below 4 n roundings, so that none is negative as stored; the trace is 1 to rounding.
        """
        log = self._log(z)
        # less the largest eigenvalue, which cancels in R, so that nothing overflows
        largest = jax.lax.stop_gradient(jnp.linalg.eigvalsh(log)[-1])
        weights = exp_hermitian(log - largest * jnp.eye(self.n, dtype=log.dtype))
        floor = 4.0 * self.n * jnp.finfo(z.dtype).eps
        r = weights / jnp.trace(weights).real
        return (1.0 - self.n * floor) * r + floor * jnp.eye(self.n, dtype=r.dtype)

    def log_det(self, z: Array) -> Array:
        """- log n - sum l + 2 sum over pairs of log (l_i - l_j) / (e^l_i - e^l_j), l = log of the eigenvalues of R."""
        logs = jax.nn.log_softmax(jnp.linalg.eigvalsh(self._log(z)))
        return log_det_of_log(logs, complex_entries=True) - math.log(self.n)

    def depth(self, x: Array) -> Array:
        """The least eigenvalue; nan where the matrix is not Hermitian or its trace is not 1."""
        trace = jnp.abs(jnp.trace(x) - 1.0) <= tolerance(x)
        return jnp.where(_is_hermitian(x) & trace, jnp.linalg.eigvalsh(hermitian_part(x))[0], jnp.nan)
