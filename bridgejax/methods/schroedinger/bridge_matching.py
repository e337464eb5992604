"""Bridge matching and flow matching: from one data set to another.

    draw (x0, x1) from a coupling,  x_t = (1 - t) x0 + t x1 + sigma sqrt(t (1 - t)) eps
    regress on the residual (x1 - x_t)/sqrt(1 - t) (or on x1, or on the bridge's drift (x1 - x_t)/(1 - t));  sigma = 0:
    on the velocity x1 - x0
    sample  dx = (E[x1 | x_t] - x_t)/(1 - t) dt + sigma dW   (an ODE for sigma = 0)

The error of a predicted x1 over 1 - t is one of the drift: from a normal to eight Gaussians around it a network that
predicts x1 ended on a thin ring, while one of the residual found them all.

The learnt process carries the source law to the target law whatever the coupling; with pairs from minibatch optimal
transport it approximates the Schroedinger bridge of entropic epsilon = sigma^2 (Tong et al. 2024, arXiv 2307.03672;
2302.00482). Bridge matching keeps the two marginals, not the coupling it was trained on.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from bridgejax._checks import check_nonnegative, check_number, check_shape
from bridgejax._types import Args, Decoder, Numbers, Params
from bridgejax.bridges import guidance, interpolants
from bridgejax.bridges._transport import transport
from bridgejax.methods._arguments import BRIDGE, CLASSES, TRAINING, NetworkLike, check_guidance, documented
from bridgejax.methods._setup import Setup
from bridgejax.methods._spec import noise
from bridgejax.methods.schroedinger import BridgeMatching, FlowMatching
from bridgejax.networks import or_mlp
from bridgejax.objectives import matching
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import Process, starts
from bridgejax.solve import grids
from bridgejax.training import Method, adam, gradient_method


@documented(BRIDGE, TRAINING, CLASSES)
def bridge_matching(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    sigma: float = 0.5,
    source: Numbers | None = None,
    predict: str | None = None,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
    null: Args = None,
    condition_dropout: float = 0.0,
    guidance_scale: float = 1.0,
    decode: Decoder | None = None,
) -> Method:
    """Brownian-bridge matching (sigma > 0) or flow matching (sigma = 0) as a Method.

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``); its clock runs from source (0)
            to target (1).
        sigma: noise of the bridge per square root of unit time; entropic epsilon is sigma^2.
        predict: "residual", "x1" or "drift"; for sigma = 0 also "velocity". Default "residual", for sigma = 0
            "velocity".
        time_sampler: see ``objectives.times``; default uniform on [1e-3, 1 - 1e-3].
        ts: grid of the process; default 100 even steps.

    Returns:
        A Method whose data are dictionaries ``source``, ``target`` (and ``label``): ``data.Pairs``, with the coupling.

    Raises:
        ValueError: negative sigma, or a prediction that does not fix the drift.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.bridge_matching(shape=(2,))
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    check_number(sigma=sigma)
    check_nonnegative(sigma=sigma)
    check_guidance(guidance_scale, null)
    check_shape(shape)
    apply, params = or_mlp(network, shape, null=null)
    path = interpolants.linear() if sigma == 0 else interpolants.brownian(sigma)
    kind = ("velocity" if sigma == 0 else "residual") if predict is None else predict
    loss = matching(path, apply, kind, times=time_sampler, condition_dropout=condition_dropout, null=null)
    grid = grids.uniform(100) if ts is None else jnp.asarray(ts)
    start = starts.normal(shape) if source is None else starts.empirical(source)

    def process(params: Params) -> Process:
        prediction = Partial(apply, params)
        if guidance_scale != 1.0:
            prediction = guidance.classifier_free(prediction, guidance_scale, null)
        sde = transport(path, prediction, kind)
        return Process(start, sde, grid) if decode is None else Process(start, sde, grid, None, decode)

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    return gradient_method(loss, process, optimizer, ema, accumulate, params=params)


# by name --------------------------------------------------------------------------------------------------------------


def _build(options: BridgeMatching | FlowMatching, setup: Setup, sigma: float) -> Method:
    return bridge_matching(
        setup.network(),
        shape=setup.data.shape,
        sigma=sigma,
        source=setup.data.source,
        predict=options.predict,
        ts=grids.uniform(options.sample_steps or 100),
        **setup.classes(options),
        **setup.common(),
    )


def build(options: BridgeMatching, setup: Setup) -> Method:
    """``bridge_matching`` by its options."""
    return _build(options, setup, noise("bridge_matching", options, zero=True))


def build_flow(options: FlowMatching, setup: Setup) -> Method:
    """Flow matching: ``bridge_matching`` without noise."""
    return _build(options, setup, 0.0)
