"""Given two sets whose rows correspond: the law of a target given its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from bridgejax.methods._spec import MethodSpec, Noise, Sampler, SampleSteps

__all__ = ["BDBM", "DDBM", "I2SB", "SPECS", "AugmentedBridge", "PairedNoise"]


@dataclass(frozen=True)
class PairedNoise(Noise):
    """Options of a paired bridge with noise of its own."""

    usual: ClassVar[float] = 0.5


@dataclass(frozen=True)
class AugmentedBridge(PairedNoise, SampleSteps):
    """Options of ``augmented_bridge``; its default noise is 0.5.

    Attributes:
        predict: what the network's output means.
    """

    predict: Literal["residual", "x1", "drift"] = "residual"


@dataclass(frozen=True)
class I2SB(PairedNoise, SampleSteps):
    """Options of ``i2sb``; its default noise is 0.5.

    Attributes:
        sampler: with noise, or its limit without.
    """

    sampler: Sampler = "sde"


@dataclass(frozen=True)
class DDBM(SampleSteps):
    """Options of ``ddbm``; its noise is that of its schedule.

    Attributes:
        schedule: noise schedule.
        sampler: the SDE, or the ODE with the same marginals.
    """

    schedule: Literal["vp", "ve"] = "vp"
    sampler: Sampler = "sde"


@dataclass(frozen=True)
class BDBM(PairedNoise, SampleSteps):
    """Options of ``bdbm``; its default noise is 0.5."""


_WHEN = "Rows correspond (degraded and clean, two views of one thing) and several targets are possible for a source. "

SPECS = (
    MethodSpec(
        "augmented_bridge",
        "paired: Brownian bridge that sees its source",
        _WHEN + "The plain choice: a Brownian bridge from the source, one network that sees it.",
        "pairs",
        AugmentedBridge,
        "bridgejax.methods.paired.augmented_bridge:build",
    ),
    MethodSpec(
        "i2sb",
        "paired: image-to-image Schroedinger bridge that sees its source",
        _WHEN + "Restoration where few evaluations must do: it also runs without noise.",
        "pairs",
        I2SB,
        "bridgejax.methods.paired.i2sb:build",
        remark="its clock is slow at both ends: sigma^2 per unit time on average",
    ),
    MethodSpec(
        "ddbm",
        "paired: denoising diffusion bridge, schedule vp or ve",
        _WHEN + "Any schedule, preconditioned as EDM is: the least sensitive to scale.",
        "pairs",
        DDBM,
        "bridgejax.methods.paired.ddbm:build",
        sampling=("sample_steps", "sampler"),
    ),
    MethodSpec(
        "bdbm",
        "paired: one network for both directions",
        _WHEN + "When sources given targets are wanted as well.",
        "pairs",
        BDBM,
        "bridgejax.methods.paired.bdbm:build",
    ),
)


def __dir__() -> list[str]:
    return __all__
