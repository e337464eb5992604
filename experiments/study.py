"""One way to write an experiment down: a study with its question, its parts, and records of what they measured.

A script holds

    STUDY = Study("points", question=..., answer=..., tables=(...))    literals only: tables.py reads it, runs nothing

    def bridge(options):                                               a part: records, one by one
        yield record("W2", 0.51, {"task": "moons"}, n=2000, floor=0.36, bar="at most 0.73", met=True)

    if __name__ == "__main__":
        STUDY.run(__doc__, {"bridge": bridge})

``run`` gives every script ``--smoke`` (seconds, nothing written), ``--only PART ...`` and ``--out FOLDER``. A record
takes the place of the one of the same part, metric and case in ``results/NAME.json``, and the others stay; the file is
written after every record, so that a run cut short keeps what it has. What a record may hold is in record.schema.json;
``tables.py`` makes README.md and a page for every study from these files.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
SCHEMA = json.loads((HERE / "record.schema.json").read_text(encoding="utf-8"))
FIELDS = tuple(SCHEMA["properties"]["records"]["items"]["properties"])

Record = dict[str, Any]
Part = Callable[[argparse.Namespace], Iterable[Record]]


@dataclasses.dataclass(frozen=True)
class Table:
    """A pivot table of a page.

    Attributes:
        metric: what is shown, one or several; () is every metric.
        rows: fields of the case that name a row.
        columns: the field of the case that names a column, or "metric".
        where: only records with these fields of the case, metric or part; a tuple allows several values.
        title: above the table; the metric where it is empty.
        text: what a reader must know to read it.
        also: further columns, by their names in ``also`` (or "n", "seconds").
        published: the name of the published numbers, which may be exact ones.
        show: the field in the cells, the value or another by its name.
        digits: significant ones.
    """

    metric: str | tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    columns: str = "metric"
    where: dict[str, Any] = dataclasses.field(default_factory=dict)
    title: str = ""
    text: str = ""
    also: tuple[str, ...] = ()
    published: str = "published"
    show: str = "value"
    digits: int = 3


@dataclasses.dataclass(frozen=True)
class Pick:
    """One record, for the line of a study in README.md: the only one of this metric whose case has these fields."""

    metric: str
    case: dict[str, Any] = dataclasses.field(default_factory=dict)
    label: str = ""
    published: str = "published"
    show: str = "value"


@dataclasses.dataclass(frozen=True)
class Study:
    """A question, and how its answer is shown. Written with literals only.

    Attributes:
        name: of the script, the results and the page.
        topic: the heading in README.md.
        question: what is asked, in plain words, short enough for a line of README.md.
        answer: one or two sentences for the page, without numbers: those are in the tables.
        brief: the answer in a dozen words, for README.md.
        budget: what a full run may take.
        source: where the method or the published numbers are from.
        picks: the records beside the answer in README.md.
        tables: of the page; together they show every record.
        pictures: names in docs/.
        floor: what the floor is.
        missed: (fields of the case, metric or part; reason) of bars that were missed.
        timed: fields of the case (or "part") that name one timed run; () takes all.
        one_core: JAX is to see one core, as where processor time is given out: threads that wait for each other on a
            busy machine would count as time.
    """

    name: str
    topic: str
    question: str
    answer: str
    brief: str
    budget: str
    source: str = ""
    picks: tuple[Pick, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[str, ...] = ()
    floor: str = "real against real"
    missed: tuple[tuple[dict[str, Any], str], ...] = ()
    timed: tuple[str, ...] = ()
    one_core: bool = False

    def run(
        self,
        doc: str | None,
        parts: dict[str, Part],
        *options: Callable[[argparse.ArgumentParser], Any],
        smoke: Sequence[str] | None = None,
        picture: Callable[[list[Record]], Any] | None = None,
        environment: Callable[[], dict[str, Any]] | None = None,
        argv: list[str] | None = None,
    ) -> list[Record]:
        """Run the chosen parts, print their records, and write them.

        Args:
            doc: the script's docstring, for ``--help``.
            parts: by name. Each gets the options, among them ``smoke`` and ``kept``, what earlier runs left.
            options: functions that add a script's own options to the parser.
            smoke: the parts of a smoke run; all if None.
            picture: draws from all records, after a full run or by ``--picture`` alone.
            environment: what a benchmark writes beside its records.
            argv: instead of the command line.

        Returns:
            The records of this run and those that were kept.

        Raises:
            ValueError: a record that is none, naming the field.
        """
        parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--smoke", action="store_true", help="small sizes: does it run? (seconds, nothing written)")
        parser.add_argument("--only", nargs="+", choices=tuple(parts), metavar="PART", help=", ".join(parts))
        parser.add_argument("--out", type=pathlib.Path, help="the folder to write to, also in a smoke run")
        if picture is not None:
            parser.add_argument("--picture", action="store_true", help="draw what earlier runs left, measure nothing")
        for add in options:
            add(parser)
        given = parser.parse_args(argv)
        if self.one_core and not given.smoke and hasattr(os, "sched_setaffinity"):  # JAX starts its threads later
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            import scipy.linalg  # noqa: F401 (its BLAS is JAX's too; it counted the cores as it was loaded)
            from threadpoolctl import threadpool_limits

            threadpool_limits(1)
        folder = given.out or (None if given.smoke else RESULTS)
        records = load(folder, self.name)
        chosen = given.only or (smoke if given.smoke and smoke is not None else list(parts))
        with unoptimised() if given.smoke else contextlib.nullcontext():
            for name in () if getattr(given, "picture", False) else chosen:
                given.kept = list(records)
                for found in parts[name](given):
                    new = check({"study": self.name, "part": name, **found}, f"{self.name}, {name}")
                    print(told(new), flush=True)
                    records = merged(records, new, list(parts))
                    if folder is not None:
                        write(folder, self.name, records, environment() if environment else None)
        if picture is not None and not given.smoke:
            picture(records)
        return records


@contextlib.contextmanager
def unoptimised() -> Iterator[None]:
    """What is compiled meanwhile has few optimisations: a smoke run compiles longer than it computes."""
    import jax

    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)


def seconds_per_update(method: Any, data: Any, batch: Any) -> float:
    """Processor seconds of a compiled step, the least of ten: other work on the machine can only add to them."""
    import jax

    step, state, times = jax.jit(method.step), method.init(jax.random.key(0), data), []
    for _ in range(11):
        began = time.process_time()
        state, _ = jax.block_until_ready(step(state, jax.random.key(1), batch))
        times.append(time.process_time() - began)
    return min(times[1:])  # the first may begin with what was compiled


def record(
    metric: str,
    value: Any,
    case: dict[str, Any],
    *,
    spread: Iterable[float] | None = None,
    floor: float | None = None,
    published: float | None = None,
    bar: str | None = None,
    met: Any = None,
    n: int | None = None,
    seconds: float | None = None,
    began: float | None = None,
    why: str | None = None,
    **also: Any,
) -> Record:
    """A measurement, without the names of its study and part.

    Args:
        metric: what was measured.
        value: what we got; None where there is none, as for a number that is not finite.
        case: the conditions.
        spread: the value in every repetition.
        floor: the same for a perfect model.
        published: the published or exact number.
        bar: what was asked for, in words.
        met: whether it was.
        n: number of samples that were measured.
        seconds: of the run that made it.
        began: instead of ``seconds``, when it began (``time.perf_counter()``).
        why: what became of the value, kept only where there is none.
        also: further statistics of the same measurement, by name; None and NaN are left out.
    """
    if value is not None:
        value, why = (value, None) if math.isfinite(value) else (None, why or f"not finite: {value}")
    if began is not None:
        seconds = time.perf_counter() - began
    found = {
        "case": case,
        "metric": metric,
        "value": value,
        "spread": None if spread is None else list(spread),
        "floor": floor,
        "published": published,
        "bar": bar,
        "met": None if met is None else bool(met),
        "n": n,
        "seconds": None if seconds is None else round(seconds, 2),
        "cores": None if seconds is None else cores(),
        "also": {k: v for k, v in also.items() if v is not None and not (isinstance(v, float) and v != v)} or None,
        "why": why,
    }
    return {k: plain(v) for k, v in found.items() if v is not None or k == "value"}


def plain(value: Any) -> Any:
    """NumPy's and JAX's scalars and arrays as Python's numbers and lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def cores() -> int:
    """Number of cores that this run has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share, E. B. Wilson 1927."""
    p, spread = successes / n, z * math.sqrt(successes * (n - successes) / n**3 + z * z / (4 * n * n))
    low, high = ((p + z * z / (2 * n) + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def installed(what: str, remedy: str, *modules: str) -> bool:
    """Whether modules are there that nobody has to have; a sentence where they are not."""
    if all(importlib.util.find_spec(name) for name in modules):
        return True
    print(f"{what} left out: {remedy}", flush=True)
    return False


# the schema ---------------------------------------------------------------------------------------------------------

_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": int | float,
    "null": type(None),
}


def _is(value: Any, name: str) -> bool:
    if name in ("integer", "number") and (
        isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value))
    ):
        return False
    return isinstance(value, _TYPES[name])


def validate(value: Any, schema: dict[str, Any], where: str) -> None:
    """Check a value against the few words of JSON Schema that record.schema.json uses.

    Raises:
        ValueError: naming the place, what came and what was expected.
    """
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        raise ValueError(f"{where} must be of type {' or '.join(kinds)}, got {value!r}")
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        raise ValueError(f"{where} must not be empty")
    if isinstance(value, int | float) and value < schema.get("minimum", -math.inf):
        raise ValueError(f"{where} must be at least {schema['minimum']}, got {value!r}")
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            raise ValueError(f"{where} must not be empty")
        for k, item in enumerate(value):
            validate(item, schema.get("items", {}), f"{where}[{k}]")
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        for field in schema.get("required", ()):
            if field not in value:
                raise ValueError(f"{where} has no {field!r}")
        for field, item in value.items():
            if field not in known and others is False:
                raise ValueError(f"{where} has an unknown field {field!r}; known are {', '.join(known)}")
            validate(item, known.get(field, others if isinstance(others, dict) else {}), f"{where}.{field}")


def check(found: Any, where: str) -> Record:
    """The record, if it is one.

    Raises:
        ValueError: naming the field that is missing or wrong.
    """
    validate(found, SCHEMA["properties"]["records"]["items"], where)
    if found["value"] is None and "why" not in found:
        raise ValueError(f"{where}.value is null, and no why says what became of it")
    if ("bar" in found) != ("met" in found):
        raise ValueError(f"{where} needs both a bar and whether it was met, or neither")
    return found


# files --------------------------------------------------------------------------------------------------------------


def key(found: Record) -> tuple[Any, ...]:
    """What names a record in its study."""
    return found["part"], found["metric"], tuple(sorted(found["case"].items()))


def merged(records: list[Record], new: Record, order: list[str]) -> list[Record]:
    """The records with the new one in the place of the one of its name; parts in their order."""
    out = [new if key(r) == key(new) else r for r in records]
    if not any(r is new for r in out):
        out.append(new)
    rank = {name: k for k, name in enumerate(order)}
    return sorted(out, key=lambda r: rank.get(r["part"], len(rank)))


def told(found: Record) -> str:
    """A record in a line."""
    case = ", ".join(f"{k} {v}" for k, v in found["case"].items())
    value = found.get("why") if found["value"] is None else f"{found['value']:.4g}"
    more = "".join(f", {k} {found[k]:.4g}" for k in ("floor", "published") if k in found)
    verdict = "" if "met" not in found else f" [{found['bar']}: {'met' if found['met'] else 'MISSED'}]"
    return f"{case}: {found['metric']} {value}{more}{verdict}"


def load(folder: pathlib.Path | None, name: str) -> list[Record]:
    """The records of a study, none where there is no file."""
    path = None if folder is None else folder / f"{name}.json"
    return read(path)["records"] if path is not None and path.exists() else []


def read(path: pathlib.Path) -> dict[str, Any]:
    """What a file of results holds.

    Raises:
        ValueError: a file that is none, naming the file and the field.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from None
    outer = {"environment": SCHEMA["properties"]["environment"], "records": {"type": "array"}}
    validate(content, {**SCHEMA, "properties": outer}, path.name)  # records below, with what a schema cannot say
    seen = set()
    for k, found in enumerate(content["records"]):
        check(found, f"{path.name}: records[{k}]")
        if found["study"] != path.stem:
            raise ValueError(f"{path.name}: records[{k}].study is {found['study']!r}, expected {path.stem!r}")
        if key(found) in seen:
            raise ValueError(f"{path.name}: records[{k}] has the part, metric and case of an earlier one: {key(found)}")
        seen.add(key(found))
    return content


def write(folder: pathlib.Path, name: str, records: list[Record], environment: dict[str, Any] | None = None) -> None:
    """The file of a study, a record a line, its fields in the order of the schema."""
    lines = [json.dumps({k: r[k] for k in FIELDS if k in r}, ensure_ascii=False, allow_nan=False) for r in records]
    head = "" if environment is None else f'"environment": {json.dumps(environment)},\n'
    folder.mkdir(parents=True, exist_ok=True)
    path, beside = folder / f"{name}.json", folder / f"{name}.json.tmp"
    beside.write_text("{" + head + '"records": [\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8")
    os.replace(beside, path)
