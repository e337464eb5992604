"""What ``help`` must say of a callable: every argument, and examples that run."""

import doctest
import inspect


def check_arguments(function):
    """Every argument is described in its docstring."""
    text = inspect.getdoc(function)
    described = text[text.index("Args:" if "Args:" in text else "Attributes:") :]
    for argument, parameter in inspect.signature(function).parameters.items():
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        assert f"\n    {stars}{argument}: " in described, argument


def run_examples(function, name):
    """Its examples run as they stand; whether there are any."""
    found = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    runner = doctest.DocTestRunner()
    for test in found:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    return any(test.examples for test in found)
