"""What a diffusion model does between noise and data, beside what Gaussian data would make it do.

For data N(mean, U diag(lambda) U^T) the probability flow is known. With x_t = alpha x_0 + sigma eps, the noise level
s = sigma / alpha, c_k the coordinate of x_t / alpha - mean along u_k and D = E[x_0 | x_t]:

    path        c_k(s) = c_k(s') sqrt((lambda_k + s^2) / (lambda_k + s'^2))
    feature     u_k . (D - mean) reaches the share sqrt(lambda_k / (lambda_k + s^2)) of its final value at level s: a
                half at s = sqrt(3 lambda_k), so that directions of large variance emerge first
    kick        x_t moved by delta along u_k ends moved by delta sqrt(lambda_k / (alpha^2 lambda_k + sigma^2)): early
                kicks last along directions of large variance only

Each is measured here on any model, and so is how much of its score a simpler one explains:

    explained   1 - E|s_model - s|^2 / E|s|^2,    s = (alpha D - x_t) / sigma^2

(Wang & Vastola 2023, Diffusion models generate images like painters, arXiv 2303.02490; 2024, The unreasonable
effectiveness of Gaussian score approximation for diffusion models and its applications, arXiv 2412.09726.)
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import as_real, check_count, check_number, check_positive
from bridgejax._numerics import normal_like
from bridgejax._types import Args, Field, Numbers, State
from bridgejax.bridges import probability_flow
from bridgejax.evaluation.arrays import flat
from bridgejax.processes import SDE, Process, Schedule
from bridgejax.processes._keys import check_key, check_one_key, stream
from bridgejax.processes._keys import keys as make_keys
from bridgejax.processes._schedule import check_schedule
from bridgejax.processes.sde import check_callable, check_process
from bridgejax.solve import simulate_batch

_HALF = 0.5


def _paths(x: Numbers, name: str) -> np.ndarray:
    """``[n, T, d]`` in float64."""
    x = np.asarray(as_real(x, name))
    if x.ndim < 2 or x.shape[1] < 2:
        raise ValueError(f"{name} must have shape (n, T, *shape) with two times at least, got {x.shape}")
    return flat(x, name).reshape(*x.shape[:2], -1)


def _directions(directions: Numbers, d: int) -> np.ndarray:
    """U ``[d, k]`` in float64, columns of length 1."""
    u = np.asarray(as_real(directions, "directions"), np.float64)
    if u.ndim != 2 or u.shape[0] != d or u.shape[1] < 1:
        raise ValueError(f"directions must have shape ({d}, k), a column for each of k >= 1, got {u.shape}")
    if not np.allclose(np.linalg.norm(u, axis=0), 1.0, atol=1e-3):
        raise ValueError("directions must have columns of length 1; divide each by its norm")
    return u


def trajectory_dimension(states: Numbers, *, most: int = 5) -> np.ndarray:
    """How many dimensions a denoising path takes: the share of its variance in its leading principal components.

    Each path is centred at its mean over time and decomposed by itself; the squares of its first k singular values,
    divided by those of all, are averaged over the paths. A straight path has the share 1 with one component; for
    Gaussian data on EDM's clock nearly all paths in many dimensions are that straight.

    Args:
        states: ``[n, T, *shape]``: n paths at T times, such as ``simulate_path(...).xs`` under ``vmap``, or their
            denoised states.
        most: components to count.

    Returns:
        float64 ``[most]``: the shares of the first, of the first two, ...

    Raises:
        ValueError: fewer than two times, paths that do not move, NaN or infinity.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> angle = np.linspace(0, np.pi, 50)
        >>> arc = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)[None]
        >>> print(bj.evaluation.trajectory_dimension(arc, most=3).round(2))
        [0.83 1.   1.  ]
    """
    check_count("most", most)
    x = _paths(states, "states")
    centred = x - x.mean(axis=1, keepdims=True)
    gram = centred @ np.swapaxes(centred, 1, 2)  # [T, T] each, whatever d is
    squares = np.maximum(np.linalg.eigvalsh(gram)[:, ::-1], 0.0)
    total = squares.sum(axis=1)
    if not (total > 0).all():
        raise ValueError(f"states must move, and {int(np.sum(total <= 0))} of {len(x)} paths stand still")
    shares = np.cumsum(squares / total[:, None], axis=1).mean(axis=0)[:most]
    return np.append(shares, np.ones(most - len(shares)))


def emergence_levels(denoised: Numbers, levels: Numbers, directions: Numbers) -> np.ndarray:
    """At which noise level the denoised state has half of its final value along each direction.

    With a_i the coordinate along u of D of path i, less the mean over the paths, the share that is there at a level is
    the regression on its end, sum_i a_i(s) a_i(end) / sum_i a_i(end)^2. The level is interpolated (linearly in log s)
    where the share first reaches a half; for Gaussian data with variance lambda along u it is sqrt(3 lambda).

    Args:
        denoised: ``[n, T, *shape]``, E[x_0 | x_t] along n paths from noise to data; the last may be the samples.
        levels: ``[T]``, the noise levels sigma / alpha, falling; the last may be 0.
        directions: U, ``[d, k]``, columns of length 1: the eigenvectors of the data's covariance, say.

    Returns:
        float64 ``[k]``; inf where a half is there at the first level already.

    Raises:
        ValueError: shapes that do not fit, levels that do not fall, fewer than two paths, NaN or infinity.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> levels = np.geomspace(80.0, 0.01, 60)
        >>> end = np.random.default_rng(0).normal(size=(5, 1, 1))                 # data of variance 1
        >>> denoised = end * np.sqrt(1.0 / (1.0 + levels**2))[None, :, None]
        >>> round(float(bj.evaluation.emergence_levels(denoised, levels, np.eye(1))[0]), 2)      # sqrt(3)
        1.73
    """
    x = _paths(denoised, "denoised")
    if len(x) < 2:
        raise ValueError("denoised holds one path; a mean over paths is subtracted: pass two at least")
    u = _directions(directions, x.shape[2])
    s = np.asarray(as_real(levels, "levels"), np.float64)
    if s.shape != x.shape[1:2] or not np.isfinite(s).all() or np.any(np.diff(s) >= 0) or s[-1] < 0:
        raise ValueError(f"levels must be {x.shape[1]} falling numbers >= 0, one for each time of denoised, got {s}")
    along = (x - x.mean(axis=0)) @ u  # [n, T, k]
    end = along[:, -1]
    total = np.sum(end**2, axis=0)
    shares = np.einsum("ntk,nk->tk", along, end) / np.where(total > 0, total, 1.0)
    return np.array([_first(shares[:, k], s) if total[k] > 0 else np.nan for k in range(u.shape[1])])


def _first(shares: np.ndarray, s: np.ndarray) -> float:
    """The level at which the share first reaches a half."""
    if shares[0] >= _HALF:
        return float("inf")
    j = int(np.argmax(shares >= _HALF))
    weight = (_HALF - shares[j - 1]) / (shares[j] - shares[j - 1])
    if s[j] <= 0:
        return float(s[j - 1] + weight * (s[j] - s[j - 1]))
    return float(np.exp(np.log(s[j - 1]) + weight * (np.log(s[j]) - np.log(s[j - 1]))))


def flow_of(process: Process, what: str) -> tuple[SDE, Schedule, Field]:
    """The probability flow of a process made from a Schedule and a denoiser, on the process's clock, and both.

    Raises:
        ValueError: another process.
    """
    check_process(process)
    found = getattr(process.dynamics, "semilinear", None)
    if found is None:
        raise ValueError(
            f"{what} needs a process that runs reverse or probability_flow of a Schedule, with its denoiser: "
            "of methods diffusion or edm, say"
        )
    return probability_flow(found.schedule, denoiser=found.denoiser), found.schedule, found.denoiser


def kick_response(
    process: Process, keys: Array, directions: Numbers, times: Numbers, *, size: float = 0.1, args: Args = None
) -> np.ndarray:
    """How much of a kick at a noise level is left in the sample, by direction.

    The probability flow is run to a time, its state moved by delta = ``size`` sigma along u, and run on; the response
    is u . (x_end of the kicked - x_end of the other) / delta, averaged over the samples. For Gaussian data with
    variance lambda along u it is sqrt(lambda / (alpha^2 lambda + sigma^2)).

    Args:
        process: made from a Schedule and a denoiser; its own grid is run.
        keys: one per sample, ``bridgejax.keys(key, n)``.
        directions: U, ``[d, k]``, columns of length 1.
        times: ``[m]``, noising times inside the grid.
        size: of the kick, in units of sigma there.
        args: conditions with a leading axis, or None.

    Returns:
        float64 ``[m, k]``.

    Raises:
        ValueError: a process without a denoiser, times outside of its grid, shapes that do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, bridgejax as bj
        >>> schedule, law = bj.schedules.karras(), bj.oracles.gaussian_law(jnp.zeros(2), jnp.array([4.0, 0.25]))
        >>> sde = bj.probability_flow(schedule, denoiser=bj.oracles.gaussian_flow(law, schedule).denoiser)
        >>> process = bj.Process(bj.starts.normal((2,), 80.0), sde, bj.grids.karras(100))
        >>> found = bj.evaluation.kick_response(process, bj.keys(jax.random.key(0), 4), np.eye(2), [3.0])
        >>> bool(np.allclose(found, np.sqrt([[4 / 13, 0.25 / 9.25]]), rtol=0.02))
        True
    """
    flow, schedule, _ = flow_of(process, "kick_response")
    check_number(size=size)
    check_positive(size=size)
    ts = np.asarray(process.ts, np.float64)
    at = np.atleast_1d(np.asarray(as_real(times, "times"), np.float64))
    if at.ndim != 1 or not np.all((at > flow.T - ts[-1]) & (at < flow.T - ts[0])):
        raise ValueError(
            f"times must be noising times inside the process's grid, in ({flow.T - ts[-1]:g}, {flow.T - ts[0]:g}), "
            f"got {times}"
        )
    keys = check_key(keys, "keys")
    if keys.ndim != 1 or not len(keys):
        raise ValueError(f"keys must be one per sample, got shape {keys.shape}; see bridgejax.keys")
    x0 = jax.vmap(process.start, (0, None if args is None else 0))(keys, args)
    if not isinstance(x0, Array):
        raise ValueError(f"process must have states that are one array, got {type(x0).__name__}")
    u = _directions(directions, int(np.prod(x0.shape[1:])))
    return np.stack([_kicked(flow, schedule, keys, x0, ts, float(t), u, size, args) for t in at])


def _kicked(
    flow: SDE, schedule: Schedule, keys: Array, x0: Array, ts: np.ndarray, t: float, u: np.ndarray, size: float,
    args: Args,
) -> np.ndarray:  # fmt: skip
    """Responses to a kick at noising time t, ``[k]``."""
    s, n, k = flow.T - t, len(keys), u.shape[1]
    slack = 1e-9 * flow.T
    before, after = np.append(ts[ts < s - slack], s), np.append(s, ts[ts > s + slack])
    x = simulate_batch(flow, keys, x0, before, args)
    delta = size * float(schedule.sigma(t))
    kicks = delta * jnp.asarray(u.T, x.dtype).reshape(k, 1, *x.shape[1:])
    starts = jnp.concatenate([x[None], x[None] + kicks]).reshape(-1, *x.shape[1:])  # kicked and not, in one batch
    many = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * (k + 1)), (keys, args))
    ends = np.asarray(simulate_batch(flow, many[0], starts, after, many[1]), np.float64).reshape(k + 1, n, -1)
    return np.einsum("knd,dk->k", ends[1:] - ends[:1], u) / (n * delta)


def explained_score(
    denoiser: Field,
    schedule: Schedule,
    models: Mapping[str, Field],
    rows: Numbers,
    times: Numbers,
    key: Array,
    *,
    args: Args = None,
) -> dict[str, np.ndarray]:
    """The share of a learnt score that simpler models explain, at each noise level.

        1 - sum |s_model(x_t) - s(x_t)|^2 / sum |s(x_t)|^2,      s = (alpha D(x_t) - x_t) / sigma^2

    over x_t = alpha x_0 + sigma eps, x_0 the rows. 1: the model is what was learnt; 0: no better than no score at all;
    below 0: worse. At high noise every model explains nearly all, for the score is -x_t / sigma^2 there.

    Args:
        denoiser: ``denoiser(t, x, args) = E[x_0 | x_t = x]``, learnt; of a process ``dynamics.semilinear.denoiser``.
        schedule: its schedule.
        models: denoisers by name, ``simple_denoisers(rows, schedule)`` say.
        rows: ``[n, *shape]``, to be noised: held-out rows, in the model's units.
        times: ``[m]``, noising times, > 0.
        key: of the noise.
        args: conditions of the learnt denoiser with a leading axis, or None.

    Returns:
        float64 ``[m]`` for each name.

    Raises:
        ValueError: no models, times outside of the schedule, rows with NaN or infinity.

    Example:
        >>> import jax, numpy as np, bridgejax as bj
        >>> rows, schedule = np.random.default_rng(0).normal(size=(500, 2)) * [2.0, 0.5], bj.schedules.karras()
        >>> models = bj.evaluation.simple_denoisers(rows, schedule)
        >>> truth = bj.oracles.gaussian_flow(bj.oracles.gaussian_law(np.zeros(2), np.array([4.0, 0.25])), schedule)
        >>> shares = bj.evaluation.explained_score(truth.denoiser, schedule, models, rows, [0.5], jax.random.key(0))
        >>> bool(shares["gaussian"][0] > 0.99), bool(shares["isotropic"][0] < 0.9)
        (True, True)
    """
    check_schedule(schedule)
    denoiser = check_callable(denoiser, "denoiser", "denoiser(t, x, args)")
    if not isinstance(models, Mapping) or not models:
        raise ValueError(f"models must be a mapping from names to denoisers, got {models!r}; see simple_denoisers")
    models = {
        name: check_callable(model, f"models[{name!r}]", "denoiser(t, x, args)") for name, model in models.items()
    }
    flat(rows, "rows")
    at = np.atleast_1d(np.asarray(as_real(times, "times"), np.float64))
    if at.ndim != 1 or not np.all((at > 0) & (at <= schedule.T * (1 + 1e-6))):
        raise ValueError(f"times must be noising times in (0, {schedule.T:g}], got {times}")
    x0 = jnp.asarray(rows, jnp.result_type(float))
    every = make_keys(stream(check_one_key(key), "explanation"), len(x0))
    found = [_errors(denoiser, models, schedule, float(t), x0, every, args) for t in at]
    return {name: np.array([1.0 - float(errors[name] / total) for errors, total in found]) for name in models}


@jax.jit
def _errors(
    denoiser: Field, models: dict[str, Field], schedule: Schedule, t: Array, x0: Array, every: Array, args: Args
) -> tuple[dict[str, Array], Array]:
    """Sums over the rows of sigma^4 |s_model - s|^2 for each model, and of sigma^4 |s|^2."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)

    def one(row: Array, key: Array, given: Args) -> tuple[dict[str, Array], Array]:
        x = alpha * row + sigma * normal_like(key, row)
        learnt = denoiser(t, x, given)
        apart = {name: jnp.sum((alpha * (model(t, x, None) - learnt)) ** 2) for name, model in models.items()}
        return apart, jnp.sum((alpha * learnt - x) ** 2)

    def batched(inputs: tuple[Array, Array, Args]) -> tuple[dict[str, Array], Array]:
        return one(*inputs)

    found: State = jax.lax.map(batched, (x0, every, args), batch_size=256)
    return jax.tree.map(jnp.sum, found)
