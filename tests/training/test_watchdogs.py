"""Runs that go wrong end with an error that says so; what was good stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_problem import B, data

from bridgejax.training import LossExplosion, Method, NonFiniteParameters, checkpoints, fit, latest_step, restore

EVERY = {"batch_size": B, "log_every": 10, "checkpoint_every": 10}


def losing(loss):
    """A method whose loss at update n is ``loss(n)``; its parameter counts the updates."""
    return Method(lambda k, d: jnp.int32(0), lambda s, k, b: (s + 1, {"loss": loss(s + 1)}), lambda s: s)


def learning(value, start=0.0):
    """A method whose parameter after update n is ``value(n)``, with a loss of 1."""

    def step(state, key, batch):
        return {"n": state["n"] + 1, "w": value(state["n"] + 1)}, {"loss": jnp.float32(1)}

    first = {"n": jnp.int32(0), "w": jnp.float32(start)}
    return Method(lambda k, d: first, step, lambda s: s, params=lambda s: {"w": s["w"]})


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_loss_that_explodes_is_named_and_the_checkpoint_before_kept(key, tmp_path, sign):
    m = losing(lambda n: sign * jnp.where(n > 30, 2e7, 3.0))
    with pytest.raises(
        LossExplosion, match=r"exploded: -?2e\+07, after 3, at step 40; .* step 30, is kept in"
    ) as caught:
        fit(m, data(), key, steps=100, directory=tmp_path, **EVERY)
    error = caught.value
    assert (error.step, error.least, error.checkpoint) == (40, 3.0, 30)
    assert int(restore(tmp_path / "checkpoints", jnp.int32(0)).tree) == 30
    with pytest.raises(LossExplosion, match="at step 40"):  # what went before is known to the run that goes on
        fit(m, data(), key, steps=100, directory=tmp_path, **EVERY)


@pytest.mark.parametrize(
    "loss",
    [
        lambda n: jnp.where(n > 30, 2e6, 3.0),  # two thirds of a million times
        lambda n: 1e9 / n,  # great from the start
        lambda n: jnp.where(n > 30, 9e5, 1e-7),  # beside nothing a million is the bar
        lambda n: -3.0 * n,
    ],
)
def test_losses_that_are_no_explosion(key, loss):
    assert int(fit(losing(loss), data(), key, steps=50, batch_size=B, log_every=10)) == 50


@pytest.mark.parametrize("directory", [True, False])
def test_a_parameter_that_is_not_finite_is_not_saved(key, tmp_path, directory):
    place = tmp_path if directory else None
    m = learning(lambda n: jnp.where(n > 25, jnp.nan, 1.0))
    with pytest.raises(NonFiniteParameters, match=r"parameter \['w'\] is not finite at step 30; ") as caught:
        fit(m, data(), key, steps=30, directory=place, **EVERY)
    assert (caught.value.leaf, caught.value.checkpoint) == ("['w']", 20 if directory else None)
    assert latest_step(tmp_path / "checkpoints") == (20 if directory else None)


def test_what_was_not_finite_from_the_start_may_stay_so(key):
    state = fit(learning(lambda n: -jnp.inf * n, start=-np.inf), data(), key, steps=3, batch_size=B)
    assert int(state["n"]) == 3


def test_the_best_checkpoint_stays_beside_the_newest(key, tmp_path):
    """Losses 5, 1, 4, 3, ...; over a resume; a metric that there is not is named."""
    m = losing(lambda n: jnp.where(n <= 10, 5.0, jnp.where(n <= 20, 1.0, 5.0 - n / 30)))
    arguments = {**EVERY, "directory": tmp_path, "best": "loss", "keep": 2}
    fit(m, data(), key, steps=40, **arguments)
    fit(m, data(), key, steps=60, **arguments)
    place = tmp_path / "checkpoints"
    assert checkpoints.available_steps(place) == [20, 50, 60]
    assert checkpoints.best(place, "loss") == (1.0, 20)
    assert int(restore(place, jnp.int32(0), step=20).tree) == 20
    with pytest.raises(ValueError, match="best must be a metric of this method, loss, got 'accuracy'"):
        fit(m, data(), key, steps=10, **EVERY, directory=tmp_path / "other", best="accuracy")
    with pytest.raises(ValueError, match="best must be the name of a metric or None, got 3"):
        fit(m, data(), key, steps=10, best=3, **EVERY)


def test_devices_and_checkpoints_are_not_asked_of_a_method_without_params(key):
    m = Method(lambda k, d: jnp.float32(jnp.nan), lambda s, k, b: (s, {"loss": jnp.float32(1)}), lambda s: s)
    assert np.isnan(jax.device_get(fit(m, data(), key, steps=2, batch_size=B)))
