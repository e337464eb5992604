"""``help`` of what evolutionary search hands on: arguments, and examples that run."""

import doctest
import inspect

import pytest

pytest.importorskip("pymoo")

from bridgejax.applications import evolution  # noqa: E402
from bridgejax.applications.evolution import problems  # noqa: E402

OFFERED = {
    f"{module.__name__.split('.')[-1]}.{name}": getattr(module, name)
    for module in (evolution, problems)
    for name in module.__all__
    if callable(getattr(module, name))
}
ELSEWHERE = ("evolution.Evolution", "evolution.Evolver", "evolution.save_evolver", "evolution.train_evolver")


@pytest.mark.parametrize("name", OFFERED)
def test_every_argument_is_described(name):
    text = inspect.getdoc(OFFERED[name])
    described = text[text.index("Args:" if "Args:" in text else "Attributes:") :]
    for argument, parameter in inspect.signature(OFFERED[name]).parameters.items():
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        assert f"\n    {stars}{argument}: " in described, argument


@pytest.mark.parametrize("name", OFFERED)
def test_examples_run(name):
    found = doctest.DocTestFinder(recurse=False).find(OFFERED[name], name, globs={})
    assert any(test.examples for test in found) or name in ELSEWHERE
    runner = doctest.DocTestRunner()
    for test in found:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
