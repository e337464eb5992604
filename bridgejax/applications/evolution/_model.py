"""The model: a diffusion over one variable of a better population, given what the evaluated one tells of it.

    train     z = a variable of a member of the last population of a run, in [-1, 1]
              c = conditions of that variable (see _seen), from a population evaluated earlier on the same problem, and
                  of the member's place on the front, the preference w
              diffusion of z given c, one network for all variables of all problems: any number of them will do
    use       draw    z ~ p(z | c), by the probability flow: what is not known is spread
              mean    E[z | c], the denoiser where no signal is left

Populations that the model meets in use are those it proposed. So training goes in rounds: first on populations of the
recorded runs, then also on those that the model itself gathers on the same problems.

Forms, by what the network may see of c:

    "population"    all of it: ours
    "entropy"       D a_i, the mutual-entropy attention alone: the channel of EmoDM (Yan & Jin 2024, arXiv 2401.15931),
                    whose code is not public; network, chain and estimator are reconstructions
    "none"          nothing: reversed evolution without attention
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from bridgejax._checks import check_count, describe, is_real
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax.applications._extras import require
from bridgejax.applications.evolution._seen import ENTROPY, FEATURES, Seen
from bridgejax.methods import diffusion
from bridgejax.networks import MLP, load_weights, save_weights
from bridgejax.processes import Process, schedules
from bridgejax.processes._keys import check_one_key, keys, stream
from bridgejax.solve import grids, simulate
from bridgejax.training import Method, adam

FORMS = ("population", "entropy", "none")
_CHUNK = 1024  # variables denoised at once: one compilation for all D
_STEPS = 8


@partial(
    register_dataclass,
    data_fields=("process", "shift", "scale", "sees"),
    meta_fields=(),
)
@dataclass(frozen=True)
class Evolver:
    """A trained model of where better populations lie: a pytree.

    Attributes:
        process: of one variable given its conditions.
        shift: (FEATURES,), subtracted from conditions.
        scale: (FEATURES,), conditions are then divided by it.
        sees: (FEATURES,), 1 for conditions that the network is shown, 0 for others.
    """

    process: Process
    shift: Array
    scale: Array
    sees: Array

    __repr__ = summary

    def propose(self, x: np.ndarray, f: np.ndarray, w: np.ndarray, key: Array, *, mean: bool = False) -> np.ndarray:
        """Candidates given an evaluated population, one for each preference.

        Args:
            x: (n, D) points in [-1, 1].
            f: (n, M), their objectives.
            w: (L, M), preferences: rows that sum to 1, (1, 0) for the worst f_1 of the front and the best f_2.
            key: one threefry key.
            mean: E[z | c] instead of draws.

        Returns:
            (L, D) in [-1, 1].

        Raises:
            ValueError: arrays that do not fit, points outside of [-1, 1], objectives that are not finite.
        """
        x, f, w = check_population(x, f, w)
        return self._denoise(Seen(x, f).told(w), check_one_key(key), mean=mean)

    def _denoise(self, told: np.ndarray, key: Array, *, mean: bool) -> np.ndarray:
        """Variables (L, D) under conditions (L, D, FEATURES), in chunks of one size."""
        rows = told.reshape(-1, told.shape[-1])
        count, found = len(rows), []
        for first in range(0, count, _CHUNK):
            part = rows[first : first + _CHUNK]
            part = np.concatenate([part, np.zeros((_CHUNK - len(part), part.shape[1]), part.dtype)])
            chunk_key = jax.random.fold_in(stream(key, "evolution"), first // _CHUNK)
            found.append(np.asarray(_mean(self, part) if mean else _draw(self, part, chunk_key)))
        return np.clip(np.concatenate(found)[:count].reshape(told.shape[:2]), -1.0, 1.0)


def _shown(evolver: Evolver, told: Array) -> Array:
    return evolver.sees * (told - evolver.shift) / evolver.scale


@jax.jit
def _draw(evolver: Evolver, told: Array, key: Array) -> Array:
    def one(key: Array, c: Array) -> Array:
        process = evolver.process
        return simulate(process.dynamics, key, process.start(key, c), process.ts, c)[0]

    return jax.vmap(one)(keys(key, len(told)), _shown(evolver, told))


@jax.jit
def _mean(evolver: Evolver, told: Array) -> Array:
    semilinear = evolver.process.dynamics.semilinear
    assert semilinear is not None  # a process of ``diffusion`` has one
    end, denoiser = jnp.asarray(semilinear.schedule.T), semilinear.denoiser
    return jax.vmap(lambda c: denoiser(end, jnp.zeros(1), c)[0])(_shown(evolver, told))


def check_population(x: Any, f: Any, w: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, objectives and preferences that fit.

    Raises:
        ValueError: what does not.
    """
    for name, value in (("x", x), ("f", f), ("w", w)):
        if not is_real(value) or np.ndim(value) != 2 or not np.all(np.isfinite(np.asarray(value, float))):
            raise ValueError(f"{name} must be a matrix of finite numbers, got {describe(value)}")
    x, f, w = (np.asarray(value, float) for value in (x, f, w))
    if len(x) != len(f) or len(x) < 2 or f.shape[1] < 2 or w.shape[1] != f.shape[1]:
        raise ValueError(
            f"x, f and w must be (n, D), (n, M) and (L, M) with n >= 2 and M >= 2, got {x.shape}, {f.shape}, {w.shape}"
        )
    if np.abs(x).max() > 1.0 + 1e-6:
        raise ValueError(f"x must lie in [-1, 1], got {x.min():.3g} to {x.max():.3g}")
    if w.min() < -1e-6 or np.abs(w.sum(1) - 1.0).max() > 1e-3:
        raise ValueError("w must be rows of numbers >= 0 that sum to 1")
    return x, f, w


def evolver_method(*, steps: int, rate: float, width: int, depth: int) -> Method:
    """``diffusion`` of one variable given FEATURES conditions.

    Args:
        steps: updates that Adam's rate decays over.
        rate: its peak.
        width: of the network's residual stream.
        depth: its blocks.
    """
    schedule = schedules.cosine()
    network = MLP((1,), width=width, depth=depth, cond_dim=FEATURES, embedding=width, rngs=nnx.Rngs(0))
    return diffusion(
        schedule,
        network,
        shape=(1,),
        predict="velocity",
        optimizer=adam(rate, steps=steps),
        ts=grids.log_snr(_STEPS, schedule),
    )


def shown(form: str) -> np.ndarray:
    """The conditions that a form of the model sees.

    Raises:
        ValueError: an unknown form.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {describe(form)}")
    if form == "population":
        return np.ones(FEATURES, np.float32)
    return ((np.arange(FEATURES) == ENTROPY) & (form == "entropy")).astype(np.float32)


def save_evolver(path: str | os.PathLike[str], evolver: Evolver) -> Path:
    """Write what ``train_evolver`` gave as one safetensors file, complete or not at all.

    Args:
        path: the file, customarily NAME.safetensors.
        evolver: an Evolver.

    Returns:
        The path.

    Raises:
        ValueError: no Evolver.
        ImportError: safetensors is not installed.

    Example:
        See ``load_evolver``.
    """
    require("safetensors")
    if not isinstance(evolver, Evolver):
        raise ValueError(f"evolver must be an Evolver, got {describe(evolver)}; see train_evolver")
    return save_weights(path, {"evolver": _arrays(evolver)})


def _arrays(evolver: Evolver) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(evolver) if isinstance(leaf, jax.Array | np.ndarray)]


def load_evolver(path: str | os.PathLike[str], *, width: int = 64, depth: int = 2) -> Evolver:
    """Read what ``save_evolver`` wrote.

    Args:
        path: the file.
        width: as it was trained with.
        depth: as it was trained with.

    Returns:
        An Evolver.

    Raises:
        ValueError: sizes that are not those of the file, or a file of something else.
        ImportError: safetensors is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> from bridgejax.applications.evolution import load_evolver, save_evolver
        >>> from bridgejax.applications.evolution._model import untrained
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_evolver(pathlib.Path(folder) / "evolver.safetensors", untrained(width=8, depth=1))
        ...     same = load_evolver(path, width=8, depth=1)
        ...
        >>> same.scale.shape
        (36,)
    """
    require("safetensors")
    empty = untrained(width=check_count("width", width, 2), depth=check_count("depth", depth))
    found = iter(load_weights(path, like={"evolver": _arrays(empty)})["evolver"])
    leaves, structure = jax.tree.flatten(empty)
    filled = [jnp.asarray(next(found)) if isinstance(leaf, jax.Array | np.ndarray) else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, filled)


def untrained(*, width: int = 64, depth: int = 2, form: str = "population") -> Evolver:
    """An Evolver of these sizes, whose numbers do not matter."""
    method = evolver_method(steps=1, rate=1e-3, width=width, depth=depth)
    process = method.process(method.init(jax.random.key(0), None))
    zero = jnp.zeros(FEATURES, jnp.float32)
    return Evolver(process, zero, zero + 1.0, jnp.asarray(shown(form)))
