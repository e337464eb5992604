"""``bridgejax list`` and ``bridgejax config``: what there is, without JAX."""

from __future__ import annotations

from pathlib import Path

from bridgejax.cli.arguments import List, Show
from bridgejax.cli.train_words import to_yaml
from bridgejax.data.named import NAMES
from bridgejax.runs import config as configs
from bridgejax.runs.record import CHECKPOINTS, config_of, read_config
from bridgejax.runs.registry import specs


def listing(command: List) -> None:
    """Methods by what they are given, data sets, and the runs below a directory."""
    print("methods (bridgejax train METHOD --help says more)")
    for name, spec in specs().items():
        print(f"  {name:16} {spec.summary}")
    print("data\n  " + ", ".join(NAMES) + "; or a .npy, .npz, .csv, .tsv or .parquet file, or a folder of images")
    root = Path(command.runs)
    found = sorted(path.parent for path in root.glob("*/config.json")) if root.is_dir() else []
    print(f"runs in {root}" if found else f"no runs in {root}")
    for directory in found:
        print(f"  {directory.name:28} {_line(directory)}")


def _line(directory: Path) -> str:
    try:
        record = read_config(directory)
        config = config_of(record)
    except ValueError as error:
        return f"not read: {error}"
    source = getattr(config.data, "source", "")
    ends = f"{source} -> {config.data.target}" if source else config.data.data
    steps = [int(path.name) for path in (directory / CHECKPOINTS).glob("*") if path.name.isdecimal()]
    return f"{config.method:16} {ends:28} {max(steps, default=0)} of {record['steps']} steps"


def show(command: Show) -> None:
    """The settings of a method as YAML, for ``train --config``."""
    print(to_yaml(configs.default(command.method)), end="")
