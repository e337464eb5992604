"""Given samples on a manifold: learn to draw more of them. By name on a sphere, a torus or SO(3); from Python on any.

projected         diffuse in flat space, project: no heat kernel, one eigendecomposition a step on the groups
riemannian_score  reverse Brownian motion; exact likelihood by its flow
riemannian_flow   geodesics from the uniform law; the cheapest to train where the logarithm is, exact likelihood
manifold_bridge   a mixture of bridges from the uniform law
trivialised_momentum  on a group, noise in the momentum alone: a score in flat space, neither kernel nor logarithm
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bridgejax.methods._spec import MethodSpec, Sampler, SampleSteps, Training

__all__ = ["SPECS", "ManifoldBridge", "Projected", "RiemannianFlow", "RiemannianScore", "TrivialisedMomentum"]


@dataclass(frozen=True)
class RiemannianFlow(SampleSteps):
    """Options of ``riemannian_flow``.

    Attributes:
        path: from noise to a point: geodesic, or the projection of a straight line, on a sphere and SO(3).
    """

    path: Literal["geodesic", "projected"] = "geodesic"


@dataclass(frozen=True)
class RiemannianScore(SampleSteps):
    """Options of ``riemannian_score``.

    Attributes:
        target: what the network regresses on: heat_kernel, the score of Brownian motion's density; varadhan, its limit
            for little noise; implicit, by divergences; None: the kernel.
        sampler: probability flow or reverse SDE.
    """

    target: Literal["heat_kernel", "varadhan", "implicit"] | None = None
    sampler: Sampler = "ode"


@dataclass(frozen=True)
class ManifoldBridge(SampleSteps):
    """Options of ``manifold_bridge``.

    Attributes:
        sigma: noise of the bridges per square root of unit time, in radians.
    """

    sigma: float = 1.0


@dataclass(frozen=True)
class Projected(SampleSteps):
    """Options of ``projected``.

    Attributes:
        schedule: noise schedule in flat space, one that ends in noise.
    """

    schedule: Literal["vp", "cosine"] = "vp"


@dataclass(frozen=True)
class TrivialisedMomentum(SampleSteps):
    """Options of ``trivialised_momentum``.

    Attributes:
        sampler: probability flow or reverse SDE.
    """

    sampler: Sampler = "ode"


_TRAINING = Training(batch_size=512)  # the sums over a batch are of uniform starts too, not of data alone

SPECS = (
    MethodSpec(
        "riemannian_flow",
        "flow matching along geodesics, on a sphere, a torus or SO(3)",
        "The first thing to try on directions, places, angles and rotations: fewest steps to sample, and an exact "
        "likelihood. Vectors and images: flow_matching.",
        "manifold",
        RiemannianFlow,
        "bridgejax.methods.manifolds.riemannian_flow:build",
        training=_TRAINING,
    ),
    MethodSpec(
        "riemannian_score",
        "diffusion on a sphere, a torus or SO(3): learn the score of Brownian motion, reverse it",
        "As riemannian_flow, when a score or a reverse SDE is wanted, for guidance or for weights; exact likelihood "
        "too. An update costs a little more.",
        "manifold",
        RiemannianScore,
        "bridgejax.methods.manifolds.riemannian_score:build",
        training=_TRAINING,
        sampling=("sample_steps", "sampler"),
    ),
    MethodSpec(
        "manifold_bridge",
        "a mixture of bridges from the uniform law to the data, on a sphere, a torus or SO(3)",
        "When samples should be paths of an SDE that ends on the data: noise all along the way. No likelihood.",
        "manifold",
        ManifoldBridge,
        "bridgejax.methods.manifolds.manifold_bridge:build",
        training=_TRAINING,
    ),
    MethodSpec(
        "projected",
        "diffusion in flat space, projected to a sphere, a torus or SO(3)",
        "When neither a heat kernel nor a logarithm is to be used: it scales to groups of large matrices, from Python. "
        "On a sphere, a torus or SO(3) riemannian_flow is closer to the data. No likelihood.",
        "manifold",
        Projected,
        "bridgejax.methods.manifolds.projected:build",
        training=_TRAINING,
    ),
    MethodSpec(
        "trivialised_momentum",
        "diffusion on a torus or SO(3) by noise in the momentum alone",
        "Data on a group, when neither a heat kernel nor a logarithm is to be used: the score is one in flat space. "
        "From Python also SO(n), U(n), SU(n) and products. No likelihood; not on a sphere, which is no group.",
        "manifold",
        TrivialisedMomentum,
        "bridgejax.methods.manifolds.trivialised_momentum:build",
        training=_TRAINING,
        sampling=("sample_steps", "sampler"),
    ),
)


def __dir__() -> list[str]:
    return __all__
