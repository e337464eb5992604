"""The tables of experiments/README.md are made from results/*.json, and stale ones are noticed."""

import importlib
import json
import pathlib

import pytest

HERE = pathlib.Path(__file__).resolve().parents[2] / "experiments"
pytestmark = pytest.mark.skipif(not (HERE / "tables.py").exists(), reason="the source distribution has no experiments")

ROW = {
    "claim": "moons: energy distance, n = 4,000 | bar 2 x floor",
    "source": "a paper",
    "published": 0.73,
    "ours": 0.51234,
    "spread": [0.5, 0.53],
    "unit": "cm",
    "floor": 12345.6,
    "cost": "5 s",
    "command": "python experiments/points.py",
    "budget": "1 min",
    "notes": "own draws",
    "another field": [1],
}
BENCHMARK = {
    "claim": "as fast as by hand",
    "environment": {"python": "3.11.9", "cpus": 2, "versions": {"jax": "0.10.2"}},
    "pairs": 20,
    "records": [
        {"case": "toy", "candidate": "ours", "ratio": 1.01, "control": 0.99, "at_most": 1.1, "met": True},
        {
            "case": "toy",
            "candidate": "peer",
            "ratio": 2.0,
            "control": 1.0,
            "at_least": 3.0,
            "met": False,
            "quartiles": [1, 3],
        },
    ],
}


@pytest.fixture
def modules(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(HERE))
    results, tables = importlib.import_module("results"), importlib.import_module("tables")
    monkeypatch.setattr(results, "DIRECTORY", tmp_path / "results")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{tables.BEGIN}\nold\n{tables.END}\n\nafter\n")
    return results, tables, readme


def test_round_trip_and_check(modules, capsys):
    results, tables, readme = modules
    results.save("points", [ROW, {"claim": "c", "ours": 3, "command": "x", "met": False}])
    (results.DIRECTORY / "simulate.json").write_text(json.dumps(BENCHMARK))
    assert tables.main(["--check"], readme) == 1
    assert "stale" in capsys.readouterr().err
    assert tables.main([], readme) == 0
    assert tables.main(["--check"], readme) == 0
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert (
        "| moons: energy distance, n = 4,000 \\| bar 2 x floor (own draws) | a paper | 0.73 cm | "
        "0.5123 cm (0.5 to 0.53) | 12,346 | 5 s | `python experiments/points.py` |"
    ) in text
    assert "| c | – | – | 3 **missed** | – | – | `x` |" in text
    assert "| toy | ours | 1.01 | 0.99 | ≤ 1.1 met |" in text
    assert "| toy | peer | 2 (1 to 3) | 1 | ≥ 3 **missed** |" in text
    assert "jax 0.10.2" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {8, 6}
    results.save("points", ROW | {"ours": 0.4})
    assert tables.main(["--check"], readme) == 1


def test_a_smoke_run_writes_nothing(modules, capsys):
    results, _, _ = modules
    assert results.save("points", [ROW], smoke=True) is None
    assert not results.DIRECTORY.exists()
    assert "0.51234" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"claim": None}, "has no 'claim'"),
        ({"ours": None}, "has no 'ours'"),
        ({"command": ""}, "has no 'command'"),
        ({"ours": float("nan")}, "ours must be a finite number"),
        ({"published": [1, 2]}, "published must be"),
        ({"cost": 3}, "cost must be text"),
        ({"spread": ["a"]}, "spread must be"),
        ({"met": "yes"}, "met must be"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_written(modules, change, words):
    results, _, _ = modules
    with pytest.raises(ValueError, match=words):
        results.save("points", [ROW, ROW | change])
    assert not results.DIRECTORY.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "bad.json is no JSON"),
        ("[3]", r"bad.json\[0\] is a int"),
        ('{"claim": "x", "records": [{"case": "a"}]}', "has no 'candidate'"),
        ('{"records": []}', "a benchmark holds a text 'claim'"),
    ],
)
def test_bad_files_are_named(modules, capsys, content, words):
    results, tables, readme = modules
    results.DIRECTORY.mkdir()
    (results.DIRECTORY / "bad.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        results.read(results.DIRECTORY / "bad.json")
    before = readme.read_text()
    assert tables.main([], readme) == 1
    assert "bad.json" in capsys.readouterr().err
    assert readme.read_text() == before


def test_a_readme_without_markers_is_left_alone(modules, capsys):
    _, tables, readme = modules
    readme.write_text("nothing")
    assert tables.main([], readme) == 1
    assert "must hold the lines" in capsys.readouterr().err
    assert readme.read_text() == "nothing"


def test_every_picture_is_linked_from_a_page_and_every_link_leads_to_one(modules):
    _, tables, _ = modules
    linked = [name for names in tables.PICTURES.values() for name in names]
    assert sorted(linked) == sorted(path.stem for path in (HERE.parent / "docs").glob("*.png"))
    assert all((HERE / f"{script}.py").is_file() for script in tables.PICTURES)
    assert all(f"(../docs/{name}.png)" in (HERE / "README.md").read_text() for name in linked)


def test_the_readme_of_the_repository_is_fresh(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    assert importlib.import_module("tables").main(["--check"]) == 0
