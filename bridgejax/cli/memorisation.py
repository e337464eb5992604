"""``bridgejax evaluate RUN --memorisation``: does the run copy its training rows, and at which noise could it?

    copies       d1/d2 < 1/3 to the two nearest training rows, of samples and of held-out rows
    speciation   the noise level sigma/alpha at which the data's first principal component is told from noise
    collapse     the level below which the exact denoiser of the rows returns one of them
    two halves   with ``--other-half RUN2``, trained on other rows: whether both draw the same from the same noise

Distances and levels are in the units that the run was trained in.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from bridgejax._types import Json
from bridgejax.cli.results import labels_in_turn, sampled, say
from bridgejax.data import Dataset
from bridgejax.evaluation import Memorised, memorised, plots, two_halves
from bridgejax.evaluation.records import save_json
from bridgejax.oracles import empirical_law, estimate_collapse_time, speciation_time
from bridgejax.processes import schedules
from bridgejax.runs import Run
from bridgejax.runs import load as load_run
from bridgejax.runs.config import Config, from_record
from bridgejax.runs.data import RunData, load_run_data, starts_of
from bridgejax.runs.record import check_data, located, read_config
from bridgejax.solve.grids import _end_of, _noise_levels, _noising_times

_COST = 2e10  # multiplications for a collapse time
_SHOWN = 60  # images of a picture


def report_memorisation(directory: Path, data: RunData, num: int, seed: int, other: str = "") -> None:
    """Sample, compare with the training rows, and say and write what was found.

    Args:
        directory: of the run.
        data: its data.
        num: how many samples.
        seed: of the samples.
        other: directory of a run on other rows of the same law, or empty.

    Raises:
        ValueError: points on a manifold, or another run that does not go with this one.
    """
    if data.coordinates is not None:
        raise ValueError("memorisation is told by Euclidean distances, and this run has points on a manifold")
    run, config = load_run(directory), from_record(read_config(directory)["config"])
    train = data.train
    say(f"sampling {num}, and looking for the nearest of {len(train)} training rows ...")
    samples = _drawn(run, config, data, num, seed)
    found = memorised(samples, train.x, data.holdout.x)
    record: Json = {
        "num_samples": num, "num_train": len(train), "num_holdout": len(data.holdout), "seed": seed,
        "samples": _statistics(found.distances) | {"copies": found.fraction},
        "held_out": _statistics(found.control_distances) | {"copies": found.control},
        "z": found.z,
    }  # fmt: skip
    record["times"] = _times(run, train, seed)
    if other:
        record["two_halves"] = _halves(run, config, data, Path(other), num, seed)
    record["words"] = _words(found, record)
    name = directory / f"memorisation-{seed}"
    save_json(record, name.with_suffix(".json"))
    np.savez(name.with_suffix(".npz"), x=train.destandardise(samples), nearest=found.nearest, distances=found.distances)
    made = [name.with_suffix(".json"), name.with_suffix(".npz")]
    if train.kind == "image":
        made.append(_picture(name.with_suffix(".png"), samples, train, found))
    print("\n".join([*record["words"], *(f"  {path}" for path in made)]))


def _drawn(run: Run, config: Config, data: RunData, num: int, seed: int) -> np.ndarray:
    """Samples as the rows are compared: columns on one scale."""
    start = starts_of(data, config, "forward", num)
    return data.train.standardise(sampled(run, seed, num, labels_in_turn(data.train, num), start))


def _statistics(distances: np.ndarray) -> Json:
    near, far = distances.T
    ratio = near / np.where(far > 0, far, 1.0)
    return {"median_distance": float(np.median(near)), "median_ratio": float(np.median(ratio))}


def _times(run: Run, train: Dataset, seed: int) -> Json:
    """Speciation and collapse of the training rows, as noise levels and on the run's own schedule where it has one."""
    rows = np.unique(train.x.reshape(len(train), -1), axis=0)
    draws = int(min(1024, max(64, _COST / (43 * rows.size))))
    law, levels = empirical_law(rows), schedules.ve(sigma_min=1e-4, sigma_max=1e4)
    semilinear, found = run.process.dynamics.semilinear, {}
    collapse = estimate_collapse_time(jax.random.key(seed), levels, law, draws=draws)
    for name, t in (("speciation", speciation_time(levels, law)), ("collapse", collapse.time)):
        found[name] = {"noise_level": float(_noise_levels(levels, t))}
        if semilinear is not None:
            found[name]["time"] = _time_at(semilinear.schedule, float(levels.log_snr(t)))
    return found


def _time_at(schedule: schedules.Schedule, log_snr: float) -> float | None:
    """The noising time of this log SNR; None beyond the schedule's end."""
    return None if _end_of(schedule) >= log_snr else float(_noising_times(schedule, np.array([log_snr]))[0])


def _halves(run: Run, config: Config, data: RunData, directory: Path, num: int, seed: int) -> Json:
    """The other run, from the same noise, in the units of this one."""
    record = read_config(directory)
    there = located(record, directory)
    check_data(record, there)
    rows, other = load_run_data(there), load_run(directory)
    if data.source is not None or rows.source is not None:
        raise ValueError("other_half compares two runs from the same noise, and one of these starts from a source")
    if rows.train.shape != data.train.shape:
        raise ValueError(f"other_half has samples of shape {rows.train.shape}, and this run of {data.train.shape}")
    mine, theirs = (_drawn(r, c, d, num, seed) for r, c, d in ((run, config, data), (other, there, rows)))
    theirs = data.train.standardise(rows.train.destandardise(theirs))
    found = two_halves(mine, theirs, *(data.train.standardise(part.train.values) for part in (data, rows)))
    return {
        "other": str(directory), "agree": found.agree, "correlation": found.correlation,
        "median_between": float(np.median(found.between)), "median_to_own": float(np.median(found.to_own)),
        "median_unrelated": float(np.median(found.unrelated)),
    }  # fmt: skip


def _words(found: Memorised, record: Json) -> list[str]:
    verdict = "copies rows: yes" if found.z > 3 else "copies rows: none more than held-out rows do"
    mine, held = record["samples"], record["held_out"]
    words = [
        f"MEMORISATION: {verdict}",
        f"{record['num_samples']} samples and {record['num_holdout']} held-out rows against {record['num_train']} "
        "training rows",
        f"d1/d2 < 1/3        samples {found.fraction:.1%}, held-out rows {found.control:.1%} ({found.z:+.1f} standard "
        "errors)",
        f"median d1/d2       samples {mine['median_ratio']:.3f}, held-out rows {held['median_ratio']:.3f}",
        f"median d1          samples {mine['median_distance']:.4g}, held-out rows {held['median_distance']:.4g}",
    ]
    for name, of in (("speciation", "classes part above"), ("collapse", "the exact score of the rows copies below")):
        at = record["times"][name]
        time = "" if at.get("time") is None else f" (t = {at['time']:.3f} of this run)"
        words.append(f"{name:18} noise level {at['noise_level']:.3g}{time}: {of}")
    if "two_halves" in record:
        half = record["two_halves"]
        words.append(
            f"two halves         {half['agree']:.0%} of the pairs from the same noise are nearer to each other than to "
            f"their rows; correlation {half['correlation']:.2f}; distance {half['median_between']:.4g}, to their own "
            f"rows {half['median_to_own']:.4g}, of unrelated noise {half['median_unrelated']:.4g}"
        )
    return words


def _picture(path: Path, samples: np.ndarray, train: Dataset, found: Memorised) -> Path:
    """Samples, nearest to a copy first, beside their two nearest training rows."""
    order = np.argsort(found.ratio)[:_SHOWN]
    shown = [train.destandardise(train.x[found.nearest[order, k]]) for k in (0, 1)]
    titles = ("NEAREST TRAINING ROW", "SECOND NEAREST")
    return plots.image_grid(path, train.destandardise(samples[order]), dict(zip(titles, shown, strict=True)))
