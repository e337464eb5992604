"""Damage files of every kind at random, and see that loading each is a data set or one sentence.

    python tests/data/fuzz_loaders.py --minutes 30 --seed 1      from then on; what fails is left in --out

Guided by coverage: a damaged file that reaches a line of ``bridgejax.data`` that no file before it reached is damaged
further. Within the process nothing may be unpickled, no program started, no connection made (an audit hook), no more
memory be used than 4 GB beside the libraries (RLIMIT_AS), and every refusal is a ValueError or OSError of one line.
"""

from __future__ import annotations

import argparse
import io
import pathlib
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import warnings

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

import bridgejax.data
from bridgejax.data import load

ROOT = str(pathlib.Path(bridgejax.data.__file__).parent)
FORBIDDEN = ("pickle.", "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "urllib.", "http.")
NUMBERS = (b"0", b"-1", b"1", b"255", b"65536", b"2147483647", b"99999999999", b"1e999", b"nan")


def seeds() -> list[tuple[str, bytes]]:
    """Small valid files of every kind, by the ends of their names."""
    x = np.random.default_rng(0).normal(size=(12, 2))
    found = []

    def add(suffix: str, write, *args, **options) -> None:
        file = io.BytesIO()
        write(file, *args, **options)
        found.append((suffix, file.getvalue()))

    add(".npy", np.save, x)
    add(".npy", np.save, np.zeros((3, 4, 4), np.uint8))
    add(".npz", np.savez, x=x, y=np.arange(12) % 3)
    add(".npz", np.savez_compressed, x=x.astype(np.float32), labels=np.array(["a", "b"] * 6))
    table = pa.table({"a": x[:, 0], "n": np.arange(12), "word": ["red", None, "green"] * 4})
    add(".parquet", lambda file: parquet.write_table(table, file))
    add(".parquet", lambda file: parquet.write_table(table, file, compression="gzip", use_dictionary=False))
    rows = "\n".join(f"{a:.3f},{b:.3f},w{k % 3}" for k, (a, b) in enumerate(x))
    found.append((".csv", b"a,b,c\n" + rows.encode()))
    found.append((".csv", b'# note\n"a";"b"\n"1,5";2\n\n3;"1.234"\n4;5\n'))
    found.append((".tsv", rows.replace(",", "\t").replace("w", "").encode()))
    for kind, mode in (("PNG", "RGBA"), ("PNG", "L"), ("PNG", "P"), ("JPEG", "RGB"), ("PNG", "I;16")):
        picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).convert("RGB")
        picture = Image.new("I;16", (4, 4)) if mode == "I;16" else picture.convert(mode)
        add("/a." + kind[:3].lower().replace("jpe", "jpg"), picture.save, kind)
    return found


def damaged(content: bytes, other: bytes, dice: random.Random) -> bytes:
    """One to four changes: bits, cuts, copies, numbers, parts of another file."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        at, end = sorted(dice.randrange(len(data) + 1) for _ in range(2))
        way = dice.randrange(8)
        if way == 0 and data:
            data[at % len(data)] ^= 1 << dice.randrange(8)
        elif way == 1:
            data[at : at + 1] = bytes([dice.choice((0, 10, 34, 44, 127, 128, 255, dice.randrange(256)))])
        elif way == 2:
            del data[at : min(end, at + 64)]
        elif way == 3:
            data[at:at] = data[at : min(end, at + 64)] * dice.choice((1, 2, 50))
        elif way == 4:
            data[at : at + 4] = dice.choice((b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0" * 4, b"\0\0\0\x80"))
        elif way == 5:
            digits = list(re.finditer(rb"\d+", data))
            if digits:
                spot = dice.choice(digits)
                data[spot.start() : spot.end()] = dice.choice(NUMBERS)
        elif way == 6:
            first = dice.randrange(len(other) + 1)
            data[at:at] = other[first : first + dice.randrange(64)]
        else:
            del data[at:]
    return bytes(data[:100_000])


def attempt(folder: pathlib.Path, suffix: str, content: bytes, text: bool) -> tuple[str, frozenset]:
    """What was wrong with the answer (empty: nothing), and the lines that were reached."""
    path = folder / ("d" + suffix)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    reached: set[tuple[str, int]] = set()

    def trace(frame, event, _):
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        if event == "line":
            reached.add((frame.f_code.co_name, frame.f_lineno))
        return trace

    wrong = ""
    sys.settrace(trace)
    try:
        dataset = load(path if suffix[0] == "." else path.parent, text=text, max_memory="200MB", missing="refuse")
        wrong = "" if np.isfinite(dataset.x).all() else "numbers that are not finite"
    except (ValueError, OSError) as error:
        said = str(error)
        if "\n" in said or not 20 < len(said) < 1000:
            wrong = f"{type(error).__name__} of {len(said)} characters: {said[:300]!r}"
    except BaseException as error:
        wrong = f"{type(error).__name__}: {error!s:.300}"
    finally:
        sys.settrace(None)
        shutil.rmtree(path.parent) if suffix[0] == "/" else path.unlink()
    return wrong, frozenset(reached)


def fuzz(seconds: float, seed: int, out: pathlib.Path, most: int = 10**9) -> tuple[int, int, list[str]]:
    """(files tried, lines reached, what was wrong)."""
    dice, corpus = random.Random(seed), seeds()
    reached: set = set()
    failures: list[str] = []
    tried, until = 0, time.monotonic() + seconds
    folder = pathlib.Path(tempfile.mkdtemp(dir=out))
    while tried < most and time.monotonic() < until:
        suffix, content = corpus[tried] if tried < len(corpus) else dice.choice(corpus)
        if tried >= len(seeds()):
            content = damaged(content, dice.choice(corpus)[1], dice)
        (out / "last").write_bytes(suffix.encode() + b"\n" + content)  # a crash of the process leaves it
        wrong, lines = attempt(folder, suffix, content, bool(dice.getrandbits(1)))
        tried += 1
        if lines - reached:
            reached |= lines
            corpus.append((suffix, content))
        if wrong:
            failures.append(f"{suffix}: {wrong}")
            (out / f"failure-{len(failures)}").write_bytes(suffix.encode() + b"\n" + content)
    return tried, len(reached), failures


def main() -> int:
    """Fuzz, print what was found, fail where something was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=10**9)
    parser.add_argument("--out", type=pathlib.Path, default=None)
    words = parser.parse_args()
    out = words.out or pathlib.Path(tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    for suffix, content in seeds():  # libraries are imported before the rules hold
        attempt(out, suffix, content, text=True)

    def forbid(event: str, _: tuple) -> None:
        if event.startswith(FORBIDDEN):
            raise AssertionError(f"loading a file raised the audit event {event}")

    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 2**30,) * 2)
    sys.addaudithook(forbid)
    tried, lines, failures = fuzz(60 * words.minutes, words.seed, out, words.most)
    print(f"{tried} files, {lines} lines reached, {len(failures)} failures in {out}")
    for failure in sorted(set(failures))[:20]:
        print(" ", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
