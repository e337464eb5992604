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
import json
import os
import pathlib
import random
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results"
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
    case: str,
    rows: dict[str, dict[str, Any]],
    *,
    at_most: dict[str, float] | None = None,
    at_least: dict[str, float] | None = None,
) -> list[dict[str, Any]]:
    """One record per candidate of ``compare``, with its bar, whether it is met, and the control of the same rounds."""
    control = rows[CONTROL]
    records = []
    for name, row in rows.items():
        if name == CONTROL:
            continue
        upper, lower = (at_most or {}).get(name), (at_least or {}).get(name)
        met = None
        if upper is not None:
            met = row["ratio"] <= upper
        elif lower is not None:
            met = row["ratio"] >= lower
        records.append(
            {
                "case": case,
                "candidate": name,
                **row,
                "control": control["ratio"],
                "control_quartiles": control["quartiles"],
                "processor_control": control["processor_ratio"],
                "baseline_ms": control["ms"],
                "at_most": upper,
                "at_least": lower,
                "met": met,
            }
        )
    return records


def environment() -> dict[str, Any]:
    """What a reader needs to judge the numbers, and nothing that names a machine."""
    import importlib.metadata as metadata
    import platform

    versions = {}
    for name in ("jax", "jaxlib", "flax", "optax", "diffrax", "torch", "torchsde"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "cpus": os.cpu_count(), "versions": versions}


def show(records: list[dict[str, Any]]) -> None:
    """Print the records as a table."""
    print(f"\n{'case':36s} {'candidate':16s} {'ratio':>7s} {'quartiles':>13s} {'control':>8s}", end="")
    print(f" {'cpu':>7s} {'control':>8s} {'ms':>9s}  bar")
    for r in records:
        bar = ""
        if r["at_most"] is not None:
            bar = f"<= {r['at_most']:g}"
        elif r["at_least"] is not None:
            bar = f">= {r['at_least']:g}"
        verdict = {None: "", True: "met", False: "MISSED"}[r["met"]]
        low, high = r["quartiles"]
        print(
            f"{r['case']:36s} {r['candidate']:16s} {r['ratio']:7.3f} {low:6.2f}-{high:<6.2f} {r['control']:8.3f} "
            f"{r['processor_ratio']:7.3f} {r['processor_control']:8.3f} {r['ms']:9.3f}  {bar} {verdict}",
            flush=True,
        )


def save(name: str, claim: str, records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Outside ``--smoke`` write the records to ``results/NAME.json`` (or ``--out``)."""
    path = options.out
    if path is None:
        if options.smoke:
            return
        path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"claim": claim, "environment": environment(), "pairs": options.pairs, "records": records}
    path.write_text(json.dumps(_rounded(report), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    """Numbers to four significant digits: the fifth is noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value


def parse(description: str | None, *extra: Callable[[argparse.ArgumentParser], Any]) -> argparse.Namespace:
    """The options all benchmarks share; ``extra`` functions add their own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small sizes and 2 rounds: does it run? (seconds)")
    parser.add_argument("--pairs", type=int, default=MIN_PAIRS, help="interleaved rounds")
    parser.add_argument("--only", nargs="*", default=None, help="run the cases whose names begin with one of these")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="where the JSON goes")
    for add in extra:
        add(parser)
    options = parser.parse_args()
    if options.smoke:
        options.pairs = min(options.pairs, 2)
    return options


def chosen(case: str, options: argparse.Namespace) -> bool:
    """Whether ``--only`` lets this case, or this group of cases, run."""
    return options.only is None or any(case.startswith(o) or o.startswith(case) for o in options.only)
