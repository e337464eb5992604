"""SDEs on manifolds: geodesic walks against heat kernels, reversal and likelihood against closed forms."""

import math

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.sharding import Mesh
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax import manifolds as mf
from bridgejax.oracles import heat


def still(t, x, args):
    return jax.tree.map(jnp.zeros_like, x)


def one(t, x, args):
    return 1.0


def brownian(manifold, T=1.0, g=one):
    return bj.SDE(still, g, T, manifold=manifold)


def walks(sde, x0, num, steps, solver=None, seed=0):
    keys = bj.keys(jax.random.key(seed), num)
    return bj.simulate_batch(sde, keys, x0, bj.grids.uniform(steps, sde.T), axes=(None, None, 0), solver=solver)


def within(values, truth, bias=0.0):
    values = np.asarray(values, np.float64)
    assert abs(values.mean() - truth) < 5 * values.std() / math.sqrt(len(values)) + bias, (values.mean(), truth)


# laws -----------------------------------------------------------------------------------------------------------------

# manifold, start, the part of x whose mean is known, its eigenvalue: E f(X_t) = e^(-eigenvalue t / 2) f(x0)
WAVES = {
    "circle": (mf.Torus(1), jnp.zeros(1), lambda x: jnp.cos(2 * x[:, 0]), 4.0),
    "S2 first": (mf.Sphere(2), jnp.array([0.0, 0.0, 1.0]), lambda x: x[:, 2], 2.0),
    "S2 second": (mf.Sphere(2), jnp.array([0.0, 0.0, 1.0]), lambda x: 1.5 * x[:, 2] ** 2 - 0.5, 6.0),
    "S3": (mf.Sphere(3), jnp.array([0.0, 0.0, 0.0, 1.0]), lambda x: x[:, 3], 3.0),
    "SO(3)": (mf.SO(3), jnp.eye(3), lambda x: (jnp.trace(x, axis1=1, axis2=2)) / 3, 2.0),
    "SO(4)": (mf.SO(4), jnp.eye(4), lambda x: (jnp.trace(x, axis1=1, axis2=2)) / 4, 3.0),
    "U(2)": (mf.U(2), mf.real_pair(jnp.eye(2)), lambda x: jnp.trace(x[:, 0], axis1=1, axis2=2) / 2, 2.0),
    "U(2) det": (mf.U(2), mf.real_pair(jnp.eye(2)), lambda x: jnp.linalg.det(mf.complex_of(x)).real, 2.0),
    "SU(2)": (mf.SU(2), mf.real_pair(jnp.eye(2)), lambda x: jnp.trace(x[:, 0], axis1=1, axis2=2) / 2, 1.5),
}


FAST = ("S2 second", "SO(3)", "U(2)")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in FAST else [pytest.mark.slow]) for n in WAVES])
def test_means_of_brownian_motion(name):
    """Eigenfunctions decay at their rate; the scheme of weak order 2 needs ten steps for what Euler needs a hundred."""
    manifold, x0, f, rate = WAVES[name]
    truth, num, T = math.exp(-0.4 * rate), 20_000, 0.8
    sde = brownian(manifold, T)
    euler = f(walks(sde, x0, num, 60))
    within(euler, truth, bias=0.25 * rate * T * (T / 60) * truth)  # curvature h / 12 of the rate, curvature <= 3
    second = f(walks(sde, x0, num, 8, bj.solvers.GeodesicMidpoint(), seed=1))
    within(second, truth, bias=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("manifold", [mf.Sphere(2), mf.SO(3)], ids=repr)
def test_weak_order_of_brownian_steps(manifold):
    """One step from the pole by quadrature of the radius: no Monte Carlo. The error falls by 4 (order 1) or 8."""
    with jax.enable_x64(True):
        d = manifold.dim
        nodes, weights = scipy.special.roots_genlaguerre(60, 0.5 * d - 1.0)  # |z|^2 / 2 is Gamma(d / 2)
        weights = weights / math.gamma(0.5 * d)
        x = jnp.eye(3, dtype=jnp.float64) if d == 3 else jnp.array([0.0, 0.0, 1.0], jnp.float64)
        v = jnp.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]]) if d == 3 else jnp.array([1.0, 0.0, 0.0])

        def mean(q, second):
            radius = jnp.sqrt(2.0 * nodes * q)
            shorter = 1.0 - q / 12.0 * manifold.inner(x, manifold.ricci(x, v), v) if second else 1.0
            reached = jax.vmap(lambda r: manifold.exp(x, r * shorter * v))(radius)
            value = (jnp.trace(reached, axis1=1, axis2=2)) / 3 if d == 3 else 1.5 * reached[:, 2] ** 2 - 0.5
            return jnp.sum(weights * value)

        rate = 2.0 if d == 3 else 6.0
        for second, order in ((False, 2.0), (True, 3.0)):
            errors = [abs(float(mean(q, second) - math.exp(-0.5 * rate * q))) for q in (0.02, 0.01)]
            assert abs(math.log2(errors[0] / errors[1]) - order) < 0.1, (errors, second)


def cell_probabilities(log_prob, area, edges):
    """Of the angle from the start, by the midpoint rule in float64 on fine cells."""
    fine = np.linspace(edges[0], edges[-1], 4001)
    middle = 0.5 * (fine[1:] + fine[:-1])
    mass = np.exp(np.asarray(log_prob(middle), np.float64)) * area(middle) * np.diff(fine)
    total = np.concatenate([[0.0], np.cumsum(mass)])
    assert abs(total[-1] - 1.0) < 1e-4
    return np.diff(np.interp(edges, fine, total))


KERNELS = {
    "circle": (mf.Torus(1), jnp.zeros(1), heat.circle_log_prob, lambda a: 2.0 + 0 * a),
    "S2": (mf.Sphere(2), jnp.array([0.0, 0.0, 1.0]), heat.sphere_log_prob, lambda a: 2 * np.pi * np.sin(a)),
    # S^3 covers SO(3): half the angle, a quarter of the time, and the sum of the kernels at a and 2 pi - a
    "SO(3)": (mf.SO(3), jnp.eye(3), heat.rotation_log_prob, lambda a: 8 * np.pi * (1 - np.cos(a))),
}


@pytest.mark.parametrize("name", ["S2", *(pytest.param(n, marks=pytest.mark.slow) for n in ("circle", "SO(3)"))])
@pytest.mark.parametrize("second", [False, True])
def test_walks_have_the_heat_kernel(name, second):
    """Chi square of the distance from the start, in 20 cells of equal width, at t = 0.5."""
    manifold, x0, log_prob, area = KERNELS[name]
    num, t = 20_000, 0.5
    solver = bj.solvers.GeodesicMidpoint() if second else None
    x = walks(brownian(manifold, t), x0, num, 5 if second else 60, solver)
    angle = np.asarray(jax.vmap(manifold.distance, (None, 0))(x0, x))
    edges = np.linspace(0.0, math.pi, 21)
    p = cell_probabilities(lambda a: log_prob(a, t), area, edges)
    counts = np.histogram(angle, edges)[0]
    big = num * p > 10
    p, counts = np.append(p[big], p[~big].sum()), np.append(counts[big], counts[~big].sum())
    chi = float(np.sum((counts - num * p) ** 2 / np.maximum(num * p, 1.0)))
    freedom = len(p) - 1
    assert chi < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.slow
def test_the_kernel_of_the_three_sphere():
    """Brownian motion of S^3: density (sum of images) against cells of the angle; its kernel is SU(2)'s too."""
    t, num = 0.4, 40_000

    def log_prob(a):  # e^(t/2) (2 pi t)^(-3/2) sum (a + 2 pi k) / sin a e^(-(a + 2 pi k)^2 / 2t)
        k = np.arange(-4, 5)[:, None]
        images = np.sum((a + 2 * np.pi * k) / np.sin(a) * np.exp(-((a + 2 * np.pi * k) ** 2) / (2 * t)), 0)
        return 0.5 * t - 1.5 * math.log(2 * np.pi * t) + np.log(images)

    edges = np.linspace(1e-6, math.pi - 1e-6, 16)
    p = cell_probabilities(log_prob, lambda a: 4 * np.pi * np.sin(a) ** 2, edges)
    x = walks(brownian(mf.Sphere(3), t), jnp.array([0.0, 0.0, 0.0, 1.0]), num, 8, bj.solvers.GeodesicMidpoint())
    # on SU(2), the sphere of radius sqrt 2, after twice the time
    u = walks(brownian(mf.SU(2), 2 * t), mf.real_pair(jnp.eye(2)), num, 8, bj.solvers.GeodesicMidpoint())
    for angle in (np.arccos(np.clip(x[:, 3], -1, 1)), np.arccos(np.clip(u[:, 0, 0, 0], -1, 1))):
        counts = np.histogram(angle, edges)[0]
        keep = num * p > 10
        chi = np.sum((counts[keep] - num * p[keep]) ** 2 / (num * p[keep]))
        assert chi < keep.sum() + 5 * math.sqrt(2 * keep.sum())


# ODEs -----------------------------------------------------------------------------------------------------------------


def field(t, x, args):
    """Rotation about an axis that moves: not of constant speed, and not along a geodesic."""
    k = jnp.stack([jnp.cos(2 * t), jnp.sin(3 * t), 1.0 + t])
    return jnp.cross(k, x) + 0.5 * jnp.array([0.0, 1.0, 0.3])


@pytest.mark.parametrize(("solver", "order"), [(bj.solvers.GeodesicEuler(), 1), (bj.solvers.GeodesicMidpoint(), 2)])
def test_order_for_odes(solver, order, key):
    with jax.enable_x64(True):
        sde, x0 = bj.SDE(field, None, manifold=mf.Sphere(2)), jnp.array([1.0, 0.0, 0.0], jnp.float64)
        ends = [bj.simulate(sde, key, x0, bj.grids.uniform(n), solver=solver) for n in (20, 40, 80)]
        ratio = float(jnp.linalg.norm(ends[0] - ends[1]) / jnp.linalg.norm(ends[1] - ends[2]))
        assert abs(math.log2(ratio) - order) < 0.1


# reversal and likelihood: data with a known diffused law -------------------------------------------------------------

NORTH = jnp.array([0.0, 0.6, 0.8])


def sphere_log_density(t, x, args=None):
    """Brownian motion from NORTH after 0.3 + t."""
    angle = mf.Sphere(2).distance(NORTH, x)
    return heat.sphere_log_prob(angle, 0.3 + t)


def sphere_score(t, x, args):
    # by the cosine, smooth at the pole
    return mf.Sphere(2).gradient(x, jax.grad(lambda x: _by_cosine(t, x))(x))


def _by_cosine(t, x):
    """The same by 30 Legendre polynomials, a function of the cosine: finite gradients everywhere."""
    c = jnp.dot(NORTH, x)
    before, p, total = jnp.ones_like(c), c, jnp.ones_like(c)
    for degree in range(1, 25):
        total = total + (2 * degree + 1) * jnp.exp(-0.5 * degree * (degree + 1) * (0.3 + t)) * p
        before, p = p, ((2 * degree + 1) * c * p - degree * before) / (degree + 1)
    return jnp.log(total / (4 * jnp.pi))


def test_log_prob_on_the_sphere(key):
    """The flow of Brownian motion from its law at t = 4 (uniform to 1e-2 there, started from the exact one)."""
    T = 3.0
    flow = bj.probability_flow(brownian(mf.Sphere(2), T), Partial(sphere_score))
    assert flow.manifold == mf.Sphere(2)

    class Start:
        def __call__(self, key, args):
            return NORTH

        def log_prob(self, x, args=None):
            return _by_cosine(T, x)

    jax.tree_util.register_static(Start)
    process = bj.Process(Start(), flow, bj.grids.uniform(20, T))
    xs = jax.vmap(mf.Sphere(2).uniform)(bj.keys(key, 8))
    got = jax.jit(jax.vmap(lambda x: bj.log_prob(process, key, x).value))(xs)
    want = jax.vmap(lambda x: _by_cosine(0.0, x))(xs)
    np.testing.assert_allclose(got, want, atol=2e-4)
    near = xs[jnp.argsort(-want)[:4]]  # where the truth of the other formula has its digits
    np.testing.assert_allclose(
        jax.vmap(lambda x: _by_cosine(0.0, x))(near), jax.vmap(lambda x: sphere_log_density(0.0, x))(near), atol=1e-3
    )


def test_reversal_ends_at_the_data():
    """From the exact law at T back to the law of the data: E cos angle = e^(-0.3), by both solvers."""
    T = 1.5
    back = bj.reverse(brownian(mf.Sphere(2), T), Partial(sphere_score))
    num = 8_000
    x0 = walks(brownian(mf.Sphere(2), 0.3 + T), NORTH, num, 12, bj.solvers.GeodesicMidpoint(), seed=3)
    keys = bj.keys(jax.random.key(4), num)
    for solver, steps, bias in ((None, 100, 0.02), (bj.solvers.GeodesicMidpoint(), 25, 0.01)):
        x = bj.simulate_batch(back, keys, x0, bj.grids.uniform(steps, T), solver=solver)
        within(x @ NORTH, math.exp(-0.3), bias=bias)
    flow = bj.probability_flow(brownian(mf.Sphere(2), T), Partial(sphere_score))
    within(bj.simulate_batch(flow, keys, x0, bj.grids.uniform(25, T)) @ NORTH, math.exp(-0.3), bias=2e-3)


def drawn_to(t, x, args):
    return jax.tree.map(lambda leaf: 0.3 * jnp.ones_like(leaf), x)


@pytest.mark.parametrize("manifold", [mf.SO(3), mf.U(2), mf.Product(mf.Sphere(2), mf.Torus(2))], ids=repr)
def test_the_flow_of_log_prob_keeps_the_mass(manifold, key):
    """Change of variables: the density of a uniform point carried by a flow, by log_prob and by finite volumes."""
    sde = bj.SDE(drawn_to, None, manifold=manifold)
    process = bj.Process(bj.starts.uniform(manifold), sde, bj.grids.uniform(150))
    x = process.start(key, None)

    def flow(x):
        return bj.simulate(sde, key, x, bj.grids.uniform(150))

    end = flow(x)
    got = jax.jit(lambda x: bj.log_prob(process, key, x).value)(end)

    # the Jacobian of the flow map in orthonormal frames, by differentiating the simulation
    basis = jax.vmap(manifold.tangent_normal, (0, None))(bj.keys(key, manifold.dim), x)
    _, pushed = jax.vmap(lambda b: jax.jvp(lambda x: bj.simulate(sde, key, x, bj.grids.uniform(150)), (x,), (b,)))(
        basis
    )

    def log_gram(point, vectors):
        gram = jax.vmap(lambda a: jax.vmap(lambda b: manifold.inner(point, a, b))(vectors))(vectors)
        return 0.5 * jnp.linalg.slogdet(gram)[1]

    want = -manifold.log_volume - (log_gram(end, pushed) - log_gram(x, basis))
    np.testing.assert_allclose(got, want, atol=2e-3)


def test_hutchinson_on_a_manifold(key):
    manifold = mf.SO(3)
    process = bj.Process(bj.starts.uniform(manifold), bj.SDE(drawn_to, None, manifold=manifold), bj.grids.uniform(5))
    x, ts = process.start(key, None), bj.grids.uniform(8)
    exact = bj.log_prob(process, key, x, ts=ts).value
    guess = jax.jit(jax.vmap(lambda k: bj.log_prob(process, k, x, divergence="hutchinson", ts=ts).value))
    within(guess(bj.keys(key, 2000)), float(exact), bias=1e-4)


# staying on it, and the same sample -----------------------------------------------------------------------------------


def swirl(t, x, args):
    return jax.tree.map(lambda leaf: jnp.sin(3.0 * leaf + t), x)


def scaled_swirl(scale, t, x, args):
    return scale * swirl(t, x, args)


@pytest.mark.parametrize("manifold", [mf.Sphere(3), mf.SO(3), mf.SO(5), mf.U(3), mf.SU(3)], ids=repr)
def test_on_the_manifold_after_a_thousand_steps(manifold):
    sde = bj.SDE(swirl, one, manifold=manifold)
    x0 = jax.vmap(manifold.uniform)(bj.keys(jax.random.key(0), 64))
    x = bj.simulate_batch(sde, bj.keys(jax.random.key(1), 64), x0, bj.grids.uniform(1000))
    assert x.dtype == jnp.result_type(float)
    assert float(jnp.max(jax.vmap(manifold.defect)(x))) < 1e-5


MANY = mf.Product(mf.Sphere(2), mf.SO(3), mf.Torus(2))


def test_same_sample_for_any_batch_and_device_count():
    sde = bj.SDE(swirl, one, manifold=MANY)
    process = bj.Process(bj.starts.uniform(MANY), sde, bj.grids.uniform(20))
    keys = bj.keys(jax.random.key(5), 200)
    whole = bj.sample(process, keys)
    close = dict(atol=2e-6, rtol=0)
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    assert len(jax.devices()) == 8
    for other in (
        bj.sample(process, keys[:7]), bj.sample(process, keys, micro_batch=64), bj.sample(process, keys, mesh=mesh),
    ):  # fmt: skip
        for a, b in zip(other, whole, strict=True):
            np.testing.assert_allclose(a, b[: len(a)], **close)


def test_an_sde_with_a_manifold_is_a_pytree(key):
    sde = bj.SDE(swirl, one, manifold=MANY)
    again = jax.tree.map(lambda leaf: leaf, sde)
    assert again.manifold == MANY
    path = bj.simulate_path(sde, key, MANY.uniform(key), bj.grids.uniform(4))
    assert path.xs[1].shape == (5, 3, 3)

    def end(scale):
        sde = bj.SDE(Partial(scaled_swirl, scale), one, manifold=mf.SO(3))
        return jnp.sum(bj.simulate(sde, key, jnp.eye(3), bj.grids.uniform(4)) ** 3)

    difference = (end(1.01) - end(0.99)) / 0.02
    np.testing.assert_allclose(jax.grad(end)(1.0), difference, rtol=2e-2)


BY_STATE = bj.SDE(still, one, noise="state", manifold=mf.Sphere(2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (dict(solver=bj.solvers.Heun()), "Heun adds vectors, which leaves the manifold Sphere.*use GeodesicEuler"),
        (dict(solver=bj.solvers.Euler()), "Euler adds vectors"),
        (dict(controller=dfx.PIDController(rtol=1e-3, atol=1e-3)), "adaptive controller.*geodesic walk.*leave out"),
        (dict(solver=bj.solvers.GeodesicEuler(), controller=dfx.PIDController(rtol=1e-3, atol=1e-3)), "adaptive"),
        (dict(x0=jnp.array([1.0, 1.0, 0.0])), "x0 must lie on Sphere.*off by 0.414.*project"),
        (dict(x0=jnp.ones(4) / 2), r"x0 must have last axes \(3,\)"),
        (dict(x0=1j * jnp.ones(3)), "x0 must be real"),
        (dict(sde=bj.SDE(still, one), solver=bj.solvers.GeodesicEuler()), "GeodesicEuler needs an SDE with a manifold"),
        (dict(sde=BY_STATE, solver=bj.solvers.GeodesicMidpoint()), "does not depend on x; use GeodesicEuler"),
        (dict(sde=bj.SDE(still, one, manifold="sphere")), "manifold of the sde must be one of bridgejax.manifolds"),
    ],
)  # fmt: skip
def test_refused(call, words, key):
    arguments = {"sde": brownian(mf.Sphere(2)), "x0": jnp.array([1.0, 0.0, 0.0]), **call}
    with pytest.raises(ValueError, match=words):
        bj.simulate(arguments.pop("sde"), key, arguments.pop("x0"), bj.grids.uniform(4), **arguments)


def test_refused_elsewhere(key):
    sde = brownian(mf.Sphere(2))
    for call in (
        lambda: bj.clamp(sde, jnp.array([True, False, False])),
        lambda: bj.kernels.euler(sde),
        lambda: bj.guide(sde, bj.Observation(1.0, jnp.ones(3))),
    ):
        with pytest.raises(ValueError, match="runs on the manifold Sphere"):
            call()
    with pytest.raises(ValueError, match=r"noise that does not depend on x"):
        bj.reverse(BY_STATE, Partial(sphere_score))
    uneven = bj.reverse(brownian(mf.Sphere(2), g=lambda t, x, args: jnp.ones(3)), Partial(sphere_score))
    with pytest.raises(ValueError, match=r"one number, g\(t\)"):
        uneven.drift(0.0, NORTH, None)
    with pytest.raises(ValueError, match="finite volume"):
        bj.starts.uniform(mf.Euclidean(2))
