"""Sequential Monte Carlo from a prior to a posterior at adaptive temperatures, by blackjax: a reference for studies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Density = Callable[[Any], Any]


def smc(
    log_prior: Density, log_likelihood: Density, size: int, *, step_size: float, leapfrogs: int, moves: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``init(points)`` and the compiled ``step(key, state)``, one temperature: 0.9 of the points stay effective.

    Args:
        log_prior: of one point.
        log_likelihood: of one point.
        size: of a point.
        step_size: of HMC.
        leapfrogs: of a move.
        moves: of HMC at a temperature.
    """
    import blackjax

    parameters = {
        "step_size": step_size,
        "inverse_mass_matrix": jnp.ones(size),
        "num_integration_steps": leapfrogs,
    }
    made = blackjax.adaptive_tempered_smc(
        log_prior,
        log_likelihood,
        blackjax.hmc.build_kernel(),
        blackjax.hmc.init,
        blackjax.smc.extend_params(parameters),
        blackjax.smc.resampling.systematic,
        0.9,
        num_mcmc_steps=moves,
    )
    return made.init, jax.jit(made.step)


def tempered(step: Callable[..., Any], state: Any, key: Any) -> tuple[Any, float, int]:
    """The state at temperature 1, log Z and how many temperatures there were."""
    log_z, count = 0.0, 0
    while float(getattr(state, "tempering_param", getattr(state, "lmbda", 1.0))) < 1.0:
        key, now = jax.random.split(key)
        state, info = step(now, state)
        log_z, count = log_z + float(info.log_likelihood_increment), count + 1
    return state, log_z, count
