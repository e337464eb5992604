"""Problems whose optima have moved, LSMOP from its definition, and exact fronts of two objectives.

The usual suites leak: all ZDT share the optimal set x_2 = ... = x_D = 0, and so do others, so that a model that has
seen one knows them all. ``shifted`` moves the optimum of the distance variables, and hides which variables are which:

    u = (x - l) / (h - l)         v = o + a Q (u_order - c)         folded into [0, 1],  x' = l + v (h - l)

with c random, Q a rotation of blocks or 1, ``order`` a random permutation, o the optimum in the problem's own box,
a = 1 (2 for LSMOP, whose optimal x_i depend on x_1: its box is made larger instead of folding). Positions on the front
stay as they are, and so does the front.

(LSMOP: Cheng, Jin & Olhofer 2017, Test problems for large-scale multiobjective and many-objective optimization.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bridgejax._checks import check_count, describe, is_real
from bridgejax.applications._extras import require

pymoo_problem: Any = require("pymoo.core.problem")

__all__ = ["LSMOP", "front", "get", "shifted"]


def __dir__() -> list[str]:
    return __all__


# LSMOP ----------------------------------------------------------------------------------------------------------------

_GROUPS = 5  # subcomponents of a group of variables


def _sphere(y: np.ndarray) -> np.ndarray:
    return np.sum(y**2, 1)


def _schwefel(y: np.ndarray) -> np.ndarray:
    return np.max(np.abs(y), 1)


def _rosenbrock(y: np.ndarray) -> np.ndarray:
    return np.sum(100.0 * (y[:, :-1] ** 2 - y[:, 1:]) ** 2 + (y[:, :-1] - 1.0) ** 2, 1)


def _rastrigin(y: np.ndarray) -> np.ndarray:
    return np.sum(y**2 - 10.0 * np.cos(2.0 * np.pi * y) + 10.0, 1)


def _griewank(y: np.ndarray) -> np.ndarray:
    return np.sum(y**2, 1) / 4000.0 - np.prod(np.cos(y / np.sqrt(np.arange(1, y.shape[1] + 1))), 1) + 1.0


def _ackley(y: np.ndarray) -> np.ndarray:
    far = 20.0 - 20.0 * np.exp(-0.2 * np.sqrt(np.mean(y**2, 1)))
    return far + np.e - np.exp(np.mean(np.cos(2.0 * np.pi * y), 1))


_BASIS = {  # of odd and of even objectives
    1: (_sphere, _sphere),
    2: (_griewank, _schwefel),
    3: (_rastrigin, _rosenbrock),
    4: (_ackley, _griewank),
    5: (_sphere, _sphere),
    6: (_rosenbrock, _schwefel),
    7: (_ackley, _rosenbrock),
    8: (_griewank, _sphere),
    9: (_sphere, _ackley),
}


class LSMOP(pymoo_problem.Problem):
    """LSMOP1 to LSMOP9: many variables, in groups of unequal size, linked to the first.

        y_i = (1 + i / D) x_i - 10 x_1                  1-4        y_i = (1 + cos(pi i / (2 D))) x_i - 10 x_1      5-9
        G_m = sum over 5 parts of group m of basis(y part) / (5 size of a part)

    with x_1..x_{M-1} in [0, 1], the others in [0, 10]. Fronts are linear (1-4), spherical (5-8), disconnected (9).

    Args:
        number: 1 to 9.
        n_var: D, large enough for a variable in every part.
        n_obj: M, at least 2.

    Raises:
        ValueError: another number, or too few variables.

    Example:
        >>> import numpy as np
        >>> from bridgejax.applications.evolution import problems
        >>> print(problems.LSMOP(1, n_var=100).evaluate(np.zeros((1, 100))))               # x_1 = 0: f = (0, 1)
        [[0. 1.]]
    """

    def __init__(self, number: int, n_var: int = 300, n_obj: int = 2):
        if not isinstance(number, int) or isinstance(number, bool) or number not in _BASIS:
            raise ValueError(f"number must be one of 1 to 9, got {describe(number)}")
        n_var, n_obj = check_count("n_var", n_var), check_count("n_obj", n_obj, 2)
        chaos = [3.8 * 0.1 * 0.9]
        for _ in range(n_obj - 1):
            chaos.append(3.8 * chaos[-1] * (1.0 - chaos[-1]))
        self.sizes = np.floor(np.array(chaos) / sum(chaos) * (n_var - n_obj + 1) / _GROUPS).astype(int)
        least = 2 if _rosenbrock in _BASIS[number] else 1
        if self.sizes.min() < least:
            raise ValueError(f"n_var must be larger for LSMOP{number} of {n_obj} objectives, got {n_var}; take 100")
        self.number = number
        high = np.where(np.arange(n_var) < n_obj - 1, 1.0, 10.0)
        super().__init__(n_var=n_var, n_obj=n_obj, xl=np.zeros(n_var), xu=high)

    def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        d, m = self.n_var, self.n_obj
        rank, place = np.arange(m, d + 1) / d, x[:, : m - 1]
        linked = (1.0 + (rank if self.number < 5 else np.cos(0.5 * np.pi * rank))) * x[:, m - 1 :] - 10.0 * x[:, :1]
        distance, first = np.zeros((len(x), m)), 0
        for k, size in enumerate(self.sizes):
            for _ in range(_GROUPS):
                part, first = linked[:, first : first + size], first + size
                distance[:, k] += _BASIS[self.number][k % 2](part) / (size * _GROUPS)
        one = np.ones((len(x), 1))
        if self.number < 5:
            out["F"] = (1.0 + distance) * _corner(place, 1.0 - place, one)
        elif self.number < 9:
            near = distance + np.concatenate([distance[:, 1:], 0.0 * one], 1)
            out["F"] = (1.0 + near) * _corner(np.cos(0.5 * np.pi * place), np.sin(0.5 * np.pi * place), one)
        else:
            far = 2.0 + distance.sum(1)
            last = far * (m - np.sum(place / far[:, None] * (1.0 + np.sin(3.0 * np.pi * place)), 1))
            out["F"] = np.concatenate([place, last[:, None]], 1)


def _corner(along: np.ndarray, across: np.ndarray, one: np.ndarray) -> np.ndarray:
    """(a_1 ... a_{M-1}, a_1 ... a_{M-2} b_{M-1}, ..., b_1)."""
    products = np.cumprod(np.concatenate([one, along], 1), 1)[:, ::-1]
    return products * np.concatenate([one, across[:, ::-1]], 1)


# problems by name, what is known of them -----------------------------------------------------------------------------


def get(name: str, n_var: int = 30) -> Any:
    """A problem of two objectives by its name: "zdt1" to "zdt6", "dtlz1" to "dtlz7", "wfg1" to "wfg9", "lsmop1" to 9.

    Args:
        name: of the suite, with the number.
        n_var: D.

    Returns:
        A problem of pymoo.

    Raises:
        ValueError: zdt5, which is made of bits, or another name.

    Example:
        >>> from bridgejax.applications.evolution import problems
        >>> problems.get("wfg4", 24).n_obj
        2
    """
    family, number = (name[:-1].lower(), name[-1:]) if isinstance(name, str) else ("", "")
    last = {"zdt": 6, "dtlz": 7, "wfg": 9, "lsmop": 9}.get(family, 0)
    if not number.isdigit() or not 1 <= int(number) <= last or name.lower() == "zdt5":
        raise ValueError(f"name must be one of zdt1-4, zdt6, dtlz1-7, wfg1-9, lsmop1-9, got {describe(name)}")
    check_count("n_var", n_var, 2)
    if family == "lsmop":
        return LSMOP(int(number), n_var)
    make = require("pymoo.problems").get_problem
    return make(name.lower(), n_var=n_var) if family == "zdt" else make(name.lower(), n_var=n_var, n_obj=2)


def _known(problem: Any) -> tuple[int, np.ndarray, float]:
    """How many variables place a point on the front, the optimum of the others in [0, 1], and the stretch."""
    name, d, m = type(problem).__name__.upper(), problem.n_var, problem.n_obj
    if isinstance(problem, LSMOP):
        return m - 1, np.zeros(d - m + 1), 2.0
    if name.startswith("ZDT") and name != "ZDT5":
        return 1, np.full(d - 1, 0.5 if name == "ZDT4" else 0.0), 1.0
    if name.startswith("DTLZ"):
        return m - 1, np.full(d - m + 1, 0.0 if name in ("DTLZ6", "DTLZ7") else 0.5), 1.0
    if name.startswith("WFG") and name not in ("WFG8", "WFG9"):
        return problem.k, np.full(d - problem.k, 0.35), 1.0
    raise ValueError(
        f"problem must be of ZDT, DTLZ, LSMOP or WFG1-7, whose optimal distance variables are known, got {name}; pass "
        "position= and optimum="
    )


_BLOCK = 10  # variables that are turned together


class Shifted(pymoo_problem.Problem):
    """A problem whose optimum has moved; see ``shifted``, which makes it.

    Args:
        problem: pymoo's.
        order: where each variable is in the problem's own order.
        center: (D - position,), the optimum of distance variables, in [0, 1].
        turns: rotations of blocks of 10 distance variables; none for no rotation.
        position: how many variables place a point on the front.
        optimum: (D - position,), of the problem itself, in [0, 1].
        stretch: of the box.
    """

    def __init__(
        self,
        problem: Any,
        order: np.ndarray,
        center: np.ndarray,
        turns: list[np.ndarray],
        position: int,
        optimum: np.ndarray,
        stretch: float,
    ):
        self.problem, self.order, self.center, self.turns = problem, order, center, turns
        self.position, self.optimum, self.stretch = position, optimum, stretch
        super().__init__(n_var=problem.n_var, n_obj=problem.n_obj, xl=problem.xl[order], xu=problem.xu[order])

    def _turned(self, v: np.ndarray, *, back: bool) -> np.ndarray:
        v = v.copy()
        for k, turn in enumerate(self.turns):
            part = slice(k * _BLOCK, k * _BLOCK + len(turn))
            v[:, part] = v[:, part] @ (turn.T if back else turn)
        return v

    def own(self, x: np.ndarray) -> np.ndarray:
        """Where x (n, D) lies in the problem's own box."""
        low, wide = self.problem.xl, self.problem.xu - self.problem.xl
        u = np.empty_like(x, dtype=float)
        u[:, self.order] = x
        u = (u - low) / wide
        distance = self.optimum + self.stretch * self._turned(u[:, self.position :] - self.center, back=False)
        if self.stretch == 1.0:
            distance = 1.0 - np.abs(1.0 - np.abs(distance) % 2.0)  # folded into [0, 1]
        u[:, self.position :] = distance
        return low + wide * u

    def moved(self, x: np.ndarray) -> np.ndarray:
        """Where x (n, D) of the problem's own box has gone to; outside of the box perhaps, where it is not optimal."""
        low, wide = self.problem.xl, self.problem.xu - self.problem.xl
        u = (x - low) / wide
        away = (u[:, self.position :] - self.optimum) / self.stretch
        u[:, self.position :] = self.center + self._turned(away, back=True)
        return (low + wide * u)[:, self.order]

    def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        self.problem._evaluate(self.own(x), out, *args, **kwargs)


def shifted(
    problem: Any, seed: int, *, rotate: bool = False, position: int | None = None, optimum: Any = None
) -> Shifted:
    """The same problem with its optimum at a random place, its variables in a random order, perhaps rotated.

    Args:
        problem: of pymoo; for ZDT, DTLZ, LSMOP and WFG1-7 what follows is known.
        seed: of the move.
        rotate: whether distance variables are turned in blocks of 10; LSMOP's are linked already and are not.
        position: how many of the first variables place a point on the front.
        optimum: of the others, one number or (D - position,), as shares of the box.

    Returns:
        A problem of the same front.

    Raises:
        ValueError: a problem with constraints, or one whose optimum is not known and not given.

    Example:
        >>> import numpy as np
        >>> from pymoo.problems import get_problem
        >>> from bridgejax.applications.evolution import problems
        >>> problem = problems.shifted(get_problem("zdt1"), seed=3)
        >>> inside = np.zeros((1, 30))                                                        # f = (0, 1)
        >>> print(problem.evaluate(problem.moved(inside)))
        [[0. 1.]]
    """
    if not isinstance(problem, pymoo_problem.Problem) or problem.has_constraints():
        raise ValueError(f"problem must be one of pymoo without constraints, got {describe(problem)}")
    if not isinstance(rotate, bool):
        raise ValueError(f"rotate must be True or False, got {describe(rotate)}")
    if position is None or optimum is None:
        position, optimum, stretch = _known(problem)
    else:
        position, stretch = check_count("position", position, 0), 1.0
        if not is_real(optimum) or np.shape(optimum) not in ((), (problem.n_var - position,)):
            raise ValueError(f"optimum must be a share of the box or one for each distance variable, got {optimum!r}")
        optimum = np.broadcast_to(np.asarray(optimum, float), (problem.n_var - position,))
        if not np.all((optimum >= 0.0) & (optimum <= 1.0)):
            raise ValueError("optimum must be shares of the box, in [0, 1]")
    random, count = np.random.default_rng(check_count("seed", seed, 0)), problem.n_var - position
    center = random.uniform(0.05, 0.45, count) if stretch == 2.0 else random.uniform(0.0, 1.0, count)
    turns: list[np.ndarray] = []
    if rotate and stretch == 1.0:
        for first in range(0, count, _BLOCK):
            size = min(_BLOCK, count - first)
            turns.append(np.linalg.qr(random.normal(size=(size, size)))[0])
    return Shifted(problem, random.permutation(problem.n_var), center, turns, position, optimum, stretch)


# fronts ---------------------------------------------------------------------------------------------------------------


def front(problem: Any, points: int = 1000) -> np.ndarray:
    """The front of a problem of two objectives in closed form, dense and even.

    pymoo's fronts of WFG are drawn at random and have holes.

    Args:
        problem: of ZDT, DTLZ, WFG or LSMOP, shifted or not, with two objectives.
        points: how many, evenly along the curve before the dominated are dropped.

    Returns:
        (n, 2), n at most ``points``, in increasing f_1.

    Raises:
        ValueError: another problem.

    Example:
        >>> from bridgejax.applications.evolution import problems
        >>> print(problems.front(problems.get("zdt2"), points=2))
        [[0. 1.]
         [1. 0.]]
    """
    problem = problem.problem if isinstance(problem, Shifted) else problem
    name = f"LSMOP{problem.number}" if isinstance(problem, LSMOP) else type(problem).__name__.upper()
    if name not in _CURVES or problem.n_obj != 2:
        raise ValueError(f"problem must be of ZDT, DTLZ, WFG or LSMOP with two objectives, got {name}")
    curve = np.stack(np.broadcast_arrays(*_CURVES[name](np.linspace(0.0, 1.0, 20001))), 1)
    best = np.minimum.accumulate(curve[np.argsort(curve[:, 0], kind="stable")][:, 1])
    curve = curve[np.argsort(curve[:, 0], kind="stable")]
    curve = curve[np.concatenate([[True], best[1:] < best[:-1]])]
    step = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    gaps = step > 50.0 * np.median(step)  # between the parts of a disconnected front
    along = np.concatenate([[0.0], np.cumsum(np.where(gaps, 0.0, step))])
    chosen = np.searchsorted(along, np.linspace(0.0, along[-1], check_count("points", points, 2)))
    return curve[np.unique(np.minimum(chosen, len(curve) - 1))]


def _circle(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.sin(0.5 * np.pi * s), np.cos(0.5 * np.pi * s)


def _disconnected(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return s, 4.0 - s * (1.0 + np.sin(3.0 * np.pi * s))


_CURVES: dict[str, Any] = {
    "ZDT1": lambda s: (s**2, 1.0 - s),
    "ZDT2": lambda s: (s, 1.0 - s**2),
    "ZDT3": lambda s: (s, 1.0 - np.sqrt(s) - s * np.sin(10.0 * np.pi * s)),
    "ZDT4": lambda s: (s**2, 1.0 - s),
    "ZDT6": lambda s: (0.2807753191 + 0.7192246809 * s, 1.0 - (0.2807753191 + 0.7192246809 * s) ** 2),
    "DTLZ1": lambda s: (0.5 * s, 0.5 - 0.5 * s),
    **{f"DTLZ{k}": _circle for k in range(2, 7)},
    "DTLZ7": _disconnected,
    "WFG1": lambda s: (
        2.0 - 2.0 * np.cos(0.5 * np.pi * s),
        4.0 * (1.0 - s - np.cos(10.0 * np.pi * s + 0.5 * np.pi) / (10.0 * np.pi)),
    ),
    "WFG2": lambda s: (2.0 - 2.0 * np.cos(0.5 * np.pi * s), 4.0 * (1.0 - s * np.cos(5.0 * np.pi * s) ** 2)),
    "WFG3": lambda s: (2.0 * s, 4.0 - 4.0 * s),
    **{f"WFG{k}": lambda s: (2.0 * np.sin(0.5 * np.pi * s), 4.0 * np.cos(0.5 * np.pi * s)) for k in range(4, 10)},
    **{f"LSMOP{k}": lambda s: (s, 1.0 - s) for k in range(1, 5)},
    **{f"LSMOP{k}": _circle for k in range(5, 9)},
    "LSMOP9": _disconnected,
}
