"""``help`` of every method describes every argument, whoever wrote the description, and sends nobody elsewhere."""

import inspect
import re

import pytest
from help_texts import run_examples

import bridgejax as bj
from bridgejax.methods._arguments import documented

METHODS = {name: getattr(bj.methods, name) for name in dir(bj.methods) if not name.startswith("_")}
METHODS = {name: value for name, value in METHODS.items() if inspect.isfunction(value)}
ELSEWHERE = re.compile(
    r"as there|as ``(pis|dsbm?|lightsb|vae)``|see ``(pis|dis|dsbm?|gsbm|lightsb|diffusion)``|head of this file"
)


@pytest.mark.parametrize("name", METHODS)
def test_every_argument_is_described_once_in_the_order_of_the_signature(name):
    text = inspect.getdoc(METHODS[name])
    entries = re.findall(r"^    (\**\w+): ", text[text.index("Args:") : text.index("Returns:")], re.M)
    wanted = [str(p).split(":")[0].split("=")[0].strip() for p in inspect.signature(METHODS[name]).parameters.values()]
    assert [entry for entry in entries if entry in wanted] == wanted
    assert len(set(entries)) == len(entries)


@pytest.mark.parametrize("name", METHODS)
def test_help_needs_no_other_page_for_its_arguments(name):
    text = inspect.getdoc(METHODS[name])
    assert "Returns:" in text
    assert not ELSEWHERE.search(text), ELSEWHERE.search(text)
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", ["pis", "dis", "dds", "gbs", "cmcd", "underdamped"])
def test_help_of_a_learned_sampler_shows_every_option(name):
    text = inspect.getdoc(METHODS[name])
    for option in bj.methods.SamplerOptions.__annotations__:
        assert f"\n    {option}: " in text


def test_own_descriptions_go_before_the_shared_ones_and_a_function_without_a_docstring_is_left_alone():
    def method(network=None, *, optimizer=None, ema=0.999, **options):
        """One line.

        Args:
            ema: mine.
            **options: what follows.

        Returns:
            Nothing.
        """

    documented({"optimizer": "shared.", "ema": "shared.", "extra": "shared " * 30})(method)
    lines = method.__doc__.splitlines()
    assert lines[3:6] == ["    optimizer: shared.", "    ema: mine.", "    **options: what follows."]
    assert lines[6].startswith("    extra: shared")
    assert lines[7].startswith("        shared")
    method.__doc__ = None
    assert documented({"ema": "shared."})(method).__doc__ is None


def test_a_docstring_without_arguments_is_refused_by_the_name_of_its_function():
    def short(network=None, *, ema=0.999):
        """One line."""

    with pytest.raises(ValueError, match="docstring of short must have a section 'Args:'"):
        documented({"ema": "shared."})(short)


@pytest.mark.parametrize("name", [name for name in METHODS if ">>>" in METHODS[name].__doc__])
def test_examples_run(name):
    assert run_examples(METHODS[name], name)


def test_evaluation_shows_its_names_and_nothing_else():
    assert dir(bj.evaluation) == sorted(bj.evaluation.__all__)
    assert all(hasattr(bj.evaluation, name) for name in bj.evaluation.__all__)
