"""The fourth verb: weigh a simulated path.

    w = log rho(x_N) - log p_0(x_0) + sum_k [log B(x_k | x_{k+1}) - log F(x_{k+1} | x_k)]

With F the law that simulated the path and B any backward kernel, E[exp w] = Z = integral of rho, for any number of
steps: no divergence, no discretisation bias. (Richter & Berner 2024, arXiv 2307.01198; Vargas et al. 2024, arXiv
2307.01050; Crooks 1998.) A discretised Girsanov weight has neither property.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from bridgejax._types import Args, LogDensity, PyTree, State
from bridgejax.processes._keys import streams
from bridgejax.processes.sde import SDE, Kernel, Process, check_callable, check_process
from bridgejax.solve import kernels
from bridgejax.solve._accepted import check_state, check_times
from bridgejax.solve._batch import check_batch, map_samples
from bridgejax.solve._simulate import Path

_NO_DENSITY = (
    "step {k} of the path (t = {t:.6g} to {u:.6g}) has no density: it is noise-free, or was not made by this kernel. "
    "End the grid before the step that ends on data, and simulate with the kernel you weigh with"
)


def _log_ratios(path: Path, forward: Kernel, backward: Kernel, args: Args) -> Array:
    """log B - log F of every step, (n,)."""
    assert forward.log_prob is not None
    assert backward.log_prob is not None
    f, b, T = forward.log_prob, backward.log_prob, backward.T

    @jax.checkpoint
    def one(t: Array, u: Array, x: State, y: State) -> Array:
        return b(T - u, T - t, y, x, args) - f(t, u, x, y, args)

    def step(_: None, interval: PyTree) -> tuple[None, Array]:
        return None, one(*interval)

    before = jax.tree.map(lambda leaf: leaf[:-1], path.xs)
    after = jax.tree.map(lambda leaf: leaf[1:], path.xs)
    return jax.lax.scan(step, None, (path.ts[:-1], path.ts[1:], before, after))[1]


_log_ratios_jit = jax.jit(_log_ratios)


def _check_kernels(forward: Kernel, backward: Kernel) -> None:
    for name, kernel in (("forward", forward), ("backward", backward)):
        if not isinstance(kernel, Kernel):
            raise ValueError(f"{name} must be a Kernel, got {type(kernel).__name__}; see bridgejax.kernels")
        if kernel.log_prob is None:
            raise ValueError(f"{name} has no log_prob: its steps are noise-free and have no density")
    if forward.T != backward.T:
        raise ValueError(f"forward and backward run on different clocks: T = {forward.T:g} and {backward.T:g}")


def path_log_ratio(path: Path, forward: Kernel, backward: Kernel, args: Args = None) -> Array:
    """sum_k log B(x_k | x_{k+1}) - log F(x_{k+1} | x_k), a number; ``vmap`` it for many paths.

    Args:
        path: one path, simulated by ``forward``: ``simulate_path`` with the same solver, or ``kernels.walk``. The steps
            of an adaptive solve are nobody's kernel: its weights are right only as the grid becomes fine.
        forward: the law that made it.
        backward: law of the step back; its clock runs the other way, from T - u to T - t.
        args: the sample's own condition.

    Returns:
        The sum; under ``jit`` and ``vmap`` nan where a step has no density.

    Raises:
        ValueError: a noise-free step (outside ``jit``), kernels of different clocks.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> law = bj.kernels.ou(bj.schedules.ou())                 # reversible, N(0, 1) is stationary
        >>> path = bj.kernels.walk(law, jax.random.key(0), jnp.ones(1), bj.grids.uniform(8))
        >>> ratio = bj.path_log_ratio(path, law, law)                          # log p(x_0) - log p(x_N)
        >>> bool(abs(ratio - 0.5 * (path.xs[-1] ** 2 - path.xs[0] ** 2)[0]) < 1e-4)
        True
    """
    if not isinstance(path, Path):
        raise ValueError(f"path must be a Path, got {type(path).__name__}; see simulate_path and kernels.walk")
    _check_kernels(forward, backward)
    times, _ = check_times(forward.T, path.ts)
    for leaf in jax.tree.leaves(check_state(path.xs, "path.xs")):
        if jnp.ndim(leaf) == 0 or leaf.shape[0] != times.shape[0]:
            raise ValueError(f"path must have one state for each of its {times.shape[0]} times, got {jnp.shape(leaf)}")
    ratios = _log_ratios_jit(path, forward, backward, args)
    if not isinstance(ratios, Tracer):
        bad = jnp.isnan(ratios)
        if bool(jnp.any(bad)):
            k = int(jnp.argmax(bad))
            raise ValueError(_NO_DENSITY.format(k=k, t=float(path.ts[k]), u=float(path.ts[k + 1])))
    return jnp.sum(ratios)


# a whole process ----------------------------------------------------------------------------------------------------


def _default_kernel(sde: SDE) -> Kernel:
    return kernels.euler(sde) if sde.semilinear is None else kernels.exponential(sde)


def kernels_of(process: Process, forward: Kernel | None, backward: Kernel | None) -> tuple[Kernel, Kernel]:
    """The kernels that a process is weighed with, or a ``ValueError`` where it cannot be."""
    check_process(process)
    if not hasattr(process.start, "log_prob"):
        raise ValueError("the start law of this process has no log_prob; use starts.normal or a GaussianMixture")
    if backward is None:
        if process.backward is None:
            raise ValueError("this process has no backward; pass backward=, the kernel of the step back")
        backward = process.backward.kernel
        backward = kernels.euler(process.backward) if backward is None else backward
    forward = process.dynamics.kernel if forward is None else forward
    forward = _default_kernel(process.dynamics) if forward is None else forward
    _check_kernels(forward, backward)
    assert backward is not None
    return forward, backward


@partial(jax.jit, static_argnames=("num", "micro_batch"))
def _weighted(
    process: Process,
    forward: Kernel,
    backward: Kernel,
    log_density: LogDensity,
    keys: Array,
    args: Args,
    terminal_states: State,
    *,
    num: int,
    micro_batch: int | None,
) -> tuple[State, Array]:
    def one(common: PyTree, sample: PyTree) -> tuple[State, Array]:
        (process, forward, backward, log_density), (key, args, end) = common, sample
        start_key, run_key, _ = streams(key, "process", 3)  # as sample does: the same paths
        if end is None:
            path = kernels.walk(forward, run_key, process.start(start_key, args), process.ts, args)
        else:
            walked = kernels.walk(backward, run_key, end, process.dynamics.T - process.ts[::-1], args)
            path = Path(process.ts, jax.tree.map(lambda leaf: leaf[::-1], walked.xs), None)
        x0, x = (jax.tree.map(lambda leaf, k=k: leaf[k], path.xs) for k in (0, -1))
        ratio = jnp.sum(_log_ratios(path, forward, backward, args))
        weight = log_density(x) - process.start.log_prob(x0, args) + ratio  # pyright: ignore
        return (x if end is None else x0), weight

    return map_samples(
        one, (process, forward, backward, log_density), (keys, args, terminal_states), num, micro_batch=micro_batch
    )


def weighted_samples(
    process: Process,
    keys: Array,
    log_density: LogDensity,
    args: Args = None,
    *,
    forward: Kernel | None = None,
    backward: Kernel | None = None,
    terminal_states: State = None,
    exclude: bool = False,
    micro_batch: int | None = None,
) -> tuple[State, Array]:
    """Samples of a process with their log weights against a target density.

    Args:
        process: start law with a ``log_prob`` (``starts.normal``, a GaussianMixture), SDE and its ``backward``; its
            grid must end before a noise-free last step.
        keys: array of keys, one per sample.
        log_density: ``log_density(x)``, the log of rho, not necessarily normalised, of one sample.
        args: conditions with a leading axis, or None.
        forward: kernel to simulate with; default ``process.dynamics.kernel``, else exponential for an SDE made from a
            Schedule, else Euler.
        backward: kernel of the backward step; default ``process.backward.kernel``, else Euler of ``process.backward``.
        terminal_states: exact samples of the target, leading axis ``len(keys)``: paths then run backward from them, and
            the mean log weight is an upper bound of log Z (``weights.eubo``), which shows where a sampler misses modes;
            E[exp(-w)] = 1/Z. None: paths of the process.
        exclude: True gives a path whose log weight is nan or +inf the weight zero, -inf, where False refuses nan.
        micro_batch: samples per program.

    Returns:
        ``(x, log_weights)``, leading axis ``len(keys)``; x are the states that the paths arrive at.

    Raises:
        ValueError: no ``backward``, a start without a density, a noise-free step.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> start, schedule = bj.starts.normal((1,)), bj.schedules.ou()
        >>> rho = lambda x: -0.5 * jnp.sum(x**2)                               # Z = sqrt(2 pi)
        >>> data = bj.mixtures.gaussian_mixture([[0.0]], 1.0)
        >>> sampler = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        >>> process = bj.Process(start, sampler, bj.grids.uniform(8, 0.9), bj.noising(schedule))
        >>> x, w = bj.weighted_samples(process, bj.keys(jax.random.key(0), 64), rho)
        >>> x.shape, bool(abs(bj.weights.log_z(w) - 0.5 * jnp.log(2 * jnp.pi)) < 5 * bj.weights.log_z_error(w))
        ((64, 1), True)
    """
    forward, backward = kernels_of(process, forward, backward)
    log_density = check_callable(log_density, "log_density", "log_density(x)")
    given, names = (
        ((args,), ("args",)) if terminal_states is None else ((args, terminal_states), ("args", "terminal_states"))
    )
    keys, num = check_batch(keys, given, names, (0,) * len(given), micro_batch, None)
    if process.dynamics.kernel is not None:
        state = jax.eval_shape(process.start, keys[0], None)
        try:
            jax.eval_shape(log_density, state)
        except (TypeError, ValueError, AttributeError):
            raise ValueError(
                f"log_density does not take the states of this process, {jax.tree.structure(state)} of arrays; an "
                "underdamped sampler is weighed against targets.with_velocity(log_density, dim)"
            ) from None
    args, terminal_states = jax.tree.map(jnp.asarray, (args, terminal_states))
    x, log_weights = _weighted(
        process, forward, backward, log_density, keys, args, terminal_states, num=num, micro_batch=micro_batch
    )
    if exclude:
        return x, jnp.where(jnp.isnan(log_weights) | (log_weights == jnp.inf), -jnp.inf, log_weights)
    if not isinstance(log_weights, Tracer) and bool(jnp.any(jnp.isnan(log_weights))):
        count = int(jnp.sum(jnp.isnan(log_weights)))
        raise ValueError(
            f"{count} of {num} log weights are nan: a step without noise (end the grid before the step that ends on "
            "data), or a log_density that is nan at a sample"
        )
    return x, log_weights


def log_weights(process: Process, keys: Array, log_density: LogDensity, **options: Any) -> Array:
    """The log weights of ``weighted_samples``: E[exp w] = Z, see ``bridgejax.weights``.

    Args:
        process: as there.
        keys: as there.
        log_density: as there.
        options: as there.

    Returns:
        Log weights, (len(keys),).

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> start, schedule = bj.starts.normal((1,)), bj.schedules.ou()
        >>> rho = lambda x: -0.5 * jnp.sum(x**2)                               # Z = sqrt(2 pi)
        >>> data = bj.mixtures.gaussian_mixture([[0.0]], 1.0)
        >>> sampler = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        >>> process = bj.Process(start, sampler, bj.grids.uniform(8, 0.9), bj.noising(schedule))
        >>> w = bj.log_weights(process, bj.keys(jax.random.key(0), 64), rho)
        >>> w.shape, bool(bj.weights.elbo(w) <= bj.weights.log_z(w))
        ((64,), True)
    """
    return weighted_samples(process, keys, log_density, **options)[1]
