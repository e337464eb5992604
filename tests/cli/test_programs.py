"""How many programs the default run compiles: counted by JAX's log, so that it needs no clock."""

import subprocess
import sys

import pytest

COUNT = """
import sys
import jax
sys.path.insert(0, sys.argv[1])
from compiling import compiled
from bridgejax.cli import main
with compiled() as names:
    try:
        main(["train", "--no-cache", "--steps", "2", "--out", sys.argv[2]])
    except SystemExit as end:
        assert not end.code, end.code
print(f"{len(names)} programs:", *names)
"""


@pytest.mark.slow
def test_the_default_run_compiles_few_programs(tmp_path, request):
    """52 with jax 0.10.2, half of them for the random parameters of a network; one more is a reason to look."""
    tests = str(request.config.rootpath / "tests")
    command = [sys.executable, "-c", COUNT, tests, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    found = done.stdout.splitlines()[-1]
    assert 10 < int(found.split()[0]) <= 52, found
