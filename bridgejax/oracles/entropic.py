"""Pairs of laws whose entropic optimal transport plan is known, in any dimension.

Choose the source p0 and a potential phi_1, a positive mixture of Gaussians, and let the target be what follows:

    phi_1(y) = sum_k a_k N(y; m_k, C_k)
    plan(y | x) ~ exp(-|x - y|^2 / (2 epsilon)) phi_1(y)           the target is its second marginal

By construction this is the entropic plan of its own marginals (Gushchin et al. 2023, the benchmark pairs), and the
Schroedinger bridge for Brownian motion with sigma^2 = epsilon per unit time on [0, 1], cost |x - y|^2 / 2. With
tau = epsilon (1 - t), everything is a mixture again:

    phi_t(x)           = sum_k a_k N(x; m_k, C_k + tau I)
    drift              = epsilon grad log phi_t(x) = (E[x_1 | x_t = x] - x) / (1 - t)
    p(x_1 | x_t = x)   = sum_k w_k(x) N(m_k + C_k (C_k + tau I)^-1 (x - m_k), tau C_k (C_k + tau I)^-1),
    w_k(x)             ~ a_k N(x; m_k, C_k + tau I)

which at t = 0 is N(Lambda_k (x / epsilon + C_k^-1 m_k), Lambda_k), Lambda_k = (I / epsilon + C_k^-1)^-1, and is the
form of LightSB (Korotin, Gushchin & Burnaev 2024) with epsilon S_k = Lambda_k, r_k = Lambda_k C_k^-1 m_k. Given x_t
the state at u < 1 follows the same law with C_k + epsilon (1 - u) I in the place of C_k and tau = epsilon (u - t).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_number, check_positive
from bridgejax._numerics import as_time, dtype_of, safe_divide
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Scalar, Time
from bridgejax.oracles.gaussian import check_epsilon
from bridgejax.processes._keys import check_one_key, streams
from bridgejax.processes.mixtures import GaussianMixture, check_mixture, gaussian_mixture
from bridgejax.processes.sde import SDE, Kernel


@partial(register_dataclass, data_fields=("source", "potential", "epsilon"), meta_fields=())
@dataclass(frozen=True)
class EntropicPair:
    """A source, the target that its potential makes, and their exact entropic plan and bridge on [0, 1].

    Made by ``entropic_pair``.

    Args:
        source: law of x_0.
        potential: phi_1; its weights are relative.
        epsilon: entropic regularisation for the cost |x - y|^2 / 2, the variance of the reference per unit time.
    """

    source: GaussianMixture
    potential: GaussianMixture
    epsilon: Array

    __repr__ = summary

    def sample(self, key: Array) -> tuple[Array, Array]:
        """One draw (x_0, x_1) of the plan; ``vmap`` over keys for many."""
        first, second = streams(key, "plan", 2)
        x0 = self.source.sample(first)
        return x0, self.conditional(0.0, x0).sample(second)

    def conditional(self, t: Time, x: Array, u: Time = 1.0) -> GaussianMixture:
        """The law of x_u given x_t = x, as a mixture: ``sample``, ``log_prob``, ``mean`` and ``cov`` of it are exact.

        ``pair.conditional(0.0, x0)`` is the plan given x_0.
        """
        t, u = as_time(t), as_time(u)
        tau = self.epsilon * (u - t)
        inner = self.potential.variances + self.epsilon * (1.0 - u)  # phi_u
        outer = inner + tau  # phi_t
        logs, offsets, _ = replace(self.potential, variances=outer)._log_parts(x)
        gain = safe_divide(inner, outer) * offsets
        rotations = self.potential.rotations
        if rotations is not None:
            gain = jnp.einsum("kij,kj->ki", rotations, gain, precision="highest")
        variances = tau * safe_divide(inner, outer)
        return GaussianMixture(jax.nn.log_softmax(logs), self.potential.means + gain, variances, rotations)

    def log_prob(self, x0: Array, x1: Array) -> Array:
        """log density of the plan at (x0, x1)."""
        return self.source.log_prob(x0) + self.conditional(0.0, x0).log_prob(x1)

    def grad_log_h(self, t: Time, x: Array, args: Args = None) -> Array:
        """Gradient of log phi_t, shaped like x."""
        spread = self.epsilon * (1.0 - as_time(t))
        return replace(self.potential, variances=self.potential.variances + spread).score(x)

    def drift(self, t: Time, x: Array, args: Args = None) -> Array:
        """Drift of the bridge, shaped like x; finite on all of [0, 1] unless the potential has point components."""
        return self.epsilon * self.grad_log_h(t, x)

    def sde(self) -> SDE:
        """The bridge from the source to the target; its last interval is exact."""
        terminal = Kernel(Partial(_sample, self), Partial(_log_prob, self))
        return SDE(Partial(_drift, self), Partial(_diffusion, self.epsilon), 1.0, terminal_kernel=terminal)


def _drift(pair: EntropicPair, t: Array, x: Array, args: Args) -> Array:
    return jnp.asarray(pair.drift(t, x), dtype_of(x))


def _diffusion(epsilon: Array, t: Array, x: Array, args: Args) -> Array:
    return jnp.sqrt(epsilon)


def _sample(pair: EntropicPair, key: Array, t: Time, u: Time, x: Array, args: Args) -> Array:
    return jnp.asarray(pair.conditional(t, x, u).sample(key), dtype_of(x))


def _log_prob(pair: EntropicPair, t: Time, u: Time, x: Array, y: Array, args: Args) -> Array:
    return pair.conditional(t, x, u).log_prob(y)


def entropic_pair(source: GaussianMixture, potential: GaussianMixture, epsilon: Scalar) -> EntropicPair:
    """The entropic plan with first marginal ``source`` and potential ``potential``.

    Args:
        source: law of x_0, see ``gaussian_mixture``.
        potential: phi_1, of the same dimension.
        epsilon: entropic regularisation for the cost |x - y|^2 / 2: sigma^2 per unit time of the reference.

    Raises:
        ValueError: no mixtures, different dimensions, or epsilon not positive.

    Example:
        >>> import jax, bridgejax as bj
        >>> source = bj.mixtures.gaussian_mixture([[0.0]], 1.0)
        >>> potential = bj.mixtures.gaussian_mixture([[-2.0], [2.0]], 0.5)
        >>> pair = bj.oracles.entropic_pair(source, potential, epsilon=0.5)
        >>> x0, x1 = pair.sample(jax.random.key(0))
        >>> x0.shape, x1.shape
        ((1,), (1,))
    """
    check_mixture(source, "source")
    check_mixture(potential, "potential")
    if source.means.shape[1:] != potential.means.shape[1:]:
        raise ValueError(
            f"source and potential must live in one space, got {source.means.shape[1:]} and {potential.means.shape[1:]}"
        )
    check_epsilon(epsilon)
    return EntropicPair(source, potential, jnp.asarray(epsilon, potential.means.dtype))


def random_entropic_pair(
    key: Array, dim: int, *, components: int = 5, epsilon: float = 1.0, radius: float = 3.0
) -> EntropicPair:
    """A pair in the style of the benchmark: standard normal source, ``components`` random Gaussians as potential.

    The means lie uniformly on the sphere of the given radius; the covariances are random rotations of one spectrum,
    log-uniform in [1/4, 1]. With a spectrum and a radius in common no component takes all the weight in high dimension.

    Raises:
        ValueError: dim or components not positive, or epsilon or radius not positive.

    Example:
        >>> import jax, bridgejax as bj
        >>> pair = bj.oracles.random_entropic_pair(jax.random.key(0), 3, epsilon=0.5)
        >>> pair.potential.means.shape
        (5, 3)
    """
    dim, components = check_count("dim", dim), check_count("components", components)
    check_number(radius=radius)
    check_positive(radius=radius)
    check_epsilon(epsilon)
    directions, turns, spectrum = streams(check_one_key(key), "problem", 3)
    means = jax.random.normal(directions, (components, dim))
    means = radius * means / jnp.linalg.norm(means, axis=1, keepdims=True)
    values = 4.0 ** -jax.random.uniform(spectrum, (dim,))
    rotations = jnp.linalg.qr(jax.random.normal(turns, (components, dim, dim)))[0]
    mixture = gaussian_mixture(means, jnp.broadcast_to(values, means.shape))
    return entropic_pair(gaussian_mixture(jnp.zeros((1, dim)), 1.0), replace(mixture, rotations=rotations), epsilon)
