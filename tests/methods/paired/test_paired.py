"""Paired bridges on x_T = R x_0 + noise, x_0 a mixture: every posterior is known; R is what plain bridges get wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bridgejax as bj
from bridgejax import couplings
from bridgejax.methods.paired.augmented_bridge import steps
from bridgejax.methods.paired.ddbm import pair_coefficients
from bridgejax.methods.paired.i2sb import symmetric

MEANS = np.array([[1.0, 0.3], [-0.6, 0.9], [-0.3, -1.2]], np.float32)
WEIGHTS, V, S, SIGMA = np.array([0.5, 0.3, 0.2], np.float32), 0.04, 0.5, 0.8
R = np.array([[0.0, -1.0], [1.0, 0.0]], np.float32)
MIXTURE = bj.mixtures.gaussian_mixture(MEANS, V, WEIGHTS)
YS = np.array([[0.4, 0.5], [-0.9, -0.2]], np.float32)
N = 2048


def mean_given(precision, pull):
    """Mean of a density proportional to p(x_0) exp(-precision |x_0|^2 / 2 + pull . x_0)."""
    total, h = 1.0 / V + precision, MEANS / V + pull
    r = jax.nn.softmax(jnp.log(WEIGHTS) + jnp.sum(h**2, 1) / (2.0 * total) - jnp.sum(MEANS**2, 1) / (2.0 * V))
    return r @ h / total


def given_source(y, info, pull):
    """E[x_0 | y, and a Gaussian message]: R^T R = 1."""
    return mean_given(1.0 / S**2 + info, R.T @ y / S**2 + pull)


def target_end(params, t, x, args):
    """E[target | x_t, source] of the Brownian bridge, t from source to target; off by params where there are any."""
    far = SIGMA**2 * (1.0 - t)
    exact = given_source(args, t / far, (x - (1.0 - t) * args) / far)
    return exact + params @ jnp.concatenate([x, args, jnp.ones(1)])


def source_end(t, x, args):
    """E[source | x_t, target]: N(R x_0, S^2) and x_t - t x_0 = (1 - t) y + c eps."""
    far = SIGMA**2 * t
    return (R @ args / S**2 + (x - t * args) / far) / (1.0 / S**2 + (1.0 - t) / far)


def target_left(params, t, x, args):
    """E[(target - x_t) / sqrt(1 - t) | x_t, source], off by params."""
    off = params @ jnp.concatenate([x, args, jnp.ones(1)])
    return (target_end(ZERO, t, x, args) - x) / jnp.sqrt(1.0 - t) + off


def both_left(params, t, x, args):
    """What is left to either end, given the other."""
    end, side = args[0], args[1, 0]
    return jnp.where(side < 0, target_left(params, t, x, end), (source_end(t, x, end) - x) / jnp.sqrt(t))


def clean(schedule, t, x, y):
    """E[x_0 | x_t, y] of a schedule's bridge: a^2/c^2 = SNR_t - SNR_T, a/c^2 = alpha/sigma_t^2."""
    near, b = schedule.variance(0.0, t), bj.interpolants.bridge(schedule).b(t)  # pyright: ignore
    pull = schedule.alpha(t) / near
    info = schedule.alpha(t) ** 2 / near - schedule.alpha(schedule.T) ** 2 / schedule.variance(0.0, schedule.T)
    return given_source(y, info, pull * (x - b * y))


def i2sb_net(params, t, x, args):
    schedule = symmetric(SIGMA)
    off = params @ jnp.concatenate([x, args, jnp.ones(1)])
    return (x - clean(schedule, t, x, args)) / schedule.sigma(t) + off


SPREAD = (0.9, 1.1, 0.2)
VP, VE = bj.schedules.vp(0.1, 2.1), bj.schedules.karras(80.0)


def vp_time(info):
    """SNR = 1 / (e^B - 1), B = 0.1 t + t^2."""
    rate = jnp.log1p(1.0 / (info + 1.0 / jnp.expm1(1.1)))
    return 0.5 * (jnp.sqrt(0.01 + 4.0 * rate) - 0.1)


def raw(schedule, time_of, params, noise, x, args):
    """F whose denoiser is exact; the time is read off the noise level -log(a^2/c^2) / 8."""
    t = time_of(jnp.exp(-8.0 * noise))
    k = pair_coefficients(schedule, t, SPREAD)
    x = x / k.input
    off = params @ jnp.concatenate([k.input * x, args, jnp.ones(1)])
    return (clean(schedule, t, x, args) - k.skip * x) / k.out + off


def vp_net(params, noise, x, args):
    return raw(VP, vp_time, params, noise, x, args)


def ve_net(params, noise, x, args):
    return raw(VE, lambda info: 1.0 / jnp.sqrt(info + 1.0 / 80.0**2), params, noise, x, args)


def ddbm(net, schedule, **options):
    spread = dict(zip(("sigma_target", "sigma_source", "correlation"), SPREAD, strict=True))
    return bj.methods.ddbm((net, ZERO), schedule=schedule, **COMMON, **spread, **options)


def plain_net(params, t, x, args):
    """E[x_0 | x_t] alone: x_t = (t + (1 - t) R) x_0 + noise, and the matrix is t^2 + (1 - t)^2 times a rotation."""
    a = t * np.eye(2) + (1.0 - t) * R
    noise = (1.0 - t) ** 2 * S**2 + SIGMA**2 * t * (1.0 - t)
    return mean_given((t**2 + (1.0 - t) ** 2) / noise, a.T @ x / noise) + 0.0 * params[0, 0]


ZERO = jnp.zeros((2, 5))
COMMON = {"shape": (2,), "optimizer": optax.sgd(1.0), "ema": None}
METHODS = {
    "augmented": lambda: bj.methods.augmented_bridge((target_left, ZERO), sigma=SIGMA, **COMMON),
    "bdbm": lambda: bj.methods.bdbm((both_left, ZERO), sigma=SIGMA, **COMMON),
    "i2sb": lambda: bj.methods.i2sb((i2sb_net, ZERO), sigma=SIGMA, **COMMON, conditional=True),
    "ddbm vp": lambda: ddbm(vp_net, "vp"),
    "ddbm ve": lambda: ddbm(ve_net, "ve"),
}


def z_scores(x, mean, cov):
    """Deviations of the sample's mean and covariance in standard errors."""
    centred = x - mean
    products = (centred[:, :, None] * centred[:, None, :]).reshape(len(x), -1)
    first = centred.mean(0) * np.sqrt(len(x)) / x.std(0)
    second = (products.mean(0) - np.ravel(cov)) * np.sqrt(len(x)) / products.std(0)
    return np.abs(np.concatenate([first, second]))


def drawn(process, points, **options):
    rows = np.repeat(points, N, axis=0)
    found = bj.sample(process, bj.keys(jax.random.key(1), len(rows)), **{"args": rows, **options})
    return np.asarray(found, np.float64).reshape(len(points), N, 2)


def truths():
    laws = [bj.mixtures.condition(MIXTURE, R, y, S) for y in YS]
    return [(np.asarray(law.mean()), np.asarray(law.cov())) for law in laws]


SECOND = bj.solvers.DPMSolverPP2M(eta=1.0)  # 100 steps of first order are not enough


@pytest.mark.slow
@pytest.mark.parametrize("name", ["augmented", "ddbm vp"])
def test_the_law_given_the_source(name):
    method = METHODS[name]()
    process = method.process(method.init(jax.random.key(0), {}))
    found = drawn(process, YS, solver=SECOND)
    for x, law in zip(found, truths(), strict=True):
        assert z_scores(x, *law).max() < 5.0
    if name == "augmented":  # and it is this test that plain bridge matching fails, with its exact drift too
        plain = bj.methods.bridge_matching((plain_net, ZERO), sigma=SIGMA, predict="x1", **COMMON)
        process = plain.process(plain.init(jax.random.key(0), {}))
        for x, law in zip(drawn(process, YS, args=None, x=np.repeat(YS, N, axis=0)), truths(), strict=True):
            assert z_scores(x, *law).max() > 8.0
        first, second = jax.random.split(jax.random.key(2))
        x0 = jax.vmap(MIXTURE)(jax.random.split(first, 2 * N))
        sources = x0 @ R.T + S * jax.random.normal(second, x0.shape)
        x = drawn(process, YS, args=None, x=sources).reshape(-1, 2)  # though its marginal is right
        assert z_scores(x, np.asarray(MIXTURE.mean()), np.asarray(MIXTURE.cov())).max() < 5.0


@pytest.mark.slow
def test_one_network_both_ways():
    method = METHODS["bdbm"]()
    process = method.process(method.init(jax.random.key(0), {}))
    t, x, y = 0.3, jnp.array([0.2, -0.7]), jnp.asarray(YS[0])
    assert process.dynamics.semilinear is not None
    assert jnp.allclose(process.dynamics.semilinear.denoiser(1.0 - t, x, y), target_end(ZERO, t, x, y), atol=1e-5)
    rows = np.repeat(YS, N, axis=0)
    for y, x0 in zip(drawn(process, YS, x=rows, direction="backward", solver=SECOND), YS, strict=True):
        assert z_scores(y, R @ x0, S**2 * np.eye(2)).max() < 5.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bdbm", "i2sb", "ddbm ve"])
def test_the_exact_network_is_where_the_loss_is_flat(name):
    """The gradient at the exact network, over independent batches; at another network it is not zero."""
    x0 = jax.vmap(MIXTURE)(bj.keys(jax.random.key(3), 128 * 64))
    y = x0 @ R.T + S * jax.random.normal(jax.random.key(4), x0.shape)
    batches = {"source": y.reshape(128, 64, 2), "target": x0.reshape(128, 64, 2)}
    method = METHODS[name]()
    step = jax.jit(jax.vmap(method.step, (None, 0, 0)))

    def gradients(params):
        state = method.init(jax.random.key(0), {})._replace(params=params)
        moved = step(state, jax.random.split(jax.random.key(5), 128), batches)[0].params - params
        return np.asarray(moved, np.float64)

    def z(found):
        return np.abs(found.mean(0) / found.std(0) * np.sqrt(128))

    assert z(gradients(ZERO)).max() < 5.0
    assert z(gradients(ZERO.at[0, 4].set(0.3))).max() > 8.0


def test_preconditioning_is_what_it_is_defined_to_be():
    """On pairs with these moments input and target have variance one, and no other skip makes the target's smaller."""
    s0, s1, rho = SPREAD
    moments = np.array([[s0**2, rho * s0 * s1, 0.0], [rho * s0 * s1, s1**2, 0.0], [0.0, 0.0, 1.0]])
    for schedule in (VP, VE):
        path = bj.interpolants.bridge(schedule)
        for t in np.array([1e-3, 0.03, 0.5, 0.9, 0.999]) * schedule.T:
            skip, out, scale, noise = (float(v) for v in pair_coefficients(schedule, t, SPREAD))
            a, b, c = (float(f(t)) for f in (path.a, path.b, path.c))  # pyright: ignore
            mix = np.array([a, b, c])
            left = np.array([1.0, 0.0, 0.0]) - skip * mix
            assert scale**2 * (mix @ moments @ mix) == pytest.approx(1.0, rel=1e-5)
            assert (left @ moments @ left) / out**2 == pytest.approx(1.0, rel=1e-3)  # float32
            assert abs(left @ moments @ mix) < 1e-5 * (mix @ moments @ mix)  # best linear guess
            assert noise == pytest.approx(0.25 * np.log(c / a), abs=1e-4)
        ends = [pair_coefficients(schedule, t, SPREAD) for t in (0.0, schedule.T)]
        assert np.all(np.isfinite(ends))
    far = pair_coefficients(bj.schedules.karras(1e4), 0.7, (0.5, 0.5, 0.0))  # no signal at the source: EDM
    edm = [0.25 / 0.74, 0.35 / 0.74**0.5, 1.0 / 0.74**0.5, 0.25 * np.log(0.7)]
    assert np.allclose(far, edm, rtol=1e-5)


def linear_clean(params, t, x, args):
    """(x - E[x_0 | x_t = x]) / sigma_t on x_t = (1 - m) x_0 + m y, scalar Gaussian ends of moments LINE."""
    schedule = symmetric(1.0)
    m = schedule.variance(0.0, t)
    var_x = (1 - m) ** 2 * LINE[0, 0] + m**2 * LINE[1, 1] + 2 * m * (1 - m) * LINE[0, 1]
    return params[0] * (x - ((1 - m) * LINE[0, 0] + m * LINE[0, 1]) / var_x * x) / schedule.sigma(t)


QUICK = {"ts": bj.grids.uniform(100), "time_sampler": bj.objectives.times.uniform()}
LINE = np.array([[1.0, 0.6], [0.6, 2.0]])  # target, source


def test_i2sb_without_noise():
    """Between Gaussians the ODE carries y to y s_0 / s_1."""
    y = np.linspace(-2.0, 2.0, 64, dtype=np.float32)[:, None]
    method = bj.methods.i2sb((linear_clean, jnp.ones(1)), shape=(1,), sigma=1.0, kind="ode", **QUICK)
    process = method.process(method.init(jax.random.key(0), {}))
    assert np.abs(bj.sample(process, bj.keys(jax.random.key(0), 64), args=y) - y / np.sqrt(2.0)).max() < 0.01


NET = (target_end, ZERO)
PAIRED = bj.data.Pairs(np.zeros((4, 2)), np.zeros((4, 2)), 2, coupling=couplings.paired)


@pytest.mark.parametrize("make", [bj.methods.augmented_bridge, bj.methods.i2sb, bj.methods.ddbm, bj.methods.bdbm])
def test_what_all_refuse(make):
    method, key = make(NET, shape=(2,), **QUICK), jax.random.key(0)
    state = method.init(key, PAIRED)
    for coupling in (None, couplings.independent):
        with pytest.raises(ValueError, match="independently drawn pairs.*couplings.paired"):
            method.init(key, bj.data.Pairs(np.zeros((4, 2)), np.zeros((4, 2)), 2, coupling=coupling))
    with pytest.raises(ValueError, match="target rows of shape"):
        method.step(state, key, {"source": jnp.zeros((4, 2)), "target": jnp.zeros((4, 3))})
    with pytest.raises(ValueError, match="needs source and target"):
        method.step(state, key, jnp.zeros((4, 2)))
    for args in (None, np.zeros((3, 5), np.float32)):
        with pytest.raises(ValueError, match="args must be source points"):
            bj.sample(method.process(state), bj.keys(key, 3), args=args)
    with pytest.raises(ValueError, match="shape must"):
        make(NET, shape="ab", **QUICK)
    with pytest.raises(ValueError, match="ts"):
        make(NET, shape=(2,), **(QUICK | {"ts": [1.0, 0.0]}))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (bj.methods.augmented_bridge, {"sigma": 0.0}, "sigma must be positive"),
        (bj.methods.augmented_bridge, {"predict": "eps"}, "predict must be 'x1', 'residual' or 'drift'"),
        (bj.methods.i2sb, {"kind": "odd"}, "kind must be one of"),
        (bj.methods.i2sb, {"sigma": -1.0}, "sigma must be positive"),
        (bj.methods.bdbm, {"sigma": "big"}, "sigma"),
        (bj.methods.bdbm, {"time_sampler": 3}, "times must be a function"),
        (bj.methods.ddbm, {"schedule": "cosine"}, "schedule must be 've', 'vp' or a Schedule"),
        (bj.methods.ddbm, {"schedule": bj.schedules.rectified()}, "no signal left"),
        (bj.methods.ddbm, {"sampler": "heun"}, "sampler must be one of"),
        (bj.methods.ddbm, {"sigma_source": 0.0}, "sigma_source must be positive"),
        (bj.methods.ddbm, {"correlation": 1.0}, "correlation must lie"),
        (bj.methods.ddbm, {"sampler": "ode", "ts": [0.0, 1.0]}, "at least two steps"),
    ],
)
def test_what_each_refuses(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(NET, shape=(2,), **(QUICK | options))


def nothing(params, t, x, args):
    return params * x


def test_the_clock_of_i2sb_holds_sigma_squared():
    """The variance from s to t is the integral of 12 sigma^2 min(t, 1 - t)^2, sigma^2 in all."""
    schedule = symmetric(0.7)
    assert float(schedule.variance(0.0, 1.0)) == pytest.approx(0.49, rel=1e-6)
    for s, t in ((0.0, 0.3), (0.2, 0.9), (0.6, 1.0)):
        u, h = np.linspace(s, t, 20_001, retstep=True)
        rate = 12 * 0.49 * np.minimum(u, 1 - u) ** 2
        assert float(schedule.variance(s, t)) == pytest.approx((rate.sum() - 0.5 * (rate[0] + rate[-1])) * h, rel=1e-5)


def test_the_error_of_i2sb_is_in_units_of_the_reference():
    """Both ends at 0 and a network of 0: the mean of x_t^2 / sigma_t^2 is that of 1 - m over a symmetric clock, 1/2."""
    method = bj.methods.i2sb((nothing, jnp.zeros(())), shape=(2,), sigma=0.7, ema=None, **QUICK)
    zero = {"source": np.zeros((8192, 2), np.float32), "target": np.zeros((8192, 2), np.float32)}
    loss = jax.jit(method.step)(method.init(jax.random.key(0), zero), jax.random.key(1), zero)[1]["loss"]
    assert abs(float(loss) - 0.5) < 5 * np.sqrt(1.0 / 8192)  # E (|eps|^2 / 2)^2 (1 - m)^2 < 2 * 0.5
    # the denoiser takes sigma_t times the network away: sigma_t^2 = 4 0.7^2 0.3^3 at 0.3
    method = bj.methods.i2sb((nothing, jnp.ones(())), shape=(2,), sigma=0.7, ema=None, **QUICK)
    denoiser = method.process(method.init(jax.random.key(0), zero)).dynamics.semilinear.denoiser
    x = jnp.array([0.4, -1.0])
    np.testing.assert_allclose(denoiser(0.3, x, x), (1 - np.sqrt(4 * 0.49 * 0.027)) * x, rtol=1e-5)


def test_the_weight_of_ddbm_makes_the_error_of_a_blank_network_one():
    """F = 0 leaves the error of k_skip x, of variance k_out^2, for ends with the moments that were told."""
    s0, s1, rho = SPREAD
    z = np.random.default_rng(0).normal(size=(2, 8192, 1)).astype(np.float32)
    data = {"target": s0 * z[0], "source": s1 * (rho * z[0] + np.sqrt(1 - rho**2) * z[1])}
    method = bj.methods.ddbm(
        (nothing, jnp.zeros(())), shape=(1,), schedule=VP, sigma_target=s0, sigma_source=s1, correlation=rho, ema=None
    )
    loss = jax.jit(method.step)(method.init(jax.random.key(0), data), jax.random.key(1), data)[1]["loss"]
    assert abs(float(loss) - 1.0) < 5 * np.sqrt(2 / 8192) + 0.01


def test_the_landing_of_bdbm_takes_what_is_left():
    """x_1 - x_t = sqrt(1 - t) net towards the target, x_0 - x_t = sqrt(t) net back."""
    method = bj.methods.bdbm((lambda params, t, x, args: params + 0.0 * x, jnp.float32(0.8)), shape=(2,), ema=None)
    process, x = method.process(method.init(jax.random.key(0), {})), jnp.array([0.3, -0.5])
    for sde in (process.dynamics, process.backward):
        landed = sde.terminal_kernel.sample(jax.random.key(1), 0.7, 1.0, x, x)
        np.testing.assert_allclose(landed, x + 0.8 * np.sqrt(0.3), rtol=1e-5)


def test_the_steps_of_a_bridge_run_from_minus_six_to_ten():
    """Of log(a^2 / c^2), even between the first step from the source and the landing."""
    path, ts = bj.interpolants.bridge(VP), steps(9, VP)
    a, c = (np.asarray([f(1.0 - t) for t in ts[1:-1]], np.float64) for f in (path.a, path.c))
    np.testing.assert_allclose(2 * np.log(a / c), np.linspace(-6.0, 10.0, 9)[1:], atol=0.02)
