"""Adversarial losses: a generator learns the law of data from a discriminator D that is shown both.

    generator       E softplus(-D(G(z)))                                          z ~ noise; "non-saturating"
    discriminator   E softplus(-D(x)) + E softplus(D(G(z)))                       x ~ data
    R1              (gamma / 2) E |grad D(x)|^2                                   x ~ data

With p the law of data and q that of G(z) the best discriminator is D = log p/q, where its loss is
2 log 2 - 2 JSD(p, q), JSD the Jensen-Shannon divergence in nats, and the generator then descends KL(q, p) - 2 JSD
(Goodfellow et al. 2014, arXiv 1406.2661; Arjovsky & Bottou 2017, arXiv 1701.04862). R1 keeps D flat at the data,
without which the two need not converge (Mescheder et al. 2018, arXiv 1801.04406).

D sees one sample at a time, so grad sum_i D(x_i) holds every grad D(x_i): the penalty is one product with the
Jacobian's transpose for a batch, and its own gradient about twice that. At every k-th update, with weight k, it has
the same mean at a k-th of the cost (lazy regularisation; Karras et al. 2020, arXiv 1912.04958).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._checks import as_real, check_count, check_nonnegative, check_number
from bridgejax._numerics import as_wide
from bridgejax._types import Args, Batch, PyTree, Scalar, State


def _logits(value: object, name: str) -> Array:
    logits = as_wide(as_real(value, name))
    if logits.size == 0:
        raise ValueError(f"{name} must hold what the discriminator says of one sample at least, got none")
    return logits


def generator_loss(fake: Array) -> Array:
    """E softplus(-D(G(z))), the non-saturating loss of a generator: its gradient stays where D is sure of a fake.

    Goodfellow et al. 2014, Generative adversarial nets, arXiv 1406.2661.

    Args:
        fake: D(G(z)), a number for each generated sample: log odds that it is real.

    Returns:
        A scalar, in nats.

    Raises:
        ValueError: no real numbers, or none at all.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> print(round(float(bj.objectives.generator_loss(jnp.zeros(4))), 4))                # log 2: D cannot tell
        0.6931
    """
    return jnp.mean(jax.nn.softplus(-_logits(fake, "fake")))


def discriminator_loss(real: Array, fake: Array) -> Array:
    """E softplus(-D(x)) + E softplus(D(G(z))), the cross-entropy of telling data from what was generated.

    Goodfellow et al. 2014, Generative adversarial nets, arXiv 1406.2661.

    Args:
        real: D(x), a number for each sample of the data: log odds that it is real.
        fake: D(G(z)), of generated ones, as many or not.

    Returns:
        A scalar, in nats: 2 log 2 less twice the Jensen-Shannon divergence at the best D.

    Raises:
        ValueError: no real numbers, or none at all.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> print(round(float(bj.objectives.discriminator_loss(jnp.zeros(4), jnp.zeros(4))), 4))      # 2 log 2
        1.3863
    """
    told = jnp.mean(jax.nn.softplus(-_logits(real, "real")))
    return told + jnp.mean(jax.nn.softplus(_logits(fake, "fake")))


def r1_penalty(
    discriminator: Callable[[State, Args], Array], x: Batch, args: Batch = None, *, gamma: Scalar = 1.0
) -> Array:
    """(gamma / 2) E |grad D(x)|^2 over data: one reverse pass for the whole batch.

    Mescheder, Geiger & Nowozin 2018, Which training methods for GANs do actually converge?, arXiv 1801.04406.

    Args:
        discriminator: ``discriminator(x, args)``, the log odds of one sample. One with kinks (relu) has a gradient
            that R1 cannot bend.
        x: data, an array (B, ...) or a pytree of them.
        args: their conditions, with leading axis B, or None.
        gamma: weight, >= 0, in units of x squared.

    Returns:
        A scalar.

    Raises:
        ValueError: a weight that is negative or no number, no function, or a discriminator that does not say one
            number for a sample.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> x = jnp.array([[1.0, 0.0], [0.0, 3.0]])
        >>> print(bj.objectives.r1_penalty(lambda x, args: jnp.sum(x**2), x, gamma=0.5))      # mean of |2 x|^2 / 4
        5.0
    """
    if not callable(discriminator):
        raise ValueError(f"discriminator must be a function (x, args), got {type(discriminator).__name__}")
    check_number(gamma=gamma)
    check_nonnegative(gamma=gamma)

    def total(x: Batch) -> Array:
        said = jax.vmap(discriminator, (0, None if args is None else 0))(x, args)
        if jnp.ndim(said) != 1:
            raise ValueError(f"discriminator must say one number for a sample, got shape {jnp.shape(said)[1:]}")
        return jnp.sum(as_wide(said))

    x = jax.tree.map(as_wide, x)
    slopes = jax.tree.leaves(jax.grad(total)(x))
    return 0.5 * gamma * sum((jnp.sum(g**2) for g in slopes), start=jnp.zeros(())) / slopes[0].shape[0]


def lazy(function: Callable[[], PyTree], step: Array, every: int) -> PyTree:
    """``every * function()`` at every ``every``-th step, zeros between: the same mean at a fraction of the cost.

    The function is not run between. Under ``vmap`` over ``step`` it is run always, as any ``lax.cond`` is: map the rest
    of a state and leave its counter alone. (Karras et al. 2020, Analyzing and improving the image quality of StyleGAN,
    arXiv 1912.04958.)

    Args:
        function: ``function()``, a penalty or its gradient: an array or a pytree of them.
        step: the number of updates made, an integer; it is run at 0, ``every``, 2 ``every``, ...
        every: interval, at least 1.

    Returns:
        What the function returns, times ``every`` or 0.

    Raises:
        ValueError: an interval below 1, no function, or a step that is no integer.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> print([float(bj.objectives.lazy(lambda: jnp.float32(2.0), step, 3)) for step in range(5)])
        [6.0, 0.0, 0.0, 6.0, 0.0]
    """
    if not callable(function):
        raise ValueError(f"function must be a function without arguments, got {type(function).__name__}")
    every = check_count("every", every)
    step = as_real(step, "step")
    if step.ndim or not jnp.issubdtype(step.dtype, jnp.integer):
        raise ValueError(f"step must be an integer, the number of updates made, got {step.dtype} of shape {step.shape}")

    def now() -> PyTree:
        return jax.tree.map(lambda leaf: every * jnp.asarray(leaf), function())

    like = jax.eval_shape(now)
    return jax.lax.cond(
        step % every == 0, now, lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    )
