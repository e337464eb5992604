"""Bad input to the applications: an error of one sentence that names the argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_input import COUNT, FUNCTION, KEY, NUMBER, POINTS, arguments, refuse_wrong
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax.applications.autonomy import Copilot, Demonstrations, pilots, train_copilot
from bridgejax.processes.sde import Semilinear

gymnasium = pytest.importorskip("gymnasium")

from bridgejax.applications.autonomy import (  # noqa: E402
    SharedAutonomy,
    VectorSharedAutonomy,
    demonstrate,
    fly,
    lunar,
)


def denoiser(t, x, args):
    return x


PARTS = Semilinear(bj.schedules.cosine(), Partial(denoiser)), jnp.zeros(3), jnp.ones(3), -jnp.ones(1), jnp.ones(1)
COPILOT = Copilot(*PARTS, steps=2)
STATES, ACTIONS = np.zeros((4, 3), np.float32), np.zeros((4, 1), np.float32)
KEY0, KEYS = jax.random.key(0), bj.keys(jax.random.key(0), 4)
RATE = (*NUMBER, "negative")


def pendulum():
    return gymnasium.make("Pendulum-v1")


def train(states, actions, **options):
    return train_copilot(Demonstrations(states, actions), steps=1, width=8, depth=1, **{"key": KEY0, **options})


TABLE = {
    "Copilot": (
        COPILOT,
        dict(obs=np.zeros(3), action=np.zeros(1), gamma=0.3, key=KEY0),
        {"obs": (*POINTS, "length"), "action": (*POINTS, "length"), "gamma": RATE, "key": KEY},
    ),
    "Copilot.batch": (
        COPILOT.batch,
        dict(obs=STATES, actions=ACTIONS, gamma=0.3, keys=KEYS),
        {"obs": (*POINTS, "length"), "gamma": RATE, "keys": ("key", "one key")},
    ),
    "Copilot.fast": (COPILOT.fast, dict(steps=4), {"steps": COUNT}),
    "train_copilot": (
        train,
        dict(states=STATES, actions=ACTIONS, low=-1.0, high=1.0),
        {
            "states": (*POINTS, "missing axis"),
            "actions": (*POINTS, "missing axis"),
            "low": ("none", "text", "complex", "not finite", "array"),
            "high": ("none", "text", "complex", "not finite", "negative"),
        },
    ),
    "pilots.noisy": (
        pilots.noisy,
        dict(expert=pilots.zero, rate=0.5, low=-1.0, high=1.0),
        {"expert": FUNCTION, "rate": RATE, "low": ("none", "text", "not finite"), "high": ("text", "not finite")},
    ),
    "pilots.laggy": (pilots.laggy, dict(expert=pilots.zero, rate=0.5), {"expert": FUNCTION, "rate": RATE}),
    "pilots.random": (pilots.random, dict(low=-1.0, high=1.0), {"low": ("none", "text"), "high": ("text",)}),
    "SharedAutonomy": (
        SharedAutonomy,
        dict(env=pendulum(), copilot=COPILOT, gamma=0.3, view=None),
        {"env": ("other",), "copilot": ("other",), "gamma": RATE, "view": ("text",)},
    ),
    "VectorSharedAutonomy": (
        VectorSharedAutonomy,
        dict(env=gymnasium.make_vec("Pendulum-v1", num_envs=2), copilot=COPILOT, gamma=0.3, view=None),
        {"env": ("other",), "copilot": ("other",), "gamma": RATE, "view": ("text",)},
    ),
    "fly": (
        fly,
        dict(make=pendulum, pilot=pilots.zero, seeds=[0], copilot=None, gamma=0.0, limit=2),
        {
            "make": FUNCTION,
            "pilot": FUNCTION,
            "seeds": ("none", "text", "not finite", "complex"),
            "copilot": ("text",),
            "gamma": RATE,
            "limit": COUNT,
        },
    ),
    "demonstrate": (
        demonstrate,
        dict(make=pendulum, expert=pilots.zero, seeds=[0], keep=bool, limit=2),
        {"make": FUNCTION, "expert": FUNCTION, "keep": FUNCTION, "limit": COUNT},
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_wrong_arguments_cost_one_sentence(name, argument):
    refuse_wrong(TABLE[name], argument)


def test_gamma_beyond_one_and_rates_that_are_no_probabilities():
    with pytest.raises(ValueError, match=r"^gamma must lie in \[0, 1\], .*, got 1.5$"):
        COPILOT(np.zeros(3), np.zeros(1), 1.5, KEY0)
    with pytest.raises(ValueError, match=r"^rate must lie in \[0, 1\].*got 2"):
        pilots.noisy(pilots.zero, 2)


def test_environments_that_a_copilot_cannot_fly():
    with pytest.raises(ValueError, match=r"^env must have continuous actions.*Discrete\(2\)"):
        SharedAutonomy(gymnasium.make("CartPole-v1"), COPILOT, 0.3)
    with pytest.raises(ValueError, match=r"^env must have continuous actions"):
        VectorSharedAutonomy(gymnasium.make_vec("CartPole-v1", num_envs=2), COPILOT, 0.3)
    with pytest.raises(ValueError, match=r"^env has observations of shape \(2,\), the copilot saw \(3,\); pass view"):
        SharedAutonomy(gymnasium.make("MountainCarContinuous-v0"), COPILOT, 0.3)
    with pytest.raises(ValueError, match=r"^env has actions of shape \(1,\), the copilot of \(2,\)"):
        SharedAutonomy(pendulum(), Copilot(*PARTS[:3], -jnp.ones(2), jnp.ones(2)), 0.3)
    seen = SharedAutonomy(pendulum(), COPILOT, 0.3, view=lambda obs: obs[:2])
    seen.reset(seed=0)
    with pytest.raises(ValueError, match=r"^obs must hold numbers of shape \(3,\)"):
        seen.step(np.zeros(1))


def test_actions_before_a_reset():
    for env in (SharedAutonomy(pendulum(), COPILOT, 0.3), TABLE["VectorSharedAutonomy"][1]["env"]):
        env = env if isinstance(env, SharedAutonomy) else VectorSharedAutonomy(env, COPILOT, 0.3)
        with pytest.raises(ValueError, match=r"call reset\(\) first$"):
            env.step(np.zeros(1))


def test_demonstrations_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^demonstrations have one action a state, got 4 states and 3 actions$"):
        train(STATES, ACTIONS[:3])
    with pytest.raises(ValueError, match=r"^demonstrations\.actions must lie in \[low, high\].*env\.action_space\.low"):
        train(STATES, ACTIONS + 2.0)
    with pytest.raises(ValueError, match=r"^demonstrations must be a pair"):
        train_copilot(STATES, KEY0)
    with pytest.raises(ValueError, match=r"^none of 2 episodes was kept"):
        demonstrate(pendulum, pilots.zero, [0, 1], keep=lambda flight: False, limit=2)
    with pytest.raises(ValueError, match=r"^pilot must give actions of shape \(1, 1\), got"):
        fly(pendulum, lambda obs, goal, previous, random: obs, [0], limit=2)


def test_a_lander_of_discrete_actions_and_a_pad_at_the_edge():
    pytest.importorskip("Box2D")
    with pytest.raises(ValueError, match=r"^env must be gymnasium\.make\(\"LunarLander-v3\", continuous=True\)"):
        lunar.PadLander(pendulum())
    for pad in (1, 9, True, 2.5, "left"):
        with pytest.raises(ValueError, match=r"^options\['pad'\] must be a chunk from 2 to 8, got"):
            lunar.make().reset(options={"pad": pad})
