"""``help`` of what speech enhancement hands on: arguments, and examples that run."""

import pytest
from help_texts import check_arguments, run_examples

from bridgejax.applications import speech

OFFERED = {name: getattr(speech, name) for name in speech.__all__}
ELSEWHERE = ("Enhancer", "Given", "NetworkSize", "Settings", "enhance", "load_enhancer", "write_wav")


def test_the_face_shows_what_it_hands_on():
    assert sorted(dir(speech)) == sorted(speech.__all__)


@pytest.mark.parametrize("name", OFFERED)
def test_every_argument_is_described(name):
    check_arguments(OFFERED[name])


@pytest.mark.parametrize("name", OFFERED)
def test_examples_run(name):
    assert run_examples(OFFERED[name], name) or name in ELSEWHERE
