"""Closed-form diffusion: the exact denoiser of the training rows, and its smoothing. Nothing is trained.

    D(t, x)   = sum_i w_i(t, x) x_i,        w(t, x) = softmax_i ( -|x - alpha x_i|^2 / (2 sigma^2) )
    D_s(t, x) = (1/M) sum_m D(t, x + s eps_m),        eps_1 ... eps_M ~ N(0, I), drawn once

D is the minimiser of the loss that every network is trained on, over all functions: its reversal returns training rows
and nothing new. With D_s a path is drawn to the mean of the rows that win at M places around it, a barycentre of
neighbours: new, and not far from the data ("Closed-form diffusion models", Scarvelis, Saez de Ocariz Borde & Solomon
2023, arXiv 2310.12395, there for straight paths). s = 0 is D.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._checks import check_count, check_nonnegative, check_number
from bridgejax._numerics import as_wide, dtype_of
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Decoder, Numbers, PyTree
from bridgejax.methods._arguments import TRAINING, documented
from bridgejax.methods._setup import Setup
from bridgejax.methods.generative import ClosedForm
from bridgejax.methods.generative._training_free import training_free, training_rows
from bridgejax.methods.generative.diffusion import SCHEDULES
from bridgejax.oracles import EmpiricalLaw, empirical_law
from bridgejax.processes import Schedule
from bridgejax.solve import grids
from bridgejax.training import Method


@partial(register_dataclass, data_fields=("law", "kicks"), meta_fields=())
@dataclass(frozen=True)
class _Smoothed:
    """D_s: the law of the rows and s eps_m, (M, *shape), or None."""

    law: EmpiricalLaw
    kicks: Array | None

    __repr__ = summary

    def denoise(self, schedule: Schedule, t: Array, x: Array) -> Array:
        if self.kicks is None:
            return self.law.denoise(schedule, t, x)
        wide = as_wide(x)
        found = jax.lax.map(lambda kick: self.law.denoise(schedule, t, wide + kick), self.kicks)
        return jnp.mean(found, axis=0).astype(dtype_of(x))


def _held(model: _Smoothed) -> PyTree:
    return {"rows": model.law.points}


@documented(TRAINING)
def closed_form(
    schedule: Schedule,
    *,
    rows: Numbers,
    smoothing: float = 0.0,
    draws: int = 16,
    sampler: str = "ode",
    ts: Numbers | None = None,
    decode: Decoder | None = None,
) -> Method:
    """The exact diffusion of the training rows, or a smoothed one, as a Method that needs no training.

    An evaluation costs n d numbers for n rows of d (times ``draws`` where it is smoothed), and memory for a block of
    rows, see ``oracles.empirical_law``.

    Args:
        schedule: noise schedule.
        rows: (n, *shape) training rows, in the units the process runs in.
        smoothing: s, the deviation of the kicks, in the same units: about the distance of neighbouring rows per
            square root of a dimension. 0: none, and every sample is a training row.
        draws: M, how many kicks; they are drawn by ``init``.
        sampler: "ode" (probability flow) or "sde" (reverse SDE).
        ts: grid of the process; default 40 steps (ode) or 200 (sde) even in log SNR.

    Returns:
        A Method that is ready after ``init``, whose data may be None; ``fit`` for a step says its loss on a batch.

    Raises:
        ValueError: no rows or ones that are not finite, a negative smoothing, an unknown sampler.

    Example:
        >>> import jax, bridgejax as bj
        >>> method = bj.methods.closed_form(bj.schedules.cosine(), rows=[[-1.0, 0.0], [1.0, 0.5], [1.0, -0.5]])
        >>> state = method.init(jax.random.key(0), None)
        >>> x = bj.sample(method.process(state), bj.keys(jax.random.key(1), 3))
        >>> {tuple(row) for row in x.round(3).tolist()} <= {(-1.0, 0.0), (1.0, -0.5), (1.0, 0.5)}    # its rows
        True
    """
    points = training_rows(rows)
    check_number(smoothing=smoothing)
    check_nonnegative(smoothing=smoothing)
    check_count("draws", draws)

    def make(key: Array) -> _Smoothed:
        law = empirical_law(points)
        return _Smoothed(
            law, smoothing * jax.random.normal(key, (draws, *points.shape[1:]), points.dtype) if smoothing else None
        )

    return training_free(schedule, points, make, _held, sampler=sampler, ts=ts, decode=decode)


def build(options: ClosedForm, setup: Setup) -> Method:
    """``closed_form`` by its options."""
    schedule, rows = SCHEDULES[options.schedule](), setup.data.source
    assert rows is not None
    return closed_form(
        schedule,
        rows=rows,
        smoothing=options.smoothing,
        draws=options.draws,
        sampler=options.sampler,
        ts=grids.log_snr(options.sample_steps or (40 if options.sampler == "ode" else 200), schedule),
        decode=setup.decode,
    )
