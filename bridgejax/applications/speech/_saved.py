"""A trained enhancer as a run directory: ``enhancer.json``, what it is, and ``enhancer.safetensors``, its numbers."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from bridgejax._checks import describe
from bridgejax.applications._extras import require
from bridgejax.applications.speech._codec import Codec
from bridgejax.applications.speech._enhancer import Enhancer, Settings, Spread
from bridgejax.applications.speech._network import NetworkSize, network
from bridgejax.networks import load_weights, save_weights

WORDS, NUMBERS = "enhancer.json", "enhancer.safetensors"


def _numbers(enhancer: Enhancer) -> dict[str, Any]:
    own = {"params": enhancer.params, "spread": enhancer.spread._asdict()}
    return own if enhancer.predictor is None else {**own, "predictor": _numbers(enhancer.predictor)}


def _words(enhancer: Enhancer) -> dict[str, Any]:
    own = dataclasses.asdict(enhancer.settings)
    return own if enhancer.predictor is None else {**own, "predictor": _words(enhancer.predictor)}


def _untrained(words: dict[str, Any]) -> Enhancer:
    """An enhancer of these settings, whose numbers do not matter."""
    words = dict(words)
    inner = words.pop("predictor", None)
    size: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in words.pop("size").items()}
    settings = Settings(codec=Codec(**words.pop("codec")), size=NetworkSize(**size), **words)
    params = network(settings.size, settings.views, settings.codec.bins, settings.frames).params
    zero = jnp.zeros((), jnp.float32)
    return Enhancer(settings, params, Spread(*[zero] * 5), None if inner is None else _untrained(inner))


def _filled(empty: Enhancer, numbers: dict[str, Any]) -> Enhancer:
    inner = None if empty.predictor is None else _filled(empty.predictor, numbers["predictor"])
    return Enhancer(empty.settings, numbers["params"], Spread(**numbers["spread"]), inner)


def save_enhancer(directory: str | os.PathLike[str], enhancer: Enhancer) -> Path:
    """Write what ``train_enhancer`` gave.

    Args:
        directory: the run's; it is made.
        enhancer: an Enhancer.

    Returns:
        The directory.

    Raises:
        ValueError: no Enhancer.
        ImportError: safetensors is not installed.

    Example:
        >>> import jax, numpy as np, tempfile
        >>> from bridgejax.applications.speech import *
        >>> waves = [np.sin(np.arange(9000) / 9.0)]
        >>> settings = Settings(size=NetworkSize(width=8, multipliers=(1,)), frames=16)
        >>> enhancer = train_enhancer(waves, waves, jax.random.key(0), settings=settings, steps=2, crop=16)
        >>> with tempfile.TemporaryDirectory() as run:
        ...     same = load_enhancer(save_enhancer(run, enhancer))
        ...
        >>> same.settings == enhancer.settings
        True
    """
    require("safetensors")
    if not isinstance(enhancer, Enhancer):
        raise ValueError(f"enhancer must be an Enhancer, got {describe(enhancer)}; see train_enhancer")
    directory = Path(directory)
    save_weights(directory / NUMBERS, _numbers(enhancer))
    temporary = directory / f".{WORDS}.{secrets.token_hex(4)}.tmp"
    temporary.write_text(json.dumps(_words(enhancer), indent=2) + "\n")
    os.replace(temporary, directory / WORDS)
    return directory


def load_enhancer(directory: str | os.PathLike[str]) -> Enhancer:
    """Read what ``save_enhancer`` wrote.

    Args:
        directory: the run's.

    Returns:
        The Enhancer.

    Raises:
        FileNotFoundError: no enhancer there.
        ValueError: a damaged file, or numbers that are not of these settings.
        ImportError: safetensors is not installed.

    Example:
        See ``save_enhancer``.
    """
    require("safetensors")
    directory = Path(directory)
    path = directory / WORDS
    if not path.is_file():
        raise FileNotFoundError(f"{directory} holds no enhancer ({WORDS}); see save_enhancer")
    try:
        empty = _untrained(json.loads(path.read_text()))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or of another version ({error})") from error
    numbers = load_weights(directory / NUMBERS, like=jax.eval_shape(lambda: _numbers(empty)))
    return _filled(empty, numbers)
