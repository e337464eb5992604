"""Sets that a bridge may end in, and the Gaussian restricted to each of them.

A domain Omega gives, for Y ~ N(mean, variance I) (one number ``variance``),

    expectation   E[Y | Y in Omega]
    sample        a draw of Y given Y in Omega, exactly in Omega
    log_prob      log P(Y = y | Y in Omega): a density, or a probability where Omega is finite
    contains      whether x lies in Omega
    snap          the point of Omega next to x

which is all that ``bridgejax.constrain`` needs. A user's own domain is a pytree (a class decorated with
``register_dataclass`` or ``register_static``) with these methods.

    Reals         no constraint
    Box           [low, high] in every coordinate, either end may be infinite
    HalfLine      [low, inf)
    IntegerGrid   low, low + spacing, ..., high in every coordinate           w_k ~ exp(-(y_k - mean)^2 / 2 variance)
    Categorical   one-hot vectors along the last axis
    FinitePoints  the rows of a table
    Simplex       probabilities: x >= 0, sum x = 1                E: one contour integral
    Sphere        |x| = 1                                        E = A_d(k) mean/|mean|, k = |mean|/variance
    Product       one of these for each block of coordinates

One file for each kind: ``domain`` (what a set must know), ``intervals``, ``finite``, ``simplex``,
``sphere``, ``product``.
"""

from bridgejax.geometry._domain import TINY as TINY
from bridgejax.geometry._domain import Domain as Domain
from bridgejax.geometry.finite import Categorical as Categorical
from bridgejax.geometry.finite import FinitePoints as FinitePoints
from bridgejax.geometry.finite import IntegerGrid as IntegerGrid
from bridgejax.geometry.finite import Levels as Levels
from bridgejax.geometry.intervals import Box as Box
from bridgejax.geometry.intervals import HalfLine as HalfLine
from bridgejax.geometry.intervals import Reals as Reals
from bridgejax.geometry.product import Product as Product
from bridgejax.geometry.simplex import Simplex as Simplex
from bridgejax.geometry.sphere import Sphere as Sphere
from bridgejax.geometry.sphere import bessel_ratio as bessel_ratio

__all__ = [
    "Box",
    "Categorical",
    "Domain",
    "FinitePoints",
    "HalfLine",
    "IntegerGrid",
    "Levels",
    "Product",
    "Reals",
    "Simplex",
    "Sphere",
    "bessel_ratio",
]


def __dir__() -> list[str]:
    return __all__
