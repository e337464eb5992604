import hashlib
import json
import os
import pathlib
import resource
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bridgejax.training import CheckpointError, checkpoints, latest_step, restore, save
from bridgejax.training.checkpoints import available_steps, best


class Inner(NamedTuple):
    a: object
    b: object


def tree(seed=0):
    k = jax.random.key(seed)
    params = {"w": jax.random.normal(k, (33, 7)), "half": jnp.arange(5, dtype=jnp.bfloat16), "none": None}
    return Inner(
        {"params": params, "key": k, "keys": jax.random.split(k, 3), "opt": optax.adam(0.1).init(params["w"])},
        [jnp.int32(seed), np.arange(4.0), 3, 2.5, True, jnp.zeros((0, 2)), np.float64(1.5), jnp.zeros(2, bool)],
    )


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(x, y)


def data_files(path):
    return sorted((p for p in path.rglob("*") if p.is_file() and p.parent.name == "d"), key=lambda p: p.stat().st_size)


@pytest.mark.fast
def test_round_trip_of_every_kind_of_leaf(tmp_path):
    before = tree()
    path = save(tmp_path / "c", 7, before, metadata={"note": [1, "a"]})
    assert path == tmp_path / "c" / "7"
    step, after, metadata = restore(tmp_path / "c", tree(1))
    assert (step, metadata) == (7, {"note": [1, "a"]})
    same(before, after)
    assert [type(x) for x in after.b[2:5]] == [int, float, bool]
    assert isinstance(after.b[1], np.ndarray)
    assert jax.random.key_impl(after.a["key"]) == jax.random.key_impl(before.a["key"])


def test_other_generators_and_abstract_targets(tmp_path):
    key = jax.random.key(3, impl="rbg")
    save(tmp_path, 0, {"k": key, "x": jnp.ones(3)})
    abstract = jax.eval_shape(lambda: {"k": key, "x": jnp.ones(3)})
    _, after, _ = restore(tmp_path, abstract)
    assert jax.random.key_impl(after["k"]) == jax.random.key_impl(key)
    np.testing.assert_array_equal(jax.random.key_data(after["k"]), jax.random.key_data(key))
    np.testing.assert_array_equal(after["x"], np.ones(3))


def test_orbax_alone_can_open_it(tmp_path):
    from orbax.checkpoint import v1 as ocp

    save(tmp_path, 1, {"params": {"w": jnp.ones(3)}})
    loaded = ocp.load(tmp_path / "1")
    assert list(loaded) == ["0000_params_w"]
    np.testing.assert_array_equal(loaded["0000_params_w"], np.ones(3))


def test_keeps_the_newest_and_replaces_a_step(tmp_path):
    assert latest_step(tmp_path / "nothing") is None
    for step in (1, 2, 3, 10):
        save(tmp_path, step, {"x": jnp.full(3, step)}, keep=2)
    assert available_steps(tmp_path) == [3, 10]
    assert latest_step(tmp_path) == 10
    save(tmp_path, 10, {"x": jnp.full(3, -1)}, keep=2)
    step, after, _ = restore(tmp_path, {"x": jnp.zeros(3, int)})
    assert step == 10
    np.testing.assert_array_equal(after["x"], -np.ones(3))
    step, after, _ = restore(tmp_path, {"x": jnp.zeros(3, int)}, step=3)
    assert step == 3
    # A checkpoint from after this step (of a run that fell back) is not what `keep` is about.
    save(tmp_path, 5, {"x": jnp.full(3, 5)}, keep=1)
    assert available_steps(tmp_path) == [5, 10]
    save(tmp_path, 12, {"x": jnp.full(3, 12)}, keep=None)
    assert available_steps(tmp_path) == [5, 10, 12]
    assert sorted(os.listdir(tmp_path)) == ["10", "12", "5"]


def test_spared_checkpoints_stay_and_the_best_is_found(tmp_path):
    losses = {1: 3.0, 2: 0.5, 3: 0.5, 4: 2.0, 5: 9.0}
    for step, loss in losses.items():
        save(tmp_path, step, {"x": jnp.ones(3)}, keep=2, spared=(2,), metadata={"metrics": {"loss": loss}})
    assert available_steps(tmp_path) == [2, 4, 5]
    assert best(tmp_path, "loss") == (0.5, 2)
    assert best(tmp_path, "other") is None
    assert best(tmp_path / "nowhere", "loss") is None


def test_a_newer_format_is_said_and_no_older_checkpoint_taken_instead(tmp_path, monkeypatch):
    save(tmp_path, 1, {"x": jnp.ones(3)})
    monkeypatch.setattr(checkpoints, "_FORMAT", checkpoints._FORMAT + 1)
    save(tmp_path, 2, {"x": jnp.ones(3)})
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"2 has format 2, and this version of bridgejax reads formats up to 1: use"):
        restore(tmp_path, {"x": jnp.zeros(3)})
    assert restore(tmp_path, {"x": jnp.zeros(3)}, step=1).step == 1


def test_what_a_killed_save_left_is_neither_read_nor_kept(tmp_path):
    save(tmp_path, 1, {"x": jnp.ones(3)})
    for name in ("2.orbax-checkpoint-tmp", "0.deleted", "1.replaced"):
        (tmp_path / name / "state").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    assert restore(tmp_path, {"x": jnp.zeros(3)}).step == 1
    save(tmp_path, 2, {"x": jnp.ones(3)})
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "mine"]


# Other devices -------------------------------------------------------------------------------------------------------


def test_restores_on_another_number_of_devices(tmp_path):
    mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
    x = jnp.arange(16.0).reshape(8, 2)
    placements = {
        "one": jax.devices()[0],
        "other": jax.devices()[5],
        "replicated": NamedSharding(mesh, PartitionSpec()),
        "sharded": NamedSharding(mesh, PartitionSpec("d")),
    }
    keys = jax.random.split(jax.random.key(1), 8)
    trees = {name: jax.device_put({"x": x, "k": keys}, place) for name, place in placements.items()}
    for index, (source, source_tree) in enumerate(trees.items()):
        save(tmp_path / source, index, source_tree)
        for target, target_tree in trees.items():
            _, after, _ = restore(tmp_path / source, target_tree)
            same(after, source_tree)
            for name in "xk":
                assert after[name].sharding == target_tree[name].sharding, (source, target)


# Damage --------------------------------------------------------------------------------------------------------------


def flip(file, where):
    """Flip one bit at a fraction of the file."""
    data = bytearray(file.read_bytes())
    data[int(where * (len(data) - 1))] ^= 0x10
    file.write_bytes(bytes(data))


def test_every_flipped_bit_is_caught(tmp_path):
    """One bit in turn at 3 places of every file, those that orbax never reads again among them."""
    x = {"w": jax.random.normal(jax.random.key(0), (64, 64)), "b": jnp.arange(100)}
    old = jax.tree.map(lambda a: a * 0, x)
    save(tmp_path, 1, old)
    path = save(tmp_path, 2, x)
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.stat().st_size)
    assert len(files) > 5
    for file in files:
        good = file.read_bytes()
        for where in (0.02, 0.5, 0.9):
            flip(file, where)
            with pytest.warns(UserWarning, match="checkpoint 2 is damaged .*falling back to checkpoint 1"):
                step, after, _ = restore(tmp_path, x)
            assert step == 1
            same(after, old)
            file.write_bytes(good)
    assert restore(tmp_path, x).step == 2


def test_flipped_bit_in_array_data_is_found_by_the_digest_of_the_leaf(tmp_path):
    """Without the list of files. The data is incompressible, so that the bit flipped is one of the array's."""
    x = {"w": jnp.asarray(np.random.default_rng(0).integers(0, 256, 100_000, np.uint8))}
    path = save(tmp_path, 3, x)
    (path / "SHA256SUMS").unlink()
    assert restore(tmp_path, x).step == 3
    raw = np.asarray(x["w"]).tobytes()[1000:1064]
    (file,) = (f for f in data_files(path) if raw in f.read_bytes())
    data = bytearray(file.read_bytes())
    data[data.index(raw) + 5] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(
        CheckpointError, match=r"no checkpoint in .* checkpoint 3 is damaged \(leaf \['w'\] does not match"
    ):
        restore(tmp_path, x)


@pytest.mark.parametrize("damage", ["truncated", "emptied", "removed", "no metadata", "no files"])
def test_falls_back_to_the_checkpoint_before(tmp_path, damage):
    x = {"w": jax.random.normal(jax.random.key(0), (64, 64))}
    save(tmp_path, 1, x)
    path = save(tmp_path, 2, x)
    for file in [path / "_CHECKPOINT_METADATA"] if damage == "no metadata" else data_files(path):
        if damage == "truncated":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        elif damage == "emptied":
            file.write_bytes(b"")
        else:
            file.unlink()
    if damage == "no files":
        for file in path.rglob("*"):
            if file.is_file():
                file.unlink()
    with pytest.warns(UserWarning, match=r"checkpoint 2 is damaged .*falling back to checkpoint 1 in"):
        step, after, _ = restore(tmp_path, x)
    assert step == 1
    same(after, x)
    with pytest.raises(CheckpointError, match="checkpoint 2 is damaged"):
        restore(tmp_path, x, step=2)
    # Going on from there overwrites the damaged one.
    save(tmp_path, 2, x)
    assert restore(tmp_path, x).step == 2


def test_checkpoint_without_our_manifest_is_not_trusted(tmp_path):
    from orbax.checkpoint import v1 as ocp

    ocp.save(tmp_path / "4", {"w": np.ones(3)})
    with pytest.raises(CheckpointError, match="it has no manifest"):
        restore(tmp_path, {"w": jnp.ones(3)})


def test_sums_are_what_sha256sum_checks(tmp_path):
    path = save(tmp_path, 1, {"w": jnp.ones(3)})
    for line in (path / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest
    (path / "SHA256SUMS").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="SHA256SUMS is not text"):
        restore(tmp_path, {"w": jnp.ones(3)})


def test_edited_manifest_is_damage_not_another_configuration(tmp_path):
    path = save(tmp_path, 1, {"weights": jnp.ones(3)})
    file = path / "_CHECKPOINT_METADATA"
    text = file.read_text()
    assert "weights" in text
    file.write_text(text.replace("['weights']", "['weighty']"))
    (path / "SHA256SUMS").unlink()
    json.loads(file.read_text())
    with pytest.raises(CheckpointError, match="manifest does not match its digest"):
        restore(tmp_path, {"weights": jnp.ones(3)})


# Another configuration -----------------------------------------------------------------------------------------------

MATRIX, VECTOR = jnp.zeros((3, 4), jnp.float32), jnp.zeros(2, jnp.float32)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"w": jnp.zeros((3, 5), jnp.float32), "b": VECTOR},
            r"leaf \['w'\] is float32\[3, 4\] there and float32\[3, 5\] here",
        ),
        ({"w": jnp.zeros((3, 4), jnp.bfloat16), "b": VECTOR}, r"float32\[3, 4\] there and bfloat16\[3, 4\] here"),
        ({"w": MATRIX, "c": VECTOR}, r"it has no leaf \['c'\]"),
        ({"w": MATRIX}, r"its leaf \['b'\] is unknown here"),
        ({"w": MATRIX, "b": jax.random.key(0)}, r"leaf \['b'\] is float32\[2\] there and key<fry>\[\] here"),
        ({"w": MATRIX, "b": 1.0}, r"leaf \['b'\] is float32\[2\] there and float\[\] here"),
    ],
)
def test_first_leaf_that_differs_is_named(tmp_path, target, message):
    save(tmp_path, 1, {"w": MATRIX + 1, "b": VECTOR + 1})
    with pytest.raises(ValueError, match=f"of another configuration: .*{message}.*choose another directory"):
        restore(tmp_path, target)


# Errors of the system ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a late complaint of orbax's threads
def test_write_error_loses_nothing(tmp_path):
    """The kernel refuses to let any file grow past 20 kB, as a full disk would."""
    x = {"w": jax.random.normal(jax.random.key(0), (200, 200))}
    small = {"w": jnp.zeros((200, 200))}
    save(tmp_path, 1, small)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(CheckpointError, match="could not write checkpoint 2 in .*too large"):
            save(tmp_path, 2, x)
        with pytest.raises(CheckpointError, match="could not write checkpoint 1"):
            save(tmp_path, 1, x)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["1"]
    same(restore(tmp_path, x).tree, small)
    save(tmp_path, 2, x)
    same(restore(tmp_path, x).tree, x)


@pytest.fixture
def unprivileged():
    """Root may write everywhere, so be someone else for a while."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


def test_no_permission(tmp_path, request):
    x = {"w": jnp.ones(3)}
    save(tmp_path / "c", 1, x)
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.geteuid() and parent != pathlib.Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    (tmp_path / "c").chmod(0o555)
    request.getfixturevalue("unprivileged")
    with pytest.raises(PermissionError, match="no permission to write checkpoints in .*choose another directory"):
        save(tmp_path / "c", 2, x)
    assert available_steps(tmp_path / "c") == [1]


def test_unreadable(tmp_path, request):
    x = {"w": jnp.ones(3)}
    path = save(tmp_path / "c", 1, x)
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.geteuid() and parent != pathlib.Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    path.chmod(0)
    request.getfixturevalue("unprivileged")
    try:
        with pytest.raises(PermissionError, match="no permission to read"):
            restore(tmp_path / "c", x)
    finally:
        if os.getuid() != 0:
            path.chmod(0o755)


@pytest.mark.fast
def test_bad_arguments(tmp_path):
    x = {"w": jnp.ones(3)}
    with pytest.raises(FileNotFoundError, match="there is no checkpoint in"):
        restore(tmp_path / "nowhere", x)
    with pytest.raises(ValueError, match=r"leaf \['s'\] is str; a checkpoint holds arrays and numbers only"):
        save(tmp_path, 1, {"s": "text"})
    with pytest.raises(ValueError, match="is ndarray; a checkpoint holds"):
        save(tmp_path, 1, {"s": np.array([None, 1])})
    with pytest.raises(ValueError, match="step must be an integer >= 0, got -1"):
        save(tmp_path, -1, x)
    with pytest.raises(ValueError, match="keep must be an integer >= 1"):
        save(tmp_path, 1, x, keep=0)
    assert available_steps(tmp_path) == []
    save(tmp_path, 1, x)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 2 in .*; there are \[1\]"):
        restore(tmp_path, x, step=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not write checkpoint 1"):
        save(tmp_path / "file", 1, x)
