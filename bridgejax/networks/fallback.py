"""The network of a method that was given none."""

from __future__ import annotations

import math
from typing import Any

import jax
from flax import nnx

from bridgejax._checks import check_shape
from bridgejax.networks.mlp import MLP
from bridgejax.networks.pure import Functional, functional

_STREAM = 0x6E6574  # of the parameters, apart from any stream of a key that a caller makes of seed 0


def or_mlp(
    network: Any,
    shape: Any,
    *,
    seen: tuple[int, ...] | None = None,
    null: Any = None,
    outputs: tuple[int, ...] | None = None,
    time_scale: float = 1.0,
) -> Functional:
    """The network as a pair; where it is None, an ``MLP`` of depth 4 and width 128, 256 or 512.

    The width is that of the command line: 128 up to 8 numbers a sample, 256 up to 128, else 512. Its parameters are
    always the same: of the key ``fold_in(key(0), 0x6e6574)``.

    Args:
        network: a flax.nnx module, a pair ``(apply, params)``, or None.
        shape: of one sample.
        seen: shape of ``args``, an array that the network sees beside the sample; None: none.
        null: the label that stands for none, where there are labels: their number.
        outputs: shape of what it returns; None: the sample's.
        time_scale: times are multiplied by it.

    Returns:
        The pair (apply, params).

    Example:
        >>> import bridgejax as bj
        >>> bj.networks.or_mlp(None, (2,)).apply
        MLP as apply(params, t, x, args)
    """
    if network is not None:
        return functional(network)
    shape = check_shape(shape)
    size = math.prod(shape)
    width = 128 if size <= 8 else 256 if size <= 128 else 512
    rngs = nnx.Rngs(jax.random.fold_in(jax.random.key(0), _STREAM))
    told: dict[str, Any] = {
        "cond_dim": None if seen is None else math.prod(seen),
        "num_classes": null if isinstance(null, int) else None,
    }
    return functional(MLP(shape, width=width, depth=4, outputs=outputs, time_scale=time_scale, rngs=rngs, **told))
