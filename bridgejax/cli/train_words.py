"""The command line of ``bridgejax train METHOD`` is parsed here, before JAX is imported: ``parse`` gives a ``Train``.

The options are the fields of the method's own dataclasses (its options, network, training and data), and of no others.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from bridgejax.cli.arguments import Machine
from bridgejax.runs import config as configs
from bridgejax.runs.config import Config
from bridgejax.runs.record import ENDS, is_run, is_same, located, read_config
from bridgejax.runs.registry import spec_of, specs

if TYPE_CHECKING:
    from bridgejax._types import Json

_PARTS = ("method", "network", "training", "data", "reading")  # of a parser, in the order of its help


@dataclass(frozen=True)
class RunOptions:
    """The run.

    Attributes:
        steps: updates; None: 8,000, for images 5,000, on manifolds 4,000, of a table with a target 2,000; 1 where
            nothing is fitted.
        out: run directory; default runs/DATA-METHOD. An existing run is resumed.
        num: samples to draw at the end; None: 4,000, for images 360. Of a table with a target draws of its function,
            256.
        devices: devices to train on; None: all there are that divide the batch.
        mesh: devices by axes, such as data=8 or data=4,fsdp=2: the batch is spread over all of them, and an axis fsdp
            holds parameters, moments and averages in so many shards; empty: see devices.
        distributed: one run on several machines, each given the same words and files, and a run directory that all see:
            auto, where SLURM, Open MPI, a TPU pod or Kubernetes starts the processes, else HOST:PORT,PROCESSES,PROCESS:
            address of the first, how many there are, and which this is, from 0; empty: one machine.
        seed: decides everything random.
        best: a metric such as loss, whose best checkpoint stays besides the three newest (bridgejax export --step);
            empty: none.
        resume: same refuses to go on with data or a method that are not those that the run was begun with; anyway goes
            on.
        config: YAML or JSON file with settings (bridgejax config METHOD prints one); what is typed goes before it.
    """

    steps: int | None = None
    out: str = ""
    num: int | None = None
    devices: int | None = 1
    mesh: str = ""
    distributed: str = ""
    seed: int = 0
    best: str = ""
    resume: Literal["same", "anyway"] = "same"
    config: str = ""


@dataclass(frozen=True)
class Train:
    """What ``bridgejax train`` was asked for.

    Attributes:
        config: what is learnt.
        run: how it is run.
        directory: where.
        record: of the run that is there already, or None.
        machine: what it may use of this machine.
    """

    config: Config
    run: RunOptions
    directory: Path
    record: Json | None
    machine: Machine


AXES = ("data", "fsdp")  # of a mesh


def mesh_axes(text: str) -> dict[str, int]:
    """The axes of a mesh and how many devices each has, from words such as data=4,fsdp=2.

    Raises:
        ValueError: an unknown axis, one that comes twice, no number of devices.
    """
    axes: dict[str, int] = {}
    for word in text.split(","):
        name, _, number = (part.strip() for part in word.partition("="))
        if name not in AXES or name in axes or not (number.isascii() and number.isdigit() and int(number[:9]) > 0):
            raise ValueError(
                f"mesh must be axes and their numbers of devices, data=8 or data=4,fsdp=2, got {text!r}: {word!r} is "
                f"no axis of {' or '.join(AXES)}, each once, with a number of at least 1"
            )
        axes[name] = int(number[:9])
    return axes


def distributed_words(text: str) -> dict[str, Any]:
    """Arguments of ``jax.distributed.initialize``, from auto or HOST:PORT,PROCESSES,PROCESS.

    Raises:
        ValueError: neither.
    """
    if text == "auto":
        return {}
    found = re.fullmatch(r"([^,]+:[0-9]{1,5}), ?([0-9]{1,6}), ?([0-9]{1,6})", text)
    if found is None or int(found[3]) >= int(found[2]):
        raise ValueError(
            "distributed must be auto or HOST:PORT,PROCESSES,PROCESS, such as node0:1234,2,0 on the first of two "
            f"machines and node0:1234,2,1 on the second, got {text!r}"
        )
    return {"coordinator_address": found[1], "num_processes": int(found[2]), "process_id": int(found[3])}


def read_file(path: str) -> Config:
    """A Config from YAML or JSON.

    Raises:
        FileNotFoundError: no file.
        ValueError: neither, or settings that the method does not have.
    """
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it has an alias (*name), of which nine can stand for gigabytes; write settings out")
        return configs.from_record(yaml.safe_load(text))
    except RecursionError:
        raise ValueError(f"{path}: it is nested too deeply for a configuration") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


def to_yaml(config: Config) -> str:
    """The Config as YAML."""
    import yaml

    return yaml.safe_dump(configs.to_record(config), sort_keys=False, allow_unicode=True)


def _peeked(args: list[str]) -> argparse.Namespace:
    """The few words that decide which parser is needed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for word in ("--out", "--config", "--source", "--manifold"):
        parser.add_argument(word, default="")
    return parser.parse_known_args([arg for arg in args if arg not in ("-h", "--help")])[0]


def _base(method: str | None, seen: argparse.Namespace) -> Config:
    """The settings that the words are laid over: those of an existing run, of a file, or the method's own."""
    if seen.out and is_run(seen.out) and method is None and not seen.config:
        return located(read_config(seen.out), Path(seen.out))
    if seen.config:
        base = read_file(seen.config)
        if method not in (None, base.method):
            raise ValueError(f"method {method!r} was typed, and {seen.config} is for {base.method!r}; leave one out")
        return base
    usual = "riemannian_flow" if seen.manifold else "bridge_matching" if seen.source else "diffusion"
    return configs.default(method or usual)


def _check_manifold(base: Config, seen: argparse.Namespace) -> None:
    """Raise where a manifold is named to a method that knows none."""
    if seen.manifold and not any(hasattr(record, "manifold") for record in (base.options, base.data)):
        those = ", ".join(name for name, spec in specs().items() if spec.on_manifold)
        raise ValueError(
            f"method {base.method!r} learns vectors, series or images, not points on a manifold; leave --manifold out, "
            f"or use one of {those}"
        )


def _parser(base: Config) -> Any:
    """A dataclass whose fields are the records, printed flat."""
    records = {
        "method": base.options,
        "network": base.network,
        "training": base.training,
        "data": base.data,
        "reading": base.reading,
    }
    fields: list[Any] = [
        (part, tyro.conf.OmitArgPrefixes[type(records[part])], dataclasses.field(default=records[part]))
        for part in _PARTS
        if records[part] is not None
    ]
    run = RunOptions(seed=base.seed)
    fields.append(("run", tyro.conf.OmitArgPrefixes[RunOptions], dataclasses.field(default=run)))
    fields.append(("machine", tyro.conf.OmitArgPrefixes[Machine], dataclasses.field(default=Machine())))
    return dataclasses.make_dataclass("Train", fields, frozen=True)


def _parsed(base: Config, args: list[str]) -> tuple[Config, RunOptions, Machine]:
    spec = base.spec
    given = tyro.cli(
        _parser(base),
        prog=f"bridgejax train {base.method}",
        description=f"{spec.summary}.\n\n{spec.when}\n\nIt learns {_FORMS[spec.data]}.",
        args=args,
    )
    network = getattr(given, "network", None)
    config = Config(base.method, given.method, network, given.training, given.data, given.reading, given.run.seed)
    return config, given.run, given.machine


_FORMS = {
    "one set": "one data set (--data)",
    "one or two": "one data set (--data), from noise, or two (--source, --target)",
    "two sets": "two data sets whose rows are unrelated (--source, --target)",
    "pairs": "two data sets whose rows correspond (--source, --target)",
    "manifold": "points on a manifold (--data, --manifold)",
    "snapshots": "snapshots in time, rows each with its time (--data, --time-column)",
    "supervised": "a column of a table given the others (--data, --predict)",
}


def _general() -> str:
    lines = [f"  {name:18} {spec.summary}" for name, spec in specs().items()]
    return "\n".join(
        (
            "usage: bridgejax train [METHOD] [OPTIONS]",
            "",
            "Train a model, sample it, evaluate it and draw it, into a run directory. With no word: diffusion on the",
            "scanned digits of scikit-learn. On an existing run directory (--out) it resumes where the run stopped.",
            "",
            "methods (bridgejax train METHOD --help has the options of each):",
            *lines,
        )
    )


def _default_directory(config: Config) -> Path:
    named = [Path(getattr(config.data, end)).stem for end in ("source", "target") if getattr(config.data, end, "")]
    return Path("runs") / "-".join((*(named or [Path(getattr(config.data, "data", "")).stem]), config.method))


def _flat(config: Config) -> Json:
    record = configs.to_record(config)
    return {"seed": record.pop("seed")} | {name: value for part in record.values() for name, value in part.items()}


def _differing(given: Config, recorded: Config) -> list[str]:
    """The settings that differ, in words; two names of one file are the same."""
    now, then = _flat(given), _flat(recorded)
    return [
        f"{name} {then[name]!r} (now {now[name]!r})"
        for name in then
        if now[name] != then[name] and not (name in ENDS and is_same(now[name], then[name]))
    ]


def parse(args: list[str]) -> Train:
    """``bridgejax train`` with these words.

    Raises:
        ValueError: an unknown method, settings that differ from those of the run that is there, a directory that is
            none of ours.
    """
    method, rest = (args[0], args[1:]) if args and not args[0].startswith("-") else (None, args)
    if method is None and {"-h", "--help"} & set(rest):
        print(_general())
        raise SystemExit(0)
    if method is not None:
        spec_of(method)
    seen = _peeked(rest)
    base = _base(method, seen)
    _check_manifold(base, seen)
    config, run, machine = _parsed(base, rest)
    if run.mesh and math.prod(mesh_axes(run.mesh).values()) != run.devices != 1:
        raise ValueError(f"mesh {run.mesh!r} says how many devices, and so does devices {run.devices}; leave one out")
    if run.distributed:
        distributed_words(run.distributed)
    if run.distributed and run.devices != RunOptions.devices:
        raise ValueError("a distributed run takes all devices there are; leave devices out, or arrange them with mesh")
    directory = Path(run.out) if run.out else _default_directory(config)
    if not is_run(directory):
        if directory.exists() and any(directory.iterdir()):
            raise ValueError(f"{directory} exists and is not a run directory; choose another --out")
        return Train(config, run, directory, None, machine)
    record = read_config(directory)
    recorded = located(record, directory)
    asked = read_file(seen.config) if seen.config else recorded
    wanted = asked.method if method is None else method
    if wanted != recorded.method:
        raise ValueError(f"{directory} holds a run of method {recorded.method!r}, not {wanted!r}; choose another --out")
    config, run, machine = _parsed(asked, rest)
    differing = _differing(config, recorded)
    if differing:
        raise ValueError(
            f"{directory} holds a run with {', '.join(differing)}; choose another --out, or resume it with --out alone"
        )
    return Train(recorded, run, directory, record, machine)
