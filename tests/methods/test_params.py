"""``method.params(state)`` of every method: what its process holds, averaged where there is an average."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_without_network import FOUR, MADE, PAIRS, ROWS, M, rho

import bridgejax as bj
from bridgejax.networks import or_mlp

SPHERE = bj.manifolds.Sphere(2)
POINTS = jax.vmap(SPHERE.uniform)(bj.keys(jax.random.key(0), 4))
POSITIVE = jnp.exp(ROWS)
MORE = {
    **{
        name: (lambda name=name: getattr(M, name)(SPHERE), POINTS)
        for name in ("projected", "riemannian_score", "riemannian_flow", "manifold_bridge")
    },
    "trivialised_momentum": (lambda: M.trivialised_momentum(bj.manifolds.Torus(3)), POINTS),
    "mirrored": (
        lambda: M.mirrored(M.diffusion(bj.schedules.cosine(), shape=ROWS.shape[1:]), bj.mirrors.Positive()),
        POSITIVE,
    ),
    "action_matching": (lambda: M.action_matching(shape=(2,), unbalanced=True), ROWS),
    "wasserstein_lagrangian": (lambda: M.wasserstein_lagrangian(shape=(2,)), ROWS),
    "closed_form": (lambda: M.closed_form(bj.schedules.cosine(), rows=ROWS + 1, smoothing=0.1), ROWS),
    "score_machine": (lambda: M.score_machine(bj.schedules.cosine(), rows=ROWS + 1, image=(1, 2)), ROWS),
    "lightsb": (lambda: M.lightsb(epsilon=1.0, dim=2, components=3), PAIRS),
    "lightsb_m": (lambda: M.lightsb_m(epsilon=1.0, dim=2, components=3, covariance="full"), PAIRS),
    "gsbm": (
        lambda: M.gsbm(None, lambda t, x, others: jnp.sum(x**2), shape=(2,), cache=4, path_steps=1, **FOUR),
        PAIRS,
    ),
    **{
        f"deep_gp {name}": (
            lambda name=name: M.deep_gp(np.eye(4), np.arange(4.0), posterior=name, inducing=3, steps=2),
            PAIRS,
        )
        for name in ("full", "dbvi")
    },
    "vae": (
        lambda: M.vae(or_mlp(None, (2,), outputs=(2, 1)), or_mlp(None, (1,), outputs=(2,)), shape=(2,), latent=1),
        ROWS,
    ),
    "truncated shared": (lambda: M.truncated(bj.schedules.cosine(), shape=(2,), generator="shared"), ROWS),
    "replay": (lambda: M.pis(rho, dim=2, replay=4, ema=0.9, **FOUR), ROWS[:, :0]),
    "conditioned backward": (
        lambda: M.conditioned(
            bj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0), None, start=jnp.zeros(2), kind="forward", **FOUR
        ),
        ROWS,
    ),
}
NOT_IN_THE_PROCESS = {  # learnt, and used by the loss alone
    "truncated": {"discriminator"},
    "truncated shared": {"discriminator"},
    "wasserstein_lagrangian": {"path"},
    "vae": {"encoder"},
    **{name: {"log_z"} for name in ("pis", "dis", "dds", "gbs", "cmcd", "underdamped", "replay")},
}


def _filled(state):
    """The same state with other numbers in every leaf of them: parameters and averages are told apart."""
    leaves, structure = jax.tree.flatten(state)
    new = []
    for i, leaf in enumerate(leaves):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            leaf = jnp.sin(i + 1.0 + jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
        elif not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jnp.zeros(leaf.shape, leaf.dtype)
        new.append(leaf)
    return jax.tree.unflatten(structure, new)


def _numbers(tree):
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return {np.asarray(leaf).tobytes() for leaf in leaves}


@pytest.mark.parametrize("name", [*MADE, *MORE])
def test_the_process_holds_what_params_hands_out(name):
    make, batch = (MADE | MORE)[name]
    method = make()
    try:
        state = jax.eval_shape(method.init, jax.random.key(0), batch)
    except jax.errors.TracerArrayConversionError:  # its init draws rows of the data on the host
        state = method.init(jax.random.key(0), batch)
    state = _filled(state)
    params = method.params(state)
    if name in NOT_IN_THE_PROCESS:
        params = {key: value for key, value in params.items() if key not in NOT_IN_THE_PROCESS[name]}
    learnt = _numbers(params)
    assert learnt
    assert learnt <= _numbers(method.process(state))


def test_a_direction_has_its_name():
    method = M.dsbm(shape=(2,), cache=4, **FOUR)
    state = _filled(method.init(jax.random.key(0), PAIRS))
    params = method.params(state)
    assert set(params) == {"forward", "backward"}
    process = method.process(state)
    assert _numbers(params["forward"]) <= _numbers(process.dynamics)
    assert _numbers(params["backward"]) <= _numbers(process.backward)


def test_a_method_of_ones_own_without_params_says_so():
    method = bj.Method(lambda key, data: jnp.zeros(()), lambda s, k, b: (s, {}), lambda s: s)
    with pytest.raises(ValueError, match="does not hand out parameters; give it params="):
        method.params(jnp.zeros(()))


def test_every_method_is_here():
    tools = {"codec", "pca", "last_step", "predict", "log_joint"}
    public = {name for name in dir(M) if inspect.isfunction(getattr(M, name))}
    assert public - tools <= {name.split()[0] for name in [*MADE, *MORE]}


ROUNDS = ("dsbm", "dsb", "simplified_dsb", "gsbm", "vsdm", "adjoint_sampling", "replay")


@pytest.mark.parametrize("name", ROUNDS)
def test_a_refresh_keeps_every_dtype_of_the_state(name):
    """Of float32 data in float64 JAX too: fit refuses a state that changes its form."""
    with jax.enable_x64(True):
        make, batch = (MADE | MORE)[name]
        method = make()
        state = method.init(jax.random.key(0), batch)
        after = method.refresh(state, jax.random.key(1), batch)
        assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)
