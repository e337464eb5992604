"""Manifolds against closed forms: Haar moments, geodesics, volumes; finite where formulas have a 0 / 0."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.geometry import manifolds as mf

KINDS = [
    mf.Euclidean(3), mf.Torus(3), mf.Sphere(1), mf.Sphere(2), mf.Sphere(5), mf.SO(2), mf.SO(3), mf.SO(4), mf.SO(5),
    mf.U(1), mf.U(3), mf.SU(2), mf.SU(3), mf.Product(mf.Sphere(2), mf.Torus(1), mf.SO(3)),
]  # fmt: skip
FEW = [mf.Sphere(2), mf.SO(3), mf.SO(5), mf.U(3), mf.SU(3), KINDS[-1]]


def few(all_of_them, fast):
    """All of them, but those that are not in ``fast`` with the long tests."""
    return [pytest.param(m, marks=[] if m in fast else [pytest.mark.slow], id=repr(m)) for m in all_of_them]


COMPACT = [m for m in KINDS if not isinstance(m, mf.Euclidean)]
CURVED = [m for m in COMPACT if not isinstance(m, mf.Torus | mf.Product)]


def draws(manifold, num, seed=0):
    if isinstance(manifold, mf.Euclidean):
        return jax.random.normal(jax.random.key(seed), (num, *manifold.shape))
    return jax.jit(jax.vmap(manifold.uniform))(bj.keys(jax.random.key(seed), num))


def scaled(tree, factor):
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def gap(manifold, x, y):
    """The largest difference of coordinates, of angles around the circle."""
    d = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(jnp.sin(0.5 * (a - b))))), x, y)
    return 2.0 * max(jax.tree.leaves(d))


def within(estimates, truth):
    """The mean of independent estimates within 5 standard errors of the truth."""
    estimates = np.asarray(estimates, np.float64)
    error = estimates.std(0, ddof=1) / math.sqrt(len(estimates))
    assert np.all(np.abs(estimates.mean(0) - truth) < 5.0 * error + 1e-7), (estimates.mean(0), truth, error)


# geodesics ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifold", few(KINDS, [*FEW, mf.Torus(3), mf.SO(2)]))
def test_exp_undoes_log(manifold):
    x, y = draws(manifold, 100), draws(manifold, 100, 1)
    v = jax.jit(jax.vmap(manifold.log))(x, y)
    reached = jax.jit(jax.vmap(manifold.exp))(x, v)
    assert gap(manifold, reached, y) < 2e-5
    assert bool(jnp.all(jax.vmap(manifold.contains)(reached)))
    d, norm = jax.vmap(manifold.distance)(x, y), jax.vmap(manifold.inner)(x, v, v)
    np.testing.assert_allclose(d**2, norm, rtol=1e-4, atol=1e-5)
    # half the way is half as far, and the geodesic is the shortest: log of its middle is half of log
    half = jax.vmap(manifold.exp)(x, scaled(v, 0.5))
    np.testing.assert_allclose(jax.vmap(manifold.distance)(x, half), 0.5 * d, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("manifold", few(CURVED, [mf.SO(4)]))
def test_log_undoes_exp_within_the_cut_locus(manifold):
    x = draws(manifold, 50)
    v = jax.vmap(manifold.tangent_normal)(bj.keys(jax.random.key(2), 50), x)
    v = jax.vmap(lambda x, v: v * (1.0 / jnp.maximum(1.0, jnp.sqrt(manifold.inner(x, v, v)))))(x, v)  # length <= 1
    found = jax.jit(jax.vmap(manifold.log))(x, jax.vmap(manifold.exp)(x, v))
    np.testing.assert_allclose(found, v, atol=1e-5)


@pytest.mark.parametrize("manifold", few([mf.SO(4), mf.SO(5), mf.U(3), mf.SU(3)], [mf.SO(4), mf.SU(3)]))
def test_exp_is_the_matrix_exponential(manifold):
    x = draws(manifold, 20)
    v = jax.vmap(manifold.tangent_normal)(bj.keys(jax.random.key(3), 20), x)
    got = jax.vmap(manifold.exp)(x, v)
    a, b, c = (np.asarray(mf.complex_of(z) if z.ndim == 4 else z, np.complex128) for z in (x, v, got))
    want = a @ np.asarray(jax.scipy.linalg.expm(np.conj(a.swapaxes(1, 2)) @ b))
    np.testing.assert_allclose(c, want, atol=1e-5)


def test_sphere_and_rotation_distances():
    a = jnp.array([1e-4, 0.3, 1.5, 3.0, 3.1415])
    x = jnp.zeros((5, 3)).at[:, 0].set(1.0)
    y = jnp.stack([jnp.cos(a), jnp.sin(a), 0 * a], 1)
    np.testing.assert_allclose(jax.vmap(mf.Sphere(2).distance)(x, y), a, rtol=1e-6)
    turned = mf.rotations.from_vector(a[:, None] * jnp.array([0.6, 0.0, 0.8]))
    np.testing.assert_allclose(jax.vmap(mf.SO(3).distance, (None, 0))(jnp.eye(3), turned), a, rtol=2e-6)


# the places where formulas are 0 / 0 ----------------------------------------------------------------------------------


def block(*angles):
    """A rotation of planes by these angles."""
    n = 2 * len(angles)
    r = np.eye(n)
    for k, a in enumerate(angles):
        r[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = [[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]
    return r


def pair(u):
    return np.stack([np.real(u), np.imag(u)])


PI = math.pi
SPECIAL = [
    (mf.Sphere(2), np.eye(3)[0], np.eye(3)[0], 0.0),
    (mf.Sphere(2), np.eye(3)[0], -np.eye(3)[0], PI),
    (mf.Sphere(4), np.ones(5) / math.sqrt(5), -np.ones(5) / math.sqrt(5), PI),
    (mf.Torus(2), np.zeros(2), np.array([PI, -PI]), math.sqrt(2) * PI),
    (mf.SO(2), np.eye(2), -np.eye(2), PI),
    (mf.SO(3), np.eye(3), np.eye(3), 0.0),
    (mf.SO(3), np.eye(3), np.diag([1.0, -1.0, -1.0]), PI),
    (mf.SO(3), np.eye(3), np.diag([-1.0, -1.0, 1.0]), PI),
    (mf.SO(4), np.eye(4), np.eye(4), 0.0),
    (mf.SO(4), np.eye(4), -np.eye(4), math.sqrt(2) * PI),
    (mf.SO(4), np.eye(4), block(0.7, 0.7), 0.7 * math.sqrt(2)),
    (mf.SO(5), np.eye(5), np.diag([-1.0, 1.0, -1.0, 1.0, 1.0]), PI),
    (mf.SO(6), np.eye(6), block(PI, 2.8, 0.3), math.sqrt(PI**2 + 2.8**2 + 0.09)),
    (mf.SO(6), np.eye(6), block(PI, PI, 1.5), math.sqrt(2 * PI**2 + 2.25)),
    (mf.U(1), pair(np.eye(1)), pair(-np.eye(1)), PI),
    (mf.U(3), pair(np.eye(3)), pair(np.eye(3)), 0.0),
    (mf.U(3), pair(np.eye(3)), pair(-np.eye(3)), math.sqrt(3) * PI),
    (mf.U(3), pair(np.eye(3)), pair(np.diag(np.exp(1j * np.array([PI, 0.4, 0.4])))), math.sqrt(PI**2 + 0.32)),
    (mf.U(2), pair(np.eye(2)), pair(np.diag(np.exp(1j * np.array([2.0, -2.0])))), math.sqrt(8.0)),
    (mf.SU(2), pair(np.eye(2)), pair(-np.eye(2)), math.sqrt(2) * PI),
    (mf.SU(3), pair(np.eye(3)), pair(np.exp(2j * PI / 3) * np.eye(3)), 2 * PI / 3 * math.sqrt(6)),
]


@pytest.mark.parametrize("wide", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("manifold", "x", "y", "far"), SPECIAL, ids=lambda v: repr(v) if hasattr(v, "dim") else "")
def test_special_points(manifold, x, y, far, wide):
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        tolerance = 1e-10 if wide else 5e-5
        x, y = jnp.asarray(x, dtype), jnp.asarray(y, dtype)

        @jax.jit
        def look(x, y):
            v = manifold.log(x, y)
            slopes = jax.grad(manifold.distance, (0, 1))(x, y)
            through = jax.grad(lambda x, v: jnp.sum(manifold.exp(x, v) ** 3), (0, 1))(x, v)
            logs = jax.grad(lambda x, y: jnp.sum(manifold.log(x, y) ** 2), (0, 1))(x, y)
            rest = jax.grad(lambda y: jnp.sum(manifold.project(y) ** 3))(y)
            return v, manifold.distance(x, y), manifold.exp(x, v), (slopes, through, logs, rest)

        v, d, reached, slopes = look(x, y)
        assert v.dtype == dtype
        np.testing.assert_allclose(d, far, atol=tolerance)
        assert gap(manifold, reached, y) < tolerance
        for slope in jax.tree.leaves(slopes):
            assert bool(jnp.all(jnp.isfinite(slope)))


@pytest.mark.parametrize("n", few([4, 5, 6, 7], [5]))
def test_log_near_the_cut_locus(n):
    """Planes turned by pi - epsilon, in a basis of their own: exp(log) returns for every epsilon."""
    frames = (draws(mf.SO(n), 200), draws(mf.U(n), 200))
    for complex_ in (False, True):
        manifold = mf.U(n) if complex_ else mf.SO(n)
        targets = []
        for seed, eps in enumerate((0.3, 1e-2, 1e-3, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 0.0) * 20):
            frame = np.asarray(frames[complex_][seed], np.float64)
            q = frame[0] + 1j * frame[1] if complex_ else frame
            middle = np.eye(n)
            middle[:4, :4] = block(PI - eps, PI - (seed % 3) * 0.5 * eps)
            target = q @ middle @ np.conj(q.T)
            targets.append(pair(target) if complex_ else target)
        identity = jnp.asarray(pair(np.eye(n)) if complex_ else np.eye(n), jnp.float32)
        targets = jnp.asarray(np.array(targets), jnp.float32)
        reached = jax.jit(jax.vmap(lambda y: manifold.exp(identity, manifold.log(identity, y))))(targets)
        assert float(jnp.max(jnp.abs(reached - targets))) < 64.0 * n * float(jnp.finfo(jnp.float32).eps)


@pytest.mark.parametrize("manifold", few([mf.Sphere(2), mf.SO(3), mf.SO(4), mf.U(2), mf.SU(3)], [mf.SO(4)]))
def test_derivatives_are_those_of_differences(manifold):
    """exp, log and project along curves, in float64."""
    with jax.enable_x64(True):
        x, y = (z.astype(jnp.float64) for z in draws(manifold, 2))
        x, y = manifold.project(x), manifold.project(y)
        u, v, w = jax.random.normal(jax.random.key(5), (3, *manifold.shape), jnp.float64)
        u = manifold.to_tangent(x, u)

        def curve(s):
            return manifold.exp(x, s * u)

        cases = {
            "exp": lambda s: manifold.exp(curve(s), v + s * w),
            "log": lambda s: manifold.log(curve(s), y),
            "log back": lambda s: manifold.log(y, curve(s)),
            "project": lambda s: manifold.project(x + 0.1 * v + s * w),
            "distance": lambda s: manifold.distance(curve(s), y),
        }
        h = 1e-5
        for name, f in cases.items():
            slope = jax.jit(lambda s, f=f: jax.jvp(f, (s,), (1.0,))[1])(0.3)
            g = jax.jit(f)
            want = (g(0.3 + h) - g(0.3 - h)) / (2 * h)
            np.testing.assert_allclose(slope, want, atol=1e-7, err_msg=name)
        # the gradient of half the squared distance is -log
        slope = manifold.gradient(x, jax.grad(lambda x: 0.5 * manifold.distance(x, y) ** 2)(x))
        np.testing.assert_allclose(slope, -manifold.log(x, y), atol=1e-9)


# laws -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", few(range(2, 11), [2, 3, 10]))
def test_haar_moments(n):
    """E|tr U|^2 = 1, E|U_ij|^2 = 1/n, E|U_ij|^4 = 2/(n(n+1)) or 3/(n(n+2)): first, middle and last entry."""
    num = 4000
    x = draws(mf.SO(n), num)
    some = x[:, [0, n // 2, n - 1], [0, 0, n - 1]]
    if n > 2:
        within(jnp.trace(x, axis1=1, axis2=2) ** 2, 1.0)
        within(jnp.trace(x, axis1=1, axis2=2), 0.0)
        within(some**4, 3.0 / (n * (n + 2)))
    within(some**2, 1.0 / n)
    np.testing.assert_allclose(jnp.linalg.det(x), 1.0, atol=1e-5)
    for manifold in (mf.U(n), mf.SU(n)):
        u = mf.complex_of(draws(manifold, num, 1))
        some = jnp.abs(u[:, [0, n // 2, n - 1], [0, 0, n - 1]]) ** 2
        within(jnp.abs(jnp.trace(u, axis1=1, axis2=2)) ** 2, 1.0)
        within(some, 1.0 / n)
        within(some**2, 2.0 / (n * (n + 1)))
        phase = jnp.linalg.det(u)
        if isinstance(manifold, mf.U):
            within(jnp.stack([phase.real, phase.imag], 1), 0.0)
        else:
            np.testing.assert_allclose(phase, 1.0, atol=1e-5)


def test_uniform_vectors():
    x = draws(mf.Sphere(2), 20_000)
    within(x, 0.0)
    within(x[:, :, None] * x[:, None, :], np.eye(3) / 3)
    within(jnp.exp(1j * draws(mf.Torus(2), 20_000)).real, 0.0)


@pytest.mark.parametrize("manifold", few(COMPACT, FEW[1:]))
def test_tangent_normal_has_unit_covariance(manifold):
    """<z, u> is N(0, |u|^2) for every tangent u, and z is tangent; its mean square length is the dimension."""
    x = jax.tree.map(lambda leaf: leaf[0], draws(manifold, 1))
    z = jax.jit(jax.vmap(manifold.tangent_normal, (0, None)))(bj.keys(jax.random.key(7), 6000), x)
    tangent = jax.vmap(manifold.to_tangent, (None, 0))(x, z)
    assert max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(*map(jax.tree.leaves, (z, tangent)), strict=True)) < 1e-5
    u, v = (jax.tree.map(lambda leaf, i=i: leaf[i], z) for i in (0, 1))
    products = jax.vmap(lambda z: manifold.inner(x, z, u) * manifold.inner(x, z, v))(z)[2:]
    within(products, float(manifold.inner(x, u, v)))
    within(jax.vmap(lambda z: manifold.inner(x, z, z))(z), manifold.dim)


def test_volumes():
    assert mf.Sphere(1).log_volume == pytest.approx(math.log(2 * PI))
    assert mf.Sphere(2).log_volume == pytest.approx(math.log(4 * PI))
    assert mf.Torus(3).log_volume == pytest.approx(3 * math.log(2 * PI))
    assert mf.SO(2).log_volume == pytest.approx(math.log(2 * PI))
    assert mf.SO(3).log_volume == pytest.approx(math.log(8 * PI**2))
    assert mf.U(1).log_volume == pytest.approx(math.log(2 * PI))
    assert mf.SU(2).log_volume == pytest.approx(mf.Sphere(3).log_volume + 3 * math.log(math.sqrt(2)))
    # U(n) is the circle of determinants times SU(n) over n points, the circle of the multiples of 1 sqrt(n) 2 pi long
    for n in (2, 5):
        assert mf.U(n).log_volume == pytest.approx(mf.SU(n).log_volume + math.log(2 * PI / math.sqrt(n)))
    assert mf.Product(mf.Sphere(2), mf.SO(3)).log_volume == pytest.approx(math.log(4 * PI * 8 * PI**2))


@pytest.mark.slow
@pytest.mark.parametrize("manifold", [mf.Sphere(3), mf.SO(3), mf.SO(4), mf.U(2), mf.SU(2), mf.SU(3)], ids=repr)
def test_volumes_against_the_jacobian_of_exp(manifold):
    """The share of a ball of radius r in the uniform law is its volume over the whole:

    E_u[r <= radius] Vol = int_(|v| <= r) |det dexp| dv, with det dexp = 1 - Ric(v, v)/6 + O(r^4).
    """
    num, r, d = 60_000, 1.2, manifold.dim
    if d >= 6:
        num, r = 200_000, 1.7
    x = draws(manifold, 1)[0]
    y = draws(manifold, num, 3)
    inside = np.asarray(jax.jit(jax.vmap(manifold.distance, (None, 0)))(x, y) < r, np.float64)
    v = jax.vmap(manifold.tangent_normal, (0, None))(bj.keys(jax.random.key(1), 2000), x)

    def jacobian(v):  # along a random direction, at a random radius of the ball
        basis = jax.vmap(manifold.tangent_normal, (0, None))(bj.keys(jax.random.key(2), d), x)
        gram = jax.vmap(lambda a: jax.vmap(lambda b: manifold.inner(x, a, b))(basis))(basis)
        pushed = jax.vmap(lambda b: jax.jvp(lambda v: manifold.exp(x, v), (v,), (b,))[1])(basis)
        return jnp.sqrt(
            jnp.linalg.det(jax.vmap(lambda a: jax.vmap(lambda b: manifold.inner(x, a, b))(pushed))(pushed))
            / jnp.linalg.det(gram)
        )

    radius = r * jax.random.uniform(jax.random.key(9), (len(v),)) ** (1.0 / d)
    norms = jnp.sqrt(jax.vmap(lambda v: manifold.inner(x, v, v))(v))
    v = v * (radius / norms).reshape(-1, *(1,) * (v.ndim - 1))
    factors = np.asarray(jax.jit(jax.vmap(jacobian))(v), np.float64)
    ball = math.exp(0.5 * d * math.log(PI) - math.lgamma(0.5 * d + 1) + d * math.log(r) - manifold.log_volume)
    expected, error = ball * factors.mean(), ball * factors.std() / math.sqrt(len(factors))
    assert abs(inside.mean() - expected) < 5 * math.hypot(error, inside.std() / math.sqrt(num))
    assert inside.sum() > 400


@pytest.mark.parametrize("manifold", few([mf.Sphere(4), mf.SO(4), mf.U(2), mf.SU(3)], [mf.U(2)]))
def test_ricci_is_the_second_order_of_the_volume(manifold):
    """det dexp_x(r v) = 1 - r^2 Ric(v, v) / 6 + O(r^3), by small steps in float64."""
    with jax.enable_x64(True):
        x = manifold.project(draws(manifold, 1)[0].astype(jnp.float64))
        keys = bj.keys(jax.random.key(2), manifold.dim)
        basis = jax.vmap(lambda k: manifold.to_tangent(x, jax.random.normal(k, manifold.shape, jnp.float64)))(keys)
        v, r = basis[0], 1e-2

        def volume(v):
            pushed = jax.vmap(lambda b: jax.jvp(lambda v: manifold.exp(x, v), (v,), (b,))[1])(basis)
            flat = pushed.reshape(manifold.dim, -1)
            return 0.5 * jnp.linalg.slogdet(flat @ flat.T)[1]

        v = v / jnp.sqrt(manifold.inner(x, v, v))
        found = (jax.jit(volume)(r * v) - volume(0 * v)) / r**2
        np.testing.assert_allclose(-6.0 * found, manifold.inner(x, manifold.ricci(x, v), v), rtol=1e-3, atol=1e-4)


# projections, conversions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifold", few([mf.Sphere(2), mf.SO(3), mf.SO(4), mf.U(2)], [mf.SO(4)]))
def test_projection_is_nearest(manifold):
    z = jax.random.normal(jax.random.key(1), (30, *manifold.shape))
    p = jax.vmap(manifold.project)(z)
    assert bool(jnp.all(jax.vmap(manifold.contains)(p)))

    def off(a):
        return jnp.sum((z - a) ** 2, axis=tuple(range(1, z.ndim)))

    for seed in range(3):
        around = jax.vmap(manifold.tangent_normal)(bj.keys(jax.random.key(seed), 30), p)
        assert bool(jnp.all(off(jax.vmap(manifold.exp)(p, 0.1 * around)) > off(p)))
    assert bool(jnp.all(off(draws(manifold, 30)) > off(p)))


def test_quaternions_and_rotation_vectors():
    r = draws(mf.SO(3), 200)
    q = mf.rotations.to_quaternion(r)
    np.testing.assert_allclose(jnp.sum(q**2, 1), 1.0, atol=1e-6)
    np.testing.assert_allclose(mf.rotations.from_quaternion(q), r, atol=2e-6)
    np.testing.assert_allclose(mf.rotations.from_quaternion(-3.0 * q), r, atol=2e-6)
    np.testing.assert_allclose(mf.rotations.from_vector(mf.rotations.to_vector(r)), r, atol=3e-6)
    quarter = mf.rotations.from_quaternion([0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)])  # about z, scalar last
    np.testing.assert_allclose(quarter @ jnp.array([1.0, 0.0, 0.0]), [0.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(mf.rotations.to_vector(quarter), [0.0, 0.0, PI / 2], atol=1e-6)
    np.testing.assert_array_equal(mf.rotations.from_quaternion([0.0, 0.0, 0.0, 1.0]), np.eye(3))


def test_latitude_and_longitude():
    lat, lon = jnp.array([90.0, 0.0, 0.0, -35.0]), jnp.array([13.0, 90.0, 270.0, 150.0])
    x = mf.earth.from_degrees(lat, lon)
    np.testing.assert_allclose(x[:3], [[0, 0, 1], [0, 1, 0], [0, -1, 0]], atol=1e-6)
    back = mf.earth.to_degrees(x)
    np.testing.assert_allclose(back[0], lat, atol=1e-3)
    np.testing.assert_allclose(back[1][1:], [90.0, -90.0, 150.0], atol=1e-3)
    slopes = jax.grad(lambda x: sum(mf.earth.to_degrees(x)))(jnp.array([0.0, 0.0, 1.0]))
    assert bool(jnp.all(jnp.isfinite(slopes)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mf.SO(1), "n must be an integer >= 2, got 1"),
        (lambda: mf.SU(1), "n must be an integer >= 2, got 1"),
        (lambda: mf.Sphere(0), "d must be an integer >= 1, got 0"),
        (lambda: mf.Product(3), "Product takes manifolds"),
        (
            lambda: mf.Sphere(2).check(jnp.array([1.0, 1.0, 0.0])),
            "off by 0.414; take the nearest point, manifold.project",
        ),
        (lambda: mf.Sphere(2).check(jnp.ones((2, 4))), r"last axes \(3,\)"),
        (lambda: mf.Sphere(2).check(jnp.ones(3) * 1j), "must be real"),
        (
            lambda: mf.SO(3).check(jnp.stack([jnp.eye(3), jnp.diag(jnp.array([1.0, 1.0, -1.0]))])),
            "reflection.*row 1 of 2",
        ),
        (lambda: mf.SO(3).check(1.1 * jnp.eye(3)), "off by 0.331"),
        (lambda: mf.U(2).check(jnp.eye(2) * 1j), "real_pair"),
        (lambda: mf.U(2).exp(jnp.eye(2) * 1j, jnp.eye(2)), "real_pair"),
        (lambda: mf.SO(3).exp(jnp.zeros((5, 3, 3)), jnp.zeros((5, 3, 3))), "one point.*use vmap"),
        (lambda: mf.Torus(2).check(jnp.array([10.0, 200.0])), "beyond pi by 197; wrap.*deg2rad"),
        (lambda: mf.Torus(2).check(jnp.array([jnp.nan, 0.0])), "not finite"),
        (
            lambda: mf.Product(mf.Torus(1), mf.Sphere(2)).check((jnp.zeros(1), jnp.zeros(3))),
            r"x\[1\] must lie on Sphere",
        ),
        (lambda: mf.Product(mf.Torus(1), mf.Sphere(2)).check(jnp.zeros(4)), "tuple of 2"),
        (lambda: mf.rotations.from_quaternion(jnp.zeros(4)), "norm 0.*the identity is"),
        (lambda: mf.earth.from_degrees(100.0, 20.0), "latitude must be degrees in .-90, 90., got 100; are the columns"),
        (lambda: mf.Euclidean(2).uniform(jax.random.key(0)), "no uniform law"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_good_input_comes_back():
    assert mf.Sphere(2).check(np.eye(3)).shape == (3, 3)
    parts = mf.Product(mf.Torus(1), mf.SO(3)).check((np.zeros((4, 1)), np.stack([np.eye(3)] * 4)))
    assert [part.shape for part in parts] == [(4, 1), (4, 3, 3)]
    leaves, treedef = jax.tree.flatten(mf.Product(mf.Torus(1), mf.SO(3)))
    assert jax.tree.unflatten(treedef, leaves) == mf.Product(mf.Torus(1), mf.SO(3))
    assert hash(mf.SO(3)) == hash(mf.SO(3))


@pytest.mark.parametrize("name", ["project", "defect", "to_tangent", "exp", "log", "distance"])
@pytest.mark.parametrize("manifold", [mf.Sphere(2), mf.SO(3), mf.U(2)], ids=repr)
def test_many_points_without_vmap_are_refused(manifold, name):
    """Rows taken together are one long vector, whose length is not theirs."""
    x = jax.vmap(manifold.uniform)(jax.random.split(jax.random.key(0), 4))
    arguments = (x,) if name in ("project", "defect") else (x, x)
    with pytest.raises(ValueError, match="x must be one point of .*; use vmap"):
        getattr(manifold, name)(*arguments)
