"""The loss on x-bridges is least at the Markov projection of the mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.bridges import x_bridges
from bridgejax.objectives._bridging import bridge_loss
from bridgejax.processes import schedules
from bridgejax.processes._keys import keys

POINTS = jnp.array([[0.0, 1.0], [1.5, -0.5], [-1.0, -1.0]])
WEIGHTS = np.array([0.2, 0.5, 0.3])
BRIDGES = {
    "pinned": x_bridges.pinned(schedules.brownian(0.8), 0.0, 0.3),
    "reversal": x_bridges.reversal(schedules.vp(0.5, 6.0)),
}


def best_and(sde, params, t, z, args):
    """The projection plus a combination of functions of (t, z)."""
    return sde.drift(t, z, None) + params[0] + params[1] * z + params[2] * jnp.sin(3.0 * z[::-1]) + params[3] * t


def times(keys):
    return jax.vmap(lambda key: jax.random.uniform(key, maxval=0.9))(keys)


@pytest.mark.parametrize("name", BRIDGES)
def test_the_projection_is_the_minimiser(name, key):
    """At it the expected gradient vanishes along functions of (t, z), and beside it it does not."""
    sde, n = x_bridges.projection(BRIDGES[name], POINTS, WEIGHTS), 8000
    loss = bridge_loss(BRIDGES[name], jax.tree_util.Partial(best_and, sde), times=times)
    data = POINTS[np.random.default_rng(0).choice(3, n, p=WEIGHTS)]

    @jax.jit
    def slopes(params):
        one = jax.value_and_grad(lambda params, k, x: loss(params, k[None], x[None])[0])
        return jax.vmap(one, (None, 0, 0))(params, keys(key, n), data)

    least, at = map(np.asarray, slopes(jnp.zeros(4)))
    assert np.all(np.abs(at.mean(0)) < 5 * at.std(0) / np.sqrt(n))
    for k in range(4):
        worse, beside = map(np.asarray, slopes(jnp.zeros(4).at[k].set(0.5)))
        assert beside.mean(0)[k] > 5 * beside.std(0)[k] / np.sqrt(n)
        assert worse.mean() > least.mean()


def test_bad_input():
    bridge = BRIDGES["pinned"]
    for right, message in (
        (lambda: bridge_loss(3, best_and), "bridge must be an XBridge"),
        (lambda: bridge_loss(x_bridges.added(bridge, lambda t, z, x: x), best_and), "a closed marginal"),
        (lambda: bridge_loss(bridge, 3), "apply must be a function"),
    ):
        with pytest.raises(ValueError, match=message):
            right()


def nothing(params, t, z, args):
    return 0.0 * params * z


def test_the_default_times_run_to_a_thousandth_before_the_end():
    """Brownian bridges from 0 to 0: E b^2 = t / (1 - t), whose mean over [0, a] is -log(1 - a) / a - 1."""
    loss, n, a = bridge_loss(x_bridges.pinned(schedules.brownian()), nothing), 20_000, 0.999
    found = float(jax.jit(loss)(jnp.zeros(()), keys(jax.random.key(0), n), jnp.zeros((n, 8)))[0])
    # E (t / (1 - t))^2 (1 + 2/8) < 1.25 / (1 - a)
    assert abs(found - (-np.log(1 - a) / a - 1)) < 5 * np.sqrt(1.25 / (1 - a) / n)
