"""Learning on manifolds: closed-form targets against differences, sums and Monte Carlo, and small trained models."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax import manifolds as mf
from bridgejax.methods.manifolds import _fields, _lifts, manifold_bridge, riemannian_flow, riemannian_score
from bridgejax.oracles import heat
from bridgejax.training import adam

GROUPS = [mf.U(2), mf.U(4), mf.SO(3), mf.SO(4)]


def within(values, truth, bias=0.0):
    values = np.asarray(values, np.float64)
    error = values.std(0, ddof=1) / math.sqrt(len(values))
    assert np.all(np.abs(values.mean(0) - truth) < 5 * error + bias), (values.mean(0), truth, error)


def wide(tree):
    return jax.tree.map(lambda a: a.astype(jnp.result_type(a, jnp.float64)), tree)


# the projected method: targets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifold", GROUPS, ids=repr)
def test_group_targets_are_derivatives_of_eigenvectors(manifold):
    """d phi along -eps, by central differences of eigh with phases aligned, to 1e-5 relative."""
    with jax.enable_x64(True):
        lift = _lifts.lift_of(manifold, 1.0)
        x = manifold.project(manifold.uniform(jax.random.key(3)).astype(jnp.float64))
        up, eps = wide(lift.up(x)), wide(lift.noise(jax.random.key(1)))
        z = jax.tree.map(lambda a, b: 0.8 * a + 0.3 * b, up, eps)
        made = lift.targets(z, eps, 0.0, 1e-6)
        values, u = lift._eigen(z[0])

        def frame(s):
            v = np.asarray(lift._eigen(z[0] - s * eps[0])[1])
            overlap = np.sum(np.conj(np.asarray(u)) * v, axis=0)
            return v * np.conj(overlap / np.abs(overlap))  # parallel: u_i . du_i = 0

        h = 1e-5
        want = (frame(h) - frame(-h)) / (2 * h)
        size = made.m.size - lift.angles
        k = lift._matrix(made.m[:size].reshape(manifold.shape))
        assert np.linalg.norm(u @ k - want) < 1e-5 * np.linalg.norm(want)
        n = manifold.n
        gaps = np.asarray(values)[None] - np.asarray(values)[:, None] + np.eye(n)
        np.testing.assert_allclose(made.c.reshape(n, n), 1.0 / gaps**2, rtol=1e-9)
        assert float(made.clipped) == 0.0
        # as a tangent vector at the state, whatever the phases of the frame there
        y = made.y
        turned = y
        if not lift.real:
            phases = jnp.exp(1j * jnp.arange(1.0, n + 1))
            turned = (mf.real_pair(mf.complex_of(y[0]) * phases), y[1])
            np.testing.assert_allclose(lift.features(turned), lift.features(y), atol=1e-9)
        moved = lift._matrix(lift.drift(turned, made.m)[0])
        base, canonical = lift._matrix(turned[0]), u @ k
        frames = base * jnp.conj(lift._phases(base))
        np.testing.assert_allclose(frames, u, atol=1e-9)
        np.testing.assert_allclose(moved * jnp.conj(lift._phases(base)), canonical, atol=1e-9)


def test_sphere_targets_are_derivatives_of_the_projection():
    with jax.enable_x64(True):
        lift = _lifts.lift_of(mf.Sphere(3), 1.0)
        z, eps = jax.random.normal(jax.random.key(0), (2, 4), jnp.float64)
        made = lift.targets(z, eps, 1.0, 1e-9)
        want = jax.jvp(lambda z: z / jnp.linalg.norm(z), (z,), (-eps,))[1]
        np.testing.assert_allclose(made.m, want, rtol=1e-12)
        np.testing.assert_allclose(made.c[0], 1.0 / jnp.sum(z**2), rtol=1e-12)


@pytest.mark.parametrize("manifold", [mf.U(3), mf.SO(3), mf.Sphere(2)], ids=repr)
def test_mean_and_covariance_of_a_projected_step(manifold):
    """One small flat step of the reversal, projected: its mean and covariance are the drift and c, at 5 s.e."""
    with jax.enable_x64(True):
        lift = _lifts.lift_of(manifold, 1.0)
        x = manifold.project(wide(manifold.uniform(jax.random.key(3))))
        eps = wide(lift.noise(jax.random.key(1)))
        sigma, h = 0.4, 2e-5
        z = jax.tree.map(lambda a, b: math.sqrt(1 - sigma**2) * a + sigma * b, wide(lift.up(x)), eps)
        made = lift.targets(z, eps, 0.0, 1e-9)

        def moved(key, sign):  # dH = beta s dr + sqrt(beta) dB, beta = 1: antithetic noise
            w = wide(lift.noise(key))
            after = jax.tree.map(lambda a, e, w: a - h * e / sigma + sign * math.sqrt(h) * w, z, eps, w)
            y, there = made.y, lift.down(after)
            if isinstance(manifold, mf.Sphere):
                return manifold.log(y, there), w
            u, v = (lift._matrix(part[0]) for part in (y, there))
            overlap = jnp.sum(jnp.conj(u) * v, axis=0)
            v = v * jnp.conj(overlap / jnp.abs(overlap))
            return jnp.conj(u.T) @ v - jnp.eye(manifold.n), w  # in the moving frame

        keys = bj.keys(jax.random.key(2), 40_000)
        plus, minus = (jax.jit(jax.vmap(lambda k, s=s: moved(k, s)[0]))(keys) for s in (1.0, -1.0))
        mean, second = (
            np.asarray(0.5 * (plus + minus) / h),
            np.asarray(0.5 * (np.abs(plus) ** 2 + np.abs(minus) ** 2) / h),
        )
        if isinstance(manifold, mf.Sphere):
            c = float(made.c[0])
            within(mean, np.asarray(made.m) / sigma, bias=0.02)
            within(second.sum(1), c * manifold.dim, bias=0.01 * c)
            return
        n, (base, _) = manifold.n, (lift._matrix(made.y[0]), None)
        k = np.conj(base.T) @ np.asarray(lift._matrix(lift.drift(made.y, made.m)[0])) / sigma
        c = np.asarray(made.c).reshape(n, n)
        off = ~np.eye(n, dtype=bool)
        within(mean[:, off].real, k[off].real, bias=0.02)
        within(mean[:, off].imag, k[off].imag, bias=0.02)
        within(second[:, off], c[off], bias=0.02 * c[off])
        # the part that is normal to the group, which a geodesic step supplies: -1/2 sum of the covariances
        within(mean[:, ~off].real, -0.5 * np.where(off, c, 0.0).sum(0), bias=0.02)


def test_torus_target_has_the_mean_field_of_the_sum_over_images():
    """E[m | y] by self-normalised weights over images and draws, against f* in closed form for a wrapped normal."""
    lift, alpha, sigma, mu, tau = _lifts.lift_of(mf.Torus(1), 1.0), 0.7, 0.6, 0.4, 0.5
    ratio = 0.3
    variance = (alpha * tau) ** 2 + sigma**2
    # data N(mu, tau^2) before they are wrapped; flat law N(alpha mu, variance)
    x = mu + tau * jax.random.normal(jax.random.key(0), (400_000, 1))
    eps = jax.random.normal(jax.random.key(1), x.shape)
    made = jax.jit(jax.vmap(lambda x, e: lift.targets(alpha * x + sigma * e, e, ratio, 0.0)))(x, eps)
    k = np.arange(-4, 5)
    for y in (-2.5, 0.0, 1.0, 3.0):
        images = y + 2 * np.pi * k
        weights = np.exp(-0.5 * (images - alpha * mu) ** 2 / variance)
        field = ratio * images + sigma * (-(images - alpha * mu) / variance)
        want = np.sum(weights * field) / np.sum(weights)
        near = np.abs(np.angle(np.exp(1j * (np.asarray(made.y)[:, 0] - y)))) < 0.05
        within(np.asarray(made.m)[near, 0], want, bias=0.03)


# the slips of the official code -------------------------------------------------------------------------------------


def linear_end(coefficient, start):
    """Variance at the data of the reversal of N(0, 0.2) under beta from 0.1 to 0.3, int beta = 0.2."""
    v, n = start, 20_000
    for k in range(n):
        t = 1.0 - (k + 0.5) / n
        beta, passed = 0.1 + 0.2 * t, 0.1 * t + 0.1 * t * t
        score = -1.0 / (0.2 * math.exp(-passed) + 1.0 - math.exp(-passed))
        v += (2.0 * (0.5 * beta + coefficient * beta * score) * v + beta) / n
    return v


def test_the_score_counts_once():
    """The coefficient of the score in the target is g^2: from the law at T it ends at the data, 2 g^2 does not."""
    schedule = bj.schedules.vp(0.1, 0.3)
    lift, t = _lifts.lift_of(mf.Torus(1), 1.0), 0.4
    sigma, g2 = float(schedule.sigma(t)), float(schedule.diffusion_squared(t))
    ratio = -float(schedule.rate(t)) * sigma / g2
    z, eps = jnp.array([0.3]), jnp.array([1.7])
    drift = float((g2 / sigma) * lift.targets(z, eps, ratio, 0.0).m[0])
    score = -1.7 / sigma
    coefficient = (drift - 0.5 * g2 * 0.3) / (g2 * score)
    assert coefficient == pytest.approx(1.0, abs=1e-5)
    law = 0.2 * math.exp(-0.2) + 1.0 - math.exp(-0.2)
    assert linear_end(coefficient, law) == pytest.approx(0.200, abs=1e-3)
    assert linear_end(2.0 * coefficient, 1.0) == pytest.approx(0.122, abs=1e-3)  # as the official code runs


def test_a_start_that_is_not_the_law_at_the_end_is_refused():
    """From N(0, 1) the same reversal ends at 0.380 for a true 0.200: such a schedule is refused."""
    assert linear_end(1.0, 1.0) == pytest.approx(0.380, abs=1e-3)
    with pytest.raises(ValueError, match="schedule must be a Schedule that ends in noise"):
        bj.methods.projected(mf.Torus(1), schedule=bj.schedules.vp(0.1, 0.3))


def test_the_noise_is_invariant_and_its_frames_are_haar():
    for manifold, diagonal in ((mf.U(3), 1.0), (mf.SO(3), 2.0)):
        lift = _lifts.lift_of(manifold, 1.0)
        noise = jax.jit(jax.vmap(lambda k, lift=lift: lift.noise(k)[0]))(bj.keys(jax.random.key(0), 20_000))
        index = np.arange(3)
        within(np.asarray(noise)[:, index, index].real ** 2, diagonal)
        within(np.abs(np.asarray(noise)[:, 0, 1]) ** 2, 1.0)
        process = bj.methods.projected(manifold).process
        state = bj.methods.projected(manifold).init(jax.random.key(0), None)
        start = process(state).start
        y = jax.jit(jax.vmap(lambda k, start=start: start(k, None)))(bj.keys(jax.random.key(1), 20_000))
        u = np.abs(np.asarray(y[0] if lift.real else mf.complex_of(y[0]))) ** 2
        truth = 3.0 / 15.0 if lift.real else 2.0 / 12.0
        within(u**2, truth)  # in every entry
        off = np.asarray(noise) - np.asarray(noise) * np.eye(3) * (1.0 - math.sqrt(2.0 / diagonal))
        wrong = np.abs(np.linalg.eigh(off)[1]) ** 4  # with the official diagonal, 2 for U(n)
        spread = wrong.mean(0) - truth
        if not lift.real:
            assert np.max(np.abs(spread)) > 5 * wrong.std() / math.sqrt(len(wrong))


@pytest.mark.parametrize("manifold", GROUPS, ids=repr)
def test_phases_and_signs_return(manifold):
    lift = _lifts.lift_of(manifold, reference=manifold.uniform(jax.random.key(8)))
    x = jax.vmap(manifold.uniform)(bj.keys(jax.random.key(0), 300))
    back = jax.jit(jax.vmap(lambda x: lift.decode(lift.down(lift.up(x)))))(x)
    np.testing.assert_allclose(back, x, atol=2e-5)
    if lift.real:
        assert len(set(map(tuple, np.sign(np.asarray(x[:, 0]))))) > 3  # or there was nothing to lose


def test_clipping_is_counted():
    lift = _lifts.lift_of(mf.SO(3))
    eps = jax.jit(jax.vmap(lift.noise))(bj.keys(jax.random.key(0), 4000))
    made = jax.jit(jax.vmap(lambda e: lift.targets(e, e, 0.0, 0.5)))(eps)
    gaps = np.diff(np.linalg.eigvalsh(np.asarray(eps[0])), axis=1)
    pairs = np.concatenate([gaps, gaps.sum(1, keepdims=True)], 1)
    assert float(jnp.mean(made.clipped)) == pytest.approx(np.mean(pairs < 0.5), abs=1e-6)
    assert float(jnp.max(made.c)) <= 4.0 + 1e-5


# the other targets ----------------------------------------------------------------------------------------------------


KNOWN = [mf.Torus(2), mf.Sphere(2), mf.SO(3), mf.Product(mf.Sphere(2), mf.Torus(1))]


@pytest.mark.parametrize("manifold", KNOWN, ids=repr)
def test_kernel_score_is_the_gradient_of_the_kernel(manifold):
    """Along geodesics from x, by central differences; near the start it is Varadhan's."""

    def log_p(manifold, x, x0, t):
        if isinstance(manifold, mf.Product):
            return sum(log_p(m, a, b, t) for m, a, b in zip(manifold.parts, x, x0, strict=True))
        if isinstance(manifold, mf.Torus):
            return jnp.sum(heat.circle_log_prob(x - x0, t))
        kernel = heat.sphere_log_prob if isinstance(manifold, mf.Sphere) else heat.rotation_log_prob
        return kernel(manifold.distance(x, x0), t)

    with jax.enable_x64(True):
        x0, x = (manifold.project(wide(manifold.uniform(jax.random.key(k)))) for k in (0, 1))
        v = manifold.tangent_normal(jax.random.key(2), x)
        for t in (0.1, 1.0, 5.0):
            score = riemannian_score.kernel_score(manifold, x, x0, t)
            f = lambda s, t=t: log_p(manifold, manifold.exp(x, jax.tree.map(lambda a: s * a, v)), x0, t)  # noqa: E731
            want = (f(1e-4) - f(-1e-4)) / 2e-4
            np.testing.assert_allclose(manifold.inner(x, score, v), want, rtol=1e-5, atol=1e-6)
        near = manifold.exp(x0, jax.tree.map(lambda a: 0.05 * a, manifold.to_tangent(x0, v)))
        a, b = (f(manifold, near, x0, 0.01) for f in (riemannian_score.kernel_score, riemannian_score.varadhan_score))
        gap = jax.tree.map(lambda a, b: a - b, a, b)
        assert float(manifold.inner(near, gap, gap)) < 2e-3 * float(manifold.inner(near, a, a))
        at_start = riemannian_score.kernel_score(manifold, x0, x0, 0.1)
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(at_start))


def test_walks_end_at_the_heat_kernel(key):
    manifold, x0 = mf.Sphere(2), jnp.array([0.0, 0.0, 1.0])
    x = jax.jit(jax.vmap(lambda k: _fields.brownian_walk(manifold, k, x0, 0.6, 6)))(bj.keys(key, 20_000))
    within(x[:, 2], math.exp(-0.6), bias=2e-3)
    angle = jax.jit(jax.vmap(lambda k: _fields.brownian_walk(mf.Torus(1), k, jnp.zeros(1), 3.0, 10)))(
        bj.keys(key, 20_000)
    )
    within(jnp.cos(angle[:, 0]), math.exp(-1.5))


def test_geodesics_and_bridges_end_at_their_ends(key):
    manifold = mf.SO(3)
    x0, x1 = manifold.uniform(jax.random.key(0)), manifold.uniform(jax.random.key(1))
    for t, end in ((jnp.float32(0.0), x0), (jnp.float32(1.0), x1)):
        x, velocity = riemannian_flow.geodesic(manifold, t, x0, x1)
        np.testing.assert_allclose(x, end, atol=1e-5)
        np.testing.assert_allclose(manifold.inner(x, velocity, velocity), manifold.distance(x0, x1) ** 2, rtol=1e-4)
    x, velocity = riemannian_flow.geodesic(manifold, jnp.float32(0.6), x0, x1)
    np.testing.assert_allclose(velocity, manifold.log(x, x1) / 0.4, atol=1e-5)
    end = manifold_bridge.bridge_walk(manifold, key, x0, x1, 1.0, 1.0, 15)
    np.testing.assert_allclose(end, x1, atol=1e-5)
    # on a torus far from its seam it is the Brownian bridge: N((1 - t) x0 + t x1, sigma^2 t (1 - t)) for any steps
    a, b, t, sigma = jnp.array([-0.2]), jnp.array([0.3]), 0.4, 0.3
    walk = jax.vmap(lambda k: manifold_bridge.bridge_walk(mf.Torus(1), k, a, b, t, sigma, 3))(bj.keys(key, 20_000))
    within(walk[:, 0], 0.6 * -0.2 + 0.4 * 0.3)
    within((walk[:, 0] - 0.0) ** 2, sigma**2 * t * (1 - t))


@pytest.mark.parametrize("manifold", [mf.Sphere(2), mf.SO(3), mf.U(3)], ids=repr)
def test_projected_paths_run_from_the_uniform_law_to_the_data(manifold, key):
    with jax.enable_x64(True):
        x1 = manifold.project(wide(manifold.uniform(jax.random.key(0))))
        z = riemannian_flow._normal(key, x1)
        x, velocity = riemannian_flow.projected_path(manifold, 0.4, z, x1)
        after, before = (riemannian_flow.projected_path(manifold, 0.4 + s, z, x1)[0] for s in (1e-5, -1e-5))
        np.testing.assert_allclose(velocity, (after - before) / 2e-5, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(manifold.to_tangent(x, velocity), velocity, atol=1e-12)
        np.testing.assert_allclose(riemannian_flow.projected_path(manifold, 1.0, z, x1)[0], x1, atol=1e-12)
    draw = jax.jit(jax.vmap(lambda k: manifold.project(riemannian_flow._normal(k, jnp.float32(x1)))))
    x = draw(bj.keys(key, 20_000))
    first = x[:, 0] if x.ndim == 2 else x[:, 0, 0] if isinstance(manifold, mf.SO) else x[:, 0, 0, 0]
    within(first, 0.0)
    within(first**2, 1 / 3 if not isinstance(manifold, mf.U) else 1 / 6)
    within(first**4, 1 / 5 if not isinstance(manifold, mf.U) else 1 / 16)


def test_implicit_matching_has_the_gradient_of_explicit_matching(key):
    """d/d theta of E (|s|^2/2 + div s) and of E |s - score|^2 / 2 agree, on the sphere, for s = theta P a."""
    manifold, a = mf.Sphere(2), jnp.array([0.2, -0.5, 0.9])
    x = jax.vmap(lambda k: _fields.brownian_walk(manifold, k, jnp.array([0.0, 0.6, 0.8]), 0.5, 10))(
        bj.keys(key, 20_000)
    )
    from bridgejax.weigh._divergence import divergence

    def parts(x):
        exact = divergence(lambda x: manifold.to_tangent(x, a), x, None, manifold)[1]
        score = riemannian_score.kernel_score(manifold, x, jnp.array([0.0, 0.6, 0.8]), 0.5)
        return exact, manifold.inner(x, manifold.to_tangent(x, a), score)

    exact, product = jax.jit(jax.vmap(parts))(x)
    within(np.asarray(exact + product), 0.0, bias=0.01)  # E div = -E <s, score>


# trained --------------------------------------------------------------------------------------------------------------

CENTRE = jnp.array([0.0, 0.6, 0.8])


def caps(num):
    """Brownian motion from CENTRE after 0.3: E cos angle = e^(-0.3)."""
    walk = jax.jit(jax.vmap(lambda k: _fields.brownian_walk(mf.Sphere(2), k, CENTRE, 0.3, 8)))
    return walk(bj.keys(jax.random.key(11), num))


METHODS = {
    "flow": lambda: bj.methods.riemannian_flow(mf.Sphere(2)),
    "projected flow": lambda: bj.methods.riemannian_flow(mf.Sphere(2), path="projected"),
    "heat kernel": lambda: bj.methods.riemannian_score(mf.Sphere(2), target="heat_kernel", sampler="sde"),
    "score": lambda: bj.methods.riemannian_score(mf.Sphere(2)),
    "varadhan": lambda: bj.methods.riemannian_score(mf.Sphere(2), target="varadhan"),
    "implicit": lambda: bj.methods.riemannian_score(mf.Sphere(2), target="implicit"),
    "bridge": lambda: bj.methods.manifold_bridge(mf.Sphere(2)),
    "projected": lambda: bj.methods.projected(mf.Sphere(2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_trained_on_a_cap(name, key):
    """1,500 updates: the mean direction within 0.05 of the truth, and the likelihood where there is one."""
    method = METHODS[name]()
    state = bj.fit(method, caps(20_000), key, steps=1500, batch_size=256)
    process = method.process(state)
    x = bj.sample(process, bj.keys(jax.random.key(1), 4000))
    assert bool(jnp.all(jax.vmap(mf.Sphere(2).contains)(x)))
    if name == "varadhan":  # too near the centre, as the head of its file says
        assert 0.85 < float(jnp.mean(x @ CENTRE)) < 0.98
        return
    within(x @ CENTRE, math.exp(-0.3), bias=0.05)
    if process.dynamics.diffusion is None:
        test = caps(64)
        truth = heat.sphere_log_prob(jax.vmap(mf.Sphere(2).distance, (None, 0))(CENTRE, test), 0.3)
        ts = bj.grids.uniform(50, process.dynamics.T)
        found = jax.jit(jax.vmap(lambda x: bj.log_prob(process, key, x, ts=ts).value))(test)
        assert abs(float(jnp.mean(found - truth))) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("manifold", [mf.U(2), mf.SO(3), mf.Torus(2)], ids=repr)
def test_projected_on_groups(manifold, key):
    """A cap around a point: E of the distance, and of the entries of a matrix, within 0.08 of the data's."""
    centre = manifold.uniform(jax.random.key(5))
    walk = jax.jit(jax.vmap(lambda k: _fields.brownian_walk(manifold, k, centre, 0.2, 8)))
    data = walk(bj.keys(jax.random.key(11), 20_000))
    middle = None if isinstance(manifold, mf.Torus) else manifold.project(jnp.mean(data, 0))
    method = bj.methods.projected(manifold, reference=middle, optimizer=adam(2e-3, steps=4000))
    state = bj.fit(method, data, key, steps=4000, batch_size=256)
    x = bj.sample(method.process(state), bj.keys(jax.random.key(1), 3000))
    assert bool(jnp.all(jax.vmap(manifold.contains)(x)))
    far = jax.vmap(manifold.distance, (None, 0))
    within(far(centre, x), float(jnp.mean(far(centre, data))), bias=0.08)
    if middle is not None:
        np.testing.assert_allclose(jnp.mean(x, 0), jnp.mean(data, 0), atol=0.08)


def test_every_method_makes_a_step_and_a_sample(key):
    cases = [(name, make(), caps(64)) for name, make in METHODS.items()]
    for manifold in (mf.U(2), mf.SO(3)):
        data = jax.vmap(manifold.uniform)(bj.keys(key, 64))
        cases.append((repr(manifold), bj.methods.projected(manifold, ts=bj.grids.uniform(3)), data))
    for name, method, data in cases:
        state = method.init(key, data)
        state, metrics = jax.jit(method.step)(state, key, data)
        assert all(bool(jnp.isfinite(value)) for value in metrics.values()), (name, metrics)
        process = method.process(state)
        short = process.ts[jnp.array([0, 1, len(process.ts) - 2])]
        x = bj.sample(process, bj.keys(key, 3), ts=short)
        assert x.shape == (3, *data.shape[1:]), name
        assert bool(jnp.all(jnp.isfinite(x))), name


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bj.methods.riemannian_flow("sphere"), "manifold must be one of bridgejax.manifolds"),
        (lambda: bj.methods.riemannian_flow(mf.Euclidean(2)), "finite volume.*in R.d: methods.diffusion"),
        (lambda: bj.methods.riemannian_flow(mf.Sphere(2), path="straight"), "path must be one of"),
        (lambda: bj.methods.riemannian_flow(mf.Torus(2), path="projected"), "for Sphere, SO and U.*path='geodesic'"),
        (lambda: bj.methods.riemannian_score(mf.SO(4), target="heat_kernel"), "not known here; use target='varadhan'"),
        (lambda: bj.methods.riemannian_score(mf.Sphere(2), target="exact"), "target must be one of"),
        (lambda: bj.methods.riemannian_score(mf.Sphere(2), schedule=bj.schedules.vp()), "alpha = 1"),
        (lambda: bj.methods.projected(mf.SU(2)), "knows Torus, Sphere, SO and U.*riemannian_flow"),
        (lambda: bj.methods.projected(mf.U(2), floor=0.0), "floor must be positive"),
        (lambda: bj.methods.manifold_bridge(mf.Sphere(2), sigma=-1.0), "sigma must be positive"),
    ],
)
def test_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_data_off_the_manifold_are_refused(key):
    method = bj.methods.riemannian_flow(mf.Sphere(2))
    with pytest.raises(ValueError, match="last axes"):
        method.step(method.init(key, None), key, jnp.ones((8, 4)))
    with pytest.raises(ValueError, match="batch must lie on Sphere"):
        method.step(method.init(key, None), key, jnp.ones((8, 3)))


@pytest.mark.parametrize(
    "make", [bj.methods.riemannian_flow, bj.methods.riemannian_score, bj.methods.manifold_bridge, bj.methods.projected]
)
def test_fit_looks_at_data_before_it_compiles(make, key):
    """A compiled step cannot look at its rows, so init does, also at those of a dictionary."""
    method = make(mf.Sphere(2))
    for data in (0.5 * caps(16), {"x": 0.5 * caps(16), "label": jnp.zeros(16, int)}):
        with pytest.raises(ValueError, match="batch must lie on Sphere.*off by 0.5"):
            bj.fit(method, data, key, steps=1, batch_size=8)


def test_waves_are_sines_and_cosines_of_octaves():
    """Of 1/2: sin and cos of pi/2, pi, 2 pi, 4 pi; of two numbers each octave has both."""
    np.testing.assert_allclose(_fields.waves(jnp.array([0.5])), [0.5, 1, 0, 0, 0, 0, -1, 1, 1], atol=1e-5)
    found = _fields.waves(jnp.array([0.1, -0.2]))
    assert found.shape == (18,)
    np.testing.assert_allclose(found[4:6], np.sin(2 * np.pi * np.array([0.1, -0.2])), rtol=1e-6)
    np.testing.assert_allclose(found[-2:], np.cos(8 * np.pi * np.array([0.1, -0.2])), rtol=1e-5)
