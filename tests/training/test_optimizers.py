import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bridgejax.training import adam
from bridgejax.training.optimizers import learning_rate


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
        ({"lr": float("nan")}, "lr must be positive"),
        ({"steps": None}, "steps is needed by the cosine schedule"),
        ({"steps": 0}, "steps must be >= 1"),
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
