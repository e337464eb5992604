"""The methods that can be named: those of the wings, and those of other packages by the entry point bridgejax.methods.

A third party makes a method nameable with a ``MethodSpec`` of its own and, in its pyproject.toml,

    [project.entry-points."bridgejax.methods"]
    mine = "package.module:SPEC"
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from importlib import metadata

from bridgejax.methods import generative, manifolds, paired, schroedinger, variational
from bridgejax.methods._spec import MethodSpec

ENTRY_POINTS = "bridgejax.methods"


@functools.cache
def specs() -> dict[str, MethodSpec]:
    """Every nameable method by its name.

    Raises:
        ValueError: an entry point that is no MethodSpec, or has the name of another.
    """
    found = {
        spec.name: spec for wing in (generative, schroedinger, paired, manifolds, variational) for spec in wing.SPECS
    }
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        spec = entry.load()
        if not isinstance(spec, MethodSpec):
            raise ValueError(f"entry point {entry.value!r} of {ENTRY_POINTS} must be a MethodSpec, got {spec!r:.60}")
        if spec.name in found:
            raise ValueError(f"entry point {entry.value!r} of {ENTRY_POINTS} names {spec.name!r}, a name that is taken")
        found[spec.name] = spec
    return found


def nearest(name: str, names: Iterable[str], what: str) -> str:
    """``name`` if it is one of ``names``, else a ValueError that names the nearest."""
    names = sorted(names)
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"unknown {what} {name!r}{hint} Known: {', '.join(names)}")


def spec_of(name: str) -> MethodSpec:
    """The spec of a method.

    Raises:
        ValueError: an unknown name, with the nearest known one; a method that needs a function and so Python.
    """
    known = specs()
    if name not in known and name in IN_PYTHON:
        raise ValueError(f"method {name!r} is used from Python: it needs {IN_PYTHON[name]}")
    return known[nearest(name, known, "method")]


_DENSITY = "a log density, which is a function: bridgejax.methods.{}(log_density, network, dim=...)"
_SAMPLERS = ("pis", "dis", "dds", "gbs", "cmcd", "underdamped", "adjoint_sampling")
IN_PYTHON = {
    "gsbm": "a cost, which is a function: bridgejax.methods.gsbm(network, cost, shape=...)",
    "deep_gp": "a posterior, typed as dsvi, dbvi or ddvi; in Python bridgejax.methods.deep_gp(inputs, targets)",
    "conditioned": "an SDE, which is made of functions: bridgejax.methods.conditioned(sde, network, ...)",
    **{name: _DENSITY.format(name) for name in _SAMPLERS},
}
