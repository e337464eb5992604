"""Sets that bridges may end in, manifolds that diffusions run on, and mirror maps of convex sets."""

from bridgejax.geometry import domains as domains
from bridgejax.geometry import manifolds as manifolds
from bridgejax.geometry import mirrors as mirrors

__all__ = [
    "domains",
    "manifolds",
    "mirrors",
]


def __dir__() -> list[str]:
    return __all__
