"""bridgejax train | sample | evaluate | list.

Words and wiring only: each command reads data, builds a Method from a Config, calls ``fit``, ``sample`` or
``evaluate``, and says where the files are. What can go wrong for a user is one sentence and a non-zero exit.
"""

from __future__ import annotations

import sys
import warnings


def _one_line(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
    print(f"bridgejax: {message}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Entry point of the ``bridgejax`` command; returns the exit status."""
    try:
        from bridgejax.cli import arguments
    except ImportError as error:
        print(f"bridgejax: {error}; the command line needs its extra: pip install 'bridgejax[run]'", file=sys.stderr)
        return 1
    command = arguments.parse(argv)
    from bridgejax.cli import commands  # after parsing, so that --help does not wait for it

    warnings.showwarning = _one_line  # pyright: ignore[reportAttributeAccessIssue]
    try:
        commands.RUN[type(command)](command)
    except KeyboardInterrupt as stop:
        print(f"\nbridgejax: {stop or 'interrupted'}", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, ArithmeticError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error).__module__.startswith("jax"):
            raise  # a defect of ours or of the machine: the trace is the information
        print(f"bridgejax: {error}", file=sys.stderr)
        return 1
    return 0
