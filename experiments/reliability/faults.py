"""What a user sees when something goes wrong in a run, and what is left of it.

A run of eight updates, with a checkpoint of every second, meets one fault. Recorded are the error or warning it ends
with, the newest checkpoint that can be read afterwards, and whether the run, once the fault is gone, goes on to the
very state of a run that met none. Files that unpack to gigabytes are refused by their headers: how long that takes.

    taskset -c 0 python experiments/reliability/faults.py
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import unittest.mock
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from study import Record, Study, Table, record

STUDY = Study(
    "faults",
    topic="Reliability",
    question="What does a user see when a run meets a fault, and what is left?",
    answer="One sentence that names what happened, the checkpoints that were there before, and a run that goes on from "
    "them to the same end. Files that unpack to gigabytes are refused with their size before anything is allocated.",
    brief="One sentence, and the run goes on from what was saved.",
    budget="2 minutes on one core",
    tables=(
        Table(
            metric="newest checkpoint",
            rows=("fault",),
            title="Faults of a run",
            text="The newest of the checkpoints of updates 2, 4, 6 and 8 that can be read afterwards. In every case "
            "the run then goes on, once the fault is gone, to the state of a run without it, bit for bit.",
            also=("error", "says"),
        ),
        Table(
            metric="disks",
            rows=("error",),
            title="A disk that fills up",
            text="A run on a disk of its own (tmpfs), of 4 kB and of every 16 kB more until it fits: how many of them "
            "ended with this error, the newest checkpoint that was left on the smallest and the largest of them, and "
            "how many of the runs, once the disk was made larger, did not go on to the state of an undisturbed one.",
            also=("from kB", "to kB", "newest, smallest", "newest, largest", "differ", "says"),
        ),
        Table(
            metric="seconds",
            rows=("file",),
            title="Files that declare too much",
            text="Time until such a file is refused, and memory that this took.",
            also=("bytes on disk", "MB allocated", "says"),
        ),
    ),
)
STEPS, SIZE = 8, 20_000  # updates; numbers of the state, incompressible


class Fault(NamedTuple):
    """One fault.

    Attributes:
        meet: ``meet(folder)``, a run that meets it in RUN = folder.
        error: what it ends with, by name; "" where it ends well, with a warning or without.
        left: the newest checkpoint afterwards.
        mend: ``mend(folder)``, what takes the fault away.
    """

    meet: Callable[[pathlib.Path], Any]
    error: str
    left: int
    mend: Callable[[pathlib.Path], Any] = lambda folder: None


def _method(bad_at: int = 0, value: float = float("nan"), *, bounded: bool = False) -> Any:
    """A walk of normal steps: its state needs every step before, and its loss goes wrong at an update."""
    import jax
    import jax.numpy as jnp

    import bridgejax as bj

    def step(state: Any, key: Any, batch: Any) -> Any:
        count, walk = state
        noise = jax.random.normal(key, walk.shape)
        loss = jnp.where(count + 1 == bad_at, value, 1.0)
        return (count + 1, walk + (jnp.tanh(noise) if bounded else noise)), {"loss": loss}

    return bj.Method(lambda key, data: (jnp.int32(0), jnp.zeros(SIZE)), step, lambda state: state)


def fit(folder: pathlib.Path | None, at: int = 0, do: Callable[[], Any] = lambda: None, **options: Any) -> Any:
    """The run: ``do()`` after update ``at``, when no save is under way."""
    import jax
    import numpy as np

    import bridgejax as bj

    def callback(info: Any) -> None:
        if info.step == at:
            if folder is not None:
                bj.training.latest_step(folder / "checkpoints")  # waits for it
            do()

    data = options.pop("data", np.ones((16, 1), np.float32))
    return bj.fit(
        options.pop("method", None) or _method(),
        data,
        options.pop("key", jax.random.key(0)),
        **{"steps": STEPS, "batch_size": 4, "log_every": 1, "checkpoint_every": 2, "keep": 9, **options},
        directory=folder,
        callbacks=[callback],
    )


@contextlib.contextmanager
def _limited(bytes_: int | None = None) -> Iterator[Callable[[], None]]:
    """``fill()``: from then on the kernel lets no file grow beyond so many bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_ or 0, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def _full(at: int, bytes_: int = 20_000) -> Callable[[pathlib.Path], Any]:
    def meet(folder: pathlib.Path) -> Any:
        with _limited(bytes_) as fill:
            return fit(folder, at, fill)

    return meet


def _nobody(folder: pathlib.Path, at: int) -> Any:
    """As somebody who may not write there, from update ``at`` on; root may write everywhere."""
    os.chmod(folder.parent, 0o755)
    folder.mkdir(exist_ok=True)
    root = os.geteuid() == 0

    def drop() -> None:
        os.seteuid(65534) if root else folder.chmod(0o555)

    try:
        if at == 0:
            drop()
        return fit(folder, at, drop)
    finally:
        os.seteuid(0) if root else folder.chmod(0o755)


def _damaged(harm: Callable[[pathlib.Path], Any], steps: tuple[int, ...] = (8,)) -> Callable[[pathlib.Path], Any]:
    """A finished run whose checkpoints of these steps are harmed before it is asked for again."""

    def meet(folder: pathlib.Path) -> Any:
        fit(folder)
        for step in steps:
            harm(folder / "checkpoints" / str(step))
        return fit(folder)

    return meet


def _data_file(checkpoint: pathlib.Path) -> pathlib.Path:
    """The file that holds the numbers of the state."""
    return max((path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def _truncate(checkpoint: pathlib.Path) -> None:
    file = _data_file(checkpoint)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip(checkpoint: pathlib.Path) -> None:
    file = _data_file(checkpoint)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _flip_a_leaf(checkpoint: pathlib.Path) -> None:
    """Where the list of files is gone too: only the digest of the leaf is left to tell."""
    (checkpoint / "SHA256SUMS").unlink()
    _flip(checkpoint)


def _newer(folder: pathlib.Path) -> Any:
    from bridgejax.training import checkpoints

    with unittest.mock.patch.object(checkpoints, "_FORMAT", checkpoints._FORMAT + 1):
        fit(folder, steps=4)
    return fit(folder)


def _two_writers(folder: pathlib.Path) -> Any:
    """A second ``fit`` in another thread, while the first is at update 4; its error."""
    caught: list[BaseException] = []

    def second() -> None:
        try:
            fit(folder)
        except Exception as error:
            caught.append(error)

    def begin() -> None:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    fit(folder, 4, begin)
    raise caught[0]


def _after_a_kill(folder: pathlib.Path) -> Any:
    fit(folder, steps=4)
    said = {"host": os.uname().nodename, "process": 1, "since": "2020-01-01 00:00:00"}
    (folder / "writer.lock").write_text(json.dumps(said) + "\n")
    return fit(folder)


def _clock(jump: float) -> Callable[[pathlib.Path], Any]:
    def meet(folder: pathlib.Path) -> Any:
        now = time.time
        with contextlib.ExitStack() as stack:
            patch = unittest.mock.patch("time.time", side_effect=lambda: now() + jump)
            return fit(folder, 4, lambda: stack.enter_context(patch))

    return meet


def _another(**options: Any) -> Callable[[pathlib.Path], Any]:
    def meet(folder: pathlib.Path) -> Any:
        import jax
        import numpy as np

        fit(folder, steps=4)
        made = {"data": np.zeros((16, 1), np.float32), "key": jax.random.key(1), "method": _method(bounded=True)}
        return fit(folder, **{name: made[name] for name in options})

    return meet


def _stopped(number: int) -> Callable[[pathlib.Path], Any]:
    return lambda folder: fit(folder, 5, lambda: os.kill(os.getpid(), number))


def _remove(what: str) -> Callable[[pathlib.Path], Any]:
    return lambda folder: fit(folder, 5, lambda: shutil.rmtree(folder / what))


FAULTS = {
    **{f"disk full at the save of update {n}": Fault(_full(n - 1), "CheckpointError", n - 2) for n in (4, 6, 8)},
    "disk full before the first save": Fault(_full(1), "CheckpointError", 0),
    "disk full at a line of the metrics": Fault(_full(5, 10), "OSError", 4),
    "directory that may not be written": Fault(lambda folder: _nobody(folder, 0), "PermissionError", 0),
    "directory that may no longer be written": Fault(lambda folder: _nobody(folder, 5), "PermissionError", 4),
    "checkpoints deleted while running": Fault(_remove("checkpoints"), "", 8),
    "run directory deleted while running": Fault(_remove(""), "FileNotFoundError", 0),
    "newest checkpoint truncated": Fault(_damaged(_truncate), "", 8),
    "newest checkpoint with a flipped bit": Fault(_damaged(_flip), "", 8),
    "the same, and its list of files gone": Fault(_damaged(_flip_a_leaf), "", 8),
    "newest checkpoint without its marker": Fault(_damaged(lambda c: (c / "_CHECKPOINT_METADATA").unlink()), "", 8),
    "newest checkpoint without its files": Fault(_damaged(lambda c: _data_file(c).unlink()), "", 8),
    "every checkpoint with a flipped bit": Fault(
        _damaged(_flip, (2, 4, 6, 8)), "CheckpointError", 0, lambda folder: shutil.rmtree(folder / "checkpoints")
    ),
    "checkpoint of a newer version": Fault(
        _newer, "ValueError", 0, lambda folder: shutil.rmtree(folder / "checkpoints")
    ),
    "two writers": Fault(_two_writers, "InUse", 8),
    "lock of a run that was killed": Fault(_after_a_kill, "", 8),
    "clock a day back": Fault(_clock(-86400.0), "", 8),
    "clock a day on": Fault(_clock(86400.0), "", 8),
    "other data of the same shape": Fault(_another(data=1), "ValueError", 4),
    "another loss of the same shape": Fault(_another(method=1), "ValueError", 4),
    "another seed": Fault(_another(key=1), "ValueError", 4),
    "loss not finite at update 6": Fault(lambda folder: fit(folder, method=_method(6)), "NonFiniteLoss", 4),
    "loss of a billion at update 6": Fault(lambda folder: fit(folder, method=_method(6, 1e9)), "LossExplosion", 4),
    "Ctrl-C at update 5": Fault(_stopped(signal.SIGINT), "Interrupted", 5),
    "SIGTERM at update 5": Fault(_stopped(signal.SIGTERM), "Interrupted", 5),
}


def _met(fault: Fault, folder: pathlib.Path) -> tuple[str, str]:
    """The name of the error and its sentence; of a warning the sentence alone."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fault.meet(folder)
            name, said = "", str(caught[-1].message) if caught else ""
        except (Exception, KeyboardInterrupt) as error:
            name, said = type(error).__name__, str(error)
    said = said.replace(str(folder), "RUN").replace(os.uname().nodename, "HOST")
    for found, shown in (
        (r"/d/[0-9a-f]{32}", "/d/FILE"),
        (r"process \d+ on", "process P on"),
        (r"since [-\d]+ [\d:]+\d", "since DATE"),
    ):
        said = re.sub(found, shown, said)
    return name, said


def _newest(folder: pathlib.Path) -> int:
    """The newest checkpoint that can be read; 0 for none."""
    from bridgejax.training import CheckpointError, restore

    method = _method()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return restore(folder / "checkpoints", method.init(None, None)).step
        except (FileNotFoundError, CheckpointError, ValueError):
            return 0


def met(options: argparse.Namespace) -> Iterator[Record]:
    """Every fault in turn."""
    import numpy as np

    _, expected = fit(None)
    names = list(FAULTS)[:3] if options.smoke else list(FAULTS)
    for name in names:
        fault, began = FAULTS[name], time.perf_counter()
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary) / "run"
            error, said = _met(fault, folder)
            left = _newest(folder)
            fault.mend(folder)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                anyway = "anyway" if name.startswith("loss") else True  # the program of the walk without the bad loss
                _, walk = fit(folder, resume=anyway)
            same = bool(np.array_equal(walk, expected))
        yield record(
            "newest checkpoint",
            left,
            {"fault": name},
            bar="the error and the checkpoint that this fault should leave, and the same end",
            met=error == fault.error and left == fault.left and same,
            began=began,
            error=error or "none",
            says=said[:300],
        )


# a disk that fills up -----------------------------------------------------------------------------------------------


def filled(sizes: list[int]) -> None:
    """One line on stdout for a disk of each of so many kB: error, sentence, newest checkpoint, whether it went on.

    In a namespace of its own, where this process may mount.
    """
    import numpy as np

    def mount(*words: str) -> None:
        subprocess.run(["mount", *words], check=True)

    _, expected = fit(None)
    with tempfile.TemporaryDirectory() as temporary:
        for size in sizes:
            disk = pathlib.Path(temporary) / f"{size}"
            disk.mkdir()
            mount("-t", "tmpfs", "-o", f"size={size}k", "disk", str(disk))
            error, said = _met(Fault(lambda folder: fit(folder), "", 0), disk / "run")
            left = _newest(disk / "run")
            mount("-o", "remount,size=64m", str(disk))
            _, walk = fit(disk / "run")
            print(json.dumps([error, said, left, bool(np.array_equal(walk, expected))]), flush=True)
            subprocess.run(["umount", str(disk)], check=True)


def disks(options: argparse.Namespace) -> Iterator[Record]:
    """Disks from too small for anything to large enough."""
    sizes = [4, 300] if options.smoke else list(range(4, 600, 16))
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0:
        raise SystemExit("this part needs Linux and the right to make a namespace: unshare -rm")
    here = pathlib.Path(__file__).resolve().parent
    command = ["unshare", "-rm", sys.executable, "-c", f"import faults; faults.filled({sizes})"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=here)
    found: dict[str, list[Any]] = {}
    for size, line in zip(sizes, done.stdout.splitlines(), strict=True):
        error, said, left, same = json.loads(line)
        found.setdefault(error or "none", []).append((size, said, left, same))
    for error, cases in found.items():
        (small, said, first, _), (large, _, last, _) = cases[0], cases[-1]
        differ = sum(not same for *_, same in cases)
        silent = any(not said for _, said, *_ in cases) and error != "none"
        yield record(
            "disks",
            len(cases),
            {"error": error},
            bar="a sentence, and the same end",
            met=differ == 0 and not silent,
            differ=differ,
            says=said[:300],
            **{"from kB": small, "to kB": large, "newest, smallest": first, "newest, largest": last},
        )


# files that declare too much ----------------------------------------------------------------------------------------


def _npz(path: pathlib.Path) -> None:
    """Zeros that unpack to 4 GB, written by parts."""
    import numpy as np

    shape = (2**28, 2)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w", force_zip64=True) as member:
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)  # pyright: ignore[reportArgumentType]
        for _ in range(256):
            member.write(bytes(2**24))


def _header(path: pathlib.Path) -> None:
    path.write_bytes(b"\x93NUMPY\x02\x00" + (200_000_000).to_bytes(4, "little"))
    os.truncate(path, 200_000_012)


def _picture(path: pathlib.Path) -> None:
    from PIL import Image

    path.mkdir()
    for k in range(2):
        Image.new("L", (13_000, 13_000)).save(path / f"{k}.png")


def _line(path: pathlib.Path) -> None:
    path.write_text("1," * 5_000_000 + "1\n")


FILES = {
    "bomb.npz": (_npz, "an archive that unpacks to 4 GB"),
    "header.npy": (_header, "a header of 200 MB"),
    "pictures": (_picture, "two pictures of 13,000 x 13,000 pixels"),
    "line.csv": (_line, "a line of 5 million cells"),
}


def refused(options: argparse.Namespace) -> Iterator[Record]:
    """Files that are refused before they are read."""
    from bridgejax.data import load

    for name, (make, what) in FILES.items():
        if options.smoke and name != "header.npy":
            continue
        with tempfile.TemporaryDirectory() as temporary:
            path = pathlib.Path(temporary) / name
            make(path)
            size = sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
            said = ""
            tracemalloc.start()
            began = time.perf_counter()
            try:
                load(path, max_memory="1GB")
            except ValueError as error:
                said = str(error).replace(str(path), name)
            seconds, most = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        also = {"bytes on disk": size, "MB allocated": round(most / 1e6, 2), "says": said[:300]}
        yield record("seconds", seconds, {"file": what}, bar="refused", met=bool(said), **also)


if __name__ == "__main__":
    STUDY.run(__doc__, {"met": met, "disks": disks, "refused": refused})
