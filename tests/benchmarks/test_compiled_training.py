"""What the speed of a training step rests on, without a clock."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bridgejax.methods import bridge_matching
from bridgejax.training import fit
from bridgejax.training._fit import _stepper

BATCH = 32


def _apply(params, t, x, args):
    return jnp.tanh(jnp.append(x, t) @ params["a"]) @ params["b"]


def _method(apply=_apply):
    rng = np.random.default_rng(0)
    params = {
        "a": jnp.asarray(rng.normal(size=(3, 64)), jnp.float32),
        "b": jnp.asarray(rng.normal(size=(64, 2)) / 8, jnp.float32),
    }
    return bridge_matching((apply, params), shape=(2,), sigma=0.0, optimizer=optax.adam(1e-3), ema=0.999)


def _batch():
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=(BATCH, 2)).astype(np.float32) for name in ("source", "target")}


@pytest.fixture(scope="module")
def compiled():
    method = _method()
    state = method.init(jax.random.key(0), None)
    step = _stepper(method.step)  # the very function that fit runs
    return state, step.lower(state, jax.random.key(1), np.int32(0), _batch()).compile()


def test_the_whole_state_is_updated_in_place(compiled):
    state, step = compiled
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert step.memory_analysis().alias_size_in_bytes == size


def test_the_step_evaluates_the_network_once_forward_and_once_back(compiled):
    # forward a, b; backward: gradients of a and b, and of b's input
    assert compiled[1].as_text().count(" dot(") == 5


def test_the_steps_random_numbers_are_a_time_per_sample():
    method = _method()
    state = method.init(jax.random.key(0), None)
    text = str(jax.make_jaxpr(method.step)(state, jax.random.key(1), _batch()))
    assert text.count("random_bits[") == 1
    assert text.count("random_fold_in") == 2  # two derivations of keys: the samples' stream, one per sample
    assert "random_split" not in text


def test_two_fits_trace_the_step_once():
    traces = []

    def counting(params, t, x, args):
        traces.append(None)
        return _apply(params, t, x, args)

    method, data = _method(counting), {name: np.tile(x, (4, 1)) for name, x in _batch().items()}
    counts = []
    for seed in range(3):
        traces.clear()
        fit(method, data, jax.random.key(seed), steps=3, batch_size=BATCH)
        counts.append(len(traces))
    assert counts[0] > 0
    assert counts[1:] == [0, 0]
