"""``bridgejax evaluate``: fresh samples of a run, measured again into files of their own, or looked at for copies."""

from __future__ import annotations

from pathlib import Path

from bridgejax.cli.arguments import Evaluate
from bridgejax.cli.memorisation import report_memorisation
from bridgejax.cli.results import SAMPLES, check_num, report_run
from bridgejax.runs import load
from bridgejax.runs.data import load_run_data
from bridgejax.runs.record import check_data, located, read_config


def evaluate(command: Evaluate) -> None:
    """Draw, measure, draw pictures."""
    directory = Path(command.run)
    record = read_config(directory)
    check_num(command.num)
    config = located(record, directory)
    check_data(record, config)
    data = load_run_data(config)
    num = command.num or SAMPLES[data.train.kind]
    if command.other_half and not command.memorisation:
        raise ValueError("other_half is for --memorisation, the test of two models of two halves; give both")
    if command.memorisation:
        report_memorisation(directory, data, num, command.seed, command.other_half)
        return
    name = f"evaluation-{command.seed}"
    report_run(load(directory), directory, data, num, command.seed, (name, name))
