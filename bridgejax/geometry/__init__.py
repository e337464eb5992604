"""Sets that bridges may end in, and manifolds that diffusions run on."""

from bridgejax.geometry import domains as domains
from bridgejax.geometry import manifolds as manifolds

__all__ = [
    "domains",
    "manifolds",
]


def __dir__() -> list[str]:
    return __all__
