"""Laws of the whitened inducing values v of all layers, d numbers together, whose prior is N(0, I).

    mean_field, full    v ~ N(m, S S^T), S diagonal or a lower triangle for every output: E log p(y | f_L) with v
                        integrated in every layer, and the KL to the prior in closed form
    ddvi, dbvi          v = c + e w_K, w_K the end of a chain of K steps from noise to data, w_0 ~ N(m_0, I):

        forward    F_k(w_{k+1} | w_k) = N(m_{k+1} + a (w_k - m_k) + (1 - a^2) network(t_k, w_k),  (1 - a^2) n_k^2)
        backward   B_k(w_k | w_{k+1}) = N(a w_{k+1}, 1 - a^2)                  Ornstein-Uhlenbeck, a = exp(-step)

        log weight = log p(y | v) + log N(v; 0, I) + log |det e| - log N(w_0; m_0, I) + sum_k [log B_k - log F_k]

E[exp(log weight)] = p(y) for any number of steps, whatever was learnt, so the mean log weight is a bound of log p(y),
and so is the log of the mean of several. In ``ddvi`` m = 0: with a network that is 0 and n = 1 the chain leaves
w_K ~ N(0, I). In ``dbvi`` m_k = mu(Z) exp(-s_k), s_k the clock left, and mu a network over single rows of the inducing
inputs: the chain without a network is the exact reversal of Ornstein-Uhlenbeck noising of N(mu, I), which it leaves
w_K to. c and e are learnt: a location and a scale, diagonal or a lower triangle for every output, to which the chain
adds what no Gaussian has; with ``residual=None`` v = w_K.

(DDVI: Xu, Zeng & Paisley 2024, Sparse inducing points in deep Gaussian processes: enhancing modeling with denoising
diffusion variational inference. DBVI: Diffusion bridge variational inference for deep Gaussian processes, 2026. Both
start at N(mu, s^2) for any s and weigh an Euler scheme by Girsanov's formula, which is a bound only as steps vanish.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from bridgejax._numerics import normal_log_prob
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Decoder, Network, Params
from bridgejax.gp.inducing import Normal
from bridgejax.processes import SDE, Process, starts
from bridgejax.solve.kernels import gaussian

KINDS = ("dbvi", "ddvi", "full", "mean_field")
CLOCK = 3.0  # of the chain: exp(-3) of the data is left in its start
_HIDDEN = 64  # width of mu


class Shapes(NamedTuple):
    """(M, D) of every layer, and how d numbers hold them."""

    layers: tuple[tuple[int, int], ...]

    __repr__ = summary

    @property
    def size(self) -> int:
        """d."""
        return sum(math.prod(shape) for shape in self.layers)

    def split(self, v: Array) -> list[Array]:
        """The values of every layer."""
        ends = np.cumsum([math.prod(shape) for shape in self.layers])[:-1]
        return [part.reshape(shape) for part, shape in zip(jnp.split(v, ends), self.layers, strict=True)]

    def join(self, parts: list[Array]) -> Array:
        """Its inverse."""
        return jnp.concatenate([jnp.ravel(part) for part in parts])


# Gaussian -----------------------------------------------------------------------------------------------------------


def normal_params(shapes: Shapes, kind: str, scales: list[float]) -> Params:
    """N(0, scale^2) in every layer."""
    wide = jnp.result_type(float)
    parts = []
    for (count, outputs), scale in zip(shapes.layers, scales, strict=True):
        if kind == "full":
            root = jnp.broadcast_to(scale * jnp.eye(count, dtype=wide), (outputs, count, count))
        else:
            root = jnp.full((count, outputs), scale, wide)
        parts.append({"mean": jnp.zeros((count, outputs), wide), "scale": root})
    return parts


def normals(params: Params) -> list[Normal]:
    """The law of every layer."""
    return [Normal(part["mean"], part["scale"]) for part in params]


# the chain ----------------------------------------------------------------------------------------------------------


def clock(steps: int) -> Array:
    """Times 0 .. CLOCK of the chain; steps shrink towards the data as (1 - k / K)^2 does."""
    left = (1.0 - np.arange(steps + 1) / steps) ** 2
    return jnp.asarray(CLOCK * (1.0 - left), jnp.result_type(float))


def chain_params(
    shapes: Shapes,
    steps: int,
    network: Params,
    scales: list[float],
    *,
    widths: list[int] | None,
    residual: str | None,
) -> Params:
    """Of a chain that is the prior, or in ``residual`` form one that is narrow in the layers of small ``scales``.

    ``widths`` are those of the inducing inputs of every layer, which mu is a function of; None: no mu.
    """
    wide = jnp.result_type(float)
    params: dict[str, Params] = {"network": network, "log_noise": jnp.zeros((steps, shapes.size), wide)}
    if residual is not None:
        params["place"] = normal_params(shapes, residual, scales)
    if widths is not None:
        keys = jax.random.split(jax.random.key(0), len(widths))
        params["amortiser"] = [
            {
                "first": jax.random.normal(key, (width, _HIDDEN), wide) / math.sqrt(width),
                "bias": jnp.zeros(_HIDDEN, wide),
                "last": jnp.zeros((_HIDDEN, outputs), wide),
            }
            for key, width, (_, outputs) in zip(keys, widths, shapes.layers, strict=True)
        ]
    return params


def ou_step(t: Array, u: Array) -> tuple[Array, Array]:
    """What Ornstein-Uhlenbeck noising over u - t keeps of a value, and the variance that it adds."""
    return jnp.exp(t - u), -jnp.expm1(2.0 * (t - u))


def amortised_mean(shapes: Shapes, params: Params, inducing: list[Array]) -> Array:
    """mu(Z), (d,); 0 where nothing is amortised."""
    if "amortiser" not in params:
        return jnp.zeros(shapes.size, jnp.result_type(float))
    parts = zip(params["amortiser"], inducing, strict=True)
    return shapes.join([jax.nn.silu(z @ own["first"] + own["bias"]) @ own["last"] for own, z in parts])


@partial(register_dataclass, data_fields=("network", "log_noise", "mean", "ts"), meta_fields=("apply",))
@dataclass(frozen=True)
class Chain:
    """What the steps of a chain are made of.

    Args:
        apply: of the network.
        network: its parameters.
        log_noise: (K, d), log n.
        mean: mu, (d,).
        ts: the clock, (K + 1,).
    """

    apply: Network
    network: Params
    log_noise: Array
    mean: Array
    ts: Array

    __repr__ = summary

    def centre(self, t: Array) -> Array:
        """m at a time of the chain."""
        return self.mean * jnp.exp(t - CLOCK)

    def forward(self, k: Array, w: Array) -> tuple[Array, Array]:
        """Mean and deviation of step k from w."""
        t, u = self.ts[k], self.ts[k + 1]
        kept, variance = ou_step(t, u)
        push = self.apply(self.network, t, w, None).astype(w.dtype)
        mean = self.centre(u) + kept * (w - self.centre(t)) + variance * push
        return mean, jnp.sqrt(variance) * jnp.exp(self.log_noise[k])


class Walk(NamedTuple):
    """Where a path of a chain ends.

    Attributes:
        end: w_K, (d,).
        gain: -log N(w_0; m_0, I) + sum_k [log B_k - log F_k].
    """

    end: Array
    gain: Array

    __repr__ = summary


def walk(chain: Chain, key: Array) -> Walk:
    """One path.

    The densities of w_0 and F are taken at constant parameters: what that leaves out of the gradient of the gain has
    mean 0, and it is noise where the chain is exact. (Roeder, Wu & Duvenaud 2017, Sticking the landing, arXiv
    1703.09194.)
    """
    steps, size = chain.log_noise.shape
    noise = jax.random.normal(key, (steps + 1, size), chain.mean.dtype)
    start = chain.centre(jnp.zeros((), chain.mean.dtype)) + noise[0]
    held = jax.lax.stop_gradient(chain)
    first = -jnp.sum(normal_log_prob(start, held.centre(jnp.zeros((), chain.mean.dtype)), 1.0))

    @jax.checkpoint
    def step(at: Walk, given: tuple[Array, Array]) -> tuple[Walk, None]:
        k, e = given
        mean, scale = chain.forward(k, at.end)
        new = mean + scale * e
        kept, variance = ou_step(chain.ts[k], chain.ts[k + 1])
        held_mean, held_scale = held.forward(k, at.end)
        gain = normal_log_prob(at.end, kept * new, variance) - normal_log_prob(new, held_mean, held_scale**2)
        return Walk(new, at.gain + jnp.sum(gain)), None

    return jax.lax.scan(step, Walk(start, first), (jnp.arange(steps), noise[1:]))[0]


def draw(shapes: Shapes, laws: list[Normal], w: Array) -> list[Array]:
    """Mean + scale w of every layer."""
    parts = zip(laws, shapes.split(w), strict=True)
    return [law.draw(part) for law, part in parts]


def place(shapes: Shapes, params: Params, w: Array) -> tuple[list[Array], Array]:
    """v = c + e w of every layer, and log |det e|."""
    if "place" not in params:
        return shapes.split(w), jnp.zeros((), w.dtype)
    laws = normals(params["place"])
    return draw(shapes, laws, w), sum((law.log_det() for law in laws), jnp.zeros((), w.dtype))


# as a Process -------------------------------------------------------------------------------------------------------


def _index(chain: Chain, t: Array) -> Array:
    """k of the step that starts at t, or of the one that holds it."""
    return jnp.clip(jnp.searchsorted(chain.ts, t + 1e-6 * CLOCK) - 1, 0, chain.log_noise.shape[0] - 1)


def _forward_mean(chain: Chain, t: Array, u: Array, x: Array, args: Args) -> Array:
    return chain.forward(_index(chain, t), x)[0]


def _forward_scale(chain: Chain, t: Array, u: Array, x: Array, args: Args) -> Array:
    return chain.forward(_index(chain, t), x)[1]


def _backward_mean(t: Array, u: Array, x: Array, args: Args) -> Array:
    return ou_step(t, u)[0] * x


def _backward_scale(t: Array, u: Array, x: Array, args: Args) -> Array:
    return jnp.sqrt(ou_step(t, u)[1])


def _drift(chain: Chain, t: Array, x: Array, args: Args) -> Array:
    """Of the SDE that the chain becomes as its steps vanish."""
    push = chain.apply(chain.network, t, x, None).astype(x.dtype)
    return 2.0 * chain.centre(t) - x + 2.0 * push


def _noise(t: Array, x: Array, args: Args) -> Array:
    return jnp.asarray(math.sqrt(2.0), x.dtype)


def _pull(t: Array, x: Array, args: Args) -> Array:
    return -x


def chain_process(chain: Chain, decode: Decoder) -> Process:
    """The chain from noise to v, with its steps and those back as kernels, so that ``log_weights`` weighs it."""
    forward = gaussian(Partial(_forward_mean, chain), Partial(_forward_scale, chain), CLOCK)
    dynamics = SDE(Partial(_drift, chain), Partial(_noise), CLOCK, kernel=forward)
    backward = gaussian(Partial(_backward_mean), Partial(_backward_scale), CLOCK)
    back = SDE(Partial(_pull), Partial(_noise), CLOCK, kernel=backward)
    return Process(
        starts.normal(chain.mean.shape, 1.0, chain.centre(jnp.zeros((), chain.mean.dtype))),
        dynamics,
        chain.ts,
        back,
        decode,
    )


def _nothing(t: Array, x: Array, args: Args) -> Array:
    return jnp.zeros_like(x)


def normal_process(size: int, decode: Decoder) -> Process:
    """Standard normal numbers that stay where they are: what a Gaussian law is decoded from."""
    wide = jnp.result_type(float)
    return Process(starts.normal((size,)), SDE(Partial(_nothing)), jnp.array([0.0, 1.0], wide), None, decode)
