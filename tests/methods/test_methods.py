"""Methods with the exact answer in place of a trained network: what they sample is then known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax.data import toys
from bridgejax.data.columns import infer
from bridgejax.methods._setup import DataSpec
from bridgejax.methods.generative.diffusion import SCHEDULES
from bridgejax.runs import directory as runs
from bridgejax.runs.build import build
from bridgejax.runs.config import configure
from bridgejax.runs.registry import specs

WEIGHTS, MEANS, VAR = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), 0.04
N = 4000


def mixture_denoiser(params, schedule, t, x):
    """E[x0 | x_t = x] for the mixture above; the parameters take no part."""
    a, s2 = schedule.alpha(t), schedule.variance(0.0, t)
    total = a**2 * VAR + s2
    posterior = jax.nn.softmax(jnp.log(WEIGHTS) - 0.5 * (x[0] - a * MEANS) ** 2 / total)
    mean = jnp.sum(posterior * (MEANS + a * VAR / total * (x[0] - a * MEANS)))
    return mean[None] + 0.0 * params


def check_mixture(x):
    right = x[:, 0] > 0
    assert abs(right.mean() - 0.7) < 5 * np.sqrt(0.21 / len(x)) + 0.01
    for side, mean in ((~right, -1.0), (right, 0.8)):
        part = x[side, 0]
        assert abs(part.mean() - mean) < 5 * np.sqrt(VAR / len(part)) + 0.01
        assert abs(part.std() / np.sqrt(VAR) - 1) < 5 / np.sqrt(2 * len(part)) + 0.05


@pytest.mark.parametrize("sampler", ["ode", "sde"])
@pytest.mark.parametrize("name", ["cosine", "vp", "rectified", "ve"])
def test_diffusion_samples_the_data_when_its_network_is_exact(name, sampler):
    schedule = getattr(bj.schedules, name)()

    def apply(params, t, x, args):
        return mixture_denoiser(params, schedule, t, x)

    method = bj.methods.diffusion(
        schedule, (apply, jnp.zeros(())), shape=(1,), predict="x0", sampler=sampler, ts=bj.grids.log_snr(100, schedule)
    )
    state = method.init(jax.random.key(0), None)
    check_mixture(np.asarray(bj.sample(method.process(state), bj.keys(jax.random.key(1), N))))


@pytest.mark.fast
def test_edm_preconditions_and_samples_its_grid():
    """sigma_data = 1, data N(0, 1): D(sigma, x) = x / (1 + sigma^2) is c_skip x, so F = 0 is exact."""
    method = bj.methods.edm((lambda params, t, x, args: 0.0 * params * x, jnp.ones(())), shape=(2,), sigma_data=1.0)
    process = method.process(method.init(jax.random.key(0), None))
    x = np.asarray(bj.sample(process, bj.keys(jax.random.key(1), N)))
    assert process.ts.shape == (19,)
    assert abs(x.mean()) < 5 / np.sqrt(2 * N)
    assert abs(x.std() - 1) < 5 / np.sqrt(4 * N) + 0.02  # 18 steps of DPM-Solver++(2M) from sigma = 80


def test_encoding_undoes_the_probability_flow():
    schedule = bj.schedules.cosine()

    def apply(params, t, x, args):
        return mixture_denoiser(params, schedule, t, x)

    ts = bj.grids.log_snr(200, schedule)
    method = bj.methods.diffusion(schedule, (apply, jnp.zeros(())), shape=(1,), predict="x0", ts=ts)
    process = method.process(method.init(jax.random.key(0), None))
    keys = bj.keys(jax.random.key(2), 64)
    x = bj.sample(process, keys)
    noise = bj.sample(process, keys, x=x, direction="backward")
    again = bj.sample(process, keys, x=noise)
    # the first step of the encoder leaves clean data without knowing its noise: off by the level of that step
    level = float(schedule.sigma(schedule.T - ts[-2]))
    assert float(jnp.max(jnp.abs(again - x))) < 10 * level
    assert 0.5 < float(jnp.std(noise)) < 1.5


def test_guidance_moves_along_the_difference():
    """Conditional means +1 and -1, unconditional 0: at scale w the landing mean is w times the condition's."""
    schedule = bj.schedules.vp()

    def apply(params, t, x, args):
        mean = jnp.where(args == 2, 0.0, jnp.where(args == 1, 1.0, -1.0))
        a, s2 = schedule.alpha(t), schedule.variance(0.0, t)
        return mean + a * VAR / (a**2 * VAR + s2) * (x - a * mean) + 0.0 * params

    for scale in (1.0, 1.5):
        method = bj.methods.diffusion(
            schedule, (apply, jnp.zeros(())), shape=(1,), predict="x0", null=2, guidance_scale=scale
        )
        process = method.process(method.init(jax.random.key(0), None))
        labels = jnp.arange(2000) % 2
        x = np.asarray(bj.sample(process, bj.keys(jax.random.key(1), 2000), labels))[:, 0]
        for label, sign in ((0, -1.0), (1, 1.0)):
            part = x[np.asarray(labels) == label]
            assert abs(part.mean() - sign * scale) < 5 * part.std() / np.sqrt(len(part)) + 0.01


@pytest.mark.parametrize("sigma", [0.0, 0.7])
def test_bridge_matching_carries_one_gaussian_to_another(sigma):
    """Independent ends N(-1, 0.5), N(0.7, 0.3): the Markov projection is linear, and the law of x_T is the target."""
    path = bj.interpolants.brownian(sigma) if sigma else bj.interpolants.linear()

    def apply(params, t, x, args):
        mean = (1 - t) * -1 + t * 0.7
        variance = (1 - t) ** 2 * 0.5 + t**2 * 0.3 + sigma**2 * t * (1 - t)
        # E[x1 - x0 | x] for the line; E[x1 - x | x] / sqrt(1 - t) for the bridge
        end = 0.7 + t * 0.3 / variance * (x - mean)
        start = -1 + (1 - t) * 0.5 / variance * (x - mean)
        return ((end - x) / jnp.sqrt(1 - t) if sigma else end - start) + 0.0 * params

    source = np.float32(-1 + np.sqrt(0.5) * np.random.default_rng(0).standard_normal((20_000, 1)))
    method = bj.methods.bridge_matching(
        (apply, jnp.zeros(())), shape=(1,), sigma=sigma, source=source, ts=bj.grids.uniform(200)
    )
    process = method.process(method.init(jax.random.key(0), None))
    x = np.asarray(bj.sample(process, bj.keys(jax.random.key(1), 8000)))
    assert path.T == 1.0
    assert abs(x.mean() - 0.7) < 5 * np.sqrt(0.3 / 8000) + 5 * np.sqrt(0.5 / 20_000) + 0.01
    assert abs(x.var() / 0.3 - 1) < 5 * np.sqrt(2 / 8000) + 0.03


def test_transport_lands_on_the_predicted_end():
    path = bj.interpolants.brownian(0.5)
    sde = bj.transport(path, Partial(lambda end, t, x, args: end, jnp.array([2.0, -1.0])), "x1")
    x = bj.simulate(sde, jax.random.key(0), jnp.zeros(2), bj.grids.uniform(7))
    np.testing.assert_array_equal(x, [2.0, -1.0])
    with pytest.raises(ValueError, match="predict must be 'x1', 'residual' or 'drift'"):
        bj.transport(path, lambda t, x, args: x, "velocity")
    with pytest.raises(ValueError, match="two ends"):
        bj.transport(bj.interpolants.diffusion(bj.schedules.vp()), lambda t, x, args: x, "x0")


# recipes and runs ---------------------------------------------------------------------------------------------------

POINTS = DataSpec((2,), "points", 0, np.array([1.0, 2.0]), np.array([3.0, 4.0]))


@pytest.mark.parametrize(
    "name", sorted(n for n, s in specs().items() if s.data in ("one set", "one or two") and s.network)
)
def test_every_recipe_trains_saves_and_loads(name, tmp_path):
    config = configure(name, width=16, depth=1, batch_size=32)
    spec, x = POINTS, np.random.default_rng(0).standard_normal((64, 2), np.float32)
    if name == "constrained":
        encoding = infer(np.stack([x[:, 0], np.rint(x[:, 1])], axis=1))
        spec, x = DataSpec((2,), "points", 0, 0.0, 1.0, encoding=encoding), encoding.encode(np.rint(x))
    if name == "latent_sb":
        spec = dataclasses.replace(spec, source=x)
    method = build(config, spec, steps=3)
    data = bj.data.Pairs(x, x[::-1], 32, 0) if config.spec.two_ended else x
    runs.write_config(tmp_path, config, spec, 3)
    rounds = 2 if config.spec.in_rounds else None
    options = {"steps": 3, "batch_size": 32, "refresh_every": rounds, "directory": tmp_path}
    state = bj.fit(method, data, jax.random.key(0), **options)
    run = bj.load(tmp_path)
    assert run.config["method"]["name"] == name
    keys = bj.keys(jax.random.key(1), 5)
    expected = bj.sample(method.process(state), keys)
    np.testing.assert_array_equal(bj.sample(run.process, keys), expected)
    assert np.all(np.isfinite(expected))


def test_load_takes_a_method_of_the_callers_own(tmp_path):
    network = bj.networks.MLP((2,), width=8, depth=1, rngs=nnx.Rngs(0))
    method = bj.methods.bridge_matching(network, shape=(2,), ts=bj.grids.uniform(5))
    x = np.random.default_rng(0).standard_normal((64, 2), np.float32)
    bj.fit(method, bj.data.Pairs(x, x, 16), jax.random.key(0), steps=2, batch_size=16, directory=tmp_path)
    run = bj.load(tmp_path, method)
    assert bj.sample(run.process, bj.keys(jax.random.key(1), 3)).shape == (3, 2)
    with pytest.raises(FileNotFoundError, match=r"not a run directory: .* load\(.*, method\) reads them"):
        bj.load(tmp_path)


def test_settings_that_do_not_go_together():
    for settings, words in (
        ({"schedule": "cosin"}, "schedule must be 'cosine' or 'vp'"),
        ({"precision": "float16"}, "precision must be 'float32' or 'bfloat16'"),
        ({"sampler": "pde"}, "sampler must be 'ode' or 'sde'"),
        ({"width": 2.5}, "width must be a int or None"),
    ):
        with pytest.raises(ValueError, match=words):
            configure("diffusion", **settings)
    for settings, words in (
        ({"network": "unet"}, "takes images"),
        ({"guidance": 2.0}, "guidance needs data with labels"),
    ):
        with pytest.raises(ValueError, match=words):
            build(configure("diffusion", **settings), POINTS, steps=1)
    with pytest.raises(ValueError, match="sigma must be >= 0"):
        bj.methods.bridge_matching((lambda p, t, x, a: x, jnp.zeros(1)), shape=(1,), sigma=-1.0)


def test_a_damaged_run_directory_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json$"):
        bj.load(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not a run's configuration"):
        bj.load(tmp_path)
    config = configure("bridge_matching", width=8, depth=1)
    runs.write_config(tmp_path, config, POINTS, 1)
    with pytest.raises(FileNotFoundError):
        bj.load(tmp_path)
    text = (tmp_path / "config.json").read_text().replace('"sigma"', '"sigmma"')
    (tmp_path / "config.json").write_text(text.replace('"format": 2', '"format": 1'))
    with pytest.raises(ValueError, match="reads format 2: use the version that wrote it, or train again"):
        bj.load(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="no setting 'sigmma'; did you mean 'sigma'"):
        bj.load(tmp_path)


@pytest.mark.slow
def test_a_bridge_from_a_normal_finds_eight_gaussians():
    """The mean angle off the nearest of eight directions; uniform on a ring it would be pi / 16 = 0.196."""
    target = toys.sample("8gaussians", 2, 20_000)
    source = np.random.default_rng(1).standard_normal((20_000, 2)).astype(np.float32)
    steps = 1000
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(2e-3, steps, 0.05)))
    network = bj.networks.MLP((2,), width=64, depth=2, rngs=nnx.Rngs(0))
    method = bj.methods.bridge_matching(
        network, shape=(2,), sigma=1.0, source=source[:4000], optimizer=optimizer, ema=0.99
    )
    state = bj.fit(method, bj.data.Pairs(source, target, 256), jax.random.key(0), steps=steps)
    found = np.asarray(bj.sample(method.process(state), bj.keys(jax.random.key(1), 4000)))

    def off(x):
        return np.abs((np.arctan2(x[:, 1], x[:, 0]) + np.pi / 8) % (np.pi / 4) - np.pi / 8).mean()

    assert off(target) < 0.1
    assert off(found) < 0.14
    assert abs(np.linalg.norm(found, axis=1).std() / np.linalg.norm(target, axis=1).std() - 1) < 0.15


def test_the_start_of_a_diffusion_model_is_the_law_at_the_end_of_its_schedule():
    """N(0, (alpha(T)^2 s^2 + sigma(T)^2) I): 50^2 less 0.01^2 for ve, and 3^2 more for data of deviation 3."""
    method = bj.methods.diffusion(
        bj.schedules.ve(), (lambda p, t, x, args: p * x, jnp.zeros(())), shape=(1,), ts=[0.0, 1.0], sigma_data=3.0
    )
    start = method.process(method.init(jax.random.key(0), None)).start
    np.testing.assert_allclose(start.log_prob(jnp.zeros(1)), -0.5 * np.log(2 * np.pi * 2509.0), rtol=1e-6)


def gaussian_denoiser(params, schedule, spread, t, x, args):
    alpha, variance = schedule.alpha(t), schedule.variance(0.0, t)
    return alpha * spread**2 / (alpha**2 * spread**2 + variance) * x + 0.0 * params


@pytest.mark.parametrize("sampler", ["ode", "sde"])
@pytest.mark.parametrize(("schedule", "spread"), [(bj.schedules.brownian(), 1.0), (bj.schedules.ou(), 2.0)])
def test_a_schedule_that_keeps_signal_says_so_and_gives_gaussian_data_their_spread(schedule, spread, sampler):
    denoiser = lambda params, t, x, args: gaussian_denoiser(params, schedule, spread, t, x, args)  # noqa: E731
    with pytest.warns(UserWarning, match="keeps signal at T"):
        method = bj.methods.diffusion(
            schedule, (denoiser, jnp.zeros(())), shape=(2,), predict="x0", sampler=sampler, sigma_data=spread, ema=None
        )
    x = bj.sample(method.process(method.init(jax.random.key(0), None)), bj.keys(jax.random.key(1), N))
    assert abs(float(x.std()) / spread - 1) < 5 / np.sqrt(4 * N)


def test_edm_starts_at_the_law_of_its_largest_noise_level():
    with pytest.warns(UserWarning, match="keeps signal at T"):
        method = bj.methods.edm((lambda p, t, x, args: p * x, jnp.zeros(())), shape=(1,), sigma_data=1.5, sigma_max=2.0)
    start = method.process(method.init(jax.random.key(0), None)).start
    np.testing.assert_allclose(start.scale, 2.5, rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_by_name_end_in_noise(name):
    method = bj.methods.diffusion(SCHEDULES[name](), shape=(1,))  # a warning is an error here
    assert method.process(method.init(jax.random.key(0), None)).start.scale > 0.0
