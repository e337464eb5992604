"""Given a model with latent variables: their posterior, learnt by a bound on the evidence.

``bridgejax.methods`` hands the methods on: deep_gp, with predict and log_joint.
"""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
