"""Every public callable stands in a room's table of bad input, or below with the reason why it does not."""

import importlib.util
import inspect
import pathlib
from functools import cache

import pytest

import bridgejax as bj

TESTS = pathlib.Path(__file__).parent

# reason: the public names; the callable that a test file refuses by name has that file as its reason
WHY_NOT = {
    "a record or a type: users read it, functions fill it": [
        *("Method", "Path", "Run", "compose.Density", "couplings.Coupling", "data.Dataset", "domains.Domain"),
        *("evaluation.C2ST", "evaluation.FeatureMap", "evaluation.Metric", "evaluation.Modes", "evaluation.Report"),
        *(
            "evaluation.KernelDensity",
            "evaluation.Memorised",
            "evaluation.SamplerReport",
            "evaluation.TwoHalves",
            "evaluation.Verdict",
            "linear.Gaussian",
            "manifolds.Manifold",
            "mcmc.Annealed",
        ),
        *("mcmc.Chain", "mcmc.Move", "mcmc.Outcome", "methods.Codec", "methods.SamplerOptions", "metrics.Floor"),
        *("mirrors.MirrorMap", "mirrors.Standardised", "networks.Apply", "networks.Coefficients"),
        *(
            "gp.Covariance",
            "gp.Likelihood",
            "gp.Root",
            "methods.Prediction",
            "evaluation.Forecast",
            "evaluation.PredictionReport",
        ),
        *("networks.Functional", "networks.Precondition", "networks.Present", "objectives.times.Importance"),
        *(
            "objectives.times.TimeSampler",
            "objectives.weightings.Weight",
            "oracles.CollapseTime",
            "oracles.EntropicPair",
        ),
        *("oracles.GaussianBridge", "oracles.StaticBridge", "predictions.Converted", "starts.Normal"),
        *("starts.Uniform", "targets.Target", "x_bridges.XBridge"),
        *("training.Info", "training.Restored", "training.State"),
    ],
    "an error, that functions raise": [
        *("training.CheckpointError", "training.Diverged", "training.InUse", "training.Interrupted"),
        *("training.LossExplosion", "training.NonFiniteLoss", "training.NonFiniteParameters"),
    ],
    "it takes no argument": [
        *("gp.bernoulli",),
        *("domains.Reals", "domains.Sphere", "interpolants.linear", "interpolants.trigonometric", "mcmc.ula"),
        *("mirrors.Positive", "schedules.rectified", "solvers.DPMSolverPP3M", "solvers.Euler", "solvers.Heun"),
        *("solvers.GeodesicEuler", "solvers.GeodesicMidpoint", "solvers.UniPC", "starts.condition"),
        *("targets.brownian", "targets.gmm9", "targets.seeds"),
    ],
    "a pytree that JAX rebuilds with placeholders, so its constructor takes anything; what uses it refuses": [
        *("GaussianMixture", "Observation", "domains.Box", "domains.FinitePoints", "domains.Levels"),
        "oracles.GaussianLaw",
    ],
    "arithmetic that runs inside compiled functions, on arguments that its callers have checked": [
        *("mcmc.start_chain", "mcmc.step", "objectives.times.correction", "oracles.quantum.purity"),
        *("x_bridges.posterior", "compose.conditioned", "manifolds.real_pair", "networks.count_params"),
        *(f"training.ema.{name}" for name in ("effective_decay", "like", "start", "update")),
    ],
    "gp/test_gp_bad_input.py": ["gp.add", "gp.multiply"],
    "training/test_callbacks.py": [f"training.callbacks.{name}" for name in ("pictures", "tensorboard", "wandb")],
    "bridges/test_compose.py": ["compose.mixture", "compose.product"],
    "data/test_loading.py": ["data.load"],
    "data/test_tables.py": ["data.Reading", "data.from_array"],
    "evaluation/test_features.py": ["evaluation.classifier_features"],
    "evaluation/test_report.py": ["evaluation.evaluate"],
    "evaluation/test_predictive.py": ["evaluation.evaluate_predictions"],
    "evaluation/test_sampler.py": ["evaluation.evaluate_sampler", "evaluation.modes_of"],
    "runs/test_config.py": ["methods.MethodSpec"],
    "cli/test_bridges.py": ["load"],
    "geometry/test_manifolds.py": ["manifolds.Product", "manifolds.complex_of"],
    "methods/generative/test_latent_sb.py": ["methods.codec"],
    "methods/generative/test_constrained_method.py": ["methods.last_step"],
    "networks/test_weights.py": ["networks.load_weights", "networks.save_weights"],
    "methods/variational/test_deep_gp.py": ["methods.log_joint"],
    "methods/conditioning/test_conditioned.py": ["weighted_paths"],
}


@cache
def tabled():
    """The identities of the functions in the tables, of the classes of their bound methods and of their instances."""
    found = set()
    for path in sorted(TESTS.glob("*/test_*_bad_input.py")) + sorted(TESTS.glob("test_*_bad_input.py")):
        spec = importlib.util.spec_from_file_location(f"table_of_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for function, *_ in module.TABLE.values():
            owner = getattr(function, "__self__", function)
            found |= {id(function), id(owner if inspect.isclass(owner) else type(owner))}
    return found


@cache
def public():
    """Every public callable by the shortest name that ``bridgejax`` has for it."""
    found, rooms, seen = {}, [("", bj)], set()
    while rooms:
        name, module = rooms.pop(0)
        if id(module) in seen:
            continue
        seen.add(id(module))
        for member in getattr(module, "__all__", None) or []:
            value, called = getattr(module, member), f"{name}.{member}".removeprefix(".")
            if inspect.ismodule(value) and value.__name__.startswith("bridgejax."):
                rooms.append((called, value))
            elif callable(value):
                found.setdefault(id(value), (called, value))
    return dict(found.values())


def test_every_public_callable_is_in_a_table_or_has_its_reason():
    reasoned = [name for names in WHY_NOT.values() for name in names]
    free = {name for name, value in public().items() if id(value) not in tabled()}
    assert sorted(reasoned) == sorted(set(reasoned))
    assert free - set(reasoned) == set(), "add a row to the bad-input table of the room, or a reason here"
    assert set(reasoned) - free == set(), "it is gone, or in a table by now"


@pytest.mark.parametrize("path", [reason for reason in WHY_NOT if reason.endswith(".py")])
def test_a_test_file_named_as_reason_refuses_something_of_that_name(path):
    text = (TESTS / path).read_text()
    assert "pytest.raises(ValueError" in text or "refused(" in text
    for name in WHY_NOT[path]:
        assert name.split(".")[-1] in text, name
