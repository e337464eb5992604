"""What an evaluation says: one line per metric, the table, the JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Literal

from bridgejax._types import Json
from bridgejax.evaluation.verdict import Verdict

Kind = Literal["points", "table", "image"]


def save_json(values: Json, path: str | os.PathLike[str]) -> pathlib.Path:
    """Write a report; the file is replaced whole, never half-written."""
    path = pathlib.Path(path)
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
    os.replace(beside, path)
    return path


@dataclasses.dataclass(frozen=True)
class Metric:
    """One line of a report.

    Attributes:
        value: mean over the model draws.
        std: standard deviation over the model draws; None for a single draw.
        draws: number of model draws.
        floor: the same metric for real data in the place of samples, mean over draws.
        floor_std: standard deviation over those draws.
        floor_draws: their number.
        n: rows on either side.
        what: the formula in words.
        better: ``"lower"``, ``"higher"``, or the number that a perfect model gets.
        error: standard error of (value - floor) where samples and real rows are of one law; None where the floor has
            fewer than 10 draws.
        details: what else is known, JSON values.
    """

    value: float
    std: float | None
    draws: int
    floor: float
    floor_std: float
    floor_draws: int
    n: int
    what: str
    better: str
    error: float | None = None
    details: Json = dataclasses.field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """value / floor, for distances (``better == "lower"``) with a positive floor; else None."""
        return self.value / self.floor if self.better == "lower" and self.floor > 0 else None

    @property
    def z(self) -> float | None:
        """Standard errors on the wrong side of the floor, see ``verdict``; None without ``error``."""
        if self.error is None:
            return None
        excess = self.value - self.floor
        if self.better == "higher":
            excess = -excess
        elif self.ratio is not None:
            excess = 2 * self.floor * (math.sqrt(self.ratio) - 1)
        if self.error == 0:
            return 0.0 if excess == 0 else math.copysign(math.inf, excess)
        return excess / self.error


@dataclasses.dataclass(frozen=True)
class Report:
    """What ``evaluate`` found. ``str(report)`` is the table.

    Attributes:
        kind: ``"points"``, ``"table"`` or ``"image"``.
        metrics: name -> ``Metric``, in the order of the table.
        floor: how the floor was drawn.
        features: what the Frechet distances look at.
        num_samples: rows given, or drawn from a sampler.
        num_train: training rows.
        num_holdout: held-out rows given, or None for a sampler.
        seed: of subsets, directions and the classifier.
        classes: shares of the classes in samples and held-out rows, by the classifier; None without labels.
        source: what is known of the start points of a bridge; None without them.
        bridge: which end is which, the noise and its units, sentences under "words"; None without a bridge.
        likelihood: mean -log p of held-out rows under the model and a kernel density estimate; None where not taken.
        notes: what limits these numbers.
        verdict: what to conclude.
    """

    kind: Kind
    metrics: dict[str, Metric]
    floor: str
    features: str
    num_samples: int
    num_train: int
    num_holdout: int | None
    seed: int
    classes: Json | None = None
    source: Json | None = None
    bridge: Json | None = None
    likelihood: Json | None = None
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None

    def to_dict(self) -> Json:
        """JSON values only; each metric also has its ``ratio`` and ``z``."""
        out = dataclasses.asdict(self)
        out["notes"] = list(self.notes)
        if self.verdict is not None:
            for name in ("words", "told_apart_by"):
                out["verdict"][name] = list(getattr(self.verdict, name))
        for name, metric in self.metrics.items():
            finite = metric.z is not None and math.isfinite(metric.z)
            out["metrics"][name] |= {"ratio": metric.ratio, "z": metric.z if finite else None}
        return out

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Write ``to_dict`` as JSON, see ``save_json``."""
        return save_json(self.to_dict(), path)

    def table(self) -> str:
        """The report for a terminal, at most 100 columns: the verdict, then the numbers."""
        rows = [("metric", "value", "real vs real", "ratio", "n", "best")]
        for name, m in self.metrics.items():
            best = m.better if m.better in ("lower", "higher") else f"= {m.better}"
            ratio = "" if m.ratio is None else f"{m.ratio:.2f}"
            rows.append((name, _spread(m.value, m.std), _spread(m.floor, m.floor_std), ratio, str(m.n), best))
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(w) if k in (0, 5) else cell.rjust(w)
                for k, (cell, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "  ".join("-" * w for w in widths))
        lines.append(f"real vs real: {self.floor}")
        if self.classes is not None:
            lines.append(_class_line(self.classes))
        lines.extend(self.notes)
        if self.likelihood is not None:
            lines.extend(self.likelihood["words"])
        if self.bridge is not None:
            lines.extend(_bridge_lines(self.bridge))
        if self.verdict is not None:
            lines = [f"VERDICT: {'; '.join(self.verdict.words)}", "", *lines]
        return "\n".join(_wrapped(lines))

    def __str__(self) -> str:
        return self.table()


def _bridge_lines(bridge: Json) -> list[str]:
    lines = list(bridge.get("words", ()))
    if "rmse_to_own_target" in bridge:
        own, other = bridge["rmse_to_own_target"], bridge["rmse_between_targets"]
        lines.append(f"root mean squared distance to its own target {own:.4g} (of one target to another {other:.4g})")
    return lines


def _spread(mean: float, std: float | None) -> str:
    """Four digits, and the spread to the same place."""
    places = max(0, 3 - (math.floor(math.log10(abs(mean))) if mean else 0))
    places = min(places, 6)
    return f"{mean:.{places}f}" if std is None else f"{mean:.{places}f} ± {std:.{places}f}"


def _class_line(classes: Json) -> str:
    shares = zip(classes["names"], classes["samples"], classes["real"], strict=True)
    if len(classes["names"]) > 20:
        return f"classes: {len(classes['names'])}, shares in report.json"
    return "share of each class, samples (real): " + ", ".join(f"{c} {s:.0%} ({r:.0%})" for c, s, r in shares)


def _wrapped(lines: Sequence[str], width: int = 100) -> list[str]:
    import textwrap

    return [part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="  ") or [""]]
