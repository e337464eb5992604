"""Libraries that applications stand on and the core does not need."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(name: str) -> ModuleType:
    """The library ``name``, one of the extra ``apps``.

    Args:
        name: of the module.

    Raises:
        ImportError: it is not installed; the sentence says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] != name.partition(".")[0]:
            raise  # it is there, and what it needs is not
        raise ImportError(f'this application needs {name}: pip install "bridgejax[apps]"', name=name) from error
