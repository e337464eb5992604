"""``help`` of what speech enhancement hands on: arguments, and examples that run."""

import doctest
import inspect

import pytest

from bridgejax.applications import speech

OFFERED = {name: getattr(speech, name) for name in speech.__all__}
ELSEWHERE = ("Enhancer", "Given", "NetworkSize", "Settings", "enhance", "load_enhancer", "write_wav")


def test_the_face_shows_what_it_hands_on():
    assert sorted(dir(speech)) == sorted(speech.__all__)


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
