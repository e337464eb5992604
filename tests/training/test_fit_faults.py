"""What goes wrong in a run, and what is left of it."""

import os
import resource
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_problem import B, data, method

from bridgejax.training import (
    CheckpointError,
    Interrupted,
    LossExplosion,
    Method,
    NonFiniteLoss,
    fit,
    latest_step,
    records,
    restore,
)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def steps_of(directory):
    return [line["step"] for line in records.read(directory)]


def counting(bad_at=None, metric="loss", value=jnp.nan):
    """Counts its steps; from update ``bad_at`` on a metric is not finite, though the state stays so."""

    def step(state, key, batch):
        new = state + 1
        metrics = {"loss": jnp.float32(1), "grad_norm": jnp.float32(2), "other": jnp.float32(3)}
        if bad_at is not None:
            metrics[metric] = jnp.where(new >= bad_at, value, metrics[metric])
        return new, metrics

    return Method(lambda k, d: jnp.int32(0), step, lambda s: s)


# Non-finite ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "value"), [("loss", jnp.nan), ("loss", -jnp.inf), ("grad_norm", jnp.inf)])
def test_stops_at_the_first_loss_that_is_not_finite(key, tmp_path, metric, value):
    with pytest.raises(NonFiniteLoss, match=rf"{metric} is (nan|-?inf) at step 37; .* step 30, is kept in") as caught:
        fit(
            counting(37, metric, value),
            data(),
            key,
            steps=100,
            batch_size=B,
            log_every=10,
            checkpoint_every=15,
            directory=tmp_path,
        )
    error = caught.value
    assert isinstance(error, FloatingPointError)
    assert (error.step, error.metric, error.checkpoint) == (37, metric, 30)
    assert latest_step(tmp_path / "checkpoints") == 30
    assert int(restore(tmp_path / "checkpoints", jnp.int32(0)).tree) == 30
    assert steps_of(tmp_path) == [10, 15, 20, 30]


def test_no_checkpoint_is_made_of_losses_that_were_not_checked(key, tmp_path):
    """The bad step is before the checkpoint, the next look at the losses after it."""
    with pytest.raises(NonFiniteLoss, match=r"step 18; no checkpoint was saved before"):
        fit(counting(18), data(), key, steps=100, batch_size=B, log_every=50, checkpoint_every=20, directory=tmp_path)
    assert latest_step(tmp_path / "checkpoints") is None
    with pytest.raises(NonFiniteLoss, match="step 3; no checkpoint"):  # nor at the end, and without a directory
        fit(counting(3), data(), key, steps=5, batch_size=B)


def test_other_metrics_may_be_infinite(key, tmp_path):
    state = fit(counting(3, "other", jnp.inf), data(), key, steps=5, batch_size=B, directory=tmp_path)
    assert int(state) == 5
    assert records.read(tmp_path)[-1]["other"] is None  # JSON has no infinity


def test_a_real_divergence_keeps_the_last_good_state(key, tmp_path):
    """Parameters blow up under a huge learning rate; the checkpoint that stays is finite."""
    import optax
    from fit_problem import loss, parameters

    from bridgejax.training import gradient_method

    def growing(params, keys, batch):
        value, metrics = loss(params, keys, batch)
        return value * jnp.sum(params["w2"] ** 2), metrics

    m = gradient_method(growing, lambda p: p, optax.sgd(1.0), params=parameters())
    arguments = {"batch_size": B, "log_every": 5, "checkpoint_every": 1, "directory": tmp_path}
    with pytest.raises(LossExplosion) as caught:
        fit(m, data(), key, steps=200, **arguments)
    assert caught.value.checkpoint == caught.value.step - 1
    saved = restore(tmp_path / "checkpoints", m.init(key, None)).tree
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved))
    with pytest.raises(LossExplosion) as again:  # going on from there meets it at the same step
        fit(m, data(), key, steps=200, **arguments)
    assert again.value.step == caught.value.step


# Interrupts ----------------------------------------------------------------------------------------------------------


def send(number, at):
    def callback(info):
        if info.step == at:
            os.kill(os.getpid(), number)

    return callback


@pytest.mark.fast
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_where(key, tmp_path, number):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="interrupted after step 20: saved in .*goes on from there") as caught:
        fit(
            counting(),
            data(),
            key,
            steps=50,
            batch_size=B,
            log_every=10,
            directory=tmp_path,
            callbacks=[send(number, 20)],
        )
    assert isinstance(caught.value, KeyboardInterrupt)
    assert (caught.value.step, caught.value.directory, int(caught.value.state)) == (20, tmp_path, 20)
    assert caught.value.signal == number
    assert latest_step(tmp_path / "checkpoints") == 20
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert int(fit(counting(), data(), key, steps=50, batch_size=B, log_every=10, directory=tmp_path)) == 50
    assert steps_of(tmp_path) == [10, 20, 30, 40, 50]


def test_a_signal_between_lines_stops_within_a_step(key, tmp_path):
    """Sent while batch 13 is made, 12 updates in; the step of that batch is the last."""

    def batch(step):
        if step == 13:
            os.kill(os.getpid(), signal.SIGINT)
        return np.ones((4, 1), np.float32)

    with pytest.raises(Interrupted) as caught:
        fit(counting(), batch, key, steps=100, log_every=50, directory=tmp_path)
    assert 13 <= caught.value.step <= 14
    assert int(caught.value.state) == caught.value.step == latest_step(tmp_path / "checkpoints")
    assert steps_of(tmp_path) == [caught.value.step]


def test_a_callback_may_raise_keyboard_interrupt(key, tmp_path):
    def callback(info):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        fit(counting(), data(), key, steps=50, batch_size=B, log_every=10, directory=tmp_path, callbacks=[callback])
    assert caught.value.step == 10
    assert latest_step(tmp_path / "checkpoints") == 10


def test_interrupted_without_a_directory_hands_over_the_state(key):
    with pytest.raises(Interrupted, match="nothing is saved without a directory") as caught:
        fit(counting(), data(), key, steps=50, batch_size=B, log_every=10, callbacks=[send(signal.SIGINT, 10)])
    assert caught.value.directory is None
    assert int(caught.value.state) == 10


def test_a_second_signal_is_not_swallowed(key, tmp_path):
    """The first asks; then the old handlers are back, and the second is an ordinary KeyboardInterrupt."""

    def batch(step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return np.ones((4, 1), np.float32)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(counting(), batch, key, steps=100)
    # Two signals at once may also arrive as one.
    assert type(caught.value) in (KeyboardInterrupt, Interrupted)
    assert signal.getsignal(signal.SIGINT) == before


def test_an_interrupt_of_a_bad_run_does_not_save_it(key, tmp_path):
    def batch(step):
        if step == 13:
            os.kill(os.getpid(), signal.SIGINT)
        return np.ones((4, 1), np.float32)

    with pytest.raises(NonFiniteLoss, match="step 9"):
        fit(counting(9), batch, key, steps=100, log_every=50, directory=tmp_path)
    assert latest_step(tmp_path / "checkpoints") is None


def test_works_outside_the_main_thread(key):
    out = []
    thread = threading.Thread(target=lambda: out.append(fit(counting(), data(), key, steps=5, batch_size=B)))
    before = signal.getsignal(signal.SIGINT)
    thread.start()
    thread.join()
    assert int(out[0]) == 5
    assert signal.getsignal(signal.SIGINT) == before


def test_other_errors_of_callbacks_and_data_come_through(key, tmp_path):
    before = signal.getsignal(signal.SIGINT)

    def callback(info):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit(counting(), data(), key, steps=9, batch_size=B, log_every=5, directory=tmp_path, callbacks=[callback])
    assert signal.getsignal(signal.SIGINT) is before

    def batch(step):
        if step == 5:
            raise OSError("no such batch")
        return np.ones((4, 1), np.float32)

    with pytest.raises(OSError, match="no such batch"):
        fit(counting(), batch, key, steps=9)
    assert not [t for t in threading.enumerate() if t.name.startswith("bridgejax-prefetch")]


# Directories ---------------------------------------------------------------------------------------------------------


def test_a_directory_of_another_configuration(key, tmp_path):
    arguments = {"steps": 4, "batch_size": B, "directory": tmp_path}
    final = fit(method(), data(), key, **arguments)
    with pytest.raises(ValueError, match=r"another configuration: it has no leaf \.ema\['b1'\]|unknown here"):
        fit(method(ema=None), data(), key, **arguments)
    with pytest.raises(ValueError, match="a run with another batch_size: 32 there, 16 here"):
        fit(method(), data(), key, **{**arguments, "batch_size": 16})
    with pytest.raises(ValueError, match="a run with another key"):
        fit(method(), data(), jax.random.key(9), **arguments)
    with pytest.raises(ValueError, match="resume=False, but .* has checkpoints up to step 4"):
        fit(method(), data(), key, resume=False, **arguments)
    same(fit(method(), data(), key, **arguments), final)  # all of it is still there
    assert steps_of(tmp_path) == [4]


def test_a_directory_that_is_further_than_asked(key, tmp_path):
    final = fit(counting(), data(), key, steps=20, batch_size=B, log_every=10, directory=tmp_path)
    assert int(fit(counting(), data(), key, steps=5, batch_size=B, directory=tmp_path)) == int(final) == 20
    assert steps_of(tmp_path) == [10, 20]


def test_a_damaged_newest_checkpoint(key, tmp_path):
    arguments = {"batch_size": B, "log_every": 5, "checkpoint_every": 5, "directory": tmp_path}
    final = fit(method(), data(), key, steps=15, **arguments)
    for file in (tmp_path / "checkpoints" / "15").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="checkpoint 15 is damaged .* falling back to checkpoint 10"):
        again = fit(method(), data(), key, steps=15, **arguments)
    same(final, again)
    assert steps_of(tmp_path) == [5, 10, 15]
    assert restore(tmp_path / "checkpoints", again).step == 15  # without a warning


def test_no_permission_is_said_before_any_work(key, tmp_path):
    work = []
    m = counting()._replace(init=lambda k, d: work.append(1))
    for parent in [tmp_path, *tmp_path.parents][:-1]:
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may write everywhere
    else:
        tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match="no permission to write in .*run; choose another directory"):
            fit(m, data(), key, steps=5, batch_size=B, directory=tmp_path / "run")
    finally:
        os.seteuid(0) if root else tmp_path.chmod(0o755)
    assert not work
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot use .*file as a directory"):
        fit(m, data(), key, steps=5, batch_size=B, directory=tmp_path / "file")
    assert not work


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a late complaint of orbax's threads
def test_a_full_disk_keeps_the_checkpoint_before(key, tmp_path):
    def step(state, k, batch):
        return jax.random.normal(k, (20_000,)), {"loss": jnp.float32(0)}

    m = Method(lambda k, d: jnp.zeros(20_000), step, lambda s: s)
    arguments = {"batch_size": B, "log_every": 1, "checkpoint_every": 2, "directory": tmp_path}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(info):
        if info.step == 5:
            assert latest_step(tmp_path / "checkpoints") == 4  # which waits for it
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(CheckpointError, match="could not write checkpoint 6"):
            fit(m, data(), key, steps=9, callbacks=[fill], **arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert latest_step(tmp_path / "checkpoints") == 4
    same(fit(m, data(), key, steps=9, **arguments), fit(m, data(), key, steps=9, batch_size=B))
    assert steps_of(tmp_path) == list(range(1, 10))


def test_metrics_that_cannot_be_written_name_the_file(key, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(info):
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))

    try:
        with pytest.raises(OSError, match=r"could not write .*metrics\.jsonl: File too large; see whether"):
            fit(counting(), data(), key, steps=9, batch_size=B, log_every=3, directory=tmp_path, callbacks=[fill])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert int(fit(counting(), data(), key, steps=9, batch_size=B, log_every=3, directory=tmp_path)) == 9
    assert steps_of(tmp_path) == [3, 6, 9]
