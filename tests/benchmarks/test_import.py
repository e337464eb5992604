"""``import bridgejax`` imports nothing until a name is used; all of it is what it stands on, nothing of an extra."""

import json
import subprocess
import sys

import pytest

EXTRAS = {
    *(
        "tyro",
        "tqdm",
        "matplotlib",
        "PIL",
        "sklearn",
        "scipy",
        "orbax",
        "grain",
        "torch",
        "torchsde",
        "ott",
        "blackjax",
    ),
    *("pandas", "pyarrow", "IPython", "pytest", "tensorflow", "tensorstore"),
}


def _modules(statement):
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return set(json.loads(out.splitlines()[-1]))


@pytest.fixture(scope="module")
def modules():
    everything = "import bridgejax as bj\nfor name in dir(bj): getattr(bj, name)"
    return _modules("import jax, flax.nnx, optax, diffrax"), _modules(everything)


def test_a_name_is_imported_when_it_is_first_used():
    assert not {"jax", "numpy", "flax", "diffrax"} & _top(
        _modules("import bridgejax, bridgejax.cli, bridgejax.runs.config")
    )
    assert "jax" in _top(_modules("import bridgejax\nbridgejax.SDE"))


def _top(names):
    return {name.split(".")[0] for name in names}


def test_nothing_of_an_extra_is_imported(modules):
    base, mine = modules
    assert {"jax", "diffrax", "optax"} <= _top(mine)
    assert (_top(mine) & EXTRAS) - _top(base) == set()


def test_few_modules_beyond_the_dependencies(modules):
    """The import's time is gated by a clock in experiments/benchmarks; what it is made of is counted here."""
    base, mine = modules
    foreign = {name for name in mine - base if name.split(".")[0] != "bridgejax"}
    assert len(foreign) <= 0.05 * len(base)
    assert len(mine) <= 1.2 * len(base)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sample nowhere", "is not a run directory"),
        ("sample --compose product(nowhere,power(nowhere,2))", "nowhere is not a run directory"),
        ("sample --compose produkt(nowhere,nowhere)", "did you mean 'product'"),
        ("sample --compose nowhere --corrector none", "corrector"),
        ("evaluate nowhere --num 20", "is not a run directory"),
        ("train --data nowhere.csv", "nowhere.csv does not exist"),
        ("train dsbm --source moons --target moon", "did you mean 'moons'"),
        ("train riemannian_flow --data nowhere.csv", "say which, --manifold sphere, torus or so3"),
        ("train riemannian_flow --manifold so3 --data nowhere.csv", "nowhere.csv does not exist"),
        ("train diffusion --manifold sphere --data nowhere.csv", "leave --manifold out, or use one of"),
        ("train simplified_dsb --source moons --target moons --initial nowhere", "is not a run directory"),
    ],
)
def test_what_is_missing_is_said_before_jax_is_imported(words, said):
    """Its time is that of 300 modules, where JAX and what stands on it are 2,000."""
    code = f"import sys\nfrom bridgejax.cli import main\nassert main({words.split()!r}) == 1\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said in done.stderr
    modules = done.stdout.split()
    assert not {"jax", "numpy", "flax", "matplotlib"} & set(modules)
    assert len(modules) < 400
