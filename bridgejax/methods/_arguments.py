"""What the arguments that methods share mean: written once, shown by ``help`` of every method that takes them.

    @documented(TRAINING)
    def method(network=None, *, optimizer=None, ema=0.999, accumulate=1): ...

puts into the docstring an entry for every argument of the signature that the docstring does not describe itself, in the
order of the signature. So arguments stay plain keywords, as in optax, with their defaults in sight.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from flax import nnx

from bridgejax._checks import check_number
from bridgejax._types import Args, Network, Params, Scalar

NetworkLike: TypeAlias = nnx.Module | tuple[Network, Params]
"""A network as methods take it: a flax.nnx module, or ``(apply, params)`` with ``apply(params, t, x, args)``."""

Documented = TypeVar("Documented", bound=Callable[..., object])
_ENTRY = re.compile(r"^    (\**\w+): ", re.MULTILINE)
_SECTION = "Args:\n"

TRAINING = {
    "optimizer": "optax transformation; None: Adam at 1e-3 with gradients clipped to norm 1.",
    "ema": "decay of the averaged parameters that the process uses, in (0, 1); None: no average.",
    "accumulate": "micro-batches per update: the gradient is that of the batch, at the memory of one of them.",
    "decode": "``decode(key, x, args)``, applied to samples (to undo a standardisation, for example); None: nothing.",
}

CLASSES = {
    "null": "the condition that stands for none (for classes, their number); None: every sample has its condition.",
    "condition_dropout": "share of samples that are trained without their condition, in [0, 1).",
    "guidance_scale": "w of classifier-free guidance in the process; 1: the conditional model itself.",
}


def check_guidance(guidance_scale: Scalar, null: Args) -> None:
    """Raise a ``ValueError`` unless the scale is a number, and 1 where no condition stands for none."""
    check_number(guidance_scale=guidance_scale)
    if null is None and guidance_scale != 1.0:
        raise ValueError("guidance_scale needs null, the condition that stands for none")


BRIDGE = {
    "shape": "shape of one sample, the same for source and target.",
    "sigma": "noise of the reference per square root of unit time, in units of the data; epsilon = sigma^2 is the "
    "entropic regularisation for the cost |x - y|^2 / 2.",
    "source": "points (leading axis) that the process starts from; None: standard normal.",
}

ROUNDS = {
    "cache": "paths simulated in a round.",
    "max_marginal_error": "largest marginal error of a round, in the data's standard deviations: a round whose "
    "simulated ends are further from the data, or not finite, is rejected and the last one goes on. At the third "
    "rejection in a row, if it is no closer and further than twice the distance of source and target, training stops "
    "with ``Diverged``.",
    "optimizer": 'optax transformation; None: Adam at 1e-3 with gradients clipped to norm 1; "exact": the solution of '
    "the least-squares problem of each batch, for a network that is linear in its parameters. Each of the two networks "
    "has an optimizer state of its own and gets about half of the updates: let a learning rate decay over those.",
    "ema": 'decay of the averaged parameters, which simulate, in (0, 1); None, and with optimizer="exact": no average.',
    "solver": "of the rounds' simulations, a diffrax solver; None: the default of ``simulate``.",
}

PAIRED = {
    "shape": "shape of one sample, the same for source and target.",
    "ts": "times of the process from 0 to 1, or how many steps, placed evenly in log(a^2 / c^2), what x_t tells of the "
    "target beside the source; None: 100 steps.",
    "time_sampler": "training times, see ``objectives.times``; None: spread as the default steps.",
}


def arguments(text: str) -> dict[str, str]:
    """The entries of the Args of a docstring, name -> description in one line."""
    entries = _split(_cut(inspect.cleandoc(text))[1])
    return {name: " ".join(entry.split()).removeprefix(f"{name}: ") for name, entry in entries.items()}


def documented(*records: Mapping[str, str]) -> Callable[[Documented], Documented]:
    """A decorator that completes a docstring by records of descriptions; earlier records go first.

    Args:
        *records: name -> description. An entry ``**options`` of the docstring is followed by those names of the records
            that are no arguments of their own.

    Raises:
        ValueError: a docstring without a section Args, when the function is defined.
    """
    known = {name: text for record in reversed(records) for name, text in record.items()}

    def complete(function: Documented) -> Documented:
        if function.__doc__ is None:  # python -OO
            return function
        before, entries, after = _cut(inspect.cleandoc(function.__doc__))
        if not entries:
            raise ValueError(
                f"the docstring of {function.__name__} must have a section 'Args:' with an entry, to which the "
                "descriptions of shared arguments are added; it has none"
            )
        own, parameters, written = _split(entries), inspect.signature(function).parameters, []
        for name, parameter in parameters.items():
            shown = str(parameter).split(":")[0].split("=")[0].strip()
            if shown in own:
                written.append(own[shown])
            elif name in known:
                written.append(_entry(name, known[name]))
            if parameter.kind is parameter.VAR_KEYWORD:
                written += [_entry(n, text) for n, text in known.items() if n not in parameters]
        function.__doc__ = before + "".join(written) + after
        return function

    return complete


def _entry(name: str, text: str) -> str:
    return textwrap.fill(f"{name}: {text}", 112, initial_indent="    ", subsequent_indent="        ") + "\n"


def _cut(text: str) -> tuple[str, str, str]:
    """What stands before the entries of Args, these, and what follows."""
    start = text.index(_SECTION) + len(_SECTION) if _SECTION in text else len(text)
    end = text.find("\n\n", start)
    end = len(text) if end < 0 else end + 1
    return text[:start], text[start:end], text[end:]


def _split(entries: str) -> dict[str, str]:
    places = [*_ENTRY.finditer(entries)]
    ends = [place.start() for place in places[1:]] + [len(entries)]
    return {place[1]: entries[place.start() : end] for place, end in zip(places, ends, strict=True)}
