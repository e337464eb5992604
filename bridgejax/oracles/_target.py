"""What a target is: a log density, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_number
from bridgejax._numerics import gaussian_log_density
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import LogDensity
from bridgejax.processes._keys import streams
from bridgejax.processes.sde import check_callable


@partial(
    register_dataclass,
    data_fields=("log_density", "sample", "modes"),
    meta_fields=("dim", "log_z", "num_modes"),
)
@dataclass(frozen=True)
class Target:
    """A density known up to its constant; itself a function, ``target(x) = target.log_density(x)``.

    Args:
        log_density: ``log_density(x)``, log rho of one sample (dim,), a number.
        dim: of x.
        log_z: log of the integral of rho, or None where it is not known.
        sample: ``sample(key)``, an exact draw (dim,), or None.
        modes: ``modes(x)``, the number of the mode that x belongs to, 0 ... num_modes - 1, or None.
        num_modes: how many there are, or None.
    """

    log_density: LogDensity
    dim: int
    log_z: float | None = None
    sample: Callable[[Array], Array] | None = None
    modes: Callable[[Array], Array] | None = None
    num_modes: int | None = None

    __repr__ = summary

    def __call__(self, x: Array) -> Array:
        """log rho(x)."""
        return self.log_density(x)


def target(
    log_density: LogDensity,
    dim: int,
    log_z: float | None = None,
    sample: Callable[[Array], Array] | None = None,
    modes: Callable[[Array], Array] | None = None,
    num_modes: int | None = None,
) -> Target:
    """A Target of one's own; where only the density is needed, the function itself does as well.

    Args:
        log_density: ``log_density(x)``, a number for x of shape (dim,).
        dim: of x.
        log_z: log of its integral, where known.
        sample: ``sample(key)``, an exact draw, where there is one.
        modes: ``modes(x)``, an integer label.
        num_modes: number of labels.

    Raises:
        ValueError: what is no function or number, or a density that does not return one number for x of (dim,).

    Example:
        >>> import bridgejax as bj, jax.numpy as jnp
        >>> target = bj.targets.target(lambda x: -0.5 * jnp.sum(x**2), dim=2, log_z=1.8379)
        >>> target.dim
        2
    """
    dim = check_count("dim", dim)
    log_density = check_callable(log_density, "log_density", "log_density(x)")
    check_log_density(log_density, dim)
    if log_z is not None:
        check_number(log_z=log_z)
        log_z = float(log_z)
    sample = None if sample is None else check_callable(sample, "sample", "sample(key)")
    modes = None if modes is None else check_callable(modes, "modes", "modes(x)")
    num_modes = None if num_modes is None else check_count("num_modes", num_modes)
    return Target(log_density, dim, log_z, sample, modes, num_modes)


def check_log_density(log_density: LogDensity, dim: int) -> None:
    """Raise a ``ValueError`` unless ``log_density`` gives one real number for an x of shape (dim,)."""
    if isinstance(log_density, Target) and log_density.dim != dim:
        raise ValueError(f"dim is {dim}, but the target has dim = {log_density.dim}")
    try:
        out = jax.eval_shape(log_density, jax.ShapeDtypeStruct((dim,), jnp.float32))
    except (TypeError, ValueError, IndexError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(f"log_density does not take an x of shape ({dim},): {first}") from None
    if getattr(out, "shape", None) != () or not jnp.issubdtype(out.dtype, jnp.floating):
        got = getattr(out, "shape", type(out).__name__)
        raise ValueError(f"log_density must return one real number for x of shape ({dim},), got {got}")


# with velocities ----------------------------------------------------------------------------------------------------


def _phase_log_density(log_density: LogDensity, z: tuple[Array, Array]) -> Array:
    x, v = z
    return log_density(x) + gaussian_log_density(jnp.sum(v**2), 0.0, v.size)


def _phase_sample(sample: Callable[[Array], Array], key: Array, *, dim: int) -> tuple[Array, Array]:
    x_key, v_key = streams(key, "velocity", 2)
    return sample(x_key), jax.random.normal(v_key, (dim,))


def _phase_modes(modes: Callable[[Array], Array], z: tuple[Array, Array]) -> Array:
    return modes(z[0])


def with_velocity(log_density: LogDensity, dim: int | None = None) -> Target:
    """rho(x) N(v; 0, I) on pairs (x, v): the target of an underdamped sampler; its log Z is that of rho.

    Args:
        log_density: a Target, or ``log_density(x)``.
        dim: of x; default the Target's.

    Returns:
        A Target whose ``dim`` is that of x alone.

    Raises:
        ValueError: no dim, or a density that does not take x of that shape.

    Example:
        >>> import bridgejax as bj, jax.numpy as jnp
        >>> target = bj.targets.with_velocity(bj.targets.gmm9())
        >>> target((jnp.zeros(2), jnp.zeros(2))).shape
        ()
    """
    dim = check_count("dim", getattr(log_density, "dim", None) if dim is None else dim)
    log_density = check_callable(log_density, "log_density", "log_density(x)")
    check_log_density(log_density, dim)
    density = Partial(_phase_log_density, log_density)
    if not isinstance(log_density, Target):
        return Target(density, dim)
    given = log_density
    draw = None if given.sample is None else Partial(partial(_phase_sample, dim=dim), given.sample)
    modes = None if given.modes is None else Partial(_phase_modes, given.modes)
    return Target(density, dim, given.log_z, draw, modes, given.num_modes)
