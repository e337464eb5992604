"""A run goes on with what it was begun with: other data, or another loss of the same shapes, are refused by name."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_problem import B, data, loss, method, parameters

from bridgejax.data import Batches, NoData, Pairs, Snapshots
from bridgejax.training import adam, fit, gradient_method, identity, restore
from bridgejax.training.identity import data_digest, program_digest


def other_loss(params, keys, batch):
    value, metrics = loss(params, keys, batch)
    return jnp.sqrt(value), metrics


def rate(lr):
    return gradient_method(loss, lambda p: p, adam(lr, schedule="constant"), 0.99, params=parameters())


def test_other_data_are_refused_and_taken_anyway(key, tmp_path):
    arguments = {"batch_size": B, "directory": tmp_path}
    fit(method(), data(), key, steps=4, **arguments)
    changed = data()
    changed["y"][7] += 1e-6
    with pytest.raises(ValueError, match=r"is a run of other data: .*go on all the same with resume='anyway'"):
        fit(method(), changed, key, steps=8, **arguments)
    state = fit(method(), data(), key, steps=8, **arguments)
    assert int(restore(tmp_path / "checkpoints", state).step) == 8
    fit(method(), changed, key, steps=12, resume="anyway", **arguments)
    fit(method(), changed, key, steps=16, **arguments)  # from then on these are its data
    with pytest.raises(ValueError, match="run of other data"):
        fit(method(), data(), key, steps=20, **arguments)


def test_another_loss_is_refused_and_another_rate_is_not(key, tmp_path):
    arguments = {"batch_size": B, "directory": tmp_path}
    fit(rate(0.01), data(), key, steps=4, **arguments)
    fit(rate(0.02), data(), key, steps=6, **arguments)
    with pytest.raises(ValueError, match=r"a run of another method: its steps compute something else .another loss"):
        fit(method(loss=other_loss), data(), key, steps=8, **arguments)
    fit(method(loss=other_loss), data(), key, steps=8, resume="anyway", **arguments)


def test_another_version_is_said_and_not_compared(key, tmp_path, monkeypatch):
    arguments = {"batch_size": B, "directory": tmp_path}
    fit(method(), data(), key, steps=4, **arguments)
    monkeypatch.setattr("bridgejax.training._fit.versions", lambda: "jax 9.9")
    with pytest.warns(UserWarning, match="was begun with jax .* and goes on with jax 9.9: not bit for bit"):
        fit(method(loss=other_loss), data(), key, steps=8, **arguments)


@pytest.mark.parametrize("resume", ["any", 2, None, "True"])
def test_ways_to_resume(key, resume):
    with pytest.raises(ValueError, match="resume must be True, False or 'anyway'"):
        fit(method(), data(), key, steps=4, batch_size=B, resume=resume)


def test_digests_of_data():
    x = np.arange(12.0).reshape(6, 2)
    whole = data_digest(x)
    assert whole == data_digest(x.copy()) == data_digest(np.asfortranarray(x))
    assert data_digest(jnp.asarray(x, np.float32)) == data_digest(x.astype(np.float32))
    others = [x + 1e-9, x.astype(np.float32), x.reshape(4, 3), x[::-1], {"x": x}, (x, x), Batches(x[:5], 2)]
    sets = [Pairs(x, x + 1, 2), Pairs(x + 1, x, 2), Snapshots([0, 1], [x, x]), Snapshots([0, 2], [x, x])]
    digests = [whole, *map(data_digest, others), *map(data_digest, sets), data_digest(sets[2].batches(4, 0))]
    assert None not in digests
    assert len(set(digests)) == len(digests) - 1  # snapshots and their batches are the same data
    assert [data_digest(one) for one in (NoData(4), None, lambda step: x, iter([x]), [])] == [None] * 5


def test_large_arrays_are_looked_at_in_equal_steps(monkeypatch):
    monkeypatch.setattr(identity, "_WHOLE", 100)
    monkeypatch.setattr(identity, "_ROWS", 11)
    x = np.zeros((101, 2))
    before = data_digest(x)
    x[55] = 1.0  # between two of the rows
    assert data_digest(x) == before
    x[50] = 1.0
    assert data_digest(x) != before
    assert data_digest(np.zeros((102, 2))) != before


TRACE = """
import sys; sys.path.insert(0, {here!r})
import jax, jax.numpy as jnp
from fit_problem import data, method
from bridgejax.training.identity import program_digest
m = method(2); d = data()
state = m.init(jax.random.key(0), d)
print(program_digest(jax.jit(m.step).trace(state, jax.random.key(1), {{k: v[:32] for k, v in d.items()}})))
"""


def test_digests_of_programs_are_the_same_in_every_process():
    code = TRACE.format(here=str(__import__("pathlib").Path(__file__).parent))
    run = [sys.executable, "-W", "ignore", "-c", code]
    one, two = (subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert one == two
    assert len(one) == 65


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (lambda x: 3.0 * jnp.sin(x), True),
        (lambda x: 2e-3 * jnp.sin(x), True),
        (lambda x: 2.0 * jnp.cos(x), False),
        (lambda x: jnp.sin(2.0 * x), False),
        (lambda x: 2.0 * jnp.sin(x) ** 2, False),
    ],
)
def test_digests_of_programs_know_operations_and_not_numbers(other, same):
    one, two = (program_digest(jax.jit(f).trace(jnp.ones(3))) for f in (lambda x: 2.0 * jnp.sin(x), other))
    assert (one == two) == same
