"""How long ``import bridgejax`` takes, against importing what it stands on.

Claim: <= 1.2 x the time of ``import jax, flax.nnx, optax, diffrax`` in a fresh interpreter (medians of >= 20
interleaved rounds beside an A/A control; see harness.py). That nothing from an extra is pulled in is tested, not timed
(tests/benchmarks/test_import.py).

    python experiments/benchmarks/import_time.py [--smoke]
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import harness


def importing(what: str) -> Callable[[], None]:
    """A fresh interpreter that imports it and ends."""
    return lambda: subprocess.run([sys.executable, "-c", f"import {what}"], check=True) and None


def main() -> None:
    """Compare."""
    options = harness.parse(__doc__)
    rows = harness.compare(
        importing("jax, flax.nnx, optax, diffrax"), {"import bridgejax": importing("bridgejax")}, pairs=options.pairs
    )
    records = harness.record("import", rows, at_most={"import bridgejax": 1.2})
    harness.show(records)
    harness.save("import_time", __doc__.splitlines()[0], records, options)


if __name__ == "__main__":
    main()
