"""Bridges that end in a set: generative models of bounded, discrete and mixed data without a rounding step.

    model     dx = [rate x + eta(t, x) + g f_theta(t, x)] dt + g dW from x_0 = start, ending in Omega     (bridges)
    train     draw data y in Omega, t, and x_t from the reference pinned at (start, y);
              || f_theta(t, x_t) - g S (y - E[x_T | x_t, Omega]) / V ||^2,     eta the pull to all of Omega

(Liu, Wu, Ye & Liu 2022, arXiv 2208.14699.) The minimiser makes the process the Markov projection of the mixture of
bridges to the data, which ends in their law. With weight 1 half the loss, integrated over time, and the last step's log
probability bound the likelihood,

    -log p(y) <= int_0^t' E || f - target ||^2 / 2 dt - E log k(y | x_t'),      t' the last time before T,

and the bound of the reference itself (f = 0) is its exact -log p(y). The code of the authors regresses the residual of
the *drift* without weight, a factor g^2: ``weighting="drift"``.

The target grows like 1/V where the end is in doubt near T. The default therefore predicts the end as the
domain-conditioned mean plus c F (preconditioning, as EDM's of a denoiser):

    D(t, x) = E[x_T | x_t, Omega] + c F_theta(t, x),  c^2 = V / (1 + V);     f = g S c F_theta / V,     weight 1 on F,

with times that crowd towards T, as ``grids.deviation`` with rho = 2 has them: ``predict="end"``.

On a finite set a network may give the log weights of the points instead (of the levels in every coordinate, of the
categories at every location), trained by cross entropy: ``predict="tilt"``, weight 1 on

    -log P(y | x_t; tilt_theta(t, x_t)),       per coordinate or location.

The last step is then a draw by the network's own probabilities, and for a set that is one table of points the best
tilt is a constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_count, check_shape
from bridgejax._numerics import as_time, as_wide, linear_combination, normal_like, safe_divide
from bridgejax._types import Args, Batch, Decoder, Field, Loss, MethodState, Network, Numbers, Params, Shape, State
from bridgejax.bridges import constrain, interpolants, pin
from bridgejax.bridges.constrained import check_tilt, residual
from bridgejax.data.columns import GRIDS, Column, Encoding
from bridgejax.geometry import domains
from bridgejax.geometry.domains import Domain
from bridgejax.methods._arguments import TRAINING, NetworkLike, documented
from bridgejax.methods._setup import Setup
from bridgejax.methods.generative import Constrained
from bridgejax.networks import or_mlp
from bridgejax.objectives import times
from bridgejax.objectives._matching import squared_error, unpack
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import Process, Schedule, schedules, starts
from bridgejax.processes._keys import stream, streams
from bridgejax.solve import grids, simulate_batch
from bridgejax.training import Method, adam, gradient_method
from bridgejax.weigh import LogProb

PREDICTIONS = ("residual", "end", "tilt")
WEIGHTINGS = ("likelihood", "drift")


def _per_output(schedule: Schedule, t: Array) -> Array:
    """f / F = g S c / V = g S / sqrt(V (1 + V))."""
    scale, variance = schedule.scale(t, schedule.T), schedule.variance(t, schedule.T)
    return safe_divide(schedule.diffusion(t) * scale, jnp.sqrt(variance * (1.0 + variance)))


class _Finite(Domain, Protocol):
    """A domain of finitely many points, whose weights may be tilted."""

    def tilt_shape(self, shape: Shape) -> Shape:
        """Shape of the points' log weights for states of a shape."""
        ...

    def log_prob(self, y: Array, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        """log probability of Y = y."""
        ...


def _control(schedule: Schedule, network: Field, t: Array, x: State, args: Args) -> State:
    """f of a network that predicts the end."""
    return linear_combination((_per_output(schedule, t), network(t, x, args)))


def _loss(
    schedule: Schedule, domain: Domain, apply: Network, start: Array, sampler: TimeSampler, weighting: str
) -> Loss:
    path = interpolants.bridge(schedule)

    def one(params: Params, key: Array, t: Array, y: State, args: Args) -> Array:
        x = path(t, start, y, normal_like(key, y))
        if weighting == "tilt":
            scale, variance = schedule.scale(t, schedule.T), schedule.variance(t, schedule.T)
            said, finite = apply(params, t, x, args), cast(_Finite, domain)  # whose points have weights of their own
            return -finite.log_prob(y, linear_combination((scale, x)), variance, said) * (said.shape[-1] / said.size)
        target = residual(schedule, domain, t, x, y)
        if weighting == "end":
            target = linear_combination((safe_divide(1.0, _per_output(schedule, t)), target))
        error = squared_error(apply(params, t, x, args), target)
        return schedule.diffusion_squared(t) * error if weighting == "drift" else error

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        y, source, args = unpack(batch)
        if source is not None:
            raise ValueError("constrained bridges start at one point: a batch has x (and label), not source and target")
        parts = streams(keys, "loss", 2)
        losses = jax.vmap(one, (None, 0, 0, 0, 0))(params, parts[:, 1], sampler(parts[:, 0]), y, args)
        return jnp.mean(losses), {}

    return loss


def _bound(schedule: Schedule, process: Process, key: Array, y: State, args: Args, num: int) -> Array:
    """One estimate of the bound on -log p(y): ``num`` times spread along the grid, one last step."""
    sde, path, last = process.dynamics, interpolants.bridge(schedule), process.ts[-2]
    spread = times.Importance(process.ts[:-1], times.low_discrepancy(0.0, 1.0))
    start, bridge = process.start(key, args), pin(schedule, y)
    assert sde.terminal_kernel is not None
    assert sde.terminal_kernel.log_prob is not None
    keys = jax.random.split(stream(key, "log_prob"), num + 2)

    def cost(key: Array, t: Array) -> Array:
        x = path(t, start, y, normal_like(key, y))
        difference = linear_combination((1.0, sde.drift(t, x, args)), (-1.0, bridge.drift(t, x, args)))
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(difference))
        return spread.correction(t) * safe_divide(squares, schedule.diffusion_squared(t))

    costs = jax.vmap(cost)(keys[2:], spread(keys[1:2].repeat(num)))
    x = path(last, start, y, normal_like(keys[0], y))
    return 0.5 * last * jnp.mean(costs) - sde.terminal_kernel.log_prob(last, as_time(schedule.T), x, y, args)


@documented(TRAINING)
def constrained(
    domain: Domain,
    schedule: Schedule | None = None,
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    start: Numbers = 0.0,
    predict: str = "end",
    weighting: str | None = None,
    time_sampler: Callable[[Array], Array] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
    decode: Decoder | None = None,
    bound_times: int = 64,
) -> Method:
    """A bridge to data in a domain as a Method.

    Args:
        domain: where the data live, see ``geometry.domains``.
        schedule: the linear reference, from the start (0) to the data (T); default ``brownian(1)``, which suits data of
            about unit size.
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``) with ``apply(params, t, x,
            args)``.
        shape: shape of one sample.
        start: where the process starts, a number or an array of that shape.
        predict: what the network's output means: "end" is F, the end less the domain-conditioned mean, over c =
            sqrt(V / (1 + V)); "tilt", for finite sets, the points' log weights, of shape
            ``domain.tilt_shape(shape)``; "residual" is f itself.
        weighting: of the residual's loss, "likelihood" (weight 1 on f, the default) or "drift" (g^2, as in the authors'
            code); None with ``predict="end"``.
        time_sampler: default ``times.along`` a grid that crowds towards T; for the residual uniform.
        ts: grid of the process, ending at T; default ``grids.deviation``, 100 steps; for levels spaced less than 0.1
            give its ``last`` as a quarter of the spacing.
        bound_times: times at which ``method.log_prob`` looks.

    Returns:
        A Method whose data are arrays ``(n, *shape)`` or dictionaries ``x``, ``label``. Its
        ``log_prob(state, key, x, args=None)`` is a lower bound of log p(x) in nats, one unbiased draw of it
        (``LogProb`` of kind "bound"); average it over keys.

    Raises:
        ValueError: an unknown weighting, a domain that does not take states of this shape, a start
            that does not fit, or a grid that does not end at T.
    """
    if predict not in PREDICTIONS:
        raise ValueError(f"predict must be one of {PREDICTIONS}, got {predict!r}")
    if weighting is not None and weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {WEIGHTINGS}, got {weighting!r}")
    if predict != "residual" and weighting is not None:
        raise ValueError(f"weighting belongs to predict='residual', got {weighting!r} with {predict!r}; leave it out")
    if predict == "tilt":
        check_tilt(domain)
    schedule = schedules.brownian(1.0) if schedule is None else schedule
    constrain(schedule, domain)  # checks both
    shape = check_shape(shape)
    check_count("bound_times", bound_times)
    try:
        at = jnp.broadcast_to(as_wide(as_real(start, "start")), shape)
    except ValueError:
        raise ValueError(f"start must be a number or have shape {shape}, got shape {np.shape(start)}") from None
    jax.eval_shape(domain.contains, at)  # a domain refuses a shape that it does not take
    grid = grids.deviation(100, schedule) if ts is None else jnp.asarray(ts)
    if abs(float(grid[-1]) - schedule.T) > 1e-6 * schedule.T:
        raise ValueError(f"ts must end at T = {schedule.T:g}, where the process ends, got {float(grid[-1]):g}")
    if len(grid) < 3:
        raise ValueError("ts must have at least two steps: f acts before the last step")
    outputs = cast(_Finite, domain).tilt_shape(shape) if predict == "tilt" else None
    apply, params = or_mlp(network, shape, outputs=outputs, time_scale=1.0 / schedule.T)
    if time_sampler is None and predict != "residual":
        # denser towards T than the steps: what is learnt there, at the scale of the domain, is where samples go wrong
        last = float(jnp.sqrt(schedule.variance(grid[-2], schedule.T)))
        time_sampler = times.along(grids.deviation(100, schedule, last=last, rho=2.0)[:-1])
    elif time_sampler is None:
        time_sampler = times.low_discrepancy(0.0, float(grid[-2]))
    weight = (weighting or "likelihood") if predict == "residual" else predict

    def process(params: Params) -> Process:
        f = Partial(apply, params)
        if predict == "tilt":
            sde = constrain(schedule, domain, tilt=f)
        else:
            sde = constrain(schedule, domain, Partial(_control, schedule, f) if predict == "end" else f)
        begin = starts.point(at)
        return Process(begin, sde, grid) if decode is None else Process(begin, sde, grid, None, decode)

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    loss = _loss(schedule, domain, apply, at, time_sampler, weight)
    method = gradient_method(loss, process, optimizer, ema, accumulate, params=params)

    def log_prob(state: MethodState, key: Array, x: State, args: Args = None) -> LogProb:
        return LogProb(-_bound(schedule, method.process(state), key, x, args, bound_times), "bound")

    return method._replace(log_prob=log_prob)


def last_step(
    schedule: Schedule, domain: Domain, process: Process, keys: Array, args: Args = None
) -> dict[str, float | Array]:
    """Diagnostics of the last step: whether it is a step of the process or a clamp.

    Args:
        schedule: the reference.
        domain: the set.
        process: ends in it.
        keys: one per sample.
        args: one per sample, or None.

    Returns:
        ``move``, the root mean square of x_T - S x_t over all coordinates; ``deviation``, sqrt V(t, T), what the
        reference itself moves there; ``edges``, the share of coordinates that lie exactly on an end of their range (0
        for a box and no clamp; for levels and categories their own frequency).
    """
    t, sde = process.ts[-2], process.dynamics
    assert sde.terminal_kernel is not None
    axis = None if args is None else 0
    begin, run, _ = streams(keys, "process", 3).T  # as sample does: the same paths
    start = jax.vmap(process.start, (0, axis))(begin, args)
    x = simulate_batch(sde, run, start, process.ts[:-1], args, axes=(None, 0, axis))
    draw = jax.jit(jax.vmap(sde.terminal_kernel.sample, (0, None, None, 0, axis)))
    y = draw(stream(run, "terminal"), t, schedule.T, x, args)
    snap = jax.vmap(domain.snap)
    ends = (y == snap(y - 1e6)) | (y == snap(y + 1e6))
    move = jnp.sqrt(jnp.mean((y - schedule.scale(t, schedule.T) * x) ** 2))
    return {"move": move, "deviation": jnp.sqrt(schedule.variance(t, schedule.T)), "edges": jnp.mean(ends)}


def check_data(domain: Domain, x: State) -> None:
    """Raise a ``ValueError`` naming the first row of ``x`` that lies outside the domain.

    Args:
        domain: see ``geometry.domains``.
        x: (n, *shape).
    """
    inside = jax.jit(jax.vmap(domain.contains))(jnp.asarray(x))
    if not bool(jnp.all(inside)):
        row = int(jnp.argmin(inside))
        count = int(jnp.sum(~inside))
        raise ValueError(
            f"{count} of {len(inside)} data points lie outside the domain, row {row} first; "
            "use domain.snap to move them, or another domain"
        )


# by name --------------------------------------------------------------------------------------------------------------


def make_domain(encoding: Encoding) -> Domain:
    """The domain of encoded samples."""
    if encoding.whole:
        return domains.Sphere() if encoding.whole == "sphere" else domains.Simplex(encoding.shape[0])

    def of(column: Column) -> Domain:
        low, high = ((v - column.shift) / column.scale for v in (column.low, column.high))
        made: dict[str, Callable[[], Domain]] = {
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


def build(options: Constrained, setup: Setup) -> Method:
    """``constrained`` by its options, on the domain that the data's encoding says."""
    data = setup.data
    if data.encoding is None:
        raise ValueError("method 'constrained' needs data with an encoding, see data.columns.infer")
    domain, schedule = make_domain(data.encoding), schedules.brownian(1.0)
    predict = options.predict or ("tilt" if hasattr(domain, "tilt_shape") else "end")
    if predict == "tilt":
        check_tilt(domain)
    spacing = min([c.step / c.scale for c in data.encoding.columns if c.kind in GRIDS], default=1.0)
    return constrained(
        domain,
        schedule,
        setup.network(outputs=cast(_Finite, domain).tilt_shape(data.shape) if predict == "tilt" else None),
        shape=data.shape,
        predict=predict,
        weighting=options.weighting,
        ts=grids.deviation(options.sample_steps or 100, schedule, last=min(0.03, 0.25 * spacing)),
        **setup.common(),
    )
