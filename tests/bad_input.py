"""Bad input, for every room: what arguments are spoilt with, what right calls are made of, and what an error must say.

A table holds, for each function, ``name: (function, a right call, {argument: kinds of wrong})``: one argument is
spoilt at a time. What is in no table, and why:

    the number and the names of arguments           Python's own TypeError
    values inside traced arrays, inside states      nothing can be looked at while tracing; data flow through
    fields of SDE, Kernel, Process, Interpolant     JAX rebuilds these pytrees with placeholders, so a constructor takes
    that are no functions                           anything; what uses them refuses (see solve/test_user_functions.py)
    x of an oracle outside its support              densities are extended by their formula, elementwise
    ``args``                                        the user's own, passed on unchanged
"""

import functools
import re

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bridgejax as bj
from bridgejax.oracles import grid
from bridgejax.processes._keys import keys as make_keys

few = settings(max_examples=5, deadline=None, derandomize=True, database=None)

# kinds of wrong: strategies, or functions of the right value that give one ----------------------------------------

ARRAY = jnp.arange(2.0)


def spoilt(value, entry):
    """``value`` with one entry replaced."""
    array = np.array(value, np.float64)
    array.reshape(-1)[-1] = entry
    return jnp.asarray(array, jnp.float32) if array.ndim else float(array)


def other_length(value):
    array = np.asarray(value)
    return [np.concatenate([array] * 2, axis) for axis in range(array.ndim)]


def closures(array):
    """Functions that hide an array: in a cell, a default, a partial, a method's object."""

    class Held:
        def __init__(self):
            self.array = array

        def call(self, *args, **options):
            return self.array

    def default(*args, hidden=array):
        return hidden

    def inner(*args):
        return array

    return [inner, lambda *args: inner(*args), functools.partial(default, array), default, Held().call]


FIXED = {
    "none": [None],
    "text": ["abc", ["a", "b"], b"1"],
    "objects": [np.array([None, "a"], object), object(), {}],
    "function": [3, "f", np.zeros(2), 1.5],
    "word": ["forwards", "", 3, ["exact"], None],
    "count": [-1, 1.5, "3", True, [2], np.zeros(2)],
    "zero count": [0],
    "end": [0.0, -1.0, float("nan"), float("inf"), "1", None, 1j, True, jnp.ones(())],
    "key": [0, None, "key", np.zeros(3), jnp.zeros(2), jax.random.key(0, impl="rbg")],
    "many keys": [make_keys(jax.random.key(0), 3)],
    "one key": [jax.random.key(0), make_keys(jax.random.key(0), 0)],
    "schedule": [None, 3, "vp", bj.schedules.vp, ARRAY],
    "sde": [None, 3, "sde", bj.schedules.vp(), lambda t, x, args: x],
    "other": [None, 3, "abc", ARRAY, object()],
    "bool": [True],
    "negative": [-1.0, -1e-3],
    "zero": [0.0],
    "not finite": [float("nan"), float("inf"), -float("inf")],
    "nan": [float("nan")],
    "clock": [
        [1.0, 0.0],
        [0.0, 0.5, 0.5, 1.0],
        [0.5],
        [],
        0.5,
        [[0.0, 1.0]],
        [-0.5, 0.5],
        [0.0, 1.5],
        [0.0, float("nan"), 1.0],
        [0.0, float("inf")],
        ["a", "b"],
        "now",
        None,
        np.array([0.0, 1.0]) + 1j,
    ],
    "mask": ["abc", None, 0.5, np.array([0.0, 1.0]), np.array([None, True], object)],
    "shape": [3.5, "ab", None, (2, -1), (1.5,), (True,)],
}
OF_VALUE = {
    "complex": lambda v: [np.asarray(v) + 1j],
    "booleans": lambda v: [np.ones(np.shape(v), bool)],
    "integers": lambda v: [jax.tree.map(lambda leaf: jnp.ones(jnp.shape(leaf), int), v)],
    "array": lambda v: [np.stack([v, v])],
    "spoilt": lambda v: [spoilt(v, bad) for bad in (float("nan"), float("inf"))],
    "extra axis": lambda v: [np.stack([v, v])],
    "missing axis": lambda v: [np.asarray(v)[0]],
    "length": other_length,
    "closure": lambda v: closures(jnp.arange(2.0)),
}
REAL = ("none", "text", "objects", "complex", "booleans")
NUMBER = (*REAL, "not finite", "array")  # one number
ELEMENTWISE = (*REAL, "not finite", "negative", "zero")  # positive numbers that may be arrays
POSITIVE = (*NUMBER, "negative", "zero")
COUNT = ("none", "text", "count", "zero count")
FUNCTION = ("none", "function")
KEY = ("key", "many keys")
POINTS = (*REAL[:-1], "spoilt")  # samples: booleans are numbers there
STATE = ("text", "objects", "complex", "booleans", "integers")


def wrong(kind, value):
    found = FIXED[kind] if kind in FIXED else OF_VALUE[kind](value)
    return st.sampled_from(found)


# what right calls are made of ---------------------------------------------------------------------------------------

KEY0 = jax.random.key(0)
KEYS = make_keys(KEY0, 3)
X, TS = np.zeros(2, np.float32), [0.0, 0.5, 1.0]
VP = bj.schedules.vp()


def drift(t, x, args):
    return jax.tree.map(jnp.negative, x)


def noise(t, x, args):
    return 1.0


def score(t, x, args=None):
    return -x


def level(t, x, args=None):
    return -jnp.sum(x**2)


def network(params, t, x, args):
    return params * x


def of_time(t):
    return t


def metric(x, y):
    return 0.0


def log_density(x):
    return -0.5 * jnp.sum(x**2)


def loss(params, keys, batch):
    return jnp.mean(params * batch), {}


def read_out(x):
    return x[:1]


SDE = bj.SDE(drift, noise)
FLOW = bj.probability_flow(VP, denoiser=score)
BACK = bj.reverse(VP, denoiser=score)
LINEAR = bj.linear.LinearSDE(-np.eye(2), np.zeros(2), np.eye(2))
MIXTURE = bj.mixtures.gaussian_mixture(np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]]), 0.5)
PROCESS = bj.Process(bj.starts.normal((2,)), SDE, jnp.array(TS), backward=SDE)
FLOWING = bj.Process(bj.starts.normal((2,)), FLOW, jnp.array(TS))
PATH = bj.Path(jnp.array(TS), jnp.zeros((3, 2)), None)
EULER = bj.kernels.euler(SDE)
BROWNIAN, LINE, NOISY = bj.interpolants.brownian(), bj.interpolants.linear(), bj.interpolants.diffusion(VP)
XBRIDGE = bj.x_bridges.reversal(VP)
CELLS = grid.cells(-3.0, 3.0, 6)
LAW = np.full(6, 1.0 / 6.0)
POINTS_X, POINTS_Y = np.arange(8.0).reshape(4, 2), np.arange(8.0).reshape(4, 2) ** 1.5
COV, MEAN = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([0.0, 1.0])
LOGS = np.array([0.0, -1.0, 0.5])
PARAMS = jnp.ones(2)
DENSITY = bj.compose.density(VP, (2,), score=score)
GAUSSIAN = bj.oracles.gaussian_law(np.zeros(2), 1.0)
METHOD = bj.gradient_method(loss, lambda params: PROCESS, optax.sgd(0.1), params=PARAMS)


def positive_rate(t):
    return 1.0 / (1.5 - t)


# more kinds of wrong, made of these

FIXED["levels"] = [-1, 1.5, "3", True, [0], (1, -1), (1.5,), ()]
FIXED["knowns"] = [{"epsilon": X}, {"eps": np.zeros(3)}, {"eps": "abc"}, {3: X}, {}]
FIXED["solver"] = ["euler", 3, bj.solvers.Euler, bj.solvers.ExponentialEuler(), bj.solvers.PredictorCorrector()]
FIXED["controller"] = ["pid", 3, dfx.PIDController]
FIXED["axes"] = [3, None, (None, 0), (None, 1, 0), (0.0, 0, 0), "abc", (True, 0, 0)]
FIXED["clock - none"] = [ts for ts in FIXED["clock"] if ts is not None]
FIXED["schedule - none"] = [s for s in FIXED["schedule"] if s is not None]
FIXED["processes"] = [
    bj.Process("start", SDE, jnp.array(TS)),
    bj.Process(3, SDE, jnp.array(TS)),
    bj.Process(drift, "sde", jnp.array(TS)),
    bj.Process(bj.starts.normal((2,)), bj.SDE("drift", noise), jnp.array(TS)),
]
FIXED["kernels"] = [bj.Kernel(drift, None), bj.Kernel(drift, drift, 2.0)]
FIXED["paths"] = [
    bj.Path(jnp.array([0.0, 1.0]), PATH.xs, None),
    bj.Path(None, PATH.xs, None),
    bj.Path(PATH.ts, None, None),
    bj.Path(PATH.ts[::-1], PATH.xs, None),
]
OF_VALUE["asymmetric"] = lambda v: [np.asarray(v) + np.array([[0.0, 0.3], [0.0, 0.0]])]
OF_VALUE["indefinite"] = lambda v: [-np.asarray(v)]
OF_VALUE["singular"] = lambda v: [np.ones(np.shape(v)), 0.0 * np.asarray(v)]
OF_VALUE["one row"] = lambda v: [np.asarray(v)[:1]]
OF_VALUE["equal rows"] = lambda v: [np.ones(np.shape(v))]
FIXED["points"] = [np.zeros((0, 2)), 1.0]
OF_VALUE["dimension"] = lambda v: [np.concatenate([v, v], 1)]
OF_VALUE["length0"] = lambda v: [np.concatenate([v, v])]
FIXED["snapshot times"] = [
    *([1.0, 0.0], [0.0, 0.5, 0.5, 1.0], [0.5], [], 0.5, [[0.0, 1.0]], ["a", "b"], "now", np.array([0.0, 1.0]) + 1j),
    *([0.0, float("nan"), 1.0], [0.0, float("inf")], {}),
]
FIXED["snapshots"] = [
    [np.zeros((4, 2))],
    [np.zeros((4, 2)), np.zeros((4, 3))],
    [np.zeros((4, 2)), np.zeros((0, 2))],
    3.0,
]
FIXED["directory"] = [3, 1.5, ["runs"]]
FIXED["words"] = ["forwards", "", 3, ["exact"], ["eps"]]

# what an argument is also called: the words that its error may use instead
ALSO = {
    "sde_or_schedule": ["SDE"],
    "log_snr_end": [],
    "path": ["interpolant", "ts"],
    "kind": ["known"],
    "f": ["function"],
    "log_snr_min": ["log_snr_max"],
    "forward": ["clocks"],
    "backward": ["clocks"],
    "process": ["drift", "start", "sde"],
    "solver": ["Solver", "PredictorCorrector", "ExponentialEuler"],
    "controller": ["controller"],
    "schedule": ["schedules"],
    "mean0": ["cov0"],
    "mean1": ["cov1"],
    "xs": ["first and the last cell"],
    "num_classes": [],
    "predict": ["quantity"],
}
JAX_TALK = re.compile(
    r"Cannot interpret value|ncompatible shapes|unsupported operand|not supported between|has no attribute|"
    r"Traceback|TracerBool|is not iterable|"
    r"could not convert|inhomogeneous|not a valid JAX|broadcast together|must be called with|could not be broadcast"
)


def names_it(message, argument):
    words = [argument, *ALSO.get(argument, [])]
    return any(re.search(rf"(?<![a-z_]){re.escape(word)}(?![a-z_])", message, re.I) for word in words)


def complaint(function, right, argument, value):
    """What is wrong with the error for this value; None: nothing."""
    try:
        function(**{**right, argument: value})
    except ValueError as error:
        message = str(error)
        if not names_it(message, argument):
            return f"does not name it: {message}"
        if "\n" in message or JAX_TALK.search(message) or len(message) > 420:
            return f"is no sentence of ours: {message}"
        return None
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    return "is accepted"


def arguments(table):
    """Every ``(name, argument)`` of a table."""
    return [(name, argument) for name, (_, _, kinds) in table.items() for argument in kinds]


def closing(table):
    """Every ``(name, argument)`` of a table that must not hide arrays in a closure."""
    return [(name, argument) for name, argument in arguments(table) if "closure" in table[name][2][argument]]


def refuse_wrong(row, argument):
    """Each wrong value is refused by a ValueError of one sentence that names the argument."""
    function, right, kinds = row

    @few
    @given(st.data())
    def check(data):
        for kind in kinds[argument]:
            value = data.draw(wrong(kind, right.get(argument)))
            found = complaint(function, right, argument, value)
            assert found is None, f"{argument} = {value!r} ({kind}) {found}"

    check()


def refuse_closures(row, argument):
    """A function that hides an array is refused, and ``Partial`` named."""
    function, right, _ = row
    for hidden in closures(jnp.arange(2.0)):
        with pytest.raises(ValueError, match=rf"^{argument} closes over JAX arrays.*jax\.tree_util\.Partial"):
            function(**{**right, argument: hidden})
