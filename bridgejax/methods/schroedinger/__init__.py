"""Given two sets whose rows are unrelated, or several in time: a bridge, or the one closest to a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from bridgejax.methods._spec import Classes, Coupling, InRounds, MethodSpec, Noise, Sampler, SampleSteps, Training

__all__ = [
    "SF2M",
    "SPECS",
    "ActionMatching",
    "Bridge",
    "BridgeMatching",
    "FlowMatching",
    "LightSB",
    "SimplifiedDSB",
    "WassersteinLagrangian",
]


@dataclass(frozen=True)
class BridgeMatching(Classes, Noise, SampleSteps):
    """Options of ``bridge_matching``; its default noise is 0.3, and 0 is flow matching.

    Attributes:
        predict: what the network's output means (velocity only without noise); None: residual, without noise velocity.
        coupling: how the rows of a batch are paired.
    """

    predict: Literal["residual", "x1", "drift", "velocity"] | None = None
    coupling: Literal["ot", "independent", "entropic", "paired"] = "ot"
    usual: ClassVar[float] = 0.3


@dataclass(frozen=True)
class FlowMatching(Classes, SampleSteps):
    """Options of ``flow_matching``.

    Attributes:
        predict: what the network's output means.
        coupling: how the rows of a batch are paired.
    """

    predict: Literal["velocity", "x1", "drift"] = "velocity"
    coupling: Literal["ot", "independent", "paired"] = "ot"


@dataclass(frozen=True)
class Bridge(Noise, SampleSteps):
    """Options of a Schroedinger bridge; its default noise is 1.

    Attributes:
        coupling: how the rows of a batch are paired before anything is learnt.
    """

    coupling: Coupling = "independent"


@dataclass(frozen=True)
class SF2M(Noise, SampleSteps):
    """Options of ``sf2m``; its default noise is 1.

    Attributes:
        coupling: how the rows of a batch are paired; entropic is the Schroedinger bridge's own.
        sampler: the SDE with its noise, or the ODE with the same marginals.
    """

    coupling: Coupling = "entropic"
    sampler: Sampler = "sde"


@dataclass(frozen=True)
class SimplifiedDSB(Bridge):
    """Options of ``simplified_dsb``; its default noise is 1.

    Attributes:
        predict: what the network's output means.
        initial: run directory of a bridge_matching run between the same ends to start from.
    """

    predict: Literal["residual", "terminal", "flow", "mean"] = "residual"
    initial: str = ""


@dataclass(frozen=True)
class LightSB(Noise, SampleSteps):
    """Options of ``lightsb`` and ``lightsb_m``; their default noise is 1.

    Attributes:
        components: Gaussians in the potential.
    """

    components: int = 50


@dataclass(frozen=True)
class ActionMatching(SampleSteps):
    """Options of ``action_matching``.

    Attributes:
        noise: sigma per square root of unit time, in standardised units: paths between snapshots are Brownian bridges,
            and the process is an SDE; 0: an ODE.
    """

    noise: float = 0.0


@dataclass(frozen=True)
class WassersteinLagrangian(SampleSteps):
    """Options of ``wasserstein_lagrangian``.

    Attributes:
        noise: of the reference per square root of unit time, in standardised units: 0 is optimal transport from
            snapshot to snapshot, else the Schroedinger bridge.
    """

    noise: float = 0.0


SPECS = (
    MethodSpec(
        "bridge_matching",
        "Brownian bridges from a source to a target, or from noise to data",
        "Two sets, when any map from one to the other will do, or one set from noise. One training, one direction. For "
        "the entropic optimal map, and both directions, take dsbm, sf2m or lightsb.",
        "one or two",
        BridgeMatching,
        "bridgejax.methods.schroedinger.bridge_matching:build",
        labels=True,
        sampling=("sample_steps", "guidance"),
    ),
    MethodSpec(
        "flow_matching",
        "straight lines from a source to a target, or from noise to data (an ODE)",
        "As bridge_matching without noise: the fastest to sample, deterministic given its start.",
        "one or two",
        FlowMatching,
        "bridgejax.methods.schroedinger.bridge_matching:build_flow",
        labels=True,
        sampling=("sample_steps", "guidance"),
    ),
    MethodSpec(
        "dsbm",
        "Schroedinger bridge by iterative Markovian fitting, in rounds",
        "The entropic optimal map between two sets of any dimension, images too, in both directions. Rounds cost "
        "simulation: sf2m is cheaper in low dimension, where a batch's own optimal plan is good, lightsb on vectors.",
        "two sets",
        Bridge,
        "bridgejax.methods.schroedinger.dsbm:build",
        training=InRounds(),
    ),
    MethodSpec(
        "sf2m",
        "Schroedinger bridge by score and flow, without simulation",
        "The same bridge from entropic plans of batches, in one training. Best below a few dozen dimensions; at large "
        "epsilon and dimension batches are too small for their plans.",
        "two sets",
        SF2M,
        "bridgejax.methods.schroedinger.sf2m:build",
        sampling=("sample_steps", "sampler"),
    ),
    MethodSpec(
        "dsb",
        "Schroedinger bridge by iterative proportional fitting, in rounds",
        "The classic algorithm, on a grid of its own. Take dsbm or simplified_dsb unless you compare with it.",
        "two sets",
        Bridge,
        "bridgejax.methods.schroedinger.dsb:build",
        training=InRounds(),
        sampling=(),
    ),
    MethodSpec(
        "simplified_dsb",
        "the same at half the evaluations; --initial: from a bridge_matching run",
        "Iterative proportional fitting with targets that need no second evaluation, and that can start from a trained "
        "bridge.",
        "two sets",
        SimplifiedDSB,
        "bridgejax.methods.schroedinger.dsb:build_simplified",
        training=InRounds(),
        sampling=(),
    ),
    MethodSpec(
        "lightsb",
        "Schroedinger bridge with a Gaussian-mixture potential: fast on a CPU, moderate dimensions",
        "Vectors of moderate dimension, in both directions, in a minute and with exact transitions. Not for images of "
        "more than a few hundred pixels.",
        "two sets",
        LightSB,
        "bridgejax.methods.schroedinger.lightsb:build",
        training=Training(learning_rate=1e-2),
        network=False,
        flat=True,
    ),
    MethodSpec(
        "lightsb_m",
        "the same family, fitted by bridge matching",
        "As lightsb; fitted to couplings of batches, it needs no normalising constant of a large mixture.",
        "two sets",
        LightSB,
        "bridgejax.methods.schroedinger.lightsb:build_m",
        training=Training(learning_rate=1e-2),
        network=False,
        flat=True,
    ),
    MethodSpec(
        "action_matching",
        "the gradient field that moves a population from snapshot to snapshot",
        "Samples of one population at several times, of other individuals each time: a process through all of them, "
        "with states at the times between. Vectors.",
        "snapshots",
        ActionMatching,
        "bridgejax.methods.schroedinger.action_matching:build",
        training=Training(batch_size=256),
    ),
    MethodSpec(
        "wasserstein_lagrangian",
        "the path of least action through snapshots, learnt with its potential",
        "As action_matching where the way between snapshots should be learnt too: optimal transport or, with noise, "
        "the Schroedinger bridge; from Python with a running cost. Two networks against one another: slower.",
        "snapshots",
        WassersteinLagrangian,
        "bridgejax.methods.schroedinger.wasserstein_lagrangian:build",
        training=Training(batch_size=256),
    ),
)


def __dir__() -> list[str]:
    return __all__
