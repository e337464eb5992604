"""Sets: permutations, any number of points, absent ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bridgejax.bridges import interpolants
from bridgejax.networks import Present, SetTransformer, functional
from bridgejax.objectives import matching
from bridgejax.processes import keys, schedules

TINY = dict(width=16, depth=1, heads=2, expansion=2, embedding=16)


def points(seed, n, d=3):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, d)), jnp.float32)


def network(drawn, inducing=0):
    return drawn(lambda: SetTransformer((7, 3), num_classes=2, inducing=inducing, rngs=nnx.Rngs(0), **TINY))


@pytest.mark.parametrize("inducing", [0, 3])
def test_permutations_and_absent_points(drawn, inducing):
    """Permuting points permutes outputs; a padded set is the set, whatever stands in the absent places, even NaN."""
    apply, params = network(drawn, inducing)
    x, mask = points(0, 7), jnp.array([True, False, True, True, True, False, True])
    orders = np.stack([np.random.default_rng(i).permutation(7) for i in range(5)])
    sets = jnp.concatenate([x[orders], x[None], x.at[6].add(1.0)[None]])

    def masked(x, mask):
        return apply(params, 0.3, x, Present(mask, 1))

    @jax.jit
    def everything():
        out = jax.vmap(apply, (None, None, 0, None))(params, 0.3, sets, 1)
        padded = jax.vmap(masked)(jnp.stack([jnp.where(mask[:, None], x, jnp.nan), x]), jnp.stack([mask, mask & False]))
        return (
            out,
            apply(params, 0.3, x[np.asarray(mask)], 1),
            padded,
            jax.grad(lambda x: jnp.sum(masked(x, mask) ** 2))(x),
        )

    (*permuted, out, moved), alone, (padded, empty), gradient = everything()
    scale = np.abs(out).max()
    assert scale > 0.1
    assert np.abs(out - out[::-1]).max() > 0.1 * scale  # the outputs do differ
    # sums over points in another order: some float32 roundings of 6e-8 each, through the block
    for order, value in zip(orders, permuted, strict=True):
        np.testing.assert_allclose(value, out[order], atol=1e-5 * scale)
    assert np.abs(moved[:6] - out[:6]).min(axis=1).max() > 1e-4 * scale  # every point hears of the others
    np.testing.assert_allclose(padded[mask], alone, atol=1e-5 * scale)
    np.testing.assert_array_equal(padded[~mask], 0)
    np.testing.assert_array_equal(empty, 0)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[~mask], 0)
    assert np.abs(gradient[mask]).min() > 0


def test_any_number_of_points():
    build = lambda: SetTransformer((7, 3), inducing=2, rngs=nnx.Rngs(0), **TINY)  # noqa: E731
    apply, params = functional(nnx.eval_shape(build))
    for n in (1, 2, 30):
        assert jax.eval_shape(apply, params, 0.3, points(0, n), None).shape == (n, 3)


def test_sets_of_unequal_size_in_one_batch_of_a_loss(drawn):
    apply, params = network(drawn)
    loss = matching(interpolants.diffusion(schedules.vp()), apply, "eps")
    masks = np.arange(7) < np.array([[7], [3], [1], [5]])
    batch = {"x": np.stack([points(i, 7) for i in range(4)]), "args": Present(masks, np.array([0, 1, 2, 0], np.int32))}
    value = jax.jit(lambda p: loss(p, keys(jax.random.key(0), 4), batch)[0])(params)
    assert np.isfinite(value)


def test_refusals():
    build = lambda shape=(5, 3), **more: SetTransformer(shape, rngs=nnx.Rngs(0), **{**TINY, **more})  # noqa: E731
    with pytest.raises(ValueError, match=r"shape = \(5,\): a set is N points"):
        build((5,))
    with pytest.raises(ValueError, match="inducing = -1"):
        build(inducing=-1)
    with pytest.raises(ValueError, match="heads = 3 do not divide width = 16"):
        build(heads=3)
    apply, params = functional(nnx.eval_shape(build))
    call = lambda x, args=None: jax.eval_shape(apply, params, 0.1, x, args)  # noqa: E731
    with pytest.raises(ValueError, match=r"x has shape \(0, 3\).*N >= 1 points"):
        call(jnp.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"mask has shape \(4,\) and dtype bool"):
        call(jnp.zeros((5, 3)), Present(jnp.ones(4, bool)))
    with pytest.raises(ValueError, match="dtype float32, expected one boolean per point"):
        call(jnp.zeros((5, 3)), Present(jnp.ones(5, jnp.float32)))
