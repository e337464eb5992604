"""LightSB and LightSB-M: fit the Gaussian-mixture potential of a Schroedinger bridge (``schroedinger._potentials``).

    lightsb     min  E_source log phi_0 - E_target log phi_1      = KL(true plan || model) + a constant: no coupling,
                no simulation, no bridge (Korotin, Gushchin & Burnaev 2024, arXiv 2310.01174)
    lightsb_m   min  E || drift(t, x_t) - (x_1 - x_t) / (1 - t) ||^2, x_t on Brownian bridges of *any* coupling of the
                ends: over this family the minimiser is the Schroedinger bridge (Gushchin, Kholkin, Burnaev & Korotin
                2024, arXiv 2402.03207)

Both learn on ends less their means, which the potential keeps as its centres: see ``_potentials``.

Parameters are beta, r, log S and, for full covariances, numbers that turn S, with log alpha = (1 + 1/epsilon) beta:
epsilon log alpha has the unit of the cost, as a Kantorovich potential has, and the 1 keeps it moving when epsilon is
large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_number, check_positive
from bridgejax._numerics import as_wide
from bridgejax._types import Args, Batch, Data, Decoder, Loss, MethodState, Numbers, Params, Scalar
from bridgejax.bridges import interpolants
from bridgejax.methods._arguments import TRAINING, arguments, documented
from bridgejax.methods._ends import check_ends, draw_ends, finished, start_law, whole_grid
from bridgejax.methods._setup import Setup
from bridgejax.methods._spec import noise
from bridgejax.methods.schroedinger import LightSB
from bridgejax.methods.schroedinger._potentials import (
    Potential,
    bridge,
    cayley,
    drift,
    log_potential,
    log_weights,
    reversal,
)
from bridgejax.objectives import matching, times
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import Process
from bridgejax.processes._keys import stream
from bridgejax.solve import grids
from bridgejax.training import Method, adam, gradient_method


def _read(params: dict[str, Array], epsilon: float) -> Potential:
    axes = cayley(params["turns"]) if "turns" in params else None
    return Potential((1.0 + 1.0 / epsilon) * params["beta"], params["r"], params["log_s"], axes, params["centres"])


def _centred(params: dict[str, Array], epsilon: float, batch: Batch, dim: int) -> tuple[Potential, Array, Array]:
    """The potential between ends that are counted from its centres, and a batch of them; centres are not learnt."""
    x0, x1 = check_ends(batch, (dim,))
    centres = jax.lax.stop_gradient(params["centres"])
    return _read(params, epsilon)._replace(centres=None), x0 - centres[0], x1 - centres[1]


def _start(key: Array, data: Data, blank: dict[str, Array], epsilon: float) -> dict[str, Array]:
    """Component k sends the mean source to a point of a quantiser of the target, with the spread of its cell.

    A Gaussian potential of variance V has S = V / (V + epsilon). A quantiser with K points leaves its cells the share
    q = K^(-2 / d) of the variance, and the points have the rest: they are targets drawn at random, shrunk to their mean
    by sqrt(1 - q). (As drawn they are noise in high dimension: of 50 components for d = 64 and epsilon = 0.1 one was
    left in the end.) alpha gives all components equal shares at the mean source. No axes are turned.
    """
    components, dim = blank["r"].shape
    x0, x1 = draw_ends(data, stream(key, "init"), max(components, 1024), (dim,))
    centres = jnp.stack([x0.mean(axis=0), x1.mean(axis=0)])
    x0, x1 = x0 - centres[0], x1 - centres[1]
    share = components ** (-2.0 / dim)
    centre, middle, spread = x0.mean(axis=0), x1.mean(axis=0), x1.var(axis=0) * share + 1e-6
    log_s = jnp.broadcast_to(jnp.log(spread / (spread + epsilon)), (components, dim))
    points = middle + (1.0 - share) ** 0.5 * (x1[:components] - middle)
    r = points - jnp.exp(log_s) * centre
    shares = log_weights(Potential(jnp.zeros(components), r, log_s), epsilon, 0.0, centre)
    return {
        **blank,
        "beta": (shares.mean() - shares) / (1.0 + 1.0 / epsilon),
        "r": r,
        "log_s": log_s,
        "centres": centres,
    }


def _divergence(dim: int, epsilon: float) -> Loss:
    values = jax.vmap(log_potential, (None, None, None, 0))

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        potential, x0, x1 = _centred(params, epsilon, batch, dim)
        return values(potential, epsilon, 0.0, x0).mean() - values(potential, epsilon, 1.0, x1).mean(), {}

    return loss


def _bridge_loss(dim: int, epsilon: float, sampler: TimeSampler | None) -> Loss:
    def apply(params: Params, t: Array, x: Array, args: Args) -> Array:
        return drift(_read(params, epsilon)._replace(centres=None), epsilon, t, x)

    sampler = times.uniform(0.0, 0.99) if sampler is None else sampler
    regress = matching(interpolants.brownian(epsilon**0.5), apply, "drift", times=sampler)

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        _, x0, x1 = _centred(params, epsilon, batch, dim)
        return regress(params, keys, {"source": x0, "target": x1})

    return loss


def _method(loss: Loss, settings: dict[str, Any], options: dict[str, Any]) -> Method:
    """A gradient method whose parameters start from the data."""
    epsilon, dim, components = settings["epsilon"], settings["dim"], settings["components"]
    source, ts = options.pop("source"), options.pop("ts")
    grid = whole_grid(ts, grids.uniform(100))
    _, start = start_law(source, (dim,))

    def process(params: Params) -> Process:
        potential = _read(params, epsilon)
        backward = None if source is None else reversal(potential, epsilon, as_wide(source))
        return Process(start, bridge(potential, epsilon), grid, backward)

    optimizer = options.pop("optimizer")
    optimizer = adam(1e-2, schedule="constant") if optimizer is None else optimizer
    shapes = {"beta": (components,), "r": (components, dim), "log_s": (components, dim), "centres": (2, dim)}
    shapes |= {"turns": (components, dim, dim)} if settings["full"] else {}
    blank = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    if hasattr(optimizer, "update"):  # what is no optimizer is refused below
        optimizer = optax.masked(optimizer, {name: name != "centres" for name in shapes})  # no weight decay of these
    method = gradient_method(loss, process, optimizer, **options, params=blank)

    def init(key: Array, data: Data) -> MethodState:
        params = _start(key, data, blank, epsilon)
        return gradient_method(loss, process, optimizer, **options, params=params).init(key, data)

    def potential(state: MethodState) -> Potential:
        return _read(method.params(state), epsilon)

    return method._replace(init=init, params=potential)


def _settings(epsilon: Scalar, dim: int, components: int, covariance: str) -> dict[str, Any]:
    check_number(epsilon=epsilon)
    check_positive(epsilon=epsilon)
    check_count("dim", dim)
    check_count("components", components)
    if covariance not in ("diagonal", "full"):
        raise ValueError(f"covariance must be 'diagonal' or 'full', got {covariance!r}")
    return {"epsilon": float(epsilon), "dim": int(dim), "components": int(components), "full": covariance == "full"}


@documented(TRAINING)
def lightsb(
    *,
    epsilon: float,
    dim: int,
    components: int = 50,
    covariance: str = "diagonal",
    source: Numbers | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
) -> Method:
    """The Schroedinger bridge of two samples by maximum likelihood of its static plan (LightSB).

    The fast choice on a CPU in moderate dimension. O(K d) a sample and step, with full covariances O(K d^2).

    Args:
        epsilon: entropic regularisation for the cost |x - y|^2 / 2, in squared units of the data: the variance of the
            reference per unit time, sigma^2.
        dim: d, of a sample of shape (d,).
        components: K, of the potential's mixture.
        covariance: "diagonal" or "full", of every component.
        source: points (n, d) that the process starts from, which also give it a ``backward``; None: standard normal,
            and no ``backward``.
        optimizer: optax transformation; default Adam at 1e-2 with gradients clipped to norm 1.
        ts: grid of the process, from 0 to 1; default 100 even steps. ``[0, 1]`` draws from the plan exactly, in one
            step.

    Returns:
        A Method whose data are dictionaries ``source``, ``target`` (``data.Pairs``); only their marginals are used.
        The components start at target points. ``method.params(state)`` is the Potential.
        ``process.dynamics.terminal_kernel`` is the exact law of a later state given an earlier one. The loss is a
        KL divergence less an unknown constant, and may be negative.

    Raises:
        ValueError: epsilon not positive, sizes that are no positive integers, another covariance, a source of another
            dimension, a grid that is not whole.
    """
    settings = _settings(epsilon, dim, components, covariance)
    options = {"source": source, "optimizer": optimizer, "ema": ema, "accumulate": accumulate, "ts": ts}
    return _method(_divergence(settings["dim"], settings["epsilon"]), settings, options)


@documented(arguments(lightsb.__doc__ or ""))
def lightsb_m(
    *,
    epsilon: float,
    dim: int,
    components: int = 50,
    covariance: str = "diagonal",
    source: Numbers | None = None,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
) -> Method:
    """The same bridge by matching its drift to Brownian bridges of any coupling (LightSB-M).

    Args:
        epsilon: entropic regularisation for the cost |x - y|^2 / 2, in squared units of the data; the Brownian bridges
            that it is matched to have this variance per unit time.
        time_sampler: see ``objectives.times``; default uniform on [0, 0.99] (the target's variance grows like
            1 / (1 - t)).

    Returns:
        A Method whose data are dictionaries ``source``, ``target`` (``data.Pairs``) of any coupling; a better one
        lowers the variance. The components start at target points; ``method.params(state)`` is the Potential.
        ``process.dynamics.terminal_kernel`` is the exact law of a later state given an earlier one.

    Raises:
        ValueError: epsilon not positive, sizes that are no positive integers, another covariance, a source of another
            dimension, a grid that is not whole.
    """
    settings = _settings(epsilon, dim, components, covariance)
    options = {"source": source, "optimizer": optimizer, "ema": ema, "accumulate": accumulate, "ts": ts}
    return _method(_bridge_loss(settings["dim"], settings["epsilon"], time_sampler), settings, options)


# by name --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shaped:
    """What ``decode`` makes of a vector in its data's shape."""

    shape: tuple[int, ...]

    def __call__(self, decode: Decoder, key: Array, x: Array, args: Args) -> Array:
        return decode(key, x.reshape(self.shape), args)


def _build(make: Callable[..., Method], name: str, options: LightSB, setup: Setup) -> Method:
    """On images as vectors. One step samples exactly; the backward process visits every source row."""
    data = setup.data
    dim = math.prod(data.shape)
    method = make(
        epsilon=noise(name, options) ** 2,
        dim=dim,
        components=options.components,
        source=np.asarray(data.source).reshape(-1, dim)[: int(np.clip(400_000 // dim, 256, 4000))],
        optimizer=setup.optimizer(),
        ema=setup.ema,
        accumulate=setup.accumulate,
        ts=grids.uniform(options.sample_steps or 1),
    )
    return finished(method, Partial(_Shaped(tuple(data.shape)), setup.decode))


def build(options: LightSB, setup: Setup) -> Method:
    """``lightsb`` by its options."""
    return _build(lightsb, "lightsb", options, setup)


def build_m(options: LightSB, setup: Setup) -> Method:
    """``lightsb_m`` by its options."""
    return _build(lightsb_m, "lightsb_m", options, setup)
