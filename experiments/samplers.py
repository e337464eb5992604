"""Learned samplers on nine Gaussians: which loss finds the modes.

    python experiments/samplers.py            minutes; results/samplers.json
    python experiments/samplers.py --smoke    one sampler, half a minute to compile

PIS and DIS, each with reverse KL and log variance, on GMM-9 (log Z = 0). For each: |log Z error| of 20,000 weighted
paths with its standard error, ELBO, ESS, and modes found (at least 5 % of the samples; 11 % is the truth). A sampler
that covers k of nine equal modes and no other reports log Z = log(k / 9). Budget: 5 minutes on two cores, one seed.
The published runs have 60,000 updates of 2048 paths with 200 steps each.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from results import save

import bridgejax as bj
from bridgejax.training import adam

COMMAND = "python experiments/samplers.py"
SOURCE = "Richter & Berner 2024, arXiv 2307.01198 (GMM)"
PUBLISHED = {("pis", "kl"): 1.094, ("pis", "log_variance"): 0.046, ("dis", "kl"): 1.551, ("dis", "log_variance"): 0.056}
BARS = {"log_variance": 0.05}
WIDTH = 5.0  # of the reference at its end: as wide as the target


def trained(name: str, loss: str, steps: int, batch: int, intervals: int, paths: int) -> list[dict[str, Any]]:
    """One sampler."""
    began, target = time.perf_counter(), bj.targets.gmm9()
    options = {"sigma": WIDTH} if name == "pis" else {"scale": WIDTH}
    method = getattr(bj.methods, name)(
        target,
        bj.networks.MLP((2,), width=64, depth=2, embedding=64, rngs=nnx.Rngs(0)),
        loss=loss,
        ts=bj.grids.uniform(intervals),
        optimizer=adam(5e-3, steps=steps, final=0.02),
        ema=0.99,
        **options,
    )
    state = bj.fit(method, bj.data.NoData(batch), jax.random.key(0), steps=steps)
    process = method.process(state)
    x, w = bj.weighted_samples(process, bj.keys(jax.random.key(1), paths), target)
    shares = np.bincount(np.asarray(jax.vmap(target.modes)(x)), minlength=9) / paths
    near = jnp.min(jnp.linalg.norm(x[:, None] - target.log_density.args[0].means, axis=-1), axis=1) < 3 * math.sqrt(0.3)
    found, log_z = int(np.sum(shares >= 0.05)), float(bj.weights.log_z(w))
    cost = f"{steps} updates of {batch} paths, {intervals} steps; {time.perf_counter() - began:.0f} s, 2 CPU cores"
    common = {"command": COMMAND, "budget": "5 minutes for all", "cost": cost}
    title, bar = f"{name.upper()}, {loss}, GMM-9", BARS.get(loss)
    notes = (
        f"log Z {log_z:.4f} +- {float(bj.weights.log_z_error(w)):.4f} (true 0), ELBO {float(bj.weights.elbo(w)):.4f}, "
        f"{float(jnp.mean(near)):.3f} of the samples within 3 sd of a mean (exact: 0.989), largest share of a mode "
        f"{shares.max():.3f}, log(modes found / 9) = {math.log(max(found, 1) / 9):.3f}; published: longer runs"
    )
    return [
        {
            "claim": f"{title}: |log Z error|, n = {paths:,}" + (f" (bar: {bar})" if bar else ""),
            "ours": abs(log_z - 0.0),
            "published": PUBLISHED[name, loss],
            "source": SOURCE,
            "met": None if bar is None else abs(log_z) <= bar,
            "notes": notes,
            **common,
        },
        {"claim": f"{title}: effective sample size, share of n", "ours": float(bj.weights.ess(w)), **common},
        {
            "claim": f"{title}: modes found of 9" + (" (bar: 9)" if bar else ""),
            "ours": found,
            "met": None if bar is None else found == 9,
            **common,
        },
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="seconds, nothing written")
    parser.add_argument("--updates", type=int, default=600, help="of each sampler")
    parser.add_argument("--only", default="", help="e.g. pis-kl; nothing written")
    options = parser.parse_args()
    if options.smoke and not options.only:
        options.only = "dis-log_variance"  # all four compile for a minute
    smoke = options.smoke or bool(options.only)
    sizes = (3, 32, 8, 200) if options.smoke else (options.updates, 256, 50, 20_000)
    rows = [
        row
        for name in ("pis", "dis")
        for loss in ("kl", "log_variance")
        if options.only in ("", f"{name}-{loss}")
        for row in trained(name, loss, *sizes)
    ]
    save("samplers", rows, smoke=smoke)


if __name__ == "__main__":
    main()
