"""Sequential Monte Carlo with proposals of a process: unbiased with resampling and without, whatever gamma is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import bridgejax as bj

LOG_Z, MEAN = 0.4, jnp.array([1.0, -0.5])


def log_rho(mean, x):
    return LOG_Z - jnp.sum(0.5 * (x - mean) ** 2 + 0.5 * jnp.log(2 * jnp.pi))


RHO = Partial(log_rho, MEAN)


def pushed(params, t, x, args):
    return params


PROCESS = bj.methods.dds(RHO, (pushed, jnp.array([0.2, -0.1])), dim=2, gradient=False, ts=bj.grids.uniform(20))
PROCESS = PROCESS.process(PROCESS.init(jax.random.key(0), None))


def wrong(mean, t, x):
    return -0.5 * jnp.sum((x + 0.5 * t * mean) ** 2)


def test_the_mean_of_z_is_z_with_and_without_resampling():
    for threshold, gamma in ((0.9, None), (0.9, Partial(wrong, MEAN))):
        found = [bj.smc(PROCESS, key, 512, RHO, threshold=threshold, on_the_way=gamma)
                 for key in jax.random.split(jax.random.key(1), 40)]  # fmt: skip
        z = np.exp([float(f.log_z) for f in found])
        assert sum(int(f.resampled.sum()) for f in found) >= 40
        assert abs(z.mean() - np.exp(LOG_Z)) < 5 * z.std(ddof=1) / np.sqrt(len(z))
        assert z.std() / z.mean() < 0.5
    x = found[0].x[bj.weights.systematic(jax.random.key(2), found[0].log_weights)]
    assert x.shape == (512, 2)
    still = bj.smc(PROCESS, jax.random.key(3), 20_000, RHO, threshold=0.0)
    assert not bool(still.resampled.any())
    assert float(jnp.mean(jnp.exp(still.log_weights))) == pytest.approx(1.0, abs=1e-4)
    mean, spread = still.x.T @ jax.nn.softmax(still.log_weights), 1.0
    ess = float(bj.weights.ess(still.log_weights)) * 20_000
    assert np.abs(np.asarray(mean - MEAN)).max() < 5 * spread / np.sqrt(ess)
    assert float(still.log_z) == pytest.approx(LOG_Z, abs=5 / np.sqrt(ess))


@pytest.mark.parametrize("pieces", [None, 3])
def test_moves_keep_the_mean_of_z(pieces):
    """Moves of the wrong level, or weights that count them, would move both means."""
    options = {"move": bj.mcmc.hmc(leapfrogs=3), "step_sizes": 0.3, "transitions": 2, "pieces": pieces}
    keys = jax.random.split(jax.random.key(4), 40)
    found = [bj.smc(PROCESS, key, 256, RHO, threshold=0.9, **options) for key in keys]
    seen = np.any([np.asarray(f.resampled) for f in found], axis=0)
    assert seen.any()
    if pieces:  # 20 steps in three pieces
        assert set(np.flatnonzero(seen)) <= {6, 13, 19}
    z = np.exp([float(f.log_z) for f in found])
    assert abs(z.mean() - np.exp(LOG_Z)) < 5 * z.std(ddof=1) / np.sqrt(len(z))
    assert z.std() / z.mean() < 0.1
    means = np.array([np.asarray(f.x).T @ np.asarray(jax.nn.softmax(f.log_weights)) for f in found])
    error = means.std(0, ddof=1) / np.sqrt(len(means))
    assert (np.abs(means.mean(0) - np.asarray(MEAN)) < 5 * error).all()
    assert error.max() < 0.03


def ornstein_mean(t, u, x, args):
    return jnp.exp(t - u) * x


def ornstein_scale(t, u, x, args):
    return jnp.sqrt(-jnp.expm1(2.0 * (t - u)))


STATIONARY = bj.kernels.gaussian(ornstein_mean, ornstein_scale, 3.0)


def half_normal(log_scale, x):
    return jnp.where(x[0] > 0, log_scale - 0.5 * jnp.sum(x**2), -jnp.inf)


@pytest.mark.parametrize(("steps", "log_scale"), [(2, 0.0), (10, 200.0), (50, 0.0)])
def test_holes_of_the_target_kill_nobody_who_would_return(steps, log_scale):
    """A half-normal, from exact steps that know nothing of it: half of all paths end in its hole, others pass it."""
    sde = bj.SDE(lambda t, x, args: -x, lambda t, x, args: jnp.sqrt(2.0), 3.0)
    process = bj.Process(bj.starts.normal((1,)), sde, bj.grids.uniform(steps, 3.0))
    options = {"forward": STATIONARY, "backward": STATIONARY, "threshold": 0.9}
    rho = Partial(half_normal, jnp.float32(log_scale))
    found = [bj.smc(process, key, 512, rho, **options) for key in jax.random.split(jax.random.key(5), 40)]
    z = np.exp([float(f.log_z) - log_scale for f in found])
    error = z.std(ddof=1) / np.sqrt(len(z))
    assert error < 0.02
    assert abs(z.mean() - np.sqrt(np.pi / 2)) < 5 * error
    mean = np.array([float(f.x[:, 0] @ jax.nn.softmax(f.log_weights)) for f in found])
    assert abs(mean.mean() - np.sqrt(2 / np.pi)) < 5 * mean.std(ddof=1) / np.sqrt(len(mean))
    assert sum(int(f.resampled.sum()) for f in found) >= 40


def nowhere(x):
    return -jnp.inf * jnp.sum(x**2)


def test_bad_input_costs_one_sentence():
    key = jax.random.key(0)
    for call, match in (
        (lambda: bj.smc(PROCESS, key, 0, RHO), "num must be"),
        (lambda: bj.smc(PROCESS, key, 8, RHO, threshold=2.0), "threshold must lie in"),
        (lambda: bj.smc(PROCESS, key, 8, RHO, move="hmc", step_sizes=0.1), "move must be made by"),
        (lambda: bj.smc(PROCESS, key, 8, RHO, move=bj.mcmc.hmc()), "move needs step_sizes"),
        (
            lambda: bj.smc(PROCESS, key, 8, RHO, move=bj.mcmc.mala(difference="line"), step_sizes=0.1),
            "density is known",
        ),
        (lambda: bj.smc(PROCESS, key, 8, RHO, pieces=21), "pieces must be at most the number of steps, 20"),
        (lambda: bj.smc(PROCESS, key, 8, nowhere), "all 8 particles ended with weight zero"),
        (lambda: bj.smc(PROCESS.dynamics, key, 8, RHO), "process must be a Process"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
