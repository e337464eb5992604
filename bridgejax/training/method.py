"""A Method learns a Process: a few pure functions that fit one, as optax has init/update and blackjax init/step.

    state          <- init(key, data)
    state, metrics <- step(state, key, batch)         again and again
    state          <- refresh(state, key, data)       between rounds, when there are rounds
    process        <- process(state)
    params         <- params(state)                   what was learnt, as the process uses it

Nine methods in ten are a loss and a process: ``gradient_method`` makes a Method of them by

    g = grad of (1/B) sum_i loss(params, key_i, x_i),      params <- params + optimizer(g),
    ema <- d ema + (1 - d) params                          see ``ema``

With ``accumulate`` = A the batch is cut into A micro-batches, visited by a scan that holds the memory of one. On a mesh
each device cuts its own rows and the scan runs inside ``shard_map``: the sums meet in one all-reduce after it (the
partitioner alone would put one into every turn).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import PartitionSpec
from jax.tree_util import Partial

from bridgejax._numerics import copies, on_device
from bridgejax._summary import function_name, summary
from bridgejax._types import Batch, Data, InitFn, Loss, MethodState, Metrics, Params, PyTree, RefreshFn, StepFn
from bridgejax.processes import Process
from bridgejax.processes._keys import keys
from bridgejax.processes.sde import ProcessFn
from bridgejax.training import ema as averaging
from bridgejax.training.optimizers import in_float32
from bridgejax.training.sharding import context_axes, gathered, in_shards, sharded

_SMALL = 1 << 14  # numbers of a leaf that are cheaper to copy than to visit on their own


def _no_params(state: MethodState) -> PyTree:
    raise ValueError("this Method does not hand out parameters; give it params=, a function of its state")


class Method(NamedTuple):
    """Pure functions that learn a Process.

    Attributes:
        init: ``init(key, data) -> state``, a pytree of arrays.
        step: ``step(state, key, batch) -> (state, metrics)``; metrics is a dictionary of scalars, "loss" among them
            where there is one. The new state has the structure, shapes and dtypes of the old.
        process: ``process(state) -> Process``, the model as learnt so far.
        refresh: ``refresh(state, key, data) -> state``, called between rounds, outside the jitted step (caches of
            iterative proportional fitting, couplings of iterative Markovian fitting, replay). None: no rounds.
        log_prob: ``log_prob(state, key, x, args)``, for methods with a density of their own.
        params: ``params(state)``, what was learnt, as ``process(state)`` uses it: averaged where there is an average.
            Without one it raises a ``ValueError``.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> def step(state, key, batch):                                       # a running mean
        ...     count, mean = state[0] + 1, state[1]
        ...     return (count, mean + (batch.mean() - mean) / count), {}
        >>> method = bj.Method(lambda key, data: (jnp.zeros(()), jnp.zeros(())), step, process=lambda state: None)
        >>> state = bj.fit(method, jnp.full((10, 1), 2.0), jax.random.key(0), steps=3, batch_size=5)
        >>> float(state[1])
        2.0
    """

    init: InitFn
    step: StepFn
    process: ProcessFn
    refresh: RefreshFn | None = None
    log_prob: Callable[..., Any] | None = None
    params: Callable[..., Any] = _no_params

    __repr__ = summary


class State(NamedTuple):
    """State of a ``gradient_method``.

    Attributes:
        step: updates made, int32 scalar.
        params: the parameters that are trained.
        opt_state: the optimizer's.
        ema: their moving average in float32 or wider, or None.
    """

    step: Array
    params: Params
    opt_state: PyTree
    ema: Params

    __repr__ = summary


def gradient_method(
    loss: Loss,
    process: Callable[[Params], Process],
    optimizer: optax.GradientTransformation,
    ema: float | None = None,
    accumulate: int = 1,
    *,
    params: Params,
) -> Method:
    """The Method that follows the gradient of a loss.

    Args:
        loss: ``loss(params, keys, batch) -> (value, metrics)``: the *mean* over the batch, a scalar, and a dictionary
            of scalars (means too). ``batch`` is a pytree with leading axis B, ``keys`` a key array of shape (B,), key i
            belonging to row i (``bj.keys(step_key, B)``), so that the loss does not depend on micro-batches or devices.
        process: ``process(params) -> Process``; called with the averaged parameters when ``ema`` is set.
        optimizer: an optax transformation. One that takes the value (``reduce_on_plateau``) is given it.
        ema: decay of the average, in (0, 1), with warm-up; None: no average.
        accumulate: micro-batches per update, >= 1; B must be a multiple of it (times the devices of the mesh).
        params: parameters to start from. They are copied: training never deletes or changes the caller's. Those in
            bfloat16 or float16 are updated in float32, see ``optimizers.in_float32``.

    Returns:
        A Method with ``State`` states. Its metrics are those of the loss, "loss" and "grad_norm" (before clipping).

    Raises:
        ValueError: a decay or a number of micro-batches out of range, parameters that hold no array; at trace time a
            loss that does not return a scalar and a dictionary, or a batch that does not divide.

    Example:
        >>> import jax, jax.numpy as jnp, optax, bridgejax as bj
        >>> def loss(params, keys, batch):
        ...     return jnp.mean((batch - params) ** 2), {}
        >>> def process(params):
        ...     sde = bj.SDE(lambda t, x, args: 0.0 * x)
        ...     return bj.Process(jax.tree_util.Partial(lambda mean, key, args: mean, params), sde, bj.grids.uniform(1))
        >>> method = bj.gradient_method(loss, process, optax.sgd(0.5), params=jnp.zeros(1))
        >>> state = method.init(jax.random.key(0), None)
        >>> state, metrics = method.step(state, jax.random.key(1), jnp.ones((8, 1)))
        >>> float(state.params[0]), sorted(metrics)
        (1.0, ['grad_norm', 'loss'])
    """
    for name, f in (("loss", loss), ("process", process)):
        if not callable(f):
            raise ValueError(f"{name} must be a function, got {type(f).__name__}")
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ValueError(f"optimizer must be an optax transformation, got {type(optimizer).__name__}; see optax.adam")
    averaging.check_decay(ema)
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise ValueError(f"accumulate must be an integer >= 1 of micro-batches per update, got {accumulate!r}")
    if not any(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(params)):
        raise ValueError(f"params must be a pytree of arrays, got {type(params).__name__} without any")
    optimizer = in_float32(optimizer)

    def init(params: Params, key: Array, data: Data) -> State:
        leaves, structure = jax.tree.flatten(params)
        copied = structure.unflatten(copies([on_device(leaf) for leaf in leaves]))
        average = None if ema is None else averaging.start(copied)
        return State(jnp.zeros((), jnp.int32), copied, optimizer.init(copied), average)

    def step(state: State, key: Array, batch: Batch) -> tuple[State, Metrics]:
        sample_keys = keys(key, rows(batch))
        value, metrics, grads = mean_gradient(loss, state.params, sample_keys, batch, accumulate)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, value=value)
        new = optax.apply_updates(state.params, updates)
        average = None if ema is None else averaging.update(state.ema, new, ema, state.step)
        metrics = {**metrics, "loss": value, "grad_norm": global_norm(grads)}
        return State(state.step + 1, new, opt_state, average), metrics

    def learnt(state: State) -> Process:
        return process(averaged(state))

    learnt.__qualname__ = function_name(process)
    return Method(Partial(init, params), step, learnt, params=averaged)


def averaged(state: MethodState) -> PyTree:
    """The averaged parameters of a state with ``params`` and ``ema``, in the dtype they are trained in; else these."""
    return state.params if state.ema is None else averaging.like(state.ema, state.params)


def global_norm(tree: PyTree) -> Array:
    """Euclidean norm over all leaves, in float32 or wider.

    Small leaves are joined first: a square and a sum for each of many biases are kernels of a microsecond, which took
    a tenth of the step of a small network.
    """
    wide = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in jax.tree.leaves(tree)]
    if in_shards():  # to flatten or to join them would gather them
        return jnp.sqrt(sum((jnp.sum(jnp.abs(v) ** 2) for v in wide), start=jnp.zeros(())))
    flat = [jnp.ravel(v) for v in wide]
    small, large = [v for v in flat if v.size <= _SMALL], [v for v in flat if v.size > _SMALL]
    joined = [jnp.concatenate(small)] if small else []
    squares = [jnp.vdot(v, v, precision=jax.lax.Precision.HIGHEST).real for v in [*joined, *large]]
    return jnp.sqrt(sum(squares, start=jnp.zeros(())))


def rows(batch: Batch) -> int:
    """Length of the leading axis that all leaves of a batch share.

    Raises:
        ValueError: no leaves, a scalar among them, or different lengths.
    """
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    if not leaves:
        raise ValueError("batch holds no arrays; expected a pytree of arrays with one leading axis")
    lengths = {}
    for path, leaf in leaves:
        shape = jnp.shape(leaf)
        where = "batch" + jax.tree_util.keystr(path)
        if not shape:
            raise ValueError(f"{where} is a single number; expected an array whose first axis counts the samples")
        lengths.setdefault(shape[0], where)
    if len(lengths) > 1:
        found = ", ".join(f"{where} has {length} rows" for length, where in lengths.items())
        raise ValueError(f"leaves of the batch differ in length: {found}; expected one leading axis")
    return next(iter(lengths))


def _value_and_grad(loss: Loss, params: Params, sample_keys: Array, batch: Batch) -> tuple[Array, Metrics, Params]:
    def checked(params: Params) -> tuple[Array, Metrics]:
        out = loss(params, sample_keys, batch)
        if not (isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], dict)):
            raise ValueError(f"loss must return (scalar, dictionary of metrics), got {type(out).__name__}")
        value, metrics = out
        if jnp.shape(value) != ():
            raise ValueError(f"loss must return a scalar, the mean over the batch; got shape {jnp.shape(value)}")
        for name, metric in metrics.items():
            if jnp.shape(metric) != ():
                raise ValueError(f"metric {name!r} of the loss must be a scalar, got shape {jnp.shape(metric)}")
        # A loss computed in bfloat16 is still averaged and reported in float32.
        wide = jnp.promote_types(jnp.result_type(value), jnp.float32)
        return jnp.asarray(value, wide), {name: jnp.asarray(m, jnp.float32) for name, m in metrics.items()}

    (value, metrics), grads = jax.value_and_grad(checked, has_aux=True)(params)
    return value, metrics, grads


def mean_gradient(
    loss: Loss, params: Params, sample_keys: Array, batch: Batch, accumulate: int
) -> tuple[Array, Metrics, Params]:
    """``(value, metrics, gradient)`` of a loss on a batch, cut into ``accumulate`` micro-batches on each device."""
    value, metrics, grads = _mean_gradient(loss, gathered(params), sample_keys, batch, accumulate)
    return value, metrics, sharded(grads)


def _mean_gradient(
    loss: Loss, params: Params, sample_keys: Array, batch: Batch, accumulate: int
) -> tuple[Array, Metrics, Params]:
    """``mean_gradient`` of parameters that are whole on every device."""
    if accumulate == 1:
        return _value_and_grad(loss, params, sample_keys, batch)
    axes, devices = context_axes()
    size = rows(batch)
    if size % (accumulate * devices):
        on = f" on each of {devices} devices" if devices > 1 else ""
        raise ValueError(
            f"accumulate={accumulate} micro-batches{on} do not divide a batch of {size}; "
            f"pass a batch_size that is a multiple of {accumulate * devices}"
        )
    if not axes:
        return _accumulated(loss, params, sample_keys, batch, accumulate)

    def local(params: Params, sample_keys: Array, batch: Batch) -> PyTree:
        return jax.lax.pmean(_accumulated(loss, params, sample_keys, batch, accumulate), axes)

    split = PartitionSpec(axes)
    # check_vma=False: a checked gradient of replicated parameters would be summed over devices in every turn of the
    # scan, and losses that solve SDEs with diffrax's own Runge-Kutta loops would be rejected.
    return jax.shard_map(local, in_specs=(PartitionSpec(), split, split), out_specs=PartitionSpec(), check_vma=False)(
        params, sample_keys, batch
    )


def _accumulated(
    loss: Loss, params: Params, sample_keys: Array, batch: Batch, accumulate: int
) -> tuple[Array, Metrics, Params]:
    """Means over equal micro-batches; gradients are summed in float32 or wider."""

    def cut(leaf: Array) -> Array:
        return leaf.reshape(accumulate, leaf.shape[0] // accumulate, *leaf.shape[1:])

    def turn(total: PyTree, part: tuple[Array, Batch]) -> tuple[Params, tuple[Array, Metrics]]:
        value, metrics, grads = _value_and_grad(loss, params, *part)
        return jax.tree.map(lambda s, g: s + g.astype(s.dtype), total, grads), (value, metrics)

    zero = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.promote_types(p.dtype, jnp.float32)), params)
    total, (values, metrics) = jax.lax.scan(turn, zero, jax.tree.map(cut, (sample_keys, batch)))
    grads = jax.tree.map(lambda s, p: (s / accumulate).astype(p.dtype), total, params)
    return values.mean(), {name: m.mean() for name, m in metrics.items()}, grads
