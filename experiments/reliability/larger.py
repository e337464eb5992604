"""Data larger than memory: how fast a run goes, and how much memory it takes, beside the same rows in memory.

A network of three layers of 1024 is trained to see noise, on rows of 1024 numbers, 256 at a time. The mapped file
declares 64 GB and takes no disk: it has holes, which the kernel fills with pages of zeros when they are read. So its
reads cost what the kernel does for a page that is missing, and nothing for a disk: one of D random reads a second adds
512 / D seconds a batch, of which the thread that makes batches hides what a step takes. The files of parts are real and
just written, so cached. Segments of 15 steps of all sources take turns, every one on rows that none had before it.
Processor time is compared, of all threads and of the kernel: the least of the segments, to which other work on the
machine can only add. Memory against itself is the control.

    taskset -c 0 python experiments/reliability/larger.py
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from study import Pick, Record, Study, Table, record

STUDY = Study(
    "larger",
    topic="Reliability",
    question="What does a run on data larger than memory cost?",
    answer="A mapped array trains as fast as rows in memory and its memory stays flat, because `Batches` tells the "
    "system that rows are read in no order and lets go of what a batch has copied; as NumPy maps it, a batch takes "
    "over a hundred times longer. Files read in parts (`Shards`) hold one window. This is of a network whose step "
    "takes longer than reading its rows: with one of two layers, tried before, the mapped file fell short of nine "
    "tenths, in processor time and more so on the clock. On the clock, of a busy machine, so do .npy and .npz here.",
    brief="As fast as in memory where a step takes longer than reading, in flat memory.",
    budget="10 minutes on one core",
    picks=(
        Pick(
            "steps a processor second, beside memory",
            {"data": "64 GB mapped"},
            "64 GB mapped, steps a processor second",
        ),
    ),
    tables=(
        Table(
            metric="steps a processor second, beside memory",
            rows=("data",),
            title="Training",
            text="Steps a second of processor time as a share of those with the rows in memory, measured by turns in "
            "one process; A/A is memory against itself. On the clock is the same of the time that passed, which other "
            "work on the machine moved.",
            also=("A/A", "on the clock"),
        ),
        Table(
            metric="MB resident",
            rows=("data",),
            title="Memory",
            text="The most that was resident in a process that imports, compiles, trains ten steps and draws the rest "
            "of the batches, and what was resident after a tenth of them. The imports and what is compiled are the "
            "most of it; of the mapped file it is the order of 17 million rows (128 MB an epoch).",
            also=("n", "after a tenth"),
        ),
        Table(
            metric="time of a batch",
            rows=("data",),
            title="Reading alone",
            text="Processor time, by turns: NumPy's map of the 64 GB file beside `Batches` of it, that beside "
            "`Batches` of rows in memory.",
            also=("beside",),
        ),
        Table(
            metric="memory, beside the file",
            rows=("data",),
            title="bj.data.load",
            text="The command line and `bj.data.load` read and standardise all of a file: the most that was resident "
            "beyond the imports, as a multiple of the size of the file.",
        ),
    ),
)

WIDTH, B = 1024, 256


def sparse(path: pathlib.Path, gigabytes: int) -> None:
    """A .npy file of zeros that takes no disk."""
    import numpy as np

    header = {"descr": "<f4", "fortran_order": False, "shape": (gigabytes * 2**30 // (4 * WIDTH), WIDTH)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)  # pyright: ignore[reportArgumentType]
        file.truncate(file.tell() + gigabytes * 2**30)


def resident(what: str = "VmRSS") -> float:
    """MB of this process in memory; "VmHWM": the most until now."""
    text = pathlib.Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(what))


@functools.cache
def _method() -> Any:
    import jax
    import jax.numpy as jnp
    import optax

    import bridgejax as bj

    layers = [jax.random.normal(key, (WIDTH, WIDTH)) / WIDTH**0.5 for key in jax.random.split(jax.random.key(0), 3)]

    def loss(params: Any, keys: Any, batch: Any) -> Any:
        noise = jax.vmap(lambda key: jax.random.normal(key, (WIDTH,)))(keys)
        hidden = batch + noise
        for layer in params[:-1]:
            hidden = jnp.tanh(hidden @ layer)
        return jnp.mean((hidden @ params[-1] - noise) ** 2), {}

    return bj.gradient_method(loss, lambda p: p, optax.adam(1e-3), params=layers)


class Runner:
    """One source, trained in segments that never see a row twice."""

    def __init__(self, source: Any, length: int) -> None:
        self.source, self.length, self.at = source, length, 0
        self.cost: list[tuple[float, float]] = []  # seconds a step: of the processor, on the clock

    def segment(self) -> None:
        """Two lines of the metrics: the first ends with what is compiled and filled, the second is timed."""
        import jax

        import bridgejax as bj

        seen: list[tuple[float, float]] = []
        bj.fit(
            _method(),
            lambda step: self.source.batch(self.at + step),
            jax.random.key(0),
            steps=self.length + 5,
            log_every=5,
            callbacks=[lambda info: seen.append((time.process_time(), time.perf_counter()))],
            progress=False,
        )
        self.at += self.length + 5
        self.cost.append(tuple((now - then) / self.length for now, then in zip(seen[-1], seen[0], strict=True)))


SOURCES = {"64 GB mapped": "rows.npy", "parts, .npy": "npy", "parts, .npz": "npz", "parts, .parquet": "parquet"}


def source_of(name: str, folder: pathlib.Path) -> Any:
    """Batches of one of the files or folders below."""
    import numpy as np

    import bridgejax as bj

    path = folder / SOURCES[name]
    if path.suffix:
        return bj.data.Batches(np.load(path, mmap_mode="r"), B)
    if path.name == "parquet":
        return bj.data.Shards(path, B, columns=["x"], convert=lambda batch: batch["x"])
    return bj.data.Shards(path, B, window=2 if path.name == "npz" else 8)


def files(folder: pathlib.Path, gigabytes: int, megabytes: int) -> None:
    """The sparse file, and eight files of normal numbers of every kind."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    sparse(folder / "rows.npy", gigabytes)
    rng, rows = np.random.default_rng(0), megabytes * 2**20 // (8 * 4 * WIDTH)
    for kind in ("npy", "npz", "parquet"):
        (folder / kind).mkdir()
        for k in range(8):
            x, path = rng.standard_normal((rows, WIDTH), np.float32), folder / kind / f"{k}.{kind}"
            if kind == "npy":
                np.save(path, x)
            elif kind == "npz":
                np.savez(path, x=x)
            else:
                column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), WIDTH)
                parquet.write_table(pa.table({"x": column}), path, row_group_size=rows // 4)


def trained(options: argparse.Namespace) -> Iterator[Record]:
    """Steps a second and memory of every source, by turns."""
    import numpy as np

    import bridgejax as bj

    gigabytes, megabytes, length, turns = (1, 16, 5, 1) if options.smoke else (64, 512, 15, 8)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        files(folder, gigabytes, megabytes)
        whole = np.random.default_rng(1).standard_normal((megabytes * 2**20 // (4 * WIDTH), WIDTH), np.float32)
        sources = {"in memory": bj.data.Batches(whole, B), "in memory again": bj.data.Batches(whole, B, seed=1)}
        sources |= {name: source_of(name, folder) for name in SOURCES}
        runners = {name: Runner(source, length) for name, source in sources.items()}
        for turn in range(turns + 1):
            for runner in runners.values():
                runner.segment()
            if turn == 0:  # first touch
                for runner in runners.values():
                    runner.cost.clear()
        processor, clock = ({name: min(c[k] for c in r.cost) for name, r in runners.items()} for k in (0, 1))
        control = processor["in memory"] / processor["in memory again"]
        for name in SOURCES:
            case = {"data": name}
            share = processor["in memory"] / processor[name]
            also = {"A/A": control, "on the clock": clock["in memory"] / clock[name]}
            spread = [a[0] / b[0] for a, b in zip(runners["in memory"].cost, runners[name].cost, strict=True)]
            bar = {"bar": "at least 0.9", "met": share >= 0.9}
            yield record("steps a processor second, beside memory", share, case, spread=spread, **bar, **also)


def alone(name: str, folder: pathlib.Path, batches: int) -> tuple[float, float]:
    """MB resident after a tenth of so many batches, with a few steps of training before, and the most until the end."""
    source = source_of(name, folder)
    Runner(source, 5).segment()
    for step in range(10, batches // 10):
        source.batch(step)
    early = resident()
    for step in range(batches // 10, batches):
        source.batch(step)
    return early, resident("VmHWM")


def memory(options: argparse.Namespace) -> Iterator[Record]:
    """Memory of each source, in a process of its own."""
    gigabytes, megabytes, batches = (1, 16, 40) if options.smoke else (64, 512, 3000)
    call = "import larger, pathlib, sys; print(*larger.alone(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])))"
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        files(folder, gigabytes, megabytes)
        for name in list(SOURCES)[:1] if options.smoke else SOURCES:
            here = str(pathlib.Path(__file__).resolve().parent)
            command = [sys.executable, "-c", call, name, str(folder), str(batches)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=here)
            early, most = map(float, done.stdout.split())
            bar = {"bar": "at most 1500", "met": most <= 1500}
            yield record("MB resident", most, {"data": name}, n=batches, **bar, **{"after a tenth": early})


def read(options: argparse.Namespace) -> Iterator[Record]:
    """A batch of a mapped file as NumPy maps it, and with what the kernel is told, by turns."""
    import numpy as np

    import bridgejax as bj

    with tempfile.TemporaryDirectory() as temporary:
        path = pathlib.Path(temporary) / "rows.npy"
        sparse(path, 1 if options.smoke else 64)
        told = bj.data.Batches(np.load(path, mmap_mode="r"), B)
        plain = np.load(path, mmap_mode="r")
        whole = bj.data.Batches(np.ones((2**12 if options.smoke else 2**16, WIDTH), np.float32), B)
        times: dict[str, list[float]] = {"memory": [], "told": [], "plain": []}
        for turn in range(3 if options.smoke else 21):
            rows = told.rows(2 * turn + 1)
            for name, draw in (
                ("memory", lambda: whole.batch(turn)),  # noqa: B023
                ("told", lambda: told.batch(2 * turn)),  # noqa: B023
                ("plain", lambda: plain[rows]),  # noqa: B023
            ):
                began = time.process_time()
                draw()
                times[name].append(time.process_time() - began)
        for name, beside, case, other in (
            ("plain", "told", "64 GB, as NumPy maps it", "64 GB, Batches"),
            ("told", "memory", "64 GB, Batches", "in memory, Batches"),
        ):
            spread = [a / b for a, b in zip(times[name][1:], times[beside][1:], strict=True)]  # first touch aside
            ratio = min(times[name][1:]) / min(times[beside][1:])
            yield record("time of a batch", ratio, {"data": case}, spread=spread, beside=other)


LOAD = """
import pathlib, sys, bridgejax as bj

def most():  # of this process alone: getrusage begins with what its parent had
    text = pathlib.Path("/proc/self/status").read_text()
    return next(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM"))

bj.data.load("moons", num=10)
before = most()
bj.data.load(sys.argv[1])
print(most() - before)
"""


def loaded(options: argparse.Namespace) -> Iterator[Record]:
    """The memory of bj.data.load."""
    import numpy as np

    rows = 2**10 if options.smoke else 2**15
    with tempfile.TemporaryDirectory() as temporary:
        path = pathlib.Path(temporary) / "rows.npy"
        np.save(path, np.random.default_rng(0).standard_normal((rows, WIDTH), np.float32))
        done = subprocess.run([sys.executable, "-c", LOAD, str(path)], capture_output=True, text=True, check=True)
        size = path.stat().st_size
        yield record("memory, beside the file", int(done.stdout) / size, {"data": f"{size // 2**20} MB, .npy"}, n=rows)


if __name__ == "__main__":
    STUDY.run(__doc__, {"trained": trained, "memory": memory, "read": read, "loaded": loaded})
