"""A user's own domain, five functions on a class of theirs, works in ``constrain``: two intervals on the line."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

import bridgejax as bj

ENDS = np.array([[-2.0, -1.2], [0.5, 1.5]], np.float32)


@jax.tree_util.register_static
class TwoIntervals:
    """x in [-2, -1.2] or [0.5, 1.5], coordinate by coordinate."""

    def parts(self, mean, variance):
        """Log mass of each interval, and its truncated normal's standardised ends."""
        sd = jnp.sqrt(jnp.maximum(variance, 1e-12))
        low, high = (ENDS[:, i] - mean[..., None] for i in (0, 1))
        a, b = low / sd, high / sd
        flip = a > 0  # the difference of two tails, not of two numbers near 1
        a, b = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
        log_b = jax.scipy.special.log_ndtr(b)
        return log_b + jnp.log1p(-jnp.exp(jnp.minimum(jax.scipy.special.log_ndtr(a) - log_b, -1e-6))), a, b, flip, sd

    def contains(self, x):
        return jnp.all(jnp.any((x[..., None] >= ENDS[:, 0]) & (x[..., None] <= ENDS[:, 1]), axis=-1))

    def snap(self, x):
        near = jnp.clip(x[..., None], ENDS[:, 0], ENDS[:, 1])
        best = jnp.argmin(jnp.abs(near - x[..., None]), axis=-1, keepdims=True)
        return jnp.take_along_axis(near, best, axis=-1)[..., 0]

    def expectation(self, mean, variance):
        logs, a, b, flip, sd = self.parts(mean, variance)
        phi = lambda u: jnp.exp(-0.5 * u * u - logs) / np.sqrt(2.0 * np.pi)  # noqa: E731
        shift = jnp.where(flip, -1.0, 1.0) * sd * (phi(a) - phi(b))
        each = jnp.clip(mean[..., None] + shift, ENDS[:, 0], ENDS[:, 1])
        return jnp.sum(jax.nn.softmax(logs) * each, axis=-1)

    def sample(self, key, mean, variance):
        pick, draw = jax.random.split(key)
        logs, a, b, flip, sd = self.parts(mean, variance)
        z = jax.random.truncated_normal(draw, a, b)
        each = jnp.clip(mean[..., None] + jnp.where(flip, -sd, sd) * z, ENDS[:, 0], ENDS[:, 1])
        return jnp.take_along_axis(each, jax.random.categorical(pick, logs)[..., None], axis=-1)[..., 0]

    def log_prob(self, y, mean, variance):
        logs = jax.scipy.stats.norm.logpdf(y, mean, jnp.sqrt(variance))
        inside = jnp.sum(logs - jax.scipy.special.logsumexp(self.parts(mean, variance)[0], axis=-1))
        return jnp.where(self.contains(y), inside, -jnp.inf)


def wild(t, x, scale):
    return scale * jnp.sin(7.0 * x)


def test_two_intervals(key):
    """No sample outside under a wild drift, and the exact law where there is none (one program for both)."""
    n = 4000
    sde = bj.constrain(bj.schedules.brownian(1.1), TwoIntervals(), wild)
    starts = jnp.broadcast_to(jnp.array([0.2, -0.9]), (n, 2))

    def draws(ts, scale):
        x = bj.simulate_batch(sde, bj.keys(key, n), starts, ts, jnp.float32(scale), axes=(None, 0, None))
        assert bool(jnp.all(jax.vmap(TwoIntervals().contains)(x)))
        return np.asarray(x, np.float64)

    draws(bj.grids.uniform(8), 20.0)
    x = draws(jnp.append(jnp.linspace(0.0, 1e-7, 8), 1.0), 0.0)  # f = 0 and almost all of the time in the landing
    for k in range(2):
        normal = scipy.stats.norm(float(starts[0, k]), 1.1)
        masses = np.diff(normal.cdf(np.float64(ENDS)), axis=1)[:, 0]

        def cdf(y, normal=normal, masses=masses):
            parts = [normal.cdf(np.clip(y, *e)) - normal.cdf(e[0]) for e in np.float64(ENDS)]
            return sum(parts) / masses.sum()

        assert scipy.stats.kstest(x[:, k], cdf).statistic < 2.5 / np.sqrt(n)  # p = 1e-5
    with np.errstate(all="ignore"):
        got = float(sde.terminal_kernel.log_prob(0.0, 1.0, starts[0], jnp.array([1.0, -1.5]), jnp.float32(0.0)))
    want = 0.0
    for k, y in enumerate((1.0, -1.5)):
        normal = scipy.stats.norm(float(starts[0, k]), 1.1)
        want += normal.logpdf(y) - np.log(np.diff(normal.cdf(np.float64(ENDS)), axis=1).sum())
    np.testing.assert_allclose(got, want, rtol=1e-5)
