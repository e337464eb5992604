"""The nouns: an SDE, the law of one of its steps, and an SDE with its start law and clock.

    dx = drift(t, x, args) dt + diffusion(t, x, args) dW,    0 <= t <= T,    Ito.

Everything a callable has learnt or been given rides in it as pytree leaves (``jax.tree_util.Partial``), so an SDE is
itself a pytree: ``jit``, ``vmap``, ``grad`` and ``shard_map`` treat it like an array.
"""

from __future__ import annotations

import functools
import inspect
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import jax
import numpy as np
from jax.tree_util import Partial

from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import (
    Args,
    Decoder,
    DiffusionFn,
    Field,
    Grid,
    Key,
    MethodState,
    StartLaw,
    State,
    TransitionLogProb,
    TransitionSampler,
)
from bridgejax.geometry.manifolds import Manifold

if TYPE_CHECKING:
    from bridgejax.processes._schedule import Schedule

F = TypeVar("F")  # a function, whose type ``bind`` does not change

NOISE_KINDS = ("additive", "state")


def bind(f: F, name: str) -> F:
    """Wrap a plain function in ``Partial``; leave ``None``, Partials and callable pytrees (Equinox) alone.

    Raises:
        ValueError: when ``f`` closes over arrays, directly or through another function, a ``functools.partial`` or a
            method's object. A closure hides arrays from jit and vmap: each new closure would compile again, and a
            traced array in it would leak.
    """
    if f is None or isinstance(f, Partial):
        return f
    if not jax.tree_util.all_leaves([f]):  # a registered pytree: an Equinox module, or a tree being rebuilt by JAX
        return f
    if not callable(f):
        return f  # a placeholder put in by a tree transformation; _check_callable refuses it for users
    if _hides_arrays(f, set()):
        raise ValueError(
            f"{name} closes over JAX arrays, which jit and vmap cannot see; "
            f"pass jax.tree_util.Partial(function, arrays...) with function(arrays..., t, x, args) instead"
        )
    return Partial(f)


def _hides_arrays(f: object, seen: set[int]) -> bool:
    """Whether ``f`` carries JAX arrays out of sight: in its closure, its defaults or its object, however deep."""
    if id(f) in seen:
        return False
    seen.add(id(f))
    content = [getattr(f, name, None) for name in ("__wrapped__", "__func__", "__defaults__", "__kwdefaults__")]
    if isinstance(f, functools.partial):
        content += [f.func, f.args, f.keywords]
    if inspect.ismethod(f):
        content.append(getattr(f.__self__, "__dict__", None) or f.__self__)
    for cell in getattr(f, "__closure__", None) or ():
        try:
            content.append(cell.cell_contents)
        except ValueError:  # an empty cell: a recursive definition that is not finished yet
            continue
    leaves = jax.tree.leaves(content)
    return any(isinstance(leaf, jax.Array) or (callable(leaf) and _hides_arrays(leaf, seen)) for leaf in leaves)


def check_sde(sde: object, name: str = "sde") -> None:
    """Raise a ``ValueError`` unless ``sde`` is an SDE whose drift and diffusion are functions."""
    if not isinstance(sde, SDE):
        raise ValueError(f"{name} must be a bridgejax SDE, got {type(sde).__name__}")
    check_callable(sde.drift, "drift", "drift(t, x, args)")
    if sde.diffusion is not None:
        check_callable(sde.diffusion, "diffusion", "diffusion(t, x, args), or None for an ODE")
    if sde.kernel is not None and not isinstance(sde.kernel, Kernel):
        raise ValueError(f"kernel of the {name} must be a Kernel or None, got {type(sde.kernel).__name__}")
    if sde.manifold is not None and not isinstance(sde.manifold, Manifold):
        raise ValueError(
            f"manifold of the {name} must be one of bridgejax.manifolds or None, got {type(sde.manifold).__name__}"
        )


def check_flat(sde: object, what: str) -> None:
    """Raise a ``ValueError`` if ``sde`` runs on a manifold, for what is a method of flat space."""
    if isinstance(sde, SDE) and sde.manifold is not None:
        raise ValueError(
            f"{what} is for SDEs in R^d, and this one runs on the manifold {sde.manifold!r}; run it with simulate, or "
            "bend it with reverse, probability_flow, doob or control, whose gradients are then Riemannian"
        )


def check_process(process: object) -> None:
    """Raise a ``ValueError`` unless ``process`` is a Process made of functions and SDEs."""
    if not isinstance(process, Process):
        raise ValueError(f"process must be a Process, got {type(process).__name__}; a Run holds one as .process")
    check_callable(process.start, "start", "start(key, args) of the process")
    check_callable(process.decode, "decode", "decode(key, x, args) of the process")
    check_sde(process.dynamics, "dynamics of the process")
    if process.backward is not None:
        check_sde(process.backward, "backward of the process")


def check_callable(f: F, name: str, signature: str) -> F:
    """Raise a ``ValueError`` unless ``f`` is callable; return it bound."""
    if not callable(f):
        raise ValueError(f"{name} must be a function {signature}, got {type(f).__name__}")
    return bind(f, name)


def check_end(T: float) -> float:
    """The end of a clock as a Python float.

    Raises:
        ValueError: not a number, not positive, not finite, or an array: T is part of a type, not a leaf.
    """
    if isinstance(T, jax.Array):
        raise ValueError("T is part of the type and must be a Python number, got a JAX array; use float(T)")
    number = isinstance(T, int | float | np.integer | np.floating) and not isinstance(T, bool)
    if not number or not (math.isfinite(T) and T > 0):
        raise ValueError(f"T must be a positive finite number, got {T!r}")
    return float(T)


class Semilinear(NamedTuple):
    """What exponential solvers need of an SDE made from a Schedule: its linear part and E[x0 | x_t]."""

    schedule: Schedule
    denoiser: Field  # denoiser(t, x, args), t on the noising clock

    __repr__ = summary


@partial(register_dataclass, data_fields=("sample", "log_prob"), meta_fields=("T",))
@dataclass(frozen=True)
class Kernel:
    """The law of x_u given x_t, for t < u, on the clock [0, T].

    Args:
        sample: ``sample(key, t, u, x, args) -> x_u``.
        log_prob: ``log_prob(t, u, x, y, args)``, the log density at x_u = y, nan where that step has none (no noise);
            None where no step has a density.
        T: end of its clock, a Python number (static).

    Example:
        >>> import jax, bridgejax as bj
        >>> def sample(key, t, u, x, args):
        ...     return x + (u - t) ** 0.5 * jax.random.normal(key, x.shape)
        >>> def log_prob(t, u, x, y, args):
        ...     return jax.scipy.stats.norm.logpdf(y, x, (u - t) ** 0.5).sum()
        >>> brownian, x0 = bj.Kernel(sample, log_prob), jax.numpy.zeros(2)
        >>> bj.kernels.walk(brownian, jax.random.key(0), x0, bj.grids.uniform(4)).xs.shape
        (5, 2)
        >>> print(round(float(brownian.log_prob(0.0, 1.0, x0, x0, None)), 4))  # -log(2 pi)
        -1.8379
    """

    sample: TransitionSampler
    log_prob: TransitionLogProb | None = None
    T: float = 1.0

    __repr__ = summary

    def __post_init__(self) -> None:
        object.__setattr__(self, "T", check_end(self.T))
        object.__setattr__(self, "sample", bind(self.sample, "sample"))
        object.__setattr__(self, "log_prob", bind(self.log_prob, "log_prob"))


@partial(
    register_dataclass,
    data_fields=("drift", "diffusion", "terminal_kernel", "semilinear", "kernel", "manifold"),
    meta_fields=("T", "noise"),
)
@dataclass(frozen=True)
class SDE:
    """dx = drift dt + diffusion dW on the clock [0, T] (Ito), for one sample.

    Args:
        drift: ``drift(t, x, args)``, shaped like x.
        diffusion: ``diffusion(t, x, args)``: a scalar (all of x), an array or pytree shaped like x (diagonal), or a
            lineax operator (dense, may be rectangular). None: an ODE, which draws no noise.
        T: end of the clock, a Python number (static).
        noise: "additive" when the diffusion does not depend on x, "state" when it does.
        terminal_kernel: exact law of the last interval, used by ``simulate`` when its grid ends at T, and there only.
        semilinear: ``(schedule, denoiser)`` when made from a Schedule; feeds the exponential solvers.
        kernel: law of any step, where it is known exactly (``noising``) or where a process is a chain of its own
            (underdamped leapfrogs, the backward steps of a learned sampler): ``sample`` then draws from it where no
            solver is named, and the process is weighed with it. As ``terminal_kernel`` and ``semilinear`` it belongs
            to this drift: transforms drop it.
        manifold: one of ``bridgejax.manifolds``, on which it runs; None: R^d. The tangent part of the drift counts,
            the noise has generator (g^2 / 2) Delta where the diffusion is a number g, and an operator maps noise
            shaped like x to tangent vectors. Scores and gradients are Riemannian.

    Raises:
        ValueError: T not a positive finite number, unknown ``noise``, or a function that closes over arrays.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.SDE(lambda t, x, args: -args * x, lambda t, x, args: 0.5, T=2.0)
        >>> bj.simulate(sde, jax.random.key(0), jnp.ones(3), bj.grids.uniform(10, 2.0), 1.5).shape
        (3,)
        >>> ode = bj.SDE(lambda t, x, args: 1.0 + 0.0 * x)
        >>> round(float(bj.simulate(ode, jax.random.key(0), jnp.zeros(()), bj.grids.uniform(4))), 4)
        1.0
    """

    drift: Field
    diffusion: DiffusionFn | None = None
    T: float = 1.0
    noise: str = "additive"
    terminal_kernel: Kernel | None = None
    semilinear: Semilinear | None = None
    kernel: Kernel | None = None
    manifold: Manifold | None = None

    __repr__ = summary

    def __post_init__(self) -> None:
        object.__setattr__(self, "T", check_end(self.T))
        if not isinstance(self.noise, str) or self.noise not in NOISE_KINDS:
            raise ValueError(f"noise must be one of {NOISE_KINDS}, got {self.noise!r}")
        object.__setattr__(self, "drift", bind(self.drift, "drift"))
        object.__setattr__(self, "diffusion", bind(self.diffusion, "diffusion"))


def _identity(key: Key, x: State, args: Args) -> State:
    return x


@partial(register_dataclass, data_fields=("start", "dynamics", "ts", "backward", "decode"), meta_fields=())
@dataclass(frozen=True)
class Process:
    """An SDE with its start law and its clock, ready to run. It runs on the generative clock and ends at data.

    Args:
        start: ``start(key, args) -> x``, a draw of the state at time 0.
        dynamics: the SDE it runs.
        ts: time grid of shape (n + 1,), increasing, within [0, T].
        backward: the SDE from data to ``start``'s law, on its own forward clock; None where there is none.
        decode: ``decode(key, x, args)``, applied to the last state: undo a standardisation, decode a latent, predict.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)
        >>> process = bj.Process(bj.starts.normal((2,)), sde, bj.grids.uniform(20))
        >>> bj.sample(process, bj.keys(jax.random.key(0), 5)).shape
        (5, 2)
    """

    start: StartLaw
    dynamics: SDE
    ts: Grid
    backward: SDE | None = None
    decode: Decoder = _identity

    __repr__ = summary

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", bind(self.start, "start"))
        object.__setattr__(self, "decode", bind(self.decode, "decode"))


class ProcessFn(Protocol):
    """``process(state)``, the Process that a Method has learnt so far."""

    def __call__(self, state: MethodState, /) -> Process:
        """Ready to run."""
        ...
