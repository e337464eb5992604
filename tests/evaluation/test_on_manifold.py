"""A report on a manifold: what is likely stands beside a kernel estimate and the uniform law."""

import json

import jax
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.evaluation import evaluate_on_manifold

TORUS = bj.manifolds.Torus(2)


@pytest.fixture(scope="module")
def draws():
    """Angles of deviation 0.3 around (3, 0), across the seam: three sets of one law."""
    random = np.random.default_rng(0)
    return [np.asarray(TORUS.project(random.normal([3.0, 0.0], 0.3, (400, 2)))) for _ in range(3)]


def exact(x):
    gap = np.asarray(jax.vmap(TORUS.log, (None, 0))(np.array([3.0, 0.0]), x))
    return -0.5 * np.sum((gap / 0.3) ** 2, axis=1) - 2 * np.log(0.3 * np.sqrt(2 * np.pi))


def test_a_perfect_model_is_like_real_and_more_likely_than_its_kernels(draws, tmp_path):
    samples, train, holdout = draws
    report = evaluate_on_manifold(TORUS, samples, train, holdout, log_prob=exact)
    assert report.verdict.grade == "like real"
    found = report.likelihood
    entropy = 1 + np.log(2 * np.pi * 0.3**2)
    assert abs(found["model"] - entropy) < 5 * found["model_error"]
    assert found["model_error"] == pytest.approx(1 / np.sqrt(400), rel=0.2)  # the variance of a chi-square / 2
    assert found["model"] < found["kernel"] < found["model"] + 0.2
    assert found["uniform"] == pytest.approx(2 * np.log(2 * np.pi))
    assert found["gap"] == pytest.approx(found["model"] - found["kernel"])
    text = report.table()
    assert "held-out rows, nats (lower is better): model" in " ".join(text.split())
    assert "better than the kernel" in " ".join(text.split())
    report.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["likelihood"] == found


def test_a_model_that_is_worse_than_its_kernels_is_told_so(draws):
    """Uniform: worse by the uniform law's log volume less the entropy, about 3.7 - 0.4 nats a row."""
    samples, train, holdout = draws
    report = evaluate_on_manifold(TORUS, samples, train, holdout, log_prob=lambda x: np.full(len(x), -3.6757541))
    found = report.likelihood
    assert found["model"] == pytest.approx(found["uniform"], abs=1e-6)
    assert found["model_error"] == pytest.approx(0.0, abs=1e-12)
    assert found["gap"] == pytest.approx(found["uniform"] - found["kernel"], abs=1e-6)
    assert "worse than the kernel; more steps of training" in " ".join(report.table().split())


def test_a_model_without_a_density_is_told_from_one_with(draws):
    samples, train, holdout = draws
    report = evaluate_on_manifold(TORUS, samples + 0.5, train, holdout, most=100)
    assert report.likelihood["rows"] == 100
    assert report.likelihood["model"] is None
    assert "gap" not in report.likelihood
    assert "has no density of its own" in report.table()
    assert report.verdict.grade == "unlike real"
