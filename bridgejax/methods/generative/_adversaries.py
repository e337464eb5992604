"""Training of ``truncated``: a denoiser, a generator and a discriminator, each at the gradient of its own loss.

    denoiser        || net(t, x_t, c) - q ||^2
    generator       E softplus(-D(G(z))),                                      D held
    discriminator   E softplus(-D(x_K)) + E softplus(D(G(z))) + R1,            G held

The three losses are one sum with two ``stop_gradient``, so that one backward pass serves all: parameters of a role see
nothing but their own loss. A generator that shares its network with the denoiser has its parameters counted twice, and
its two gradients are followed one after the other, each by its own optimizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from bridgejax._numerics import linear_combination, normal_like
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Batch, Data, Field, Loss, Metrics, Network, Params, PyTree, State
from bridgejax.bridges import interpolants
from bridgejax.objectives import discriminator_loss, generator_loss, lazy, r1_penalty
from bridgejax.objectives._matching import drop_condition, ends
from bridgejax.processes import Schedule, keys
from bridgejax.processes._keys import streams
from bridgejax.training import ema as averaging
from bridgejax.training.method import global_norm, mean_gradient, rows

ROLES = ("denoiser", "generator", "discriminator")
_BEYOND = 2.0  # the generator's time over K


class TrainState(NamedTuple):
    """State of ``truncated``; params and its average by "denoiser", "generator" (if separate), "discriminator".

    Attributes:
        step: updates made.
        params: of the networks.
        opt_state: of the three optimizers, by the same names.
        ema: moving averages of params in float32, or None.
    """

    step: Array
    params: dict[str, Params]
    opt_state: dict[str, PyTree]
    ema: dict[str, Params] | None

    __repr__ = summary


def _generate(scale: Array, t: float, net: Field, z: State, args: Args) -> State:
    """G(z) = scale z + net(t, z, args)."""
    return linear_combination((scale, z), (1.0, net(jnp.asarray(t, jnp.result_type(float)), z, args)))


@partial(register_dataclass, data_fields=("scale", "net"), meta_fields=("t", "shape"))
@dataclass(frozen=True)
class Generated:
    """The law of G(z), z ~ N(0, I): it can be drawn from, and has no density that anyone could compute."""

    scale: Array
    net: Field
    t: float
    shape: tuple[int, ...]

    __repr__ = summary

    def __call__(self, key: Array, args: Args = None) -> State:
        """A draw."""
        z = normal_like(key, jax.ShapeDtypeStruct(self.shape, jnp.result_type(float)))
        return _generate(self.scale, self.t, self.net, z, args)


@dataclass(frozen=True)
class Model:
    """The networks, the schedule up to K, and how they are learnt."""

    apply: dict[str, Network]
    initial: dict[str, Params]
    optimizers: dict[str, optax.GradientTransformationExtraArgs]
    ema: float | None
    accumulate: int
    schedule: Schedule
    shape: tuple[int, ...]
    sigma_data: float
    denoising: Loss
    gamma: float
    r1_every: int
    condition_dropout: float
    null: Args

    __repr__ = summary

    @property
    def scale(self) -> Array:
        """The deviation of x_K, coordinate by coordinate, for data of deviation ``sigma_data``."""
        K = self.schedule.T
        return jnp.sqrt((self.schedule.alpha(K) * self.sigma_data) ** 2 + self.schedule.variance(0.0, K))

    @property
    def beyond(self) -> float:
        """The time at which a network generates."""
        return _BEYOND * self.schedule.T

    def says(self, params: Params, x: State, args: Args) -> Array:
        """D(x), log odds that x is a noised sample of the data."""
        K = jnp.asarray(self.schedule.T, jnp.result_type(float))
        return jnp.sum(self.apply["discriminator"](params, K, x, args))


def views(params: dict[str, Params]) -> dict[str, Params]:
    """Parameters by role: a shared network has two."""
    return {"generator": params["denoiser"], **params}


# the losses -----------------------------------------------------------------------------------------------------------


def _drawn(model: Model, sample_keys: Array, batch: Batch) -> tuple[Array, Array, Args]:
    """x_K of the data, noise to generate from, and conditions, some of them hidden."""
    x0, _, args = ends(interpolants.diffusion(model.schedule), batch)
    parts, K = streams(sample_keys, "adversary", 3), model.schedule.T
    alpha, sigma = model.schedule.alpha(K), model.schedule.sigma(K)
    real = jax.vmap(lambda k, x: linear_combination((alpha, x), (sigma, normal_like(k, x))))(parts[:, 0], x0)
    z = jax.vmap(normal_like)(parts[:, 1], real)
    if args is not None and model.condition_dropout > 0:
        hide = partial(drop_condition, rate=model.condition_dropout, null=model.null)
        args = jax.vmap(hide)(parts[:, 2], args)
    return real, z, args


def _loss(model: Model, params: dict[str, Params], sample_keys: Array, batch: Batch) -> tuple[Array, Metrics]:
    """The sum of the three losses but for R1, each a function of the parameters of its own role."""
    denoising, _ = model.denoising(params["denoiser"], sample_keys, batch)
    real, z, args = _drawn(model, sample_keys, batch)
    axes = (None, 0, None if args is None else 0)
    net = partial(model.apply["generator"], params["generator"])
    make = jax.vmap(partial(_generate, model.scale, model.beyond, net), axes[1:])
    says = jax.vmap(model.says, axes)
    fake, still = make(z, args), jax.lax.stop_gradient
    generator = generator_loss(says(still(params["discriminator"]), fake, args))
    told = discriminator_loss(
        says(params["discriminator"], real, args), says(params["discriminator"], still(fake), args)
    )
    metrics = {"denoising": denoising, "generator": generator, "discriminator": told}
    return denoising + generator + told, metrics


def _penalty(model: Model, params: Params, sample_keys: Array, batch: Batch) -> tuple[Array, Metrics]:
    real, _, args = _drawn(model, sample_keys, batch)
    return r1_penalty(partial(model.says, params), real, args, gamma=model.gamma), {}


# the state ------------------------------------------------------------------------------------------------------------


def init(model: Model, key: Array, data: Data) -> TrainState:
    params = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), model.initial)
    opt_state = {role: model.optimizers[role].init(views(params)[role]) for role in ROLES}
    average = None if model.ema is None else averaging.start(params)
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state, average)


def step(model: Model, state: TrainState, key: Array, batch: Batch) -> tuple[TrainState, Metrics]:
    sample_keys, by_role = keys(key, rows(batch)), views(state.params)
    _, metrics, grads = mean_gradient(partial(_loss, model), by_role, sample_keys, batch, model.accumulate)
    if model.gamma > 0:

        def penalty() -> Params:
            told = by_role["discriminator"]
            return mean_gradient(partial(_penalty, model), told, sample_keys, batch, model.accumulate)[2]

        more = lazy(penalty, state.step, model.r1_every)
        grads["discriminator"] = jax.tree.map(jnp.add, grads["discriminator"], more)
    params, opt_state = dict(state.params), {}
    for role in ROLES:  # a shared network is moved twice
        name = role if role in params else "denoiser"
        updates, opt_state[role] = model.optimizers[role].update(
            grads[role], state.opt_state[role], params[name], value=metrics.get(role, metrics["denoising"])
        )
        params[name] = optax.apply_updates(params[name], updates)
    average = None if model.ema is None else averaging.update(state.ema, params, model.ema, state.step)
    metrics = {"loss": metrics.pop("denoising"), **metrics, "grad_norm": global_norm(grads["denoiser"])}
    return TrainState(state.step + 1, params, opt_state, average), metrics
