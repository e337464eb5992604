"""Eight CPU devices, one compilation cache, one key: what every test can count on.

Programs are compiled with few optimisations, since most of the time of most tests is compilation; a test or module
marked ``slow`` or ``optimised`` (it reads a compiled program, or computes for longer than it compiles) has them all, as
has everything with ``JAX_DISABLE_MOST_OPTIMIZATIONS=0`` in the environment. Child processes compile as the test does.
"""

import gc
import os
import pathlib
import tempfile

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import pytest

_cache = os.environ.get("BRIDGEJAX_TEST_CACHE", str(pathlib.Path(tempfile.gettempdir()) / "bridgejax-test-cache"))
jax.config.update("jax_compilation_cache_dir", _cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# a representative of every room that costs little: marked quick, and all that pytest -m quick collects
QUICK = (
    *("test_map.py", "test_couplings.py", "processes/test_numerics.py", "processes/test_keys.py"),
    "geometry/test_simplex.py",
    *("metrics/test_floors.py", "objectives/test_bridging.py", "oracles/test_oracles_bad_input.py"),
    "networks/test_preconditioning.py",
    *(
        "data/test_toys.py",
        "training/test_optimizers.py",
        "solve/test_solve_bad_input.py",
        "weigh/test_weigh_bad_input.py",
    ),
    *("bridges/test_bridges_bad_input.py", "methods/test_arguments.py", "runs/test_config.py"),
    *("evaluation/test_memorisation.py", "evaluation/test_trajectories.py"),
)
# of those files, what compiles for seconds and has quicker neighbours
NOT_QUICK = (
    "test_a_network_over_times_may_say_more_than_one_number_a_channel",
    "test_a_schedule_whose_least_noise_float32_cannot_time",
    "test_labels_needed_for_a_share_of_them",
    "test_the_right_call_is_right[estimate_collapse_time]",
    "test_the_right_call_is_right[quantum.bures]",
    "test_the_right_call_is_right[quantum.thermal_ising]",
    "test_the_right_call_is_right[pcn]",
    *(f"test_examples_run[{name}]" for name in ("augmented_bridge", "ddbm", "i2sb", "trivialised_momentum")),
)
_quick = {pathlib.Path(__file__).parent / name for name in QUICK}


def pytest_configure(config):
    if config.option.markexpr == "quick":
        jax.config.update("jax_disable_most_optimizations", True)
    config.few_optimisations = jax.config.values["jax_disable_most_optimizations"]


def pytest_ignore_collect(collection_path, config):
    """With ``-m quick`` no other file is imported: importing all of them costs more than running these."""
    if config.option.markexpr == "quick" and collection_path.is_file() and collection_path not in _quick:
        return True
    return None


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path in _quick and item.name not in NOT_QUICK and item.get_closest_marker("slow") is None:
            item.add_marker("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before the fixtures of a test, which may compile: the optimisations that it is marked for."""
    whole = item.get_closest_marker("optimised") or item.get_closest_marker("slow")
    few = item.config.few_optimisations and whole is None
    if few != jax.config.values["jax_disable_most_optimizations"]:
        jax.config.update("jax_disable_most_optimizations", few)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(few))  # child processes do as the test does
        jax.clear_caches()  # programs in memory do not say how they were compiled; those on disk do


def pytest_runtest_teardown(item, nextitem):
    """After a file: a process may have 65,530 memory maps on Linux, every compiled program has some, and XLA that gets
    none ends the process."""
    maps = pathlib.Path("/proc/self/maps")
    if (nextitem is None or nextitem.path != item.path) and maps.exists():
        if maps.read_bytes().count(b"\n") > 25_000:
            jax.clear_caches()
            gc.collect()


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
