"""Manifolds that a diffusion may run on, each a small frozen pytree of pure functions of one point.

    Euclidean(d)   R^d                                 arrays (d,)
    Torus(d)       angles in [-pi, pi], d of them      arrays (d,)
    Sphere(d)      unit vectors of R^(d + 1)           arrays (d + 1,)
    SO(n)          rotations of R^n                    arrays (n, n)
    U(n), SU(n)    unitary, of determinant 1           arrays (2, n, n): real part, imaginary part
    Product(...)   of any of them                      tuples of points

    contains   project   to_tangent   exp   log   distance   inner   uniform   tangent_normal   log_volume

A tangent vector stands in the coordinates of the point: an array of its shape, on the sphere orthogonal to it, on a
group x A with A skew. Angles, sphere and R^d have the metric of those coordinates; SO(n) half of it, so that a rotation
by an angle is that far from where it started (volume of SO(3): 8 pi^2); U(n) and SU(n) the whole, <u, v> = Re tr u* v.
``rotations`` has quaternions and rotation vectors, ``earth`` latitude and longitude, ``coordinates`` the columns of a
table, ``real_pair`` and ``complex_of`` take unitary matrices in and out.
"""

from bridgejax.geometry.manifolds import coordinates as coordinates
from bridgejax.geometry.manifolds import earth as earth
from bridgejax.geometry.manifolds import rotations as rotations
from bridgejax.geometry.manifolds._groups import SO as SO
from bridgejax.geometry.manifolds._groups import SU as SU
from bridgejax.geometry.manifolds._groups import U as U
from bridgejax.geometry.manifolds._groups import complex_of as complex_of
from bridgejax.geometry.manifolds._groups import real_pair as real_pair
from bridgejax.geometry.manifolds._manifold import Manifold as Manifold
from bridgejax.geometry.manifolds._product import Product as Product
from bridgejax.geometry.manifolds._vectors import Euclidean as Euclidean
from bridgejax.geometry.manifolds._vectors import Sphere as Sphere
from bridgejax.geometry.manifolds._vectors import Torus as Torus

__all__ = [
    "SO",
    "SU",
    "Euclidean",
    "Manifold",
    "Product",
    "Sphere",
    "Torus",
    "U",
    "complex_of",
    "coordinates",
    "earth",
    "real_pair",
    "rotations",
]


def __dir__() -> list[str]:
    return __all__
