"""Ratios of running times that a shared machine cannot fake: interleaved rounds, medians, and an A/A control.

In every round each candidate and the baseline run once, in a random order, and the baseline runs a second time under
the name of the control. A round gives

    ratio = t(candidate) / t(baseline),      control = t(baseline again) / t(baseline),

so a neighbour that slows the machine for a second slows both sides of a ratio. The result is the median over rounds
(at least 20), beside the median of the control: identical code timed against itself, which is how far from 1 a ratio
can stand for no reason. Compilation happens before the first round, and every call blocks until its result is ready.

A bar is an upper bound on a ratio, or a lower bound on a speed-up (baseline = us, candidate = a peer).
"""

from __future__ import annotations

import argparse
import gc
import os
import pathlib
import random
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import study
from study import Pick, Study, Table  # noqa: F401  (for the benchmarks beside this file)

METRIC = "time over the baseline's"
MIN_PAIRS = 20
CONTROL = "control"


def block(result: Any) -> Any:
    """Wait for a JAX result; anything else is ready already."""
    import jax

    return jax.block_until_ready(result)


def measure(f: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Mean seconds of one of ``calls`` calls: of the clock, and of the processor (all threads, and child processes)."""
    clock, processor = time.perf_counter(), _processor()
    for _ in range(calls):
        block(f())
    return (time.perf_counter() - clock) / calls, (_processor() - processor) / calls


def _processor() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def calls_for(f: Callable[[], Any], at_least: float) -> int:
    """How many calls make a measurement that lasts ``at_least`` seconds (one call at the least)."""
    once = min(measure(f, 1)[0] for _ in range(3))
    return max(1, int(np.ceil(at_least / max(once, 1e-7))))


def compare(
    baseline: Callable[[], Any],
    candidates: dict[str, Callable[[], Any]],
    *,
    pairs: int,
    at_least: float = 0.02,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Interleaved ratios of every candidate, and of the control, to the baseline.

    Args:
        baseline: the code on the right of "x times"; takes nothing, returns what to wait for.
        candidates: the codes on the left, by name.
        pairs: number of rounds.
        at_least: seconds that one measurement lasts; short codes are called several times in it.
        seed: of the order within rounds.

    Returns:
        For every candidate and for "control": ``ratio`` (median), ``quartiles`` of the ratio, ``processor_ratio`` (the
        same of processor time, which neighbours distort less), ``ms`` (median time of one call), ``pairs``.
    """
    functions = {"baseline": baseline, **candidates, CONTROL: baseline}
    for f in functions.values():  # compile, then warm
        block(f())
        block(f())
    calls = {name: calls_for(f, at_least) for name, f in functions.items()}
    calls[CONTROL] = calls["baseline"]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    order = list(functions)
    shuffle = random.Random(seed).shuffle
    gc.collect()
    gc.disable()
    try:
        for _ in range(pairs):
            shuffle(order)
            for name in order:
                times[name].append(measure(functions[name], calls[name]))
    finally:
        gc.enable()
    base = np.array(times.pop("baseline"))
    rows = {}
    for name, spent in times.items():
        ratios = np.array(spent) / base
        low, middle, high = (float(q) for q in np.percentile(ratios[:, 0], [25, 50, 75]))
        rows[name] = {
            "ratio": middle,
            "quartiles": [low, high],
            "processor_ratio": float(np.median(ratios[:, 1])),
            "ms": 1e3 * float(np.median(np.array(spent)[:, 0])),
            "pairs": pairs,
        }
    return rows


def record(
    case: dict[str, Any],
    rows: dict[str, dict[str, Any]],
    *,
    at_most: dict[str, float] | None = None,
    at_least: dict[str, float] | None = None,
) -> list[study.Record]:
    """One record per candidate of ``compare``: its spread are the quartiles, its floor the control."""
    control, records = rows[CONTROL], []
    for name, row in rows.items():
        if name == CONTROL:
            continue
        upper, lower = (at_most or {}).get(name), (at_least or {}).get(name)
        bar, met = None, None
        if upper is not None:
            bar, met = f"at most {upper:g}", row["ratio"] <= upper
        elif lower is not None:
            bar, met = f"at least {lower:g}", row["ratio"] >= lower
        kept = _rounded(
            {
                "processor_ratio": row["processor_ratio"],
                "ms": row["ms"],
                "control_quartiles": control["quartiles"],
                "processor_control": control["processor_ratio"],
                "baseline_ms": control["ms"],
            }
        )
        ratio, quartiles, floor = (_rounded(v) for v in (row["ratio"], row["quartiles"], control["ratio"]))
        full = {**case, "candidate": name}
        records.append(
            study.record(
                METRIC, ratio, full, spread=quartiles, floor=floor, bar=bar, met=met, rounds=row["pairs"], **kept
            )
        )
    return records


def environment() -> dict[str, Any]:
    """What a reader needs to judge the numbers, and nothing that names a machine."""
    import importlib.metadata as metadata
    import platform

    versions = {}
    for name in ("jax", "jaxlib", "flax", "optax", "diffrax", "torch", "torchsde", "diffusers", "k-diffusion"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "cpus": os.cpu_count(), "versions": versions}


def _rounded(value: Any) -> Any:
    """Numbers to four significant digits: the fifth is noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value


def options(parser: argparse.ArgumentParser) -> None:
    """What all benchmarks have."""
    parser.add_argument("--pairs", type=int, default=MIN_PAIRS, help="interleaved rounds")


def rounds(given: argparse.Namespace) -> int:
    """How many rounds; two in a smoke run."""
    return min(given.pairs, 2) if given.smoke else given.pairs
