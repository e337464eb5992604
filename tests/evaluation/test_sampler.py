"""``evaluate_sampler`` on processes whose law is known."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax.evaluation import evaluate_sampler, modes_of

KEY, MEAN = jax.random.key(0), jnp.array([1.0, -0.5])


def constant(params, t, x, args):
    return params + 0.0 * x


def sampler(log_density, b, dim=2):
    """Brownian motion from 0 with the drift b: N(b, I) at time 1."""
    method = bj.methods.pis(log_density, (constant, b), dim=dim, gradient=False, ts=bj.grids.uniform(4))
    return method.process(method.init(KEY, None))


def log_rho(x):
    return 0.7 - jnp.sum(0.5 * (x - MEAN) ** 2 + 0.5 * math.log(2 * math.pi))


def draw(key):
    return MEAN + jax.random.normal(key, (2,))


def label(x):
    return (x[0] > MEAN[0]).astype(jnp.int32)


TARGET = bj.targets.target(Partial(log_rho), 2, 0.7, Partial(draw), Partial(label), 2)


def test_a_perfect_sampler_sits_at_the_floors(tmp_path):
    report = evaluate_sampler(sampler(TARGET, MEAN), TARGET, KEY, num=400, draws=20)
    assert report.log_z == pytest.approx(0.7, abs=1e-5)
    assert report.elbo == pytest.approx(0.7, abs=1e-5)
    assert report.eubo == pytest.approx(0.7, abs=1e-5)
    assert report.ess == pytest.approx(1.0, abs=1e-5)
    assert report.forward_ess == pytest.approx(1.0, abs=1e-5)
    assert (report.modes.found, report.modes.num, report.excluded) == (2, 2, 0.0)
    assert report.modes.coverage > 1.0 - 5 * 2 / 400
    w2 = report.distances.metrics["w2"]
    assert abs(w2.value - w2.floor) < 5 * w2.floor_std
    saved = json.loads(report.save(tmp_path / "report.json").read_text())
    assert saved["true_log_z"] == 0.7
    assert "samples" not in saved
    assert saved["distances"]["metrics"]["w2"]["n"] == 400
    assert report.plot(tmp_path / "corner.png").stat().st_size > 1000
    for words in ("log Z          0.7000", "true 0.7", "modes          2 of 2", "w2"):
        assert words in str(report)


def test_a_shifted_sampler_is_seen_by_every_line_and_its_weights_put_it_right():
    process = sampler(TARGET, MEAN + jnp.array([1.0, 0.0]))
    report = evaluate_sampler(process, TARGET, KEY, num=800)
    # w = log Z - x / 1 for a shift by 1: variance 1, ESS exp(-1), gaps 1/2
    assert report.elbo == pytest.approx(0.2, abs=5 / math.sqrt(800))
    assert report.eubo == pytest.approx(1.2, abs=5 / math.sqrt(800))
    # E_p[w] E_p[1/w] = e, each factor with a relative variance of (e - 1) / n
    assert report.forward_ess == pytest.approx(math.exp(-1), rel=10 * math.sqrt((math.e - 1) / 800))
    assert 0.1 < report.ess < 0.8
    assert abs(report.log_z - 0.7) < 5 * report.log_z_error
    assert report.distances.metrics["w2"].ratio > 2.0
    again = evaluate_sampler(process, TARGET, KEY, num=800, weighted=True, draws=1)
    assert again.distances.metrics["energy"].value < 0.2 * report.distances.metrics["energy"].value
    assert again.log_z == report.log_z


def one_of_two(x):
    """N(MEAN, I) and as much far away."""
    return jnp.logaddexp(log_rho(x), log_rho(x + 20.0)) - math.log(2)


def draw_two(key):
    return draw(key) - 20.0 * jax.random.bernoulli(jax.random.fold_in(key, 1))


def far(x):
    return (x[0] < -10.0).astype(jnp.int32)


def test_a_mode_that_is_never_visited_shows_in_what_runs_back():
    target = bj.targets.target(Partial(one_of_two), 2, 0.7, Partial(draw_two), Partial(far), 2)
    report = evaluate_sampler(sampler(TARGET, MEAN), target, KEY, num=800, draws=1)
    assert report.log_z == pytest.approx(0.7 - math.log(2), abs=1e-4)
    assert report.ess == pytest.approx(1.0, abs=1e-4)
    assert report.forward_ess < 1e-6
    assert report.eubo > 10.0
    assert (report.modes.found, report.modes.num) == (1, 2)
    assert report.modes.coverage == 0.0
    few = bj.targets.target(Partial(one_of_two), 2, 0.7, Partial(draw_two), Partial(far), 9)
    assert evaluate_sampler(sampler(TARGET, MEAN), few, KEY, num=800, draws=1).modes is None


def beside(key):
    return draw(key) - 20.0


def half(x):
    return jnp.where(x[0] < MEAN[0], jnp.nan, log_rho(x))


def test_a_density_alone_and_paths_that_end_where_it_is_bad():
    report = evaluate_sampler(sampler(log_rho, MEAN), Partial(half), KEY, num=1000)
    assert report.excluded == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(1000))
    assert report.log_z == pytest.approx(0.7 - math.log(2), abs=5 / math.sqrt(1000))
    assert report.elbo == pytest.approx(0.7, abs=1e-4)  # of those that are left
    assert (report.eubo, report.modes, report.distances, report.true_log_z) == (None, None, None, None)
    assert "excluded       0." in str(report)
    with pytest.raises(ValueError, match="a corner plot needs exact samples"):
        report.plot("nowhere.png")


def test_positions_of_an_underdamped_sampler_are_compared():
    network = (constant, jnp.zeros(4))
    method = bj.methods.underdamped(TARGET, network, scale=1.5, step=0.3, ts=bj.grids.uniform(4))
    process = method.process(method.init(KEY, None))
    report = evaluate_sampler(process, bj.targets.with_velocity(TARGET), KEY, num=200)
    assert report.samples.shape == report.exact.shape == (200, 2)
    assert np.isfinite(report.distances.metrics["energy"].value)
    assert report.modes.num == 2


def nowhere(x):
    return jnp.nan * jnp.sum(x)


def test_bad_input_costs_one_sentence():
    process = sampler(TARGET, MEAN)
    for call, match in (
        (lambda: evaluate_sampler(process, TARGET, KEY, num=10), "num must be an integer >= 100"),
        (lambda: evaluate_sampler(process, Partial(nowhere), KEY, num=100), "none of 100 paths ends where"),
        (lambda: evaluate_sampler(process, TARGET, bj.keys(KEY, 3)), "key"),
        (lambda: evaluate_sampler(process, 3, KEY), "log_density must be a function"),
        (
            lambda: evaluate_sampler(
                process, bj.targets.target(Partial(half), 2, sample=Partial(beside)), KEY, num=100
            ),
            "sample is not of this density",
        ),
    ):
        with pytest.raises(ValueError, match=match):
            call()


@pytest.mark.parametrize(
    ("samples", "exact", "match"),
    [
        (np.zeros((0, 1)), np.zeros((400, 1)), "samples must have at least one row"),
        (np.zeros((400, 1)), None, "exact must have at least one row"),
        (np.zeros((400, 2)), np.zeros((400, 1)), "samples have shape"),
    ],
)
def test_modes_of_nothing_cost_one_sentence(samples, exact, match):
    with pytest.raises(ValueError, match=match):
        modes_of(TARGET, samples, exact)


@pytest.mark.parametrize(("left", "found"), [(18, 2), (16, 1)])
def test_a_mode_is_found_at_a_third_of_its_share(left, found):
    """Half of the exact samples: a sixth of the samples is the least."""
    target = bj.targets.target(Partial(log_rho), 2, modes=Partial(label), num_modes=2)
    exact, samples = (np.repeat([[0.0, 0.0], [2.0, 0.0]], [n, 100 - n], axis=0) for n in (50, left))
    seen = modes_of(target, np.repeat(samples, 2, axis=0), np.repeat(exact, 2, axis=0))
    assert (seen.found, seen.num) == (found, 2)
