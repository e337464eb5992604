"""``help`` of what ``import bridgejax`` gives: arguments, what comes back, and examples that run."""

import inspect

import pytest
from help_texts import run_examples

import bridgejax as bj

NAMES = {name: getattr(bj, name) for name in dir(bj)}  # imported when first used
PUBLIC = {n: v for n, v in NAMES.items() if not n.startswith("_") and callable(v) and not inspect.ismodule(v)}
FUNCTIONS = {n: v for n, v in PUBLIC.items() if not inspect.isclass(v)}
ROOMS = ("grids", "kernels", "mcmc", "oracles", "schedules", "solvers", "targets", "weights")
# every callable of these has an example, but for records that functions fill, types, and what takes seconds
WHOLE = {
    "compose": {"Density"},
    "couplings": {"Coupling", "paired"},
    "data": {"Dataset"},
    "domains": {"Domain"},
    "evaluation": {
        *("C2ST", "FeatureMap", "KernelDensity", "Metric", "Memorised", "Modes", "Report", "SamplerReport"),
        *("TwoHalves", "Verdict"),
        *("classifier_features", "evaluate_on_manifold", "evaluate_sampler"),
    },
    "gp": {"Likelihood", "Root"},
    "guidance": set(),
    "interpolants": set(),
    "linear": {"Gaussian"},
    "manifolds": {"Manifold"},
    "metrics": {"Floor"},
    "mirrors": {"MirrorMap", "Standardised"},
    "mixtures": set(),
    "networks": {"Apply", "Coefficients", "Functional", "Precondition", "Present"},
    "predictions": {"Converted"},
    "starts": {"Normal", "Uniform"},
    "x_bridges": {"XBridge"},
}
OFFERED = {
    f"{room}.{name}": getattr(getattr(bj, room), name)
    for room in (*ROOMS, *WHOLE)
    for name in getattr(bj, room).__all__
    if not inspect.ismodule(getattr(getattr(bj, room), name))
}
EXAMPLES = {n: v for n, v in {**PUBLIC, **OFFERED}.items() if ">>>" in (v.__doc__ or "")}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_argument_is_described(name):
    text = inspect.getdoc(PUBLIC[name])
    described = text[text.index("Args:" if "Args:" in text else "Attributes:") :]
    for argument in inspect.signature(PUBLIC[name]).parameters:
        assert f"\n    {argument}: " in described, argument


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_returns(name):
    assert "Returns:" in FUNCTIONS[name].__doc__


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_help_run(name):
    assert run_examples(EXAMPLES[name], name)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name):
    assert ">>>" in PUBLIC[name].__doc__


@pytest.mark.parametrize("name", bj.schedules.__all__)
def test_every_schedule_has_an_example(name):
    schedule = getattr(bj.schedules, name)
    assert "Returns:" in schedule.__doc__
    assert ">>>" in schedule.__doc__


@pytest.mark.parametrize("room", WHOLE)
def test_every_callable_of_a_room_has_an_example(room):
    lacking = {n.split(".")[1] for n, v in OFFERED.items() if n.startswith(f"{room}.") and callable(v)}
    assert lacking - {n.split(".")[1] for n in EXAMPLES if n.startswith(f"{room}.")} == WHOLE[room]


def test_grids_kernels_solvers_weights_and_targets_have_examples():
    others = {"solvers.Euler", "targets.Target"}  # diffrax's own; made by targets.target
    others |= {f"targets.{name}" for name in ("brownian", "log_gaussian_cox", "logistic_regression", "seeds")}
    wanted = {n for n in OFFERED if n.split(".")[0] in ("grids", "kernels", "solvers", "weights", "targets")}
    assert wanted - others <= set(EXAMPLES)
