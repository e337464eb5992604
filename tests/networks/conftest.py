"""Parameters drawn by numpy for a network that was never initialised: nothing to compile, nothing left at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bridgejax.networks import functional


def _draw(shapes, seed=0):
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        value = rng.normal(size=shape.shape)
        name = path[-1].key
        spread = 0.3 if len(shape.shape) < 2 else 1 / np.sqrt(np.prod(shape.shape[:-1]))
        return jnp.asarray(spread * value + (name == "scale"), shape.dtype)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


@pytest.fixture
def drawn():
    """make -> (apply, params) of the module make(), every parameter random and none of them zero."""

    def build(make):
        apply, shapes = functional(nnx.eval_shape(make))
        return apply, _draw(shapes)

    return build
