"""LunarLander with a pad that moves: what success means, what nobody is told, and that the expert lands."""

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("Box2D")

from bridgejax.applications.autonomy import fly, lunar, pilots  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def rolled(env, seed, chunk, actions):
    obs, info = env.reset(seed=seed, options={"pad": chunk})
    trail, rewards = [obs], []
    for action in actions:
        obs, reward, *_ = env.step(action)
        trail.append(obs)
        rewards.append(reward)
    return np.array(trail), np.array(rewards), info


def test_a_seed_gives_an_episode_and_the_air_knows_no_pad():
    env, random = lunar.make(), np.random.default_rng(0)
    actions = random.uniform(-1, 1, (25, 2)).astype(np.float32)
    one, paid, info = rolled(env, 7, 3, actions)
    again, same, _ = rolled(lunar.make(), 7, 3, actions)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(paid, same)
    other, elsewhere, told = rolled(env, 7, 8, actions)
    np.testing.assert_array_equal(one, other)
    assert not np.allclose(paid, elsewhere)
    assert (info["pad"], told["pad"]) == pytest.approx((-0.4, 0.6))
    drawn = [env.reset(seed=seed)[1]["pad"] for seed in range(60)]
    np.testing.assert_allclose(np.unique(np.round(drawn, 3)), np.arange(-3, 4) / 5, atol=1e-6)


def test_the_shaping_pulls_to_the_pad():
    """Of two pads the rewards differ by the sum of the differences of the potential, which telescopes."""
    env, actions = lunar.make(), np.tile(np.float32([0.7, 0.8]), (20, 1))
    trail, paid, _ = rolled(env, 1, 8, actions)
    _, stock, _ = rolled(env, 1, 5, actions)
    first, last = trail[0], trail[-1]

    def pull(obs, pad):
        return -100.0 * np.hypot(obs[0] - pad, obs[1])

    wanted = pull(last, 0.6) - pull(first, 0.6) - pull(last, 0.0) + pull(first, 0.0)
    np.testing.assert_allclose(paid.sum() - stock.sum(), wanted, rtol=1e-4, atol=1e-3)
    bare = env.env
    bare.reset(seed=1)
    np.testing.assert_allclose(stock, [bare.step(action)[1] for action in actions], atol=1e-5)


def test_the_expert_lands_on_the_pad_and_rest_elsewhere_is_no_success():
    flights = fly(lunar.make, lunar.expert, range(24), goal=lunar.pad)
    outcomes = [f.info["outcome"] for f in flights]
    assert outcomes.count("success") >= 19
    assert "crash" not in outcomes
    for f in flights:
        at_rest_on_pad = f.info["rest"] and abs(f.info["pad"] - lunar_end(f)) <= 0.2 + 0.03
        assert (f.info["outcome"] == "success") <= at_rest_on_pad
    # one who aims 0.4 beside the pad comes to rest, gets the 100 of gymnasium, and has no success
    beside = fly(lunar.make, lunar.expert, range(24), goal=lambda info: info["pad"] - 0.4 * np.sign(info["pad"] + 0.01))
    outcomes = [f.info["outcome"] for f in beside]
    assert outcomes.count("success") == 0
    assert sum(f.info["rest"] for f in beside) >= 6
    assert {f.info["outcome"] for f in beside if f.info["rest"]} == {"floating"}
    assert {f.info["outcome"] for f in fly(lunar.make, pilots.zero, range(8), goal=lunar.pad)} == {"crash"}


def lunar_end(flight):
    """x of the last observation before the end."""
    return flight.obs[-1][0]
