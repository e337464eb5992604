"""Networks with an energy: a scalar E(t, x) whose gradient in x is the prediction.

    form           E(t, x)                      a network F that starts as zero gives
    "denoising"    |x - F(t, x)|^2              grad E = 2 x
    "inner"        <x, F(t, x)>                 grad E = 0
    "norm"         |x + F(t, x)|^2 / 2          grad E = x, the exact eps far from the data

With eps predicted by grad E the density is known up to a constant, log q_t = -E / sigma_t (``compose.energy``), which
mixtures and exact Metropolis steps need. The f of the third form is residual, f = x + F: of |F|^2 / 2 a network that
starts as zero is a stationary point, and training would never leave it. (Du et al. 2023, Reduce, reuse, recycle.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._summary import summary
from bridgejax._types import Args, Params
from bridgejax.networks.pure import Apply, functional

FORMS = ("denoising", "inner", "norm")


@dataclass(frozen=True)
class EnergyApply:
    """``apply(params, t, x, args) = grad E`` of a network; ``value`` is E. Equal for equal networks and forms."""

    network: Apply
    form: str

    __repr__ = summary

    def value(self, params: Params, t: Array, x: Array, args: Args = None) -> Array:
        """E(t, x), a number."""
        f = self.network(params, t, x, args)
        if f.shape != x.shape:
            raise ValueError(f"network must return an array shaped like x, {x.shape}, to have an energy, got {f.shape}")
        if self.form == "inner":
            return jnp.vdot(x, f)
        return jnp.sum((x - f) ** 2) if self.form == "denoising" else 0.5 * jnp.sum((x + f) ** 2)

    def __call__(self, params: Params, t: Array, x: Array, args: Args = None) -> Array:
        """grad_x E(t, x), shaped like x: the prediction of eps."""
        return jax.grad(self.value, argnums=2)(params, t, x, args)


def energy(network: Any, form: str = "norm") -> tuple[EnergyApply, Params]:
    """A network made the gradient of an energy, to be trained as one that predicts eps.

    ``methods.diffusion(schedule, networks.energy(net), shape=..., predict="eps")`` is the use. A call costs a
    forward and a backward pass, a training step about twice that of the plain network.

    Args:
        network: a flax.nnx module or ``(apply, params)``, F(t, x, args) shaped like x and smooth in x.
        form: "denoising", "inner" or "norm".

    Returns:
        ``(apply, params)`` with ``apply(params, t, x, args) = grad_x E`` and ``apply.value`` of the same arguments = E.

    Raises:
        ValueError: an unknown form, or no network.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> apply, params = bj.networks.energy((lambda params, t, x, args: params * x, jnp.ones(())), "inner")
        >>> apply(params, 0.5, jnp.ones(2), None).shape                              # its gradient: a score
        (2,)
    """
    if not isinstance(form, str) or form not in FORMS:
        raise ValueError(f"form must be one of {FORMS}, got {form!r}")
    apply, params = functional(network)
    return EnergyApply(apply, form), params
