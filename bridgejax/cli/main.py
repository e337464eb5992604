"""bridgejax train | sample | predict | evaluate | explain | enhance | export | list | config.

Words and wiring only. Words are parsed and paths looked at before JAX is imported, so that help and refusals come at
once. What can go wrong for a user is one sentence and a non-zero exit; for those who write a method of their own it is
raised instead with ``BRIDGEJAX_TRACEBACK=1`` in the environment.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import warnings
from typing import Any

USAGE = """usage: bridgejax COMMAND [OPTIONS]

Diffusion models and diffusion bridges in JAX.

  train      train a model, sample it, evaluate it and draw it, into a run directory
  sample     draw samples of a trained run, or of several composed
  predict    predict the target of new rows, with a run of a table with a target
  evaluate   draw fresh samples of a run and measure them again
  explain    say what a diffusion run does between noise and data
  enhance    take the noise from a wav file
  export     write what a run has learnt as one safetensors file
  list       list methods, data sets and runs
  config     print the settings of a method as YAML

bridgejax COMMAND --help says more; bridgejax --version says which."""

DO = {  # where each command is carried out
    "train": ("bridgejax.cli.train", "train"),
    "sample": ("bridgejax.cli.sample", "sample"),
    "predict": ("bridgejax.cli.predict", "predict"),
    "evaluate": ("bridgejax.cli.evaluate", "evaluate"),
    "explain": ("bridgejax.cli.explain", "explain"),
    "enhance": ("bridgejax.cli.enhance", "enhance"),
    "export": ("bridgejax.cli.export", "export"),
    "list": ("bridgejax.cli.listing", "listing"),
    "config": ("bridgejax.cli.listing", "show"),
}

TRACEBACK = "BRIDGEJAX_TRACEBACK"  # variable of the environment: any value shows where an error was raised


def _one_line(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
    print(f"bridgejax: {message}", file=sys.stderr)


def _parse(name: str, args: list[str]) -> Any:
    if name == "train":
        from bridgejax.cli import train_words

        return train_words.parse(args)
    import tyro

    from bridgejax.cli.arguments import COMMANDS

    return tyro.cli(COMMANDS[name], prog=f"bridgejax {name}", args=args)


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if argv else 2
    if argv[0] == "--version":
        import bridgejax

        print(f"bridgejax {bridgejax.__version__}")
        return 0
    name, args = argv[0], argv[1:]
    if name not in DO:
        from bridgejax.runs.registry import nearest

        nearest(name, DO, "command")
    from bridgejax.cli.paths import check_paths
    from bridgejax.data.memory import at_most

    command = _parse(name, args)
    machine = getattr(command, "machine", None)  # not of list, config, export and enhance
    with at_most("" if machine is None else machine.max_memory):
        check_paths(command)
        if machine is not None and machine.cache:
            from bridgejax.cli.compiled import keep_programs

            keep_programs()
        module, function = DO[name]
        getattr(importlib.import_module(module), function)(command)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point of the ``bridgejax`` command; returns the exit status."""
    warnings.showwarning = _one_line  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt as stop:
        print(f"\nbridgejax: {stop or 'interrupted'}", file=sys.stderr)
        return 128 + getattr(stop, "signal", signal.SIGINT)  # 130, and 143 of SIGTERM, as shells have it
    except ImportError as error:
        if os.environ.get(TRACEBACK):
            raise
        print(f"bridgejax: {error}; the command line needs its extra: pip install 'bridgejax[run]'", file=sys.stderr)
        return 1
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        if os.environ.get(TRACEBACK) or (isinstance(error, RuntimeError) and type(error).__module__.startswith("jax")):
            raise  # asked for, or a defect of ours or of the machine: the trace is the information
        print(f"bridgejax: {error}", file=sys.stderr)
        return 1
