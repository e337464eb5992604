"""README.md and a page for every study, made from results/*.json and from what the scripts say of their studies.

python experiments/tables.py            rewrite them
python experiments/tables.py --check    fail when they are stale

Pages lie beside this file, in pages/: GitHub renders them where README.md links to them, and the documentation, which
is built without results, has nothing to do with them. A script is not run: its ``STUDY = Study(...)`` is read.
"""

from __future__ import annotations

import argparse
import ast
import pathlib
import re
import sys
from typing import Any

import study
from study import Pick, Record, Study, Table

BEGIN = "<!-- results: made by experiments/tables.py, edit results/*.json or the scripts instead -->"
END = "<!-- end of results -->"
MADE = "<!-- made by experiments/tables.py -->"
TOPICS = (
    "Generating",
    "Schrödinger bridges",
    "Conditioned processes",
    "Sampling a density",
    "Gaussian processes",
    "Domains: discrete, mixed, constrained",
    "Composing models",
    "Applications",
    "Solvers and speed",
    "Reliability",
)


# studies ------------------------------------------------------------------------------------------------------------


def studies(folder: pathlib.Path) -> dict[pathlib.Path, tuple[Study, str]]:
    """Every script that holds a study, with it and the script's docstring, topic by topic.

    Raises:
        ValueError: a study that is not written with literals, or whose name is not the script's.
    """
    found = {}
    for path in sorted([*folder.glob("*.py"), *folder.glob("benchmarks/*.py"), *folder.glob("reliability/*.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["STUDY"]:
                code = compile(ast.Expression(node.value), str(path), "eval")
                try:
                    one = eval(code, {"Study": Study, "Table": Table, "Pick": Pick})
                except NameError as error:
                    raise ValueError(f"{path.name}: STUDY must be written with literals: {error}") from None
                if one.name != path.stem or one.topic not in TOPICS:
                    raise ValueError(f"{path.name}: STUDY has name {one.name!r}, topic {one.topic!r} of {TOPICS}")
                found[path] = (one, ast.get_docstring(tree) or "")
    return dict(sorted(found.items(), key=lambda item: TOPICS.index(item[1][0].topic)))


def field(found: Record, name: str) -> Any:
    """A field of the case, of the record or of its further statistics."""
    return found["case"].get(name, found.get(name, found.get("also", {}).get(name)))


def matches(found: Record, where: dict[str, Any]) -> bool:
    """Whether all these fields of the case, part or metric are so."""
    return all(field(found, k) in (v if isinstance(v, tuple) else (v,)) for k, v in where.items())


def minutes(one: Study, records: list[Record]) -> float:
    """Of all timed runs."""
    runs: dict[Any, float] = {}
    for r in records:
        names = one.timed or ("part", *r["case"])
        name = tuple((k, field(r, k)) for k in names)
        runs[name] = max(runs.get(name, 0.0), r.get("seconds", 0.0))
    return sum(runs.values()) / 60


# cells --------------------------------------------------------------------------------------------------------------


def number(value: Any, digits: int = 3) -> str:
    """A number in so many significant digits, thousands grouped; a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(number(v, digits) for v in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    if isinstance(value, int) or (abs(value) >= 10**digits and abs(value) < 1e6):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def cell(found: Record, digits: int) -> str:
    """The value, how far it spreads, and whether it met its bar, where it has one."""
    out = number(found["value"], digits) if found["value"] is not None else found["why"]
    spread, error = found.get("spread"), found.get("also", {}).get("standard_error")
    if error is not None:
        out += f" ± {number(error, 2)}"
    elif spread and len(spread) > 1 and min(spread) <= (found["value"] or 0.0) <= max(spread):
        out += f" ({number(min(spread), digits)} to {number(max(spread), digits)})"
    return {True: f"{out} ✓", False: f"**{out} missed**"}.get(found.get("met"), out)  # pyright: ignore


def grid(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; what would break a row is escaped."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(" ".join(str(c).split()).replace("|", "\\|") for c in cells) + " |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def first_seen(values: list[Any]) -> list[Any]:
    """Each once; numbers in their order, others as they come."""
    once = list(dict.fromkeys(values))
    return sorted(once) if all(isinstance(v, int | float) for v in once) else once


def constant(values: list[Any]) -> bool:
    """Whether all are the same and something."""
    return bool(values) and all(v == values[0] for v in values) and values[0] is not None


def table(one: Table, study_: Study, records: list[Record]) -> tuple[str, list[Record]]:
    """A pivot table and the records in it.

    The floor and the published number stand in a row or a column of their own where they are the same all along it, in
    the cells otherwise.

    Raises:
        ValueError: no record, or two for one cell.
    """
    metrics = (one.metric,) if isinstance(one.metric, str) else one.metric
    chosen = [r for r in records if (not metrics or r["metric"] in metrics) and matches(r, one.where)]
    if one.show != "value":
        chosen = [r for r in chosen if field(r, one.show) is not None]
    if not chosen:
        raise ValueError(f"{study_.name}: no record for the table {one}")
    if metrics:
        chosen.sort(key=lambda r: metrics.index(r["metric"]))
    cells: dict[tuple[Any, Any], Record] = {}
    for r in chosen:
        at = tuple(field(r, k) for k in one.rows), field(r, one.columns)
        if at in cells:
            raise ValueError(f"{study_.name}: two records for {at} in the table of {one.metric or 'all'}")
        cells[at] = r
    columns = first_seen([c for _, c in cells])
    names = list(dict.fromkeys(row for row, _ in cells))
    orders = [first_seen([row[k] for row in names]) for k in range(len(one.rows))]
    names.sort(key=lambda row: [order.index(v) for order, v in zip(orders, row, strict=True)])

    label = one.columns if one.columns != "metric" else ""
    plain = not (len(columns) == 1 and one.columns == "metric")
    heads = [f"{label} = {number(c)}" if isinstance(c, int | float) else str(c) for c in columns]
    head = [k.replace("_", " ") for k in one.rows] + (heads if plain else [columns[0]])
    body = {row: [number(v, 6) for v in row] + ["–"] * len(columns) for row in names}
    inside: list[str] = []
    extra_rows: list[list[str]] = []
    extra_columns: dict[str, dict[Any, Any]] = {}
    for what, said in (("floor", study_.floor), ("published", one.published)):
        by_column = [[r.get(what) for (_, c), r in cells.items() if c == column] for column in columns]
        by_row = {row: [r.get(what) for (n, _), r in cells.items() if n == row] for row in names}
        if one.show != "value" or all(v is None for values in by_column for v in values):
            continue
        along = all(constant(v) or all(x is None for x in v) for v in by_column) and len(names) > 1 and one.rows
        across = all(constant(v) or all(x is None for x in v) for v in by_row.values())
        if along and (one.columns == "metric" or not across):
            extra_rows.append(
                [f"*{said}*"] + [""] * (len(one.rows) - 1) + [f"*{number(v[0], one.digits)}*" for v in by_column]
            )
        elif across and (one.columns != "metric" or len(columns) == 1):
            extra_columns[said] = {row: v[0] for row, v in by_row.items()}
        else:
            inside.append(what)
    for (row, column), r in cells.items():
        text = cell(r, one.digits) if one.show == "value" else number(field(r, one.show), one.digits)
        for what in inside:
            mark = {"floor": "[{}]", "published": "/ {}"}[what]
            text += " " + mark.format(number(r[what], one.digits)) if what in r else ""
        body[row][len(one.rows) + columns.index(column)] = text
    lines = [body[row] for row in names]
    for said, values in extra_columns.items():
        head.append(said)
        for line, row in zip(lines, names, strict=True):
            line.append(number(values[row], one.digits))
    for k in one.also:
        head.append(k.replace("_", " "))
        for line, row in zip(lines, names, strict=True):
            held = [field(r, k) for (n, _), r in cells.items() if n == row if field(r, k) is not None]
            if any(v != held[0] for v in held):
                raise ValueError(f"{study_.name}: {k} differs along the row {row}: {held}")
            line.append(number(held[0], one.digits) if held else "–")
    lines += [line + [""] * (len(head) - len(line)) for line in extra_rows]
    title = one.title or (", ".join(metrics)[:1].upper() + ", ".join(metrics)[1:])
    marks = {"floor": f" [{study_.floor}]", "published": f" / {one.published}"}
    said = [one.text] if one.text else []
    said += ["Cells: ours" + "".join(marks[what] for what in inside) + "."] if inside else []
    asked = list(dict.fromkeys(r["bar"] for r in chosen if "bar" in r)) if one.show == "value" else []
    said += [f"Bar{'s' * (len(asked) > 1)} (✓: met): {'; '.join(asked)}."] if asked else []
    sizes = sorted({r["n"] for r in chosen if "n" in r})
    if sizes and one.show == "value" and "n" not in one.also:
        said.append("n = " + " or ".join(number(s) for s in sizes) + ".")
    parts = [f"### {title}"] if title else []
    return "\n\n".join([*parts, *([" ".join(said)] if said else []), grid(head, lines)]), chosen


# pages --------------------------------------------------------------------------------------------------------------


def commented(line: str) -> str:
    """A usage line of a docstring, as a shell would take it: what follows the command is a comment."""
    found = re.match(r"(python .*?)( {2,})(\S.*)$", line)
    if found:
        return f"{found[1]}{found[2]}# {found[3]}"
    rest = re.match(r"( {8,})(\S.*)$", line)
    return f"{rest[1]}# {rest[2]}" if rest else line


def prose(doc: str) -> tuple[str, str]:
    """(commands, text) of a docstring: its usage lines, and the rest but its head and budget, as Markdown."""
    lines = doc.splitlines()[1:]
    first = next((k for k, line in enumerate(lines) if re.match(r"    (\S+ )*python ", line)), None)
    if first is None:
        raise ValueError("the docstring of a study shows no command, an indented line: python experiments/NAME.py")
    last = next((k for k in range(first, len(lines)) if not lines[k].strip()), len(lines))
    commands, lines = [commented(line[4:]) for line in lines[first:last]], lines[:first] + lines[last:]
    text = re.sub(r"\s*Budget: (?:[^.]|\.\d)*\.", "", "\n".join(lines)).strip("\n")
    out = []
    for line in text.split("\n"):  # indented lines are code, and so is what stands between backticks
        code = line.startswith("    ")
        pieces = [line] if code else re.split(r"(`+[^`]*`+)", line)
        out.append("".join(p if code or k % 2 else re.sub(r"([*<])", r"\\\1", p) for k, p in enumerate(pieces)))
    return "\n".join(commands), re.sub(r"\n{3,}", "\n\n", "\n".join(out))


def bars(records: list[Record]) -> tuple[int, int]:
    """Bars met, and bars."""
    judged = [r["met"] for r in records if "met" in r]
    return sum(judged), len(judged)


def case_of(found: Record) -> str:
    """The case in words."""
    return ", ".join(str(v) if isinstance(v, str) else f"{k} = {number(v, 6)}" for k, v in found["case"].items())


def reason(one: Study, found: Record) -> str:
    """Why a bar was missed.

    Raises:
        ValueError: the study does not say.
    """
    for where, text in one.missed:
        if matches(found, where):
            return text
    raise ValueError(f"{one.name}: a bar was missed and STUDY.missed does not say why: {study.told(found)}")


def verdicts(one: Study, records: list[Record]) -> str:
    """How many bars were met, and the missed ones with their reasons."""
    met, of = bars(records)
    if not of:
        return "No bars were set: the numbers are to be read beside their floors."
    reasons: dict[str, list[str]] = {}
    for r in records:
        if r.get("met") is False:
            value = number(r["value"]) if r["value"] is not None else r["why"]
            missed = f"**{case_of(r)}: {r['metric']} {value} (bar: {r['bar']})**"
            reasons.setdefault(reason(one, r), []).append(missed)
    said = [f"{met} of {of} met."]
    for why, missed in reasons.items():
        said += [f"Missed: {why}", "\n".join(f"- {line}" for line in missed)]
    return "\n\n".join(said)


def page(one: Study, doc: str, script: str, content: dict[str, Any]) -> str:
    """The page of a study.

    Raises:
        ValueError: a record that is in no table.
    """
    records, shown, parts = content["records"], [], []
    for t in one.tables:
        text, chosen = table(t, one, records)
        parts.append(text)
        shown += chosen
    for r in records:
        if not any(r is other for other in shown):
            raise ValueError(f"{one.name}: a record is in no table: {study.told(r)}")
    commands, text = prose(doc)
    drawn = [f"![{name.replace('_', ' ')}](../../docs/{name}.png)" for name in one.pictures]
    spent, took = minutes(one, records), {r["cores"] for r in records if "cores" in r}
    lines = [f"Budget: {one.budget}."]
    if spent:
        lines.append(
            f"These results took {max(1, round(spent)):,} minute{'s' * (round(spent) > 1)} on "
            f"{' or '.join(map(str, sorted(took)))} CPU core{'s' * (max(took) > 1)}."
        )
    if "environment" in content:
        e = content["environment"]
        versions = ", ".join(f"{k} {v}" for k, v in e["versions"].items())
        lines.append(f"Measured with Python {e['python']} on {e['cpus']} CPU cores; {versions}.")
    return "\n\n".join(
        [
            MADE,
            f"# {one.question}",
            f"**{one.answer}**",
            *drawn,
            "## Results",
            *parts,
            "## Bars",
            verdicts(one, records),
            "## How it was measured",
            *([text] if text else []),
            *([f"Source: {one.source}."] if one.source else []),
            "## Run it",
            f"```sh\n{commands}\n```",
            " ".join(lines),
            f"Every number: [{one.name}.json](../results/{one.name}.json); script: [{script}](../{script}); "
            "[all studies](../README.md).",
        ]
    ) + "\n"  # fmt: skip


def picked(one: Study, pick: Pick, records: list[Record]) -> str:
    """One number for README.md, beside what it is to be read against.

    Raises:
        ValueError: none or several such records.
    """
    found = [r for r in records if r["metric"] == pick.metric and matches(r, pick.case)]
    if len(found) != 1:
        raise ValueError(f"{one.name}: {len(found)} records for {pick}")
    said = (("floor", "floor"), ("published", pick.published)) if pick.show == "value" else ()
    beside = [f"{name} {number(found[0][what])}" for what, name in said if what in found[0]]
    label = pick.label or pick.metric
    value = number(field(found[0], pick.show))
    return f"{label} {value}" + (f" ({', '.join(beside)})" if beside else "")


def overview(found: list[tuple[Study, list[Record]]]) -> str:
    """The table of README.md, a line for every study, topic by topic."""
    body: list[list[str]] = []
    for topic in TOPICS:
        lines = []
        for one, records in found:
            if one.topic == topic:
                met, of = bars(records)
                spent = minutes(one, records)
                lines.append(
                    [
                        f"[{one.question}](pages/{one.name}.md)",
                        one.brief,
                        "; ".join(picked(one, p, records) for p in one.picks),
                        "–" if not of else f"{met} of {of}" if met == of else f"**{met} of {of}**",
                        f"{max(1, round(spent)):,}" if spent else "–",
                    ]
                )
        body += [[f"**{topic}**", "", "", "", ""], *lines] if lines else []
    met, of = (sum(v) for v in zip(*(bars(records) for _, records in found), strict=True))
    count = sum(len(records) for _, records in found)
    table_ = grid(["question", "answer", "ours", "bars", "min"], body)
    return f"{table_}\n\n{count:,} measurements in {len(found)} studies; {met} of {of} bars met."


def generated(here: pathlib.Path) -> dict[pathlib.Path, str]:
    """README.md and the pages, as they should be.

    Raises:
        ValueError: results that are none, of no study, or that a study does not show.
    """
    readme, results = here / "README.md", here / "results"
    text = readme.read_text(encoding="utf-8")
    start, stop = text.find(BEGIN), text.find(END)
    if start < 0 or stop < start or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md must hold the lines {BEGIN!r} and {END!r} once each, in this order")
    out, listed, known = {}, [], studies(here)
    files = {path.stem: path for path in sorted(results.glob("*.json"))}
    for path, (one, doc) in known.items():
        if one.name in files:
            content = study.read(files.pop(one.name))
            out[here / "pages" / f"{one.name}.md"] = page(one, doc, path.relative_to(here).as_posix(), content)
            listed.append((one, content["records"]))
    if files:
        raise ValueError(f"results of no study: {', '.join(sorted(files))}")
    tables = overview(listed) if listed else "No results yet: run an experiment."
    out[readme] = f"{text[: start + len(BEGIN)]}\n\n{tables}\n\n{text[stop:]}"
    return out


def main(argv: list[str] | None = None, here: pathlib.Path = study.HERE) -> int:
    """Rewrite or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when something is stale")
    only_check = parser.parse_args(argv).check
    try:
        new = generated(here)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    stale = [p for p, text in new.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    orphans = [p for p in sorted((here / "pages").glob("*.md")) if p not in new]
    if only_check and (stale or orphans):
        names = ", ".join(p.relative_to(here).as_posix() for p in (*stale, *orphans))
        print(f"stale: {names}; run: python experiments/tables.py", file=sys.stderr)
        return 1
    for path in () if only_check else stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(new[path], encoding="utf-8")
        print(f"{path.relative_to(here).as_posix()} rewritten")
    for path in () if only_check else orphans:
        path.unlink()
        print(f"{path.relative_to(here).as_posix()} removed: it is the page of no study")
    return 0


if __name__ == "__main__":
    sys.exit(main())
