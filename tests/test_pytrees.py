"""Structures of different classes are different, those of JAX's own registration are not; nothing else changes."""

import dataclasses
import importlib
import pkgutil
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax._pytrees import register_dataclass


def made(register, name):
    made = dataclasses.make_dataclass(name, ["n", "x"], frozen=True)
    return partial(register, data_fields=("x",), meta_fields=("n",))(made)


def test_what_is_compiled_for_one_class_does_not_serve_another():
    """Ahead of time it is refused; by jit a thousand classes in one cache are a thousand programs."""
    One, Two = made(register_dataclass, "One"), made(register_dataclass, "Two")
    compiled = jax.jit(lambda node: node.x + isinstance(node, Two)).lower(One(2, 0.0)).compile()
    assert float(compiled(One(2, 1.0))) == 1.0
    with pytest.raises(TypeError, match="compiled with"):
        compiled(Two(2, 1.0))
    many = [made(register_dataclass, f"Class{i}") for i in range(300)]
    number = jax.jit(lambda node: float(type(node).__name__[5:]) + 0.0 * node.x)
    assert [float(number(each(2, 0.0))) for each in many] == list(range(300))


def test_it_is_the_pytree_of_a_dataclass():
    ours, theirs = made(register_dataclass, "Both"), made(jax.tree_util.register_dataclass, "Both")
    one, other = ours(3, {"a": jnp.ones(2)}), theirs(3, {"a": jnp.ones(2)})
    paths = [[jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(t)] for t in (one, other)]
    assert paths == [[".x['a']"]] * 2
    twice = jax.tree.map(lambda leaf: 2 * leaf, one)
    assert twice.n == 3
    np.testing.assert_array_equal(twice.x["a"], 2.0)
    assert jax.tree.structure(one) == jax.tree.structure(twice) != jax.tree.structure(ours(4, {"a": jnp.ones(2)}))


def test_every_node_of_the_package_has_a_structure_of_its_own():
    for module in pkgutil.walk_packages(bj.__path__, "bridgejax."):
        path = importlib.util.find_spec(module.name).origin
        found = re.search(r"^[^\"`]*tree_util\.register_dataclass", Path(path).read_text(encoding="utf-8"), re.M)
        assert found is None, f"{module.name}: use _pytrees.register_dataclass"
    manifolds = [
        bj.manifolds.U(2),
        bj.manifolds.SU(2),
        bj.manifolds.SO(2),
        bj.manifolds.Sphere(2),
        bj.manifolds.Torus(2),
    ]
    structures = [jax.tree.structure(manifold) for manifold in manifolds]
    assert all((a == b) == (i == j) for i, a in enumerate(structures) for j, b in enumerate(structures))
