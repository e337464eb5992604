"""Every public function against bad input: a ValueError of one sentence that names the argument.

The table holds, for each function, a call that is right and, for each argument, the kinds of wrong that it is tried
with: one argument is spoilt at a time. What is not in the table, and why:

    the number and the names of arguments           Python's own TypeError
    values inside traced arrays, inside states      nothing can be looked at while tracing; data flow through
    fields of SDE, Kernel, Process, Interpolant     JAX rebuilds these pytrees with placeholders, so a constructor takes
    that are no functions                           anything; what uses them refuses (see "used" below)
    x of an oracle outside its support              densities are extended by their formula, elementwise
    ``args``                                        the user's own, passed on unchanged
"""

import functools
import re

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax import couplings
from bridgejax.networks import MLP, Embedding, SetTransformer, TemporalUNet, Transformer, UNet
from bridgejax.objectives import times, weightings
from bridgejax.oracles import diffusions, grid, heat
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
METHOD = bj.gradient_method(loss, lambda params: PROCESS, optax.sgd(0.1), params=PARAMS)


def positive_rate(t):
    return 1.0 / (1.5 - t)


def net(cls, **sizes):
    return functools.partial(cls, rngs=nnx.Rngs(0), **sizes)


def network_of(cls, shape, **more):
    sizes = {"shape": (*COUNT, "shape"), "width": COUNT, "num_classes": COUNT[1:], "cond_dim": COUNT[1:]}
    common = {
        "embedding": COUNT[1:],
        "time_features": COUNT,
        "time_scale": POSITIVE,
        "dtype": ("text", "objects", "none"),
    }
    kinds = {**sizes, **common, "rngs": ("other",), **more}
    kinds["shape"] = ("none", "shape")
    right = dict(
        shape=shape, width=8, embedding=8, time_features=8, time_scale=1.0, dtype=jnp.float32, rngs=nnx.Rngs(0)
    )
    return (cls, {**right, **{n: v for n, v in NETWORK_VALUES.items() if n in more}}, kinds)


NETWORK_VALUES = dict(
    depth=1, heads=2, multipliers=(1, 2), blocks=1, patch=1, expansion=2, attention=1, positions="sincos", inducing=0
)
LEVELS = ("none", "text", "objects", "levels")
FIXED["levels"] = [-1, 1.5, "3", True, [0], (1, -1), (1.5,), ()]
DEPTH = ("none", "text", "count")

# name: (function, a right call, {argument: kinds of wrong}) -----------------------------------------------------------

PROCESSES = {
    "SDE": (
        bj.SDE,
        dict(drift=drift, diffusion=noise, T=1.0, noise="state"),
        {"drift": ("closure",), "diffusion": ("closure",), "T": ("end",), "noise": ("word",)},
    ),
    "Kernel": (
        bj.Kernel,
        dict(sample=drift, log_prob=None, T=1.0),
        {"sample": ("closure",), "log_prob": ("closure",), "T": ("end",)},
    ),
    "Process": (
        bj.Process,
        dict(start=drift, dynamics=SDE, ts=TS, decode=drift),
        {"start": ("closure",), "decode": ("closure",)},
    ),
    "Schedule": (
        bj.Schedule,
        dict(scale_fn=of_time, variance_fn=of_time, log_alpha_fn=of_time, T=1.0),
        {"scale_fn": ("closure",), "variance_fn": ("closure",), "log_alpha_fn": ("closure",), "T": ("end",)},
    ),
    "Interpolant": (
        bj.Interpolant,
        dict(a=of_time, b=None, c=None, T=1.0, reference=None),
        {"a": ("closure",), "b": ("closure",), "c": ("closure",), "reference": ("closure",), "T": ("end",)},
    ),
    "keys": (
        bj.keys,
        dict(key=KEY0, num=3, start=0),
        {"key": KEY, "num": ("none", "text", "count"), "start": ("none", "text", "count", "complex")},
    ),
    "schedules.vp": (
        bj.schedules.vp,
        dict(beta_min=0.1, beta_max=20.0, T=1.0),
        {"beta_min": ELEMENTWISE, "beta_max": ELEMENTWISE, "T": ("end",)},
    ),
    "schedules.sub_vp": (
        bj.schedules.sub_vp,
        dict(beta_min=0.1, beta_max=20.0, T=1.0),
        {"beta_min": ELEMENTWISE, "beta_max": ELEMENTWISE, "T": ("end",)},
    ),
    "schedules.cosine": (bj.schedules.cosine, dict(log_snr_end=-10.0), {"log_snr_end": (*REAL, "not finite", "zero")}),
    "schedules.ve": (
        bj.schedules.ve,
        dict(sigma_min=0.01, sigma_max=50.0),
        {"sigma_min": ELEMENTWISE, "sigma_max": ELEMENTWISE},
    ),
    "schedules.brownian": (bj.schedules.brownian, dict(sigma=1.0, T=1.0), {"sigma": ELEMENTWISE, "T": ("end",)}),
    "schedules.ou": (
        bj.schedules.ou,
        dict(theta=1.0, sigma=1.0, T=1.0),
        {"theta": ELEMENTWISE, "sigma": ELEMENTWISE, "T": ("end",)},
    ),
    "schedules.karras": (bj.schedules.karras, dict(sigma_max=80.0), {"sigma_max": ELEMENTWISE}),
    "noising": (
        bj.noising,
        dict(schedule=VP, center=0.0),
        {"schedule": ("schedule",), "center": (*REAL, "not finite", "closure")},
    ),
    "transition": (
        bj.transition,
        dict(schedule=VP, s=0.2, t=0.5),
        {
            "schedule": ("schedule",),
            "s": (*REAL, "not finite", "negative"),
            "t": (*REAL, "not finite", "negative", "zero"),
        },
    ),
    "starts.normal": (
        bj.starts.normal,
        dict(shape=(2,), scale=1.0, mean=0.0),
        {"shape": ("shape",), "scale": (*NUMBER, "negative"), "mean": (*NUMBER[:-1],)},
    ),
    "starts.point": (bj.starts.point, dict(x=POINTS_X), {"x": REAL}),
    "starts.empirical": (bj.starts.empirical, dict(points=POINTS_X), {"points": REAL}),
    "LinearSDE": (
        bj.linear.LinearSDE,
        dict(A=-np.eye(2), b=np.zeros(2), L=np.eye(2), T=1.0, panels=8),
        {
            "A": (*REAL, "spoilt", "extra axis", "missing axis", "length", "closure"),
            "b": (*REAL, "spoilt", "extra axis", "missing axis", "length", "closure"),
            "L": (*REAL, "spoilt", "extra axis", "missing axis", "closure"),
            "T": ("end",),
            "panels": COUNT,
        },
    ),
    "linear.langevin": (
        bj.linear.langevin,
        dict(friction=1.0, frequency=1.0, temperature=1.0, T=1.0),
        {"friction": POSITIVE, "frequency": NUMBER, "temperature": POSITIVE, "T": ("end",)},
    ),
    "gaussian_mixture": (
        bj.mixtures.gaussian_mixture,
        dict(means=np.zeros((3, 2)), covariances=0.5, weights=np.ones(3)),
        {
            "means": (*REAL, "spoilt"),
            "covariances": (*REAL, "not finite", "negative", "extra axis"),
            "weights": (*REAL[1:], "spoilt", "zero", "negative", "extra axis", "missing axis", "length"),
        },
    ),
    "mixture_score": (
        bj.mixtures.mixture_score,
        dict(mixture=MIXTURE, schedule=VP),
        {"mixture": ("other",), "schedule": ("schedule",)},
    ),
    "mixture_denoiser": (
        bj.mixtures.mixture_denoiser,
        dict(mixture=MIXTURE, schedule=VP),
        {"mixture": ("other",), "schedule": ("schedule",)},
    ),
    "mixtures.condition": (
        bj.mixtures.condition,
        dict(mixture=MIXTURE, operator=np.ones((1, 2)), value=np.ones(1), noise=0.1),
        {
            "mixture": ("other",),
            "operator": (*REAL, "spoilt", "extra axis", "missing axis", "length"),
            "value": (*REAL, "spoilt", "extra axis", "missing axis", "length"),
            "noise": POSITIVE,
        },
    ),
}

BRIDGES = {
    "reverse": (
        bj.reverse,
        dict(sde_or_schedule=SDE, score=score),
        {"sde_or_schedule": ("other",), "score": (*FUNCTION, "closure")},
    ),
    "reverse(denoiser)": (bj.reverse, dict(sde_or_schedule=VP, denoiser=score), {"denoiser": (*FUNCTION, "closure")}),
    "probability_flow": (
        bj.probability_flow,
        dict(sde_or_schedule=SDE, score=score),
        {"sde_or_schedule": ("other",), "score": (*FUNCTION, "closure")},
    ),
    "probability_flow(denoiser)": (
        bj.probability_flow,
        dict(sde_or_schedule=VP, denoiser=score),
        {"denoiser": (*FUNCTION, "closure")},
    ),
    "pin": (bj.pin, dict(process=VP, x1=X), {"process": ("other",), "x1": (*REAL, "spoilt")}),
    "pin(linear)": (
        bj.pin,
        dict(process=LINEAR, x1=X),
        {"x1": (*REAL, "spoilt", "extra axis", "missing axis", "length")},
    ),
    "doob": (bj.doob, dict(sde=SDE, grad_log_h=score), {"sde": ("sde",), "grad_log_h": (*FUNCTION, "closure")}),
    "control": (bj.control, dict(sde=SDE, u=score), {"sde": ("sde",), "u": (*FUNCTION, "closure")}),
    "clamp": (
        bj.clamp,
        dict(sde=SDE, mask=np.array([True, False]), value=X),
        {"sde": ("sde",), "mask": ("mask",), "value": (*REAL[1:], "spoilt")},
    ),
    "transport": (
        bj.transport,
        dict(interpolant=LINE, network=score, predict="velocity"),
        {"interpolant": ("other",), "network": (*FUNCTION, "closure"), "predict": ("word",)},
    ),
    "compose.density": (
        bj.compose.density,
        dict(schedule=VP, shape=(2,), score=score),
        {"schedule": ("schedule",), "shape": ("shape",), "score": ("function", "closure")},
    ),
    "compose.model": (
        bj.compose.model,
        dict(process=bj.Process(bj.starts.normal((2,)), BACK, jnp.array(TS))),
        {"process": ("other", "sde")},
    ),
    "compose.power": (bj.compose.power, dict(part=DENSITY, exponent=2.0), {"part": ("other",), "exponent": POSITIVE}),
    "compose.negation": (
        bj.compose.negation,
        dict(part=DENSITY, without=DENSITY, strength=1.0),
        {"strength": POSITIVE},
    ),
    "compose.guidance": (
        bj.compose.guidance,
        dict(conditional=DENSITY, unconditional=DENSITY, scale=2.0),
        {"scale": NUMBER},
    ),
    "compose.tilted": (
        bj.compose.tilted,
        dict(part=DENSITY, log_factor=level, scale=2.0),
        {"part": ("other",), "log_factor": ("function", "closure"), "scale": NUMBER},
    ),
    "interpolants.diffusion": (bj.interpolants.diffusion, dict(schedule=VP), {"schedule": ("schedule",)}),
    "interpolants.bridge": (bj.interpolants.bridge, dict(schedule=VP), {"schedule": ("schedule",)}),
    "interpolants.brownian": (bj.interpolants.brownian, dict(sigma=1.0), {"sigma": POSITIVE}),
    "Interpolant()": (
        NOISY,
        dict(t=0.5, x0=X, eps=X),
        {"t": REAL, "x0": REAL, "eps": (*REAL, "extra axis", "missing axis", "length")},
    ),
    "Interpolant() two ends": (
        BROWNIAN,
        dict(t=0.5, x0=X, x1=X, eps=X),
        {"x1": (*REAL, "extra axis", "missing axis", "length")},
    ),
    "Interpolant.velocity": (
        BROWNIAN.velocity,
        dict(t=0.5, x0=X, x1=X, eps=X),
        {"t": REAL, "x0": REAL, "x1": (*REAL, "length"), "eps": (*REAL, "length")},
    ),
    "predictions.solve": (
        bj.predictions.solve,
        dict(t=0.5, x=X, interpolant=NOISY, known={"eps": X}, to="score", g=1.0),
        {
            "t": REAL,
            "x": REAL,
            "interpolant": ("other",),
            "known": ("none", "text", "objects", "knowns"),
            "to": ("word",),
            "g": (*POSITIVE[1:-2], "negative"),
        },
    ),
    "predictions.convert": (
        bj.predictions.convert,
        dict(path=VP, network=score, kind="eps", to="x0"),
        {"path": ("other",), "network": (*FUNCTION, "closure"), "kind": ("word",), "to": ("word",)},
    ),
    "x_bridges.pinned": (
        bj.x_bridges.pinned,
        dict(schedule=bj.schedules.brownian(), start=X, start_std=0.3),
        {"schedule": ("schedule",), "start": (*REAL, "spoilt"), "start_std": (*NUMBER, "negative")},
    ),
    "x_bridges.reversal": (bj.x_bridges.reversal, dict(schedule=VP), {"schedule": ("schedule",)}),
    "x_bridges.forced": (
        bj.x_bridges.forced,
        dict(alpha=positive_rate, sigma=positive_rate, start=X, start_std=0.3, T=1.0),
        {"alpha": FUNCTION, "sigma": FUNCTION, "start": REAL, "start_std": (*NUMBER, "negative"), "T": POSITIVE},
    ),
    "x_bridges.added": (
        bj.x_bridges.added,
        dict(bridge=XBRIDGE, f=score),
        {"bridge": ("other",), "f": (*FUNCTION, "closure")},
    ),
    "x_bridges.projection": (
        bj.x_bridges.projection,
        dict(bridge=XBRIDGE, points=np.ones((3, 2)), weights=np.ones(3)),
        {"bridge": ("other",), "points": REAL, "weights": (*REAL[1:], "spoilt", "length")},
    ),
    "guidance.classifier_free": (
        bj.guidance.classifier_free,
        dict(f=score, scale=2.0, null=0),
        {"f": (*FUNCTION, "closure"), "scale": NUMBER},
    ),
    "guidance.posterior": (
        bj.guidance.posterior,
        dict(
            sde=BACK, operator=np.ones((1, 2)), value=np.ones(1), noise=0.1, method="dps", data_variance=1.0, scale=1.0
        ),
        {
            "sde": ("sde",),
            "operator": (*REAL, "spoilt", "extra axis", "missing axis", "closure"),
            "value": (*REAL, "spoilt", "length"),
            "noise": POSITIVE,
            "method": ("word",),
            "data_variance": POSITIVE,
            "scale": NUMBER,
        },
    ),
    "guidance.inpaint": (
        bj.guidance.inpaint,
        dict(sde=BACK, mask=np.array([True, False]), value=X, noise=0.0, data_variance=1.0),
        {
            "sde": ("sde",),
            "mask": ("mask", "length"),
            "value": (*REAL, "spoilt", "extra axis", "missing axis", "length"),
            "noise": (*NUMBER, "negative"),
            "data_variance": POSITIVE,
        },
    ),
    "guidance.hold": (
        bj.guidance.hold,
        dict(sde=BACK, mask=np.array([True, False]), value=X),
        {"sde": ("sde",), "mask": ("mask",), "value": (*REAL, "spoilt", "closure")},
    ),
}
FIXED["knowns"] = [{"epsilon": X}, {"eps": np.zeros(3)}, {"eps": "abc"}, {3: X}, {}]

SIMULATE = {
    "sde": ("sde",),
    "key": KEY,
    "x0": ("none", "text", "objects", "complex", "booleans", "integers"),
    "ts": ("clock",),
    "solver": ("solver",),
    "controller": ("controller",),
}
FIXED["solver"] = ["euler", 3, bj.solvers.Euler, bj.solvers.ExponentialEuler(), bj.solvers.PredictorCorrector()]
FIXED["controller"] = ["pid", 3, dfx.PIDController]
FIXED["axes"] = [3, None, (None, 0), (None, 1, 0), (0.0, 0, 0), "abc", (True, 0, 0)]
STATE = ("text", "objects", "complex", "booleans", "integers")

SOLVE = {
    "simulate": (bj.simulate, dict(sde=SDE, key=KEY0, x0=X, ts=TS, solver=dfx.Euler(), controller=None), SIMULATE),
    "simulate_path": (
        bj.simulate_path,
        dict(sde=SDE, key=KEY0, x0=X, ts=TS, solver=None, controller=None),
        {**SIMULATE, "controller": ()},
    ),
    "simulate_batch": (
        bj.simulate_batch,
        dict(
            sde=SDE,
            keys=KEYS,
            x0s=np.zeros((3, 2), np.float32),
            ts=TS,
            axes=(None, 0, 0),
            solver=None,
            micro_batch=None,
            mesh=None,
        ),
        {
            "sde": ("sde",),
            "keys": ("key", "one key"),
            "x0s": ("none", *STATE, "extra axis", "missing axis"),
            "ts": ("clock",),
            "axes": ("axes",),
            "solver": ("solver",),
            "micro_batch": ("text", "count", "zero count"),
            "mesh": ("function",),
        },
    ),
    "sample": (
        bj.sample,
        dict(
            process=PROCESS,
            keys=KEYS,
            x=np.zeros((3, 2), np.float32),
            t=0.0,
            direction="forward",
            ts=TS,
            solver=None,
            micro_batch=None,
            mesh=None,
        ),
        {
            "process": ("other", "sde", "processes"),
            "keys": ("key", "one key"),
            "x": (*STATE, "extra axis"),
            "t": (*NUMBER, "negative"),
            "direction": ("word",),
            "ts": ("clock - none",),
            "solver": ("solver",),
            "micro_batch": ("text", "count", "zero count"),
            "mesh": ("function",),
        },
    ),
    "grids.uniform": (
        bj.grids.uniform,
        dict(n=4, T=1.0, start=0.0),
        {"n": COUNT, "T": ("end",), "start": (*NUMBER, "negative")},
    ),
    "grids.quadratic": (bj.grids.quadratic, dict(n=4, T=1.0), {"n": COUNT, "T": ("end",)}),
    "grids.log_snr": (
        bj.grids.log_snr,
        dict(n=4, schedule=VP, log_snr_max=5.0, log_snr_min=-5.0),
        {"n": COUNT, "schedule": ("schedule",), "log_snr_max": NUMBER[1:], "log_snr_min": NUMBER[1:]},
    ),
    "grids.karras": (
        bj.grids.karras,
        dict(n=4, schedule=None, sigma_min=0.01, sigma_max=10.0, rho=7.0),
        {"n": COUNT, "schedule": ("schedule - none",), "sigma_min": POSITIVE, "sigma_max": POSITIVE, "rho": POSITIVE},
    ),
    "ExponentialEuler": (bj.solvers.ExponentialEuler, dict(eta=1.0), {"eta": (*NUMBER, "negative", "bool")}),
    "DPMSolverPP2M": (bj.solvers.DPMSolverPP2M, dict(eta=1.0), {"eta": (*NUMBER, "negative", "bool")}),
    "PredictorCorrector": (bj.solvers.PredictorCorrector, dict(snr=0.16), {"snr": (*POSITIVE, "bool")}),
    "kernels.gaussian": (
        bj.kernels.gaussian,
        dict(mean=score, scale=noise, T=1.0),
        {"mean": (*FUNCTION, "closure"), "scale": (*FUNCTION, "closure"), "T": ("end",)},
    ),
    "kernels.euler": (bj.kernels.euler, dict(sde=SDE), {"sde": ("sde",)}),
    "kernels.exponential": (bj.kernels.exponential, dict(sde=BACK), {"sde": ("sde",)}),
    "kernels.ou": (
        bj.kernels.ou,
        dict(schedule=VP, center=0.0),
        {"schedule": ("schedule",), "center": (*REAL, "not finite", "closure")},
    ),
    "kernels.underdamped": (
        bj.kernels.underdamped,
        dict(force=score, friction=1.0, control=None, T=1.0, direction="backward"),
        {
            "force": (*FUNCTION, "closure"),
            "friction": POSITIVE,
            "control": ("function", "closure"),
            "T": ("end",),
            "direction": ("word",),
        },
    ),
    "kernels.walk": (
        bj.kernels.walk,
        dict(kernel=EULER, key=KEY0, x0=X, ts=TS),
        {"kernel": ("other", "sde"), "key": KEY, "x0": ("none", *STATE), "ts": ("clock",)},
    ),
    "path_log_ratio": (
        bj.path_log_ratio,
        dict(path=PATH, forward=EULER, backward=EULER),
        {"path": ("other", "paths"), "forward": ("other", "kernels"), "backward": ("other", "kernels")},
    ),
    "log_weights": (
        bj.log_weights,
        dict(process=PROCESS, keys=KEYS, log_density=log_density, forward=None, backward=None, micro_batch=None),
        {
            "process": ("other", "sde", "processes"),
            "keys": ("key", "one key"),
            "log_density": (*FUNCTION, "closure"),
            "forward": ("kernels", "function"),
            "backward": ("kernels", "function"),
            "micro_batch": ("text", "count", "zero count"),
        },
    ),
    "weighted_samples": (
        bj.weighted_samples,
        dict(process=PROCESS, keys=KEYS, log_density=log_density),
        {"process": ("other",), "keys": ("key", "one key"), "log_density": (*FUNCTION, "closure")},
    ),
    "log_prob": (
        bj.log_prob,
        dict(process=FLOWING, key=KEY0, x=X, divergence="exact", ts=None),
        {
            "process": ("other", "processes"),
            "key": KEY,
            "x": ("none", *STATE),
            "divergence": ("words",),
            "ts": ("clock - none",),
        },
    ),
    "bits_per_dim": (
        bj.bits_per_dim,
        dict(log_prob=-3.0, size=2, bin_width=1.0),
        {"log_prob": REAL, "size": COUNT, "bin_width": POSITIVE},
    ),
    "weights.systematic": (
        bj.weights.systematic,
        dict(key=KEY0, log_weights=LOGS),
        {"key": KEY, "log_weights": (*REAL, "spoilt", "extra axis", "missing axis")},
    ),
    "weights.flattened": (
        bj.weights.flattened,
        dict(log_weights=LOGS, share=0.5),
        {"log_weights": (*REAL, "spoilt", "extra axis", "missing axis"), "share": POSITIVE},
    ),
    "mcmc.hmc": (
        bj.mcmc.hmc,
        dict(leapfrogs=3, persistence=0.5, difference="line", nodes=5),
        {
            "leapfrogs": COUNT,
            "persistence": (*NUMBER, "negative"),
            "difference": ("words",),
            "nodes": COUNT,
        },
    ),
    "mcmc.annealed": (
        bj.mcmc.annealed,
        dict(density=DENSITY, keys=KEYS, ts=TS, move=bj.mcmc.hmc(), transitions=1, step_sizes=0.1),
        {
            "density": ("other", "sde"),
            "keys": ("key", "one key"),
            "ts": ("clock",),
            "move": ("words",),
            "transitions": COUNT,
            "step_sizes": (*REAL[1:], "not finite", "negative", "zero", "extra axis"),
        },
    ),
    "mcmc.tune": (
        bj.mcmc.tune,
        dict(density=DENSITY, key=KEY0, ts=TS, target=0.8, transitions=2, chains=4, size=0.5),
        {
            "density": ("other", "sde"),
            "key": KEY,
            "ts": ("clock",),
            "target": (*NUMBER, "negative", "zero"),
            "transitions": COUNT,
            "chains": COUNT,
            "size": POSITIVE,
        },
    ),
    "feynman_kac": (
        bj.feynman_kac,
        dict(density=DENSITY, key=KEY0, num=4, ts=TS, weights="rate", threshold=0.5),
        {
            "density": ("other", "sde"),
            "key": KEY,
            "num": COUNT,
            "ts": ("clock",),
            "weights": ("words",),
            "threshold": (*NUMBER, "negative"),
        },
    ),
    "superpose": (
        bj.superpose,
        dict(parts=[DENSITY, DENSITY], keys=KEYS, ts=TS, mode="or", bias=np.zeros(2)),
        {
            "parts": ("other", "sde"),
            "keys": ("key", "one key"),
            "ts": ("clock",),
            "mode": ("word",),
            "bias": (*REAL[1:], "spoilt", "extra axis", "missing axis"),
        },
    ),
    **{
        f"weights.{name}": (
            getattr(bj.weights, name),
            dict(log_weights=LOGS),
            {"log_weights": (*REAL, "spoilt", "extra axis", "missing axis")},
        )
        for name in ("log_z", "log_z_error", "elbo", "eubo", "ess")
    },
}
FIXED["clock - none"] = [ts for ts in FIXED["clock"] if ts is not None]
FIXED["schedule - none"] = [s for s in FIXED["schedule"] if s is not None]
FIXED["words"] = ["forwards", "", 3, ["exact"]]
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

ORACLES = {
    "brownian_log_prob": (
        diffusions.brownian_log_prob,
        dict(t=0.5, x0=0.0, x=1.0, sigma=1.0),
        {"t": ELEMENTWISE, "x0": REAL, "x": REAL, "sigma": ELEMENTWISE},
    ),
    "brownian_bridge": (
        diffusions.brownian_bridge,
        dict(s=0.5, t=1.0, x0=0.0, x1=1.0, sigma=1.0),
        {"s": (*REAL, "not finite", "negative"), "t": ELEMENTWISE, "x0": REAL, "x1": REAL, "sigma": ELEMENTWISE},
    ),
    "ou_log_prob": (
        diffusions.ou_log_prob,
        dict(t=0.5, x0=0.0, x=1.0, beta=1.0, sigma=1.0),
        {"t": ELEMENTWISE, "x0": REAL, "x": REAL, "beta": ELEMENTWISE, "sigma": ELEMENTWISE},
    ),
    "ou_bridge": (
        diffusions.ou_bridge,
        dict(s=0.5, t=1.0, x0=0.0, x1=1.0, beta=1.0, sigma=1.0),
        {
            "s": (*REAL, "not finite", "negative"),
            "t": ELEMENTWISE,
            "x0": REAL,
            "x1": REAL,
            "beta": ELEMENTWISE,
            "sigma": ELEMENTWISE,
        },
    ),
    "log_bessel_i": (
        diffusions.log_bessel_i,
        dict(order=0.5, z=1.0),
        {"order": (*REAL, "nan"), "z": (*REAL, "nan", "negative")},
    ),
    "cir_log_prob": (
        diffusions.cir_log_prob,
        dict(t=0.5, x0=1.0, x=1.0, kappa=1.0, theta=1.0, sigma=1.0),
        {"t": ELEMENTWISE, "x0": REAL, "x": REAL, "kappa": ELEMENTWISE, "theta": ELEMENTWISE, "sigma": ELEMENTWISE},
    ),
    "radial_ou_log_prob": (
        diffusions.radial_ou_log_prob,
        dict(t=0.5, x0=1.0, x=1.0, theta=1.0, beta=1.0, sigma=1.0),
        {"t": ELEMENTWISE, "x0": REAL, "x": REAL, "theta": ELEMENTWISE, "beta": ELEMENTWISE, "sigma": ELEMENTWISE},
    ),
    "cir": (
        diffusions.cir,
        dict(kappa=1.0, theta=1.0, sigma=1.0, T=1.0),
        {"kappa": ELEMENTWISE, "theta": ELEMENTWISE, "sigma": ELEMENTWISE, "T": ("end",)},
    ),
    "radial_ou": (
        diffusions.radial_ou,
        dict(theta=1.0, beta=1.0, sigma=1.0, T=1.0),
        {"theta": ELEMENTWISE, "beta": ELEMENTWISE, "sigma": ELEMENTWISE, "T": ("end",)},
    ),
    "bridge_log_prob": (
        diffusions.bridge_log_prob,
        dict(transition_log_prob=diffusions.brownian_log_prob, s=0.5, t=1.0, x0=0.0, x=0.5, x1=1.0),
        {
            "transition_log_prob": (*FUNCTION, "closure"),
            "s": (*ELEMENTWISE,),
            "t": (*REAL, "nan", "negative", "zero"),
            "x0": REAL,
            "x": REAL,
            "x1": REAL,
        },
    ),
    "entropic_pair": (
        bj.oracles.entropic_pair,
        dict(source=MIXTURE, potential=MIXTURE, epsilon=1.0),
        {"source": ("other",), "potential": ("other",), "epsilon": POSITIVE},
    ),
    "random_entropic_pair": (
        bj.oracles.random_entropic_pair,
        dict(key=KEY0, dim=2, components=2, epsilon=1.0, radius=3.0),
        {"key": KEY, "dim": COUNT, "components": COUNT, "epsilon": POSITIVE, "radius": POSITIVE},
    ),
    "gaussian_bridge": (
        bj.oracles.gaussian_bridge,
        dict(mean0=MEAN, cov0=COV, mean1=MEAN, cov1=COV, epsilon=1.0),
        {
            **{n: (*REAL, "spoilt", "extra axis", "missing axis", "length") for n in ("mean0", "mean1")},
            **{n: (*REAL, "spoilt", "extra axis", "length", "asymmetric", "indefinite") for n in ("cov0", "cov1")},
            "epsilon": POSITIVE,
        },
    ),
    "gaussian_bridge(reference)": (
        bj.oracles.gaussian_bridge,
        dict(mean0=MEAN, cov0=COV, mean1=MEAN, cov1=COV, reference=VP),
        {"reference": ("schedule",)},
    ),
    "static_gaussian_bridge": (
        bj.oracles.static_gaussian_bridge,
        dict(mean0=MEAN, cov0=COV, mean1=MEAN, cov1=COV, phi=np.eye(2), q=COV, shift=np.zeros(2)),
        {
            "phi": (*REAL, "spoilt", "extra axis", "missing axis", "length"),
            "q": (*REAL, "spoilt", "extra axis", "length", "asymmetric", "indefinite"),
            "shift": (*REAL, "spoilt", "extra axis", "length"),
        },
    ),
    **{
        f"heat.{name}_log_prob": (
            getattr(heat, f"{name}_log_prob"),
            dict(angle=1.0, t=0.5),
            {"angle": (*REAL, "not finite"), "t": ELEMENTWISE},
        )
        for name in ("circle", "rotation", "sphere")
    },
    "heat.sphere_mean": (
        heat.sphere_mean,
        dict(x0=np.array([1.0, 0.0]), t=0.5),
        {"x0": (*REAL, "zero"), "t": (*REAL, "not finite", "negative")},
    ),
    "grid.cells": (grid.cells, dict(low=-1.0, high=1.0, n=4), {"low": NUMBER, "high": NUMBER, "n": COUNT}),
    "grid.point": (
        grid.point,
        dict(x=0.0, xs=CELLS),
        {"x": NUMBER, "xs": (*REAL, "spoilt", "extra axis", "missing axis", "length")},
    ),
    "grid.forward": (
        grid.forward,
        dict(sde=SDE, density0=LAW, xs=CELLS, ts=TS, order=2, substeps=1),
        {
            "sde": ("sde",),
            "density0": (*REAL, "spoilt", "missing axis", "length"),
            "xs": (*REAL, "spoilt", "extra axis", "missing axis", "length"),
            "ts": ("clock",),
            "order": ("word", "count", "zero count"),
            "substeps": COUNT,
        },
    ),
    "grid.backward": (
        grid.backward,
        dict(sde=SDE, terminal=LAW, xs=CELLS, ts=TS, order=2, substeps=1),
        {
            "sde": ("sde",),
            "terminal": (*REAL, "spoilt", "missing axis", "length"),
            "ts": ("clock",),
            "order": ("word",),
            "substeps": COUNT,
        },
    ),
    "grid.bridge_marginals": (
        grid.bridge_marginals,
        dict(p=np.ones((2, 6)), h=np.ones((2, 6)), xs=CELLS),
        {
            "p": (*REAL, "missing axis", "length"),
            "h": (*REAL, "missing axis", "length"),
            "xs": (*REAL, "missing axis", "length"),
        },
    ),
    "grid.grad_log_h": (
        grid.grad_log_h,
        dict(xs=CELLS, ts=np.array([0.0, 1.0]), h=np.ones((2, 6))),
        {"xs": REAL, "ts": REAL, "h": (*REAL, "missing axis", "length")},
    ),
}
OF_VALUE["asymmetric"] = lambda v: [np.asarray(v) + np.array([[0.0, 0.3], [0.0, 0.0]])]
OF_VALUE["indefinite"] = lambda v: [-np.asarray(v)]

BAD_POINTS = (*POINTS, "points")
FIXED["points"] = [np.zeros((0, 2)), 1.0]
PAIR = {"x": (*BAD_POINTS, "dimension"), "y": (*BAD_POINTS, "dimension")}
OF_VALUE["dimension"] = lambda v: [np.concatenate([v, v], 1)]
METRICS = {
    **{
        name: (getattr(bj.metrics, name), dict(x=POINTS_X, y=POINTS_Y), PAIR)
        for name in ("wasserstein2", "frechet", "energy_distance", "median_bandwidth")
    },
    "mmd": (
        bj.metrics.mmd,
        dict(x=POINTS_X, y=POINTS_Y, bandwidths=[1.0, 2.0]),
        {**PAIR, "bandwidths": (*POINTS[1:], "zero", "negative", "extra axis")},
    ),
    "sliced_wasserstein2": (
        bj.metrics.sliced_wasserstein2,
        dict(x=POINTS_X, y=POINTS_Y, num_projections=4, seed=0),
        {**PAIR, "num_projections": COUNT, "seed": ("none", "text", "count")},
    ),
    "frechet_gaussian": (
        bj.metrics.frechet_gaussian,
        dict(mean1=MEAN, cov1=COV, mean2=MEAN, cov2=COV),
        {
            **{n: (*POINTS, "extra axis", "missing axis", "length") for n in ("mean2",)},
            "mean1": POINTS,
            **{
                n: (*POINTS, "extra axis", "missing axis", "length", "asymmetric", "indefinite")
                for n in ("cov1", "cov2")
            },
        },
    ),
    "bw2_uvp": (
        bj.metrics.bw2_uvp,
        dict(x=POINTS_X, mean=MEAN, cov=COV),
        {
            "x": BAD_POINTS,
            "mean": (*POINTS, "extra axis", "length"),
            "cov": (*POINTS, "extra axis", "missing axis", "length", "asymmetric", "indefinite"),
        },
    ),
    "conditional_bw2_uvp": (
        bj.metrics.conditional_bw2_uvp,
        dict(samples=POINTS_X.reshape(1, 4, 2), means=MEAN[None], covs=COV[None], total_variance=1.0),
        {
            "samples": (*POINTS, "missing axis"),
            "means": (*POINTS, "missing axis", "length"),
            "covs": (*POINTS, "missing axis", "length"),
            "total_variance": (*POSITIVE[1:],),
        },
    ),
    "floor": (
        bj.metrics.floor,
        dict(metric=metric, real=POINTS_X, n=2, draws=2, seed=0),
        {
            "metric": FUNCTION,
            "real": (*POINTS[:-1], "points"),
            "n": COUNT,
            "draws": COUNT,
            "seed": ("none", "text", "count"),
        },
    ),
    "mode_coverage": (
        bj.metrics.mode_coverage,
        dict(assignments=np.eye(2), least=0.1, weights=np.array([0.5, 0.5])),
        {
            "assignments": (*POINTS, "extra axis", "missing axis"),
            "least": POSITIVE,
            "weights": (*POINTS[1:], "extra axis", "missing axis", "length"),
        },
    ),
    "entropic_mode_coverage": (
        bj.metrics.entropic_mode_coverage,
        dict(assignments=np.eye(2)),
        {"assignments": (*POINTS, "extra axis", "missing axis")},
    ),
}

RNG = np.random.default_rng(0)
COUPLINGS = {
    "couplings.independent": (
        couplings.independent,
        dict(rng=RNG, x0=POINTS_X, x1=POINTS_Y),
        {"rng": ("other",), "x0": ("none", "text", "length0"), "x1": ("none", "text", "length0")},
    ),
    "couplings.paired": (
        couplings.paired,
        dict(rng=RNG, x0=POINTS_X, x1=POINTS_Y),
        {"x0": ("none", "text", "length0"), "x1": ("none", "text", "length0")},
    ),
    "couplings.assignment": (
        couplings.assignment,
        dict(x0=POINTS_X, x1=POINTS_Y),
        {"x0": (*POINTS[:2], "complex", "spoilt", "length"), "x1": (*POINTS[:2], "complex", "spoilt", "length")},
    ),
    "couplings.exact_ot": (
        couplings.exact_ot,
        dict(rng=RNG, x0=POINTS_X, x1=POINTS_Y),
        {"x0": (*POINTS[:2], "complex", "spoilt", "length")},
    ),
    "couplings.sinkhorn": (
        couplings.sinkhorn,
        dict(x0=POINTS_X, x1=POINTS_Y, epsilon=1.0),
        {"x0": (*POINTS[:2], "complex", "spoilt", "length"), "epsilon": POSITIVE},
    ),
    "couplings.EntropicOT": (couplings.EntropicOT, dict(epsilon=1.0), {"epsilon": POSITIVE}),
    "couplings.EntropicOT()": (
        couplings.EntropicOT(1.0),
        dict(rng=RNG, x0=POINTS_X, x1=POINTS_Y),
        {"rng": ("other",), "x1": (*POINTS[:2], "complex", "spoilt", "length")},
    ),
}
OF_VALUE["length0"] = lambda v: [np.concatenate([v, v])]

RANGE = {"low": (*NUMBER, "negative"), "high": (*NUMBER, "negative", "zero")}
OBJECTIVES = {
    "times.uniform": (times.uniform, dict(low=0.1, high=1.0), RANGE),
    "times.low_discrepancy": (times.low_discrepancy, dict(low=0.1, high=1.0), RANGE),
    "times.logit_normal": (
        times.logit_normal,
        dict(mean=0.0, std=1.0, low=0.1, high=1.0),
        {**RANGE, "mean": NUMBER, "std": POSITIVE},
    ),
    "times.log_normal": (
        times.log_normal,
        dict(mean=0.0, std=1.0, low=0.1, high=1.0),
        {**RANGE, "mean": NUMBER, "std": POSITIVE},
    ),
    "times.importance": (
        times.importance,
        dict(density=VP, low=0.1, high=1.0, num=4, draw=None),
        {
            "density": FUNCTION,
            "low": (*NUMBER[1:], "negative", "zero"),
            "high": (*NUMBER[1:], "negative", "zero"),
            "num": COUNT,
            "draw": ("function",),
        },
    ),
    "weightings.weight": (
        weightings.weight,
        dict(schedule=VP, predict="eps", weighting="edm", sigma_data=1.0),
        {"schedule": ("schedule",), "predict": ("word",), "weighting": ("words",), "sigma_data": POSITIVE},
    ),
    "matching": (
        bj.objectives.matching,
        dict(interpolant=NOISY, apply=network, predict="eps", times=None, weight=None, condition_dropout=0.1, null=0),
        {
            "interpolant": ("other",),
            "apply": FUNCTION,
            "predict": ("word",),
            "times": ("function",),
            "weight": ("function",),
            "condition_dropout": (*NUMBER, "negative"),
            "null": ("none",),
        },
    ),
    "bridge_loss": (
        bj.objectives.bridge_loss,
        dict(bridge=XBRIDGE, apply=network, times=None, weight=None),
        {"bridge": ("other",), "apply": FUNCTION, "times": ("function",), "weight": ("function",)},
    ),
    "implicit": (
        bj.objectives.implicit,
        dict(
            interpolant=NOISY,
            apply=network,
            divergence="exact",
            probes=1,
            times=None,
            weight=None,
            condition_dropout=0.1,
            null=0,
        ),
        {
            "interpolant": ("function",),
            "apply": FUNCTION,
            "divergence": ("words",),
            "probes": COUNT,
            "times": ("function",),
            "weight": ("function",),
            "condition_dropout": (*NUMBER, "negative"),
            "null": ("none",),
        },
    ),
}
FIXED["words"] = ["forwards", "", 3, ["eps"]]

TRAINING = {
    "gradient_method": (
        bj.gradient_method,
        dict(loss=loss, process=lambda params: PROCESS, optimizer=optax.sgd(0.1), ema=0.9, accumulate=1, params=PARAMS),
        {
            "loss": FUNCTION,
            "process": FUNCTION,
            "optimizer": ("other",),
            "ema": ("text", "objects", "nan", "negative", "zero", "bool"),
            "accumulate": COUNT,
            "params": ("none", "text"),
        },
    ),
    "fit": (
        bj.fit,
        dict(
            method=METHOD,
            data=POINTS_X,
            key=KEY0,
            steps=1,
            batch_size=2,
            refresh_every=None,
            mesh=None,
            directory=None,
            callbacks=(),
            checkpoint_every=None,
            log_every=1,
            keep=1,
        ),
        {
            "method": ("other",),
            "data": ("none", "text"),
            "key": KEY,
            "steps": COUNT,
            "batch_size": COUNT,
            "refresh_every": COUNT[1:],
            "mesh": ("function",),
            "directory": ("directory",),
            "callbacks": ("none", "function"),
            "checkpoint_every": COUNT[1:],
            "log_every": COUNT,
            "keep": COUNT,
        },
    ),
}
FIXED["directory"] = [3, 1.5, ["runs"]]

NETWORKS = {
    "MLP": network_of(MLP, (2,), depth=DEPTH),
    "UNet": network_of(UNet, (4, 4, 1), multipliers=LEVELS, blocks=COUNT, attention=DEPTH),
    "TemporalUNet": network_of(TemporalUNet, (4, 2), multipliers=LEVELS, blocks=COUNT),
    "Transformer": network_of(
        Transformer, (4, 2), patch=COUNT, depth=DEPTH, heads=COUNT, expansion=COUNT, positions=("word",)
    ),
    "SetTransformer": network_of(SetTransformer, (4, 2), depth=DEPTH, heads=COUNT, expansion=COUNT, inducing=DEPTH),
    "Embedding": (
        Embedding,
        dict(size=4, num_classes=None, cond_dim=None, time_features=8, time_scale=1.0, rngs=nnx.Rngs(0)),
        {
            "size": COUNT,
            "num_classes": COUNT[1:],
            "cond_dim": COUNT[1:],
            "time_features": COUNT,
            "time_scale": POSITIVE,
            "rngs": ("other",),
        },
    ),
    "fourier_features": (
        bj.networks.fourier_features,
        dict(t=0.5, num=8, low=0.5, high=64.0),
        {"t": REAL[:4], "num": COUNT, "low": POSITIVE, "high": POSITIVE},
    ),
    "functional": (bj.networks.functional, dict(module=(network, PARAMS)), {"module": ("other",)}),
    "networks.hold": (
        bj.networks.hold,
        dict(network=(network, PARAMS), mask=np.array([True, False]), value=read_out, condition=None),
        {"network": ("other",), "mask": ("mask",), "value": FUNCTION, "condition": ("function",)},
    ),
    "precondition": (
        bj.networks.precondition,
        dict(apply=network, alpha=of_time, sigma=of_time, sigma_data=0.5, noise=None),
        {"apply": FUNCTION, "alpha": FUNCTION, "sigma": FUNCTION, "sigma_data": POSITIVE, "noise": ("function",)},
    ),
    "edm_precondition": (
        bj.networks.edm_precondition,
        dict(apply=network, sigma_data=0.5),
        {"apply": FUNCTION, "sigma_data": POSITIVE},
    ),
    "coefficients": (
        bj.networks.coefficients,
        dict(alpha=1.0, sigma=0.5, sigma_data=0.5),
        {"alpha": REAL, "sigma": REAL, "sigma_data": REAL},
    ),
}

ROOMS = {
    "processes": PROCESSES,
    "bridges": BRIDGES,
    "solve": SOLVE,
    "oracles": ORACLES,
    "metrics": METRICS,
    "couplings": COUPLINGS,
    "objectives": OBJECTIVES,
    "training": TRAINING,
    "networks": NETWORKS,
}
TABLE = {f"{room}:{name}": row for room, rows in ROOMS.items() for name, row in rows.items()}
CASES = [(name, argument) for name, (_, _, kinds) in TABLE.items() for argument in kinds]

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


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_wrong_argument_is_named(name, argument):
    function, right, kinds = TABLE[name]

    @few
    @given(st.data())
    def check(data):
        for kind in kinds[argument]:
            value = data.draw(wrong(kind, right.get(argument)))
            found = complaint(function, right, argument, value)
            assert found is None, f"{argument} = {value!r} ({kind}) {found}"

    check()


SLOW = {  # they compile, and are run elsewhere
    "solve:simulate_batch",
    "solve:sample",
    "solve:log_weights",
    "solve:weighted_samples",
    "solve:log_prob",
    "solve:mcmc.annealed",
    "solve:mcmc.tune",
    "solve:feynman_kac",
    "solve:superpose",
    "training:fit",
    "oracles:grid.backward",
    "oracles:random_entropic_pair",
    "processes:mixtures.condition",
    "objectives:times.importance",
    "networks:UNet",
    "networks:TemporalUNet",
    "networks:Transformer",
    "networks:SetTransformer",
}


@pytest.mark.parametrize("name", [name for name in TABLE if name not in SLOW])
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)


# arrays out of sight --------------------------------------------------------------------------------------------------

CLOSURES = [
    (name, argument) for name, (_, _, kinds) in TABLE.items() for argument in kinds if "closure" in kinds[argument]
]


@pytest.mark.parametrize(("name", "argument"), CLOSURES)
def test_a_closure_over_an_array_is_told_of_partial(name, argument):
    function, right, _ = TABLE[name]
    for hidden in closures(jnp.arange(2.0)):
        with pytest.raises(ValueError, match=rf"^{argument} closes over JAX arrays.*jax\.tree_util\.Partial"):
            function(**{**right, argument: hidden})


def test_an_array_that_is_a_global_of_its_module_is_no_closure():
    """It is a constant of the program: nothing is traced again, and nothing can leak."""
    assert bj.SDE(lambda t, x, args: ARRAY - x).drift(0.0, ARRAY, None).shape == (2,)


# what a user's function returns, found while tracing ------------------------------------------------------------------


def structs(sde, x=X):
    """Trace a simulation without compiling it."""
    return jax.eval_shape(lambda key: bj.simulate(sde, key, x, TS), KEY0)


def returning(value, *unused):
    return value


WRONG_SHAPES = st.sampled_from([(), (1,), (3,), (1, 2), (2, 2), (0,)])
USED = {
    "drift": lambda f: bj.SDE(f, noise),
    "score": lambda f: bj.reverse(SDE, f),
    "score of a schedule": lambda f: bj.reverse(VP, f),
    "score of a flow": lambda f: bj.probability_flow(SDE, f),
    "denoiser": lambda f: bj.reverse(VP, denoiser=f),
    "denoiser of a flow": lambda f: bj.probability_flow(VP, denoiser=f),
    "grad_log_h": lambda f: bj.doob(SDE, f),
    "u": lambda f: bj.control(SDE, f),
}


@pytest.mark.parametrize("name", USED)
@few
@given(shape=WRONG_SHAPES)
def test_what_a_function_returns_has_the_shape_of_x(name, shape):
    sde = USED[name](Partial(returning, jnp.zeros(shape)))
    for x in (X, {"a": X}):
        with pytest.raises(
            ValueError, match=rf"^{name.split()[0]} must be shaped like (x|the noise), .*got .*{re.escape(str(shape))}"
        ):
            structs(sde, x)


@few
@given(shape=WRONG_SHAPES.filter(lambda shape: shape not in ((), (1,))))
def test_a_diffusion_is_a_number_or_fits_x(shape):
    for g in (jnp.ones(shape), lineax.MatrixLinearOperator(jnp.ones((3, 2)))):
        with pytest.raises(ValueError, match=r"^diffusion must be .*x, .*\(2,\), got "):
            structs(bj.SDE(drift, Partial(returning, g)))
        with pytest.raises(ValueError, match=r"^diffusion must be .*x, .*\(2,\), got "):
            jax.eval_shape(bj.kernels.euler(bj.SDE(drift, Partial(returning, g))).log_prob, 0.0, 0.1, X, X, None)


@few
@given(value=st.sampled_from([None, "abc", [1.0, 2.0], 1.0, {"a": 1.0}]))
def test_a_drift_of_another_kind_is_refused(value):
    with pytest.raises(ValueError, match=r"^drift must be shaped like x, \(2,\), got "):
        structs(bj.SDE(Partial(returning, value) if value != "abc" else lambda t, x, args: "abc", noise))


@few
@given(shape=st.sampled_from([(3,), (1, 2), (2, 2)]))
def test_masks_values_and_ends_fit_the_state(shape):
    ones = jnp.ones(shape)
    for sde, word in (
        (bj.clamp(SDE, ones.astype(bool)), "mask"),
        (bj.clamp(SDE, np.array([True, False]), ones), "value"),
        (bj.pin(VP, ones), "x1"),
        (bj.noising(VP, ones), "center"),
        (bj.guidance.inpaint(BACK, ones.astype(bool), ones), "mask"),
        (bj.guidance.hold(BACK, ones.astype(bool), X), "mask"),
        (bj.guidance.hold(BACK, np.array([True, False]), ones), "value"),
        (bj.guidance.posterior(BACK, np.ones((1, 3)), np.ones(1), 0.1), "operator"),
        (bj.guidance.posterior(BACK, read_out, np.ones(3), 0.1), "operator"),
    ):
        with pytest.raises(ValueError, match=word):
            structs(sde)


@few
@given(wrong_part=st.sampled_from(["drift", 3, None, X]))
def test_constructors_that_take_placeholders_are_checked_where_they_are_used(wrong_part):
    """JAX rebuilds these pytrees with anything for leaves: a wrong field is found by the first function to use it."""
    with pytest.raises(ValueError, match="drift must be a function"):
        bj.simulate(bj.SDE(wrong_part, noise), KEY0, X, TS)
    if wrong_part is not None:
        with pytest.raises(ValueError, match="diffusion must be a function"):
            bj.simulate(bj.SDE(drift, wrong_part), KEY0, X, TS)
    with pytest.raises(ValueError, match=r"^a must be a function"):
        bj.Interpolant(wrong_part)(0.5, X)


# noise that depends on x ----------------------------------------------------------------------------------------------


def proportional(t, x, args):
    return jax.tree.map(lambda leaf: 0.1 * leaf, x)


def dense(t, x, args):
    return lineax.DiagonalLinearOperator(0.1 * x)


def shape_only(t, x, args):
    return jnp.full_like(x, 0.5) * jnp.ones_like(x) + t


WRONGLY_ADDITIVE = bj.SDE(drift, proportional)


@pytest.mark.parametrize("diffusion", [proportional, dense])
@pytest.mark.parametrize("solver", [None, bj.solvers.Heun(), dfx.ShARK()])
def test_noise_that_depends_on_x_must_say_so(diffusion, solver):
    sde = bj.SDE(drift, diffusion)
    for bent in (
        sde,
        bj.control(sde, score),
        bj.doob(sde, score),
        bj.clamp(sde, np.array([True, False])),
        bj.reverse(sde, score),
    ):
        with pytest.raises(
            ValueError, match=r"^the diffusion depends on x, and its SDE says noise='additive'.*noise='state'"
        ):
            jax.eval_shape(lambda key: bj.simulate(bent, key, X, TS, solver=solver), KEY0)
    right = bj.SDE(drift, diffusion, noise="state")
    structs(right)


def test_the_flow_and_the_reversal_of_such_noise_are_refused_while_tracing():
    for bent in (bj.probability_flow(WRONGLY_ADDITIVE, score), bj.reverse(WRONGLY_ADDITIVE, score)):
        with pytest.raises(ValueError, match="noise='state'"):
            jax.eval_shape(bent.drift, 0.3, X, None)
    batch = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="noise='state'"):
        jax.eval_shape(lambda keys: bj.simulate_batch(WRONGLY_ADDITIVE, keys, batch, TS), KEYS)


def test_a_shape_taken_from_x_is_additive():
    structs(bj.SDE(drift, shape_only))
    structs(bj.SDE(lambda t, x, args: {"a": -x["a"]}, lambda t, x, args: {"a": jnp.ones_like(x["a"])}), {"a": X})
    structs(bj.SDE(drift, lambda t, x, args: lineax.IdentityLinearOperator(jax.ShapeDtypeStruct(x.shape, x.dtype))))


# noise that is singular -----------------------------------------------------------------------------------------------

SINGULAR = [
    [[1.0, 0.0], [1.0, 0.0]],
    [[1.0, 0.0], [0.0, 0.0]],
    [[1.0, 2.0], [0.5, 1.0]],
    [[0.3, 0.6], [0.1, 0.2]],
    [[0.0, 0.0], [0.0, 0.0]],
]


@jax.jit
def first_step(kernel, path):
    return kernel.log_prob(path.ts[0], path.ts[1], path.xs[0], path.xs[1], None)


@few
@given(st.sampled_from(SINGULAR))
def test_a_step_with_singular_noise_has_no_density(matrix):
    kernel = bj.kernels.euler(bj.SDE(drift, Partial(returning, lineax.MatrixLinearOperator(jnp.array(matrix)))))
    path = bj.kernels.walk(kernel, KEY0, jnp.ones(2), TS)
    assert np.isnan(first_step(kernel, path))
    with pytest.raises(ValueError, match=r"^step 0 of the path \(t = 0 to 0.5\) has no density"):
        bj.path_log_ratio(path, kernel, kernel)


def test_a_coordinate_without_noise_drops_out_but_none_with_noise_is_no_density():
    still = bj.kernels.euler(bj.SDE(drift, Partial(returning, jnp.array([0.5, 0.0]))))
    path = bj.kernels.walk(still, KEY0, jnp.ones(2), TS)
    assert np.isfinite(first_step(still, path))
    none = bj.kernels.euler(bj.SDE(drift, Partial(returning, jnp.zeros(2))))
    with pytest.raises(ValueError, match="has no density"):
        bj.path_log_ratio(bj.kernels.walk(none, KEY0, jnp.ones(2), TS), none, none)


# a network that gives another shape than its target -------------------------------------------------------------------


def column(params, t, x, args):
    return x[:, None]


@few
@given(predict=st.sampled_from(["x0", "eps", "score", "velocity"]))
def test_a_loss_does_not_broadcast(predict):
    with pytest.raises(ValueError, match=r"what apply returns must be shaped like its target, \(2,\), got \(2, 1\)"):
        jax.eval_shape(bj.objectives.matching(NOISY, column, predict), PARAMS, KEYS, jnp.zeros((3, 2)))
