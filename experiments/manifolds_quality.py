"""Six ways to learn a law on a manifold, at equal training time, beside known densities.

    python experiments/manifolds_quality.py            all; results/manifolds_quality.json
    python experiments/manifolds_quality.py --smoke    seconds
    python experiments/manifolds_quality.py --only small, control, groups or unitary

    small      four von Mises-Fisher caps on S^2; four wrapped Gaussians on the torus T^10, variance 0.2; four on SO(3)
    control    one wrapped Gaussian on SO(3), whose middle is the reference of the projected method
    groups     two wrapped Gaussians on SO(10)
    unitary    exp(iH) on U(n), n = 3, 9, 15: H = Laplacian - (w^2 / 2)(x - x0)^2 on n points of [0, 1), w ~ U(2, 3),
               x0 ~ N(0, 1): a law of two numbers in n^2 dimensions

Every method has the default network, batches of 256 and the same CPU seconds of updates on one core, 30 to 90 by the
target; compilation is not counted.
C2ST against held-out points, in ``manifold.features``; NLL is that of the model's exact density at held-out points, by
its probability flow. Budget: 100 minutes on one core, half of them the unitary groups.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from study import Study, Table, record, seconds_per_update

import bridgejax as bj
from bridgejax import evaluation, methods
from bridgejax import manifolds as mf
from bridgejax.oracles import heat
from bridgejax.training import adam

STUDY = Study(
    "manifolds_quality",
    topic="Domains: discrete, mixed, constrained",
    question="Which method learns a law on a manifold best in the same time?",
    answer="On S2, T10 and SO(3) the flows and the score come to the floor in a minute or less of one core, along "
    "geodesics or projected lines alike; projected diffusion does on S2 and where one component is at its reference, "
    "not on four of SO(3) nor on T10. On U(3) the flow along geodesics alone is within the bar; on U(9), U(15) and "
    "SO(10) a minute or two is too little for any method: the flows are nearest on the unitary groups, the bridge, "
    "with the fewest updates, on SO(10). Trivialised momentum is behind everywhere.",
    brief="Flows and score reach the floor on small manifolds; on large groups none does in a minute.",
    budget="100 minutes on one core, half of them the unitary groups",
    source="Mangoubi, He & Vishnoi 2025, arXiv 2505.21640 (the targets; their numbers are of other sizes)",
    floor="held-out points against held-out points; of NLL the true density's",
    tables=(
        Table("C2ST accuracy", rows=("target",), columns="method", text="0.5 is chance; the bar is 0.52."),
        Table(
            "NLL",
            rows=("target",),
            columns="method",
            text="Nats at held-out points; the other methods have no density here.",
        ),
        Table("updates", rows=("target",), columns="method", text="Made in the same CPU time."),
    ),
    missed=(
        ({"target": "T10"}, "The bridge is within a standard error of the bar; the others had not arrived."),
        ({"target": "SO(10)"}, "Too little training: a few hundred to a few thousand updates in this time."),
        ({"target": "U(9)"}, "Too little training: under a thousand updates in this time."),
        ({"target": "U(15)"}, "Too little training: a hundred to some hundred updates in this time."),
        (
            {"target": "U(3)"},
            "A law of two numbers in nine dimensions; in this time only the flow along geodesics had come to it.",
        ),
        (
            {"method": "momentum"},
            "Behind the others at as many updates too: a draw of its target is a whole walk, and varies most.",
        ),
        (
            {"target": "SO(3)", "method": "projected"},
            "The form that frames are brought to jumps where a column is orthogonal to the reference's, which four "
            "components cannot all avoid; one at the reference is within the bar.",
        ),
        ({"target": "SO(3)", "method": "bridge"}, "Within two standard errors of the bar."),
        ({"target": "S2", "method": "bridge"}, "Within a standard error of the bar."),
        ({"target": "SO(3), one", "method": "bridge"}, "Within a standard error of the bar."),
    ),
    one_core=True,
)


class Target(NamedTuple):
    """A law on a manifold."""

    manifold: Any
    draw: Callable[[Any, int], Any]
    log_prob: Callable[[Any], Any] | None = None


def chosen(key: Any, shares: list[float], num: int) -> Any:
    """Components."""
    return jax.random.choice(key, len(shares), (num,), p=jnp.asarray(shares))


def mixed(log_probs: Any, shares: list[float]) -> Any:
    """Log density of a mixture from its components', on the last axis."""
    return jax.scipy.special.logsumexp(log_probs + jnp.log(jnp.asarray(shares)), axis=-1)


def von_mises_fisher(kappa: float = 50.0) -> Target:
    """Four caps at the corners of a tetrahedron."""
    corners = jnp.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / math.sqrt(3.0)
    shares, sphere = [0.4, 0.3, 0.2, 0.1], mf.Sphere(2)

    def draw(key: Any, num: int) -> Any:
        which, height, around = jax.random.split(key, 3)
        centre = corners[chosen(which, shares, num)]
        u = jax.random.uniform(height, (num, 1))
        cosine = 1.0 + jnp.log(u + (1.0 - u) * math.exp(-2.0 * kappa)) / kappa
        v = jax.vmap(sphere.to_tangent)(centre, jax.random.normal(around, (num, 3)))
        v = v / jnp.linalg.norm(v, axis=1, keepdims=True)
        return jax.vmap(sphere.project)(cosine * centre + jnp.sqrt(jnp.maximum(1.0 - cosine**2, 0.0)) * v)

    def log_prob(x: Any) -> Any:
        constant = math.log(kappa / (2.0 * math.pi * (1.0 - math.exp(-2.0 * kappa))))
        return mixed(constant + kappa * (x @ corners.T - 1.0), shares)

    return Target(sphere, draw, log_prob)


def wrapped(manifold: Any, shares: list[float], variance: float, density: Any) -> Target:
    """Components exp_centre(v), v normal of a variance, at uniform centres."""
    centres = jax.vmap(manifold.uniform)(jax.random.split(jax.random.key(7), len(shares)))

    def draw(key: Any, num: int) -> Any:
        which, around = jax.random.split(key)
        centre = centres[chosen(which, shares, num)]
        v = jax.vmap(manifold.tangent_normal)(jax.random.split(around, num), centre)
        return jax.vmap(manifold.exp)(centre, math.sqrt(variance) * v)

    def log_prob(x: Any) -> Any:
        return mixed(jax.vmap(lambda x: jax.vmap(lambda c: density(c, x, variance))(centres))(x), shares)

    return Target(manifold, draw, None if density is None else log_prob)


def torus_density(centre: Any, x: Any, variance: float) -> Any:
    """Wrapped normals, coordinate by coordinate."""
    return jnp.sum(heat.circle_log_prob(x - centre, variance))


def rotation_density(centre: Any, x: Any, variance: float) -> Any:
    """The normal density of the rotation vector over (2 sin(a / 2) / a)^2; vectors longer than pi have no weight."""
    angle = jnp.maximum(mf.SO(3).distance(centre, x), 1e-4)
    volume = 2.0 * jnp.log(2.0 * jnp.sin(0.5 * angle) / angle)
    return -0.5 * angle**2 / variance - 1.5 * math.log(2.0 * math.pi * variance) - volume


def evolution(n: int) -> Target:
    """exp(iH) of a particle in a random well."""
    waves = np.fft.fftfreq(n, 1.0 / n)
    fourier = np.fft.fft(np.eye(n)) / math.sqrt(n)
    laplacian = jnp.asarray((fourier.conj().T * (-4.0 * np.pi**2 * waves**2)) @ fourier, jnp.complex64)
    grid = jnp.arange(n) / n

    def one(key: Any) -> Any:
        strength, middle = jax.random.split(key)
        w = jax.random.uniform(strength, minval=2.0, maxval=3.0)
        well = 0.5 * w**2 * (grid - jax.random.normal(middle)) ** 2
        values, vectors = jnp.linalg.eigh(laplacian - jnp.diag(well))
        return mf.real_pair((vectors * jnp.exp(1j * values)) @ vectors.conj().T)

    manifold = mf.U(n)
    return Target(manifold, lambda key, num: jax.vmap(lambda k: manifold.project(one(k)))(jax.random.split(key, num)))


FOUR, TWO = [0.4, 0.3, 0.2, 0.1], [0.6, 0.4]
SETS: dict[str, dict[str, Callable[[], Target]]] = {
    "small": {
        "S2": von_mises_fisher,
        "T10": lambda: wrapped(mf.Torus(10), FOUR, 0.2, torus_density),
        "SO(3)": lambda: wrapped(mf.SO(3), FOUR, 0.1, rotation_density),
    },
    "control": {"SO(3), one": lambda: wrapped(mf.SO(3), [1.0], 0.1, rotation_density)},
    "groups": {"SO(10)": lambda: wrapped(mf.SO(10), TWO, 0.05, None)},
    "unitary": {f"U({n})": (lambda n=n: evolution(n)) for n in (3, 9, 15)},
}


SECONDS = {"T10": 90.0, "SO(10)": 90.0, "U(3)": 60.0, "U(9)": 60.0, "U(15)": 60.0}  # 30 for the others
METHODS = ("projected", "score", "flow", "bridge", "projected flow", "momentum")


def makers(manifold: Any, data: Any) -> dict[str, Callable[[Any], Any]]:
    """The methods, from an optimizer."""
    group = isinstance(manifold, mf.SO | mf.U)
    middle = jax.jit(lambda x: manifold.project(jnp.mean(x, 0)))(data) if group else None
    made = {
        "projected": lambda opt: methods.projected(manifold, reference=middle, optimizer=opt),
        "score": lambda opt: methods.riemannian_score(manifold, optimizer=opt),
        "flow": lambda opt: methods.riemannian_flow(manifold, optimizer=opt),
        "bridge": lambda opt: methods.manifold_bridge(manifold, optimizer=opt),
    }
    if not isinstance(manifold, mf.Torus):
        made["projected flow"] = lambda opt: methods.riemannian_flow(manifold, path="projected", optimizer=opt)
    if not isinstance(manifold, mf.Sphere):
        made["momentum"] = lambda opt: methods.trivialised_momentum(manifold, optimizer=opt)
    return made


def learnt(name: str, target: Target, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All methods on a target."""
    seconds, n, nll = (0.5, 100, 8) if options.smoke else (options.seconds or SECONDS.get(name, 30.0), 2000, 500)
    manifold = target.manifold
    draw = jax.jit(target.draw, static_argnums=1)
    data, real, other = (
        draw(jax.random.key(k), num) for k, num in ((0, 2000 if options.smoke else 50_000), (1, n), (2, n))
    )
    features = jax.jit(jax.vmap(manifold.features))
    floor = evaluation.c2st(features(real), features(other)).accuracy
    truth = None if target.log_prob is None else -float(jnp.mean(target.log_prob(real[:nll])))
    for method_name, make in makers(manifold, data).items():
        if method_name not in (options.methods or METHODS):
            continue
        case = {"target": name, "method": method_name}
        steps = max(5, int(seconds / seconds_per_update(make(adam(steps=1000)), data, data[:256])))
        method = make(adam(1e-3, steps=steps))
        began = time.perf_counter()
        process = method.process(bj.fit(method, data, jax.random.key(3), steps=steps, batch_size=256))
        yield record("updates", steps, case, began=began)
        x = bj.sample(process, bj.keys(jax.random.key(4), n))
        test = evaluation.c2st(features(real), features(x))
        yield record(
            "C2ST accuracy", test.accuracy, case, n=n, floor=floor, bar="at most 0.52", met=test.accuracy <= 0.52,
            standard_error=test.std_error,
        )  # fmt: skip
        if truth is not None and method_name in ("score", "flow", "projected flow"):
            density = jax.jit(jax.vmap(lambda x, process=process: bj.log_prob(process, jax.random.key(0), x).value))
            yield record("NLL", -float(jnp.mean(density(real[:nll]))), case, n=nll, floor=truth)


def part(name: str) -> Callable[[argparse.Namespace], Iterator[dict[str, Any]]]:
    """The targets of a part."""

    def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
        for target, make in SETS[name].items():
            yield from learnt(target, make(), options)

    return run


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which methods, and how long each trains."""
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="these alone; default all")
    parser.add_argument("--seconds", type=float, help="of CPU, for every method; default 30 to 90 by the target")


if __name__ == "__main__":
    STUDY.run(__doc__, {name: part(name) for name in SETS}, add_options, smoke=["small"])
