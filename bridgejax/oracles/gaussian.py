"""The Schroedinger bridge between two Gaussians, in closed form for every time.

Reference Q, a Schedule with scalar coefficients on the clock [0, T]: x_u | x_t ~ N(S_tu x_t, V_tu I), with S = S_0T and
V = V_0T. For Brownian motion S = 1 and V = epsilon T: epsilon = sigma^2 per unit time, for the cost |x - y|^2 / 2. Of
all processes from N(m0, C0) to N(m1, C1) the bridge P is the one with the least KL(P || Q), Q started at N(m0, C0).

Static part, for any linear kernel X1 | X0 ~ N(Phi X0 + shift, R). The joint law is Gaussian and its precision matrix
has the off-diagonal block -Phi^T R^-1, hence, with w(z) = 2 / (1 + sqrt(1 + 4 z)) applied to eigenvalues,

    Cov(X1 | X0) = C1^(1/2) w(C1^(1/2) R^-1 Phi C0 Phi^T R^-1 C1^(1/2)) C1^(1/2)
    Cov(X0 | X1) = the same with the roles of 0 and 1 exchanged
    Cov(X0, X1)  = Cov(X0 | X1) Phi^T R^-1 C1

which is C = (C0^(1/2) D C0^(-1/2) - epsilon I) / 2, D = (4 C0^(1/2) C1 C0^(1/2) + epsilon^2 I)^(1/2) of the Brownian
case, without its inverse and its difference.

Dynamic part. A bridge of Q between fixed ends is N(a x0 + b x1, c I), a = S_0t V_tT / V, b = S_tT V_0t / V and
c = V_0t V_tT / V, so

    mean(t) = a m0 + b m1,     cov(t) = a^2 C0 + b^2 C1 + a b (C + C^T) + c I.

With G1 = Cov(X1 | X0) / V, G0 = Cov(X0 | X1) / V, r = V_tT / V, q = V_0t / V and k = (m1 - S m0) / V the two
potentials of the bridge are Gaussian with

    grad log h_t     =  S_tT k - S_tT^2 / V ((1 - r) G1 + r I)^-1 (I - G1) (x - mean)
    grad log hbackward_t = -S_tT k - 1 / V (S_0t^2 r G0 + q I)^-1 (I - S^2 G0) (x - mean)

    forward drift  f x + g^2 grad log h_t,      backward drift  -f x + g^2 grad log hbackward_t  on the clock s = T - t,

finite at both ends; their sum at one time is g^2 grad log p_t. The exact transitions have the covariances
V_tu W(u) W(t)^-1, W(t) = (1 - r) G1 + r I (forward), and V_tu Wb(t) Wb(u)^-1, Wb(t) = S_0t^2 r G0 + q I (backward).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_finite, check_number, check_positive
from bridgejax._numerics import dtype_of, normal_like, normal_log_prob, safe_sqrt
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Numbers, Scalar, Time
from bridgejax.processes._schedule import Schedule, check_schedule
from bridgejax.processes.schedules import brownian
from bridgejax.processes.sde import SDE, Kernel

_times = partial(jnp.matmul, precision="highest")  # accelerators multiply float32 in fewer bits by default


# what the caller gave ---------------------------------------------------------------------------------------------


def check_epsilon(epsilon: Scalar) -> None:
    """Raise a ``ValueError`` unless ``epsilon`` is a positive finite number."""
    check_positive(epsilon=epsilon)
    check_number(epsilon=epsilon)


def _mean(value: Numbers, name: str) -> Array:
    value = as_real(value, name).astype(jnp.result_type(float))
    if value.ndim != 1 or value.size == 0:
        raise ValueError(f"{name} must be a vector of shape [d], got shape {value.shape}")
    if not isinstance(value, Tracer) and not np.isfinite(np.asarray(value)).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return value


def _covariance(value: Numbers, d: int, name: str) -> Array:
    """``[d, d]`` from a number (times I), ``[d]`` variances or a matrix; symmetric and positive semi-definite."""
    value = as_real(value, name).astype(jnp.result_type(float))
    if value.shape not in ((), (d,), (d, d)):
        raise ValueError(f"{name} must be a number, [{d}] variances or a [{d}, {d}] matrix, got shape {value.shape}")
    cov = value if value.ndim == 2 else jnp.diag(jnp.broadcast_to(value, (d,)))
    if isinstance(cov, Tracer):
        return cov
    host = np.asarray(cov, np.float64)
    size = max(float(np.abs(host).max()), 1e-30)
    if not np.isfinite(host).all() or not np.allclose(host, host.T, rtol=0.0, atol=1e-5 * size):
        raise ValueError(f"{name} must be finite and symmetric, and this matrix is not")
    if (least := float(np.linalg.eigvalsh(host)[0])) < -1e-5 * size:
        raise ValueError(f"{name} must be positive semi-definite, got the eigenvalue {least:g}")
    return cov


def _ends(mean0: Numbers, cov0: Numbers, mean1: Numbers, cov1: Numbers) -> tuple[Array, Array, Array, Array]:
    mean0, mean1 = _mean(mean0, "mean0"), _mean(mean1, "mean1")
    return mean0, _covariance(cov0, mean0.size, "cov0"), mean1, _covariance(cov1, mean1.size, "cov1")


# the static bridge ------------------------------------------------------------------------------------------------


def _root(cov: Array) -> Array:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = jnp.linalg.eigh(cov)
    return _times(vectors * safe_sqrt(values), vectors.T)


def _conditional(cov: Array, transfer: Array) -> Array:
    """cov^(1/2) w(cov^(1/2) transfer cov^(1/2)) cov^(1/2), w(z) = 2 / (1 + sqrt(1 + 4 z))."""
    root = _root(cov)
    values, vectors = jnp.linalg.eigh(_times(_times(root, transfer), root))
    half = _times(root, vectors)
    return _times(half * (2.0 / (1.0 + jnp.sqrt(1.0 + 4.0 * jnp.maximum(values, 0.0)))), half.T)


def _spectrum(matrix: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    return jnp.maximum(values, 0.0), vectors


class StaticBridge(NamedTuple):
    """The joint law of the two ends.

    Attributes:
        mean: ``[d0 + d1]``.
        cov: ``[d0 + d1, d0 + d1]``.
        energy: KL(bridge || reference started at N(mean0, cov0)), in nats; infinite when cov1 is singular.
    """

    mean: Array
    cov: Array
    energy: Array

    __repr__ = summary


def static_gaussian_bridge(
    mean0: Numbers, cov0: Numbers, mean1: Numbers, cov1: Numbers, phi: Numbers, q: Numbers, shift: Numbers = 0.0
) -> StaticBridge:
    """The Gaussian Schroedinger bridge for the reference kernel X1 | X0 ~ N(phi X0 + shift, q).

    ``phi`` may be singular or rectangular; the covariances may be singular. The joint law does not depend on
    ``shift``, the energy does. O(d^3) time.

    Args:
        mean0: ``[d0]``.
        cov0: a number, ``[d0]`` variances or ``[d0, d0]``.
        mean1: ``[d1]``.
        cov1: as cov0, of size d1.
        phi: ``[d1, d0]``, or a number (times I).
        q: covariance of the reference's noise, positive definite, as cov1.
        shift: ``[d1]`` or a number.

    Raises:
        ValueError: wrong shapes, or covariances that are not symmetric and positive semi-definite.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> joint = bj.oracles.static_gaussian_bridge(jnp.zeros(1), 1.0, jnp.zeros(1), 1.0, phi=1.0, q=1.0)
        >>> print(round(float(joint.cov[0, 1]), 4))                            # (sqrt(5) - 1) / 2
        0.618
    """
    mean0, cov0, mean1, cov1 = _ends(mean0, cov0, mean1, cov1)
    d0, d1 = mean0.size, mean1.size
    noise = _covariance(q, d1, "q")
    phi, shift = as_real(phi, "phi").astype(cov0.dtype), as_real(shift, "shift").astype(cov0.dtype)
    check_finite(phi=phi, shift=shift)
    if shift.shape not in ((), (d1,)):
        raise ValueError(f"shift must be a number or have shape [{d1}], got shape {shift.shape}")
    phi = phi * jnp.eye(d1, d0) if phi.ndim == 0 else phi
    if phi.shape != (d1, d0):
        raise ValueError(f"phi must be a number or have shape [{d1}, {d0}], got shape {phi.shape}")
    gain = jnp.linalg.solve(noise, phi)  # R^-1 Phi
    given0 = _conditional(cov1, _times(_times(gain, cov0), gain.T))
    given1 = _conditional(cov0, _times(_times(gain.T, cov1), gain))
    coupling = _times(_times(given1, gain.T), cov1)
    difference = mean1 - _times(phi, mean0) - shift
    cross = _times(phi, coupling)
    spread = cov1 + _times(_times(phi, cov0), phi.T) - cross - cross.T + jnp.outer(difference, difference)
    logs = jnp.linalg.slogdet(noise)[1] - jnp.linalg.slogdet(given0)[1]
    energy = 0.5 * (logs - d1 + jnp.trace(jnp.linalg.solve(noise, spread)))
    return StaticBridge(jnp.concatenate([mean0, mean1]), jnp.block([[cov0, coupling], [coupling.T, cov1]]), energy)


# the bridge in time -----------------------------------------------------------------------------------------------


@partial(
    register_dataclass,
    data_fields=("mean0", "cov0", "mean1", "cov1", "coupling", "spectrum0", "spectrum1", "reference"),
    meta_fields=(),
)
@dataclass(frozen=True)
class GaussianBridge:
    """The Gaussian Schroedinger bridge on the transport clock [0, T]: N(mean0, cov0) at 0, N(mean1, cov1) at T.

    Made by ``gaussian_bridge``; a state is a vector ``[d]``.

    Args:
        mean0: ``[d]``.
        cov0: ``[d, d]``.
        mean1: ``[d]``.
        cov1: ``[d, d]``.
        coupling: ``[d, d]``, Cov(X_0, X_T).
        spectrum0: eigenvalues and eigenvectors of G0 = Cov(X_0 | X_T) / V.
        spectrum1: of G1 = Cov(X_T | X_0) / V.
        reference: the Schedule that is bent.
    """

    mean0: Array
    cov0: Array
    mean1: Array
    cov1: Array
    coupling: Array
    spectrum0: tuple[Array, Array]
    spectrum1: tuple[Array, Array]
    reference: Schedule

    __repr__ = summary

    @property
    def T(self) -> float:
        """End of the clock."""
        return self.reference.T

    @property
    def energy(self) -> Array:
        """KL(P || Q) = E int |u|^2 dt / 2, u = g grad log h the control, in nats; infinite for a singular cov1."""
        S, V = self.reference.scale(0.0, self.T), self.reference.variance(0.0, self.T)
        difference = self.mean1 - S * self.mean0
        spread = jnp.trace(self.cov1) + S**2 * jnp.trace(self.cov0) - 2.0 * S * jnp.trace(self.coupling)
        values = self.spectrum1[0]
        return 0.5 * ((jnp.sum(difference**2) + spread) / V - jnp.sum(jnp.log(values)) - values.size)

    def mean(self, t: Time) -> Array:
        """E X_t, ``[d]``."""
        a, b, _ = _weights(self.reference, t)
        return a * self.mean0 + b * self.mean1

    def cov(self, t: Time) -> Array:
        """Cov X_t, ``[d, d]``."""
        a, b, c = _weights(self.reference, t)
        ends = a**2 * self.cov0 + b**2 * self.cov1 + a * b * (self.coupling + self.coupling.T)
        return ends + c * jnp.eye(self.mean0.size, dtype=ends.dtype)

    def score(self, t: Time, x: Array, args: Args = None) -> Array:
        """Gradient of log p_t, ``[d]``: -cov(t)^-1 (x - mean(t)). Needs a regular cov0 at 0 and cov1 at T."""
        factor = jax.scipy.linalg.cho_factor(self.cov(t), lower=True)
        return -jax.scipy.linalg.cho_solve(factor, x - self.mean(t))

    def grad_log_h(self, t: Time, x: Array, args: Args = None) -> Array:
        """Gradient of the forward potential's log, ``[d]``: what ``doob`` adds to the reference."""
        S, V = self.reference.scale(t, self.T), self.reference.variance(0.0, self.T)
        values, vectors = self.spectrum1
        shrink = S**2 / V * (1.0 - values) / _forward_spectrum(self, t)
        return S * self._pull() - _in_basis(vectors, shrink, x - self.mean(t))

    def grad_log_h_backward(self, t: Time, x: Array, args: Args = None) -> Array:
        """Gradient of the backward potential's log, ``[d]``; t on the transport clock."""
        S, V = self.reference.scale(0.0, self.T), self.reference.variance(0.0, self.T)
        values, vectors = self.spectrum0
        shrink = (1.0 - S**2 * values) / V / _backward_spectrum(self, t)
        return -self.reference.scale(t, self.T) * self._pull() - _in_basis(vectors, shrink, x - self.mean(t))

    def drift(self, t: Time, x: Array, args: Args = None) -> Array:
        """Forward drift f x + g^2 grad log h, ``[d]``; finite on all of [0, T]."""
        return self.reference.rate(t) * x + self.reference.diffusion_squared(t) * self.grad_log_h(t, x)

    def backward_drift(self, s: Time, x: Array, args: Args = None) -> Array:
        """Drift of the reversed bridge on its own clock s = T - t, ``[d]``: from N(mean1, cov1) to N(mean0, cov0)."""
        t = self.T - jnp.asarray(s)
        return -self.reference.rate(t) * x + self.reference.diffusion_squared(t) * self.grad_log_h_backward(t, x)

    def sde(self) -> SDE:
        """The bridge as an SDE on the transport clock; its last interval is exact."""
        terminal = Kernel(Partial(_sample, self), Partial(_log_prob, self))
        return SDE(Partial(_drift, self), Partial(_diffusion, self.reference), self.T, terminal_kernel=terminal)

    def backward(self) -> SDE:
        """The reversed bridge as an SDE on the clock s = T - t, from mean1 to mean0; its last interval is exact."""
        terminal = Kernel(Partial(_backward_sample, self), Partial(_backward_log_prob, self))
        return SDE(
            Partial(_backward_drift, self),
            Partial(_backward_diffusion, self.reference),
            self.T,
            terminal_kernel=terminal,
        )

    def _pull(self) -> Array:
        S, V = self.reference.scale(0.0, self.T), self.reference.variance(0.0, self.T)
        return (self.mean1 - S * self.mean0) / V


def _weights(reference: Schedule, t: Time) -> tuple[Array, Array, Array]:
    """a, b, c of the reference's bridge N(a x0 + b x1, c I)."""
    T = reference.T
    near, far, total = reference.variance(0.0, t), reference.variance(t, T), reference.variance(0.0, T)
    return reference.scale(0.0, t) * far / total, reference.scale(t, T) * near / total, near * far / total


def _forward_spectrum(bridge: GaussianBridge, t: Time) -> Array:
    """Eigenvalues of W(t) = (1 - r) G1 + r I."""
    r = bridge.reference.variance(t, bridge.T) / bridge.reference.variance(0.0, bridge.T)
    return (1.0 - r) * bridge.spectrum1[0] + r


def _backward_spectrum(bridge: GaussianBridge, t: Time) -> Array:
    """Eigenvalues of Wb(t) = S_0t^2 r G0 + q I."""
    total = bridge.reference.variance(0.0, bridge.T)
    r, q = bridge.reference.variance(t, bridge.T) / total, bridge.reference.variance(0.0, t) / total
    return bridge.reference.scale(0.0, t) ** 2 * r * bridge.spectrum0[0] + q


def _in_basis(vectors: Array, values: Array, x: Array) -> Array:
    """U diag(values) U^T x."""
    return _times(vectors, values * _times(vectors.T, x))


def _drift(bridge: GaussianBridge, t: Array, x: Array, args: Args) -> Array:
    return jnp.asarray(bridge.drift(t, x), dtype_of(x))


def _backward_drift(bridge: GaussianBridge, s: Array, x: Array, args: Args) -> Array:
    return jnp.asarray(bridge.backward_drift(s, x), dtype_of(x))


def _diffusion(reference: Schedule, t: Array, x: Array, args: Args) -> Array:
    return reference.diffusion(t)


def _backward_diffusion(reference: Schedule, s: Array, x: Array, args: Args) -> Array:
    return reference.diffusion(reference.T - s)


def _forward_law(bridge: GaussianBridge, t: Time, u: Time, x: Array) -> tuple[Array, Array, Array]:
    """Mean, variances and axes of x_u given x_t; by Tweedie the mean is S x + V / S grad log h_t."""
    S, V = bridge.reference.scale(t, u), bridge.reference.variance(t, u)
    variances = V * _forward_spectrum(bridge, u) / _forward_spectrum(bridge, t)
    return S * x + V / S * bridge.grad_log_h(t, x), variances, bridge.spectrum1[1]


def _backward_law(bridge: GaussianBridge, s: Time, v: Time, x: Array) -> tuple[Array, Array, Array]:
    """The same backwards, x at T - s to x at T - v: the mean is (x + V grad log hback) / S."""
    t, u = bridge.T - jnp.asarray(v), bridge.T - jnp.asarray(s)
    S, V = bridge.reference.scale(t, u), bridge.reference.variance(t, u)
    variances = V * _backward_spectrum(bridge, t) / _backward_spectrum(bridge, u)
    return (x + V * bridge.grad_log_h_backward(u, x)) / S, variances, bridge.spectrum0[1]


def _draw(key: Array, x: Array, mean: Array, variances: Array, axes: Array) -> Array:
    return jnp.asarray(mean + _times(axes, safe_sqrt(variances) * normal_like(key, mean)), dtype_of(x))


def _density(y: Array, mean: Array, variances: Array, axes: Array) -> Array:
    return jnp.sum(normal_log_prob(_times(axes.T, y - mean), 0.0, variances))


def _sample(bridge: GaussianBridge, key: Array, t: Time, u: Time, x: Array, args: Args) -> Array:
    return _draw(key, x, *_forward_law(bridge, t, u, x))


def _log_prob(bridge: GaussianBridge, t: Time, u: Time, x: Array, y: Array, args: Args) -> Array:
    return _density(y, *_forward_law(bridge, t, u, x))


def _backward_sample(bridge: GaussianBridge, key: Array, s: Time, v: Time, x: Array, args: Args) -> Array:
    return _draw(key, x, *_backward_law(bridge, s, v, x))


def _backward_log_prob(bridge: GaussianBridge, s: Time, v: Time, x: Array, y: Array, args: Args) -> Array:
    return _density(y, *_backward_law(bridge, s, v, x))


def gaussian_bridge(
    mean0: Numbers,
    cov0: Numbers,
    mean1: Numbers,
    cov1: Numbers,
    *,
    epsilon: Scalar | None = None,
    reference: Schedule | None = None,
) -> GaussianBridge:
    """The Schroedinger bridge from N(mean0, cov0) to N(mean1, cov1).

    Everything it gives is finite on all of [0, T] for regular covariances. cov0 = 0 is a start at a point; cov1 = 0 is
    the pinned reference, whose drift is infinite at T (its ``sde()`` has a terminal kernel and does not ask for it).

    Args:
        mean0: ``[d]``, at time 0.
        cov0: a number (times I), ``[d]`` variances or ``[d, d]``.
        mean1: ``[d]``, at time T.
        cov1: as cov0.
        epsilon: Brownian reference on [0, 1] with sigma^2 = epsilon per unit time, that is entropic regularisation
            epsilon for the cost |x - y|^2 / 2.
        reference: instead of epsilon, any Schedule with alpha(T) > 0: ``schedules.ou(...)``, ``schedules.vp()``.

    Raises:
        ValueError: neither or both of epsilon and reference, a reference that forgets its start, different
            dimensions, or covariances that are not symmetric and positive semi-definite.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> bridge = bj.oracles.gaussian_bridge(jnp.zeros(2), 1.0, jnp.ones(2), 0.25, epsilon=1.0)
        >>> bridge.mean(0.5).tolist(), bridge.cov(1.0).shape
        ([0.5, 0.5], (2, 2))
    """
    if (epsilon is None) == (reference is None):
        raise ValueError("pass exactly one of epsilon (Brownian reference) and reference (a Schedule)")
    if reference is None:
        assert epsilon is not None
        check_epsilon(epsilon)
        sigma = jnp.sqrt(jnp.asarray(epsilon, jnp.result_type(float)))
        reference = brownian(sigma)  # pyright: ignore[reportArgumentType]
    check_schedule(reference, "reference")
    if reference.zero_terminal_snr:
        raise ValueError("reference must have alpha(T) > 0; this one forgets its start, and its bridge is independent")
    mean0, cov0, mean1, cov1 = _ends(mean0, cov0, mean1, cov1)
    if mean0.shape != mean1.shape:
        raise ValueError(f"mean0 and mean1 must have one shape, got {mean0.shape} and {mean1.shape}")
    S, V = reference.scale(0.0, reference.T), reference.variance(0.0, reference.T)
    G1 = _conditional(cov1, (S / V) ** 2 * cov0) / V
    G0 = _conditional(cov0, (S / V) ** 2 * cov1) / V
    coupling = S * _times(G0, cov1)
    return GaussianBridge(mean0, cov0, mean1, cov1, coupling, _spectrum(G0), _spectrum(G1), reference)
