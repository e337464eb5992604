"""A method that is given no network has an MLP that fits its samples and what it is told beside them: by shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.networks import or_mlp

ROWS = np.zeros((4, 2), np.float32)
PAIRS = {"source": ROWS, "target": ROWS}
M = bj.methods


def rho(x):
    return -0.5 * jnp.sum(x**2)


def cost(t, x):
    return jnp.sum(x**2)


def motion():
    return bj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)


FOUR = {"ts": bj.grids.uniform(4)}
MADE = {
    "diffusion": (lambda: M.diffusion(bj.schedules.cosine(), shape=(2,)), ROWS),
    "diffusion of classes": (
        lambda: M.diffusion(bj.schedules.cosine(), shape=(2,), null=3),
        {"x": ROWS, "label": np.zeros(4, np.int32)},
    ),
    "edm": (lambda: M.edm(shape=(2,)), ROWS),
    "mean_flow": (lambda: M.mean_flow(shape=(2,)), ROWS),
    "truncated": (lambda: M.truncated(bj.schedules.cosine(), shape=(2,)), ROWS),
    "bridge_matching": (lambda: M.bridge_matching(shape=(2,)), PAIRS),
    "constrained": (
        lambda: M.constrained(bj.domains.Categorical(2), shape=(2,), predict="tilt"),
        np.eye(2)[[0, 1, 0, 1]],
    ),
    "dsbm": (lambda: M.dsbm(shape=(2,), cache=4, **FOUR), PAIRS),
    "sf2m": (lambda: M.sf2m(shape=(2,), **FOUR), PAIRS),
    "dsb": (lambda: M.dsb(shape=(2,), cache=4, **FOUR), PAIRS),
    "simplified_dsb": (lambda: M.simplified_dsb(shape=(2,), cache=4, **FOUR), PAIRS),
    "vsdm": (lambda: M.vsdm(shape=(2,), cache=4), ROWS),
    "latent_sb": (lambda: M.latent_sb(rows=np.random.default_rng(0).normal(size=(8, 2))), ROWS),
    "augmented_bridge": (lambda: M.augmented_bridge(shape=(2,)), PAIRS),
    "i2sb": (lambda: M.i2sb(shape=(2,)), PAIRS),
    "ddbm": (lambda: M.ddbm(shape=(2,)), PAIRS),
    "bdbm": (lambda: M.bdbm(shape=(2,)), PAIRS),
    "conditioned": (lambda: M.conditioned(motion(), None, start=jnp.zeros(2), **FOUR), ROWS),
    **{
        name: (lambda name=name: getattr(M, name)(rho, dim=2, **FOUR), ROWS[:, :0])
        for name in ("pis", "dis", "dds", "gbs", "cmcd", "underdamped", "adjoint_sampling")
    },
}


KINDS = {  # one of each way to ask for it
    "diffusion of classes",
    "constrained",
    "dsbm",
    "latent_sb",
    "bdbm",
    "conditioned",
    "dis",
    "underdamped",
}


@pytest.mark.parametrize("name", [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in MADE])
def test_a_method_needs_no_network(name):
    make, batch = MADE[name]
    method = make()
    try:
        state = jax.eval_shape(method.init, jax.random.key(0), batch)
    except jax.errors.TracerArrayConversionError:  # its init draws rows of the data on the host
        state = method.init(jax.random.key(0), batch)
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.asarray(leaf).dtype), batch)
    if name == "adjoint_sampling":  # it steps on what a refresh has kept
        assert jax.tree.leaves(state)
        return
    after, metrics = jax.eval_shape(method.step, state, jax.random.key(0), batch)
    assert metrics["loss"].shape == ()
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_the_fallback_is_one_network_for_all():
    """Its width is by size, and its parameters are the same each time, and no noise of seed 0."""
    first, again = or_mlp(None, (2,)), or_mlp(None, (2,))
    jax.tree.map(np.testing.assert_array_equal, first.params, again.params)
    assert or_mlp(first, (2,)).params is first.params
    widths = [or_mlp(None, (d,)).params["first"]["kernel"].shape for d in (8, 9, 129)]
    assert widths == [(8, 128), (9, 256), (129, 512)]
    found = np.sort(np.ravel(first.params["first"]["kernel"]))[:8]
    for key in (jax.random.key(0), *jax.random.split(jax.random.key(0), 3), *bj.keys(jax.random.key(0), 3)):
        drawn = np.sort(np.ravel(jax.random.normal(key, (256,))))[:8]
        assert abs(np.corrcoef(found, drawn)[0, 1]) < 1 - 1e-6
