"""The expression of ``bridgejax sample --compose``, read without JAX: names, numbers and run directories.

    expression = NAME "(" item {"," item} ")"        item = expression | number | path of a run directory

    product(a, b, ...)    power(a, exponent)    negation(a, b, strength)    guidance(conditional, unconditional, scale)
    mixture(a, b, ..., [a number for each, its weight])      outermost only

Names are looked up in a table; nothing is evaluated.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from bridgejax.runs.registry import nearest

Expression: TypeAlias = "str | tuple[str, list[Expression]]"  # a run's path, or a name and its items

NUMBERS = {"product": 0, "power": 1, "negation": 1, "guidance": 1}  # how many items at the end are numbers
CORRECTORS = ("mcmc", "feynman_kac")


def _split(text: str) -> list[str]:
    """Items between commas that are in no bracket."""
    items, depth, start = [], 0, 0
    for k, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            items.append(text[start:k])
            start = k + 1
    return [item.strip() for item in (*items, text[start:])]


def parse(text: str) -> Expression:
    """A run's path, or (name, items) with items parsed in turn.

    Raises:
        ValueError: brackets that do not match, an unknown name, an empty item.
    """
    text = text.strip()
    if "(" not in text and ")" not in text:
        if not text:
            raise ValueError("compose has an empty item; write for example product(runs/a, runs/b)")
        return text
    name, _, rest = text.partition("(")
    depth = 0
    for k, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth < 0 or (depth == 0 and k >= len(name) and k < len(text) - 1):
            raise ValueError(f"compose has brackets that do not match in {text!r}; write product(runs/a, runs/b)")
    if depth != 0:
        raise ValueError(f"compose has brackets that do not match in {text!r}; write product(runs/a, runs/b)")
    return nearest(name.strip(), (*NUMBERS, "mixture"), "operator of compose"), [
        parse(item) for item in _split(rest[:-1])
    ]


def numbers_of(name: str, items: list[Expression]) -> int:
    """How many items at the end are numbers; the strength of a negation may be left out."""
    return NUMBERS.get(name, 0) if name != "negation" or len(items) == 3 else 0


def runs_in(text: str) -> list[str]:
    """The run directories of an expression, each once, in order."""

    def leaves(tree: Expression) -> list[str]:
        if not isinstance(tree, str):
            name, items = tree
            count = numbers_of(name, items)
            inner = items[: len(items) - count] if name != "mixture" else [i for i in items if not _is_number(i)]
            return [leaf for item in inner for leaf in leaves(item)]
        return [tree]

    return list(dict.fromkeys(leaves(parse(text))))


def number(item: Expression, takes: str) -> float:
    """An item as a number.

    Raises:
        ValueError: it is none; the sentence says what the operator ``takes``.
    """
    try:
        return float(str(item))
    except (TypeError, ValueError):
        raise ValueError(f"compose: {takes}, got {item!r} where a number belongs") from None


def _is_number(item: Expression) -> bool:
    try:
        float(str(item))
    except (TypeError, ValueError):
        return False
    return True


def mixed(tree: Expression, share: float = 1.0) -> list[tuple[Expression, float]]:
    """The parts of a mixture, of a mixture in it too, with their shares; anything else is one part.

    Raises:
        ValueError: fewer than two parts, or weights that are not one positive number for each.
    """
    if isinstance(tree, str) or tree[0] != "mixture":
        return [(tree, share)]
    takes = "mixture takes two runs or more, then no numbers or a positive one for each"
    parts = [item for item in tree[1] if not _is_number(item)]
    weights = [number(item, takes) for item in tree[1][len(parts) :]] or [1.0] * len(parts)
    if len(parts) < 2 or len(weights) != len(parts) or not all(0 < w < math.inf for w in weights):
        raise ValueError(f"compose: {takes}, got {', '.join(map(str, tree[1]))}")
    pairs = zip(parts, weights, strict=True)
    return [pair for part, w in pairs for pair in mixed(part, share * w / sum(weights))]
