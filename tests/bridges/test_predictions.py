"""predictions.solve against truth: every conversion that is determined, on every path, and a refusal for the others.

Whether a request is determined is decided here by linear algebra in float64: on (x0, x1, eps) each quantity is a row
built from automatic derivatives of the path, and a request is determined if its row lies in the span of the rows of
x_t and of what is known.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpolant_family import FAMILY, NAMES

from bridgejax.bridges import Interpolant, interpolants, predictions
from bridgejax.processes import schedules

QUANTITIES = predictions.QUANTITIES
SUBSETS = [c for size in (1, 2) for c in itertools.combinations(QUANTITIES, size)]


def has(path, name):
    if name.endswith("drift"):
        return path.c is not None
    two_ended = path.b is not None
    return {"x1": two_ended, "residual": two_ended, "eps": path.c is not None, "score": path.c is not None}.get(
        name, True
    )


@functools.cache
def rows(name, t):
    """Row on (x0, x1, eps) of every quantity and of x_t, in float64, from the path's functions and their slopes."""
    path = FAMILY[name]
    with jax.enable_x64(True):
        pairs = [(0.0, 0.0) if f is None else jax.value_and_grad(f)(jnp.float64(t)) for f in (path.a, path.b, path.c)]
        g2 = 0.0 if path.reference is None else float(path.reference(jnp.float64(t)))
    value, slope = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs], float)
    made = {"x_t": value, "velocity": slope, **dict(zip(("x0", "x1", "eps"), np.eye(3), strict=True))}
    made["residual"] = (made["x1"] - value) / np.sqrt(value[0])
    if path.c is not None:
        made["score"] = np.array([0.0, 0.0, -1.0 / value[2]])
        made["drift"] = slope + 0.5 * g2 * made["score"]
        made["backward_drift"] = -slope + 0.5 * g2 * made["score"]
    return {k: v for k, v in made.items() if k == "x_t" or has(path, k)}


def determined(name, known, to):
    """Whether ``to`` lies in the span of x_t and ``known`` at a time without coincidences."""
    at = rows(name, 0.371 * FAMILY[name].T)
    if to in known:
        return True
    present = [i for i, f in enumerate((FAMILY[name].a, FAMILY[name].b, FAMILY[name].c)) if f is not None]
    basis = np.stack([at["x_t"], *(at[k] for k in known)])[:, present]
    basis = basis / np.maximum(np.linalg.norm(basis, axis=1, keepdims=True), 1e-30)
    target = at[to][present] / max(np.linalg.norm(at[to][present]), 1e-30)  # f = 0 has a drift of 0
    weights = np.linalg.lstsq(basis.T, target, rcond=1e-7)[0]
    return bool(np.linalg.norm(basis.T @ weights - target) < 1e-6)


def requests(name):
    """Every request that makes sense on the path, split in determined and not."""
    path = FAMILY[name]
    sets = [k for k in SUBSETS if all(has(path, n) for n in k)]
    pairs = [(k, to) for k in sets for to in QUANTITIES if has(path, to) and to not in k]
    good = [p for p in pairs if determined(name, *p)]
    return good, [p for p in pairs if p not in good]


@pytest.fixture
def at_many_times(monkeypatch):
    """Let ``solve`` see many times at once: its arithmetic is elementwise, only its derivatives want one time."""
    one = jax.jit(jax.vmap(predictions._coefficients, (None, 0)))
    known = {}

    def coefficients(path, t):
        if (id(path), t.tobytes()) not in known:
            known[id(path), t.tobytes()] = one(path, t)
        return known[id(path), t.tobytes()]

    monkeypatch.setattr(predictions, "as_time", lambda t: t)
    monkeypatch.setattr(predictions, "_coefficients", coefficients)


def truths(name, t, x0, x1, eps):
    at = rows(name, t)
    made = {k: v @ np.stack([x0, x1, eps]) for k, v in at.items()}
    return made.pop("x_t"), made


@pytest.mark.parametrize("name", NAMES)
def test_every_determined_conversion(name, at_many_times):
    """float64, five times, random values."""
    good = requests(name)[0]
    assert len(good) >= 9
    times = FAMILY[name].T * np.array([0.03, 0.2, 0.5, 0.77, 0.96])
    values = np.random.default_rng(0).normal(size=(5, 3))
    made = [truths(name, t, *v) for t, v in zip(times, values, strict=True)]
    with jax.enable_x64(True):
        x = jnp.asarray([x for x, _ in made])
        truth = {k: jnp.asarray([at[k] for _, at in made]) for k in made[0][1]}
        for known, to in good:
            got = predictions.solve(times, x, FAMILY[name], {k: truth[k] for k in known}, to)
            np.testing.assert_allclose(got, truth[to], rtol=1e-6, atol=1e-7, err_msg=f"{known} -> {to}")


def test_the_criterion_has_both_answers():
    counts = {name: tuple(map(len, requests(name))) for name in NAMES}
    assert counts["linear"][1] == 0
    assert all(bad > 0 for name, (_, bad) in counts.items() if FAMILY[name].c is not None), counts
    assert determined("brownian", ("x1",), "drift")
    assert determined("brownian", ("drift",), "x1")
    assert determined("brownian", ("residual",), "drift")
    assert not determined("brownian", ("eps",), "drift")
    assert not determined("brownian", ("drift", "x1"), "eps")
    assert not determined("diffusion_vp", ("drift",), "x0")


@pytest.mark.parametrize("name", NAMES)
def test_an_under_determined_request_raises_while_tracing(name):
    path, bad = FAMILY[name], requests(name)[1]
    x = jnp.zeros(2)
    for known, to in bad:
        with pytest.raises(ValueError, match=rf"'{to}' is not determined by x_t and .*also give one of"):
            jax.eval_shape(lambda t: predictions.solve(t, x, path, dict.fromkeys(known, x), to), jnp.float32(0.5))


def test_under_jit_too():
    @jax.jit
    def f(x, v):
        return predictions.solve(0.5, x, interpolants.brownian(), {"x1": v}, "velocity")

    with pytest.raises(ValueError, match=r"\['x1'\]: this path has the unknowns \['eps', 'x0', 'x1'\]; also give"):
        f(jnp.zeros(2), jnp.zeros(2))


# named identities ----------------------------------------------------------------------------------------------------


@pytest.mark.fast
@settings(max_examples=40, deadline=None)
@given(
    share=st.floats(0.0625, 0.9375, width=32),
    values=st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3),
    name=st.sampled_from([n for n in NAMES if FAMILY[n].c is not None]),
)
def test_score_is_the_gradient_of_the_log_density(share, values, name):
    """grad log N(x_t; a x0 + b x1, c^2) by automatic differentiation, in float32."""
    path, t = FAMILY[name], jnp.float32(share * FAMILY[name].T)
    x0, x1, eps = map(jnp.float32, values)
    got, want = _score_and_gradient(path, t, x0, x1, eps)
    assert float(got) == pytest.approx(float(want), rel=1e-4, abs=1e-4 * (1 + abs(float(eps))) / float(path.c(t)))


@jax.jit
def _score_and_gradient(path, t, x0, x1, eps):
    x = path(t, x0, x1, eps)

    def log_density(x):
        mean = path(t, x0, x1, 0.0 * eps)
        return -0.5 * ((x - mean) / path.c(t)) ** 2

    return predictions.solve(t, x, path, {"eps": eps}, "score"), jax.grad(log_density)(x)


@pytest.mark.parametrize("name", [n for n in NAMES if FAMILY[n].reference is not None])
def test_drifts_sum_to_g2_score(name):
    path = FAMILY[name]
    for share in (0.2, 0.5, 0.9):
        t = share * path.T
        x, truth = truths(name, t, *np.random.default_rng(1).normal(size=(3, 2)))
        with jax.enable_x64(True):
            x0_or_eps = {"x0": truth["x0"], "eps": truth["eps"]}
            both = [predictions.solve(t, x, path, x0_or_eps, to) for to in ("drift", "backward_drift")]
            g2 = float(path.reference(jnp.float64(t)))
        np.testing.assert_allclose(both[0] + both[1], g2 * truth["score"], rtol=1e-9, atol=1e-12)


@pytest.mark.fast
def test_the_bridges_drifts_in_closed_form():
    """Brownian bridge: forward (x1 - x)/(1 - t), backward (x0 - x)/t, whatever sigma; I2SB's and DSBM's targets."""
    x, x0, x1 = jnp.array([0.3, -1.0]), jnp.array([2.0, 0.5]), jnp.array([-1.0, 4.0])
    for sigma in (0.1, 1.0, 3.0):
        path = interpolants.brownian(sigma)
        for t in (0.01, 0.4, 0.99):
            got = predictions.solve(t, x, path, {"x1": x1}, "drift")
            np.testing.assert_allclose(got, (x1 - x) / (1 - t), rtol=1e-5)
            got = predictions.solve(t, x, path, {"x0": x0}, "backward_drift")
            np.testing.assert_allclose(got, (x0 - x) / t, rtol=1e-5)
    # from x0, eps the drift stays finite and exact at t = 0: sigma enters through x_t only
    got = predictions.solve(0.0, x0, interpolants.brownian(2.0), {"x0": x0, "x1": x1}, "drift")
    np.testing.assert_allclose(got, x1 - x0, rtol=1e-6)


def test_the_drift_of_a_noising_path_is_its_linear_drift():
    schedule = schedules.vp()
    x, eps = jnp.array([0.3, -1.0]), jnp.array([1.0, 2.0])
    got = predictions.solve(0.4, x, interpolants.diffusion(schedule), {"eps": eps}, "drift")
    np.testing.assert_allclose(got, schedule.rate(0.4) * x, rtol=1e-6)


def test_an_explicit_g_chooses_another_sde_with_the_same_marginals():
    path, g = interpolants.brownian(0.5), 2.0
    x, truth = truths("brownian", 0.3, *np.random.default_rng(2).normal(size=(3, 2)))
    known = {"velocity": jnp.float32(truth["velocity"]), "eps": jnp.float32(truth["eps"])}
    eps_score = -truth["eps"] / float(path.c(jnp.float32(0.3)))
    for to, sign in (("drift", 1.0), ("backward_drift", -1.0)):
        got = predictions.solve(0.3, jnp.float32(x), path, known, to, g=g)
        np.testing.assert_allclose(got, sign * truth["velocity"] + 0.5 * g**2 * eps_score, rtol=1e-5)
    drift = sign * truth["velocity"] + 0.5 * g**2 * eps_score
    known = {"backward_drift": jnp.float32(drift), "eps": jnp.float32(truth["eps"])}
    got = predictions.solve(0.3, jnp.float32(x), path, known, "velocity", g=g)
    np.testing.assert_allclose(got, truth["velocity"], rtol=1e-4)
    with pytest.raises(ValueError, match="not determined"):
        predictions.solve(0.3, jnp.float32(x), path, {"x1": jnp.float32(x)}, "drift", g=g)


# ends and dtypes ----------------------------------------------------------------------------------------------------


PAIRS = {("x0", "x1"), ("x1", "eps"), ("eps", "velocity")}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(n, jnp.float32) for n in NAMES if n not in ("bridge_ou_reversed", "bridge_ve", "diffusion_karras")]
    + [(n, jnp.bfloat16) for n in ("brownian", "diffusion_vp")],
)
def test_finite_at_both_ends_with_gradients(name, dtype, monkeypatch):
    """Every conversion from one known, and from pairs of them, at 0 and at T, value and gradient."""
    path = FAMILY[name]
    good = [(known, to) for known, to in requests(name)[0] if len(known) == 1 or {known, known[::-1]} & PAIRS]
    x, v = jnp.asarray([1.0, -2.0], dtype), jnp.asarray([0.5, 3.0], dtype)
    coefficients = predictions._coefficients

    def f(t, x, v):
        made = coefficients(path, t)  # once, not once a conversion: the program stays small
        monkeypatch.setattr(predictions, "_coefficients", lambda path, t: made)
        out = jnp.stack([predictions.solve(t, x, path, dict.fromkeys(known, v), to) for known, to in good])
        return jnp.sum(out * jnp.asarray(1e-8, dtype)), out

    run = jax.jit(jax.vmap(jax.grad(f, (0, 1, 2), has_aux=True), (0, None, None)))
    gradients, out = run(jnp.array([0.0, path.T]), x, v)
    assert out.dtype == dtype
    bad = ~np.isfinite(np.asarray(out, np.float32)).all(-1)
    assert not bad.any(), [(good[j], i) for i, j in np.argwhere(bad)]
    for leaf in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(np.asarray(leaf, np.float32)))


def test_what_is_defined_at_the_ends_is_right_there():
    """Clean data and pure noise: nothing singular is asked, so the answers are exact."""
    path = interpolants.diffusion(schedules.vp())
    x, eps = jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0])
    np.testing.assert_array_equal(predictions.solve(0.0, x, path, {"eps": eps}, "x0"), x)
    linear = interpolants.linear()
    for t in (0.0, 1.0):
        got = predictions.solve(t, x, linear, {"x0": x, "x1": eps}, "velocity")
        np.testing.assert_array_equal(got, eps - x)
    rectified = interpolants.diffusion(schedules.rectified())
    got = predictions.solve(1.0, x, rectified, {"x0": x, "eps": eps}, "velocity")
    np.testing.assert_allclose(got, eps - x, rtol=1e-6)
    got = predictions.solve(1.0, eps, rectified, {"velocity": eps - x}, "x0")
    np.testing.assert_allclose(got, x, rtol=1e-6)


def test_pytrees_and_batches():
    path = interpolants.diffusion(schedules.vp())
    x = {"a": jnp.ones((4, 2)), "b": jnp.ones(4)}
    eps = jax.tree.map(lambda leaf: 0.5 * leaf, x)
    t = jnp.linspace(0.1, 0.9, 4)
    out = jax.vmap(lambda t, x, e: predictions.solve(t, x, path, {"eps": e}, "x0"))(t, x, eps)
    want = (1 - 0.5 * path.c(t)) / path.a(t)
    np.testing.assert_allclose(out["b"], want, rtol=1e-5)
    np.testing.assert_allclose(out["a"], np.stack([want, want], 1), rtol=1e-5)


def test_convert_is_a_pytree_that_reads_a_network():
    def network(w, t, x, args):
        return w * x

    schedule = schedules.vp()
    apply = jax.tree_util.Partial(network, jnp.float32(0.5))
    denoiser = predictions.convert(schedule, apply, "eps", "x0")
    x = jnp.array([1.0, -2.0])
    want = predictions.solve(0.3, x, interpolants.diffusion(schedule), {"eps": 0.5 * x}, "x0")
    np.testing.assert_allclose(jax.jit(lambda d: d(0.3, x, None))(denoiser), want, rtol=1e-6)
    assert any(leaf is apply.args[0] for leaf in jax.tree.leaves(denoiser))
    same = predictions.convert(interpolants.diffusion(schedule), apply, "eps", "eps")
    np.testing.assert_array_equal(same(0.3, x, None), 0.5 * x)


# bad input ----------------------------------------------------------------------------------------------------

X = jnp.zeros(2)
BROWNIAN, LINEAR, VP = interpolants.brownian(), interpolants.linear(), interpolants.diffusion(schedules.vp())
NOISY = Interpolant(lambda t: 1 - t, lambda t: t, lambda t: t * (1 - t))
BAD = [
    (lambda: predictions.solve(0.5, X, BROWNIAN, {"noise": X}, "x0"), r"unknown quantity 'noise'; known ones are x0"),
    (lambda: predictions.solve(0.5, X, BROWNIAN, {"eps": X}, "v"), r"unknown quantity 'v'; known ones are"),
    (lambda: predictions.solve(0.5, X, BROWNIAN, {}, "x0"), r"known must name at least one prediction.*got \{\}"),
    (lambda: predictions.solve(0.5, X, BROWNIAN, X, "x0"), r"known must name at least one prediction"),
    (lambda: predictions.solve(0.5, X, schedules.vp(), {"eps": X}, "x0"), r"must be an Interpolant, got Schedule"),
    (lambda: predictions.solve(0.5, X, LINEAR, {"eps": X}, "x0"), r"this path has no eps, so 'eps' means nothing"),
    (lambda: predictions.solve(0.5, X, LINEAR, {"x0": X}, "score"), r"this path has no eps, so 'score' means nothing"),
    (lambda: predictions.solve(0.5, X, VP, {"x0": X}, "x1"), r"this path has no x1, so 'x1' means nothing"),
    (lambda: predictions.solve(0.5, X, NOISY, {"x0": X, "x1": X}, "drift"), r"'drift' depends on the noise.*pass g"),
    (lambda: predictions.solve(0.5, X, LINEAR, {"x0": X}, "drift"), r"no noise, so 'drift'.*'velocity'"),
    (lambda: predictions.solve(0.5, X, LINEAR, {"x0": X}, "drift", g=1.0), r"no noise, so 'drift'.*'velocity'"),
    (lambda: predictions.convert(VP, 3, "eps", "x0"), r"network must be a function network\(t, x, args\), got int"),
    (lambda: predictions.convert(VP, lambda t, x, args: x, "epsilon", "x0"), r"unknown quantity 'epsilon'"),
    (lambda: predictions.convert(3, lambda t, x, args: x, "eps", "x0"), r"must be an Interpolant, got int"),
    (lambda: predictions.convert(BROWNIAN, lambda t, x, args: x, "x1", "velocity"), r"'velocity' is not determined"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
