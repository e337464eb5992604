"""What TAB shows: each public namespace lists what it hands on, and nothing that it was made with."""

import importlib

import pytest

import bridgejax as bj

NAMESPACES = (
    "compose",
    "couplings",
    "data",
    "domains",
    "gp",
    "grids",
    "guidance",
    "interpolants",
    "kernels",
    "linear",
    "manifolds",
    "mcmc",
    "metrics",
    "mirrors",
    "mixtures",
    "networks",
    "objectives",
    "oracles",
    "predictions",
    "schedules",
    "solvers",
    "starts",
    "targets",
    "weights",
    "x_bridges",
)
ROOMS = (
    "applications.autonomy.pilots",
    "bridges",
    "geometry",
    "methods",
    "methods.conditioning",
    "methods.generative",
    "methods.manifolds",
    "methods.paired",
    "methods.samplers",
    "methods.schroedinger",
    "methods.variational",
    "objectives.times",
    "objectives.weightings",
    "oracles.diffusions",
    "oracles.grid",
    "oracles.heat",
    "oracles.quantum",
    "processes",
    "runs",
    "solve",
    "training",
    "training.checkpoints",
    "training.ema",
    "training.optimizers",
    "training.records",
    "weigh",
)


@pytest.mark.parametrize("name", [*NAMESPACES, *ROOMS])
def test_a_namespace_shows_what_it_hands_on(name):
    module = importlib.import_module(f"bridgejax.{name}") if name in ROOMS else getattr(bj, name)
    assert sorted(dir(module)) == sorted(module.__all__)
    for member in module.__all__:
        assert not member.startswith("_")
        assert hasattr(module, member)


def test_applications_show_what_they_hand_on():
    pytest.importorskip("gymnasium")
    pytest.importorskip("pymoo")
    for name in ("autonomy", "autonomy.lunar", "evolution", "evolution.problems"):
        module = importlib.import_module(f"bridgejax.applications.{name}")
        assert sorted(dir(module)) == sorted(module.__all__)
        assert all(hasattr(module, member) for member in module.__all__)


def test_bridgejax_shows_what_its_table_of_contents_hands_on():
    assert sorted(dir(bj)) == sorted(bj.__all__)
    for member in bj.__all__:
        assert not member.startswith("_") or member == "__version__"
        assert hasattr(bj, member)


def test_schedules_are_eight():
    assert sorted(dir(bj.schedules)) == ["brownian", "cosine", "karras", "ou", "rectified", "sub_vp", "ve", "vp"]
