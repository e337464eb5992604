"""Every object says what it is: class, shapes, clock, the numbers it holds, in a few lines and without addresses."""

import dataclasses
import importlib
import pkgutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridgejax as bj
from bridgejax._summary import summary

FLOAT = jnp.result_type(float)  # JAX's default, of what nothing gives a dtype
RECORDS = {  # of numbers and words: the fields are what is to be read
    "Column", "Config", "DataSpec", "Encoding", "Info", "Metric", "Reading", "Report", "Restored", "SamplerReport",
    "Verdict",
}  # fmt: skip


def _classes():
    for module in pkgutil.walk_packages(bj.__path__, "bridgejax."):
        if module.name.startswith("bridgejax.cli") or module.name.endswith("__main__"):
            continue
        try:
            found = importlib.import_module(module.name)
        except ImportError as error:
            if "bridgejax[apps]" not in str(error):
                raise
            continue  # an application whose library is not installed
        for value in vars(found).values():
            if isinstance(value, type) and value.__module__ == module.name:
                yield value


WINGS = [
    f"bridgejax.methods.{wing}"
    for wing in ("_spec", "generative", "schroedinger", "paired", "manifolds", "variational")
]
WORDS = {*WINGS, "bridgejax.runs.config", "bridgejax.cli.arguments", "bridgejax.cli.train_words"}


def test_every_class_of_fields_describes_itself():
    found = {c for c in _classes() if dataclasses.is_dataclass(c) or hasattr(c, "_fields")}
    found = {c for c in found if not issubclass(c, eqx.Module)}  # Equinox has summaries of its own
    assert len(found) > 60
    words = {c for c in found if c.__module__ in WORDS}  # records of words and numbers, which print themselves
    own = {c for c in found - words if not c.__name__.startswith("_") and c.__name__ not in RECORDS}
    assert {c.__name__ for c in own if c.__repr__ is not summary} == set()


def _network():
    return bj.networks.MLP((2,), width=16, depth=1, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def things():
    network, schedule = _network(), bj.schedules.cosine()
    method = bj.methods.diffusion(schedule, network, shape=(2,))
    state = method.init(jax.random.key(0), None)
    process, data = method.process(state), bj.data.load("moons")
    density = bj.compose.model(process)
    sde = bj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)
    guided = bj.guide(sde, bj.Observation(1.0, jnp.ones(2)), start=jnp.zeros(2))
    path = bj.simulate_path(sde, jax.random.key(0), jnp.zeros(2), bj.grids.uniform(2))
    return {
        "schedule": (schedule, ["T=1.0"]),
        "method": (method, ["diffusion.process", "3,026 numbers"]),
        "state": (state, ["step=0", "3,026 numbers"]),
        "process": (process, [f"ts={FLOAT}[41]", "T=1.0", "3,026 numbers"]),
        "sde": (process.dynamics, ["drift=", "noise='additive'"]),
        "kernel": (guided.kernel, []),
        "guided": (guided, []),
        "density": (density, ["shape=(2,)"]),
        "product": (bj.compose.product(density, density), [f"exponents={FLOAT}[2]"]),
        "linear": (bj.linear.LinearSDE(jnp.eye(2), jnp.zeros(2), jnp.eye(2)), [f"A={FLOAT}[2,2]"]),
        "mixture": (bj.GaussianMixture(jnp.ones(2) / 2, jnp.zeros((2, 3)), jnp.ones((2, 3, 3))), ["[2,3]"]),
        "observation": (bj.Observation(1.0, jnp.ones(2)), ["time=1.0", f"value={FLOAT}[2]"]),
        "interpolant": (bj.interpolants.linear(), ["T=1.0"]),
        "path": (path, [f"xs={FLOAT}[3,2]"]),
        "dataset": (data, ["float32[10000,2]", "'moons'"]),
        "batches": (bj.data.Batches(data.x, 32), ["n=10000", "batch_size=32"]),
        "pairs": (bj.data.Pairs(data.x, data.x, 32), ["batch_size=32"]),
        "functional": (bj.networks.functional(network), ["apply=MLP", "3,026 numbers"]),
        "preconditioned": (bj.networks.edm_precondition(bj.networks.functional(network).apply, 0.5), ["MLP"]),
        "categories": (bj.domains.Categorical(3), ["3"]),
        "columns": (bj.domains.Product([bj.domains.Reals(), bj.domains.Box(0.0, 1.0)], [1, 1]), ["Reals", "Box"]),
        "coupling": (bj.couplings.EntropicOT(0.1), ["epsilon=0.1"]),
        "solver": (bj.solvers.DPMSolverPP2M(), ["DPMSolverPP2M"]),
        "target": (bj.targets.gmm9(), ["dim=2"]),
        "sampler": (bj.methods.dis(bj.targets.gmm9(), network), ["init="]),
    }


def test_a_summary_is_short_and_says_what_it_is(things):
    for name, (thing, words) in things.items():
        text = repr(thing)
        assert len(text) < 500, name
        assert len(text.splitlines()) <= 3, name
        assert type(thing).__name__ in text, name
        assert not [mark for mark in ("0x", "object at", "<function") if mark in text], name
        missing = [word for word in words if word not in text.replace("\n    ", " ")]
        assert not missing, (name, text)


def test_parameters_in_two_places_are_counted_once(things):
    process = things["process"][0]
    ids = {id(leaf): leaf for leaf in jax.tree.leaves(process)}
    count = sum(leaf.size for leaf in ids.values() if hasattr(leaf, "shape"))
    assert f"holding {count:,} numbers" in repr(process)


def test_a_summary_inside_jit_and_of_a_donated_state(things):
    process, seen = things["process"][0], []

    @jax.jit
    def run(process, x):
        seen.append(repr(process))
        return x

    run(process, 1.0)
    run(jax.tree.map(jnp.array, process), 2.0)
    assert len(seen) == 1  # a summary is no part of what is compiled
    assert f"ts={FLOAT}[41]" in seen[0]
    assert "Process(" in repr(jax.tree.map(lambda leaf: None, process))
    once = jnp.float32(3.0) + 0
    jax.jit(lambda x: x + 1, donate_argnums=0)(once)
    assert repr(bj.starts.Normal(once, np.float32(2.0))).startswith("Normal(mean=")
