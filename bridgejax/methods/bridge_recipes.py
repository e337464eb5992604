"""From a Config to a Method, for bridges between two data sets; and what a reader must know of such a bridge.

    unpaired   rows of source and target are unrelated: a Schroedinger bridge, both directions
    paired     row k of the source belongs to row k of the target: the target's law given its source
    alone      one data set, from noise or from its own rows blurred

One unit of noise for all: sigma per square root of unit time, epsilon = sigma^2 per unit time, the entropic
regularisation for the cost |x - y|^2 / 2. Both are in the units that the bridge runs in: the data's own, or where data
are standardised those divided by the target's scale, so that along column j sigma is scale_j sigma in the data's units.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from bridgejax._summary import summary
from bridgejax.methods.autoencoder import pca
from bridgejax.methods.bdbm import bdbm
from bridgejax.methods.ddbm import ddbm
from bridgejax.methods.dsb import dsb, simplified_dsb
from bridgejax.methods.dsbm import dsbm
from bridgejax.methods.i2sb import i2sb
from bridgejax.methods.latent_sb import latent_sb
from bridgejax.methods.lightsb import lightsb, lightsb_m
from bridgejax.methods.paired import augmented_bridge
from bridgejax.methods.sf2m import sf2m
from bridgejax.methods.vsdm import vsdm
from bridgejax.networks import functional
from bridgejax.processes import Process, schedules
from bridgejax.solve import grids
from bridgejax.training import Method

_TOLERANCE = 1e-3  # relative, between epsilon and sigma^2: both are typed with a few digits
_CACHED = 1 << 25  # numbers that the caches of a round may hold


class Bridge(NamedTuple):
    """What sets a method apart.

    Attributes:
        build: ``build(config, data, network, options, common) -> Method``.
        words: one line for ``bridgejax list``.
        sigma: default noise; None: that of a schedule.
        coupling: of the batches, by default; "paired" for paired methods, which take no other.
        views: how many arrays the network is shown side by side.
        samplers: how it can be sampled, the default first; empty: one way.
        predicts: what its network may say, the default first; empty: one thing.
        rounds: whether it works in rounds.
        rate: default peak learning rate.
        networks: how many share the updates; a learning rate decays over what one of them gets.
    """

    build: Callable[..., Method]
    words: str
    sigma: float | None = 1.0
    coupling: str = "independent"
    views: int = 1
    samplers: tuple[str, ...] = ()
    predicts: tuple[str, ...] = ()
    rounds: bool = False
    rate: float = 2e-3
    networks: int = 1

    __repr__ = summary

    @property
    def paired(self) -> bool:
        """Whether rows of source and target belong together."""
        return self.coupling == "paired"


# what the network is shown ------------------------------------------------------------------------------------------


def _beside(apply: Any, params: Any, t: Any, x: Array, args: Array) -> Array:
    """The state and its source, channel by channel: a U-Net sees which pixel belongs to which."""
    return apply(params, t, jnp.concatenate([x, args], axis=-1), None)


def _context(apply: Any, params: Any, t: Any, x: Array, args: Array) -> Array:
    """The state, the known end and which one it is (``bdbm``)."""
    return apply(params, t, jnp.concatenate([x, args[0], args[1]], axis=-1), None)


def _shown(network: Any, how: Any) -> tuple[Any, Any]:
    apply, params = functional(network)
    return functools.partial(how, apply), params


# builders -----------------------------------------------------------------------------------------------------------


def _finished(method: Method, finish: Any) -> Method:
    """The Method with ``finish`` in its Process."""

    def process(state: Any) -> Process:
        return dataclasses.replace(method.process(state), finish=finish)

    return method._replace(process=process)


def _grid(config: Any, default: int) -> Array:
    return grids.uniform(config.sample_steps or default)


def _cache(data: Any, states: int) -> int:
    """Paths of a round, fewer for images."""
    return int(np.clip(_CACHED // (states * int(np.prod(data.shape))), 256, 4096))


def _dsbm(config: Any, data: Any, network: Any, common: dict[str, Any]) -> Method:
    method = dsbm(
        network,
        shape=data.shape,
        sigma=config.sigma,
        source=data.source,
        cache=_cache(data, 1),
        optimizer=common["optimizer"],
        ema=common["ema"],
        ts=_grid(config, 100),
    )
    return _finished(method, common["finish"])


def _sf2m(config: Any, data: Any, network: Any, common: dict[str, Any]) -> Method:
    method = sf2m(
        network,
        shape=data.shape,
        sigma=config.sigma,
        noise=0.0 if config.sampler == "ode" else None,
        source=data.source,
        optimizer=common["optimizer"],
        ema=common["ema"],
        accumulate=common["accumulate"],
        ts=_grid(config, 100),
    )
    return _finished(method, common["finish"])


def _proportional(config: Any, data: Any, common: dict[str, Any]) -> dict[str, Any]:
    ts = grids.two_sided(config.sample_steps or 20)
    return {
        "shape": data.shape,
        "sigma": config.sigma,
        "source": data.source,
        "cache": _cache(data, 2 * (len(ts) - 1)),
        "optimizer": common["optimizer"],
        "ema": common["ema"],
        "ts": ts,
    }


def _dsb(config: Any, data: Any, network: Any, common: dict[str, Any]) -> Method:
    return _finished(dsb(network, **_proportional(config, data, common)), common["finish"])


def _simplified_dsb(config: Any, data: Any, network: Any, common: dict[str, Any]) -> Method:
    options = _proportional(config, data, common)
    kind, initial = config.predict or "residual", common["initial"]
    return _finished(simplified_dsb(network, reparameterise=kind, initial=initial, **options), common["finish"])


@dataclasses.dataclass(frozen=True)
class _Shaped:
    """What ``finish`` makes of a vector in its data's shape."""

    shape: tuple[int, ...]

    def __call__(self, finish: Any, key: Array, x: Array, args: Any) -> Array:
        return finish(key, x.reshape(self.shape), args)


def _light(make: Any, config: Any, data: Any, network: Any, common: dict[str, Any]) -> Method:
    """On images as vectors. One step to sample: its law is exact. Its ``back`` costs a visit to every source row."""
    dim = int(np.prod(data.shape))
    method = make(
        epsilon=config.sigma**2,
        dim=dim,
        components=config.components,
        source=np.reshape(data.source, (-1, dim))[: int(np.clip(400_000 // dim, 256, 4000))],
        optimizer=common["optimizer"],
        ema=common["ema"],
        accumulate=common["accumulate"],
        ts=_grid(config, 1),
    )
    return _finished(method, Partial(_Shaped(tuple(data.shape)), common["finish"]))


def _vsdm(config: Any, data: Any, network: Any, common: dict[str, Any]) -> Method:
    if len(data.shape) != 1:
        raise ValueError(
            f"method 'vsdm' learns vectors, its forward drift being a matrix; flatten samples of {data.shape}"
        )
    schedule = schedules.vp(0.1, 10.0)
    method = vsdm(
        network,
        shape=data.shape,
        schedule=schedule,
        predict=config.predict or "eps",
        sampler=config.sampler,
        cache=_cache(data, config.sample_steps or 100),
        optimizer=common["optimizer"],
        ema=common["ema"],
        ts=grids.log_snr(config.sample_steps or 100, schedule),
    )
    return _finished(method, common["finish"])


def _decoded(decode: Any, finish: Any, key: Array, x: Array, args: Any) -> Array:
    return finish(key, decode(key, x, args), args)


def _latent_sb(config: Any, data: Any, network: Any, common: dict[str, Any]) -> Method:
    """On principal components of the rows that it starts from. Its noise is their codes' spread."""
    codec = pca(data.source, config.latent)[0] if config.latent else None
    codes = np.asarray(data.source) if codec is None else np.asarray(jax.vmap(codec.encode)(jnp.asarray(data.source)))
    method = latent_sb(
        network,
        rows=data.source,
        codec=codec,
        sigma=config.sigma or float(codes.std()),
        predict=config.predict or "eps",
        optimizer=common["optimizer"],
        ema=common["ema"],
        accumulate=common["accumulate"],
        ts=grids.uniform(config.sample_steps or 100, 0.99),
    )

    def process(state: Any) -> Process:
        bridge = method.process(state)
        return dataclasses.replace(bridge, finish=Partial(_decoded, bridge.finish, common["finish"]))

    return method._replace(process=process)


def _options(common: dict[str, Any]) -> dict[str, Any]:
    return {name: common[name] for name in ("optimizer", "ema", "accumulate", "finish")}


def _augmented(config: Any, data: Any, network: Any, common: dict[str, Any]) -> Method:
    shown, kind = _shown(network, _beside), config.predict or "residual"
    return augmented_bridge(shown, shape=data.shape, sigma=config.sigma, predict=kind, **_options(common))


def _i2sb(config: Any, data: Any, network: Any, common: dict[str, Any]) -> Method:
    shown = _shown(network, _beside)
    return i2sb(shown, shape=data.shape, sigma=config.sigma, kind=config.sampler, conditional=True, **_options(common))


def _ddbm(config: Any, data: Any, network: Any, common: dict[str, Any]) -> Method:
    return ddbm(
        _shown(network, _beside),
        shape=data.shape,
        schedule=config.schedule,
        sigma_target=data.deviation,
        sigma_source=max(float(np.std(data.source)), 1e-3),
        correlation=0.0,  # safe for any pairs: it only scales the network's input and output
        sampler=config.sampler,
        **_options(common),
    )


def _bdbm(config: Any, data: Any, network: Any, common: dict[str, Any]) -> Method:
    return bdbm(_shown(network, _context), shape=data.shape, sigma=config.sigma, **_options(common))


NOISY = ("sde", "ode")
PAIRED: dict[str, Any] = {"sigma": 0.5, "coupling": "paired", "views": 2}
BRIDGES: dict[str, Bridge] = {
    "dsbm": Bridge(_dsbm, "Schroedinger bridge by iterative Markovian fitting, in rounds", rounds=True, networks=2),
    "sf2m": Bridge(_sf2m, "Schroedinger bridge by score and flow, without simulation", 1.0, "entropic", 1, NOISY),
    "dsb": Bridge(_dsb, "Schroedinger bridge by iterative proportional fitting, in rounds", rounds=True, networks=2),
    "simplified_dsb": Bridge(
        _simplified_dsb,
        "the same at half the evaluations; --initial: from a bridge_matching run",
        predicts=("residual", "terminal", "flow", "mean"),
        rounds=True,
        networks=2,
    ),
    "lightsb": Bridge(
        functools.partial(_light, lightsb),
        "Schroedinger bridge with a Gaussian-mixture potential: fast on a CPU, moderate dimensions",
        rate=1e-2,
    ),
    "lightsb_m": Bridge(
        functools.partial(_light, lightsb_m), "the same family, fitted by bridge matching", 1.0, "ot", rate=1e-2
    ),
    "augmented_bridge": Bridge(
        _augmented, "paired: Brownian bridge that sees its source", predicts=("residual", "x1", "drift"), **PAIRED
    ),
    "i2sb": Bridge(_i2sb, "paired: image-to-image Schroedinger bridge that sees its source", samplers=NOISY, **PAIRED),
    "ddbm": Bridge(
        _ddbm, "paired: denoising diffusion bridge, schedule vp or ve", samplers=NOISY, **{**PAIRED, "sigma": None}
    ),
    "bdbm": Bridge(_bdbm, "paired: one network for both directions", **{**PAIRED, "views": 3}),
}
ALONE: dict[str, Bridge] = {
    "vsdm": Bridge(
        _vsdm,
        "variational Schroedinger diffusion from noise: a linear forward process that is learnt, in rounds",
        sigma=None,
        samplers=("ode", "sde"),
        rounds=True,
    ),
    "latent_sb": Bridge(
        _latent_sb,
        "bridge from the data's own rows, blurred, to the data; --latent: on principal components",
        sigma=None,
        samplers=("sde",),
    ),
}
ROUNDS = tuple(name for name, bridge in (BRIDGES | ALONE).items() if bridge.rounds)
COUPLINGS = ("ot", "independent", "paired", "entropic")


# settings -----------------------------------------------------------------------------------------------------------


def noise(name: str, sigma: float | None, epsilon: float | None, default: float, *, zero: bool = False) -> float:
    """Sigma, from whichever of sigma and epsilon = sigma^2 was given.

    Raises:
        ValueError: not positive, or both given and contradictory.
    """
    for what, value in (("sigma", sigma), ("epsilon", epsilon)):
        if value is not None and not (np.isfinite(value) and (value > 0 or (zero and value == 0))):
            hint = " (without noise: --method flow_matching)" if not zero else ""
            least = "at least 0" if zero else "positive"
            raise ValueError(f"{what} must be {least} for method {name!r}, got {value:g}; leave it out for {what} = "
                             f"{default if what == 'sigma' else default**2:g}{hint}")  # fmt: skip
    if sigma is not None and epsilon is not None and abs(sigma**2 - epsilon) > _TOLERANCE * max(sigma**2, epsilon):
        raise ValueError(
            f"sigma = {sigma:g} and epsilon = {epsilon:g} contradict each other, epsilon being sigma^2 = {sigma**2:g}; "
            "give one of them"
        )
    return sigma if sigma is not None else default if epsilon is None else float(np.sqrt(epsilon))


def settle(config: Any) -> Any:
    """The Config with what was left open filled in for its method.

    Raises:
        ValueError: settings that the method does not have, or that do not go together.
    """
    name, bridge = config.method, BRIDGES[config.method]

    def one_of(what: str, value: str, known: tuple[str, ...]) -> str:
        if value and value not in known:
            choice = f"one of {', '.join(known)}" if known else "left out: it has no choice"
            raise ValueError(f"{what} of method {name!r} must be {choice}; got {value!r}")
        return value or (known[0] if known else "")

    if bridge.paired and config.coupling not in ("", "paired"):
        raise ValueError(f"method {name!r} learns from pairs as they are; leave --coupling {config.coupling} out")
    if config.coupling == "paired" and not bridge.paired:
        known = ", ".join(name for name, bridge in BRIDGES.items() if bridge.paired)
        raise ValueError(f"method {name!r} does not keep pairs; leave --coupling paired out, or use one of {known}")
    changes: dict[str, Any] = {
        "coupling": one_of("coupling", config.coupling or bridge.coupling, COUPLINGS),
        "sampler": one_of("sampler", config.sampler, bridge.samplers),
        "predict": one_of("predict", config.predict, bridge.predicts),
        "learning_rate": config.learning_rate or bridge.rate,
    }
    if name == "ddbm":
        one_of("schedule", config.schedule, ("vp", "ve"))
    if bridge.sigma is None:
        if config.sigma is not None or config.epsilon is not None:
            raise ValueError(f"the noise of method {name!r} is its schedule's; leave sigma and epsilon out")
    else:
        sigma = noise(name, config.sigma, config.epsilon, bridge.sigma)
        changes |= {"sigma": sigma, "epsilon": sigma**2 if config.epsilon is None else config.epsilon}
    return dataclasses.replace(config, **changes)


# what a reader must know --------------------------------------------------------------------------------------------


def _listed(values: np.ndarray) -> str:
    values = np.unique(np.round(np.atleast_1d(values).ravel(), 12)) if values.size > 4 else np.atleast_1d(values)
    return ", ".join(f"{v:.4g}" for v in values) if len(values) <= 4 else f"{values.min():.4g} to {values.max():.4g}"


def describe(config: Any, data: Any, source: str, target: str, *, back: bool) -> dict[str, Any]:
    """Which end is which, and the noise with its units: JSON values, with the sentences under ``words``."""
    scale, shift = np.asarray(data.scale, np.float64), np.asarray(data.shift, np.float64)
    scaled = bool(np.any(scale != 1.0) or np.any(shift != 0.0))
    sigma = config.sigma
    words = [f"source (time 0): {source}; target (time 1): {target}; samples run forward, from source to target"]
    words.append(
        "the other way: bridgejax sample RUN --direction backward"
        if back
        else f"method {config.method} has no way back from target to source"
    )
    paired = config.coupling == "paired"
    words.append("row k of the source belongs to row k of the target" if paired else "rows of the ends are unrelated")
    out: dict[str, Any] = {"source": source, "target": target, "method": config.method, "paired": paired, "back": back}
    out |= {"scaled": scaled, "scale": scale.tolist(), "shift": shift.tolist()}
    how = "pixels" if data.kind == "image" else "columns"
    units = f"standardised units ({how} of both ends divided by the target's scale {_listed(scale)})"
    units = units if scaled else "the data's own units (data not scaled)"
    if sigma is None:
        words.append(f"noise: that of the schedule {config.schedule}, in {units}")
        return out | {"sigma": None, "epsilon": None, "units": units, "words": words}
    unit = "sigma {} per square root of unit time, epsilon = sigma^2 = {} per unit time"
    words.append(unit.format(f"{sigma:.4g}", f"{sigma**2:.4g}") + f", in {units}")
    if scaled:
        raw = _listed(sigma * scale), _listed((sigma * scale) ** 2)
        words.append("in the data's own units: " + unit.format(*raw) + (" by column" if scale.size > 1 else ""))
    if config.method == "i2sb":
        words.append("its clock is slow at both ends: sigma^2 per unit time on average")
    return out | {"sigma": sigma, "epsilon": sigma**2, "units": units, "words": words}


def rounds(state: Any, words: list[str]) -> dict[str, Any]:
    """Where a training in rounds stands, with a sentence added to ``words``; nothing for one without."""
    if not hasattr(state, "round"):
        return {}
    out = {"round": int(state.round), "refused": int(state.refused), "gap": float(state.gap)}
    words.append(
        f"round {out['round']}: paths simulated for it end {out['gap']:.2g} standard deviations from the data"
        + (f", and the last {out['refused']} rounds were not begun: too far" if out["refused"] else "")
    )
    return out
