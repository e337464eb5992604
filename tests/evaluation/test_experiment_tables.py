"""experiments/: what a record may hold, how a study runs, and that README.md and pages are made from records."""

import importlib
import json
import pathlib
import re

import pytest

HERE = pathlib.Path(__file__).resolve().parents[2] / "experiments"
pytestmark = pytest.mark.skipif(not (HERE / "tables.py").exists(), reason="the source distribution has no experiments")

SCRIPT = '''"""A toy.

    python experiments/toy.py           all; results/toy.json
    python experiments/toy.py --smoke

Measured by *hand*, |x| < 1. Budget: 0.5 minutes.

    indented  as it * is
"""
STUDY = Study(
    "toy",
    topic="Generating",
    question="Does it work?",
    answer="Mostly, it does.",
    brief="Mostly.",
    budget="a minute",
    picks=(Pick("W2", {"method": "a", "d": 2}, "W2, a"),),
    tables=(
        Table("W2", rows=("d",), columns="method", text="Lower is better."),
        Table(("time", "share"), rows=("method",), also=("steps",), title="Others", published="exact"),
    ),
    pictures=("toy",),
    missed=(({"method": "b"}, "It is too small."),),
)
'''


@pytest.fixture
def modules(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(HERE))
    study, tables = importlib.import_module("study"), importlib.import_module("tables")
    (tmp_path / "results").mkdir()
    (tmp_path / "toy.py").write_text(SCRIPT)
    (tmp_path / "README.md").write_text(f"before\n\n{tables.BEGIN}\nold\n{tables.END}\n\nafter\n")
    return study, tables, tmp_path


def some(study):
    """Records of the toy, as its script would give them."""
    record = study.record
    return [
        record("W2", 0.51234, {"method": "a", "d": 2}, spread=[0.5, 0.53], floor=0.4, n=4000, seconds=90.0),
        record("W2", 12345.6, {"method": "a", "d": 16}, floor=0.7, n=4000, standard_error=2.5, seconds=30.0),
        record("W2", 0.9, {"method": "b", "d": 2}, floor=0.4, n=4000, bar="below 0.6", met=False),
        record("time", None, {"method": "a"}, why="failed: nan"),
        record("time", 3, {"method": "b"}, steps=1500),
        record("share", 0.5, {"method": "a"}, published=0.73),
        record("share", 1, {"method": "b"}, published=0.73, bar="all", met=True),
    ]


def run(study, folder, records, argv=(), **more):
    one = study.Study("toy", topic="Generating", question="?", answer="!", brief="!", budget="-")
    return one.run("doc", {"part": lambda options: records}, argv=["--out", str(folder), *argv], **more)


def test_pages_are_made_and_stale_ones_are_noticed(modules, capsys):
    study, tables, here = modules
    run(study, here / "results", some(study))
    assert tables.main(["--check"], here) == 1
    assert "stale: README.md, pages/toy.md" in capsys.readouterr().err.replace(
        "pages/toy.md, README.md", "README.md, pages/toy.md"
    )
    assert tables.main([], here) == 0
    assert tables.main(["--check"], here) == 0
    readme, page = (here / "README.md").read_text(), (here / "pages" / "toy.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "old" not in readme
    assert "| [Does it work?](pages/toy.md) | Mostly. | W2, a 0.512 (floor 0.4) | **1 of 2** | 2 |" in readme
    assert "7 measurements in 1 studies; 1 of 2 bars met." in readme
    assert "| 2 | 0.512 (0.5 to 0.53) | **0.9 missed** | 0.4 |" in page
    assert "| 16 | 12,346 ± 2.5 | – | 0.7 |" in page
    assert "| a | failed: nan | 0.5 | – |" in page
    assert "| b | 3 | 1 ✓ | 1,500 |" in page
    assert "| *exact* | *–* | *0.73* |  |" in page
    assert "Lower is better. Bar (✓: met): below 0.6. n = 4,000." in page
    assert "Missed: It is too small." in page
    assert "- **b, d = 2: W2 0.9 (bar: below 0.6)**" in page
    assert "python experiments/toy.py           # all; results/toy.json" in page
    assert "Measured by \\*hand\\*, |x| \\< 1.\n" in page
    assert "    indented  as it * is" in page
    assert "0.5 minutes" not in page
    assert "![toy](../../docs/toy.png)" in page
    run(study, here / "results", [study.record("time", 4, {"method": "b"}, steps=1500)])
    assert tables.main(["--check"], here) == 1
    (here / "results" / "toy.json").unlink()
    assert tables.main([], here) == 0
    assert not (here / "pages" / "toy.md").exists()


def test_records_of_the_same_name_are_replaced_and_the_others_stay(modules):
    study, _, here = modules
    one = study.Study("toy", topic="Generating", question="?", answer="!", brief="!", budget="-")

    def part(value):
        return lambda options: [study.record("W2", value, {"d": d}) for d in (1, 2)]

    argv = ["--out", str(here / "results")]
    one.run("doc", {"first": part(1), "second": part(2)}, argv=argv)
    seen = []
    again = {"first": part(1), "second": lambda options: seen.append(options.kept) or [study.record("W2", 5, {"d": 2})]}
    one.run("doc", again, argv=[*argv, "--only", "second"])
    found = study.read(here / "results" / "toy.json")["records"]
    assert [(r["part"], r["case"]["d"], r["value"]) for r in found] == [
        ("first", 1, 1), ("first", 2, 1), ("second", 1, 2), ("second", 2, 5),
    ]  # fmt: skip
    assert len(seen[0]) == 4
    assert all(r["study"] == "toy" for r in found)


def test_a_smoke_run_writes_nothing(modules, capsys, monkeypatch):
    study, _, here = modules
    monkeypatch.setattr(study, "RESULTS", here / "elsewhere")
    one = study.Study("toy", topic="Generating", question="?", answer="!", brief="!", budget="-")
    one.run(
        "doc", {"part": lambda options: some(study), "long": lambda options: 1 / 0}, smoke=("part",), argv=["--smoke"]
    )
    assert not (here / "elsewhere").exists()
    assert "0.5123" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": None}, "metric must be of type string"),
        ({"metric": ""}, "metric must not be empty"),
        ({"value": float("nan")}, "value must be of type number or null"),
        ({"value": True}, "value must be of type number or null"),
        ({"value": None}, "no why says what became of it"),
        ({"case": {"d": [1]}}, "case.d must be of type string or number or boolean"),
        ({"spread": ["a"]}, r"spread\[0\] must be of type number"),
        ({"spread": []}, "spread must not be empty"),
        ({"published": "0.7"}, "published must be of type number"),
        ({"met": "yes", "bar": "1"}, "met must be of type boolean"),
        ({"met": True}, "both a bar and whether it was met"),
        ({"n": 0}, "n must be at least 1"),
        ({"n": 2.5}, "n must be of type integer"),
        ({"also": {"x": {}}}, "also.x must be of type"),
        ({"note": "prose"}, "unknown field 'note'"),
    ],
)
def test_bad_records_are_refused_and_nothing_is_written(modules, change, words):
    study, _, here = modules
    good = some(study)[0]
    with pytest.raises(ValueError, match=words):
        run(study, here / "results", [good | change])
    assert not (here / "results" / "toy.json").exists()


def test_what_is_not_finite_is_no_value(modules):
    study, _, _ = modules
    found = study.record("W2", float("nan"), {}, ms=float("nan"), steps=None)
    assert found["value"] is None
    assert found["why"] == "not finite: nan"
    assert "also" not in found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "toy.json is no JSON"),
        ("[3]", "toy.json must be of type object"),
        ('{"records": [{"study": "toy"}]}', r"records\[0\] has no 'part'"),
        ('{"records": [{"study": "x", "part": "p", "case": {}, "metric": "m", "value": 1}]}', "study is 'x'"),
        (
            json.dumps({"records": 2 * [{"study": "toy", "part": "p", "case": {}, "metric": "m", "value": 1}]}),
            "earlier",
        ),
    ],
)
def test_bad_files_are_named_and_nothing_is_rewritten(modules, capsys, content, words):
    study, tables, here = modules
    (here / "results" / "toy.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        study.read(here / "results" / "toy.json")
    before = (here / "README.md").read_text()
    assert tables.main([], here) == 1
    assert "toy.json" in capsys.readouterr().err
    assert (here / "README.md").read_text() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda records: records[:3], "no record for the table"),
        (lambda records: [*records, {**records[0], "metric": "MMD"}], "a record is in no table"),
        (lambda records: [*records, {**records[2], "case": {"method": "c", "d": 2}}], "STUDY.missed does not say why"),
        (lambda records: [*records, {**records[0], "part": "again"}], "two records for"),
    ],
)
def test_a_page_shows_every_record_and_the_reason_of_every_missed_bar(modules, capsys, change, words):
    study, tables, here = modules
    records = [{"study": "toy", "part": "part", **r} for r in some(study)]
    study.write(here / "results", "toy", [{"study": "toy", "part": "part", **r} for r in change(records)])
    assert tables.main([], here) == 1
    assert words in capsys.readouterr().err


def test_studies_are_literals_and_results_belong_to_one(modules, capsys):
    study, tables, here = modules
    run(study, here / "results", some(study))
    (here / "results" / "other.json").write_text('{"records": []}')
    assert tables.main([], here) == 1
    assert "results of no study: other" in capsys.readouterr().err
    (here / "toy.py").write_text(SCRIPT.replace('"Mostly."', "ANSWER"))
    assert tables.main([], here) == 1
    assert "must be written with literals" in capsys.readouterr().err


def test_a_readme_without_markers_is_left_alone(modules, capsys):
    _, tables, here = modules
    (here / "README.md").write_text("nothing")
    assert tables.main([], here) == 1
    assert "must hold the lines" in capsys.readouterr().err
    assert (here / "README.md").read_text() == "nothing"


def test_the_schema_is_one_of_json_schema(modules):
    """Every word that record.schema.json uses is one that ``validate`` knows, so that other readers agree with ours."""
    study, _, _ = modules
    known = {"$schema", "title", "description", "type", "required", "properties", "additionalProperties", "items",
             "minLength", "minItems", "minimum"}  # fmt: skip

    def words(schema):
        assert set(schema) <= known
        for inner in schema.get("properties", {}).values():
            words(inner)
        for name in ("items", "additionalProperties"):
            if isinstance(schema.get(name), dict):
                words(schema[name])

    words(study.SCHEMA)


def test_every_link_of_the_repository_leads_somewhere_and_every_picture_is_on_a_page(modules):
    pages = [HERE / "README.md", *sorted((HERE / "pages").glob("*.md"))]
    linked = {
        (page.parent / link).resolve() for page in pages for link in re.findall(r"\]\(([^)#]+)\)", page.read_text())
    }
    assert all(path.exists() for path in linked)
    guides = sorted((HERE.parent / "docs" / "guides").glob("*.md"))
    shown = {
        (page.parent / link).resolve()
        for page in guides
        for link in re.findall(r"\]\(([^)#]+\.png)\)", page.read_text())
    }
    assert {path for path in linked | shown if path.suffix == ".png"} == set((HERE.parent / "docs").glob("*.png"))
    assert {page.resolve() for page in pages[1:]} <= linked


def test_the_pages_of_the_repository_are_fresh(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    assert importlib.import_module("tables").main(["--check"]) == 0


def test_a_page_says_how_to_run_its_study(modules):
    tables = modules[1]
    for command in ("python experiments/toy.py", "taskset -c 0 python experiments/toy.py --kills 3"):
        assert tables.prose(f"Title.\n\nText.\n\n    {command}\n") == (command, "Text.")
    with pytest.raises(ValueError, match="shows no command"):
        tables.prose("Title.\n\nText.\n")
