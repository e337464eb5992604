"""``bridgejax export``: what a run has learnt as one safetensors file, for whoever has not this package."""

from __future__ import annotations

from pathlib import Path

import jax

from bridgejax.cli.arguments import Export
from bridgejax.networks import save_weights
from bridgejax.runs import load


def export(command: Export) -> None:
    """Write the parameters, averaged where there is an average."""
    directory = Path(command.run)
    params = load(directory, step=command.step).params
    path = save_weights(command.out or directory / "weights.safetensors", params)
    leaves = jax.tree.leaves(params)
    numbers = sum(leaf.size for leaf in leaves)
    print(f"{path}: {numbers:,} numbers in {len(leaves)} arrays, {path.stat().st_size:,} bytes")
    print("  read it with safetensors.numpy.load_file, or networks.load_weights(path, like=load(RUN).params)")
