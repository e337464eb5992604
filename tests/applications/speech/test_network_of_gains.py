"""The U-Net's frame: blocks as channels, complex gains, any number of frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.applications.speech import NetworkSize
from bridgejax.applications.speech._network import Gains, fold, gains, network, times, unfold

SIZE = NetworkSize(width=8, multipliers=(1,), patch=(4, 2))


def image(seed, frames=8, channels=2):
    return jax.random.normal(jax.random.key(seed), (16, frames, channels))


def test_blocks_become_channels_and_come_back():
    x = image(0, channels=3)
    folded = fold(x, (4, 2))
    assert folded.shape == (4, 4, 24)
    assert np.array_equal(np.sort(folded[1, 2]), np.sort(x[4:8, 4:6].ravel()))
    assert np.array_equal(unfold(folded, (4, 2)), x)


def test_the_product_is_that_of_complex_numbers():
    a, b = image(0), image(1)
    found, wanted = times(a, b), (a[..., 0] + 1j * a[..., 1]) * (b[..., 0] + 1j * b[..., 1])
    assert np.allclose(found[..., 0] + 1j * found[..., 1], wanted, atol=1e-6)


def test_out_is_what_is_added_and_the_views_by_their_gains():
    said = [image(k) for k in range(3)]

    def unet(params, t, x, args):
        return fold(jnp.concatenate(said, axis=-1), SIZE.patch)

    views = image(3), image(4), image(5)
    found = Gains(unet, SIZE.patch, 2)(None, jnp.zeros(()), views)
    assert np.allclose(found, said[0] + times(said[1], views[0]) + times(said[2], views[1]), atol=1e-5)


def test_parameters_serve_any_number_of_frames_and_it_starts_at_zero():
    apply, params = network(SIZE, 2, 16, 8)
    assert not np.any(jax.jit(apply)(params, jnp.zeros(()), (image(0), image(1))))
    moved = jax.tree.map(lambda leaf: leaf + 0.01, params)
    longer = jax.jit(gains(SIZE, 2, 16, 24))(moved, jnp.zeros(()), (image(0, 24), image(1, 24)))
    assert longer.shape == (16, 24, 2)
    assert np.any(longer)
    assert gains(SIZE, 2, 16, 8) == apply


def test_another_seed_is_another_start():
    first, second = (network(SIZE, 1, 16, 8, seed=seed).params for seed in (0, 1))
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


def test_a_patch_that_does_not_divide():
    with pytest.raises(ValueError, match=r"^patch \(4, 2\) must divide the 16 bins and 7 frames of an image$"):
        network(SIZE, 1, 16, 7)
