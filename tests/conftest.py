"""Eight CPU devices, one compilation cache, one key: what every test can count on."""

import os
import pathlib
import tempfile

os.environ.setdefault("MPLBACKEND", "agg")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import pytest

_cache = os.environ.get("BRIDGEJAX_TEST_CACHE", str(pathlib.Path(tempfile.gettempdir()) / "bridgejax-test-cache"))
jax.config.update("jax_compilation_cache_dir", _cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """A run directory of ``bridgejax train`` on digits, hardly trained."""
    from bridgejax.cli import main

    directory = tmp_path_factory.mktemp("runs") / "digits"
    arguments = ["train", "--steps", "20", "--out", str(directory), "--num", "200", "--width", "32", "--depth", "1"]
    assert main(arguments) == 0
    return directory
