import io
import json
import sys
import threading
import time
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compiled
from fit_problem import B, D, N, data, loss, method, parameters
from jax.sharding import AxisType, Mesh

from bridgejax.data import Batches, Passes
from bridgejax.processes._keys import streams
from bridgejax.training import Info, Method, _recorder, fit, latest_step, progress, records
from bridgejax.training._fit import _stepper
from bridgejax.training.sharding import own


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def close(a, b, tolerance=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


@pytest.fixture
def mesh():
    return Mesh(np.array(jax.devices()[:8]), ("data",))


@pytest.mark.fast
def test_fit_is_the_loop_written_out(key):
    """Batches of the seed, keys of the step, one update after the other; nothing else."""
    m = method()
    got = fit(m, data(), key, steps=25, batch_size=B)
    init_key, step_key, _, data_key = streams(key, "fit", 4)
    batches = Batches(data(), B, seed=int(jax.random.key_data(data_key)[-1]))
    state, step = m.init(init_key, None), jax.jit(m.step)
    for i in range(25):
        state, _ = step(state, jax.random.fold_in(step_key, i), batches.batch(i))
    close(got, state)
    assert int(got.step) == 25


def test_learns(key):
    losses = []
    fit(method(), data(), key, steps=400, batch_size=B, callbacks=[lambda info: losses.append(info.metrics["loss"])])
    assert len(losses) == 8
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.fast
def test_the_callers_parameters_survive(key):
    params = parameters()
    from bridgejax.training import adam, gradient_method

    m = gradient_method(loss, lambda p: p, adam(0.1, steps=9), 0.9, params=params)
    fit(m, data(), key, steps=2, batch_size=B)
    fit(m, data(), key, steps=2, batch_size=B)
    same(params, parameters())


# One program ---------------------------------------------------------------------------------------------------------


def test_traces_once_over_steps_rounds_calls_and_resumes(key, tmp_path):
    counted = chex.assert_max_traces(n=1)(loss)
    m = method(loss=counted)
    m = m._replace(refresh=lambda state, k, d: state._replace(ema=state.params))  # shares buffers: fit has to copy
    kwargs = {"batch_size": B, "refresh_every": 7}
    with compiled() as names:
        fit(m, data(), key, steps=20, **kwargs)
        fit(m, data(), key, steps=20, directory=tmp_path, **kwargs)
        fit(m, data(), key, steps=40, directory=tmp_path, **kwargs)  # resumed, from restored arrays
        fit(m, data(), jax.random.key(5), steps=3, **kwargs)
    assert names.count("advance") == 1  # nor compiled again


def test_compiles_once_on_a_mesh_too(key, tmp_path, mesh):
    m = method(loss=chex.assert_max_traces(n=1)(loss))
    with compiled() as names:
        fit(m, data(), key, steps=10, batch_size=B, mesh=mesh, directory=tmp_path)
        fit(m, data(), key, steps=20, batch_size=B, mesh=mesh, directory=tmp_path)
    assert names.count("advance") == 1


def test_weakly_typed_states_do_not_trace_again(key):
    traces = []

    def step(state, k, batch):
        traces.append(1)
        return {"a": jnp.where(True, 1.0, 2.0) + 0 * state["n"], "n": state["n"] + 1}, {"loss": jnp.mean(batch)}

    m = Method(lambda k, d: {"a": 1.0, "n": 0}, step, lambda s: s)
    state = fit(m, np.ones((8, 1), np.float32), key, steps=5, batch_size=4)
    assert len(traces) == 1
    assert int(state["n"]) == 5


def test_the_state_is_donated(key):
    m = method()
    state, k = own((m.init(key, None), key))
    batch = Batches(data(), B).batch(0)
    advance = _stepper(m.step)
    memory = advance.lower(state, k, np.int32(0), batch).compile().memory_analysis()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert memory.alias_size_in_bytes >= size
    new, _ = advance(state, k, np.int32(0), batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(new))


def test_methods_are_not_kept_for_ever():
    for _ in range(12):
        _stepper(method().step)
    assert _stepper.cache_info().currsize <= 8


def test_a_step_that_cannot_be_hashed_runs_too(key):
    class Step:
        __hash__ = None

        def __call__(self, state, k, batch):
            return state + 1, {"loss": jnp.mean(batch["x"])}

    assert int(fit(Method(lambda k, d: 0, Step(), lambda s: s), data(), key, steps=3, batch_size=B)) == 3


# Data ----------------------------------------------------------------------------------------------------------------


def test_every_form_of_data_gives_the_same_run(key):
    _, _, _, data_key = streams(key, "fit", 4)
    batches = Batches(data(), B, seed=int(jax.random.key_data(data_key)[-1]))
    expected = fit(method(), data(), key, steps=12, batch_size=B)
    same(fit(method(), batches, key, steps=12), expected)
    same(fit(method(), batches, key, steps=12, batch_size=B), expected)
    same(fit(method(), batches.batch, key, steps=12), expected)
    same(fit(method(), jax.tree.map(jnp.asarray, data()), key, steps=12, batch_size=B), expected)


class Tensor:
    """What fit needs of a tensor of torch, which is on a device and needs a gradient."""

    def __init__(self, x):
        self.x = x

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.x


class Loader:
    """What a torch DataLoader looks like."""

    def __init__(self, *arrays, batch_size, drop_last=True):
        self.dataset, self.batch_size, self.drop_last = list(zip(*arrays, strict=True)), batch_size, drop_last
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        rows = [self.dataset[k : k + self.batch_size] for k in range(0, len(self.dataset), self.batch_size)]
        for batch in rows if not self.drop_last else [r for r in rows if len(r) == self.batch_size]:
            yield [Tensor(np.stack(part)) for part in zip(*batch, strict=True)]


def _summing():
    """A method that remembers the sum of its batches, by name."""

    def step(state, key, batch):
        parts = batch if isinstance(batch, dict) else {"x": batch}
        return state + sum(jnp.sum(x) for x in parts.values()), {"loss": state}

    return Method(lambda k, d: jnp.zeros(()), step, lambda s: s)


def test_a_loader_is_gone_through_again_and_again(key):
    x, y = np.arange(20, dtype=np.float32), np.arange(20)
    loader = Loader(x[:, None], batch_size=6)
    assert float(fit(_summing(), loader, key, steps=8)) == 2 * x[:18].sum() + x[:12].sum()  # 3 batches a pass
    assert loader.passes == 3
    labelled = Loader(x[:, None], y, batch_size=5, drop_last=False)
    assert float(fit(_summing(), labelled, key, steps=4, batch_size=5)) == 2 * x.sum()
    assert set(Passes(labelled).batch(0)) == {"x", "label"}
    pairs = Passes(Loader(x[:, None], -x[:, None], batch_size=5), lambda b: {"source": b[0], "target": b[1]})
    assert float(fit(_summing(), pairs, key, steps=4)) == 0.0
    assert float(fit(_summing(), Passes([x[:4], x[4:8]]), key, steps=3)) == x[:8].sum() + x[:4].sum()
    assert float(fit(_summing(), iter([x[:4], x[4:8]]), key, steps=2)) == x[:8].sum()


X = np.arange(20, dtype=np.float32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            lambda: Loader(X, batch_size=6, drop_last=False),
            "last batch of a pass has 2 rows and the others 6.*drop_last=True",
        ),
        (lambda: iter([X[:4], X[:3]]), "last batch of a pass has 3 rows and the others 4"),
        (
            lambda: (X[:4] for _ in range(3)),
            "no batch for step 3, after 3 of them; an iterator runs once: pass what it",
        ),
        (lambda: Passes([]), "no batch for step 0, after 0 of them; it must give some in every pass"),
        (
            lambda: Loader(X, X, batch_size=5),
            r"parts without names \(shapes \(5,\), \(5,\)\); say .* data.Passes\(loader",
        ),
        (lambda: "moons", "data is str; data must be"),
        (lambda: Tensor(X), r"data is Tensor; data must be .*a torch tensor: .numpy\(\)"),
        (lambda: lambda step: {"x": "text"}, r"batch\['x'\] of the data is a str; expected arrays"),
    ],
)
def test_iterables_that_cannot_be_trained_on(key, data, message):
    with pytest.raises(ValueError, match=message):
        fit(_summing(), data(), key, steps=6)


def test_passes_are_of_something():
    with pytest.raises(ValueError, match="iterable must be gone through with for, got int"):
        Passes(3)
    with pytest.raises(ValueError, match="convert must be a function of an item, got str"):
        Passes([X], "x")


# Progress -----------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """Stderr, at a terminal or not."""

    def __init__(self, *, tty):
        super().__init__()
        self.tty = tty

    def isatty(self):
        return self.tty


@pytest.mark.parametrize("tqdm", [True, False])
@pytest.mark.parametrize(
    ("tty", "asked", "pytest_runs", "shown"),
    [
        (True, None, False, True),
        (True, None, True, False),
        (False, None, False, False),
        (True, False, False, False),
        (False, True, True, True),
    ],
)
def test_progress_is_shown_at_a_terminal_or_as_asked(key, monkeypatch, tty, asked, pytest_runs, shown, tqdm):
    stderr = Terminal(tty=tty)
    monkeypatch.setattr(sys, "stderr", stderr)
    if not pytest_runs:
        monkeypatch.delenv("PYTEST_CURRENT_TEST")
    if not tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    fit(method(), data(), key, steps=6, batch_size=B, log_every=3, progress=asked)
    said = stderr.getvalue()
    assert bool(said) == shown
    if shown:
        assert "compiling" in said
        assert "loss" in said
        assert ("6/6" if tqdm else "step 6 of 6") in said


def test_progress_is_shown_in_a_notebook(key, monkeypatch):
    shell = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=object()))
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert progress.wanted(None)
    monkeypatch.setattr(shell, "get_ipython", lambda: None)
    monkeypatch.setattr(sys, "stderr", None)
    assert not progress.wanted(None)
    with pytest.raises(ValueError, match="progress must be True, False or None .*, got 'yes'"):
        progress.wanted("yes")


def test_slow_batches_are_prepared_in_a_thread(key):
    """All but the two that were timed; in order, and ahead of the loop."""
    made, state_at_make = [], []
    seen = [0]

    def slow(step):
        made.append((step, threading.current_thread() is threading.main_thread()))
        state_at_make.append(seen[0])
        time.sleep(0.01)
        return np.full((4, 1), step, np.float32)

    def step(state, k, batch):
        return state + batch[0, 0], {"loss": batch[0, 0]}

    m = Method(lambda k, d: jnp.zeros(()), step, lambda s: s)

    def callback(info):
        assert info.metrics["loss"] == info.step - 1
        seen[0] = info.step
        time.sleep(0.03)

    assert float(fit(m, slow, key, steps=12, log_every=1, callbacks=[callback])) == sum(range(12))
    assert made == [(i, i < 2) for i in range(12)]
    assert all(i > at for i, at in zip(range(4, 12), state_at_make[4:], strict=True))


def test_init_and_refresh_see_the_data_as_given(key):
    given, seen = data(), []
    base = method()
    m = base._replace(
        init=lambda k, d: (seen.append(d), base.init(k, d))[1],
        refresh=lambda s, k, d: (seen.append(d), s)[1],
    )
    fit(m, given, key, steps=9, batch_size=B, refresh_every=4)
    assert [d is given for d in seen] == [True] * 3  # init, and after steps 4 and 8


def test_refresh_runs_between_rounds_with_its_own_keys(key):
    calls = []

    def refresh(state, k, d):
        calls.append((int(state["n"]), int(jax.random.bits(k))))
        return {**state, "rounds": state["rounds"] + 1}

    def step(state, k, batch):
        return {**state, "n": state["n"] + 1}, {"loss": jnp.mean(batch)}

    m = Method(lambda k, d: {"n": jnp.int32(0), "rounds": jnp.int32(0)}, step, lambda s: s, refresh)
    state = fit(m, np.ones((8, 1), np.float32), key, steps=12, batch_size=4, refresh_every=4)
    assert [n for n, _ in calls] == [4, 8]  # not before the first step, not after the last
    assert len({bits for _, bits in calls}) == 2
    assert int(state["rounds"]) == 2


# Metrics and callbacks -----------------------------------------------------------------------------------------------


def test_lines_hold_means_and_callbacks_get_them(key, tmp_path):
    def step(state, k, batch):
        return state + 1, {"loss": state.astype(jnp.float32), "other": 2 * state.astype(jnp.float32)}

    m = Method(lambda k, d: jnp.int32(0), step, lambda s: s)
    infos = []
    fit(m, data(), key, steps=25, batch_size=B, log_every=10, directory=tmp_path, callbacks=[infos.append])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 25]
    assert [line["loss"] for line in lines] == [4.5, 14.5, 22.0]
    assert [line["other"] for line in lines] == [9.0, 29.0, 44.0]
    assert lines == records.read(tmp_path)
    assert all(a["seconds"] <= b["seconds"] for a, b in zip(lines, lines[1:], strict=False))
    assert all(isinstance(info, Info) for info in infos)
    assert [(info.step, info.steps, info.metrics["loss"]) for info in infos] == [
        (10, 25, 4.5),
        (20, 25, 14.5),
        (25, 25, 22.0),
    ]
    assert infos[1].steps_per_second > 0
    np.testing.assert_allclose(infos[1].eta, 5 / infos[1].steps_per_second)
    assert infos[-1].eta == 0


def test_callbacks_may_keep_the_state(key):
    kept = []
    final = fit(
        method(), data(), key, steps=30, batch_size=B, log_every=10, callbacks=[lambda i: kept.append(i.state())]
    )
    assert [int(state.step) for state in kept] == [10, 20, 30]
    same(kept[-1], final)
    same(kept[0], fit(method(), data(), key, steps=10, batch_size=B))


def test_without_a_directory_nothing_is_written(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(method(), data(), key, steps=3, batch_size=B, checkpoint_every=1)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_are_made_when_asked_and_kept_as_many(key, tmp_path):
    fit(method(), data(), key, steps=10, batch_size=B, directory=tmp_path, checkpoint_every=3, keep=2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["10", "9"]
    fit(method(), data(), key, steps=10, batch_size=B, directory=tmp_path / "end")
    assert latest_step(tmp_path / "end" / "checkpoints") == 10


def test_checkpoints_by_the_clock(key, tmp_path, monkeypatch):
    monkeypatch.setattr(_recorder, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    seen = []
    fit(
        method(),
        data(),
        key,
        steps=30,
        batch_size=B,
        log_every=10,
        directory=tmp_path,
        callbacks=[lambda info: seen.append(latest_step(tmp_path / "checkpoints"))],
    )
    assert seen == [10, 20, 30]


# Devices -------------------------------------------------------------------------------------------------------------


def curve(key, steps=60, **kwargs):
    losses = []
    state = fit(
        method(kwargs.pop("accumulate", 1)),
        data(),
        key,
        steps=steps,
        batch_size=B,
        log_every=1,
        callbacks=[lambda info: losses.append(info.metrics["loss"])],
        **kwargs,
    )
    return np.array(losses), state


def test_loss_curves_agree_on_any_number_of_devices(key):
    alone, state = curve(key)
    for devices, accumulate in ((1, 1), (2, 1), (8, 1), (8, 2)):
        mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
        losses, other = curve(key, mesh=mesh, accumulate=accumulate)
        # Sums over rows in another order: a few units of 6e-8 of values of order 1 to 10, grown over 60 updates.
        np.testing.assert_allclose(losses, alone, rtol=2e-6, atol=1e-6)
        close(other, state, 1e-5)


def test_explicit_meshes_are_converted(key):
    explicit = jax.make_mesh((2, 4), ("a", "b"))
    assert AxisType.Explicit in explicit.axis_types  # else this test is about nothing
    losses, state = curve(key, steps=5, mesh=explicit)
    np.testing.assert_allclose(losses, curve(key, steps=5)[0], rtol=2e-6, atol=1e-6)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))


def test_state_stays_where_the_parameters_were_put(key):
    from bridgejax.training import adam, gradient_method

    params = jax.device_put(parameters(), jax.devices()[3])
    m = gradient_method(loss, lambda p: p, adam(0.1, steps=9), 0.9, params=params)
    state = fit(m, data(), key, steps=3, batch_size=B)
    assert all(leaf.devices() == {jax.devices()[3]} for leaf in jax.tree.leaves(state))


def test_batches_reach_the_mesh_sharded_from_the_thread(key, mesh):
    seen = []

    def step(state, k, batch):
        jax.debug.inspect_array_sharding(batch, callback=seen.append)
        return state + 1, {"loss": jnp.mean(batch)}

    m = Method(lambda k, d: jnp.int32(0), step, lambda s: s)
    fit(m, np.ones((64, 4), np.float32), key, steps=2, batch_size=16, mesh=mesh)
    assert seen[0].shard_shape((16, 4)) == (2, 4)


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.fast
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"steps": -3}, "steps must be"),
        ({"steps": 2.5}, "steps must be an integer >= 1, got 2.5"),
        ({"steps": True}, "steps must be"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"batch_size": None}, "batch_size is needed"),
        ({"batch_size": N + 1}, f"batch_size={N + 1} is larger than the data, {N} rows; pass at most {N}"),
        ({"log_every": 0}, "log_every must be"),
        ({"keep": 0}, "keep must be"),
        ({"checkpoint_every": 0}, "checkpoint_every must be"),
        ({"refresh_every": 5}, "refresh_every is given, but the method has no refresh"),
        ({"key": jax.random.split(jax.random.key(0))}, r"key must be one key, got an array of shape \(2,\)"),
        ({"key": 3}, "key must be a JAX random key, got int"),
        ({"key": jax.random.key(0, impl="rbg")}, "needs threefry"),
        ({"data": np.array(["a", "b"])}, "data is an array of <U1; data must be a numeric array"),
        ({"data": [1.0, 2.0]}, r"data\[0\] is float; data must be a numeric array"),
        ({"data": {"x": np.ones((40, 2)), "y": np.ones(41)}}, "differ in length"),
        ({"data": Batches(np.ones((50, 2)), 16)}, "batch_size=32, but batch 0 of the data has 16 rows"),
        ({"mesh": 8, "batch_size": 12}, "batch_size=12 does not divide over 8 devices; pass a multiple of 8"),
        ({"mesh": 8, "data": lambda i: np.ones((12, 2)), "batch_size": None}, "does not divide over 8 devices"),
    ],
)
def test_bad_arguments(key, kwargs, message):
    if "mesh" in kwargs:
        kwargs["mesh"] = Mesh(np.array(jax.devices()[: kwargs["mesh"]]), ("d",))
    with pytest.raises(ValueError, match=message):
        fit(method(), **{"data": data(), "key": key, "steps": 3, "batch_size": B, **kwargs})


def test_a_method_in_rounds_needs_their_length(key):
    m = method()._replace(refresh=lambda s, k, d: s)
    with pytest.raises(ValueError, match="the method works in rounds: pass refresh_every"):
        fit(m, data(), key, steps=3, batch_size=B)


@pytest.mark.parametrize("thread", [False, True])
def test_a_batch_unlike_the_first_is_named(key, thread):
    def batch(step):
        if thread:
            time.sleep(0.001)
        return np.ones((4 if step < 5 else 3, D), np.float32)

    m = Method(lambda k, d: jnp.int32(0), lambda s, k, b: (s + 1, {"loss": jnp.mean(b)}), lambda s: s)
    with pytest.raises(
        ValueError, match=r"batch 5 differs from the first .* batch float32\[3, 3\], expected batch float32\[4, 3\]"
    ):
        fit(m, batch, key, steps=9)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            lambda s, k, b: ({"a": s["a"].astype(jnp.bfloat16)}, {}),
            r"step .* leaf \['a'\] was float32\[2\], is bfloat16\[2\]",
        ),
        (lambda s, k, b: ({"a": s["a"][:1]}, {}), r"was float32\[2\], is float32\[1\]"),
        (lambda s, k, b: ({**s, "b": s["a"]}, {}), r"leaf \['b'\] was absent, is float32\[2\]"),
        (lambda s, k, b: ([s["a"]], {}), "must keep the state"),
        (lambda s, k, b: (s, {"m": s["a"]}), r"metric 'm' of step must be a scalar, got shape \(2,\)"),
        (lambda s, k, b: (s, jnp.ones(())), "dictionary of metrics"),
    ],
)
def test_a_step_that_changes_its_state_is_named_before_it_runs(key, step, message):
    m = Method(lambda k, d: {"a": jnp.ones(2, jnp.float32)}, step, lambda s: s)
    with pytest.raises(ValueError, match=message):
        fit(m, data(), key, steps=3, batch_size=B)


def test_a_refresh_that_changes_the_state_is_named(key):
    m = Method(
        lambda k, d: {"a": jnp.ones(2, jnp.float32)},
        lambda s, k, b: (s, {"loss": 0.0}),
        lambda s: s,
        lambda s, k, d: {"a": jnp.ones(3, jnp.float32)},
    )
    with pytest.raises(
        ValueError, match=r"refresh of the method must keep .* \['a'\] was float32\[2\], is float32\[3\]"
    ):
        fit(m, data(), key, steps=3, batch_size=B, refresh_every=1)
