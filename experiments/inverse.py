"""How far DPS and PiGDM are from the posterior they approximate: a mixture, a linear measurement, the closed form.

    python experiments/inverse.py            results/inverse.json
    python experiments/inverse.py --smoke    64 draws

x_0 ~ three Gaussians in the plane (variance 0.15), y = (1, 0.5) x_0 + 0.4 eps = 1.2. The exact posterior is a mixture
again (``mixtures.condition``), and its own denoiser is the control: same solver, same grid, no approximation. Squared
energy distance of 4,096 draws to exact posterior draws, beside its floor (mean of 10 exact-exact draws), the error of
the mean in standard deviations of the posterior, and the variance's ratio. Budget: 3 minutes on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from study import Pick, Study, Table, record

import bridgejax as bj

STUDY = Study(
    "inverse",
    topic="Conditioned processes",
    question="How far are DPS and PiGDM from the posterior?",
    answer="Far: with the posterior's own denoiser the same solver is at the floor. DPS nearly keeps mean and "
    "variance, PiGDM's draws spread too far.",
    brief="Many floors; DPS is the nearer.",
    budget="3 minutes on two cores",
    floor="exact against exact draws",
    picks=(Pick("squared energy distance", {"denoiser": "DPS"}, "energy distance, DPS"),),
    tables=(
        Table(
            "squared energy distance",
            rows=("denoiser",),
            title="Draws of the posterior of a mixture",
            text="Squared energy distance to exact draws; the error of the mean in standard deviations of the "
            "posterior; the variance over the posterior's.",
            also=("mean_error", "variance_ratio", "seconds"),
        ),
    ),
)
SCHEDULE = bj.schedules.vp(0.1, 10.0)
LAW = bj.mixtures.gaussian_mixture([[-1.5, 0.5], [1.5, 0.5], [0.0, -1.5]], 0.15, [0.3, 0.3, 0.4])
A, Y, NOISE = jnp.array([[1.0, 0.5]]), jnp.array([1.2]), 0.4
STEPS = 300


def reversal(law: bj.GaussianMixture) -> bj.SDE:
    """The reverse SDE with the law's exact denoiser."""
    return bj.reverse(SCHEDULE, denoiser=bj.mixtures.mixture_denoiser(law, SCHEDULE))


def posterior(options: Any) -> Iterator[Any]:
    """The truth's own denoiser and both approximations."""
    n = 64 if options.smoke else 4096
    truth = bj.mixtures.condition(LAW, A, Y, NOISE)
    variance = float(jnp.trace(LAW.cov())) / 2.0
    runs: dict[str, Any] = {
        "the posterior's own denoiser": reversal(truth),
        "PiGDM": bj.guidance.posterior(reversal(LAW), A, Y, NOISE, data_variance=variance),
        "DPS": bj.guidance.posterior(reversal(LAW), A, Y, NOISE, method="dps"),
    }
    exact = [np.asarray(jax.vmap(truth.sample)(bj.keys(jax.random.key(10 + k), n))) for k in range(11)]
    floor = float(np.mean([bj.metrics.energy_distance(exact[0], other) for other in exact[1:]]))
    mean, cov = np.asarray(truth.mean()), np.asarray(truth.cov())
    key, ts = jax.random.key(0), bj.grids.log_snr(STEPS, SCHEDULE, log_snr_max=8.0)
    x0 = float(SCHEDULE.sigma(1.0)) * jax.random.normal(jax.random.key(1), (n, 2))
    for name, sde in runs.items():
        began = time.perf_counter()
        x = np.asarray(bj.simulate_batch(sde, bj.keys(key, n), x0, ts))
        off = float(np.max(np.abs(x.mean(0) - mean) / np.sqrt(np.diag(cov))))
        ratio = float(np.trace(np.cov(x.T)) / np.trace(cov))
        yield record(
            "squared energy distance",
            bj.metrics.energy_distance(x, exact[0]),
            {"denoiser": name},
            n=n,
            floor=floor,
            began=began,
            mean_error=off,
            variance_ratio=ratio,
            evaluations=STEPS,
        )


if __name__ == "__main__":
    STUDY.run(__doc__, {"inverse": posterior})
