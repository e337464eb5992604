"""``bridgejax evaluate RUN --memorisation``: a run that copies, its picture, its other half, and what is refused."""

import json

import numpy as np
import pytest

import bridgejax as bj
from bridgejax.cli import main

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Exact models of two halves of images, which return their rows."""
    folder, images = tmp_path_factory.mktemp("halves"), RNG.integers(0, 256, (120, 3, 3)).astype(np.uint8)
    for name, rows in (("one", images[:60]), ("other", images[60:])):
        np.save(folder / f"{name}.npy", rows)
        words = ["--data", str(folder / f"{name}.npy"), "--num", "10", "--batch-size", "8"]
        assert main(["train", "closed_form", *words, "--out", str(folder / name)]) == 0
    return folder


def refused(capsys, *words):
    assert main([str(w) for w in words]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bridgejax:")]
    assert len(lines) == 1
    return lines[0]


def test_a_run_that_copies_and_its_other_half(halves, capsys):
    out, other = halves / "one", halves / "other"
    words = ["evaluate", str(out), "--memorisation", "--num", "40", "--other-half", str(other)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "MEMORISATION: copies rows: yes" in said
    found = json.loads((out / "memorisation-2.json").read_text())
    assert found["samples"]["copies"] == 1.0
    assert found["held_out"]["copies"] < 0.5
    assert found["samples"]["median_distance"] < 1e-2
    assert found["two_halves"]["agree"] < 0.05
    assert found["two_halves"]["median_to_own"] < 1e-2
    levels = {name: part["noise_level"] for name, part in found["times"].items()}
    law = bj.oracles.empirical_law(np.asarray(bj.load(out).params["rows"]))
    ve = bj.schedules.ve(sigma_min=1e-4, sigma_max=1e4)
    want = float(np.exp(-0.5 * ve.log_snr(bj.oracles.speciation_time(ve, law))))
    assert abs(levels["speciation"] / want - 1) < 1e-3
    assert 0.1 < levels["collapse"] < 10
    cosine = bj.schedules.cosine()
    for part in found["times"].values():  # the run's own clock
        assert abs(np.exp(-0.5 * float(cosine.log_snr(part["time"]))) / part["noise_level"] - 1) < 1e-3
    kept = np.load(out / "memorisation-2.npz")
    assert kept["nearest"].shape == (40, 2)
    assert (out / "memorisation-2.png").stat().st_size > 1000


def test_what_is_refused(halves, tmp_path, capsys):
    out = halves / "one"
    assert "other_half is for --memorisation" in refused(capsys, "evaluate", out, "--other-half", halves / "other")
    np.save(tmp_path / "x.npy", RNG.normal(size=(40, 2)))
    words = ["train", "closed_form", "--data", tmp_path / "x.npy", "--num", "10", "--batch-size", "8"]
    assert main([*map(str, words), "--out", str(tmp_path / "run")]) == 0
    both = refused(capsys, "evaluate", out, "--memorisation", "--num", "10", "--other-half", tmp_path / "run")
    assert "other_half has samples of shape (2,), and this run of (3, 3, 1)" in both
    same = refused(capsys, "evaluate", out, "--memorisation", "--num", "10", "--other-half", out)
    assert "other_rows must be other rows than one_rows" in same
