"""Reports on predictions: scores against their formulas, calibration of the true law, and what is refused."""

import json

import numpy as np
import pytest

from bridgejax.evaluation import Forecast, evaluate_predictions, plots
from bridgejax.evaluation.baselines import normal_forecast

RNG = np.random.default_rng(0)
N = 4000
MEAN = RNG.normal(size=N)
Y = MEAN + 0.5 * RNG.normal(size=N)


def true_law(shift=0.0, scale=1.0, deviation=0.5):
    return normal_forecast(MEAN, np.full(N, deviation**2), Y * scale + shift, shift, scale)


def test_scores_of_the_true_law():
    report = evaluate_predictions({"true": true_law(), "wide": true_law(deviation=1.0)}, Y)
    scores = report.scores["true"]
    assert abs(scores["rmse"] - 0.5) < 5 * scores["rmse_error"]
    entropy = 0.5 * np.log(2 * np.pi * np.e * 0.25)
    assert abs(scores["nll"] - entropy) < 5 * scores["nll_error"]
    for level in (0.5, 0.8, 0.9, 0.95):
        share = scores[f"inside_{round(100 * level)}"]
        assert abs(share - level) < 5 * np.sqrt(level * (1 - level) / N)
    # log N(y; m, 1) less log N(y; m, 1/4) on average: KL of the true to the wide
    kl = np.log(2.0) + 0.125 - 0.5
    assert abs(report.gains["wide"]["nats"] - kl) < 5 * report.gains["wide"]["error"]
    assert report.words[0].startswith("true is better, in nats a row, than wide (+")
    assert report.words[1].endswith("as wide as they should be")
    wide = evaluate_predictions({"wide": true_law(deviation=1.0), "true": true_law()}, Y)
    assert wide.words[0].startswith("wide is worse, in nats a row, than true (-")
    assert "too wide" in wide.words[1]
    assert "too narrow" in evaluate_predictions({"narrow": true_law(deviation=0.2)}, Y).words[0]
    same = evaluate_predictions({"one": true_law(), "two": true_law()}, Y)
    assert same.words[0] == "one cannot be told from two (+0.000 ± 0.000)"


def test_a_unit_moves_the_density_by_its_logarithm_and_the_error_by_itself():
    one = evaluate_predictions({"true": true_law()}, Y).scores["true"]
    other = evaluate_predictions({"true": true_law(10.0, 100.0)}, 100.0 * Y + 10.0).scores["true"]
    np.testing.assert_allclose(other["nll"], one["nll"] + np.log(100.0), rtol=1e-9)
    np.testing.assert_allclose(other["rmse"], 100.0 * one["rmse"], rtol=1e-6)
    np.testing.assert_allclose(other["inside_90"], one["inside_90"])


def test_scores_without_the_repeated_rows():
    again = np.arange(N) % 4 == 0
    said = true_law()
    said = said._replace(mean=np.where(again, Y, said.mean))  # known by heart
    report = evaluate_predictions({"model": said}, Y, repeated=again)
    assert report.repeated == N // 4
    rest = np.sqrt(np.mean((MEAN - Y)[~again] ** 2))
    np.testing.assert_allclose(report.scores_without["model"]["rmse"], rest)
    np.testing.assert_allclose(report.scores["model"]["rmse"], rest * np.sqrt(0.75), rtol=1e-6)
    assert f"without {N // 4} rows whose inputs occur among the training rows" in str(report)
    assert evaluate_predictions({"model": said}, Y).scores_without is None
    assert "too few are left" in evaluate_predictions({"model": said}, Y, repeated=again | True).notes[-1]


def test_scores_of_classes():
    p = RNG.dirichlet(np.ones(3), N)
    labels = np.array([RNG.choice(3, p=row) for row in p])
    report = evaluate_predictions({"true": Forecast(probabilities=p)}, labels, classes=("a", "b", "c"))
    scores = report.scores["true"]
    assert scores["accuracy"] == np.mean(np.argmax(p, axis=1) == labels)
    np.testing.assert_allclose(scores["nll"], -np.mean(np.log(p[np.arange(N), labels])))
    assert abs(scores["nll"] + np.mean(np.sum(p * np.log(p), axis=1))) < 5 * scores["nll_error"]
    assert abs(scores["brier"] - np.mean(1 - np.sum(p**2, axis=1))) < 5 * scores["brier_error"]
    found = report.calibration["true"]
    error = 5 * np.sqrt(0.25 / np.asarray(found["rows"]))
    assert np.all(np.abs(np.subtract(found["nominal"], found["observed"])) < error)
    assert sum(found["rows"]) == N
    sure = Forecast(probabilities=np.eye(3)[np.argmax(p, axis=1)])
    assert evaluate_predictions({"sure": sure}, labels, classes="abc").scores["sure"]["calibration_error"] > 0.2


def test_a_report_is_saved_and_drawn(tmp_path):
    said = true_law()
    report = evaluate_predictions({"true": said}, Y, target="length", notes=("a note",))
    read = json.loads(report.save(tmp_path / "report.json").read_text())
    assert read["scores"]["true"] == report.scores["true"]
    assert "a note" in str(report)
    assert max(map(len, str(report).splitlines())) <= 100
    ends = np.stack([MEAN - 0.8, MEAN + 0.8])
    path = plots.predictions(tmp_path / "a.png", report, said, Y, ends, repeated=np.arange(N) < 9)
    assert path.read_bytes().startswith(b"\x89PNG")
    p = Forecast(probabilities=np.full((4, 2), 0.5))
    report = evaluate_predictions({"coin": p}, [0, 1, 1, 0], classes=("no", "yes"))
    assert plots.predictions(tmp_path / "b.png", report, p, np.array([0, 1, 1, 0])).exists()


def test_few_different_values_are_said():
    y = np.round(Y)
    said = normal_forecast(MEAN, np.full(N, 0.25), y, 0.0, 1.0)
    assert "grow spikes" in evaluate_predictions({"model": said}, y).notes[0]


@pytest.mark.parametrize(
    ("models", "truth", "how", "words"),
    [
        ({}, Y, {}, "models is empty"),
        ({"m": true_law()}, Y[:-1], {}, r"mean of model 'm' must be finite numbers of shape \(3999,\), got shape"),
        ({"m": true_law()}, Y[:1], {}, "truth must be at least 2 finite numbers"),
        ({"m": true_law()}, np.full(N, np.nan), {}, "truth must be at least 2 finite numbers"),
        ({"m": true_law()}, "abc", {}, "truth must be"),
        ({"m": true_law()._replace(cdf=None)}, Y, {}, "cdf of model 'm' must be finite numbers.*got None"),
        ({"m": true_law()}, Y, {"repeated": np.zeros(3, bool)}, "repeated must be 4000 booleans"),
        ({"m": true_law()}, np.zeros(N), {"classes": "ab"}, "probabilities of model 'm'"),
        ({"m": true_law()}, np.full(N, 2), {"classes": "ab"}, "truth must be indices 0 .. 1 of the 2 classes"),
        ({"m": Forecast(probabilities=np.ones((2, 2)))}, [0, 1], {"classes": "ab"}, "sum to 1 in every row"),
    ],
)
def test_what_is_refused(models, truth, how, words):
    with pytest.raises(ValueError, match=words):
        evaluate_predictions(models, truth, **how)
