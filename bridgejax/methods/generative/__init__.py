"""Given samples of one set: learn to draw more of them, from noise or from the rows themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bridgejax.methods._spec import Classes, InRounds, MethodSpec, Noise, Once, Sampler, SampleSteps

__all__ = [
    "EDM",
    "SPECS",
    "VSDM",
    "ClosedForm",
    "Constrained",
    "Diffusion",
    "LatentSB",
    "MeanFlow",
    "ScoreMachine",
    "Truncated",
]

ScheduleName = Literal["cosine", "vp", "sub_vp", "ve", "rectified", "karras", "brownian", "ou"]


@dataclass(frozen=True)
class Diffusion(Classes, SampleSteps):
    """Options of ``diffusion``.

    Attributes:
        schedule: noise schedule.
        predict: what the network's output means; None: velocity for cosine and rectified, else eps.
        weighting: of the loss; None: 1 on the network's output.
        sampler: probability flow or reverse SDE.
    """

    schedule: ScheduleName = "cosine"
    predict: Literal["x0", "eps", "score", "velocity"] | None = None
    weighting: Literal["x0", "eps", "velocity", "likelihood", "min_snr", "edm"] | None = None
    sampler: Sampler = "ode"


@dataclass(frozen=True)
class EDM(Classes, SampleSteps):
    """Options of ``edm``.

    Attributes:
        sampler: probability flow or reverse SDE.
    """

    sampler: Sampler = "ode"


@dataclass(frozen=True)
class Constrained(SampleSteps):
    """Options of ``constrained``.

    Attributes:
        domain: auto (columns and pixels by their values), a kind for all (real, positive, bounded, integer, category),
            column=kind for some, comma-separated, or sphere or simplex.
        predict: what the network's output means: tilt, the log weights of finitely many values; end, a correction of
            what the domain says; residual, the drift's residual; None: tilt for pixels that are levels or categories,
            else end.
        weighting: of the loss of predict residual.
    """

    domain: str = "auto"
    predict: Literal["end", "tilt", "residual"] | None = None
    weighting: Literal["likelihood", "drift"] | None = None


@dataclass(frozen=True)
class VSDM(SampleSteps):
    """Options of ``vsdm``.

    Attributes:
        predict: what the network's output means.
        sampler: probability flow or reverse SDE.
    """

    predict: Literal["eps", "score"] = "eps"
    sampler: Sampler = "ode"


@dataclass(frozen=True)
class LatentSB(Noise, SampleSteps):
    """Options of ``latent_sb``; its default noise is the spread of what it runs on.

    Attributes:
        latent: principal components kept; None: the bridge runs in the data's own space.
        predict: what the network's output means.
    """

    latent: int | None = None
    predict: Literal["eps", "score", "x0"] = "eps"


@dataclass(frozen=True)
class Truncated(Classes, SampleSteps):
    """Options of ``truncated``.

    Attributes:
        schedule: noise schedule.
        truncation: time on the schedule's clock at which it is cut, in (0, T); None: where noise equals data.
        generator: a network of its own, or the denoiser at one more time.
        predict: what the denoiser's output means.
        sampler: probability flow or reverse SDE.
        gamma: weight of the discriminator's penalty.
        r1_every: updates between two evaluations of the penalty.
        generator_rate: peak rate of the generator's Adam.
        discriminator_rate: peak rate of the discriminator's Adam.
    """

    schedule: ScheduleName = "cosine"
    truncation: float | None = None
    generator: Literal["separate", "shared"] = "separate"
    predict: Literal["x0", "eps", "score", "velocity"] = "eps"
    sampler: Sampler = "ode"
    gamma: float = 0.1
    r1_every: int = 16
    generator_rate: float = 2e-4
    discriminator_rate: float = 1e-3


@dataclass(frozen=True)
class MeanFlow(SampleSteps):
    """Options of ``mean_flow``.

    Attributes:
        apart: share of samples that are trained on two times; the others are flow matching.
        robust: power of the weight that large errors lose; 0: mean squares.
    """

    apart: float = 0.25
    robust: float = 0.0


@dataclass(frozen=True)
class ClosedForm(SampleSteps):
    """Options of ``closed_form``.

    Attributes:
        schedule: noise schedule.
        smoothing: deviation of the kicks that the exact denoiser is averaged over, in the units the process runs in; 0:
            none, and samples are training rows.
        draws: how many kicks.
        sampler: probability flow or reverse SDE.
    """

    schedule: ScheduleName = "cosine"
    smoothing: float = 0.0
    draws: int = 16
    sampler: Sampler = "ode"


@dataclass(frozen=True)
class ScoreMachine(SampleSteps):
    """Options of ``score_machine``.

    Attributes:
        schedule: noise schedule.
        machine: patches are looked for at the same place of the training images, or at all places.
        patch: side of a patch, odd; None: one for every noise level, chosen on rows that are left out.
        image: HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS of rows that are flat; empty: the data are images.
        sampler: probability flow or reverse SDE.
    """

    schedule: ScheduleName = "cosine"
    machine: Literal["local", "equivariant"] = "equivariant"
    patch: int | None = None
    image: str = ""
    sampler: Sampler = "ode"


SPECS = (
    MethodSpec(
        "diffusion",
        "denoise along a noise schedule, sample its reversal (any schedule and prediction)",
        "The first thing to try on samples of anything: stable, conditional on labels, exact likelihoods. It takes "
        "40 evaluations; when ten must do take edm, when columns are integers or categories take constrained.",
        "one set",
        Diffusion,
        "bridgejax.methods.generative.diffusion:build",
        labels=True,
        sampling=("sample_steps", "sampler", "guidance"),
    ),
    MethodSpec(
        "edm",
        "diffusion with the EDM preconditioning, noise levels and grid (Karras et al. 2022)",
        "As diffusion, with settings that need the fewest evaluations on images: 18 steps of a second-order solver.",
        "one set",
        EDM,
        "bridgejax.methods.generative.diffusion:build_edm",
        labels=True,
        sampling=("sample_steps", "sampler", "guidance"),
    ),
    MethodSpec(
        "truncated",
        "a generator of partly noised data, and the few steps of a diffusion that are left from there",
        "When samples must cost few evaluations, six by default, and no likelihood is needed. Two more networks are "
        "trained, against each other: slower to train than diffusion, and less steady.",
        "one set",
        Truncated,
        "bridgejax.methods.generative.truncated:build",
        labels=True,
        sampling=("sample_steps", "sampler", "guidance"),
    ),
    MethodSpec(
        "mean_flow",
        "the average velocity between two times: from noise to data in one step, or a few (MeanFlow)",
        "When one to four evaluations must do and one network is to be trained. At more evaluations diffusion is "
        "better.",
        "one set",
        MeanFlow,
        "bridgejax.methods.generative.mean_flow:build",
        labels=True,
    ),
    MethodSpec(
        "constrained",
        "bridges that end in a set: integers, categories, bounded and mixed columns",
        "When every sample must be a possible value: integer or categorical columns, pixels of 256 levels, positive "
        "quantities, unit vectors, probabilities. Nothing is rounded afterwards. On unbounded real data diffusion is "
        "cheaper.",
        "one set",
        Constrained,
        "bridgejax.methods.generative.constrained:build",
        labels=True,
        encoded=True,
    ),
    MethodSpec(
        "vsdm",
        "variational Schroedinger diffusion from noise: a linear forward process that is learnt, in rounds",
        "Vectors of moderate dimension whose coordinates differ much in scale or are correlated: the forward process "
        "adapts to them. Slower to train than diffusion, better at few evaluations.",
        "one set",
        VSDM,
        "bridgejax.methods.generative.vsdm:build",
        training=InRounds(),
        sampling=("sample_steps", "sampler"),
    ),
    MethodSpec(
        "latent_sb",
        "bridge from the data's own rows, blurred, to the data; --latent: on principal components",
        "Data near a plane of few dimensions in a space of many: the error grows with the plane's dimension. Samples "
        "start at blurred training rows, so few rows mean copies.",
        "one set",
        LatentSB,
        "bridgejax.methods.generative.latent_sb:build",
        own_rows=True,
    ),
    MethodSpec(
        "closed_form",
        "the exact denoiser of the training rows, or a smoothed one: no network, no training",
        "To see what a network would do that had learnt its training rows by heart, all samples being rows; with "
        "--smoothing a model of a few thousand rows in a second, whose samples are means of neighbouring rows.",
        "one set",
        ClosedForm,
        "bridgejax.methods.generative.closed_form:build",
        training=Once(),
        network=False,
        own_rows=True,
        all_rows=True,
        sampling=("sample_steps", "sampler"),
    ),
    MethodSpec(
        "score_machine",
        "mosaics of training patches (local and equivariant score machines): no network, no training",
        "Images of few pixels: what a convolutional network would draw that knew its training images patch by patch, "
        "as a baseline for one or to explain it. Each evaluation looks at every patch of every row.",
        "one set",
        ScoreMachine,
        "bridgejax.methods.generative.score_machines:build",
        training=Once(),
        network=False,
        own_rows=True,
        all_rows=True,
        sampling=("sample_steps", "sampler"),
    ),
)


def __dir__() -> list[str]:
    return __all__
