"""What a user's functions return, found while tracing: shapes, kinds, noise that depends on x, singular noise."""

import re

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from bad_input import ARRAY, BACK, KEY0, KEYS, SDE, TS, VP, X, drift, few, noise, read_out, score
from hypothesis import given
from hypothesis import strategies as st
from jax.tree_util import Partial

import bridgejax as bj


def test_an_array_that_is_a_global_of_its_module_is_no_closure():
    """It is a constant of the program: nothing is traced again, and nothing can leak."""
    assert bj.SDE(lambda t, x, args: ARRAY - x).drift(0.0, ARRAY, None).shape == (2,)


# what a user's function returns, found while tracing ------------------------------------------------------------------


def structs(sde, x=X):
    """Trace a simulation without compiling it."""
    return jax.eval_shape(lambda key: bj.simulate(sde, key, x, TS), KEY0)


def returning(value, *unused):
    return value


WRONG_SHAPES = st.sampled_from([(), (1,), (3,), (1, 2), (2, 2), (0,)])
USED = {
    "drift": lambda f: bj.SDE(f, noise),
    "score": lambda f: bj.reverse(SDE, f),
    "score of a schedule": lambda f: bj.reverse(VP, f),
    "score of a flow": lambda f: bj.probability_flow(SDE, f),
    "denoiser": lambda f: bj.reverse(VP, denoiser=f),
    "denoiser of a flow": lambda f: bj.probability_flow(VP, denoiser=f),
    "grad_log_h": lambda f: bj.doob(SDE, f),
    "u": lambda f: bj.control(SDE, f),
}


@pytest.mark.parametrize("name", USED)
@few
@given(shape=WRONG_SHAPES)
def test_what_a_function_returns_has_the_shape_of_x(name, shape):
    sde = USED[name](Partial(returning, jnp.zeros(shape)))
    for x in (X, {"a": X}):
        with pytest.raises(
            ValueError, match=rf"^{name.split()[0]} must be shaped like (x|the noise), .*got .*{re.escape(str(shape))}"
        ):
            structs(sde, x)


@few
@given(shape=WRONG_SHAPES.filter(lambda shape: shape not in ((), (1,))))
def test_a_diffusion_is_a_number_or_fits_x(shape):
    for g in (jnp.ones(shape), lineax.MatrixLinearOperator(jnp.ones((3, 2)))):
        with pytest.raises(ValueError, match=r"^diffusion must be .*x, .*\(2,\), got "):
            structs(bj.SDE(drift, Partial(returning, g)))
        with pytest.raises(ValueError, match=r"^diffusion must be .*x, .*\(2,\), got "):
            jax.eval_shape(bj.kernels.euler(bj.SDE(drift, Partial(returning, g))).log_prob, 0.0, 0.1, X, X, None)


@few
@given(value=st.sampled_from([None, "abc", [1.0, 2.0], 1.0, {"a": 1.0}]))
def test_a_drift_of_another_kind_is_refused(value):
    with pytest.raises(ValueError, match=r"^drift must be shaped like x, \(2,\), got "):
        structs(bj.SDE(Partial(returning, value) if value != "abc" else lambda t, x, args: "abc", noise))


@few
@given(shape=st.sampled_from([(3,), (1, 2), (2, 2)]))
def test_masks_values_and_ends_fit_the_state(shape):
    ones = jnp.ones(shape)
    for sde, word in (
        (bj.clamp(SDE, ones.astype(bool)), "mask"),
        (bj.clamp(SDE, np.array([True, False]), ones), "value"),
        (bj.pin(VP, ones), "x1"),
        (bj.noising(VP, ones), "center"),
        (bj.guidance.inpaint(BACK, ones.astype(bool), ones), "mask"),
        (bj.guidance.hold(BACK, ones.astype(bool), X), "mask"),
        (bj.guidance.hold(BACK, np.array([True, False]), ones), "value"),
        (bj.guidance.posterior(BACK, np.ones((1, 3)), np.ones(1), 0.1), "operator"),
        (bj.guidance.posterior(BACK, read_out, np.ones(3), 0.1), "operator"),
    ):
        with pytest.raises(ValueError, match=word):
            structs(sde)


@few
@given(wrong_part=st.sampled_from(["drift", 3, None, X]))
def test_constructors_that_take_placeholders_are_checked_where_they_are_used(wrong_part):
    """JAX rebuilds these pytrees with anything for leaves: a wrong field is found by the first function to use it."""
    with pytest.raises(ValueError, match="drift must be a function"):
        bj.simulate(bj.SDE(wrong_part, noise), KEY0, X, TS)
    if wrong_part is not None:
        with pytest.raises(ValueError, match="diffusion must be a function"):
            bj.simulate(bj.SDE(drift, wrong_part), KEY0, X, TS)
    with pytest.raises(ValueError, match=r"^a must be a function"):
        bj.Interpolant(wrong_part)(0.5, X)


# noise that depends on x ----------------------------------------------------------------------------------------------


def proportional(t, x, args):
    return jax.tree.map(lambda leaf: 0.1 * leaf, x)


def dense(t, x, args):
    return lineax.DiagonalLinearOperator(0.1 * x)


def shape_only(t, x, args):
    return jnp.full_like(x, 0.5) * jnp.ones_like(x) + t


WRONGLY_ADDITIVE = bj.SDE(drift, proportional)


@pytest.mark.parametrize("diffusion", [proportional, dense])
@pytest.mark.parametrize("solver", [None, bj.solvers.Heun(), dfx.ShARK()])
def test_noise_that_depends_on_x_must_say_so(diffusion, solver):
    sde = bj.SDE(drift, diffusion)
    for bent in (
        sde,
        bj.control(sde, score),
        bj.doob(sde, score),
        bj.clamp(sde, np.array([True, False])),
        bj.reverse(sde, score),
    ):
        with pytest.raises(
            ValueError, match=r"^the diffusion depends on x, and its SDE says noise='additive'.*noise='state'"
        ):
            jax.eval_shape(lambda key: bj.simulate(bent, key, X, TS, solver=solver), KEY0)
    right = bj.SDE(drift, diffusion, noise="state")
    structs(right)


def test_the_flow_and_the_reversal_of_such_noise_are_refused_while_tracing():
    for bent in (bj.probability_flow(WRONGLY_ADDITIVE, score), bj.reverse(WRONGLY_ADDITIVE, score)):
        with pytest.raises(ValueError, match="noise='state'"):
            jax.eval_shape(bent.drift, 0.3, X, None)
    batch = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="noise='state'"):
        jax.eval_shape(lambda keys: bj.simulate_batch(WRONGLY_ADDITIVE, keys, batch, TS), KEYS)


def test_a_shape_taken_from_x_is_additive():
    structs(bj.SDE(drift, shape_only))
    structs(bj.SDE(lambda t, x, args: {"a": -x["a"]}, lambda t, x, args: {"a": jnp.ones_like(x["a"])}), {"a": X})
    structs(bj.SDE(drift, lambda t, x, args: lineax.IdentityLinearOperator(jax.ShapeDtypeStruct(x.shape, x.dtype))))


def operator(read):
    def diffusion(t, x, args):
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return lineax.FunctionLinearOperator(lambda w: 0.1 * w * (x if read else t), like)

    return diffusion


def test_a_function_as_operator_is_looked_into():
    structs(bj.SDE(drift, operator(read=False)))
    with pytest.raises(ValueError, match="the diffusion depends on x"):
        structs(bj.SDE(drift, operator(read=True)))


# noise that is singular -----------------------------------------------------------------------------------------------

SINGULAR = [
    [[1.0, 0.0], [1.0, 0.0]],
    [[1.0, 0.0], [0.0, 0.0]],
    [[1.0, 2.0], [0.5, 1.0]],
    [[0.3, 0.6], [0.1, 0.2]],
    [[0.0, 0.0], [0.0, 0.0]],
]


@jax.jit
def first_step(kernel, path):
    return kernel.log_prob(path.ts[0], path.ts[1], path.xs[0], path.xs[1], None)


@few
@given(st.sampled_from(SINGULAR))
def test_a_step_with_singular_noise_has_no_density(matrix):
    kernel = bj.kernels.euler(bj.SDE(drift, Partial(returning, lineax.MatrixLinearOperator(jnp.array(matrix)))))
    path = bj.kernels.walk(kernel, KEY0, jnp.ones(2), TS)
    assert np.isnan(first_step(kernel, path))
    with pytest.raises(ValueError, match=r"^step 0 of the path \(t = 0 to 0.5\) has no density"):
        bj.path_log_ratio(path, kernel, kernel)


def test_a_coordinate_without_noise_drops_out_but_none_with_noise_is_no_density():
    still = bj.kernels.euler(bj.SDE(drift, Partial(returning, jnp.array([0.5, 0.0]))))
    path = bj.kernels.walk(still, KEY0, jnp.ones(2), TS)
    assert np.isfinite(first_step(still, path))
    none = bj.kernels.euler(bj.SDE(drift, Partial(returning, jnp.zeros(2))))
    with pytest.raises(ValueError, match="has no density"):
        bj.path_log_ratio(bj.kernels.walk(none, KEY0, jnp.ones(2), TS), none, none)
