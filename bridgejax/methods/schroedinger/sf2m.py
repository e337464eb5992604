"""[SF]^2M: score and flow of a Schroedinger bridge by simulation-free matching; the noise is chosen when sampling.

    batch     (x_0, x_1) coupled by minibatch entropic optimal transport, regularisation epsilon = sigma^2 for the cost
              |x - y|^2 / 2:  data.Pairs(..., coupling=couplings.EntropicOT(sigma**2))
    path      x_t = (1 - t) x_0 + t x_1 + c(t) eps,   c = sigma sqrt(t (1 - t))
    regress   one network on x_1 - x_0, one on eps
    velocity  E[x_1 - x_0 | x_t] + c'(t) E[eps | x_t],      score  -E[eps | x_t] / c(t)
    sample    dx = [velocity + g^2 score / 2] dt + g dW,  any g >= 0:  g = sigma is the bridge, g = 0 its flow

(Tong et al. 2024, arXiv 2307.03672, who regress on the velocity itself; its part in x_1 - x_0 is the one whose target
stays bounded.) Every g has the bridge's marginals; only g = sigma has its plan.
"""

from __future__ import annotations

import jax
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_nonnegative, check_number
from bridgejax._numerics import as_time, linear_combination, normal_like, safe_divide
from bridgejax._types import Args, Batch, Field, Numbers, Params, Scalar, State
from bridgejax.bridges import interpolants
from bridgejax.bridges.interpolants import Interpolant
from bridgejax.methods._arguments import BRIDGE, TRAINING, NetworkLike, documented
from bridgejax.methods._ends import check_ends, check_sigma, finished, start_law, whole_grid
from bridgejax.methods._setup import Setup
from bridgejax.methods._spec import noise
from bridgejax.methods.schroedinger import SF2M
from bridgejax.networks import or_mlp
from bridgejax.objectives._matching import default_times, squared_error
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, Kernel, Process
from bridgejax.processes._keys import streams
from bridgejax.processes.noise import constant
from bridgejax.solve import grids
from bridgejax.training import Method, adam, gradient_method


def _drift(
    path: Interpolant,
    heads: tuple[Field, Field],
    g: Scalar,
    sign: Scalar,
    s: Array,
    x: State,
    args: Args,
) -> State:
    """Forward (sign 1, s = t) or backward (sign -1, s = 1 - t)."""
    assert path.c is not None
    t = 0.5 * (1.0 - sign) + sign * as_time(s)
    c, slope = jax.value_and_grad(path.c)(t)
    displacement, eps = (head(t, x, args) for head in heads)
    return linear_combination((sign, displacement), (sign * slope - safe_divide(0.5 * g**2, c), eps))


def _terminal_sample(
    path: Interpolant,
    heads: tuple[Field, Field],
    sign: Scalar,
    key: Array,
    s: Array,
    v: Array,
    x: State,
    args: Args,
) -> State:
    """The predicted end: x_1 = x_t - c eps + (1 - t) (x_1 - x_0), x_0 likewise."""
    assert path.c is not None
    t = 0.5 * (1.0 - sign) + sign * as_time(s)
    displacement, eps = (head(t, x, args) for head in heads)
    return linear_combination((1.0, x), (-path.c(t), eps), (sign * (1.0 - as_time(s)), displacement))


@documented(BRIDGE, TRAINING)
def sf2m(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    sigma: float = 1.0,
    noise: float | None = None,
    source: Numbers | None = None,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
) -> Method:
    """Score and flow matching as a Method.

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``); two copies of it are trained,
            one for the flow and one for the score. Its clock runs from source (0) to target (1).
        sigma: noise of the bridge per square root of unit time; epsilon = sigma^2 is the entropic regularisation for
            the cost |x - y|^2 / 2, in squared units of the data. Give the coupling of the batches the same one.
        noise: g, of the process; default sigma, 0 for the ODE.
        time_sampler: see ``objectives.times``; default uniform on [1e-3, 1 - 1e-3].
        ts: grid of the process, from 0 to 1; default 100 even steps.

    Returns:
        A Method whose data are dictionaries ``source``, ``target``, coupled by the entropic optimal plan of each batch
        (``data.Pairs(..., coupling=couplings.EntropicOT(sigma**2))``), which makes the process the Schroedinger bridge.

    Raises:
        ValueError: sigma not positive, negative noise, a grid that is not whole; at trace time rows of
            another shape.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.sf2m(shape=(2,))
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    check_sigma(sigma)
    g = sigma if noise is None else noise
    check_number(noise=g)
    check_nonnegative(noise=g)
    apply, initial = or_mlp(network, shape)
    path = interpolants.brownian(sigma)
    sampler = default_times(path) if time_sampler is None else time_sampler
    grid = whole_grid(ts, grids.uniform(100))
    shape, start = start_law(source, shape)

    def one(params: Params, key: Array, t: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
        eps = normal_like(key, x0)
        x = path(t, x0, x1, eps)
        flow = squared_error(apply(params["displacement"], t, x, None), x1 - x0)
        return flow, squared_error(apply(params["eps"], t, x, None), eps)

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        x0, x1 = check_ends(batch, shape)
        parts = streams(keys, "loss", 2)
        flow, score = jax.vmap(one, (None, 0, 0, 0, 0))(params, parts[:, 1], sampler(parts[:, 0]), x0, x1)
        return flow.mean() + score.mean(), {"flow": flow.mean(), "score": score.mean()}

    def process(params: Params) -> Process:
        heads = Partial(apply, params["displacement"]), Partial(apply, params["eps"])
        diffusion, sdes = None if g == 0 else Partial(constant, g), []
        for sign in (1.0, -1.0):
            terminal = Kernel(Partial(_terminal_sample, path, heads, sign))
            sdes.append(SDE(Partial(_drift, path, heads, g, sign), diffusion, terminal_kernel=terminal))
        return Process(start, sdes[0], grid, sdes[1])

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    params = {"displacement": initial, "eps": initial}
    return gradient_method(loss, process, optimizer, ema, accumulate, params=params)


def build(options: SF2M, setup: Setup) -> Method:
    """``sf2m`` by its options."""
    method = sf2m(
        setup.network(),
        shape=setup.data.shape,
        sigma=noise("sf2m", options),
        noise=0.0 if options.sampler == "ode" else None,
        source=setup.data.source,
        optimizer=setup.optimizer(),
        ema=setup.ema,
        accumulate=setup.accumulate,
        ts=grids.uniform(options.sample_steps or 100),
    )
    return finished(method, setup.decode)
