"""Episodes and wrappers on a toy: a point on a line, pushed to one of two goals that the copilot does not see."""

import jax
import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from bridgejax.applications.autonomy import (  # noqa: E402
    Demonstrations,
    SharedAutonomy,
    VectorSharedAutonomy,
    demonstrate,
    fly,
    pilots,
    train_copilot,
)


class Line(gymnasium.Env):
    """x moves by a / 10; the goal is -1 or 1; it ends there, or at |x| >= 2."""

    observation_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.goal = float(self.np_random.choice([-1.0, 1.0]))
        self.x = np.zeros(1, np.float32)
        return self.x.copy(), {"goal": self.goal}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, np.float32)), action
        self.x = self.x + np.asarray(action, np.float32) / 10
        there = bool(abs(self.x[0] - self.goal) < 0.1)
        return self.x.copy(), float(there), there or bool(abs(self.x[0]) >= 2), False, {"there": there}


def straight(obs, goal, previous, random):
    return np.sign(goal - obs[:, :1]).astype(np.float32)


def goal(info):
    return info["goal"]


@pytest.fixture(scope="module")
def copilot():
    found = demonstrate(Line, straight, range(40), keep=lambda flight: flight.info["there"], goal=goal)
    assert isinstance(found, Demonstrations)
    assert found.states.shape == (40 * 10, 1) or len(found.states) > 300
    return train_copilot(found, jax.random.key(0), steps=150, batch_size=128, width=16, depth=1).fast(4)


def test_flights_are_of_their_seeds(copilot):
    pilot = pilots.noisy(straight, 0.5)
    flights = fly(Line, straight, [3, 4, 5], goal=goal)
    assert [f.seed for f in flights] == [3, 4, 5]
    assert all(f.terminated and f.info["there"] and f.reward == 1.0 for f in flights)
    assert all(f.obs.shape == f.actions.shape == f.applied.shape == (len(f.obs), 1) for f in flights)
    again = fly(Line, straight, [5, 3], goal=goal, copilot=copilot, gamma=0.0)  # nobody, again
    np.testing.assert_array_equal(again[0].obs, flights[2].obs)
    alone, assisted = (fly(Line, pilot, range(9), goal=goal, copilot=copilot, gamma=g, limit=50) for g in (0.0, 0.3))
    for a, b in zip(alone, assisted, strict=True):  # one seed, one sequence of errors, until the states differ
        assert a.actions[0] == b.actions[0]
    assert any(not np.array_equal(f.actions, f.applied) for f in assisted)
    assert all(np.array_equal(f.actions, f.applied) for f in alone)
    assert max(len(f.obs) for f in fly(Line, pilots.zero, [0], limit=7)) == 7


def test_a_wrapper_is_a_flight(copilot):
    flight = fly(Line, straight, [11], goal=goal, copilot=copilot, gamma=0.5, limit=30)[0]
    env = SharedAutonomy(Line(), copilot, 0.5)
    for _ in range(2):  # a seed gives an episode
        obs, info = env.reset(seed=11)
        assert env.applied is None
        for k in range(len(flight.obs)):
            np.testing.assert_allclose(obs, flight.obs[k], atol=1e-5)
            pushed = straight(obs[None], np.full((1, 1), info["goal"]), None, None)[0]
            obs, _, terminated, _, told = env.step(pushed)
            np.testing.assert_allclose(env.applied, flight.applied[k], atol=1e-5)
            assert told["applied"] is env.applied
        assert terminated == flight.terminated
    env.gamma = 0.0
    env.reset(seed=11)
    env.step(np.float32([0.3]))
    assert env.applied == np.float32(0.3)


def test_many_environments_are_as_many_of_one(copilot):
    env = VectorSharedAutonomy(gymnasium.vector.SyncVectorEnv([Line, Line]), copilot, 0.5)
    obs, _ = env.reset(seed=11)
    flights = fly(Line, pilots.zero, [11, 12], goal=goal, copilot=copilot, gamma=0.5, limit=5)
    for k in range(5):
        np.testing.assert_allclose(obs, [f.obs[k] for f in flights], atol=1e-5)
        obs, *_ = env.step(np.zeros((2, 1), np.float32))
    first = env.applied
    env.reset(seed=[12, 11])
    for _ in range(5):
        env.step(np.zeros((2, 1), np.float32))
    np.testing.assert_allclose(env.applied, first[::-1], atol=1e-5)


def test_a_view_hides_what_the_copilot_may_not_see(copilot):
    class Told(gymnasium.ObservationWrapper):
        """The goal beside the place."""

        observation_space = gymnasium.spaces.Box(-2, 2, (2,), np.float32)

        def observation(self, obs):
            return np.append(obs, self.unwrapped.goal).astype(np.float32)

    seen = []

    def place(obs):
        seen.append(obs.shape)
        return obs[..., :1]

    env = SharedAutonomy(Told(Line()), copilot, 0.5, view=place)
    env.reset(seed=0)
    env.step(np.zeros(1, np.float32))
    found = fly(lambda: Told(Line()), pilots.zero, [0], copilot=copilot, gamma=0.5, view=place, limit=1)
    np.testing.assert_allclose(env.applied, found[0].applied[0], atol=1e-5)
    assert seen == [(2,), (1, 2)]
    seen.clear()
    assert demonstrate(lambda: Told(Line()), straight, [0], keep=bool, goal=goal, view=place).states.shape[1] == 1


def test_an_assisted_pilot_who_does_nothing_goes_somewhere(copilot):
    """The demonstrations go left or right at full speed: so does the copilot, whichever."""
    flights = fly(Line, pilots.zero, range(20), goal=goal, copilot=copilot, gamma=1.0, limit=60)
    assert np.mean([f.terminated for f in flights]) > 0.5
