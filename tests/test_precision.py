"""One rule of precision, held over every solver, schedule, domain, sampler and method.

The state keeps the dtype it starts with; times are as precise as it and float32 at least; what nothing gives a dtype
has JAX's default. Three modes: as JAX is by default, and under ``jax_enable_x64`` from float32 and from float64. Most
checks only trace (``jax.eval_shape``): a loop whose carry changes its dtype is refused while tracing.
"""

import contextlib
import functools
import os
import pathlib
import re
import subprocess
import sys

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
import scipy.linalg
from jax.tree_util import Partial

import bridgejax as bj

MODES = {"float32": (False, np.float32), "x64, float32": (True, np.float32), "x64, float64": (True, np.float64)}
EVERY = pytest.mark.parametrize("mode", MODES)


@contextlib.contextmanager
def precision(mode):
    wide, dtype = MODES[mode]
    with jax.enable_x64(wide):
        yield np.dtype(dtype)


def dtypes(tree):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)}


def traced(f, num=None):
    """Structs of ``f(key)``, or of ``f(keys)``."""
    return jax.eval_shape(lambda: f(jax.random.key(0) if num is None else bj.keys(jax.random.key(0), num)))


def mixture(dtype):
    return bj.mixtures.gaussian_mixture(np.array([[-1.0, 0.3], [1.5, -0.5]], dtype), np.array(0.3, dtype))


# solvers and schedules ------------------------------------------------------------------------------------------------

SCHEDULES = ("vp", "sub_vp", "cosine", "ve", "brownian", "ou", "rectified", "karras")
OURS = {
    "flow": ("Euler", "Heun", "ExponentialEuler", "DPMSolverPP2M", "DPMSolverPP3M", "UniPC"),
    "reverse": ("Euler", "ExponentialEuler", "DPMSolverPP2M", "PredictorCorrector"),
}


@EVERY
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_solver_on_every_schedule(mode, name):
    with precision(mode) as dtype:
        schedule = getattr(bj.schedules, name)()
        denoiser = bj.mixtures.mixture_denoiser(mixture(dtype), schedule)
        sdes = {
            "flow": bj.probability_flow(schedule, denoiser=denoiser),
            "reverse": bj.reverse(schedule, denoiser=denoiser),
            "score": bj.reverse(schedule, bj.mixtures.mixture_score(mixture(dtype), schedule)),
        }
        grid = bj.grids.uniform(4, schedule.T)
        for kind, sde in sdes.items():
            for solver in OURS.get(kind, ("ExponentialEuler",)):
                if solver == "Euler" and kind == "reverse" and schedule.zero_terminal_snr:
                    continue
                for ts in (grid, grid.astype(jnp.float32)):
                    run = functools.partial(bj.simulate_path, solver=getattr(bj.solvers, solver)())
                    path = traced(lambda key: run(sde, key, jnp.zeros(2, dtype), ts))  # noqa: B023
                    assert dtypes((path.xs, path.noise)) == {str(dtype)}, (kind, solver)
                    assert path.ts.dtype == jnp.promote_types(dtype, ts.dtype)
        noised = traced(lambda key: bj.simulate(bj.noising(schedule), key, jnp.zeros(2, dtype), [0.0, schedule.T]))
        pinned = traced(lambda key: bj.simulate(bj.pin(schedule, np.ones(2)), key, jnp.zeros(2, dtype), grid))
        assert noised.dtype == pinned.dtype == dtype


def pull(t, x, args):
    return jax.tree.map(lambda leaf: -leaf * (1.0 + t), x)


def still(t, x, args):
    return 0.3


PID = dfx.PIDController(rtol=1e-3, atol=1e-3)
IMPLICIT = dfx.Kvaerno3(root_finder=optx.Chord(rtol=1e-3, atol=1e-3))
THEIRS = {
    "ode": (bj.SDE(pull), [dfx.Tsit5(), dfx.LeapfrogMidpoint(), dfx.ReversibleHeun(), IMPLICIT]),
    "sde": (bj.SDE(pull, still), [dfx.ShARK(), dfx.SEA(), dfx.ItoMilstein(), dfx.SPaRK()]),
}
CONTROLLED = {"ode": (None, dfx.Tsit5()), "sde": (dfx.ShARK(), dfx.HalfSolver(dfx.ItoMilstein()))}


@EVERY
@pytest.mark.parametrize("kind", THEIRS)
def test_diffrax_solvers_and_adaptive_steps(mode, kind):
    sde, solvers = THEIRS[kind]
    with precision(mode) as dtype:
        runs = [dict(solver=solver) for solver in solvers]
        runs += [dict(solver=solver, controller=PID) for solver in CONTROLLED[kind]]
        for options in runs:
            for ts in ([0.0, 0.5, 1.0], jnp.array([0.0, 0.5, 1.0], jnp.float32)):
                x0 = jnp.zeros(2, dtype)
                out = traced(lambda key: bj.simulate_path(sde, key, x0, ts, **options))  # noqa: B023
                assert dtypes(out.xs) == {str(dtype)}, options


@EVERY
def test_wider_functions_do_not_widen_the_state(mode):
    """What a drift, a denoiser or a score makes of constants of its own is cast back at each step."""
    with precision(mode) as dtype:
        wide = Partial(lambda c, t, x, args: c * x, jnp.ones(2, float))
        vp, x = bj.schedules.vp(), jnp.zeros(2, dtype)
        for sde in (bj.SDE(wide, still), bj.probability_flow(vp, denoiser=wide), bj.reverse(vp, wide)):
            for small in (x, x.astype(jnp.bfloat16)):
                assert traced(lambda key: bj.simulate(sde, key, small, [0.0, 0.4, 1.0])).dtype == small.dtype  # noqa: B023
        adaptive = traced(lambda key: bj.simulate(bj.SDE(wide), key, x, [0.0, 1.0], controller=PID))
        assert adaptive.dtype == dtype


# bends ----------------------------------------------------------------------------------------------------------------

DOMAINS = {
    "Reals": lambda dtype: bj.domains.Reals(),
    "Box": lambda dtype: bj.domains.Box(np.array([-1.0, 0.0, 0.0], dtype), 1.0),
    "HalfLine": lambda dtype: bj.domains.HalfLine(0.3),
    "IntegerGrid": lambda dtype: bj.domains.IntegerGrid(0, 4),
    "Categorical": lambda dtype: bj.domains.Categorical(3),
    "FinitePoints": lambda dtype: bj.domains.FinitePoints(np.eye(3, dtype=dtype)),
    "Simplex": lambda dtype: bj.domains.Simplex(3),
    "Sphere": lambda dtype: bj.domains.Sphere(),
    "Product": lambda dtype: bj.domains.Product([bj.domains.HalfLine(0.0), bj.domains.Categorical(2)], [1, 2]),
}


@EVERY
@pytest.mark.parametrize("name", DOMAINS)
def test_every_domain(mode, name):
    with precision(mode) as dtype:
        domain, x, key = DOMAINS[name](dtype), jnp.full(3, 0.3, dtype), jax.random.key(0)
        for variance in (jnp.asarray(0.5, dtype), jnp.asarray(0.5)):
            found = jax.eval_shape(lambda x, v: (domain.expectation(x, v), domain.sample(key, x, v)), x, variance)  # noqa: B023
            assert dtypes((found, jax.eval_shape(domain.snap, x))) == {str(dtype)}
        sde = bj.constrain(bj.schedules.brownian(), domain)
        for ts in ([0.0, 0.5, 1.0], jnp.array([0.0, 0.5, 1.0], jnp.float32)):
            assert traced(lambda key: bj.simulate(sde, key, x, ts)).dtype == dtype  # noqa: B023


@EVERY
def test_every_bend(mode):
    with precision(mode) as dtype:
        vp, ou = bj.schedules.vp(), bj.schedules.ou()
        sde, back = bj.noising(ou), bj.reverse(vp, denoiser=bj.mixtures.mixture_denoiser(mixture(dtype), vp))
        x, mask = jnp.full(2, 0.3, dtype), np.array([True, False])
        linear = bj.linear.LinearSDE(-np.eye(2, dtype=dtype), np.zeros(2, dtype), np.eye(2, dtype=dtype))
        moving = bj.linear.LinearSDE(lambda t: -jnp.eye(2) * t, np.zeros(2, dtype), np.eye(2, dtype=dtype))
        seen = [bj.Observation(0.5, np.ones(1), np.ones((1, 2)), 0.1), bj.Observation(1.0, np.ones(2))]
        bent = {
            "control": bj.control(sde, pull),
            "doob": bj.doob(sde, pull),
            "clamp": bj.clamp(sde, mask, np.ones(2)),
            "inpaint": bj.guidance.inpaint(back, mask, np.ones(2)),
            "hold": bj.guidance.hold(back, mask, np.ones(2)),
            "dps": bj.guidance.posterior(back, np.ones((1, 2)), np.ones(1), 0.1, method="dps"),
            "pin linear": bj.pin(linear, np.ones(2)),
            "pin moving": bj.pin(moving, np.ones(2)),
            "guide": bj.guide(bj.SDE(pull, still), seen).sde,
            "reversal": bj.x_bridges.reversal(vp).sde(np.ones(2, dtype)),
            "pinned": bj.x_bridges.pinned(ou, 0.0, 0.3).sde(np.ones(2, dtype)),
            "projection": bj.x_bridges.projection(bj.x_bridges.reversal(vp), np.ones((3, 2), dtype)),
            "transport": bj.transport(bj.interpolants.brownian(), pull, "drift"),
        }
        for name, sde in bent.items():
            for ts in ([0.0, 0.5, 1.0], jnp.array([0.0, 0.5, 1.0], jnp.float32)):
                assert traced(lambda key: bj.simulate(sde, key, x, ts)).dtype == dtype, name  # noqa: B023


# populations and chains -----------------------------------------------------------------------------------------------


def log_density(x):
    return -0.5 * jnp.sum((x - 1.0) ** 2)


def sampled(dtype):
    """What samples a density or weighs a process, and what its states are to be."""
    vp, law = bj.schedules.vp(), mixture(dtype)
    levels = jnp.asarray([0.0, 0.5, 0.9], dtype)
    log = Partial(lambda law, t, x, args: law.diffuse(bj.schedules.vp(), t).log_prob(x), law)
    density = bj.compose.density(vp, (2,), log_density=log)
    score = bj.compose.density(vp, (2,), score=bj.mixtures.mixture_score(law, vp))
    start = bj.starts.normal((2,), mean=np.zeros(2, dtype))
    sde = bj.noising(bj.schedules.ou())
    process = bj.Process(start, bj.reverse(bj.schedules.ou(), pull), levels, backward=sde)
    flow = bj.Process(start, bj.probability_flow(vp, bj.mixtures.mixture_score(law, vp)), levels)
    both, hmc, size = [score, score], bj.mcmc.hmc(), 0.1
    chain = dict(move=hmc, transitions=2, step_sizes=size)
    guided = bj.guide(bj.SDE(pull, still), bj.Observation(0.9, np.ones(2), noise=0.1))
    x = jnp.zeros(2, dtype)
    return {
        "annealed": (3, lambda keys: bj.mcmc.annealed(density, keys, levels, **chain, reverse_steps=True).x),
        "annealed by scores": (3, lambda keys: bj.mcmc.annealed(score, keys, levels, **chain).x),
        "tune": (None, lambda key: bj.mcmc.tune(density, key, levels, chains=4, transitions=2)),
        "feynman_kac": (None, lambda key: bj.feynman_kac(density, key, 4, levels, **chain).x),
        "feynman_kac by scores": (None, lambda key: bj.feynman_kac(bj.compose.product(*both), key, 4, levels).x),
        "superpose": (3, lambda keys: bj.superpose(both, keys, levels, mode="and").x),
        "mixture": (3, lambda keys: bj.superpose(both, keys, levels, mode="or").x),
        "smc": (None, lambda key: bj.smc(process, key, 4, log_density, **chain).x),
        "weighted_samples": (3, lambda keys: bj.weighted_samples(process, keys, log_density)[0]),
        "sample": (3, lambda keys: bj.sample(process, keys)),
        "sample back": (3, lambda keys: bj.sample(process, keys, x=jnp.zeros((3, 2), dtype), direction="backward")),
        "walk": (None, lambda key: bj.kernels.walk(bj.kernels.euler(sde), key, x, levels).xs),
        "walk of a LinearSDE": (None, lambda key: bj.kernels.walk(bj.kernels.ou(vp), key, x, levels).xs),
        "pcn": (None, lambda key: bj.pcn(guided, key, x, levels, 3).xs),
        "log_prob": (None, lambda key: bj.log_prob(flow, key, x).value),
        "log_prob by Hutchinson": (None, lambda key: bj.log_prob(flow, key, x, divergence="hutchinson").value),
        "log_prob on a grid": (None, lambda key: bj.log_prob(flow, key, x, ts=levels).value),
        "mixture law": (None, law.sample),
        "simulate_batch": (3, lambda keys: bj.simulate_batch(sde, keys, jnp.zeros((3, 2), dtype), levels)),
    }


@EVERY
@pytest.mark.parametrize("name", sampled(np.float32))
def test_every_sampler(mode, name):
    with precision(mode) as dtype:
        num, run = sampled(dtype)[name]
        found = traced(run, num)
        wanted = dtype if not name.startswith("log_prob") else jnp.promote_types(dtype, found.dtype)
        assert dtypes(found) == {str(wanted)}


# methods --------------------------------------------------------------------------------------------------------------


def elementwise(params, t, x, args):
    return params * x


def of_ends(params, t, x, args):
    return params * x[0]


def steep(x):
    return -jnp.sum(x**2)


def towards(t, x, others):
    return jnp.sum(x**2)


WEIGHT = jnp.full(2, 0.3, jnp.float32)
NET, SHAPE, GRID = (elementwise, WEIGHT), dict(shape=(2,)), [0.0, 0.25, 0.75, 1.0]
ROUNDS = dict(SHAPE, ts=GRID, cache=8)
SAMPLER = dict(dim=2, ts=GRID)
METHODS = {
    "diffusion": (0, lambda m: m.diffusion(bj.schedules.vp(), NET, **SHAPE, ts=GRID)),
    "diffusion sde": (0, lambda m: m.diffusion(bj.schedules.cosine(), NET, **SHAPE, sampler="sde", predict="x0")),
    "edm": (0, lambda m: m.edm(NET, **SHAPE)),
    "constrained": (0, lambda m: m.constrained(bj.domains.Box(-9.0, 9.0), network=NET, **SHAPE)),
    "bridge_matching": (2, lambda m: m.bridge_matching(NET, **SHAPE, ts=GRID)),
    "flow_matching": (2, lambda m: m.bridge_matching(NET, **SHAPE, sigma=0.0, ts=GRID)),
    "augmented_bridge": (2, lambda m: m.augmented_bridge((of_ends, WEIGHT), **SHAPE)),
    "i2sb": (2, lambda m: m.i2sb(NET, **SHAPE)),
    "ddbm": (2, lambda m: m.ddbm((of_ends, WEIGHT), **SHAPE)),
    "bdbm": (2, lambda m: m.bdbm(NET, **SHAPE)),
    "sf2m": (2, lambda m: m.sf2m((elementwise, WEIGHT), **SHAPE, ts=GRID)),
    "lightsb": (2, lambda m: m.lightsb(epsilon=1.0, dim=2, components=3, ts=GRID)),
    "lightsb_m": (2, lambda m: m.lightsb_m(epsilon=1.0, dim=2, components=3, covariance="full", ts=GRID)),
    "latent_sb": (0, lambda m: m.latent_sb(NET, rows=np.zeros((4, 2), np.float32))),
    "dsbm": (2, lambda m: m.dsbm(NET, **ROUNDS)),
    "dsb": (2, lambda m: m.dsb(NET, **ROUNDS)),
    "simplified_dsb": (2, lambda m: m.simplified_dsb(NET, **ROUNDS)),
    "gsbm": (2, lambda m: m.gsbm(NET, towards, **ROUNDS, path_steps=2)),
    "vsdm": (0, lambda m: m.vsdm(NET, **ROUNDS)),
    "pis": (1, lambda m: m.pis(steep, NET, **SAMPLER)),
    "dis": (1, lambda m: m.dis(steep, NET, **SAMPLER)),
    "dds": (1, lambda m: m.dds(steep, NET, **SAMPLER)),
    "gbs": (1, lambda m: m.gbs(steep, NET, NET, **SAMPLER)),
    "cmcd": (1, lambda m: m.cmcd(steep, NET, **SAMPLER)),
    "underdamped": (1, lambda m: m.underdamped(steep, (elementwise, jnp.full(4, 0.3, jnp.float32)), **SAMPLER)),
    "adjoint_sampling": (1, lambda m: m.adjoint_sampling(steep, NET, **SAMPLER, cache=8)),
    "conditioned": (1, lambda m: m.conditioned(bj.SDE(pull, still), NET, start=np.zeros(2), end=np.ones(2), ts=GRID)),
}


def batch_of(kind, dtype):
    x = np.linspace(-1.0, 1.0, 16, dtype=dtype).reshape(8, 2)
    return {0: x, 1: np.zeros((8, 0), dtype), 2: {"source": x, "target": x[::-1].copy()}}[kind]


@pytest.mark.parametrize("mode", list(MODES)[1:])  # float32 is what every other test of methods runs
@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_and_samples(mode, name):
    """A step gives a state of the dtypes it took; float32 networks serve data and states of any."""
    kind, make = METHODS[name]
    with precision(mode) as dtype:
        method, batch, key = make(bj.methods), batch_of(kind, dtype), jax.random.key(0)
        state = method.init(key, batch)
        after, metrics = jax.eval_shape(method.step, state, key, jax.tree.map(jnp.asarray, batch))
        assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: jnp.result_type(leaf), state)
        assert metrics["loss"].shape == ()
        process = method.process(state)
        x = process.start(key, None) if kind != 2 else jnp.asarray(batch["source"][0])
        x = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), x)
        found = traced(lambda keys: bj.sample(process, keys, x if name == "bdbm" else None, x=x), 3)
        assert dtypes(found) == dtypes(x)


# float64 to the end ---------------------------------------------------------------------------------------------------


def test_a_float32_point_of_a_float64_set_belongs_to_it():
    """What is drawn in the precision of the state is a point of the set, and has its probability."""
    with jax.enable_x64(True):
        points = bj.domains.FinitePoints(jnp.array([[0.1, 0.7], [0.3, 0.2]], jnp.float64))
        mean = jnp.array([0.3, 0.2], jnp.float32)
        draw = points.snap(mean)
        assert draw.dtype == jnp.float32
        assert bool(points.contains(draw))
        found = float(jnp.exp(points.log_prob(draw, mean, jnp.float32(0.5))))
    np.testing.assert_allclose(found, 1.0 / (1.0 + np.exp(-0.5 * (0.2**2 + 0.5**2) / 0.5)), rtol=1e-6)


@pytest.mark.parametrize("solver", ["ExponentialEuler", "DPMSolverPP2M", "DPMSolverPP3M", "UniPC"])
def test_float64_is_float64_to_the_end(solver):
    """Data at one point d: x_t = alpha_t d + sigma_t eps along the flow, by every exponential solver."""
    with jax.enable_x64(True):
        schedule, d, eps = bj.schedules.vp(0.1, 8.0), np.array([0.7, -1.3]), np.array([0.1, 2.3])
        flow = bj.probability_flow(schedule, denoiser=Partial(lambda d, t, x, args: d, jnp.asarray(d)))
        ts = bj.grids.uniform(7)[:-1]
        integral = 0.1 * (1.0 - np.asarray(ts)) + 0.5 * 7.9 * (1.0 - np.asarray(ts)) ** 2
        wanted = np.exp(-0.5 * integral)[:, None] * d + np.sqrt(-np.expm1(-integral))[:, None] * eps
        path = bj.simulate_path(flow, jax.random.key(0), wanted[0], ts, solver=getattr(bj.solvers, solver)())
        np.testing.assert_allclose(path.xs, wanted, rtol=1e-12)


def test_float64_noise_and_linear_laws():
    with jax.enable_x64(True):
        path = bj.simulate_path(bj.SDE(pull, still), jax.random.key(0), np.ones(2), bj.grids.uniform(5))
        x, ts, noise = np.asarray(path.xs), np.asarray(path.ts), np.asarray(path.noise)
        for k in range(5):
            step = x[k] - x[k] * (1.0 + ts[k]) * (ts[k + 1] - ts[k]) + 0.3 * noise[k]
            np.testing.assert_allclose(x[k + 1], step, rtol=1e-14)
        assert np.all(noise != noise.astype(np.float32))
        A, L = np.array([[0.0, 1.0], [-1.0, -0.4]]), np.array([[0.0], [0.7]])
        law = bj.linear.LinearSDE(A, np.zeros(2), L).transition(0.2, 0.9)
        block = scipy.linalg.expm(0.7 * np.block([[A, L @ L.T], [np.zeros((2, 2)), -A.T]]))
        np.testing.assert_allclose(law.phi, block[:2, :2], rtol=1e-12)
        np.testing.assert_allclose(law.cov, block[:2, 2:] @ block[:2, :2].T, rtol=1e-10)


# narrow states --------------------------------------------------------------------------------------------------------


def drawn_bits(jaxpr):
    """Widths of the random bits of a program, and dtypes of the logits that it draws categories by."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("random_bits", "threefry2x32"):
            yield eqn.params.get("bit_width", 32)
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from drawn_bits(inner)


NARROW = [name for name in sampled(np.float32) if name not in ("tune", "log_prob", "log_prob on a grid")]


@pytest.mark.parametrize("name", [*NARROW, *DOMAINS, "guide", "conditioned"])
def test_a_bfloat16_state_is_drawn_in_float32(name):
    """Of 8 or 16 random bits there is a normal of 128 values without a tail beyond 2.9, and a coarse category."""
    x, dtype = jnp.full(3, 0.3, jnp.bfloat16), jnp.bfloat16
    if name in DOMAINS:
        domain = DOMAINS[name](dtype)
        program = jax.make_jaxpr(lambda key: domain.sample(key, x, 0.5))
        out = jax.eval_shape(lambda key: (domain.sample(key, x, 0.5), domain.expectation(x, 0.5)), jax.random.key(0))
        assert dtypes(out) == {"bfloat16"}
    elif name == "guide":
        guided = bj.guide(bj.SDE(pull, still), bj.Observation(0.9, np.ones(3), noise=0.1))
        program = jax.make_jaxpr(lambda key: bj.kernels.walk(guided.kernel, key, x, [0.0, 0.5, 0.9]).xs)
    elif name == "conditioned":
        start = np.zeros(2, dtype)
        method = bj.methods.conditioned(bj.SDE(pull, still), NET, start=start, end=np.ones(2), ts=GRID)
        process = method.process(method.init(jax.random.key(0), None))
        program = jax.make_jaxpr(lambda key: bj.weighted_paths(process, bj.keys(key, 3)))
    else:
        num, run = sampled(dtype)[name]
        program = jax.make_jaxpr(lambda key: run(key if num is None else bj.keys(key, num)))
    assert set(drawn_bits(program(jax.random.key(0)).jaxpr)) == {32}


# whole numbers --------------------------------------------------------------------------------------------------------


@functools.cache
def whole_cases():
    """Functions of states, as functions of a reading of whole numbers: as they are, or as floats."""
    vp, brownian, key = bj.schedules.vp(), bj.interpolants.brownian(), jax.random.key(0)
    noisy, line, sde = bj.interpolants.diffusion(vp), bj.interpolants.linear(), bj.SDE(pull, still)
    law = bj.mixtures.gaussian_mixture([[-1.0, 0.3], [1.5, -0.5]], 0.3)
    denoiser, score = bj.mixtures.mixture_denoiser(law, vp), bj.mixtures.mixture_score(law, vp)
    linear = bj.linear.LinearSDE(-np.eye(2), np.full(2, 0.3), np.eye(2))
    x, y, e, mask = np.array([1, 2]), np.array([3, -1]), np.array([1, 0]), np.array([True, False])
    image = np.arange(16, dtype=np.uint8).reshape(8, 2)

    def drift(sde):
        return lambda a: sde.drift(0.3, a(x), None)

    def step(kernel):
        return lambda a: kernel.sample(key, 0.2, 0.6, a(x), None)

    def loss(method):
        return lambda a: method.step(method.init(key, image), key, a(image))[1]["loss"]

    def loss_of_pairs(method):
        pairs = {"source": image, "target": image[::-1].copy()}
        return lambda a: method.step(method.init(key, pairs), key, jax.tree.map(a, pairs))[1]["loss"]

    def matched(predict):
        f = bj.objectives.matching(noisy if predict in ("eps", "x0", "score") else brownian, elementwise, predict)
        pair = predict not in ("eps", "x0", "score")
        keys = bj.keys(key, 8)
        return lambda a: f(WEIGHT, keys, {"source": a(image), "target": a(image)} if pair else a(image))[0]

    m = bj.methods
    return {
        "interpolant": lambda a: line(0.3, a(x), a(y)),
        "interpolant with noise": lambda a: brownian(0.3, a(x), a(y), a(e)),
        "velocity": lambda a: brownian.velocity(0.3, a(x), a(y), a(e)),
        "solve": lambda a: bj.predictions.solve(0.3, a(x), noisy, {"eps": a(e)}, "x0"),
        "solve for what is known": lambda a: bj.predictions.solve(0.3, a(x), noisy, {"eps": a(e)}, "eps"),
        "convert": lambda a: bj.predictions.convert(vp, pull, "eps", "x0")(0.3, a(x), None),
        "noising": drift(bj.noising(vp)),
        "noising to a centre": lambda a: bj.noising(vp, a(y)).drift(0.3, jnp.array([0.3, 0.4]), None),
        "reverse": drift(bj.reverse(vp, denoiser=denoiser)),
        "reverse by score": drift(bj.reverse(sde, score)),
        "probability_flow": drift(bj.probability_flow(vp, score)),
        "pin": drift(bj.pin(vp, np.ones(2))),
        "pin to": lambda a: bj.pin(vp, a(x)).drift(0.3, jnp.array([0.3, 0.4]), None),
        "pin linear": drift(bj.pin(linear, np.ones(2))),
        "doob": drift(bj.doob(sde, score)),
        "control": drift(bj.control(sde, score)),
        "clamp": drift(bj.clamp(bj.noising(vp), mask, np.array([0.4, 0.4]))),
        "constrain": drift(bj.constrain(bj.schedules.brownian(), bj.domains.Box(0.1, 5.3))),
        "guide": drift(bj.guide(sde, bj.Observation(1.0, np.ones(2), noise=0.1)).sde),
        "reversal": lambda a: bj.x_bridges.reversal(vp).sde(a(x)).drift(0.3, jnp.array([0.3, 0.4]), None),
        "projection": drift(bj.x_bridges.projection(bj.x_bridges.reversal(vp), np.array([[1, 2], [3, 1]]))),
        "score": lambda a: score(0.3, a(x), None),
        "denoiser": lambda a: denoiser(0.3, a(x), None),
        "kernels.euler": step(bj.kernels.euler(sde)),
        "kernels.ou": step(bj.kernels.ou(vp)),
        "kernels.exponential": step(bj.kernels.exponential(bj.reverse(vp, denoiser=denoiser))),
        "kernels.gaussian": step(bj.kernels.gaussian(lambda t, u, x, args: 0.3 * x, lambda t, u, x, args: 0.5)),
        "kernel of a LinearSDE": step(linear.sde().terminal_kernel),
        "underdamped": lambda a: bj.kernels.underdamped(pull).sample(key, 0.2, 0.6, (a(x), a(y)), None),
        "starts.normal": lambda a: bj.starts.normal((2,), mean=a(x))(key),
        "starts.point": lambda a: bj.starts.point(a(x))(key, None),
        "starts.empirical": lambda a: bj.starts.empirical(a(image))(key, None),
        **{
            f"{name} {what}": lambda a, d=domain, f=what: getattr(d, f)(*((key,) if f == "sample" else ()), a(x), 0.5)
            for name, domain in {
                "Box": bj.domains.Box(0.1, 1.3),
                "IntegerGrid": bj.domains.IntegerGrid(0.0, 2.0, 0.25),
                "Categorical": bj.domains.Categorical(2),
                "FinitePoints": bj.domains.FinitePoints(np.array([[0.5, 0.2], [1.3, 0.1]])),
                "Simplex": bj.domains.Simplex(2),
                "Sphere": bj.domains.Sphere(),
            }.items()
            for what in ("sample", "expectation")
        },
        "IntegerGrid snap": lambda a: bj.domains.IntegerGrid(0.25, 4.25).snap(a(x)),
        "FinitePoints snap": lambda a: bj.domains.FinitePoints(np.array([[0.5, 0.2], [1.3, 0.1]])).snap(a(x)),
        "Simplex snap": lambda a: bj.domains.Simplex(2).snap(a(x)),
        **{f"matching {predict}": matched(predict) for predict in ("eps", "x0", "score", "velocity", "residual")},
        "diffusion": loss(m.diffusion(vp, NET, **SHAPE)),
        "edm": loss(m.edm(NET, **SHAPE)),
        "bridge_matching": loss_of_pairs(m.bridge_matching(NET, **SHAPE)),
        "constrained": loss(m.constrained(bj.domains.Reals(), network=NET, **SHAPE)),
        "i2sb": loss_of_pairs(m.i2sb(NET, **SHAPE)),
        "bdbm": loss_of_pairs(m.bdbm(NET, **SHAPE)),
        "sf2m": loss_of_pairs(m.sf2m(NET, **SHAPE)),
        "lightsb": loss_of_pairs(m.lightsb(epsilon=1.0, dim=2, components=3)),
    }


@pytest.mark.parametrize("name", whole_cases())
def test_whole_numbers_are_the_same_as_floats(name):
    """Given as data they become floating: truncated to int, x_t between 1 and 2 was 1, and the loss a third."""
    f = whole_cases()[name]
    got, wanted = f(lambda v: jnp.asarray(v)), f(lambda v: jnp.asarray(v, jnp.float32))
    assert dtypes(got) == dtypes(wanted) == {"float32"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), got, wanted)


def test_whole_numbers_by_hand():
    assert bj.interpolants.linear()(0.5, [1], [2]) == [1.5]
    keys, x = bj.keys(jax.random.key(0), 4000), np.arange(8000, dtype=np.uint8).reshape(4000, 2)
    loss = bj.objectives.matching(bj.interpolants.diffusion(bj.schedules.vp()), lambda p, t, x, args: 0.0 * x, "eps")
    assert abs(float(loss(None, keys, x)[0]) - 1.0) < 5 * np.sqrt(2 / 8000)  # E eps^2 of a network that says 0


# as a program ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_example_and_the_command_line_in_x64(tmp_path):
    """The README's first example, then training, sampling and evaluating two models and a bridge."""
    root = pathlib.Path(__file__).resolve().parents[1]
    example = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.S)[0]
    lines = [
        "import sys; sys.path.insert(0, sys.argv[1])",
        example,
        "from bridgejax.cli import main",
        "small = ['--steps', '3', '--num', '20', '--width', '16', '--depth', '1', '--sample-steps', '4']",
    ]
    for name, *words in (
        ("flow", "--data", "moons"),
        ("edm", "edm", "--data", "moons"),
        ("dsb", "dsb", "--source", "moons", "--target", "spirals"),
    ):
        lines.append(f"assert main(['train', *{words!r}, '--out', '{name}', *small]) == 0")
    (tmp_path / "run.py").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "run.py", str(root)],
        cwd=tmp_path,
        env={**os.environ, "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    mean, deviation, end = done.stdout.split()[:3]
    assert abs(float(mean) - 2.0) < 0.05
    assert (deviation, end) == ("0.5", "[1.]")
