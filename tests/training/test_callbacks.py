"""Trackers with stand-ins for their libraries, and pictures of samples."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bridgejax as bj
from bridgejax.training import callbacks, fit, gradient_method


def method(shape=(2,), spread=0.0):
    """Learns the mean; its samples are the mean and a spread."""

    def start(mean, key, args):
        return mean + spread * jax.random.normal(key, shape)

    def process(params):
        sde = bj.SDE(lambda t, x, args: 0.0 * x)
        return bj.Process(jax.tree_util.Partial(start, params), sde, bj.grids.uniform(1))

    def loss(params, keys, batch):
        return jnp.mean((batch - params) ** 2), {}

    return gradient_method(loss, process, optax.sgd(0.1), params=jnp.zeros(shape))


def run(shape=(2,), steps=10, of=None, **options):
    seen = []
    data = np.ones((12, *shape), np.float32)
    calls = [*options.pop("callbacks"), lambda info: seen.append((info.step, dict(info.metrics)))]
    state = fit(of or method(shape), data, jax.random.key(0), steps=steps, batch_size=4, callbacks=calls, **options)
    return state, seen


@pytest.fixture
def tensorboard(monkeypatch):
    """The library's Writer, which keeps what it is given."""
    writers = []

    class Writer:
        def __init__(self, output):
            self.output, self.scalars, self.flushed = output, [], 0
            writers.append(self)

        def add_scalar(self, tag, data, step, *, wall_time=None, description=None):
            self.scalars.append((tag, data, step))

        def flush(self):
            self.flushed = len(self.scalars)

    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "tensorboard.summary", types.SimpleNamespace(Writer=Writer))
    return writers


@pytest.fixture
def wandb(monkeypatch):
    """The library, which keeps its runs."""
    runs = []

    class Run:
        def __init__(self, **options):
            self.options, self.lines, self.finished = options, [], 0
            runs.append(self)

        def log(self, data, step=None):
            self.lines.append((step, dict(data)))

        def finish(self):
            self.finished += 1

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=Run))
    return runs


def test_tensorboard_gets_every_number_of_every_line(tensorboard, tmp_path):
    watch = callbacks.tensorboard(tmp_path / "logs")
    assert not tensorboard  # nothing is written before there is a line
    _, seen = run(callbacks=[watch], log_every=4)
    (writer,) = tensorboard
    assert writer.output == str(tmp_path / "logs")
    assert writer.flushed == len(writer.scalars)
    found = {(step, tag): value for tag, value, step in writer.scalars}
    assert [step for step, _ in seen] == [4, 8, 10]
    for step, metrics in seen:
        assert {k: found[step, k] for k in metrics} == metrics
        assert found[step, "steps_per_second"] >= 0
    assert len(found) == len(writer.scalars) == sum(len(metrics) + 1 for _, metrics in seen)


def test_weights_and_biases_get_a_run_from_its_first_line_to_its_last(wandb):
    watch = callbacks.wandb(project="p", mode="offline")
    assert not wandb
    _, seen = run(callbacks=[watch], log_every=4)
    (one,) = wandb
    assert one.options == {"project": "p", "mode": "offline"}
    assert [(step, {k: v for k, v in line.items() if k != "steps_per_second"}) for step, line in one.lines] == seen
    assert one.finished == 1
    run(callbacks=[watch], log_every=4)  # a second fit is a run of its own
    assert len(wandb) == 2


def test_only_the_first_process_writes(tensorboard, wandb, tmp_path, monkeypatch):
    watches = [callbacks.tensorboard(tmp_path / "logs"), callbacks.wandb()]
    drawn = []
    watches.append(
        callbacks.pictures(method(), tmp_path, jax.random.key(0), every=2, draw=lambda *given: drawn.append(given))
    )
    info = bj.training.Info(4, 8, {"loss": 1.0}, 1.0, 4.0, lambda: method().init(jax.random.key(0), None))
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    for watch in watches:
        watch(info)
    assert not tensorboard
    assert not wandb
    assert not drawn
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    for watch in watches:
        watch(info._replace(step=6))
    assert len(tensorboard) == len(wandb) == len(drawn) == 1


@pytest.mark.parametrize(
    ("make", "module", "message"),
    [
        (
            lambda: callbacks.tensorboard("logs"),
            "tensorboard.summary",
            r"needs TensorBoard: pip install 'bridgejax\[tr",
        ),
        (lambda: callbacks.wandb(), "wandb", r"needs Weights & Biases: pip install 'bridgejax\[track\]'"),
        (
            lambda: callbacks.pictures(method(), "p", jax.random.key(0), every=1),
            "matplotlib.figure",
            r"pictures need matplotlib: pip install 'bridgejax\[run\]', or pass draw=",
        ),
    ],
)
def test_a_library_that_is_missing_is_said_before_training(monkeypatch, make, module, message):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=message):
        make()


def test_pictures_come_every_so_many_steps_and_at_the_end(tmp_path):
    """At lines of the metrics, every 3 steps: the first at or past 5, 10, 15, ..., and the last."""
    drawn = []
    of = method((2,), spread=1.0)
    watch = callbacks.pictures(
        of, tmp_path / "p", jax.random.key(1), every=5, num=4, draw=lambda path, x: drawn.append((path, x))
    )
    state, _ = run(callbacks=[watch], steps=20, log_every=3, of=of)
    assert [path.name for path, _ in drawn] == [f"step_{k}.png" for k in (6, 12, 15, 20)]
    assert (tmp_path / "p").is_dir()
    np.testing.assert_array_equal(drawn[-1][1], bj.sample(of.process(state), bj.keys(jax.random.key(1), 4)))
    noise = [x - x.mean(0) for _, x in drawn]
    np.testing.assert_allclose(noise[0], noise[1], atol=1e-5)  # the same noise around another mean
    assert np.all(np.diff([x.mean() for _, x in drawn]) > 0)  # which goes from 0 to 1


@pytest.mark.parametrize(("shape", "size"), [((4, 5, 1), (8, 15)), ((4, 5, 3), (8, 15))])
def test_images_stand_side_by_side(tmp_path, shape, size):
    from matplotlib.image import imread

    watch = callbacks.pictures(method(shape), tmp_path, jax.random.key(1), every=10, num=5)
    run(shape, callbacks=[watch])
    picture = imread(tmp_path / "step_10.png")
    assert picture.shape[:2] == size  # five of 4 x 5, three in a row
    learnt = 1 - (1 - 0.2 / np.prod(shape)) ** 10  # ten steps of 0.1 down the mean square, from 0 to 1
    np.testing.assert_allclose(picture[:4, :5, :3], (learnt + 1) / 2, atol=1 / 255)
    assert np.all(picture[4:, 10:, :3] == 0)  # the place of a sixth


def test_tiles_are_in_order_and_clipped():
    images = np.full((3, 1, 2, 3), [[[-1.0], [0.2]]]) + np.arange(3.0)[:, None, None, None]
    expected = np.array([[0, 153, 128, 255], [255, 255, 0, 0]])
    np.testing.assert_array_equal(callbacks.tiled(images)[..., 0], expected)
    images[0, 0, 0] = np.nan
    assert callbacks.tiled(images)[0, 0, 0] == 0


def test_vectors_are_points_and_others_need_a_function(tmp_path):
    watch = callbacks.pictures(method((3,)), tmp_path, jax.random.key(1), every=10, num=5)
    run((3,), callbacks=[watch])
    assert (tmp_path / "step_10.png").stat().st_size > 1000
    watch = callbacks.pictures(method((1,)), tmp_path, jax.random.key(1), every=10, num=5)
    with pytest.raises(ValueError, match=r"samples have shape \(5, 1\); expected images .* pass draw="):
        run((1,), callbacks=[watch])


@pytest.mark.parametrize("wrong", [None, 3, ["logs"]])
def test_what_is_no_place_is_named(wrong):
    with pytest.raises(ValueError, match="directory must be a path, got"):
        callbacks.tensorboard(wrong)
    with pytest.raises(ValueError, match="directory must be a path, got"):
        callbacks.pictures(method(), wrong, jax.random.key(0), every=1)
    with pytest.raises(ValueError, match="method must be a Method with process"):
        callbacks.pictures(wrong, "pictures", jax.random.key(0), every=1)
