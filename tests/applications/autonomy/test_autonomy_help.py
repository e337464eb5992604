"""``help`` of what shared autonomy hands on: arguments, and examples that run."""

import pytest
from help_texts import check_arguments, run_examples

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
    check_arguments(OFFERED[name])


@pytest.mark.parametrize("name", OFFERED)
def test_examples_run(name):
    assert run_examples(OFFERED[name], name) or name in (
        "autonomy.Demonstrations",
        "autonomy.Flight",
        "autonomy.load_copilot",
    )
