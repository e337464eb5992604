"""Deep Gaussian processes, learnt by a bound on their evidence: one model, four laws of the inducing values.

    min  -(1/N) { (N/B) sum_{i in batch} E log p(y_i | f_L(x_i; v)) - KL(q(v) || N(0, I)) }

over the law q (``_posteriors``), the covariances, the inducing inputs and the likelihood together. For the chains the
KL is that of paths, of one draw: the loss is -1/N of the mean log weight, with the batch's share of the log likelihood.
It and its gradient are without bias for the bound of all N rows; nothing is N x N.

Sources: Salimbeni & Deisenroth 2017, Doubly stochastic variational inference for deep Gaussian processes, arXiv
1705.08933 (mean_field, full); of ddvi and dbvi in ``_posteriors``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count, describe
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Batch, Json, Loss, Metrics, Network, Numbers, Params
from bridgejax.data import Pairs
from bridgejax.gp import covariances, likelihoods
from bridgejax.gp.covariances import Covariance, check_covariance
from bridgejax.gp.layers import DeepGP
from bridgejax.gp.likelihoods import Likelihood
from bridgejax.methods._arguments import TRAINING, NetworkLike, documented
from bridgejax.methods._setup import Setup
from bridgejax.methods.variational import DSVI, Chained, DeepGPOptions
from bridgejax.methods.variational import _posteriors as posteriors
from bridgejax.methods.variational._bounds import Posterior, as_targets, estimate, row_noise
from bridgejax.methods.variational._plan import NARROW, Plan, check_definite, checked_data, make_plan
from bridgejax.methods.variational._posteriors import KINDS
from bridgejax.networks import MLP
from bridgejax.networks.pure import functional
from bridgejax.objectives._matching import unpack
from bridgejax.processes import Process
from bridgejax.processes._keys import streams
from bridgejax.training import Method, adam, gradient_method

_NEURONS = 128  # of the network of a chain
_MANY = 512  # inducing values from which on its matrices are divided
_INDUCING = 64  # of every layer, where nothing is said
_COVARIANCES = {"matern32": covariances.matern32, "matern52": covariances.matern52}


def _loss(model: DeepGP, posterior: Posterior, rows: int, draws: int) -> Loss:
    one = partial(estimate, model, posterior, rows)

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, Metrics]:
        x, y, _ = unpack(batch)
        if y is None:
            raise ValueError("a deep Gaussian process needs batches with source (inputs) and target, got x alone")
        parts = jax.vmap(lambda key: streams(key, "loss", draws + 1))(keys)  # (B, draws + 1)
        # a path of v serves the whole batch and is drawn from its first key, the rows' own noise from their keys
        given = params, parts[0, :draws], x, as_targets(y, model), parts[:, 1:]
        terms = jax.vmap(one, (None, 0, None, None, 1))(*given)
        bound, kl = jnp.mean(terms.data - terms.kl), jnp.mean(terms.kl)
        return -bound / rows, {"bound": bound, "kl": kl, "jitter": jnp.max(terms.jitter)}

    return loss


@partial(register_dataclass, data_fields=("model", "params", "posterior"), meta_fields=())
@dataclass(frozen=True)
class Function:
    """What the end of a process stands for: a function drawn from the posterior, seen at the sample's own input.

    As ``decode(key, w, args)`` with ``args`` one input (d,) it draws the target there, noise included.
    """

    model: DeepGP
    params: Params
    posterior: Posterior

    __repr__ = summary

    def __call__(self, key: Array, w: Array, args: Args) -> Array:
        """One draw of y at the input ``args``."""
        if args is None or jnp.ndim(args) != 1:
            raise ValueError(
                f"args must be one input for each sample, shape (d,), got {describe(args)}; see methods.predict"
            )
        x = jnp.asarray(args)
        noise_key, draw_key = jax.random.split(key)
        noise = row_noise(self.model, noise_key[None])
        v = self.posterior.values(self.params, w)
        mean, variance, _ = self.model.propagate(self.params, v, x[None], noise)
        f = mean[0] + jnp.sqrt(variance[0]) * noise[-1][0]
        return self.model.likelihood.draw(self.params["likelihood"], draw_key, f)


def _divided(apply: Network, params: Params, t: Array, x: Array, args: Args) -> Array:
    """A network whose matrices are divided by the root of how many numbers they take.

    An update of Adam then moves what a layer gives by the root of that number, not by the number itself, which for
    thousands of inducing values is a step beyond all bounds. For few it is the slower way.
    """
    return apply(jax.tree.map(lambda leaf: leaf / math.sqrt(_fan_in(leaf)), params), t, x, args)


def _fan_in(leaf: Array) -> int:
    return leaf.shape[0] if leaf.ndim == 2 else 1


def _default_network(size: int) -> tuple[Network, Params]:
    apply, params = functional(MLP((size,), width=_NEURONS, depth=1, rngs=nnx.Rngs(0)))
    if size <= _MANY:
        return apply, params
    return Partial(_divided, apply), jax.tree.map(lambda leaf: leaf * math.sqrt(_fan_in(leaf)), params)


def _process(model: DeepGP, posterior: Posterior, params: Params) -> Process:
    decode = Function(model, params, posterior)
    if posterior.apply is None:
        return posteriors.normal_process(posterior.shapes.size, decode)
    return posteriors.chain_process(posterior.chain(params), decode)


def _first_params(
    plan: Plan, posterior: str, network: NetworkLike | None, steps: int, *, residual: str | None
) -> tuple[Params, Posterior]:
    scales = [NARROW] * (len(plan.shapes.layers) - 1) + [1.0]
    if posterior in ("mean_field", "full"):
        if network is not None:
            raise ValueError(f"network is for posterior 'ddvi' and 'dbvi', {posterior!r} has none")
        own = posteriors.normal_params(plan.shapes, posterior, scales)
        return {**plan.params, "posterior": own}, Posterior(plan.shapes)
    size = plan.shapes.size
    apply, params = _default_network(size) if network is None else functional(network)
    wide = jax.ShapeDtypeStruct((size,), jnp.result_type(float))
    out = jax.eval_shape(apply, params, jax.ShapeDtypeStruct((), wide.dtype), wide, None)
    if getattr(out, "shape", None) != (size,):
        raise ValueError(
            f"network must map the {size} inducing values of all layers, shape ({size},), to as many, got "
            f"{getattr(out, 'shape', type(out).__name__)}"
        )
    widths = plan.widths if posterior == "dbvi" else None
    own = posteriors.chain_params(plan.shapes, steps, params, scales, widths=widths, residual=residual)
    return {**plan.params, "posterior": own}, Posterior(plan.shapes, apply, posteriors.clock(steps))


def _choices(
    posterior: str, residual: str | None, likelihood: Likelihood | None, covariance: Covariance | None
) -> tuple[Likelihood, Covariance | None]:
    if posterior not in KINDS:
        raise ValueError(f"posterior must be one of {KINDS}, got {describe(posterior)}")
    if residual not in (None, "full", "mean_field"):
        raise ValueError(f"residual must be 'full', 'mean_field' or None, got {describe(residual)}")
    if likelihood is not None and not isinstance(likelihood, Likelihood):
        raise ValueError(f"likelihood must be a Likelihood, as gp.gaussian() makes it, got {describe(likelihood)}")
    covariance = None if covariance is None else check_covariance(covariance)
    return likelihoods.gaussian() if likelihood is None else likelihood, covariance


@documented(TRAINING)
def deep_gp(
    inputs: Numbers,
    targets: Numbers,
    *,
    posterior: str = "dbvi",
    layers: int = 2,
    width: int | None = None,
    inducing: int = 128,
    covariance: Covariance | None = None,
    likelihood: Likelihood | None = None,
    skip: bool = False,
    steps: int = 10,
    draws: int = 1,
    residual: str | None = "full",
    network: NetworkLike | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = None,
    accumulate: int = 1,
    rows: int | None = None,
) -> Method:
    """A deep Gaussian process of a table: y given x, with the uncertainty of the function and of the noise.

    Targets and inputs should be standardised: the prior of the last layer has mean 0 and variance 1, lengths start at
    the square root of the number of coordinates.

    Args:
        inputs: ``[n, d]``, from which the inducing inputs are chosen and n is known; train with
            ``fit(method, {"source": inputs, "target": targets}, ...)`` on the same rows.
        targets: ``[n]`` or ``[n, p]``; of ``gp.softmax`` labels 0 .. classes - 1.
        posterior: law of the inducing values: "mean_field" and "full" (Gaussian, doubly stochastic), "ddvi" (a
            diffusion from noise) or "dbvi" (a diffusion around a mean that is a function of the inducing inputs).
        layers: 1: a sparse Gaussian process.
        width: outputs of the layers before the last; None: d, at most 8.
        inducing: M of every layer, chosen among the rows of ``inputs``.
        covariance: of every layer, see ``bridgejax.gp``, with a length for every coordinate where it has one for all;
            None: rbf of lengths sqrt(d).
        likelihood: see ``bridgejax.gp``; None: Gaussian noise.
        skip: whether every layer sees the inputs too.
        steps: of the chain of "ddvi" and "dbvi".
        draws: of v for an update; the average of so many bounds, at so many times the cost.
        residual: what the chain of "ddvi" and "dbvi" is added to: a learnt location and a "full" (triangular) or
            "mean_field" (diagonal) scale; None: nothing, as published.
        network: of the chain, (d,) to (d,) for the d inducing values of all layers together: a flax.nnx module or
            ``(apply, params)``; None: an MLP of width 128; for more than 512 values its matrices are divided by the
            root of how many numbers they take.
        optimizer: optax transformation; None: Adam at 1e-2 with gradients clipped to norm 10.
        rows: N, how many rows there are to learn from, where ``inputs`` are a part of them: a row of a batch of B
            counts N / B times. None: n, and ``fit`` takes arrays of n rows only.

    Returns:
        A Method whose Process, given an input as ``args``, draws the target there; ``methods.predict`` gives means,
        variances and log predictive densities of many rows. The metric "bound" is an estimate of the bound on log p(y)
        of all rows, "jitter" what was added to a covariance matrix, as a share of its diagonal.

    Raises:
        ValueError: data that are no table of finite numbers, a constant column, more inducing inputs than different
            rows, labels out of range, a covariance that is not positive definite at the inducing inputs, fewer ``rows``
            than inputs, or a choice that does not exist; by ``fit``, data of another number of rows, or an iterable,
            where ``rows`` is not given.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> x = jnp.linspace(-1.0, 1.0, 50)[:, None]
        >>> y = jnp.sin(3.0 * x[:, 0])
        >>> method = bj.methods.deep_gp(x, y, posterior="mean_field", layers=1, inducing=10)
        >>> data = {"source": x, "target": y}
        >>> state = bj.fit(method, data, jax.random.key(0), steps=3, batch_size=50)
        >>> bj.methods.predict(method.process(state), jax.random.key(1), x, draws=8).mean.shape
        (50, 1)
    """
    likelihood, covariance = _choices(posterior, residual, likelihood, covariance)
    counts = {"layers": layers, "inducing": inducing, "steps": steps, "draws": draws}
    layers, inducing, steps, draws = (check_count(name, value) for name, value in counts.items())
    x, outputs = checked_data(inputs, targets, likelihood)
    hidden = [min(x.shape[1], 8) if width is None else check_count("width", width)] * (layers - 1)
    plan = make_plan(x, inducing, hidden, outputs, covariance, likelihood, skip=skip)
    if covariance is not None:
        check_definite(plan)
    params, law = _first_params(plan, posterior, network, steps, residual=residual)
    optimizer = adam(1e-2, clip=10.0, schedule="constant") if optimizer is None else optimizer
    count = x.shape[0] if rows is None else check_count("rows", rows, x.shape[0])
    loss = _loss(plan.model, law, count, draws)
    process: Callable[[Params], Process] = Partial(_process, plan.model, law)
    method = gradient_method(loss, process, optimizer, ema, accumulate, params=params)
    return method if rows is not None else method._replace(init=Partial(_checked_init, method.init, count))


def _checked_init(init: Callable[[Array, Any], Any], rows: int, key: Array, data: Any) -> Any:
    """``init``, once the data have as many rows as the bound counts."""
    if isinstance(data, dict | Pairs):
        held = data.n_source if isinstance(data, Pairs) else rows
        if isinstance(data, dict) and "source" in data:  # the loss names a part that is missing
            held = len(data["source"])
        if held != rows:
            raise ValueError(
                f"data has {held} rows and the method was made of {rows}; make it with rows={held}, or of all inputs"
            )
    elif data is not None:
        raise ValueError(
            "rows must be given to deep_gp where the data is no dictionary of arrays and no data.Pairs, got "
            f"{type(data).__name__}: a row of a batch of B counts rows / B times, and how many there are in all is not "
            "known here"
        )
    return init(key, data)


# by name --------------------------------------------------------------------------------------------------------------


def _named(options: DeepGPOptions, setup: Setup, posterior: str, **more: Any) -> Method:
    """A table's own: as many inducing inputs as it has different rows at most, and the likelihood of its target."""
    x = np.asarray(setup.data.source, np.float64)
    classes = setup.data.num_classes
    if classes:
        likelihood = likelihoods.bernoulli() if classes == 2 else likelihoods.softmax(classes)
    else:
        likelihood = likelihoods.student_t() if options.noise == "student_t" else likelihoods.gaussian()
    told = setup.common()
    del told["decode"]  # samples are targets, which a Run takes to the data's units
    return deep_gp(
        x,
        np.zeros(len(x)),  # of targets their form alone is looked at
        posterior=posterior,
        layers=options.layers,
        width=options.width,
        inducing=min(_INDUCING, len(np.unique(x, axis=0))) if options.inducing is None else options.inducing,
        covariance=None if options.covariance == "rbf" else _COVARIANCES[options.covariance](math.sqrt(x.shape[1])),
        likelihood=likelihood,
        skip=options.skip,
        draws=options.draws,
        rows=len(x),
        **more,
        **told,
    )


def build_dsvi(options: DSVI, setup: Setup) -> Method:
    """``deep_gp`` with a Gaussian posterior, by its options."""
    return _named(options, setup, options.posterior)


def build_ddvi(options: Chained, setup: Setup) -> Method:
    """``deep_gp`` with a diffusion from noise as posterior."""
    return _named(options, setup, "ddvi", **_chain(options))


def build_dbvi(options: Chained, setup: Setup) -> Method:
    """``deep_gp`` with a diffusion around a mean that is a function of the inducing inputs."""
    return _named(options, setup, "dbvi", **_chain(options))


def _chain(options: Chained) -> Json:
    return {"steps": options.chain_steps, "residual": None if options.residual == "none" else options.residual}
