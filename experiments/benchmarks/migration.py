"""Are the numbers of the results those that they were before results became studies?

    python experiments/benchmarks/migration.py    reads both versions from the history of this repository

Every value, spread and floor of the records must stand in the old files, as a number or in a sentence; and every number
of the old files that is no whole number must stand in the new ones. Exits with 1 otherwise.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

COMMIT = "2118153"  # "Results as studies"; its parent has the old files
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def git(*words: str) -> str:
    """What git says."""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def results(commit: str) -> list[Any]:
    """The contents of the results files of a commit."""
    names = git("ls-tree", "-r", "--name-only", commit, "experiments/results").split()
    return [json.loads(git("show", f"{commit}:{name}")) for name in names if name.endswith(".json")]


def numbers(content: Any, *, in_words: bool) -> Iterator[float]:
    """The numbers in it; if wanted those in its sentences too."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from numbers(part, in_words=in_words)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield float(content)
    elif isinstance(content, str) and in_words:
        yield from map(float, NUMBER.findall(content))


def main() -> int:
    """Count what is new and what is gone."""
    old, new = results(f"{COMMIT}^"), results(COMMIT)
    measured = [record.get(key) for file in new for record in file["records"] for key in ("value", "spread", "floor")]
    known = set(numbers(old, in_words=True))
    found = list(numbers(measured, in_words=False))
    invented = [x for x in found if x not in known]
    kept = set(numbers(new, in_words=False))
    were = {x for x in numbers(old, in_words=False) if x % 1}
    print(f"{len(found)} numbers in records, {len(invented)} of them not in the old files: {invented[:10]}")
    print(f"{len(were)} different numbers in the old files, {len(were - kept)} of them gone")
    return 1 if invented or were - kept else 0


if __name__ == "__main__":
    raise SystemExit(main())
