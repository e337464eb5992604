"""Latent Schroedinger bridge diffusion: encode, diffuse for a finite time, decode.

Codes z = E(x) have a law p. Reference sigma W on [0, 1] from p * N(0, sigma^2 I) to p: the Brownian kernel cancels, and
the Schroedinger bridge is

    dZ = sigma^2 grad log g_t(Z) dt + sigma dW,      g_t = p * N(0, (1 - t) sigma^2 I),     Z_t ~ g_t

(g is one potential, the other is constant). It is the reversal of Brownian motion from the codes, on the clock t = 1 -
noising time, so the drift is learnt by denoising score matching:

    min  E_{t ~ U[0, T], z, xi}  | s(z + sigma sqrt(1 - t) xi, t) + xi / (sigma sqrt(1 - t)) |^2,      T < 1

    start     the code of a training row, plus sigma xi
    sample    Euler steps to T, then decode

(Jiao et al. 2024, arXiv 2404.13309.) Four errors, which ``experiments/latent.py`` switches off one at a time: the
codec's, W2(D(E(x)), x); the score's; stopping early, W2(g_T, p) <= sigma sqrt((1 - T) d*), for atoms an equality; and
the steps', of order their size.

For p = {-1, +1} in equal parts and sigma = 1 the drift is (tanh(x / (1 - t)) - x) / (1 - t).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_finite, check_number
from bridgejax._numerics import linear_combination, normal_like
from bridgejax._types import Args, Batch, Decoder, Field, MethodState, Numbers, Params, Scalar
from bridgejax.bridges import interpolants
from bridgejax.bridges._reverse import reverse
from bridgejax.bridges.predictions import convert
from bridgejax.methods._arguments import TRAINING, NetworkLike, documented
from bridgejax.methods._ends import check_sigma
from bridgejax.methods._setup import Setup
from bridgejax.methods._spec import noise
from bridgejax.methods.generative import LatentSB
from bridgejax.methods.generative.autoencoder import Codec, pca
from bridgejax.networks import or_mlp
from bridgejax.objectives import matching, times
from bridgejax.objectives._matching import unpack
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import Process, schedules
from bridgejax.processes.sde import bind
from bridgejax.solve import grids
from bridgejax.training import Method, adam, gradient_method

PREDICTIONS = ("score", "eps", "x0")


def _blurred(points: Array, sigma: Scalar, key: Array, args: Args) -> Array:
    which, noise = jax.random.split(key)
    z = points[jax.random.randint(which, (), 0, points.shape[0])]
    return linear_combination((1.0, z), (sigma, normal_like(noise, z)))


def _decoded(decode: Callable[[Array], Array], key: Array, z: Array, args: Args) -> Array:
    return decode(z)


def _same(x: Array) -> Array:
    return x


IDENTITY = Codec(Partial(_same), Partial(_same))


def potential_process(score: Field, codec: Codec, codes: Array, sigma: float, ts: Array) -> Process:
    """The bridge with a given potential, learnt or in closed form.

    Args:
        score: ``score(s, z, args) = grad log g_(1-s)(z)``, s = 1 - t the noising clock; in closed form
            ``bj.mixtures.mixture_score(p, bj.schedules.brownian(sigma))``.
        codec: decodes the last state.
        codes: (n, *latent), encoded training rows.
        sigma: noise per square root of unit time, in units of the codes.
        ts: grid from 0 to T.
    """
    sde = reverse(schedules.brownian(sigma), score)
    return Process(Partial(_blurred, codes, sigma), sde, ts, None, Partial(_decoded, bind(codec.decode, "decode")))


@documented(TRAINING)
def latent_sb(
    network: NetworkLike | None = None,
    *,
    rows: Numbers,
    codec: Codec | None = None,
    sigma: float = 1.0,
    stop: float = 0.99,
    predict: str = "score",
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
) -> Method:
    """Diffusion in the latent space of a codec by a Schroedinger bridge of finite horizon, as a Method.

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``) on codes; its clock is the
            noising one, 1 - t.
        rows: (n, *shape) training rows; their codes are where samples start.
        codec: encoder and decoder, ``methods.autoencoder.pca`` or ``codec`` of a ``vae``, made on these rows or others;
            None: none, the bridge runs in the data's space.
        sigma: noise per square root of unit time, in units of the codes; it must cover their law's spread for the
            start to be smooth. epsilon = sigma^2.
        stop: T, the time in (0, 1) at which the bridge stops: too late and the score's target, which grows like
            1 / (sigma sqrt(1 - T)), cannot be learnt; too early and noise sigma sqrt(1 - T) is left in every code.
        predict: what the network says: "score" (weighted as above), or "eps" = -sigma sqrt(1 - t) score or "x0" (the
            code), with weight 1 on these.
        time_sampler: see ``objectives.times``, on the noising clock; default uniform on [1 - T, 1].
        ts: grid of the process, from 0 to at most T; default 100 even steps to T.

    Returns:
        A Method whose data are rows like ``rows``; they are encoded within the step. Sample its Process with
        ``solver=bj.solvers.Euler()`` for the paper's scheme; the default is exponential Euler.

    Raises:
        ValueError: sigma not positive, stop outside (0, 1), an unknown prediction, a grid beyond T, rows
            that the codec does not take.
    """
    check_sigma(sigma)
    check_number(stop=stop)
    if not 0.0 < stop < 1.0:
        raise ValueError(f"stop must lie between 0 and 1 (the potential's gradient is infinite at 1), got {stop}")
    if predict not in PREDICTIONS:
        raise ValueError(f"predict must be one of {PREDICTIONS}, got {predict!r}")
    codec = IDENTITY if codec is None else codec
    if not isinstance(codec, Codec):
        raise ValueError(f"codec must be a Codec, got {type(codec).__name__}; see methods.autoencoder")
    points = as_real(rows, "rows")
    check_finite(rows=points)
    if points.ndim < 2 or points.shape[0] == 0:
        raise ValueError(f"rows must have shape (n, *shape) with at least one row, got {points.shape}")
    schedule = schedules.brownian(sigma)
    codes = jax.jit(jax.vmap(bind(codec.encode, "encode")))(points)
    apply, params = or_mlp(network, codes.shape[1:])
    grid = grids.uniform(100, stop) if ts is None else jnp.asarray(ts)
    if not isinstance(grid, Tracer) and float(grid[-1]) > stop + 1e-6:
        last = float(grid[-1])
        raise ValueError(f"ts must end at stop = {stop:g} or before, where the score is learnt, got {last:g}")
    match = matching(
        interpolants.diffusion(schedule),
        apply,
        predict,
        times=times.uniform(1.0 - stop, 1.0) if time_sampler is None else time_sampler,
    )

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        x, other, _ = unpack(batch)
        if other is not None:
            raise ValueError("latent_sb starts from its own rows: give x (data alone), not source and target")
        x = jnp.asarray(x)
        if x.shape[1:] != points.shape[1:]:
            raise ValueError(
                f"a batch has rows of shape {x.shape[1:]}, and this method was made for {points.shape[1:]}"
            )
        return match(params, keys, jax.lax.stop_gradient(jax.vmap(codec.encode)(x)))

    def process(params: Params) -> Process:
        score = convert(schedule, Partial(apply, params), predict, "score")
        return potential_process(score, codec, codes, sigma, grid)

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    return gradient_method(loss, process, optimizer, ema, accumulate, params=params)


def _in_data_units(decode: Decoder, rescale: Decoder, key: Array, x: Array, args: Args) -> Array:
    return rescale(key, decode(key, x, args), args)


def build(options: LatentSB, setup: Setup) -> Method:
    """``latent_sb`` by its options: on principal components of its rows; noise as wide as their codes."""
    rows = setup.data.source
    assert rows is not None
    codec = pca(rows, options.latent)[0] if options.latent else None
    codes = np.asarray(rows) if codec is None else np.asarray(jax.vmap(codec.encode)(jnp.asarray(rows)))
    method = latent_sb(
        setup.network(shape=(options.latent,) if options.latent else None),
        rows=rows,
        codec=codec,
        sigma=noise("latent_sb", options, float(codes.std())),
        predict=options.predict,
        optimizer=setup.optimizer(),
        ema=setup.ema,
        accumulate=setup.accumulate,
        ts=grids.uniform(options.sample_steps or 100, 0.99),
    )

    def process(state: MethodState) -> Process:
        bridge = method.process(state)
        return dataclasses.replace(bridge, decode=Partial(_in_data_units, bridge.decode, setup.decode))

    return method._replace(process=process)
