"""SDE, Kernel and Process are frozen pytrees whose callables carry their arrays as leaves."""

import dataclasses
import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from jax.tree_util import Partial

from bridgejax.bridges import clamp, control
from bridgejax.processes import SDE, Kernel, Process, Schedule, noising, schedules, starts
from bridgejax.processes.noise import covariance_times
from bridgejax.processes.sde import bind, check_callable
from bridgejax.solve import sample


def linear(a, t, x, args):
    return a * x


def one(t, x, args):
    return 1.0


@pytest.mark.fast
def test_an_sde_is_a_pytree_of_its_arrays():
    sde = SDE(Partial(linear, jnp.float32(-2.0)), one, T=3.0, noise="additive")
    assert jax.tree.leaves(sde) == [jnp.float32(-2.0)]
    doubled = jax.tree.map(lambda leaf: 2 * leaf, sde)
    assert doubled.drift(0.0, 1.0, None) == -4.0
    assert (doubled.T, doubled.noise) == (3.0, "additive")
    assert jax.tree.structure(sde) == jax.tree.structure(doubled)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sde.T = 2.0


def test_jit_grad_and_vmap_see_an_sde_like_an_array():
    sde = SDE(Partial(linear, jnp.float32(-2.0)), one)
    assert jax.jit(lambda s: s.drift(0.0, 3.0, None))(sde) == -6.0
    gradient = jax.grad(lambda s: s.drift(0.0, 3.0, None))(sde)
    assert gradient.drift.args[0] == 3.0
    batch = jax.vmap(lambda a: SDE(Partial(linear, a), one))(jnp.arange(3.0))
    out = jax.vmap(lambda s: s.drift(0.0, 2.0, None))(batch)
    np.testing.assert_array_equal(out, [0.0, 2.0, 4.0])


def test_T_and_noise_are_static():
    a, b = SDE(one, T=1.0), SDE(one, T=2.0)
    assert jax.tree.structure(a) != jax.tree.structure(b)
    assert jax.tree.structure(SDE(one, one)) != jax.tree.structure(SDE(one, one, noise="state"))
    assert isinstance(SDE(one, T=np.float64(2)).T, float)


@pytest.mark.parametrize("T", [0.0, -1.0, float("inf"), float("nan"), "1", None])
def test_bad_T(T):
    with pytest.raises(ValueError, match=r"T must be .*got"):
        SDE(one, T=T)
    with pytest.raises(ValueError, match=r"T must be .*got"):
        schedules.brownian(1.0, T=T)


def test_T_as_an_array_names_the_remedy():
    with pytest.raises(ValueError, match=r"T .*Python number.*float\(T\)"):
        SDE(one, T=jnp.float32(1.0))


def test_unknown_noise_kind():
    with pytest.raises(ValueError, match=r"noise must be one of .*'additive'.*'state'.*got 'multiplicative'"):
        SDE(one, one, noise="multiplicative")


# closures ---------------------------------------------------------------------------------------------------------


class Holder:
    """A plain object whose method uses an array: not a pytree."""

    def __init__(self, a):
        self.a = a

    def drift(self, t, x, args):
        return self.a * x


def closures(a):
    def inner(x):
        return a * x

    def direct(t, x, args):
        return a * x

    def nested(t, x, args):
        return inner(x)

    def default(t, x, args, a=a):
        return a * x

    held = {"deep": [a]}

    def container(t, x, args):
        return held["deep"][0] * x

    return {
        "direct": direct,
        "nested": nested,
        "default": default,
        "container": container,
        "partial": functools.partial(linear, a),
        "method": Holder(a).drift,
        "jitted": jax.jit(direct),
    }


@pytest.mark.parametrize("kind", ["direct", "nested", "default", "container", "partial", "method", "jitted"])
def test_a_function_that_hides_arrays_is_refused(kind):
    with pytest.raises(ValueError, match=r"drift .*arrays.*jax.tree_util.Partial"):
        SDE(closures(jnp.arange(2.0))[kind], one)
    with pytest.raises(ValueError, match=r"diffusion .*arrays.*jax.tree_util.Partial"):
        SDE(one, closures(jnp.arange(2.0))[kind])
    with pytest.raises(ValueError, match=r"sample .*arrays"):
        Kernel(closures(jnp.arange(2.0))[kind])


@pytest.mark.parametrize("kind", ["direct", "nested", "default", "container", "partial", "method", "jitted"])
def test_python_constants_in_a_function_are_fine(kind):
    sde = SDE(closures(2.0)[kind], one)
    assert sde.drift(0.0, 3.0, None) == 6.0
    assert jax.tree.leaves(sde) == []


def test_a_traced_array_in_a_closure_is_refused_while_tracing():
    def f(a):
        return SDE(lambda t, x, args: a * x).drift(0.0, 1.0, None)

    with pytest.raises(ValueError, match="closes over"):
        jax.jit(f)(1.0)


def test_recursive_functions_do_not_hang():
    def f(t, x, args):
        return f if x is None else x

    assert SDE(f).drift(0.0, 2.0, None) == 2.0


class Module(eqx.Module):
    weight: jax.Array

    def __call__(self, t, x, args):
        return self.weight * x


def test_callable_pytrees_and_partials_stay_as_they_are():
    module = Module(jnp.ones(2))
    sde = SDE(module, one)
    assert isinstance(sde.drift, Module)
    assert len(jax.tree.leaves(sde)) == 1
    part = Partial(linear, 1.0)
    assert bind(part, "f") is part
    assert bind(None, "f") is None


def test_check_callable():
    with pytest.raises(ValueError, match=r"score must be a function score\(t, x, args\), got int"):
        check_callable(3, "score", "score(t, x, args)")


# Kernel and Process -------------------------------------------------------------------------------------------------


def start(key, args):
    return jax.random.normal(key, (2,))


def test_process_binds_and_defaults_to_no_decoding():
    sde = noising(schedules.vp())
    process = Process(start, sde, jnp.linspace(0.0, 1.0, 3))
    assert process.decode(None, 5.0, None) == 5.0
    assert process.backward is None
    assert jax.tree.structure(jax.tree.map(jnp.asarray, process)) == jax.tree.structure(process)
    with pytest.raises(ValueError, match="decode .*arrays"):
        Process(start, sde, jnp.linspace(0.0, 1.0, 3), decode=closures(jnp.ones(2))["direct"])


def test_schedule_refuses_closures_and_is_a_pytree():
    with pytest.raises(ValueError, match="scale_fn .*arrays"):
        Schedule(closures(jnp.ones(2))["direct"], one, one)
    batch = jax.vmap(schedules.brownian)(jnp.arange(1.0, 4.0))
    np.testing.assert_allclose(jax.vmap(lambda s: s.variance(0.0, 1.0))(batch), [1.0, 4.0, 9.0])


class Pair(NamedTuple):
    position: jax.Array
    label: jax.Array


def test_noising_takes_any_pytree_state(key):
    x = Pair(jnp.ones((2, 3)), jnp.zeros((), jnp.bfloat16))
    sde = noising(schedules.vp())
    drift = sde.drift(0.5, x, None)
    assert isinstance(drift, Pair)
    assert drift.label.dtype == jnp.bfloat16
    landed = sde.terminal_kernel.sample(key, 0.0, 1.0, x, None)
    assert (landed.position.shape, landed.label.dtype) == ((2, 3), jnp.bfloat16)


def test_noising_wants_a_schedule():
    with pytest.raises(ValueError, match=r"schedule must be a Schedule, got SDE; see bridgejax.schedules"):
        noising(SDE(one))


def _one_up(key, t, u, x, args):
    return x + 1.0


def test_the_law_of_a_step_belongs_to_its_sde(key):
    """Another SDE in a process of steps is the one that is run: a step of the old one went before it in silence."""
    chain = SDE(one, kernel=Kernel(_one_up))
    process = Process(starts.point(jnp.zeros(1)), chain, jnp.linspace(0.0, 1.0, 4))
    pushed = SDE(Partial(lambda a, t, x, args: jnp.full_like(x, a), jnp.float32(1000.0)))
    samples = [sample(dataclasses.replace(process, dynamics=sde), jax.random.split(key, 2)) for sde in (chain, pushed)]
    np.testing.assert_allclose(samples[0], 3.0)
    np.testing.assert_allclose(samples[1], 1000.0, rtol=1e-6)
    noisy = SDE(one, one, kernel=Kernel(_one_up))
    assert control(noisy, one).kernel is None
    assert clamp(noisy, jnp.array([True])).kernel is None
    with pytest.raises(ValueError, match="kernel of the dynamics of the process must be a Kernel or None, got int"):
        sample(dataclasses.replace(process, dynamics=SDE(one, kernel=3)), jax.random.split(key, 2))


def test_the_density_of_a_normal_start():
    x, start = jnp.array([0.3, -2.0]), starts.normal((2,), 1.7, 0.4)
    want = -0.5 * np.sum(((np.asarray(x) - 0.4) / 1.7) ** 2) - 2 * np.log(1.7) - np.log(2 * np.pi)
    np.testing.assert_allclose(start.log_prob(x), want, rtol=1e-5)


def test_a_covariance_times_a_vector_is_g_squared():
    """G G^T v for a number, a diagonal and a matrix."""
    v, L = jnp.array([0.3, -2.0]), np.array([[0.5, 0.2, 0.0], [-0.3, 1.1, 0.7]], np.float32)
    np.testing.assert_allclose(covariance_times(1.7, v), 1.7**2 * v, rtol=1e-6)
    np.testing.assert_allclose(covariance_times(1.7, {"a": v})["a"], 1.7**2 * v, rtol=1e-6)  # one for all leaves
    np.testing.assert_allclose(covariance_times(jnp.array([1.7, 0.4]), v), np.array([1.7, 0.4]) ** 2 * v, rtol=1e-6)
    np.testing.assert_allclose(covariance_times(lineax.MatrixLinearOperator(jnp.asarray(L)), v), L @ L.T @ v, rtol=1e-6)
