"""Given an SDE and observations of it.

``bridgejax.methods`` hands the method on: conditioned.
"""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
