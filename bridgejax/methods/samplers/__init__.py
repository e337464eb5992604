"""Given a density up to its constant: draws of it, with weights.

``bridgejax.methods`` hands the methods on: pis, dis, dds, gbs, cmcd, underdamped, adjoint_sampling.
"""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
