"""What can be typed: train, sample, evaluate and list, each a dataclass whose docstring is its help."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import tyro

from bridgejax import __version__
from bridgejax.data import Reading
from bridgejax.methods.recipes import Config


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a model, sample it, evaluate it and draw it, into a run directory.

    With no flag: the scanned digits of scikit-learn, about two minutes on two cores. On an existing run directory it
    resumes where the run stopped.

    Attributes:
        data: what to learn: moons, checkerboard, spirals, swissroll, 8gaussians, pinwheel, digits, or a path to a
            .npy, .npz or .csv file or a folder of images.
        source: train a bridge from this data set (time 0) to --target instead (names or paths as for --data).
        target: end of the bridge (time 1); for paired methods (see list) row k belongs to row k of --source.
        steps: updates; 0 chooses by kind of data.
        out: run directory; default runs/DATA-METHOD.
        num: samples to draw at the end; 0 chooses by kind of data.
        devices: devices to train on; 0: all there are that divide the batch.
        config: what to learn and how.
        reading: how files and folders are read.
    """

    data: str = "digits"
    source: str = ""
    target: str = ""
    steps: int = 0
    out: str = ""
    num: int = 0
    devices: int = 1
    config: tyro.conf.OmitArgPrefixes[Config] = dataclasses.field(default_factory=Config)
    reading: tyro.conf.OmitArgPrefixes[Reading] = dataclasses.field(default_factory=Reading)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draw samples of a trained run, or of several composed.

    Attributes:
        run: run directory; none with --compose.
        num: how many samples.
        label: label to draw, as the data have it, for class-conditional runs; empty: every label in turn.
        guidance: classifier-free guidance scale; 0: the run's own.
        steps: steps of the sampler; 0: the run's own.
        sampler: ode or sde, for diffusion, sf2m and ddbm; empty: the run's own.
        direction: of a bridge: forward, from source to target, or backward.
        start: data set to start from, row by row: sources, or targets for --direction backward; empty: the run's own.
        seed: seed of the samples; sample i is the same whatever --num is.
        out: name of the files: samples as .npz (of a table as .csv too), a picture as .png; default RUN/samples-SEED.
        compose: diffusion runs combined, for example 'product(runs/a, runs/b)'; also power(run, exponent),
            negation(run, without, strength), guidance(conditional, unconditional, scale), nested as one likes, and
            outermost mixture(run, run, ..., weights), of runs of any method.
        corrector: of --compose: mcmc (annealed Hamiltonian chains) or feynman_kac (a weighted population; a sample then
            depends on --num).
    """

    run: tyro.conf.Positional[str] = ""
    num: int = 64
    label: str = ""
    guidance: float = 0.0
    steps: int = 0
    sampler: str = ""
    direction: str = "forward"
    start: str = ""
    seed: int = 1
    out: str = ""
    compose: str = ""
    corrector: str = "mcmc"


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Draw fresh samples of a run and measure them again, beside real-versus-real floors, into files of their own.

    Attributes:
        run: run directory.
        num: samples to draw; 0 chooses by kind of data.
        seed: seed of the samples.
    """

    run: tyro.conf.Positional[str]
    num: int = 0
    seed: int = 2


@dataclasses.dataclass(frozen=True)
class List:
    """List methods, data sets, schedules, and the runs below a directory.

    Attributes:
        runs: directory whose runs to list.
    """

    runs: str = "runs"


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[List, tyro.conf.subcommand("list")]
)


def parse(argv: list[str] | None) -> Train | Sample | Evaluate | List:
    """The command that was typed. Wrong usage prints what would be right and exits with 2."""
    if (sys.argv[1:] if argv is None else argv) == ["--version"]:
        print(f"bridgejax {__version__}")
        raise SystemExit(0)
    return tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="bridgejax",
        description="Diffusion models and diffusion bridges in JAX. 'bridgejax COMMAND --help' says more.",
        args=argv,
    )
