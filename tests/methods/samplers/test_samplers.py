"""Learned samplers: exact controls, the gradient with held paths, and what is done with bad densities."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax.methods.samplers import _losses as sampling
from bridgejax.methods.samplers import _path_sampler as controlled
from bridgejax.methods.samplers import cmcd, underdamped
from bridgejax.processes._keys import streams

LOG_Z, MEAN = 0.7, jnp.array([1.0, -0.5])
KEYS = bj.keys(jax.random.key(0), 64)
VP = bj.schedules.vp(0.1, 10.0)


def log_rho(mean, x):
    """exp(LOG_Z) N(mean, I)."""
    return LOG_Z - jnp.sum(0.5 * (x - mean) ** 2 + 0.5 * math.log(2 * math.pi))


RHO = Partial(log_rho, MEAN)


def affine(params, t, x, args):
    return params["b"] + params["a"] * x


def constant(b):
    return affine, {"a": jnp.zeros(()), "b": b}


def start(method):
    return method.init(jax.random.key(0), None).params


def exact(params, t, x, args):
    """g grad log p_s for data N(m, 1/2)."""
    s = 1.0 - t
    return VP.diffusion(s) * (VP.alpha(s) * params["m"] - x) / (VP.alpha(s) ** 2 * 0.5 + VP.variance(0.0, s))


def half(x):
    return jnp.sum(-((x - 1.5) ** 2) - 0.5 * math.log(math.pi))


@pytest.mark.parametrize(("steps", "gap", "ess"), [(25, 0.016, 0.967), (100, 0.008, 0.983)])
def test_the_exact_control_of_a_gaussian_by_dis(steps, gap, ess):
    # the table of the reference notes, recomputed there with 200,000 paths
    net = (exact, {"m": jnp.array(1.5)})
    method = bj.methods.dis(half, net, dim=1, gradient=False, ts=bj.grids.uniform(steps))
    w = bj.log_weights(method.process(method.init(KEYS[0], None)), bj.keys(KEYS[1], 10_000), half)
    assert abs(float(bj.weights.log_z(w))) < 5 * float(bj.weights.log_z_error(w))
    assert float(bj.weights.elbo(w)) == pytest.approx(-gap, abs=5 * float(jnp.std(w)) / 100 + 1e-3)
    assert float(bj.weights.ess(w)) == pytest.approx(ess, abs=0.01)


def maker(loss, density=RHO, steps=8, net=None, **options):
    method = bj.methods.pis(density, constant(MEAN) if net is None else net, dim=2, loss=loss, gradient=False,
                            ts=bj.grids.uniform(steps), **options)  # fmt: skip
    return method, start(method)


def test_the_exact_shift_by_pis_has_no_variance_and_no_gradient():
    # a target N(m, sigma^2 T I) needs u = m / (sigma T) at every time: every path then has w = log Z, exactly
    for loss in ("log_variance", "kl"):
        method, params = maker(loss)
        state, metrics = jax.jit(method.step)(method.init(KEYS[0], None), KEYS[1], np.zeros((64, 0)))
        assert float(metrics["loss"]) == pytest.approx(0.0 if loss == "log_variance" else -LOG_Z, abs=1e-5)
        assert float(metrics["elbo"]) == pytest.approx(LOG_Z, abs=1e-5)
        assert float(metrics["ess"]) == pytest.approx(1.0, abs=1e-5)
        if loss == "log_variance":
            assert float(metrics["grad_norm"]) < 1e-4
        else:
            assert float(metrics["grad_norm"]) > 1e-2  # the noise of reverse KL does not vanish at its optimum


def naive(make, density, params, keys):
    """Log variance with the states held by stop_gradient, differentiated through the stored run."""
    fixed = make(jax.lax.stop_gradient(params))

    def one(key):
        begin, run, _ = streams(key, "process", 3)
        path = bj.kernels.walk(bj.kernels.euler(fixed.dynamics), run, fixed.start(begin), fixed.ts)
        process = make(params)
        ratio = bj.path_log_ratio(path, bj.kernels.euler(process.dynamics), process.backward.kernel)
        return density(path.xs[-1]) - fixed.start.log_prob(path.xs[0]) + ratio

    return jnp.var(jax.vmap(one)(keys), ddof=1)


def test_detached_paths_give_the_gradient_of_the_stored_run_and_the_weights_of_the_core():
    method, params = maker("log_variance", net=(affine, {"a": jnp.array(-0.3), "b": jnp.array([0.2, 0.4])}))
    make = Partial(functools.partial(as_process, method, method.init(KEYS[0], None)))
    value, grads = jax.jit(
        jax.value_and_grad(lambda p: sampling.path_loss(make, RHO, p, KEYS, loss="log_variance")[0])
    )(params)
    wanted, expected = jax.jit(jax.value_and_grad(lambda p: naive(make, RHO, p, KEYS)))(params)
    assert float(value) == pytest.approx(float(wanted), rel=1e-4)
    for one, other in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        assert np.allclose(one, other, rtol=1e-3, atol=1e-5)
    w = bj.log_weights(make(params), KEYS, RHO)
    assert float(jnp.var(w, ddof=1)) == pytest.approx(float(value), rel=1e-4)


def test_a_network_beside_a_guide_is_bounded_and_alone_is_not():
    def wild(params, t, x, args):
        return 1e3 * (params + x)

    for name in ("dis", "cmcd", "pis"):
        for gradient in (True, False) if name != "cmcd" else (True,):
            method = getattr(bj.methods, name)(
                RHO, (wild, jnp.ones(2)), dim=2, ts=bj.grids.uniform(20), gradient=gradient
            )
            sde, x = method.process(method.init(KEYS[0], None)).dynamics, jnp.ones(2)
            length = float(jnp.linalg.norm(sde.drift(0.5, x, None) / sde.diffusion(0.5, x, None)))
            assert (length < 20 * math.sqrt(2)) == gradient  # what is bounded, the guide and f x
            if gradient:
                assert length > 5 * math.sqrt(2)
    method = bj.methods.underdamped(RHO, (wild, jnp.ones(4)), dim=2, ts=bj.grids.uniform(20), step=0.2, friction=0.5)
    sde = method.process(method.init(KEYS[0], None)).dynamics
    pull, noise = sde.drift(0.5, (jnp.ones(2), jnp.zeros(2)), None)[1], sde.diffusion(0.5, (jnp.ones(2),) * 2, None)[1]
    # dt = 0.2 * 20 of time in one unit of the clock; the network alone would be 1e3
    assert 3.0 < float(jnp.linalg.norm(pull / noise) / math.sqrt(2 * 4)) * math.sqrt(4) < 20.0


def by_subtrajectory(method, density, params, keys, subtrajectories):
    """w and log F of the subtrajectories of every path, by hand: of cmcd, differentiated through the stored run."""
    make, levels = process_of(method), Partial(cmcd.level, density, 1.5, bj.grids.uniform(8))
    fixed = make(jax.lax.stop_gradient(params))
    process, ts = make(params), fixed.ts

    def one(key):
        begin, run, _ = streams(key, "process", 3)
        xs = bj.kernels.walk(bj.kernels.euler(fixed.dynamics), run, fixed.start(begin), ts).xs
        forward, back, gains, log_fs = bj.kernels.euler(process.dynamics), process.backward.kernel, [], []
        for k in range(8):
            t, u, x, y = ts[k], ts[k + 1], xs[k], xs[k + 1]
            log_fs.append(forward.log_prob(t, u, x, y, None))
            ratio = back.log_prob(1.0 - u, 1.0 - t, y, x, None) - log_fs[-1]
            gains.append(ratio + levels(params, u, y) - levels(params, t, x))
        return tuple(jnp.sum(jnp.stack(each).reshape(subtrajectories, -1), axis=1) for each in (gains, log_fs))

    return jax.vmap(one)(keys)


def variances(gains, log_fs):
    return jnp.sum(jnp.var(gains, axis=0, ddof=1))


def kl_by_densities(gains, log_fs):
    """-E w of every piece, whose gradient is E[(b - w) grad log F] - E[grad log B]."""
    n = len(gains)
    fixed = jax.lax.stop_gradient((jnp.mean(gains, axis=0) - gains) * n / (n - 1))
    surrogate = jnp.sum(jnp.mean(fixed * log_fs - (gains + log_fs), axis=0))
    return jax.lax.stop_gradient(-jnp.sum(jnp.mean(gains, axis=0)) - surrogate) + surrogate


def process_of(method):
    return Partial(functools.partial(as_process, method, method.init(KEYS[0], None)))


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "by_hand"), [("subtrajectory", variances), ("log_derivative", kl_by_densities)])
def test_the_loss_in_pieces_and_its_gradient(loss, by_hand):
    method = bj.methods.cmcd(RHO, (affine, NET), scale=1.5, dim=2, ts=bj.grids.uniform(8), loss=loss, subtrajectories=4)
    params = start(method)
    params = {**params, "anneal": 0.1 * jnp.cos(jnp.arange(8.0))}
    levels = Partial(cmcd.level, RHO, 1.5, bj.grids.uniform(8))
    options = {"loss": loss, "subtrajectories": 4, "levels": levels}
    value, grads = gradient(make=process_of(method), params=params, **options)
    wanted, expected = jax.jit(jax.value_and_grad(lambda p: by_hand(*by_subtrajectory(method, RHO, p, KEYS, 4))))(
        params
    )
    assert float(value) == pytest.approx(float(wanted), rel=1e-4)
    for name in ("network", "anneal", "noise"):
        for one, other in zip(jax.tree.leaves(grads[name]), jax.tree.leaves(expected[name]), strict=True):
            assert np.allclose(one, other, rtol=1e-2, atol=1e-3 * float(jnp.max(jnp.abs(other))))
    if loss == "subtrajectory":
        # one piece is the whole path: the ends of the geometric path differ from p_0 and rho by constants only
        whole, _ = gradient(make=process_of(method), params=params, **{**options, "subtrajectories": 1})
        plain, _ = gradient("log_variance", process_of(method), params)
        assert float(whole) == pytest.approx(float(plain), rel=1e-4)


@pytest.mark.slow
def test_underdamped_weights_have_the_gradient_of_the_path():
    # E over many paths: the gradient of reverse KL through the path, and by the densities of what was drawn
    found = {}
    for loss in ("kl", "log_derivative"):
        method = bj.methods.underdamped(
            half, (affine, {"a": jnp.array(-0.1), "b": jnp.array([0.3, -0.2])}), dim=1, ts=bj.grids.uniform(4),
            step=0.5, loss=loss, optimizer=optax.sgd(1.0),
        )  # fmt: skip
        state = method.init(KEYS[0], None)
        step = jax.jit(lambda key, method=method, state=state: method.step(state, key, np.zeros((2048, 0)))[0].params)
        moved = [jax.tree.map(jnp.subtract, state.params, step(key)) for key in KEYS[:24]]
        found[loss] = [np.stack([np.ravel(m[name]) for m in moved]) for name in ("clock", "anneal", "friction")]
        found[loss].append(np.stack([m["network"]["b"] for m in moved]))
    for one, other in zip(found["kl"], found["log_derivative"], strict=True):
        error = np.sqrt((one.var(0, ddof=1) + other.var(0, ddof=1)) / 24)
        assert np.all(np.abs(one.mean(0) - other.mean(0)) < 5 * error + 1e-4)
        assert np.any(np.abs(one.mean(0)) > 10 * error)


def one_sided(x):
    return jnp.where(x[0] > 0.5, -((x[0] - 1.0) ** 2), -jnp.inf)


@pytest.mark.parametrize("loss", ["log_variance", "subtrajectory"])
def test_a_density_that_vanishes_leaves_the_parameters_finite(loss):
    net = constant(jnp.full(1, 0.2))
    method = bj.methods.cmcd(one_sided, net, scale=1.5, dim=1, ts=bj.grids.uniform(8), loss=loss)
    state, metrics = jax.jit(method.step)(method.init(KEYS[0], None), KEYS[1], np.zeros((512, 0)))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(state.params))
    assert 0.2 < float(metrics["excluded"]) < 0.8
    truth = 0.5 * math.log(math.pi) + math.log(scipy.stats.norm.cdf(0.5 * math.sqrt(2)))  # half of e^-(x-1)^2 and more
    assert float(metrics["log_z"]) == pytest.approx(truth, abs=0.6)  # 512 paths before training
    if loss == "subtrajectory":
        assert bool(jnp.any(state.params["anneal"] != 0))


def gradient(loss, make, params, **options):
    objective = functools.partial(sampling.path_loss, loss=loss, **options)
    return jax.jit(jax.value_and_grad(lambda p: objective(make, RHO, p, KEYS)[0]))(params)


def test_the_log_derivative_of_reverse_kl_is_half_the_gradient_of_log_variance():
    # B is fixed and the mean of the other paths is the baseline: then the two agree exactly, not on average only
    method, params = maker("log_variance", net=(affine, {"a": jnp.array(-0.3), "b": jnp.array([0.2, 0.4])}))
    make = Partial(functools.partial(as_process, method, method.init(KEYS[0], None)))
    value, grads = gradient("log_derivative", make, params)
    _, twice = gradient("log_variance", make, params)
    w = bj.log_weights(make(params), KEYS, RHO)
    assert float(value) == pytest.approx(-float(jnp.mean(w)), abs=1e-4)
    for one, other in zip(jax.tree.leaves(grads), jax.tree.leaves(twice), strict=True):
        assert np.allclose(2.0 * one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_exact_control_is_optimal_with_scaled_noise_too():
    method, params = maker("log_variance")
    make = Partial(functools.partial(as_process, method, method.init(KEYS[0], None)))
    value, grads = gradient("log_variance", make, params, exploration_scale=2.0)
    assert float(value) < 1e-8
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(grads)) < 1e-4
    wrong = {**params, "network": {**params["network"], "b": MEAN + 0.5}}
    noise_scale, quiet = (float(gradient("log_variance", make, wrong, exploration_scale=e)[0]) for e in (2.0, 1.0))
    assert noise_scale > 1.5 * quiet  # half of the paths have four times the variance


NET = {"a": jnp.array(-0.1), "b": jnp.array([0.2, 0.1])}
PAIR = {"a": jnp.array(-0.1), "b": jnp.array([0.2, 0.1, -0.1, 0.0])}
MAKERS = {
    "dis": lambda **options: bj.methods.dis(RHO, (affine, NET), **options),
    "dds": lambda **options: bj.methods.dds(RHO, (affine, NET), **options),
    "gbs": lambda **options: bj.methods.gbs(RHO, (affine, NET), (affine, {**NET, "a": jnp.array(0.1)}), **options),
    "cmcd": lambda **options: bj.methods.cmcd(RHO, (affine, NET), sigma=1.5, **options),
    "underdamped": lambda **options: bj.methods.underdamped(RHO, (affine, PAIR), scale=1.5, step=0.3, **options),
}


@pytest.mark.parametrize(
    "name", ["dis", "cmcd", *(pytest.param(n, marks=pytest.mark.slow) for n in ("dds", "gbs", "underdamped"))]
)
def test_weights_average_to_the_constant_whatever_was_learnt(name):
    method = MAKERS[name](dim=2, ts=bj.grids.uniform(20))
    state = method.init(KEYS[0], None)
    changed, size = ("clock", 20) if name == "underdamped" else ("noise", 21)
    shaken = {**state.params, changed: state.params[changed] + 0.05 * jnp.cos(jnp.arange(float(size)))}
    if name in ("dis", "gbs"):
        shaken["gate"] = jnp.ones(21)  # near the exact control of this target
    process = method.process(state._replace(params=shaken))
    target = bj.targets.target(RHO, 2, LOG_Z, Partial(normal_draw, MEAN))
    target = bj.targets.with_velocity(target) if process.dynamics.kernel is not None else target
    ends, w = bj.weighted_samples(process, bj.keys(KEYS[0], 4096), target)
    assert float(bj.weights.ess(w)) > 0.1
    assert abs(float(bj.weights.log_z(w)) - LOG_Z) < 5 * float(bj.weights.log_z_error(w))
    # and along the way back, from exact samples: E[exp(-w)] = 1/Z
    x = jax.vmap(target.sample)(bj.keys(jax.random.key(5), 4096))
    back = bj.log_weights(process, bj.keys(KEYS[1], 4096), target, terminal_states=x)
    assert abs(float(bj.weights.log_z(-back)) + LOG_Z) < 5 * float(bj.weights.log_z_error(-back))
    assert float(bj.weights.eubo(back)) > LOG_Z > float(bj.weights.elbo(w))
    if (
        process.dynamics.kernel is not None
    ):  # what is sampled is what is weighed, and other solvers of its SDE follow it
        samples = bj.sample(process, bj.keys(KEYS[0], 4096))
        assert np.array_equal(samples, ends[0])
        fine, ts = bj.keys(KEYS[2], 4096), bj.grids.uniform(400)
        chain, euler = (bj.sample(process, fine, ts=ts, solver=s) for s in (None, bj.solvers.Euler()))
        error = float(jnp.std(euler)) * math.sqrt(2 / 4096)
        assert np.allclose(jnp.mean(euler, axis=0), jnp.mean(chain, axis=0), atol=5 * error + 0.02)
        assert np.allclose(jnp.std(euler, axis=0), jnp.std(chain, axis=0), atol=5 * error + 0.05)
        for match, call in (
            ("x must hold states of this process", lambda: bj.sample(process, KEYS, x=jnp.zeros((64, 2)))),
            ("targets.with_velocity", lambda: bj.log_weights(process, KEYS, RHO)),
        ):
            with pytest.raises(ValueError, match=match):
                call()


@pytest.mark.slow
def test_adjoint_sampling_has_no_loss_at_the_exact_shift_and_finds_it():
    # a target N(m, nu I): grad g is -m / nu everywhere, so the regression target is one number
    method = bj.methods.adjoint_sampling(
        RHO, constant(jnp.zeros(2)), dim=2, ts=bj.grids.uniform(400), cache=64, optimizer=optax.adam(0.1)
    )
    state = method.init(KEYS[0], None)
    zero = np.zeros((32, 0), np.float32)
    step = jax.jit(method.step)
    _, metrics = step(state, KEYS[1], zero)
    assert float(metrics["loss"]) == pytest.approx(float(jnp.mean(MEAN**2)), rel=2e-3)
    for _ in range(2):
        for k in range(40):
            state, metrics = step(state, KEYS[k], zero)
        state = method.refresh(state, KEYS[1], None)
    assert np.allclose(state.inner.params["network"]["b"], MEAN, atol=0.02)
    assert float(metrics["loss"]) < 1e-3


def normal_draw(mean, key):
    return mean + jax.random.normal(key, mean.shape)


def as_process(method, state, params):
    return method.process(state._replace(params=params))


def temporary(steps):
    method, params = maker("log_variance", steps=steps)
    batch = np.zeros((512, 0), np.float32)
    compiled = jax.jit(method.step).lower(method.init(KEYS[0], None), KEYS[1], batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_the_memory_of_log_variance_does_not_grow_with_the_number_of_steps():
    few, many = temporary(10), temporary(1000)
    assert many < few + 512 * 2 * 4 * 10  # stored states would take 990 times 4 kB


@pytest.mark.slow
@pytest.mark.parametrize("loss", [loss for loss in sampling.LOSSES if loss != "subtrajectory"])
def test_a_tiny_run_learns_the_shift_of_a_gaussian(loss):
    method, _ = maker(loss, net=constant(jnp.zeros(2)), optimizer=optax.adam(0.05))
    state = bj.fit(method, bj.data.NoData(64), jax.random.key(2), steps=150)
    assert np.allclose(state.params["network"]["b"], MEAN, atol=0.15)
    if loss == "trajectory_balance":
        assert float(state.params["log_z"]) == pytest.approx(LOG_Z, abs=0.15)
    if loss == "kl":
        process = method.process(state)
        w = bj.log_weights(process, KEYS, RHO)
        assert abs(float(bj.weights.log_z(w)) - LOG_Z) < 5 * float(bj.weights.log_z_error(w)) + 1e-3
        assert bj.sample(process, KEYS).shape == (64, 2)


def torn(mean, x):
    """Not a number where x_0 < 0."""
    return jnp.where(x[0] < 0, jnp.nan, log_rho(mean, x)) + 0.0 * jnp.sqrt(x[0])


def test_paths_with_a_bad_density_are_counted_and_left_out():
    method, params = maker("kl", density=Partial(torn, MEAN))
    state, metrics = jax.jit(method.step)(method.init(KEYS[0], None), KEYS[1], np.zeros((64, 0)))
    assert 0.02 < float(metrics["excluded"]) < 0.4  # P(N(1, 1) < 0) = 0.16
    assert float(metrics["loss"]) == pytest.approx(-LOG_Z, abs=1e-4)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(state.params))


def flat(x):
    return jnp.floor(jnp.sum(x))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"loss": "reverse"}, "loss must be one of"),
        ({"log_density": 3}, "log_density must be a function"),
        ({"log_density": lambda x: x}, "log_density must return one real number"),
        ({"log_density": flat, "loss": "kl"}, r"not differentiable .* use loss='log_variance' with gradient=False"),
        ({"log_density": bj.targets.gmm9()}, "the target has dim = 2"),
        ({"dim": None}, "dim must be an integer"),
        ({"network": (affine, {"a": 0.0, "b": jnp.zeros(2)})}, "network must return an array of shape"),
        ({"ts": [0.0, 0.5]}, "ts must run from 0 to T"),
    ],
)
def test_bad_input_costs_one_sentence(change, match):
    right = {"log_density": half, "network": constant(jnp.zeros(1)), "dim": 1, "gradient": False, **change}
    for make in (bj.methods.pis, bj.methods.dis, bj.methods.dds):
        with pytest.raises(ValueError, match=match):
            make(right["log_density"], right["network"], **{k: v for k, v in right.items() if k not in
                                                            ("log_density", "network")})  # fmt: skip


def test_the_options_of_one_sampler_only_cost_one_sentence():
    net, short = constant(jnp.zeros(1)), (lambda params, t, x, args: params * x[:1], jnp.ones(()))
    for call, match in (
        (lambda: bj.methods.dis(half, net, dim=1, loss="subtrajectory"), "needs intermediate densities"),
        (
            lambda: bj.methods.pis(half, net, dim=1, loss="log_derivative", subtrajectories=4),
            "needs intermediate densities",
        ),
        (
            lambda: bj.methods.cmcd(half, net, dim=1, loss="log_derivative", subtrajectories=4, annealing_steps=8),
            "annealing_steps is not for",
        ),
        (
            lambda: bj.methods.cmcd(half, net, dim=1, loss="subtrajectory", subtrajectories=101),
            "subtrajectories must be at most",
        ),
        (
            lambda: bj.methods.cmcd(half, net, dim=1, subtrajectories=4),
            r"subtrajectories are for a loss in \('subtrajectory', 'log_derivative'\)",
        ),
        (lambda: bj.methods.dis(half, net, dim=1, exploration_scale=0.5), "exploration_scale must be at least 1"),
        (
            lambda: bj.methods.dis(half, net, dim=1, exploration_scale=2.0, loss="kl"),
            "exploration_scale needs a loss that may learn",
        ),
        (lambda: bj.methods.cmcd(half, net, dim=1, gradient=False), "cmcd follows grad log rho"),
        (lambda: bj.methods.underdamped(half, short, dim=1), r"network must return an array of shape \(2,\)"),
        (
            lambda: bj.methods.underdamped(half, constant(jnp.zeros(2)), dim=1, exploration_scale=2.0),
            "exploration_scale must be 1",
        ),
        (lambda: bj.methods.underdamped(half, constant(jnp.zeros(2)), dim=1, step=-1.0), "step must be positive"),
        (lambda: bj.targets.with_velocity(half), "dim must be an integer"),
        (lambda: bj.methods.gbs(half, net, constant(jnp.zeros(2)), dim=1), "network must return an array of shape"),
        (lambda: bj.methods.pis(half, net, dim=1, width=3), "width is no option of a learned sampler"),
        (lambda: bj.methods.adjoint_sampling(half, net, dim=1, cache=1), "cache must be"),
        (lambda: bj.methods.pis(half, net, dim=1, sigma=-1.0), "sigma must be positive"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_levels_run_from_the_start_to_the_target():
    """log pi at both ends and half-way, less its value at 0: p_0 = N(0, scale^2), velocities N(0, I) throughout."""
    scale, x, v = 1.5, jnp.array([0.7, -0.4]), jnp.array([0.3, 1.1])
    ts, params = bj.grids.uniform(8), {"anneal": jnp.zeros(8)}
    for t in (0.0, 0.5, 1.0):
        prior = scipy.stats.norm.logpdf(x, scale=scale).sum() - scipy.stats.norm.logpdf(np.zeros(2), scale=scale).sum()
        want = (1 - t) * prior + t * float(RHO(x) - RHO(0 * x))
        found = [cmcd.level(RHO, scale, ts, params, t, y) for y in (x, 0 * x)]
        assert float(found[0] - found[1]) == pytest.approx(want, abs=1e-5)
        found = [underdamped._level(RHO, scale, ts, params, t, z) for z in ((x, v), (0 * x, 0 * v))]
        want += scipy.stats.norm.logpdf(v).sum() - scipy.stats.norm.logpdf(np.zeros(2)).sum()
        assert float(found[0] - found[1]) == pytest.approx(want, abs=1e-5)


def flat_density(x):
    """N(0.3, 2^2 I): its scores are so small that nothing is shortened."""
    return -jnp.sum((x - 0.3) ** 2) / 8.0


@pytest.mark.parametrize("name", ["pis", "dis", "dds"])
def test_guides_are_the_scores_they_say(name):
    """A gate of 1 and a network of 0: the drift is the reference's and g times the guide, of closed-form scores."""
    make, t, x, rest = getattr(bj.methods, name), 0.6, jnp.array([0.7, -0.4]), 0.4
    options = {"sigma": 1.3} if name == "pis" else {"scale": 1.3, "schedule": VP}
    method = make(flat_density, constant(jnp.zeros(2)), dim=2, ts=bj.grids.uniform(20), **options)
    state = method.init(KEYS[0], None)
    sde = method.process(state._replace(params={**state.params, "gate": jnp.ones(21)})).dynamics
    beta = 0.1 + 9.9 * rest
    variance = 1.3**2 * (rest if name == "pis" else 1 - math.exp(-(0.1 * rest + 9.9 * rest**2 / 2)))
    rho = np.asarray(-(x - 0.3) / 4.0)
    rho = rho / math.sqrt(1 + variance * np.sum(rho**2) / 18)  # the shortening, here by less than a hundredth
    prior = -np.asarray(x) / 1.3**2
    noise = 1.3 * (1.0 if name == "pis" else math.sqrt(beta))
    guide = {"pis": rho, "dis": 0.4 * prior + 0.6 * rho, "dds": rho - prior}[name]
    linear = {"pis": 0.0, "dis": 0.5 * beta, "dds": -0.5 * beta}[name]
    np.testing.assert_allclose(sde.diffusion(t, x, None), noise, rtol=1e-5)
    np.testing.assert_allclose(sde.drift(t, x, None), linear * x + noise**2 * guide, rtol=1e-4)


def test_both_networks_of_gbs_are_told_one_clock():
    """Where the network back is t x on the forward clock, the drift back at s is f x + g (T - s) x."""

    def told(params, t, x, args):
        return params * t * x

    method = bj.methods.gbs(RHO, constant(jnp.zeros(2)), (told, jnp.ones(())), dim=2, schedule=VP)
    back, s, x = method.process(method.init(KEYS[0], None)).backward, 0.2, jnp.array([0.7, -0.4])
    beta = 0.1 + 9.9 * s
    np.testing.assert_allclose(back.drift(s, x, None), (-0.5 * beta + math.sqrt(beta) * 0.8) * x, rtol=1e-5)


def test_the_target_of_adjoint_sampling_on_another_clock():
    """rho = N(m, nu I) with nu = sigma^2 T: the regression target is m / (sigma T), whatever the end."""
    sigma, T = 0.5, 2.0

    def log_density(x):
        return -0.5 * jnp.sum((x - MEAN) ** 2) / (sigma**2 * T)

    net = constant(MEAN / (sigma * T))
    method = bj.methods.adjoint_sampling(
        log_density, net, dim=2, sigma=sigma, T=T, ts=bj.grids.uniform(4000, T), cache=16
    )
    metrics = jax.jit(method.step)(method.init(KEYS[0], None), KEYS[1], np.zeros((64, 0), np.float32))[1]
    assert float(metrics["loss"]) < 1e-4


def test_the_bridge_of_adjoint_sampling_on_another_clock():
    """Ends and gradients at 0: a network that says x has the loss E x_t^2 = sigma^2 T / 6 over the clock."""
    sigma, T = 0.5, 2.0
    method = bj.methods.adjoint_sampling(
        flat_density, (lambda params, t, x, args: params * x, jnp.ones(())), dim=2, sigma=sigma, T=T, cache=16
    )
    state = method.init(KEYS[0], None)
    state = state._replace(terminal_states=0.0 * state.terminal_states, gradients=0.0 * state.gradients)
    loss = jax.jit(method.step)(state, KEYS[1], np.zeros((8192, 0), np.float32))[1]["loss"]
    assert abs(float(loss) - sigma**2 * T / 6) < 5 * sigma**2 * T * math.sqrt(
        2 / 30 / 8192
    )  # E (t (T - t) / T^2)^2 = 1/30


def test_a_control_is_no_longer_than_ten_deviations():
    for T, length in ((1.0, 10.0), (4.0, 5.0)):
        long = controlled.clip_norm(1e4 * jnp.array([3.0, -4.0]), T)
        np.testing.assert_allclose(np.linalg.norm(long), length * math.sqrt(2), rtol=1e-5)
        np.testing.assert_allclose(controlled.clip_norm(jnp.array([3.0, -4.0]), T), [3.0, -4.0], rtol=1e-6)


def test_the_noise_of_the_sde_of_underdamped():
    """sqrt(2 g) per root of the time that passes, h a step: 20 of them on the clock [0, 1]."""
    method = bj.methods.underdamped(RHO, constant(jnp.zeros(4)), dim=2, ts=bj.grids.uniform(20), step=0.2, friction=0.5)
    noise = method.process(method.init(KEYS[0], None)).dynamics.diffusion(0.5, (jnp.ones(2),) * 2, None)
    np.testing.assert_array_equal(noise[0], 0.0)
    np.testing.assert_allclose(noise[1], math.sqrt(2 * 0.5 * 0.2 * 20), rtol=1e-4)


def test_the_drifts_of_cmcd_both_ways():
    """sigma^2 grad log pi / 2 +- sigma u, of a flat pi whose score is hardly shortened."""
    u, scale, sigma, t, x = jnp.array([0.3, -0.2]), 3.0, 1.3, 0.4, jnp.array([0.7, -0.4])
    method = bj.methods.cmcd(flat_density, constant(u), dim=2, scale=scale, sigma=sigma, ts=bj.grids.uniform(10))
    process = method.process(method.init(KEYS[0], None))
    score = -0.6 * np.asarray(x) / scale**2 - 0.4 * np.asarray(x - 0.3) / 4.0
    score = score / math.sqrt(1 + sigma**2 / 10 * np.sum(score**2) / 18)
    np.testing.assert_allclose(process.dynamics.drift(t, x, None), 0.5 * sigma**2 * score + sigma * u, rtol=1e-4)
    np.testing.assert_allclose(process.backward.drift(1 - t, x, None), 0.5 * sigma**2 * score - sigma * u, rtol=1e-4)


def test_the_defaults_and_the_drifts_of_underdamped():
    """g = 2 / scale, h = scale / 10; rate (v, grad log pi - g v + sqrt(2 g) u), and back with -v and -grad log pi."""
    scale, t, x, v = 1.5, 0.5, jnp.array([0.7, -0.4]), jnp.array([0.3, 1.1])
    control = jnp.array([0.3, -0.2, 0.1, 0.4])  # forward and back
    method = bj.methods.underdamped(flat_density, constant(control), dim=2, scale=scale, ts=bj.grids.uniform(20))
    process = method.process(method.init(KEYS[0], None))
    start = scipy.stats.norm.logpdf(x, scale=scale).sum() + scipy.stats.norm.logpdf(v).sum()
    assert float(process.start.log_prob((x, v))) == pytest.approx(start, rel=1e-5)
    friction, rate = 2 / scale, scale / 10 * 20
    score = -0.5 * np.asarray(x) / scale**2 - 0.5 * np.asarray(x - 0.3) / 4.0
    score = score / math.sqrt(1 + (scale / 10) ** 2 * np.sum(score**2) / 18)
    for sde, sign, u in ((process.dynamics, 1, control[:2]), (process.backward, -1, control[2:])):
        dx, dv = sde.drift(t, (x, v), None)
        np.testing.assert_allclose(dx, sign * rate * v, rtol=1e-4)
        np.testing.assert_allclose(dv, rate * (sign * score - friction * v + math.sqrt(2 * friction) * u), rtol=1e-4)


def test_a_path_far_out_counts_as_one_ten_deviations_from_the_median():
    """w - mean, cut at 10 medians of the distance to the median."""
    w = np.array([0.0, 1.0, 2.0, 3.0, 500.0], np.float32)
    near = np.array([0.0, 1.0, 2.0, 3.0, 12.0])  # median 2, median distance 1
    found = sampling._leverage(jnp.asarray(w), jnp.ones(5, bool))
    np.testing.assert_allclose(found, near - near.mean(), rtol=1e-5)


def wide(x):
    """exp(LOG_Z) N(MEAN, 1.7^2 2 I)."""
    return LOG_Z + jnp.sum(-0.5 * (x - MEAN) ** 2 / (1.7**2 * 2.0) - 0.5 * math.log(2 * math.pi * 1.7**2 * 2.0))


def test_the_exact_shift_by_pis_with_another_noise_and_clock():
    """N(m, sigma^2 T I) with u = m / (sigma T): every path weighs Z."""
    net = constant(MEAN / (1.7 * 2.0))
    method = bj.methods.pis(wide, net, dim=2, sigma=1.7, T=2.0, gradient=False, ts=bj.grids.uniform(8, 2.0))
    w = bj.log_weights(method.process(method.init(KEYS[0], None)), KEYS, wide)
    np.testing.assert_allclose(w, LOG_Z, atol=1e-4)
