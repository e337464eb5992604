"""What can be typed besides ``train``, each a dataclass whose docstring is its help."""

from __future__ import annotations

import dataclasses
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the command may use of this machine.

    Attributes:
        max_memory: what the reading of one file may take, such as 4GB; empty: BRIDGEJAX_MAX_MEMORY, else half of this
            machine's memory.
        cache: keep compiled programs for the next time, in BRIDGEJAX_CACHE, else the user's cache folder.
    """

    max_memory: str = ""
    cache: bool = True


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draw samples of a trained run, or of several composed.

    Attributes:
        run: run directory; none with --compose.
        num: how many samples.
        label: label to draw, as the data have it, for class-conditional runs; empty: every label in turn.
        guidance: classifier-free guidance scale; None: the run's own.
        steps: steps of the sampler; None: the run's own.
        sampler: ode or sde, for methods that have both; None: the run's own.
        direction: of a bridge: forward, from source to target, or backward.
        teleport: skip the first steps, in which any data look Gaussian, by the exact flow of the Gaussian of the run's
            training data (of each class); for runs of diffusion and edm without guidance.
        start: data set to start from, row by row: sources, or targets for --direction backward; empty: the run's own.
        seed: seed of the samples; sample i is the same whatever --num is.
        out: name of the files: samples as .npz (of a table as .csv too), a picture as .png; default RUN/samples-SEED.
        compose: diffusion runs combined, for example 'product(runs/a, runs/b)'; also power(run, exponent),
            negation(run, without, strength), guidance(conditional, unconditional, scale), nested as one likes, and
            outermost mixture(run, run, ..., weights), of runs of any method.
        corrector: of --compose: mcmc (annealed Hamiltonian chains) or feynman_kac (a weighted population; a sample then
            depends on --num).
        machine: what it may use of this machine.
    """

    run: tyro.conf.Positional[str] = ""
    num: int = 64
    label: str = ""
    guidance: float | None = None
    steps: int | None = None
    sampler: str | None = None
    direction: str = "forward"
    teleport: bool = False
    start: str = ""
    seed: int = 1
    out: str = ""
    compose: str = ""
    corrector: str = "mcmc"
    machine: tyro.conf.OmitArgPrefixes[Machine] = Machine()


@dataclasses.dataclass(frozen=True)
class Predict:
    """Predict the target of new rows with a run of a table with a target, in the data's units.

    Written is a table of the rows with the mean, standard deviation and quantiles of the target of each, or the
    probability of every class. Where the file has the target too, the predictions are measured.

    Attributes:
        run: run directory, of method dsvi, dbvi or ddvi.
        data: .csv, .tsv or .parquet file with the columns that the run learnt from, under the same names; others are
            not read.
        out: the table to write; default RUN/predictions-DATA.csv.
        draws: of the function.
        quantiles: of the target, levels between 0 and 1.
        missing: of the new rows: refuse, drop, or impute by what the run's training rows were filled with; None: as in
            training.
        seed: of the draws.
        machine: what it may use of this machine.
    """

    run: tyro.conf.Positional[str]
    data: str = ""
    out: str = ""
    draws: int = 256
    quantiles: str = "0.05,0.25,0.5,0.75,0.95"
    missing: Literal["refuse", "drop", "impute"] | None = None
    seed: int = 1
    machine: tyro.conf.OmitArgPrefixes[Machine] = Machine()

    def levels(self) -> tuple[float, ...]:
        """The levels of the quantiles; a ``ValueError`` for other text."""
        try:
            found = tuple(float(part) for part in self.quantiles.split(",") if part.strip())
        except ValueError:
            found = (0.0,)
        if not all(0.0 < level < 1.0 for level in found):
            raise ValueError(f"quantiles must be levels between 0 and 1 such as 0.05,0.5,0.95, got {self.quantiles!r}")
        return found


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Draw fresh samples of a run and measure them again, beside real-versus-real floors, into files of their own.

    Attributes:
        run: run directory.
        num: samples to draw; None: by kind of data.
        seed: seed of the samples.
        memorisation: instead, whether the run copies its training rows: d1/d2 of samples and of held-out rows, nearest
            rows, and the noise levels at which the data's classes part and its rows are told apart.
        other_half: with memorisation, a run trained on other rows of the same law: do both draw the same from the same
            noise?
        machine: what it may use of this machine.
    """

    run: tyro.conf.Positional[str]
    num: int | None = None
    seed: int = 2
    memorisation: bool = False
    other_half: str = ""
    machine: tyro.conf.OmitArgPrefixes[Machine] = Machine()


@dataclasses.dataclass(frozen=True)
class Explain:
    """Say what a diffusion run does between noise and data, beside what Gaussian data would make it do.

    How much of the learnt score simpler models explain at each noise level (on held-out rows), how many dimensions
    paths take, when the principal features emerge and what is left of kicks; into explain.json and explain.png.

    Attributes:
        run: run directory, of method diffusion or edm.
        num: paths that are run.
        modes: clusters of the mixture that the score is compared with.
        seed: of the paths and of the noise.
        label: of a class-conditional run, the label to look at, beside the rows that have it; empty: every row with its
            own label, and paths with those of training rows.
        machine: what it may use of this machine.
    """

    run: tyro.conf.Positional[str]
    num: int = 64
    modes: int = 10
    seed: int = 3
    label: str = ""
    machine: tyro.conf.OmitArgPrefixes[Machine] = Machine()


@dataclasses.dataclass(frozen=True)
class Export:
    """Write what a run has learnt as one safetensors file: arrays by their names, averaged where there is an average.

    Attributes:
        run: run directory.
        out: the file; default RUN/weights.safetensors.
        step: of the checkpoint; None: the newest.
    """

    run: tyro.conf.Positional[str]
    out: str = ""
    step: int | None = None


@dataclasses.dataclass(frozen=True)
class Enhance:
    """Take the noise from a wav file, of any length, rate and number of channels.

    Attributes:
        noisy: the wav file.
        run: directory that bridgejax.applications.speech.save_enhancer wrote.
        out: the wav file to write, at the rate of the noisy one; default NOISY-clean.wav beside it.
        steps: evaluations of the network a window; None: 1, 4, 15 or 30 by the run's method.
        sampler: sde or ode, for methods sgmse and storm.
        bits: of a written sample.
        seed: of the noise that is drawn.
    """

    noisy: tyro.conf.Positional[str]
    run: str
    out: str = ""
    steps: int | None = None
    sampler: Literal["sde", "ode"] = "sde"
    bits: Literal[16, 24] = 16
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class List:
    """List methods, data sets, schedules, and the runs below a directory.

    Attributes:
        runs: directory whose runs to list.
    """

    runs: str = "runs"


@dataclasses.dataclass(frozen=True)
class Show:
    """Print the settings of a method as YAML, to be changed and given to bridgejax train --config.

    Attributes:
        method: its name.
    """

    method: tyro.conf.Positional[str]


COMMANDS: dict[str, type] = {
    "sample": Sample,
    "predict": Predict,
    "evaluate": Evaluate,
    "explain": Explain,
    "enhance": Enhance,
    "export": Export,
    "list": List,
    "config": Show,
}
