"""README.md's tables, made from results/*.json.

python experiments/tables.py            rewrite them
python experiments/tables.py --check    fail when they are stale
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import results

BEGIN = "<!-- results: made by experiments/tables.py, edit results/*.json instead -->"
END = "<!-- end of results -->"
README = pathlib.Path(__file__).resolve().parent / "README.md"
PICTURES = {  # what each script draws into docs/
    "compose": ("composition", "composition_learnt", "composition_sets"),
    "compose_digits": ("composition_digits",),
    "digits": ("digits",),
    "glyphs": ("glyphs",),
    "gsbm": ("gsbm",),
    "landmarks": ("landmarks",),
    "planar": ("planar",),
    "planning": ("planning",),
    "samplers": ("samplers_gmm9",),
}


def number(value: Any, unit: str | None = None) -> str:
    """A cell: four significant digits, thousands grouped, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        value = f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    elif isinstance(value, int):
        value = f"{value:,}"
    return f"{value} {unit}" if unit else str(value)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; what would break a row is escaped."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def claims(rows: list[dict[str, Any]]) -> str:
    """The table of results."""
    body = []
    for row in rows:
        ours = number(row["ours"], row.get("unit"))
        if row.get("spread"):
            ours += f" ({number(min(row['spread']))} to {number(max(row['spread']))})"
        if row.get("met") is not None:
            ours += "" if row["met"] else " **missed**"
        published = number(row.get("published"), row.get("unit"))
        command = f"`{row['command']}`" if not row["command"].startswith("`") else row["command"]
        text = row["claim"] + (f" ({row['notes']})" if row.get("notes") else "")
        source = row.get("source") or "–"
        body.append([text, source, published, ours, number(row.get("floor")), row.get("cost") or "–", command])
    return table(["claim", "source", "published", "ours", "real vs real", "cost", "command"], body)


def benchmark(report: dict[str, Any]) -> str:
    """The table of one benchmark."""
    body = []
    for r in report["records"]:
        bar = f"≤ {r['at_most']:g}" if r.get("at_most") is not None else ""
        bar = f"≥ {r['at_least']:g}" if r.get("at_least") is not None else bar
        verdict = {None: "", True: "met", False: "**missed**"}[r.get("met")]
        low, high = r.get("quartiles") or (None, None)
        ratio = number(r["ratio"]) + (f" ({number(low)} to {number(high)})" if low is not None else "")
        body.append(
            [str(r["case"]), str(r["candidate"]), ratio, number(r["control"]), f"{bar} {verdict}".strip() or "–"]
        )
    environment = report.get("environment") or {}
    versions = ", ".join(f"{k} {v}" for k, v in (environment.get("versions") or {}).items())
    about = [f"Python {environment['python']}"] if "python" in environment else []
    about += [f"{environment['cpus']} CPU cores"] if "cpus" in environment else []
    about += [versions] if versions else []
    about += [f"medians of {report['pairs']} interleaved pairs"] if "pairs" in report else []
    head = ["case", "candidate", "time / baseline (quartiles)", "baseline / itself", "bar"]
    return "\n\n".join(part for part in (report["claim"], "; ".join(about), table(head, body)) if part)


def pictures() -> str:
    """Links to what the scripts draw."""
    lines = [
        f"- `python experiments/{script}.py`: " + ", ".join(f"[{name}](../docs/{name}.png)" for name in names)
        for script, names in PICTURES.items()
    ]
    return "\n".join(["Pictures:", "", *lines])


def generated(directory: pathlib.Path) -> str:
    """What stands between the markers.

    Raises:
        ValueError: a file that holds no results.
    """
    rows: list[dict[str, Any]] = []
    parts: list[str] = []
    for path in sorted(directory.glob("*.json")):
        found, report = results.read(path)
        rows += found
        if report is not None:
            parts.append(f"### {path.stem}\n\n{benchmark(report)}")
    first = claims(rows) if rows else "No results yet: run an experiment."
    return "\n\n".join([first, *([pictures()] if rows else []), *parts])


def updated(text: str, directory: pathlib.Path) -> str:
    """The README with fresh tables.

    Raises:
        ValueError: for a README without the two markers in order.
    """
    start, stop = text.find(BEGIN), text.find(END)
    if start < 0 or stop < start or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md must hold the lines {BEGIN!r} and {END!r} once each, in this order")
    return f"{text[: start + len(BEGIN)]}\n\n{generated(directory)}\n\n{text[stop:]}"


def main(argv: list[str] | None = None, readme: pathlib.Path = README, directory: pathlib.Path | None = None) -> int:
    """Rewrite or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when the tables are stale")
    check = parser.parse_args(argv).check
    try:
        old = readme.read_text(encoding="utf-8")
        new = updated(old, directory or results.DIRECTORY)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if check and new != old:
        print("README.md is stale; run: python experiments/tables.py", file=sys.stderr)
        return 1
    if not check and new != old:
        readme.write_text(new, encoding="utf-8")
        print(f"{readme.name}: tables rewritten")
    return 0


if __name__ == "__main__":
    sys.exit(main())
