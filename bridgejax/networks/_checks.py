"""What every network asks of its sizes, its precision and its sample.

    f(t, x, args):   t ()   x shape   ->   float array of that shape, float32 or wider

Checked where a network is built or traced, so that a mistake costs a sentence and not a training run.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bridgejax._numerics import as_time


def check_size(name: str, value: int, minimum: int = 1) -> int:
    """The integer `value`, if it is at least `minimum`.

    Raises:
        ValueError: `value` is not an integer or is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ValueError(f"{name} = {value!r}: expected an integer of at least {minimum}.")
    return int(value)


def check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The sample shape as a tuple of positive integers; () is a scalar sample.

    Raises:
        ValueError: `shape` is not a sequence of positive integers.
    """
    if isinstance(shape, int | np.integer):
        raise ValueError(f"shape = {shape}: expected a tuple, the shape of one sample; write ({shape},).")
    if not isinstance(shape, Sequence) or isinstance(shape, str | bytes):
        raise ValueError(f"shape = {shape!r}: expected a tuple, the shape of one sample.")
    sizes = tuple(shape)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(
                f"shape = {sizes}: expected the shape of one sample, every size an integer of at least 1; "
                "leave the batch axis out and drop empty axes."
            )
    return tuple(int(size) for size in sizes)


def check_sizes(name: str, values: Any) -> tuple[int, ...]:
    """A tuple of integers of at least 1.

    Raises:
        ValueError: `values` is no sequence, or one of them is no positive integer.
    """
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise ValueError(f"{name} = {values!r}: expected a tuple of integers of at least 1.")
    return tuple(check_size(name, value) for value in values)


def check_positive(name: str, value: Any) -> float:
    """A positive finite Python number as a float.

    Raises:
        ValueError: it is none.
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0.0 < value < math.inf:
        raise ValueError(f"{name} = {value!r}: expected a positive finite number.")
    return float(value)


def check_rngs(rngs: Any) -> None:
    """Raise unless `rngs` are the random streams of flax.nnx."""
    if not isinstance(rngs, nnx.Rngs):
        raise ValueError(f"rngs is of type {type(rngs).__name__}: expected the random streams nnx.Rngs(seed).")


def check_real(name: str, value: Any) -> jax.Array:
    """An array of real numbers, float32 or wider; a Python number takes the precision of what it meets.

    Raises:
        ValueError: it holds none.
    """
    found = check_array(name, value)
    if found.dtype == bool or not jnp.issubdtype(jnp.result_type(found), jnp.number) or jnp.iscomplexobj(found):
        raise ValueError(f"{name} = {value!r}: expected a real number or an array of them.")
    return as_time(found)


def check_dtype(dtype: Any) -> Any:
    """The computing precision as a numpy dtype; names such as "bfloat16" are understood.

    Raises:
        ValueError: the name is unknown or the type is not a float.
    """
    expected = "expected a float type: float32, bfloat16, float16 or float64"
    try:
        found = jnp.dtype(dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"dtype = {dtype!r} is not a type that JAX knows; {expected}.") from error
    if dtype is None or not jnp.issubdtype(found, jnp.floating):
        raise ValueError(f"dtype = {dtype!r} cannot hold the network's activations; {expected}.")
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise ValueError(f"dtype = {found} needs 64-bit JAX: set jax_enable_x64, or use float32.")
    return found


def check_array(name: str, value: Any) -> jax.Array:
    """`value` as an array.

    Raises:
        ValueError: it is none.
    """
    try:
        text = not isinstance(value, jax.Array) and np.asarray(value).dtype.kind in "OSU"
    except jax.errors.TracerArrayConversionError:  # a list of traced numbers
        text = False
    except (TypeError, ValueError):
        text = True
    if text:
        raise ValueError(f"{name} is of type {type(value).__name__}: expected an array of numbers.")
    return jnp.asarray(value)


def check_sample(x: Any, shape: tuple[int, ...]) -> jax.Array:
    """The sample as an array, if it has the network's shape and is floating.

    Raises:
        ValueError: another shape (a batch axis is recognised and named) or an integer sample.
    """
    x = check_array("x", x)
    if x.shape != shape:
        remedy = (
            "one call sees one sample, so map it over the batch with jax.vmap"
            if x.shape[1:] == shape
            else f"reshape the sample, or build the network with shape={x.shape}"
        )
        raise ValueError(f"x has shape {x.shape}, but this network was built for {shape}: {remedy}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x has dtype {x.dtype}, expected floats: convert with x.astype(jnp.float32).")
    return x


def check_time(t: Any) -> jax.Array:
    """The time as a scalar of float32 or wider.

    Raises:
        ValueError: t is not a real scalar.
    """
    t = check_array("t", t)
    if t.shape != () or jnp.issubdtype(t.dtype, jnp.complexfloating):
        raise ValueError(
            f"t has shape {t.shape} and dtype {t.dtype}, expected one real number: "
            "one call sees one sample, so map it over the batch with jax.vmap."
        )
    return t.astype(jnp.promote_types(t.dtype, jnp.float32))


def wide(dtype: Any) -> Any:
    """The output's precision: that of x, but never below float32."""
    return jnp.promote_types(dtype, jnp.float32)


def size_of(shape: tuple[int, ...]) -> int:
    """Number of numbers in one sample."""
    return math.prod(shape)
