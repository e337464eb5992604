"""What every network over a sequence, a set or patches owes: the contract f(t, x, args), and that it learns."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

from bridgejax.networks import SetTransformer, TemporalUNet, Transformer, count_params, functional

TINY = dict(width=16, depth=1, heads=2, expansion=2, embedding=16)


@dataclasses.dataclass(frozen=True)
class Case:
    """A network small enough to compile in a second."""

    kind: type
    shape: tuple
    options: dict

    def __call__(self, **more):
        return self.kind(self.shape, rngs=nnx.Rngs(0), **{**self.options, **more})


CASES = {  # compiling is what these tests cost: the smallest networks that have every part
    "temporal_unet": Case(TemporalUNet, (5, 3), dict(width=8, multipliers=(1, 1), blocks=1, embedding=16)),
    "patches": Case(Transformer, (5, 6, 1), dict(patch=2, positions="learnt", **TINY)),
    "set_inducing": Case(SetTransformer, (5, 2), dict(inducing=3, **TINY)),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def noise(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_one_sample_and_a_batch_of_them(case, drawn):
    """Shapes; vmap is a loop; time and class are heard; None is the null class; every output looks at the sample."""
    apply, params = drawn(lambda: case(num_classes=2))
    x, other = noise(1, case.shape), noise(2, case.shape)
    ts, labels, xs = jnp.float32([0.1, 0.9, 0.1, 0.1, 0.1]), jnp.int32([0, 0, 1, 2, 0]), jnp.stack([x] * 4 + [other])
    run = lambda p: (jax.vmap(apply, (None, 0, 0, 0))(p, ts, xs, labels), apply(p, 0.1, x, None))  # noqa: E731
    batch, one = jax.jit(run)(params)
    assert (batch.shape, batch.dtype) == ((5, *case.shape), jnp.float32)
    assert np.abs(batch[4] - batch[0]).min() > 0
    scale = np.abs(batch).max()
    assert scale > 0.1
    np.testing.assert_allclose(batch[3], one, atol=2e-5 * scale)
    for other in (1, 2, 3):  # another time, another class, no class
        assert np.abs(batch[other] - batch[0]).max() > 1e-3 * scale


@pytest.mark.slow
def test_starts_as_zero_learns_by_heart_and_every_parameter_takes_part(case, drawn):
    """120 steps of Adam on six random targets: the error falls to under a tenth of what it was."""
    apply, anywhere = drawn(lambda: case(num_classes=2))
    start = functional(case(num_classes=2))[1]
    assert count_params(start) < 20_000
    xs, ys = noise(1, (6, *case.shape)), noise(2, (6, *case.shape))
    flat, unravel = ravel_pytree(start)  # one vector: a rule per leaf would double what there is to compile
    optimizer = optax.adam(1e-2)

    def loss(flat, xs):
        out = jax.vmap(apply, (None, 0, 0, 0))(unravel(flat), jnp.linspace(0.1, 1.0, 6), xs, jnp.arange(6) % 3)
        return jnp.mean((out - ys) ** 2), jnp.max(jnp.abs(out))

    @jax.jit
    def step(flat, state):
        (value, largest), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(flat, xs)
        updates, state = optimizer.update(gradients[0], state)
        return optax.apply_updates(flat, updates), state, value, largest, gradients

    empty = optimizer.init(flat)
    gradient, sensitivity = step(ravel_pytree(anywhere)[0], empty)[-1]
    for path, leaf in jax.tree_util.tree_leaves_with_path(unravel(gradient)):
        assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)
        assert np.mean(leaf != 0) > 0.95, jax.tree_util.keystr(path)
    assert np.abs(sensitivity).min() > 0  # no number of the sample is read by nobody

    flat, state, first, largest, _ = step(flat, empty)
    assert largest == 0.0
    for _ in range(120):
        flat, state, value, *_ = step(flat, state)
    assert value < 0.1 * first


def test_parameters_are_float32_whatever_the_default_of_jax_is(case):
    with jax.enable_x64(True):
        params = functional(nnx.eval_shape(lambda: case(num_classes=2))).params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_bfloat16_computes_low_and_keeps_float32_ends(case, drawn):
    low, params = drawn(lambda: case(dtype="bfloat16"))
    full, _ = drawn(lambda: case(dtype="float32"))
    x, t = noise(0, case.shape), jnp.float32([0.4, 0.4001])
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    lowered = jax.jit(lambda t: jax.lax.map(lambda t: low(params, t, x, None), t)).lower(t)
    ours, near = lowered.compile()(t)
    exact = jax.jit(full)(params, t[0], x, None)
    assert ours.dtype == jnp.float32
    error = np.linalg.norm(ours - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.1
    lines = lowered.as_text().splitlines()
    products = [line for line in lines if "stablehlo.dot_general" in line or "stablehlo.convolution" in line]
    assert sum("bf16" in line for line in products) >= len(products) // 2
    assert "bf16" not in products[-1]  # the last layer
    assert np.abs(near - ours).max() > 0  # a bfloat16 clock would not tell these two times apart
    assert jax.eval_shape(low, params, t[0], x.astype(jnp.bfloat16), None).dtype == jnp.float32


def test_signatures_agree(case):
    """One call convention and one set of names for what they share with the MLP."""
    shared = {"num_classes", "cond_dim", "embedding", "time_features", "time_scale", "dtype", "rngs", "width"}
    assert shared <= set(inspect.signature(case.kind.__init__).parameters)
    assert list(inspect.signature(case.kind.__call__).parameters) == ["self", "t", "x", "args"]


def test_refuses_what_it_was_not_built_for(case):
    apply, params = functional(nnx.eval_shape(case))
    call = lambda t, x, args=None: jax.eval_shape(lambda p: apply(p, t, x, args), params)  # noqa: E731
    x = jnp.zeros(case.shape)
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        call(0.1, jnp.zeros((2, *case.shape)))
    with pytest.raises(ValueError, match=r"x has shape .*reshape"):
        call(0.1, jnp.zeros((*case.shape[:-1], case.shape[-1] + 1)))
    with pytest.raises(ValueError, match="x has dtype int32"):
        call(0.1, jnp.zeros(case.shape, jnp.int32))
    with pytest.raises(ValueError, match="t has shape"):
        call(jnp.zeros(3), x)
    with pytest.raises(ValueError, match="takes no condition"):
        call(0.1, x, 1)
    for wrong, message in (
        (dict(width=0), "width = 0"),
        (dict(dtype="int8"), "expected a float type"),
        (dict(num_classes=2, cond_dim=3), "expected one of them"),
        (dict(time_features=7), "time_features = 7"),
    ):
        with pytest.raises(ValueError, match=message):
            nnx.eval_shape(lambda wrong=wrong: case(**wrong))
