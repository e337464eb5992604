"""``evaluate_sampler``: how well does a process sample a density? Weights first, then samples where the truth has some.

    log Z, its error, ELBO, ESS       of paths of the process, w = log(rho / law of the path), E[exp w] = Z
    EUBO, forward ESS                 of paths back from exact samples: a mode that is never visited shows here and only
                                      here, since the process gives no path to it. Forward ESS = 1 / (E w E 1/w)
    energy distance, W2, MMD          of the samples to exact ones, each beside its floor, see ``evaluate``
    modes, entropic coverage          by the labels of the target

The rule for bad densities is that of ``samplers._losses``: a path whose w is nan or infinite has weight zero, and
the share of such paths is reported.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax import metrics
from bridgejax._checks import check_count
from bridgejax._summary import summary
from bridgejax._types import Json, LogDensity
from bridgejax.evaluation import plots
from bridgejax.evaluation.draws import Samples
from bridgejax.evaluation.records import Report, save_json
from bridgejax.evaluation.report import evaluate
from bridgejax.processes import Process
from bridgejax.processes._keys import check_one_key, keys, streams
from bridgejax.processes.sde import check_callable
from bridgejax.weigh import weights
from bridgejax.weigh._path_weights import log_weights, weighted_samples

_LEAST = 1 / 3  # of its share, at which a mode counts as found
_SEEN = 100  # samples a mode, on average, below which shares of modes say nothing


class Modes(NamedTuple):
    """What samples have of the modes of a density.

    Attributes:
        found: modes with at least a third of their share among exact samples.
        num: how many of them exact samples have.
        coverage: entropy of the shares of the modes over log num, 1 for equal shares.
        exact_coverage: the same of exact samples.
    """

    found: int
    num: int
    coverage: float
    exact_coverage: float

    __repr__ = summary


@dataclasses.dataclass(frozen=True)
class SamplerReport:
    """What ``evaluate_sampler`` found. ``str(report)`` is the table.

    Attributes:
        num: paths.
        log_z: estimate of log Z.
        log_z_error: its standard error, to first order; it cannot know of modes that no path found.
        true_log_z: the target's, or None.
        elbo: mean log weight of the paths that are not excluded; where none is, at most log Z.
        ess: effective sample size, share of ``num``.
        excluded: share of the paths whose weight is nan, infinite or zero.
        eubo: mean log weight of paths back from exact samples, at least log Z; None without exact samples.
        forward_ess: 1 / (E w E 1/w) over those, the ESS as the target sees it: 0 where the process leaves out some of
            it.
        modes: of the samples; None without labels or exact samples, and with fewer than 100 samples a mode.
        distances: ``evaluate`` of the samples against exact ones, or None.
        samples: (num, dim) as drawn, or drawn again by their weights.
        exact: (num, dim), or None.
    """

    num: int
    log_z: float
    log_z_error: float
    true_log_z: float | None
    elbo: float
    ess: float
    excluded: float
    eubo: float | None
    forward_ess: float | None
    modes: Modes | None
    distances: Report | None
    samples: np.ndarray = dataclasses.field(repr=False)
    exact: np.ndarray | None = dataclasses.field(repr=False)

    def to_dict(self) -> Json:
        """JSON values only, without the samples."""
        out = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del out["samples"], out["exact"]
        out["modes"] = None if self.modes is None else self.modes._asdict()
        out["distances"] = None if self.distances is None else self.distances.to_dict()
        return out

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Write ``to_dict`` as JSON, see ``report.save_json``."""
        return save_json(self.to_dict(), path)

    def plot(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """The corner plot: the samples beside exact ones, coordinate by coordinate and pair by pair.

        Raises:
            ValueError: the target has no exact samples.
        """
        if self.exact is None:
            raise ValueError("a corner plot needs exact samples of the target; pass sample= to targets.target")
        return plots.marginals(path, self.samples, self.exact)

    def __str__(self) -> str:
        known = "" if self.true_log_z is None else f", true {self.true_log_z:.4f}"
        lines = [
            f"log Z          {self.log_z:.4f} +- {self.log_z_error:.4f}{known}",
            f"ELBO           {self.elbo:.4f}",
            f"ESS            {self.ess:.4f} of {self.num} paths",
        ]
        if self.excluded:
            lines.append(f"excluded       {self.excluded:.4f} of the paths, whose weight is nan, infinite or zero")
        if self.eubo is not None:
            lines += [f"EUBO           {self.eubo:.4f}", f"forward ESS    {self.forward_ess:.4f}"]
        if self.modes is not None:
            found, num, coverage, exact = self.modes
            lines.append(
                f"modes          {found} of {num}; entropic coverage {coverage:.4f}, of exact samples {exact:.4f}"
            )
        return "\n".join(lines if self.distances is None else [*lines, "", str(self.distances)])


def evaluate_sampler(
    process: Process,
    log_density: LogDensity,
    key: Array,
    *,
    num: int = 10_000,
    weighted: bool = False,
    draws: int = 5,
) -> SamplerReport:
    """Weigh the paths of a process against a density, and compare its samples with exact ones.

    Args:
        process: with a ``backward`` and a start law with a ``log_prob``, see ``weighted_samples``.
        log_density: log rho of one sample, or a Target, which may know log Z, exact samples and modes. Of an
            underdamped sampler, a Target ``targets.with_velocity``; distances are then of the positions.
        key: one key.
        num: paths, and as many back.
        weighted: whether the samples that are compared are drawn again by their weights.
        draws: of the floors, see ``evaluate``.

    Returns:
        A ``SamplerReport``.

    Raises:
        ValueError: what ``weighted_samples`` raises, ``num`` below 100, no weight above zero.
    """
    num, (run, again, back, draw) = check_count("num", num, 100), streams(check_one_key(key), "evaluation", 4)
    density = check_callable(log_density, "log_density", "log_density(x)")
    ends, log_w = weighted_samples(process, keys(run, num), density, exclude=True)
    if not bool(jnp.any(jnp.isfinite(log_w))):
        raise ValueError(f"none of {num} paths ends where the density is finite: start wider, or mend the density")
    if weighted:
        ends = jax.tree.map(lambda leaf: leaf[weights.systematic(again, log_w)], ends)
    samples, exact, eubo, forward = _position(ends), None, None, None
    if getattr(log_density, "sample", None) is not None:
        truth = jax.jit(jax.vmap(log_density.sample))(keys(draw, num))  # pyright: ignore
        reverse = log_weights(process, keys(back, num), density, terminal_states=truth, exclude=True)
        if not bool(jnp.all(jnp.isfinite(reverse))):
            raise ValueError("log_density has exact samples where it is nan or infinite: sample is not of this density")
        eubo, exact = float(weights.eubo(reverse)), _position(truth)
        forward = float(jnp.exp(-weights.log_z(reverse) - weights.log_z(-reverse)))
    seen = jnp.isfinite(log_w)
    return SamplerReport(
        num=num,
        log_z=float(weights.log_z(log_w)),
        log_z_error=float(weights.log_z_error(log_w)),
        true_log_z=getattr(log_density, "log_z", None),
        elbo=float(jnp.mean(log_w[seen])),
        ess=float(weights.ess(log_w)),
        excluded=float(1.0 - jnp.mean(seen)),
        eubo=eubo,
        forward_ess=forward,
        modes=None if exact is None else modes_of(log_density, ends, truth),
        distances=None if exact is None else _distances(log_density, samples, exact, draws),
        samples=samples,
        exact=exact,
    )


def _position(ends: Samples) -> np.ndarray:
    return np.asarray(ends[0] if isinstance(ends, tuple) else ends)


def _distances(target: Samples, samples: np.ndarray, exact: np.ndarray, draws: int) -> Report:
    draw = jax.jit(jax.vmap(target.sample))

    def fresh(seed: int, n: int) -> np.ndarray:
        return _position(draw(keys(jax.random.key(seed), n)))

    # those drawn again by weights stand in the order of their ancestors
    order = np.random.default_rng(0).permutation(len(samples))
    return evaluate(samples[order], exact, fresh, kind="points", draws=draws, memorisation=False)


def modes_of(target: Samples, samples: Samples, exact: Samples) -> Modes | None:
    """Count the modes that samples of any sampler found.

    Args:
        target: a Target; without labels of modes there is nothing to count.
        samples: (n, dim), of equal weight.
        exact: (m, dim), exact samples.

    Returns:
        ``Modes``, or None: no labels, or fewer than 100 exact samples a mode.

    Raises:
        ValueError: no samples, or samples of another shape than exact ones.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> target = bj.targets.gmm9()
        >>> print(bj.evaluation.modes_of(bj.targets.funnel(2), np.zeros((5, 2)), np.zeros((5, 2))))   # it has no modes
        None
    """
    for name, given in (("samples", samples), ("exact", exact)):
        if not jax.tree.leaves(given) or not all(np.shape(leaf)[:1] > (0,) for leaf in jax.tree.leaves(given)):
            raise ValueError(f"{name} must have at least one row, (n, dim)")
    shapes = [jax.tree.map(lambda leaf: np.shape(leaf)[1:], given) for given in (samples, exact)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"samples have shape {shapes[0]} and exact ones {shapes[1]}: they must be of one target")
    k, label = getattr(target, "num_modes", None), getattr(target, "modes", None)
    if label is None or k is None or not 2 <= k <= len(jax.tree.leaves(exact)[0]) / _SEEN:
        return None
    counts = [np.bincount(np.asarray(jax.vmap(label)(x)), minlength=k) for x in (samples, exact)]
    shares, wanted = (count / count.sum() for count in counts)
    there = wanted > 0
    found = int(np.sum(shares[there] >= _LEAST * wanted[there]))
    coverage, of_exact = (metrics.entropic_mode_coverage(share[None]) for share in (shares, wanted))
    return Modes(found, int(np.sum(there)), coverage, of_exact)
