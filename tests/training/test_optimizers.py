import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bridgejax as bj
from bridgejax.training import adam
from bridgejax.training.optimizers import in_float32, learning_rate


@pytest.mark.fast
def test_learning_rates_closed_form():
    n = np.arange(0, 120)
    up = 2.0 * (n + 1) / 11
    s = np.clip((n - 10) / 90, 0, 1)
    expected = {
        "cosine": 2.0 * (0.1 + 0.9 * (1 + np.cos(np.pi * s)) / 2),
        "linear": 2.0 * (0.1 + 0.9 * (1 - s)),
        "constant": np.full(120, 2.0),
    }
    for schedule, after in expected.items():
        rate = learning_rate(2.0, steps=100, warmup=10, schedule=schedule, final=0.1)
        got = np.array([float(rate(jnp.int32(i))) for i in n])
        np.testing.assert_allclose(got, np.where(n < 10, up, after), rtol=2e-6, err_msg=schedule)


def test_without_warmup_starts_at_the_peak():
    assert float(learning_rate(0.5, steps=10)(0)) == 0.5
    assert float(learning_rate(0.5, schedule="constant")(10**6)) == 0.5


def updates(optimizer, grads, params=None, n=1):
    params = jnp.ones_like(grads) if params is None else params
    state, update = optimizer.init(params), None
    for _ in range(n):
        update, state = optimizer.update(grads, state, params)
    return np.asarray(update)


def test_first_adam_update_is_the_sign_of_the_gradient():
    got = updates(adam(0.01, schedule="constant"), jnp.array([0.3, -0.2]))
    np.testing.assert_allclose(got, [-0.01, 0.01], rtol=1e-5)


def test_clip_is_by_global_norm_and_can_be_left_out():
    """eps as large as the gradient shows its size: Adam's first update is -lr g / (|g| + eps)."""
    g = jnp.array([30.0, 40.0])
    clipped = updates(adam(1.0, schedule="constant", clip=5.0, eps=1.0), g)
    np.testing.assert_allclose(clipped, [-3 / 4, -4 / 5], rtol=1e-5)
    free = updates(adam(1.0, schedule="constant", clip=None, eps=1.0), g)
    np.testing.assert_allclose(free, [-30 / 31, -40 / 41], rtol=1e-5)


def test_weight_decay_is_decoupled():
    p = jnp.array([2.0, -4.0])
    got = updates(adam(0.1, schedule="constant", weight_decay=0.5), jnp.zeros(2), p)
    np.testing.assert_allclose(got, -0.1 * 0.5 * np.asarray(p), rtol=1e-6)
    assert not updates(adam(0.1, schedule="constant"), jnp.zeros(2), p).any()


def test_is_optax_adam():
    rng = np.random.default_rng(0)
    g = jnp.asarray(rng.standard_normal(5), jnp.float32)
    ours = updates(adam(0.1, steps=50, clip=None), g, n=7)
    theirs = updates(optax.adam(optax.cosine_decay_schedule(0.1, 50)), g, n=7)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": float("nan")}, "lr holds numbers that are not finite"),
        ({"steps": None}, "steps is needed by the cosine schedule"),
        ({"steps": 0}, "steps must be an integer >= 1"),
        ({"warmup": 10}, "warmup must be at least 0 and below steps=10, got 10"),
        ({"warmup": -1}, "warmup must be"),
        ({"schedule": "cos"}, "schedule must be one of .*'cosine'.*, got 'cos'"),
        ({"final": 1.5}, "final must be within"),
        ({"clip": 0.0}, "clip must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must be >= 0"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        adam(**{"lr": 0.1, "steps": 10, **kwargs})


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_moments_are_forgotten_as_adam_forgets_them(decay):
    """In NumPy, for gradients that change: b1 = 0.9, b2 = 0.999, both corrected, and decay of its own (AdamW)."""
    grads = np.random.default_rng(1).standard_normal((6, 3))
    optimizer, p = adam(0.1, schedule="constant", clip=None, weight_decay=decay), jnp.ones(3)
    state, first, second, q = optimizer.init(p), np.zeros(3), np.zeros(3), np.ones(3)
    for n, g in enumerate(grads):
        move, state = optimizer.update(jnp.asarray(g, jnp.float32), state, p)
        p = p + move
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        q = q - 0.1 * (first / (1 - 0.9 ** (n + 1)) / (np.sqrt(second / (1 - 0.999 ** (n + 1))) + 1e-8) + decay * q)
    np.testing.assert_allclose(p, q, rtol=1e-4)


# narrow parameters ----------------------------------------------------------------------------------------------------

LR = 3e-4


def linear_loss(params, keys, batch):
    return jnp.mean(params * batch.astype(params.dtype)), {}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_second_moment_forgets_in_any_precision(dtype):
    """3,000 gradients of 10, then 20,000 of 1e-3: Adam's closed form, whatever the dtype of the parameter."""
    optimizer = in_float32(optax.adam(LR))
    params = jnp.zeros((), dtype)
    small = float(jnp.asarray(1e-3, dtype))

    def turn(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient.astype(dtype), state, params)
        return (optax.apply_updates(params, updates), state), None

    gradients = jnp.concatenate([jnp.full(3000, 10.0), jnp.full(20_000, 1e-3)])
    (params, state), _ = jax.jit(lambda carry: jax.lax.scan(turn, carry, gradients))((params, optimizer.init(params)))
    moments = (state if dtype == "float32" else state.inner)[0]
    kept = 0.999**20_000
    second = 100.0 * (1.0 - 0.999**3000) * kept + small**2 * (1.0 - kept)
    np.testing.assert_allclose(moments.nu, second, rtol=2e-3)  # 23,000 float32 roundings of 0.999
    update = LR * small / np.sqrt(second)
    assert abs(update - 2.8e-4) < 1e-5
    before = params if dtype == "float32" else state.params
    updates, state = optimizer.update(jnp.asarray(small, dtype), state, params)
    moved = -updates if dtype == "float32" else before - state.params
    np.testing.assert_allclose(moved, update, rtol=5e-3)  # of a parameter near -5, to float32
    assert params.dtype == dtype


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_parameters_follow_small_updates_and_zero_gradients(dtype):
    """A step of 1e-4 beside a parameter of 1 is none in bfloat16; 0 / (0 + 1e-8) is nan in float16."""
    method = bj.gradient_method(linear_loss, lambda params: None, optax.adam(1e-4), params=jnp.ones(2, dtype))
    state, key = method.init(jax.random.key(0), None), jax.random.key(0)
    step = jax.jit(method.step)
    still, _ = step(state, key, jnp.zeros((4, 2)))
    assert np.all(np.asarray(still.params, np.float32) == 1.0)
    for _ in range(100):
        state, _ = step(state, key, jnp.full((4, 2), 2.0))
    assert state.params.dtype == dtype
    np.testing.assert_allclose(np.asarray(state.params, np.float32), 0.99, atol=2.0**-9)
    assert all(leaf.dtype != dtype for leaf in jax.tree.leaves(state.opt_state))


def test_wide_parameters_keep_the_optimizers_own_state():
    params = {"a": jnp.ones(2), "b": jnp.ones(())}
    plain = optax.adam(1e-3)
    assert jax.tree.structure(in_float32(plain).init(params)) == jax.tree.structure(plain.init(params))
