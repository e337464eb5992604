"""A method describes itself: what may be said about it, the form of its data, when to use it and how to build it.

A ``MethodSpec`` stands in the face of its wing, beside the method's file. The command line, the run directory and the
documentation read it; nothing outside a method's own file branches on the method's name. No JAX is imported here, so
that help is printed at once; ``build`` names the function ``build(options, setup)`` in the method's file.

    one set        samples, learnt from noise or from the data's own rows
    one or two     samples, from noise or from a second set
    two sets       source and target, rows unrelated: a bridge, mostly in both directions
    pairs          source and target, row k belongs to row k: the law of the target given its source
    manifold       points on a sphere, a torus or SO(3), learnt from the uniform law
    snapshots      samples at several times, of other individuals each time: a process that runs through them
    supervised     a table with a target: the law of the target given the other columns
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from bridgejax.methods._setup import Setup
    from bridgejax.training import Method

Form = Literal["one set", "one or two", "two sets", "pairs", "manifold", "snapshots", "supervised"]
Coupling = Literal["ot", "independent", "entropic"]
Sampler = Literal["ode", "sde"]
_TOLERANCE = 1e-3  # relative, between epsilon and sigma^2: both are typed with a few digits


# what the options of several methods share --------------------------------------------------------------------------


@dataclass(frozen=True)
class SampleSteps:
    """Options of every method.

    Attributes:
        sample_steps: steps of the sampler; None: the method's default.
    """

    sample_steps: int | None = None


@dataclass(frozen=True)
class Noise:
    """The noise of a bridge, by its deviation or its variance per unit time.

    Attributes:
        sigma: noise per square root of unit time, in the units the bridge runs in (see standardise); None: see epsilon.
        epsilon: the same as a variance per unit time, sigma^2, the entropic regularisation for the cost |x - y|^2 / 2;
            None, with sigma None too: the method's default.
    """

    sigma: float | None = None
    epsilon: float | None = None
    usual: ClassVar[float] = 1.0  # sigma where neither is given


@dataclass(frozen=True)
class Classes:
    """Options of methods that learn classes, where the data have labels.

    Attributes:
        condition_dropout: share of labels hidden in training, needed for guidance.
        guidance: classifier-free guidance scale when sampling; 1: none.
    """

    condition_dropout: float = 0.1
    guidance: float = 1.0


def noise(name: str, given: Noise, default: float | None = None, *, zero: bool = False) -> float:
    """Sigma, from whichever of sigma and epsilon = sigma^2 was given.

    Args:
        name: of the method, for the error.
        given: the two, None where not given.
        default: sigma where neither was; None: the options' usual one.
        zero: whether there may be none.

    Raises:
        ValueError: not positive, or both given and contradictory.
    """
    default = given.usual if default is None else default
    for what, value in (("sigma", given.sigma), ("epsilon", given.epsilon)):
        if value is not None and not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
            hint = "" if zero else "; without noise: flow_matching"
            least = "at least 0" if zero else "positive"
            usual = default if what == "sigma" else default**2
            raise ValueError(
                f"{what} must be {least} for method {name!r}, got {value:g}; leave it out for {usual:g}{hint}"
            )
    sigma, epsilon = given.sigma, given.epsilon
    if sigma is not None and epsilon is not None and abs(sigma**2 - epsilon) > _TOLERANCE * max(sigma**2, epsilon):
        raise ValueError(
            f"sigma = {sigma:g} and epsilon = {epsilon:g} contradict each other, epsilon being sigma^2 = {sigma**2:g}; "
            "give one of them"
        )
    return sigma if sigma is not None else default if epsilon is None else math.sqrt(epsilon)


# training and networks, the same for all ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Once:
    """How the rows are shown to a method that has nothing to fit: a batch of them, once.

    Attributes:
        batch_size: samples whose loss is said.
    """

    batch_size: int = 128


@dataclass(frozen=True)
class Fitting:
    """How the parameters of every method are fitted.

    Attributes:
        batch_size: samples per update.
        learning_rate: peak rate of Adam.
        warmup: updates of linear warm-up, at most a tenth of all.
        decay: schedule after it.
        clip: largest norm of the gradient.
        weight_decay: decoupled weight decay.
        ema: decay of the averaged parameters.
    """

    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup: int = 100
    decay: Literal["cosine", "constant"] = "cosine"
    clip: float = 1.0
    weight_decay: float = 0.0
    ema: float = 0.999


@dataclass(frozen=True)
class Training(Fitting):
    """How the parameters are fitted.

    Attributes:
        accumulate: micro-batches per update.
    """

    accumulate: int = 1


@dataclass(frozen=True)
class InRounds(Fitting):
    """How the parameters of a method in rounds are fitted: between rounds it simulates anew what it learns from.

    Attributes:
        steps_per_round: updates between rounds; None: a tenth of all.
    """

    steps_per_round: int | None = None


@dataclass(frozen=True)
class NetworkOptions:
    """The network.

    Attributes:
        network: unet and transformer (images, the latter by patches), temporal (a U-Net over the times of series), or
            auto: a U-Net for series and images of at least 16 pixels a side, else an MLP.
        width: of the network; None: by kind of data.
        depth: blocks of the MLP or transformer, or levels of a U-Net; None: by kind of data.
        precision: arithmetic of the network (parameters stay float32).
    """

    network: Literal["auto", "mlp", "unet", "transformer", "temporal"] = "auto"
    width: int | None = None
    depth: int | None = None
    precision: Literal["float32", "bfloat16"] = "float32"


# the spec ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MethodSpec:
    """One nameable method.

    Args:
        name: as typed.
        summary: one line, for lists.
        when: one paragraph: what it is given, when to use it and when not.
        data: the form of its data.
        options: a frozen dataclass of its own options, each with a default; its docstring is their help.
        build: ``"module:function"``, a function ``(options, setup) -> Method``.
        training: its training record with the method's defaults: ``Training``, ``InRounds``, or ``Once``.
        network: whether it has one.
        labels: whether it learns classes; else labels are left out.
        flat: whether it learns vectors only: images are flattened.
        own_rows: whether it starts at rows of the data themselves, or is made of them.
        all_rows: whether a run keeps all of these, not the first 10,000.
        encoded: whether it learns columns and pixels by what they are (``data.columns``), not standardised.
        sampling: options that may change when sampling.
        remark: a sentence for the reports of its runs.
        predict: of a table with a target, ``"module:function"``, a function ``(process, key, inputs, targets=None, *,
            draws, quantiles)`` that gives a ``methods.Prediction``.
    """

    name: str
    summary: str
    when: str
    data: Form
    options: type
    build: str
    training: Training | InRounds | Once = dataclasses.field(default_factory=Training)
    network: bool = True
    labels: bool = False
    flat: bool = False
    own_rows: bool = False
    all_rows: bool = False
    encoded: bool = False
    sampling: tuple[str, ...] = ("sample_steps",)
    remark: str = ""
    predict: str = ""

    @property
    def two_ended(self) -> bool:
        """Whether its batches have a source and a target."""
        return self.data not in ("one set", "manifold")

    @property
    def on_manifold(self) -> bool:
        """Whether it learns points on a manifold."""
        return self.data == "manifold"

    @property
    def in_time(self) -> bool:
        """Whether it learns snapshots in time, the first of which is its source and the last its target."""
        return self.data == "snapshots"

    @property
    def supervised(self) -> bool:
        """Whether it learns a target given inputs: its source are the inputs, of another shape and in other units."""
        return self.data == "supervised"

    @property
    def paired(self) -> bool:
        """Whether rows of source and target belong together."""
        return self.data in ("pairs", "supervised")

    @property
    def in_rounds(self) -> bool:
        """Whether it works in rounds."""
        return isinstance(self.training, InRounds)

    @property
    def fitted(self) -> bool:
        """Whether it has something to fit."""
        return not isinstance(self.training, Once)

    def make(self, options: Any, setup: Setup) -> Method:
        """The Method."""
        return _named(self.build)(options, setup)

    def predictor(self) -> Any:
        """What predicts, imported: the function that ``predict`` names."""
        return _named(self.predict)


def _named(text: str) -> Any:
    module, function = text.split(":")
    return getattr(importlib.import_module(module), function)
