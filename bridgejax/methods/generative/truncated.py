"""Truncated diffusion: a schedule cut at a time K, and a generator of the law of x_K instead of Gaussian noise.

    denoiser        ||net(t, x_t, c) - q||^2,  0 < t <= K,  x_t = alpha x_0 + sigma eps,      as ``diffusion``
    generator       E softplus(-D(G(z))),   G(z) = s z + net'(2K, z, c),   z ~ N(0, I)
    discriminator   E softplus(-D(x_K)) + E softplus(D(G(z))) + (gamma/2) E |grad D(x_K)|^2
    sample          x_K = G(z), then the reversal of the schedule from K to 0, by any solver

The bound of the chain on -log p is that of diffusion up to K plus KL(q(x_K) | p_G); the last term is replaced by the
adversarial divergence (Zheng, He, Chen & Zhou 2023, Truncated diffusion probabilistic models and diffusion-based
adversarial auto-encoders, arXiv 2202.09671). The noise of x_K joins modes of the data that lie apart, so that G has a
smooth law to learn, and the few steps that are left part them again: 1 + n evaluations for n steps.

net' is a network of its own ("separate"), or net ("shared"), asked at the time 2K, at which it is never to denoise;
then the same parameters have two optimizers. s^2 = alpha_K^2 s_0^2 + sigma_K^2, with s_0 the deviation of the data, so
that G starts as a Gaussian of the spread of x_K, and net' says in what its law differs. All three follow the gradient
at the same parameters; the discriminator's penalty is computed at every ``r1_every``-th update, with that weight
(``objectives.lazy``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_nonnegative, check_number, check_positive, check_shape
from bridgejax._types import Args, Decoder, Numbers
from bridgejax.bridges import interpolants
from bridgejax.methods._arguments import CLASSES, TRAINING, NetworkLike, check_guidance, documented
from bridgejax.methods._setup import Setup
from bridgejax.methods.generative import Truncated
from bridgejax.methods.generative._adversaries import Generated, Model, TrainState, init, step, views
from bridgejax.methods.generative.diffusion import SAMPLERS, SCHEDULES, guided_denoiser, reversal
from bridgejax.networks import or_mlp
from bridgejax.objectives import matching, times, weightings
from bridgejax.objectives._matching import check_dropout
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import Process, Schedule
from bridgejax.processes._schedule import check_schedule
from bridgejax.solve import grids
from bridgejax.solve.grids import _noising_times
from bridgejax.training import Method, adam
from bridgejax.training import ema as averaging
from bridgejax.training.method import averaged
from bridgejax.training.optimizers import in_float32

GENERATORS = ("separate", "shared")
_STEPS = {"ode": 5, "sde": 25}


@dataclass(frozen=True)
class _Sampling:
    """What the process needs besides the networks."""

    predict: str
    sampler: str
    grid: Array
    guidance_scale: float
    decode: Decoder | None


def _process(model: Model, sampling: _Sampling, state: TrainState) -> Process:
    params, schedule = views(averaged(state)), model.schedule
    learnt = Partial(model.apply["denoiser"], params["denoiser"])
    denoiser = guided_denoiser(schedule, learnt, sampling.predict, sampling.guidance_scale, model.null)
    net = Partial(model.apply["generator"], params["generator"])
    start = Generated(model.scale, net, model.beyond, model.shape)
    return reversal(schedule, denoiser, start, sampling.grid, sampling.sampler, sampling.decode)


def _optimizer(
    given: optax.GradientTransformation | None, default: optax.GradientTransformation, name: str
) -> optax.GradientTransformationExtraArgs:
    given = default if given is None else given
    if not (hasattr(given, "init") and hasattr(given, "update")):
        raise ValueError(f"{name} must be an optax transformation, got {type(given).__name__}; see optax.adam")
    return in_float32(given)


def _time(schedule: Schedule, truncation: float | None, sigma_data: float) -> float:
    """K on the noising clock: as given, or where x_K holds as much noise as data."""
    if truncation is None:
        level = -2.0 * float(np.log(sigma_data))
        time = float(_noising_times(schedule, np.array([level]))[0])
        if not 0.0 < time < schedule.T * (1.0 - 1e-6):
            raise ValueError(
                f"schedule never holds as much noise as data of deviation {sigma_data:g} before its end T = "
                f"{schedule.T:g}, which is where truncation is by default; pass a time in (0, T)"
            )
        return time
    if isinstance(truncation, Tracer):
        raise ValueError("truncation is the end of a clock and part of the type: it must be concrete, got a traced one")
    check_number(truncation=truncation)
    if not 0.0 < truncation < schedule.T:
        raise ValueError(
            f"truncation must be a time inside the schedule, in (0, T) = (0, {schedule.T:g}), got {truncation:g}; at 0 "
            "nothing is left to denoise, and at T it is diffusion"
        )
    return float(truncation)


def _grid(schedule: Schedule, sampler: str, ts: Numbers | None) -> Array:
    if ts is not None:
        return jnp.asarray(ts)
    if (end := grids._end_of(schedule)) >= grids._LOG_SNR_MAX:
        raise ValueError(
            f"truncation leaves a log SNR of {end:.3g}, and the default grid goes no further than "
            f"{grids._LOG_SNR_MAX:g}; pass a later time, or ts"
        )
    return grids.log_snr(_STEPS[sampler], schedule)


def _check(generator: str, sampler: str, gamma: float, r1_every: int, sigma_data: float) -> None:
    for name, value, known in (("generator", generator, GENERATORS), ("sampler", sampler, SAMPLERS)):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}")
    check_number(gamma=gamma, sigma_data=sigma_data)
    check_nonnegative(gamma=gamma)
    check_positive(sigma_data=sigma_data)
    check_count("r1_every", r1_every)


@documented(TRAINING, CLASSES)
def truncated(
    schedule: Schedule,
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    truncation: float | None = None,
    generator: str = "separate",
    generator_network: NetworkLike | None = None,
    discriminator: NetworkLike | None = None,
    predict: str = "eps",
    weighting: str | None = None,
    time_sampler: TimeSampler | None = None,
    gamma: float = 0.1,
    r1_every: int = 16,
    optimizer: optax.GradientTransformation | None = None,
    generator_optimizer: optax.GradientTransformation | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    sampler: str = "ode",
    ts: Numbers | None = None,
    null: Args = None,
    condition_dropout: float = 0.0,
    guidance_scale: float = 1.0,
    decode: Decoder | None = None,
    sigma_data: float = 1.0,
) -> Method:
    """Truncated diffusion as a Method: few evaluations from a generator of partly noised data.

    It takes 1 + n evaluations for n steps. The start law is implicit, so there is no ``log_prob``. (Zheng, He, Chen &
    Zhou 2023, Truncated diffusion probabilistic models and diffusion-based adversarial auto-encoders, arXiv
    2202.09671.)

    Args:
        schedule: noise schedule, used up to ``truncation``.
        network: the denoiser, a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``) with
            ``apply(params, t, x, args)``, t on the noising clock: up to K to denoise, 2 K to generate where shared.
        shape: shape of one sample.
        truncation: K, a time on the schedule's clock in (0, T); None: where x_K holds as much noise as data,
            alpha(K) sigma_data = sigma(K). ``float(schedule.log_snr(K))`` is its level.
        generator: "separate", a network of its own, or "shared", the denoiser at the time 2 K.
        generator_network: of a separate generator, as ``network``; x is then the noise it generates from.
        discriminator: as ``network``; the sum of its outputs is the log odds that x_K is real. Default outputs: one.
        predict: what the denoiser's output means: x0, eps, score or velocity.
        weighting: of its loss, see ``objectives.weightings``; None: weight 1 on the network's output.
        time_sampler: see ``objectives.times``; default uniform on [1e-3 K, K].
        gamma: weight of the discriminator's penalty R1, in units of x squared, >= 0.
        r1_every: it is computed at every so manieth update, with that weight.
        generator_optimizer: default Adam at 2e-4, b1 = 0, b2 = 0.99.
        discriminator_optimizer: default Adam at 1e-3, b1 = 0, b2 = 0.99.
        sampler: "ode" (probability flow) or "sde" (reverse SDE).
        ts: grid of the process on the clock from x_K (0) to data (K); default 5 steps (ode) or 25 (sde) even in log
            SNR.
        sigma_data: standard deviation of the data.

    Returns:
        A Method whose data are arrays ``(n, *shape)`` or dictionaries ``x``, ``label``. Metrics: "loss" and "grad_norm"
        (the denoiser's), "generator" and "discriminator".

    Raises:
        ValueError: a truncation outside the schedule or at its ends, an unknown word, a weight or an interval out of
            range, a network for a generator that is shared.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.truncated(bj.schedules.cosine(), shape=(2,))
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    check_schedule(schedule)
    shape = check_shape(shape)
    _check(generator, sampler, gamma, r1_every, sigma_data)
    check_guidance(guidance_scale, null)
    check_dropout(condition_dropout, null)
    averaging.check_decay(ema)
    accumulate = check_count("accumulate", accumulate)
    K = _time(schedule, truncation, sigma_data)
    cut = replace(schedule, T=K, zero_terminal_snr=False)
    known = {"null": null, "time_scale": 1.0 / K}
    networks = {"denoiser": or_mlp(network, shape, **known)}
    if generator == "separate":
        networks["generator"] = or_mlp(generator_network, shape, **known)
    elif generator_network is not None:
        raise ValueError("generator_network is for a separate generator, and this one is shared; leave it out")
    networks["discriminator"] = or_mlp(discriminator, shape, outputs=(1,), **known)
    denoising = matching(
        interpolants.diffusion(cut),
        networks["denoiser"].apply,
        predict,
        times=time_sampler,
        weight=weightings.weight(cut, predict, weighting, sigma_data),
        condition_dropout=condition_dropout,
        null=null,
    )
    model = Model(
        apply=views({role: net.apply for role, net in networks.items()}),
        initial={role: net.params for role, net in networks.items()},
        optimizers={
            "denoiser": _optimizer(optimizer, adam(schedule="constant"), "optimizer"),
            "generator": _optimizer(generator_optimizer, _adversarial(2e-4), "generator_optimizer"),
            "discriminator": _optimizer(discriminator_optimizer, _adversarial(1e-3), "discriminator_optimizer"),
        },
        ema=ema,
        accumulate=accumulate,
        schedule=cut,
        shape=shape,
        sigma_data=sigma_data,
        denoising=denoising,
        gamma=gamma,
        r1_every=r1_every,
        condition_dropout=condition_dropout,
        null=null,
    )
    sampling = _Sampling(predict, sampler, _grid(cut, sampler, ts), guidance_scale, decode)
    return Method(partial(init, model), partial(step, model), partial(_process, model, sampling), params=averaged)


def _adversarial(rate: float) -> optax.GradientTransformation:
    return adam(rate, schedule="constant", b1=0.0, b2=0.99)


def build(options: Truncated, setup: Setup) -> Method:
    """``truncated`` by its options."""
    schedule = SCHEDULES[options.schedule]()
    deviation = setup.data.deviation
    _check(options.generator, options.sampler, options.gamma, options.r1_every, deviation)
    K = _time(schedule, options.truncation, deviation)
    cut = replace(schedule, T=K, zero_terminal_snr=False)
    steps = options.sample_steps or _STEPS[options.sampler]
    return truncated(
        schedule,
        setup.network(clock=K),
        shape=setup.data.shape,
        truncation=K,
        generator=options.generator,
        generator_network=setup.network(clock=K) if options.generator == "separate" else None,
        predict=options.predict,
        time_sampler=times.low_discrepancy(1e-3 * K, K),
        gamma=options.gamma,
        r1_every=options.r1_every,
        generator_optimizer=setup.optimizer(rate=options.generator_rate, b1=0.0, b2=0.99),
        discriminator_optimizer=setup.optimizer(rate=options.discriminator_rate, b1=0.0, b2=0.99),
        sampler=options.sampler,
        ts=grids.log_snr(steps, cut),
        sigma_data=deviation,
        **setup.classes(options),
        **setup.common(),
    )
