"""From a Config, which is plain data, to a Method: what the command line and ``bridgejax.load`` share.

A Config is JSON; together with the shape and scale of the data it fixes the Method, so that a run directory can be
turned back into a function without the data it was trained on.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.tree_util import Partial

from bridgejax import networks
from bridgejax.bridges.constrained import check_tilt
from bridgejax.data.columns import GRIDS, Column, Encoding
from bridgejax.geometry import domains
from bridgejax.methods import bridge_recipes
from bridgejax.methods.bridge_matching import bridge_matching
from bridgejax.methods.constrained import constrained
from bridgejax.methods.diffusion import diffusion, edm
from bridgejax.objectives import times
from bridgejax.processes import Schedule, schedules
from bridgejax.solve import grids
from bridgejax.training import Method, adam

Network = Literal["auto", "mlp", "unet", "transformer", "temporal"]
FOR_KIND = {"unet": "image", "transformer": "image", "temporal": "series"}  # what a network takes; an mlp takes all
MOST_TOKENS = 256  # of a transformer, whose attention costs their square


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides what is learnt.

    Attributes:
        method: what to train; ``bridgejax list`` names them; empty: diffusion (bridge_matching between two data sets).
        schedule: noise schedule of diffusion: cosine, vp, sub_vp, ve, rectified, karras, brownian, ou; of ddbm: vp or
            ve; empty: cosine, for ddbm vp.
        predict: what the network's output means (x0, eps, score, velocity; residual, x1, drift, velocity for bridges;
            residual, terminal, flow, mean for simplified_dsb; eps, score for vsdm, x0 too for latent_sb); empty: the
            method's default.
        weighting: weighting of diffusion's loss (x0, eps, velocity, likelihood, min_snr, edm); empty: 1.
        sampler: "ode" or "sde", for diffusion and vsdm (default ode) and for sf2m, i2sb and ddbm (default sde).
        sigma: noise of a bridge per square root of unit time, in the units it runs in (see standardise); default 1 for
            Schroedinger bridges (latent_sb: the spread of what it runs on), 0.5 for paired ones, 0.3 for
            bridge_matching (0: flow matching).
        epsilon: the same as a variance per unit time, sigma^2, the entropic regularisation for the cost |x - y|^2 / 2.
        coupling: how the rows of a batch are paired: ot, independent, paired, entropic; empty: the method's own.
        standardise: run in standardised units; without it in the data's own, so that sigma and epsilon are theirs.
        steps_per_round: updates between rounds of dsbm, dsb, simplified_dsb and vsdm; 0: a tenth of all.
        components: Gaussians in the potential of lightsb and lightsb_m.
        initial: for simplified_dsb, run directory of a bridge_matching run between the same ends to start from.
        latent: for latent_sb, principal components kept; 0: none, the bridge runs in the data's space.
        domain: of method constrained: auto (columns and pixels by their values), a kind for all (real, positive,
            bounded, integer, category), column=kind for some, comma-separated, or sphere or simplex.
        network: mlp, unet, transformer (images, by patches), temporal (a U-Net over the times of series), or auto (a
            U-Net for series and images of at least 16 pixels a side, else an MLP).
        width: width of the network; 0: by kind of data.
        depth: blocks of the MLP or transformer, or levels of a U-Net; 0: by kind of data.
        precision: arithmetic of the network, float32 or bfloat16 (parameters stay float32).
        batch_size: samples per update.
        accumulate: micro-batches per update.
        learning_rate: peak rate of Adam; 0: 0.002, for lightsb and lightsb_m 0.01.
        warmup: updates of linear warm-up, at most a tenth of all.
        decay: schedule after it: cosine or constant.
        clip: largest norm of the gradient.
        weight_decay: decoupled weight decay.
        ema: decay of the averaged parameters.
        condition_dropout: share of labels hidden in training (needed for guidance).
        guidance: classifier-free guidance scale when sampling; 1: none.
        sample_steps: steps of the sampler; 0: the method's default.
        seed: decides everything random.
    """

    method: str = ""
    schedule: str = ""
    predict: str = ""
    weighting: str = ""
    sampler: str = ""
    sigma: float | None = None
    epsilon: float | None = None
    coupling: str = ""
    standardise: bool = True
    steps_per_round: int = 0
    components: int = 50
    initial: str = ""
    latent: int = 0
    domain: str = "auto"
    network: Network = "auto"
    width: int = 0
    depth: int = 0
    precision: str = "float32"
    batch_size: int = 128
    accumulate: int = 1
    learning_rate: float = 0.0
    warmup: int = 100
    decay: str = "cosine"
    clip: float = 1.0
    weight_decay: float = 0.0
    ema: float = 0.999
    condition_dropout: float = 0.1
    guidance: float = 1.0
    sample_steps: int = 0
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What a Method must know of the data.

    Attributes:
        shape: shape of one sample.
        kind: points, table, series or image.
        num_classes: number of classes; 0 without labels.
        shift: subtracted from raw data.
        scale: raw data are divided by it.
        deviation: standard deviation of the standardised data, over all coordinates.
        source: standardised points that a bridge starts from; None: noise.
        encoding: of method constrained, what the columns or pixels are; shape is then that of an encoded sample.
        classes: names of the classes, in the order of their labels; empty without labels.
        columns: names of the columns of a table.
        decimals: of a table, what its columns are rounded to when they are written as text; None: not rounded.
        label_column: name and place of the column of a .csv file that the labels were read from.
    """

    shape: tuple[int, ...]
    kind: str
    num_classes: int
    shift: Any
    scale: Any
    deviation: float = 1.0
    source: Any = None
    encoding: Encoding | None = None
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    decimals: tuple[int | None, ...] = ()
    label_column: tuple[str, int] = ("", 0)


def nearest(name: str, names: Any, what: str) -> str:
    """``name`` if it is one of ``names``, else a ValueError that names the nearest."""
    names = sorted(names)
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"unknown {what} {name!r}{hint} Known: {', '.join(names)}")


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "cosine": schedules.cosine,
    "vp": schedules.vp,
    "sub_vp": schedules.sub_vp,
    "ve": schedules.ve,
    "rectified": schedules.rectified,
    "karras": schedules.karras,
    "brownian": lambda: schedules.brownian(10.0),
    "ou": lambda: schedules.ou(T=4.0),
}


def make_schedule(name: str) -> Schedule:
    """A schedule by name, with parameters that end in noise for standardised data."""
    return SCHEDULES[nearest(name, SCHEDULES, "schedule")]()


def _patch(shape: tuple[int, ...]) -> int:
    """The smallest power of two, from 2 on, that cuts an image into few enough patches."""
    patch = 2
    while np.prod([-(-side // patch) for side in shape[:2]]) > MOST_TOKENS:
        patch *= 2
    return patch


def _tilts(config: Config, data: DataSpec) -> tuple[int, ...] | None:
    """The shape of what the network says where that is a tilt: by default, for pixels that are levels or categories."""
    if data.encoding is None or config.predict not in ("", "tilt"):
        return None
    domain = make_domain(data.encoding)
    if config.predict == "tilt":
        check_tilt(domain)
    return domain.tilt_shape(data.shape) if hasattr(domain, "tilt_shape") else None


def make_network(config: Config, data: DataSpec, views: int = 1) -> nnx.Module:
    """The network a Config asks for, fitting the data and the clock.

    Args:
        config: what to learn.
        data: what it is learnt on.
        views: how many arrays of the data's shape it is given, side by side along the last axis.
    """
    kind = config.network
    nearest(kind, get_args(Network), "network")
    if kind == "auto":
        large = data.kind == "image" and min(data.shape[:2]) >= 16
        kind = "temporal" if data.kind == "series" else "unet" if large else "mlp"
    if config.precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision must be float32 or bfloat16, got {config.precision!r}")
    dtype = jnp.dtype(config.precision)
    classes = data.num_classes or None
    rngs = nnx.Rngs(config.seed)
    # the features of time are made for a clock of about one unit
    clock = make_schedule(config.schedule or "cosine").T if config.method == "diffusion" else 1.0
    if data.kind != FOR_KIND.get(kind, data.kind):
        takes = FOR_KIND[kind] + "s" * (FOR_KIND[kind] == "image")
        raise ValueError(f"network {kind!r} takes {takes}, and these data are {data.kind}; use network 'mlp'")
    outputs = _tilts(config, data)
    shape = (*data.shape[:-1], views * data.shape[-1])
    if views > 1:
        outputs = data.shape
    if kind == "transformer":
        if views > 1:
            raise ValueError(f"network 'transformer' has no place for a source: use unet or mlp for {config.method!r}")
        if outputs is not None:
            raise ValueError("network 'transformer' says one number a pixel: use predict 'end', or network unet or mlp")
        width = config.width or 128
        return networks.Transformer(
            data.shape,
            patch=_patch(data.shape),
            width=width,
            depth=config.depth or 4,
            heads=next(heads for heads in (4, 2, 1) if width % heads == 0),
            num_classes=classes,
            time_scale=1.0 / clock,
            dtype=dtype,
            rngs=rngs,
        )
    if kind == "unet":
        levels = config.depth or 2
        return networks.UNet(
            shape,
            outputs=outputs,
            width=config.width or 32,
            multipliers=tuple(min(2**i, 4) for i in range(levels)),
            num_classes=classes,
            time_scale=1.0 / clock,
            dtype=dtype,
            rngs=rngs,
        )
    if kind == "temporal":
        levels = config.depth or min(3, data.shape[0].bit_length())
        return networks.TemporalUNet(
            shape,
            outputs=outputs,
            width=config.width or 16,  # 1.6 GFLOP an update of 128 series of 64 times; twice the width costs four times
            multipliers=tuple(2**i for i in range(levels)),
            blocks=1,
            num_classes=classes,
            time_scale=1.0 / clock,
            dtype=dtype,
            rngs=rngs,
        )
    size = int(np.prod(data.shape))
    width = config.width or (128 if size <= 8 else 256 if size <= 128 else 512)
    return networks.MLP(
        shape,
        outputs=outputs,
        width=width,
        depth=config.depth or 4,
        num_classes=classes,
        time_scale=1.0 / clock,
        dtype=dtype,
        rngs=rngs,
    )


def _destandardise(shift: Array, scale: Array, key: Array, x: Any, args: Any) -> Array:
    return x * scale.astype(x.dtype) + shift.astype(x.dtype)


def _decode(encoding: Encoding, key: Array, x: Any, args: Any) -> Array:
    return encoding.decode(x)


def _same(key: Array, x: Any, args: Any) -> Any:
    return x


def make_finish(data: DataSpec, units: str) -> Any:
    """What becomes of a sample: the data's units, or the model's, for a way back on the host (``Units.to_data``)."""
    if nearest(units, ("data", "model"), "units") == "model":
        return Partial(_same)
    if data.encoding is not None:
        return Partial(_decode, data.encoding)
    return Partial(_destandardise, *(jnp.asarray(part, float) for part in (data.shift, data.scale)))


def _diffusion(config: Config, data: DataSpec, network: Any, common: dict[str, Any]) -> Method:
    schedule = make_schedule(config.schedule)
    steps = config.sample_steps or (40 if config.sampler == "ode" else 200)
    return diffusion(
        schedule,
        network,
        shape=data.shape,
        # bounded at both ends where the velocity is; eps at alpha = 0 would be an error divided by nothing
        predict=config.predict or ("velocity" if config.schedule in ("cosine", "rectified") else "eps"),
        weighting=config.weighting or None,
        time_sampler=times.low_discrepancy(1e-3 * schedule.T, schedule.T),
        sampler=config.sampler,
        ts=grids.log_snr(steps, schedule),
        sigma_data=data.deviation,
        **common,
    )


def _edm(config: Config, data: DataSpec, network: Any, common: dict[str, Any]) -> Method:
    ts = grids.karras(config.sample_steps or 18)
    return edm(network, shape=data.shape, sampler=config.sampler, ts=ts, sigma_data=data.deviation, **common)


def _matching(config: Config, data: DataSpec, network: Any, common: dict[str, Any], sigma: float) -> Method:
    return bridge_matching(
        network,
        shape=data.shape,
        sigma=sigma,
        source=data.source,
        predict=config.predict or None,
        ts=grids.uniform(config.sample_steps or 100),
        **common,
    )


def _bridge(config: Config, data: DataSpec, network: Any, common: dict[str, Any]) -> Method:
    return _matching(config, data, network, common, config.sigma or 0.0)


def _flow(config: Config, data: DataSpec, network: Any, common: dict[str, Any]) -> Method:
    return _matching(config, data, network, common, 0.0)


def make_domain(encoding: Encoding) -> Any:
    """The domain of encoded samples."""
    if encoding.whole:
        return domains.Sphere() if encoding.whole == "sphere" else domains.Simplex(encoding.shape[0])

    def of(column: Column) -> Any:
        low, high = ((v - column.shift) / column.scale for v in (column.low, column.high))
        made: dict[str, Callable[[], Any]] = {
            "real": domains.Reals,
            "positive": lambda: domains.HalfLine(low),
            "bounded": lambda: domains.Box(low, high),
            "integer": lambda: domains.IntegerGrid(low, high, column.step / column.scale),
            "decimal": lambda: domains.IntegerGrid(low, high, column.step / column.scale),
            "category": lambda: domains.Categorical(column.size),
        }
        return made[column.kind]()

    if len(encoding.shape) > 1:
        return of(encoding.columns[0])
    return domains.Product([of(c) for c in encoding.columns], [c.size for c in encoding.columns])


def _constrained(config: Config, data: DataSpec, network: Any, common: dict[str, Any]) -> Method:
    if data.encoding is None:
        raise ValueError("method 'constrained' needs data with an encoding, see data.columns.infer")
    schedule = schedules.brownian(1.0)
    spacing = min([c.step / c.scale for c in data.encoding.columns if c.kind in GRIDS], default=1.0)
    return constrained(
        make_domain(data.encoding),
        schedule,
        network,
        shape=data.shape,
        predict=config.predict or ("end" if _tilts(config, data) is None else "tilt"),
        weighting=config.weighting or None,
        ts=grids.deviation(config.sample_steps or 100, schedule, last=min(0.03, 0.25 * spacing)),
        **{name: common[name] for name in ("optimizer", "ema", "accumulate", "finish")},
    )


BUILDERS: dict[str, tuple[Callable[..., Method], str]] = {
    "diffusion": (_diffusion, "denoise along a noise schedule, sample its reversal (any schedule and prediction)"),
    "edm": (_edm, "diffusion with the EDM preconditioning, noise levels and grid (Karras et al. 2022)"),
    "bridge_matching": (_bridge, "Brownian bridges from a source to a target, or from noise to data"),
    "constrained": (_constrained, "bridges that end in a set: integers, categories, bounded and mixed columns"),
    "flow_matching": (_flow, "straight lines from a source to a target, or from noise to data (an ODE)"),
    **{name: (bridge.build, bridge.words) for name, bridge in (bridge_recipes.BRIDGES | bridge_recipes.ALONE).items()},
}
MATCHING = ("bridge_matching", "flow_matching")
SAMPLED = {"diffusion": ("ode", "sde"), "edm": ("ode", "sde")} | {
    n: b.samplers for n, b in bridge_recipes.ALONE.items()
}
TWO_ENDED = (*MATCHING, *bridge_recipes.BRIDGES)
FLAT = ("lightsb", "lightsb_m")  # learn vectors: images are flattened
OWN_ROWS = ("latent_sb",)  # start at rows of the data themselves
BESIDE: dict[str, tuple[str, ...]] = {  # whose those settings are that no builder reads: data, rounds, a first run
    "coupling": TWO_ENDED,
    "steps_per_round": bridge_recipes.ROUNDS,
    "initial": ("simplified_dsb",),
    "domain": ("constrained",),
    "standardise": tuple(name for name in BUILDERS if name != "constrained"),
}
_EVERYWHERE = {"method", "batch_size", "seed", "warmup", "decay", "clip", "weight_decay", "learning_rate", *BESIDE}
_NAMES = {"sigma": ("sigma", "epsilon"), "guidance_scale": ("guidance",)}  # settings behind what a builder reads


class _Noted(Mapping[str, Any]):
    """Values by name, as attributes or items; those that were read are noted."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values, self.read = values, set[str]()

    def __getitem__(self, name: str) -> Any:
        self.read.update(_NAMES.get(name, (name,)))
        return self._values[name]

    __getattr__ = __getitem__

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _refuse(config: Config, names: Iterable[str]) -> None:
    """Raise for a setting among ``names`` that was given, though the method does not have it."""
    plain, usual = Config(), settle(Config(method=config.method))
    for setting in sorted(names):
        value, whose = getattr(config, setting), BESIDE.get(setting, ())
        if value in (getattr(plain, setting), getattr(usual, setting)):
            continue
        hint = f" (it is for {', '.join(whose)})" if 0 < len(whose) <= 4 else ""
        flag = f"no-{setting}" if value is False else setting.replace("_", "-")
        got = "" if value is False else f", got {value!r}"
        raise ValueError(f"method {config.method!r} has no --{flag}{hint}; leave it out{got}")


def _check_python(name: str) -> None:
    """Raise for a method that takes what words cannot say, such as a density or a cost."""
    from bridgejax import methods  # they are all there, and import this file

    made = getattr(methods, name, None) if name not in BUILDERS else None
    if inspect.isfunction(made) and made.__module__.startswith("bridgejax.methods"):
        needed = [p.name for p in inspect.signature(made).parameters.values() if p.default is p.empty and p.kind < 2]
        call = f"bridgejax.methods.{name}({', '.join(needed)}, ...)"
        raise ValueError(f"method {name!r} is for Python, not for the command line: {call}")


def settle(config: Config) -> Config:
    """The Config with what was left open (empty, None, zero) filled in for its method; settling twice changes nothing.

    Raises:
        ValueError: an unknown method, or settings that it does not have or that do not go together.
    """
    if not config.method:
        config = dataclasses.replace(config, method="diffusion")
    _check_python(config.method)
    name = nearest(config.method, BUILDERS, "method")
    if config != Config(method=name):
        _refuse(config, [setting for setting, methods in BESIDE.items() if name not in methods])
    for setting, least in (("steps_per_round", 0), ("latent", 0), ("components", 1), ("sample_steps", 0)):
        if getattr(config, setting) < least:
            raise ValueError(f"{setting} must be at least {least}, got {getattr(config, setting)}")
    config = dataclasses.replace(config, schedule=config.schedule or ("vp" if name == "ddbm" else "cosine"))
    if name in bridge_recipes.BRIDGES:
        return bridge_recipes.settle(config)
    sigma, epsilon = config.sigma, config.epsilon
    if name == "bridge_matching":
        sigma = bridge_recipes.noise(name, sigma, epsilon, 0.3, zero=True)
        epsilon = sigma**2
    elif name in OWN_ROWS and (sigma, epsilon) != (None, None):
        sigma = bridge_recipes.noise(name, sigma, epsilon, 1.0)
        epsilon = sigma**2
    if name in SAMPLED:
        config = dataclasses.replace(
            config, sampler=nearest(config.sampler or SAMPLED[name][0], SAMPLED[name], "sampler")
        )
    if name in MATCHING:
        config = dataclasses.replace(
            config, coupling=nearest(config.coupling or "ot", bridge_recipes.COUPLINGS, "coupling")
        )
    return dataclasses.replace(
        config,
        learning_rate=config.learning_rate or 2e-3,
        sigma=sigma,
        epsilon=epsilon,
    )


def build(
    config: Config,
    data: DataSpec,
    *,
    steps: int,
    initial: Any = None,
    units: str = "data",
    given: Iterable[str] | None = None,
) -> Method:
    """The Method of a Config.

    Args:
        config: what to learn.
        data: what it is learnt on.
        steps: updates planned, the length of the learning-rate schedule.
        initial: for simplified_dsb, a Process of bridge_matching to start from.
        units: of what its Process samples: "data", decoded on the device in its precision, or "model".
        given: settings that are refused where the method does not have them; None: all that are not as usual.

    Raises:
        ValueError: an unknown name (with the nearest), a setting that the method does not have, or values that do not
            go together.
    """
    config = settle(config)
    builder, _ = BUILDERS[config.method]
    bridge = bridge_recipes.BRIDGES.get(config.method)
    if bridge is not None and data.source is None:
        raise ValueError(f"method {config.method!r} goes from a source to a target: give --source and --target")
    if config.method in OWN_ROWS and data.source is None:
        raise ValueError(f"method {config.method!r} starts at rows of the data: give them as the spec's source")
    if data.source is not None and config.method not in (*TWO_ENDED, *OWN_ROWS):
        raise ValueError(f"method {config.method!r} starts from noise and takes no source; use one of {TWO_ENDED}")
    null = data.num_classes if data.num_classes else None
    if config.guidance != 1.0 and null is None:
        raise ValueError("guidance needs data with labels")
    if config.condition_dropout != Config().condition_dropout and null is None:
        raise ValueError("condition_dropout needs data with labels, of which it hides a share; leave it out")
    updates = max(steps // (bridge.networks if bridge else 1), 1)
    optimizer = adam(
        config.learning_rate,
        steps=updates,
        final=0.05 if updates < steps else 0.0,  # rounds do not share them out evenly
        warmup=min(config.warmup, updates // 10),
        schedule=config.decay,
        clip=config.clip,
        weight_decay=config.weight_decay,
    )
    common = {
        "optimizer": optimizer,
        "ema": config.ema,
        "accumulate": config.accumulate,
        "null": null,
        "condition_dropout": config.condition_dropout if null is not None else 0.0,
        "guidance_scale": config.guidance,
        "finish": make_finish(data, units),
    }
    if bridge is not None:
        common |= {"initial": initial}
    views = bridge.views if bridge else 1
    codes = dataclasses.replace(data, shape=(config.latent,), kind="table") if config.latent else data
    settings, options = _Noted(vars(config)), _Noted(common)
    network = None if config.method in FLAT else make_network(settings, codes, views)  # pyright: ignore
    method = builder(settings, data, network, options)
    unread = set(vars(config)) - settings.read - options.read - _EVERYWHERE
    _refuse(config, unread if given is None else unread & set(given))
    return method
