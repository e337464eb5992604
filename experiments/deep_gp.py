"""Deep Gaussian processes: how far a posterior's bound is from the best, what laws it can hold, what it is for.

    python experiments/deep_gp.py                   all; results/deep_gp.json
    python experiments/deep_gp.py --only step       one part
    python experiments/deep_gp.py --smoke           seconds

    bound     one layer, Gaussian noise, 100 points of a line, 10 inducing: the collapsed bound of Titsias less that of
              every posterior after the same updates; diffusions of 2, 5, 10 and 20 steps, around a learnt Gaussian and,
              as published, without one; three seeds
    equal time    the same of the diffusions after updates of 5 processor seconds
    step      two layers, a step seen on both sides of a gap: where between the two the function jumps is open, and so
              values there are high or low, not between. Hyperparameters and inducing inputs fixed; every posterior's
              law of y in the gap beside that of HMC
    classes   digits and breast cancer: accuracy, log likelihood, calibration
    missing   the lower half of digits from the upper

In ``bound`` and ``equal time`` all have Adam at 0.02, cosine to 0, and 8 draws. HMC: two populations of 512, tempered
from the prior to the posterior (blackjax), 50 moves of 8 leapfrogs at each temperature. Budget: 40 minutes on one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from study import Study, Table, record, seconds_per_update
from tempering import smc, tempered

import bridgejax as bj
from bridgejax.evaluation import Forecast, evaluate_predictions
from bridgejax.metrics import energy_distance
from bridgejax.training import adam

STUDY = Study(
    "deep_gp",
    topic="Gaussian processes",
    question="What does a diffusion posterior of a deep Gaussian process buy?",
    answer="On one layer, where the best Gaussian is the best law, it cannot buy anything: added to a learnt Gaussian "
    "it stays within .2 nats of the best bound, and as published, with no Gaussian to add to, it is .7 to 1.7 nats "
    "short. On two layers it is nearer to HMC than a Gaussian is where the law has two levels, and better at filling "
    "in the lower half of digits at equal updates; classes of digits and of tumours are a tie, also with logistic "
    "regression. The amortised mean of DBVI makes hardly a difference to DDVI in any of these, at equal updates or "
    "time.",
    brief="A little, where the posterior is not Gaussian; DBVI and DDVI are nearly a tie.",
    budget="40 minutes on one core",
    source="Diffusion bridge variational inference for deep Gaussian processes, 2026; Xu, Zeng & Paisley 2024; "
    "Salimbeni & Deisenroth 2017",
    floor="the exact posterior",
    tables=(
        Table(
            "gap of the bound",
            rows=("posterior", "around"),
            columns="steps",
            text="Nats of 100 rows: the collapsed bound, which no law of the inducing values exceeds, less the mean "
            "log weight of 4,096 paths.",
        ),
        Table("gap of the log of the mean weight", rows=("posterior", "around"), columns="steps"),
        Table(
            "gap at equal time",
            rows=("posterior", "around"),
            columns="steps",
            text="The same after updates of five processor seconds on one core.",
        ),
        Table(
            "gap at equal time",
            rows=("posterior", "around"),
            columns="steps",
            show="updates",
            title="Updates in that time",
            text="By the least time of ten updates.",
        ),
        Table(
            ("distance to HMC in the gap", "share between the levels"),
            rows=("posterior",),
            title="A step that was not seen",
            text="Squared energy distance of y to a second population of tempered HMC, mean over inputs in the gap "
            "(floor: the first); share of y within .5 of the middle of the two levels.",
        ),
        Table(
            ("accuracy", "test log likelihood", "calibration error"),
            rows=("data", "model"),
            title="Classes",
            text="A fifth of the rows held out, 1,000 updates, 64 draws.",
        ),
        Table(
            "RMSE of missing pixels",
            rows=("model",),
            title="The lower half of a digit",
            text="Of -1 to 1; 400 updates, 50 inducing inputs.",
        ),
    ),
    pictures=("deep_gp_step", "deep_gp_digits"),
    missed=(
        ({"posterior": "mean_field"}, "Independent values cannot hold the correlations of the exact posterior."),
        ({"around": "a Gaussian"}, "Noise of the updates: the Gaussian without a chain has its bound in closed form."),
        (
            {"around": "nothing"},
            "A step's noise is diagonal, and the exact posterior is correlated: only many short steps hold that.",
        ),
    ),
    timed=("part", "posterior", "model", "data"),
    one_core=True,
)


PICTURES = pathlib.Path(__file__).resolve().parents[1] / "docs"


def save(figure: Any, name: str) -> None:
    """Among the pictures of the documentation."""
    import matplotlib.pyplot as plt

    figure.savefig(PICTURES / f"{name}.png", dpi=90)
    plt.close(figure)


SEEDS, SECONDS = 3, 5.0


# bound --------------------------------------------------------------------------------------------------------------


def line() -> tuple[np.ndarray, np.ndarray]:
    """100 noisy values of a function of one number."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-3.0, 3.0, 100))[:, None]
    return x, np.sin(2.0 * x[:, 0]) + 0.3 * x[:, 0] + 0.2 * rng.normal(size=100)


def collapsed(process: bj.Process, x: np.ndarray, y: np.ndarray) -> float:
    """The best bound at the process's covariance, inducing inputs and noise."""
    function: Any = process.decode
    layer = function.params["layers"][0]
    covariance = bj.gp.Covariance(function.model.layers[0].covariance, layer["covariance"])
    noise = float(jnp.exp(function.params["likelihood"]["log_scale"]))
    return float(bj.gp.collapsed_bound(covariance, layer["inducing"], x, y, noise))


def on_a_line(name: str, around: str | None, steps: int, updates: int) -> bj.Method:
    """One layer; a chain of so many steps, none where 0."""
    more: dict[str, Any] = dict(steps=steps, draws=8, residual=around) if steps else {}
    return bj.methods.deep_gp(
        *line(),
        posterior=name,
        layers=1,
        inducing=10,
        covariance=bj.gp.rbf(0.8),
        likelihood=bj.gp.gaussian(0.2),
        optimizer=adam(2e-2, clip=10.0, steps=updates),
        **more,
    )


def learnt_on_a_line(method: bj.Method, seed: int, updates: int) -> tuple[Any, float]:
    """The state, and the best bound at its covariance and noise."""
    x, y = line()
    data = {"source": jnp.asarray(x), "target": jnp.asarray(y)}
    state = bj.fit(method, data, jax.random.key(seed), steps=updates, batch_size=100, progress=False)
    return state, collapsed(method.process(state), x, y)


def gaps_of(method: bj.Method, seed: int, updates: int, paths: int) -> tuple[float, float, float]:
    """The best bound less the mean log weight, less the log of the mean weight; standard error of the first."""
    state, best = learnt_on_a_line(method, seed, updates)
    process = method.process(state)
    w = bj.log_weights(process, bj.keys(jax.random.key(1), paths), bj.methods.log_joint(process, *line()))
    return best - float(jnp.mean(w)), best - float(bj.weights.log_z(w)), float(jnp.std(w)) / math.sqrt(paths)


AROUND = {"full": "a Gaussian", None: "nothing"}
CHAINS = [(name, around, k) for k in (2, 5, 10, 20) for name in ("ddvi", "dbvi") for around in ("full", None)]


def bound(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Gaps of the bounds after the same updates."""
    updates, paths = (20, 64) if options.smoke else (2000, 4096)
    for name in ("full",) if options.smoke else ("mean_field", "full"):
        began, method = time.perf_counter(), on_a_line(name, None, 0, updates)
        state, best = learnt_on_a_line(method, 0, updates)
        x, y = line()
        batch = {"source": jnp.asarray(x), "target": jnp.asarray(y)}
        gap = best - float(method.step(state, jax.random.key(1), batch)[1]["bound"])
        case = {"posterior": name, "around": "nothing", "steps": "none"}
        yield record("gap of the bound", gap, case, began=began, bar="at most 0.05 nats", met=gap <= 0.05)
    for name, around, steps in CHAINS[:1] if options.smoke else CHAINS:
        began, method = time.perf_counter(), on_a_line(name, around, steps, updates)
        found = [gaps_of(method, seed, updates, paths) for seed in range(1 if options.smoke else SEEDS)]
        gaps, tight, errors = zip(*found, strict=True)
        case, value = {"posterior": name, "around": AROUND[around], "steps": steps}, float(np.mean(gaps))
        wanted = {"bar": "at most 0.05 nats", "met": value <= 0.05}
        yield record("gap of the bound", value, case, spread=gaps, began=began, n=paths, error=errors[-1], **wanted)
        yield record("gap of the log of the mean weight", float(np.mean(tight)), case, spread=tight, n=paths)


def equal_time(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Gaps of the bounds after updates of the same processor time."""
    x, y = line()
    data = {"source": jnp.asarray(x), "target": jnp.asarray(y)}
    seconds, paths = (0.05, 64) if options.smoke else (SECONDS, 4096)
    for name, around, steps in CHAINS[:1] if options.smoke else CHAINS:
        began = time.perf_counter()
        one = seconds_per_update(on_a_line(name, around, steps, 100), data, data)
        updates = max(5, int(seconds / one))
        method = on_a_line(name, around, steps, updates)
        gaps = [gaps_of(method, seed, updates, paths)[0] for seed in range(1 if options.smoke else SEEDS)]
        case = {"posterior": name, "around": AROUND[around], "steps": steps}
        more = {"n": paths, "updates": updates}
        yield record("gap at equal time", float(np.mean(gaps)), case, spread=gaps, began=began, **more)


# step ---------------------------------------------------------------------------------------------------------------

GAP, NOISE, LENGTH, SLOTS = 0.3, 0.1, 0.3, 10
LAWS: dict[str, dict[str, Any]] = {
    "mean-field Gaussian": dict(posterior="mean_field"),
    "full Gaussian": dict(posterior="full"),
    "DDVI": dict(posterior="ddvi"),
    "DBVI": dict(posterior="dbvi"),
}


def jump() -> tuple[np.ndarray, np.ndarray]:
    """A step from -1 to 1 that was observed on both sides of a gap, and not in it."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-1.0, -GAP, 20), rng.uniform(GAP, 1.0, 20)])
    return x[:, None], np.sign(x) + NOISE * rng.normal(size=40)


def only_posterior(updates: int) -> optax.GradientTransformation:
    """Adam on the posterior; covariances, noise and inducing inputs stay as they are, one model for all."""
    roles = {"posterior": adam(1e-2, clip=10.0, steps=updates), "model": optax.set_to_zero()}
    return optax.multi_transform(
        roles, lambda params: {k: "posterior" if k == "posterior" else "model" for k in params}
    )


def reference_law(log_density: Any, size: int, key: Array, *, particles: int, moves: int) -> Array:
    """Draws by tempered SMC from the prior (blackjax), every temperature followed by so many HMC moves."""
    start, key, last = jax.random.split(key, 3)
    prior = lambda v: -0.5 * jnp.sum(v**2)  # noqa: E731
    likelihood = lambda v: log_density(v) - prior(v)  # noqa: E731
    init, step = smc(prior, likelihood, size, step_size=0.03, leapfrogs=8, moves=moves)
    state, _, _ = tempered(step, init(jax.random.normal(start, (particles, size))), key)
    return state.particles[jax.random.choice(last, particles, (particles,), p=state.weights)]


def step(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Predictive laws in the gap beside those of HMC."""
    x, y = jump()
    updates, draws = (20, 64) if options.smoke else (3000, 512)
    at = np.linspace(-1.0, 1.0, 9 if options.smoke else 41)
    model = dict(layers=2, inducing=SLOTS, covariance=bj.gp.rbf(LENGTH), likelihood=bj.gp.gaussian(NOISE))
    data = {"source": jnp.asarray(x), "target": jnp.asarray(y)}
    reference = bj.methods.deep_gp(x, y, posterior="ddvi", steps=1, residual=None, **model)
    process = reference.process(reference.init(jax.random.key(0), None))
    log_density = bj.methods.log_joint(process, x, y)
    began, size = time.perf_counter(), 2 * SLOTS
    pair = jax.random.split(jax.random.key(5))
    many = dict(particles=draws, moves=2 if options.smoke else 50)
    ends = jnp.concatenate([reference_law(log_density, size, key, **many) for key in pair])

    @jax.jit
    def seen(process: Any, keys: Array, ends: Array) -> Array:
        draw = lambda key, w: jax.vmap(lambda at: process.decode(key, w, at))(jnp.asarray(at)[:, None])  # noqa: E731
        return jax.vmap(draw)(keys, ends)[:, :, 0]

    hmc = np.asarray(seen(process, bj.keys(jax.random.key(6), 2 * draws), ends))
    shown = {"HMC": hmc[:draws]}
    inside = np.flatnonzero(np.abs(at) < GAP)
    far = lambda u, v: float(np.mean([energy_distance(u[:, [k]], v[:, [k]]) for k in inside]))  # noqa: E731
    level = far(hmc[:draws], hmc[draws:])
    between = lambda u: float(np.mean(np.abs(u[:, inside]) < 0.5))  # noqa: E731
    told = dict(n=draws, floor=level)
    yield record("share between the levels", between(hmc), {"posterior": "HMC"}, began=began, n=len(hmc))
    for name, how in LAWS.items():
        began = time.perf_counter()
        more = dict(draws=8) if name in ("DDVI", "DBVI") else {}
        method = bj.methods.deep_gp(x, y, optimizer=only_posterior(updates), **model, **how, **more)
        state = bj.fit(method, data, jax.random.key(0), steps=updates, batch_size=40, progress=False)
        fitted = method.process(state)
        keys = bj.keys(jax.random.key(8), draws)
        raw = bj.sample(dataclasses.replace(fitted, decode=lambda key, w, args: w), keys)
        shown[name] = np.asarray(seen(fitted, bj.keys(jax.random.key(9), draws), raw))
        case = {"posterior": name}
        yield record("distance to HMC in the gap", far(shown[name], hmc[draws:]), case, began=began, **told)
        yield record("share between the levels", between(shown[name]), case, n=draws)
    if not options.smoke:
        draw_step(at, shown, x, y)


def draw_step(at: np.ndarray, shown: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> None:
    """Densities of y at every x, side by side."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(shown), figsize=(3.0 * len(shown), 2.8), sharey=True, layout="constrained")
    edges = np.linspace(-2.0, 2.0, 61)
    for axis, (name, values) in zip(axes, shown.items(), strict=True):
        density = np.stack([np.histogram(column, edges, density=True)[0] for column in values.T], axis=1)
        axis.pcolormesh(at, 0.5 * (edges[1:] + edges[:-1]), np.sqrt(density), cmap="Blues", shading="nearest")
        axis.plot(x[:, 0], y, ".", color="black", markersize=3)
        axis.set(title=name, xlabel="x", xlim=(-1.0, 1.0), ylim=(-2.0, 2.0))
    axes[0].set_ylabel("y")
    save(figure, "deep_gp_step")


# digits -------------------------------------------------------------------------------------------------------------


def trained(x: np.ndarray, y: np.ndarray, updates: int, **how: Any) -> Any:
    """The process after so many updates of 256 rows."""
    optimizer = adam(1e-2, clip=10.0, steps=updates)
    method = bj.methods.deep_gp(x, y, inducing=min(100 if y.ndim == 1 else 50, len(x) // 8), optimizer=optimizer, **how)
    data = {"source": jnp.asarray(x), "target": jnp.asarray(y)}
    state = bj.fit(method, data, jax.random.key(0), steps=updates, batch_size=min(256, len(x)), progress=False)
    return method.process(state)


CLASSIFIERS: dict[str, dict[str, Any]] = {
    "sparse GP": dict(posterior="full", layers=1),
    "DSVI": dict(posterior="full", layers=2),
    "DDVI": dict(posterior="ddvi", layers=2),
    "DBVI": dict(posterior="dbvi", layers=2),
}


def labelled(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows that scikit-learn ships, four fifths for training, standardised where a column varies."""
    from sklearn import datasets

    loaded: Any = {"digits": datasets.load_digits, "breast cancer": datasets.load_breast_cancer}[name]()
    x, y = np.asarray(loaded.data, np.float64), np.asarray(loaded.target)
    order, held = np.random.default_rng(0).permutation(len(x)), len(x) // 5
    train, test = order[held:], order[:held]
    x = x[:, np.ptp(x[train], axis=0) > 0]
    if name == "digits":
        x = x / 4.0 - 2.0
    else:
        x = (x - x[train].mean(0)) / x[train].std(0)
    return x[train], y[train], x[test], y[test]


def classes(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Accuracy, log likelihood and calibration of held-out labels."""
    from sklearn.linear_model import LogisticRegression

    for name in ("breast cancer",) if options.smoke else ("digits", "breast cancer"):
        x, y, at, true = labelled(name)
        count, updates = len(set(y)), 10 if options.smoke else 1000
        found: dict[str, tuple[np.ndarray, float]] = {}
        began = time.perf_counter()
        found["logistic regression"] = LogisticRegression(max_iter=2000).fit(x, y).predict_proba(at), began
        for model, how in CLASSIFIERS.items():
            began = time.perf_counter()
            process = trained(x, y, updates, likelihood=bj.gp.softmax(count), width=8, **how)
            said = bj.methods.predict(process, jax.random.key(1), at, draws=64)
            assert said.probabilities is not None
            found[model] = np.asarray(said.probabilities), began
        for model, (p, began) in found.items():
            said = {model: Forecast(probabilities=p)}
            scores = evaluate_predictions(said, true, classes=[str(k) for k in range(count)]).scores[model]
            case, n, error = {"data": name, "model": model}, len(true), scores["accuracy_error"]
            yield record("accuracy", scores["accuracy"], case, n=n, error=error, began=began)
            yield record("test log likelihood", -scores["nll"], case, n=n, error=scores["nll_error"])
            yield record("calibration error", scores["calibration_error"], case, n=n)


def missing(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The lower half of digits from the upper: one output a pixel."""
    image = bj.data.load("digits").x.reshape(-1, 64)
    order, held = np.random.default_rng(0).permutation(len(image)), len(image) // 5
    x, at = np.asarray(image[order[held:]], np.float64), np.asarray(image[order[:held]], np.float64)
    given = np.flatnonzero(np.ptp(x[:, :32], axis=0) > 0)
    level, unit = x[:, 32:].mean(), x[:, 32:].std()
    shown, updates = {}, 10 if options.smoke else 400
    design = np.hstack([x[:, given], np.ones((len(x), 1))])
    weights, *_ = np.linalg.lstsq(design, x[:, 32:], rcond=None)
    shown["linear"] = np.hstack([at[:, given], np.ones((len(at), 1))]) @ weights, time.perf_counter()
    for model, how in CLASSIFIERS.items():
        began = time.perf_counter()
        process = trained(x[:, given], (x[:, 32:] - level) / unit, updates, width=8, **how)
        said = bj.methods.predict(process, jax.random.key(1), at[:, given], draws=64)
        shown[model] = np.asarray(said.mean) * unit + level, began
    for model, (mean, began) in shown.items():
        errors = np.sqrt(np.mean((mean - at[:, 32:]) ** 2, axis=1))
        each = float(np.std(errors) / math.sqrt(len(errors)))
        value = float(np.sqrt(np.mean((mean - at[:, 32:]) ** 2)))
        yield record("RMSE of missing pixels", value, {"model": model}, n=len(at), error=each, began=began)
    if not options.smoke:
        draw_missing(at, {model: mean for model, (mean, _) in shown.items()})


def draw_missing(at: np.ndarray, shown: dict[str, np.ndarray]) -> None:
    """Digits, what was given, and every model's lower half."""
    import matplotlib.pyplot as plt

    count = 12
    rows = {"digit": at, "given": np.hstack([at[:, :32], np.full((len(at), 32), at.min())])}
    rows |= {model: np.hstack([at[:, :32], mean]) for model, mean in shown.items()}
    figure, axes = plt.subplots(len(rows), count, figsize=(0.8 * count, 0.85 * len(rows)), layout="constrained")
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=False):
            axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=at.min(), vmax=at.max())
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    save(figure, "deep_gp_digits")


if __name__ == "__main__":
    STUDY.run(__doc__, {"bound": bound, "equal time": equal_time, "step": step, "classes": classes, "missing": missing})
