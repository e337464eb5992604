"""``help`` of what shared autonomy hands on: arguments, and examples that run."""

import doctest
import inspect

import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("Box2D")

from bridgejax.applications import autonomy  # noqa: E402
from bridgejax.applications.autonomy import lunar, pilots  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

OFFERED = {
    f"{module.__name__.split('.')[-1]}.{name}": getattr(module, name)
    for module in (autonomy, lunar, pilots)
    for name in module.__all__
    if callable(getattr(module, name)) and name != "Pilot"
}


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
    assert any(test.examples for test in found) or name in (
        "autonomy.Demonstrations",
        "autonomy.Flight",
        "autonomy.load_copilot",
    )
    runner = doctest.DocTestRunner()
    for test in found:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
