"""``help`` of what evolutionary search hands on: arguments, and examples that run."""

import pytest
from help_texts import check_arguments, run_examples

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
    check_arguments(OFFERED[name])


@pytest.mark.parametrize("name", OFFERED)
def test_examples_run(name):
    assert run_examples(OFFERED[name], name) or name in ELSEWHERE
