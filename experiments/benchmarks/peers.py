"""Steps of our solvers beside those of diffusers' schedulers and k-diffusion's samplers.

Both get the same denoiser, noise levels, start and, where there is noise, the same noise. The denoiser is that of a
mixture of three Gaussians in the plane, in closed form and float64. Where two solvers differ by more than rounding,
both are also run from one reference in NumPy that has the differing line as an argument: ours must agree with it under
our line, the peer with it under the peer's, so that the line explains the whole difference.

    python experiments/benchmarks/peers.py            all; results/peers.json
    python experiments/benchmarks/peers.py --smoke    fifteen steps

Needs diffusers ([bench]) and k-diffusion (``pip install --no-deps k-diffusion``: only its sampling.py is imported, the
package asks for much more); a peer that is not there is left out. No download, no GPU. States are compared as
x / sqrt(1 + sigma^2), sigma the noise over the signal, which is of order one at every level. What the differences mean
is told in docs/peers.md.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import harness
import jax
import jax.numpy as jnp
import numpy as np
from harness import Pick, Study, Table
from study import record

import bridgejax as bj

STUDY = Study(
    "peers",
    topic="Solvers and speed",
    question="Do our solvers take the steps of diffusers' and k-diffusion's?",
    answer="DDIM, DPM-Solver++ (2M) with and without noise, Heun and ancestral steps are the peers' to rounding. UniPC "
    "and 3M differ in weights of their formulas, and eta between 0 and 1 means something else; each difference "
    "vanishes when one line of a reference is exchanged.",
    brief="Yes; UniPC, 3M and eta differ by a line each, named and checked.",
    budget="1 minute on two cores",
    picks=(Pick("largest difference", {"peer": "k-diffusion", "theirs": "sample_dpmpp_2m"}, "k-diffusion's 2M"),),
    tables=(
        Table(
            "largest difference",
            rows=("peer", "theirs", "ours"),
            where={"part": "same"},
            title="Steps that are the same",
            text="Largest difference over all steps and samples. DPMSolverMultistepScheduler and "
            "EulerDiscreteScheduler round their states to float32, whatever they are given; the others keep float64.",
            also=("end",),
        ),
        Table(
            "largest difference",
            rows=("peer", "theirs", "ours"),
            where={"part": "explained"},
            title="Steps that differ, and by what",
            text="first: the first step, from 1, whose end differs. our_line, their_line: what is left of the "
            "difference to one reference in NumPy with our line in it, and with theirs. end: at the last level.",
            also=("line", "first", "end", "our_line", "their_line"),
        ),
        Table(
            "error of the end",
            rows=("peer", "theirs"),
            columns="steps",
            title="Order on a Gaussian, whose end is known",
            text="Relative error of the probability flow from sigma 10 to 0.05 on a standard normal, even steps in log "
            "sigma.",
        ),
        Table(
            "order",
            rows=("peer", "theirs"),
            columns="steps",
            title="The same as an order",
            text="Slope of the error from half as many steps to so many. bridgejax's 3M does better here than its 3.",
        ),
        Table(
            ("level told to the network", "level between steps"),
            rows=("peer", "theirs", "steps"),
            title="Noise levels that do not fit",
            text="Largest ratio, minus one, of the level of the time that a scheduler hands to the network over the "
            "level that its step is made for; and of the level where a step begins over the one where the last ended. "
            "Here there are no such ratios: a step and its denoiser share one time.",
        ),
    ),
)

jax.config.update("jax_enable_x64", True)

MEANS, SPREAD = np.array([[-1.5, 0.4], [0.3, -1.0], [1.0, 1.2]]), 0.05
BETAS = (0.1, 20.5)  # of our clock, a little longer than the peers' 1,000 steps from 1e-4 to 0.02
FLOAT64, FLOAT32 = 1e-10, 2e-5


def denoiser(xp: Any, y: Any, level: Any) -> Any:
    """E[x0 | x0 + level z = y] of the mixture; ``xp`` is NumPy or jax.numpy, y has any leading axes."""
    variance = SPREAD + level**2
    logits = -0.5 * xp.sum((y[..., None, :] - MEANS) ** 2, -1) / variance
    weights = xp.exp(logits - xp.max(logits, -1, keepdims=True))
    weights = weights / xp.sum(weights, -1, keepdims=True)
    mean = xp.sum(weights[..., None] * MEANS, -2)
    return mean + SPREAD / variance * (y - mean)


def karras_levels(n: int) -> np.ndarray:
    """``n`` levels from 20 to 0.02 and 0."""
    roots = np.linspace(20.0 ** (1 / 7), 0.02 ** (1 / 7), n)
    return np.append(roots**7, 0.0)


def starts(levels: np.ndarray, count: int = 8) -> np.ndarray:
    """States at the first level."""
    return math.hypot(1.0, levels[0]) * np.random.default_rng(0).standard_normal((count, 2))


# ours -----------------------------------------------------------------------------------------------------------------


def our_path(solver: Any, levels: np.ndarray, clock: str, *, noisy: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """States y = x / alpha at every level, (n + 1, samples, 2), and the steps' standard normals."""
    if clock == "karras":
        schedule, times = bj.schedules.karras(float(levels[0])), levels
    else:
        low, high = BETAS
        schedule, total = bj.schedules.vp(low, high), np.log1p(levels**2)
        times = 2.0 * total / (low + np.sqrt(low**2 + 2.0 * (high - low) * total))
    alpha = 1.0 / np.hypot(1.0, levels) if clock == "vp" else np.ones_like(levels)

    def denoise(t: Any, x: Any, args: Any) -> Any:
        return denoiser(jnp, x / schedule.alpha(t), schedule.sigma(t) / schedule.alpha(t))

    sde = (bj.reverse if noisy else bj.probability_flow)(schedule, denoiser=denoise)
    ts = jnp.asarray(float(schedule.T) - times)
    x0 = jnp.asarray(alpha[0] * starts(levels))
    keys = bj.keys(jax.random.key(0), len(x0))
    path = jax.vmap(lambda key, x: bj.simulate_path(sde, key, x, ts, solver=solver))(keys, x0)
    states = np.swapaxes(np.asarray(path.xs), 0, 1) / alpha[:, None, None]
    if not noisy:
        return states, np.zeros((len(levels) - 1, *x0.shape))
    z = np.swapaxes(np.asarray(path.noise), 0, 1) / np.sqrt(np.diff(np.asarray(ts)))[: path.noise.shape[1], None, None]
    return states, np.concatenate([z, np.zeros((len(levels) - 1 - len(z), *x0.shape))])


# the peers ------------------------------------------------------------------------------------------------------------


def installed(peer: str) -> bool:
    """Whether a peer is there; where it is not, say how to get it."""
    name = peer.replace("-", "_")
    found = name in sys.modules or importlib.util.find_spec(name) is not None
    if not found:
        how = "--no-deps k-diffusion" if peer == "k-diffusion" else "'bridgejax[bench]'"
        print(f"{peer}: skipped, it is not installed (pip install {how})")
    return found


def k_sampling() -> Any:
    """k-diffusion's sampling module alone; of its utilities it uses one function."""
    if "k_diffusion.sampling" not in sys.modules:
        found = importlib.util.find_spec("k_diffusion")
        assert found is not None
        package, utils = types.ModuleType("k_diffusion"), types.ModuleType("k_diffusion.utils")
        package.__path__ = list(found.submodule_search_locations or ())
        utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
        package.utils = utils
        sys.modules.update({"k_diffusion": package, "k_diffusion.utils": utils})
    return importlib.import_module("k_diffusion.sampling")


def k_path(name: str, levels: np.ndarray, z: np.ndarray, **options: Any) -> np.ndarray:
    """States of a sampler of k-diffusion; ``z`` is what its noise sampler hands out."""
    import torch

    states: list[np.ndarray] = []

    def model(y: Any, level: Any) -> Any:
        return torch.from_numpy(denoiser(np, y.numpy(), level.numpy()[:, None]))

    if "eta" in options:
        steps = iter(torch.from_numpy(z))
        options["noise_sampler"] = lambda level, following: next(steps)
    y, sigmas = torch.from_numpy(starts(levels)), torch.from_numpy(levels)
    sampler = getattr(k_sampling(), name)
    end = sampler(
        model, y, sigmas, disable=True, callback=lambda now: states.append(now["x"].numpy().copy()), **options
    )
    return np.stack([*states, end.numpy()])


def d_scheduler(name: str, steps: int, **options: Any) -> tuple[Any, np.ndarray]:
    """A scheduler of diffusers at its own timesteps, and its levels; its tables are widened to float64."""
    import diffusers

    common = dict(beta_start=1e-4, beta_end=0.02, prediction_type="sample", timestep_spacing="trailing")
    scheduler = getattr(diffusers, name)(**{**common, **options})
    scheduler.set_timesteps(steps)
    if name == "DDIMScheduler":
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
        scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
        kept = scheduler.alphas_cumprod[scheduler.timesteps].numpy()
        return scheduler, np.append(np.sqrt((1.0 - kept) / kept), 0.0)
    scheduler.sigmas = scheduler.sigmas.double()
    levels = scheduler.sigmas.numpy()
    return scheduler, np.append(levels[0], levels[1::2]) if name == "HeunDiscreteScheduler" else levels


def d_path(name: str, scheduler: Any, levels: np.ndarray, z: np.ndarray, **options: Any) -> np.ndarray:
    """States y of a scheduler of diffusers; some live on x = y / sqrt(1 + level^2)."""
    import torch

    heun, scaled = name == "HeunDiscreteScheduler", name in ("HeunDiscreteScheduler", "EulerDiscreteScheduler")
    inputs = scheduler.sigmas.numpy() if heun else levels
    norm = np.ones_like(inputs) if scaled else np.hypot(1.0, inputs)
    noisy = "eta" in options or scheduler.config.get("algorithm_type", "").startswith("sde")
    y = starts(levels)
    states = [y]
    for k, t in enumerate(scheduler.timesteps):
        x = torch.from_numpy(y / norm[k])
        scheduler.scale_model_input(x, t)
        more = {"variance_noise": torch.from_numpy(z[k])} if noisy else {}
        denoised = torch.from_numpy(denoiser(np, y, inputs[k]))
        y = scheduler.step(denoised, t, x, **more, **options).prev_sample.numpy() * norm[k + 1]
        if not heun or k % 2 or k + 1 == len(scheduler.timesteps):  # Heun's first stage is no state
            states.append(y)
    return np.stack(states)


# one reference for all multistep solvers ------------------------------------------------------------------------------


def moments(h: float) -> np.ndarray:
    """int_0^h e^(tau - h) tau^k d tau for k = 0, 1, 2."""
    first = -math.expm1(-h)
    return np.array([first, h - first, h**2 - 2.0 * (h - first)])


def exact(h: float, nodes: int) -> np.ndarray:
    return moments(h)[:nodes]


def midpoint(h: float, nodes: int) -> np.ndarray:
    """Two nodes: M_1 = h M_0 / 2."""
    return np.array([moments(h)[0], 0.5 * h * moments(h)[0]])[:nodes] if nodes < 3 else exact(h, nodes)


def half_square(h: float, nodes: int) -> np.ndarray:
    """Two nodes: M_1 = h^2 / 2."""
    return np.array([moments(h)[0], 0.5 * h**2])[:nodes] if nodes < 3 else exact(h, nodes)


def half_third(two: Callable[[float, int], np.ndarray]) -> Callable[[float, int], np.ndarray]:
    """Three nodes: half of M_2; fewer: as told."""
    return lambda h, nodes: exact(h, 3) * [1.0, 1.0, 0.5] if nodes == 3 else two(h, nodes)


class Rule(NamedTuple):
    """A multistep solver: past nodes, the moments that make its weights, and those of its corrector, if it has one."""

    past: int
    predict: Callable[[float, int], np.ndarray]
    correct: Callable[[float, int], np.ndarray] | None = None
    correct_all: bool = True


def weighed(values: Callable[[float, int], np.ndarray], h: float, nodes: list[tuple[float, Any]]) -> Any:
    """sum w_i D_i with sum w_i a_i^k = M_k, for D_i at offsets a_i."""
    offsets = np.array([a for a, _ in nodes])
    w = np.linalg.solve(np.vander(offsets, increasing=True).T, values(h, len(nodes)))
    return sum(wi * d for wi, (_, d) in zip(w, nodes, strict=True))


def multistep(rule: Rule, levels: np.ndarray) -> np.ndarray:
    """States of a multistep solver by its rule; the step to level 0 ends at D."""
    y = starts(levels)
    states, history, base = [y], [], y
    for k, (s, u) in enumerate(itertools.pairwise(levels)):
        here, d = -math.log(s), denoiser(np, y, s)
        if rule.correct is not None and history and (rule.correct_all or k == 1):
            began = history[0][0]
            nodes = [(began, history[0][1]), (here, d), *history[1:2]]
            pulled = weighed(rule.correct, here - began, [(a - began, v) for a, v in nodes])
            base = s / levels[k - 1] * base + pulled
        else:
            base = y
        history = [(here, d), *history][: rule.past + 1]
        h = math.inf if u == 0.0 else math.log(s / u)
        y = d if u == 0.0 else u / s * base + weighed(rule.predict, h, [(a - here, v) for a, v in history])
        states.append(y)
    return np.stack(states)


def ancestral(levels: np.ndarray, z: np.ndarray, up: Callable[[float, float], float]) -> np.ndarray:
    """D + sqrt(u^2 - up^2) / s (y - D) + up z."""
    y = starts(levels)
    states = [y]
    for k, (s, u) in enumerate(itertools.pairwise(levels)):
        d = denoiser(np, y, s)
        y = d + math.sqrt(u**2 - up(s, u) ** 2) / s * (y - d) + up(s, u) * z[k]
        states.append(y)
    return np.stack(states)


# parts ----------------------------------------------------------------------------------------------------------------


def apart(a: np.ndarray, b: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Largest difference at every level, states scaled to order one."""
    return np.max(np.abs(a - b), axis=(1, 2)) / np.hypot(1.0, levels)


def paths(
    peer: str,
    name: str,
    config: dict[str, Any],
    call: dict[str, Any],
    steps: int,
    solver: Any,
    clock: str,
    *,
    noisy: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """``(levels, our states, theirs, normals)`` on the peer's levels; None where the peer is not installed."""
    if not installed(peer):
        return None
    scheduler, levels = (None, karras_levels(steps)) if peer == "k-diffusion" else d_scheduler(name, steps, **config)
    ours, z = our_path(solver, levels, clock, noisy=noisy)
    if scheduler is None:
        return levels, ours, k_path(name, levels, z, **call), z
    return levels, ours, d_path(name, scheduler, levels, z, **call), z


DDIM, TWO, THREE, UNI, HEUN = "ExponentialEuler", "DPMSolverPP2M", "DPMSolverPP3M", "UniPC", "Heun"
MULTI, SDE = "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}
NO_ZERO = {"final_sigmas_type": "sigma_min", "lower_order_final": False}  # into level 0, bh1 is 0 times infinity
SAME: Any = (
    # peer, its solver, options of the scheduler, of the call; ours, its options, our clock, bar
    ("k-diffusion", "sample_euler", {}, {}, DDIM, {}, "karras", FLOAT64),
    ("k-diffusion", "sample_heun", {}, {}, HEUN, {}, "karras", FLOAT64),
    ("k-diffusion", "sample_dpmpp_2m", {}, {}, TWO, {}, "karras", FLOAT64),
    ("k-diffusion", "sample_euler_ancestral", {}, {"eta": 1.0}, DDIM, {"eta": 1.0}, "karras", FLOAT64),
    ("k-diffusion", "sample_dpmpp_2m_sde", {}, {"eta": 1.0}, TWO, {"eta": 1.0}, "karras", FLOAT64),
    ("k-diffusion", "sample_dpmpp_2m_sde", {}, {"eta": 0.5}, TWO, {"eta": 0.5}, "karras", FLOAT64),
    ("diffusers", "DDIMScheduler", {"clip_sample": False}, {}, DDIM, {}, "vp", FLOAT64),
    ("diffusers", "DDIMScheduler", {"clip_sample": False}, {"eta": 1.0}, DDIM, {"eta": 1.0}, "vp", FLOAT64),
    ("diffusers", "HeunDiscreteScheduler", {}, {}, HEUN, {}, "karras", FLOAT64),
    ("diffusers", "EulerDiscreteScheduler", {}, {}, DDIM, {}, "karras", FLOAT32),
    ("diffusers", MULTI, {}, {}, TWO, {}, "vp", FLOAT32),
    ("diffusers", MULTI, SDE, {}, TWO, {"eta": 1.0}, "vp", FLOAT32),
)
OURS = {
    TWO: Rule(1, midpoint),
    THREE: Rule(2, exact, exact, correct_all=False),
    UNI: Rule(1, exact, exact),
}
EXPLAINED: Any = (
    # as above without our options, then the peer's rule and the line in words
    ("diffusers", "UniPCMultistepScheduler", {"solver_type": "bh1", **NO_ZERO}, {}, UNI, "vp",
     Rule(1, half_square, half_square), "M1 is h^2/2 where two nodes are", FLOAT64),
    ("diffusers", "UniPCMultistepScheduler", {"solver_type": "bh2"}, {}, UNI, "vp",
     Rule(1, midpoint, midpoint), "M1 is h M0/2 where two nodes are", FLOAT64),
    ("diffusers", MULTI, {"solver_type": "heun"}, {}, TWO, "vp", Rule(1, exact), "M1 is exact", FLOAT32),
    ("diffusers", MULTI, {"solver_order": 3}, {}, THREE, "vp",
     Rule(2, half_third(midpoint)), "half of M2; M1 on two nodes is h M0/2; first step not corrected", FLOAT32),
    ("k-diffusion", "sample_dpmpp_3m_sde", {}, {"eta": 0.0}, THREE, "karras",
     Rule(2, half_third(exact)), "half of M2; first step not corrected", FLOAT64),
)  # fmt: skip


def told(name: str, *options: dict[str, Any]) -> str:
    """A name with the options that matter."""
    hidden = ("clip_sample", "lower_order_final")
    shown = [f"{k}={v}" for one in options for k, v in one.items() if k not in hidden]
    return f"{name}({', '.join(shown)})" if shown else name


def same(options: Any) -> Iterator[Any]:
    """Solvers whose steps are equal."""
    steps = 15 if options.smoke else 20  # with fewer than 15, diffusers lowers the order of the last ones
    for peer, name, config, call, ours, ours_options, clock, bar in SAME:
        solver = getattr(bj.solvers, ours)(**ours_options)
        both = paths(peer, name, config, call, steps, solver, clock, noisy=bool(ours_options))
        if both is None:
            continue
        levels, mine, theirs, _ = both
        found = apart(mine, theirs, levels)
        yield record(
            "largest difference",
            float(f"{found.max():.2g}"),
            {"peer": peer, "theirs": told(name, config, call), "ours": told(ours, ours_options)},
            n=len(starts(levels)),
            bar=f"at most {bar:g}",
            met=found.max() <= bar,
            end=float(f"{found[-1]:.2g}"),
            steps=steps,
        )


def explained(options: Any) -> Iterator[Any]:
    """Solvers that differ by a line: the difference, and what is left of it once the line is exchanged."""
    steps = 15 if options.smoke else 20
    for peer, name, config, call, ours, clock, rule, line, bar in EXPLAINED:
        both = paths(peer, name, config, call, steps, getattr(bj.solvers, ours)(), clock)
        if both is None:
            continue
        levels, mine, theirs, _ = both
        left = apart(mine, multistep(OURS[ours], levels), levels), apart(theirs, multistep(rule, levels), levels)
        yield _told_apart(peer, told(name, config, call), ours, line, bar, apart(mine, theirs, levels), *left, steps)
    line = "eta scales the noise's deviation, not its rate"
    for peer, name, config, clock in (
        ("diffusers", "DDIMScheduler", {"clip_sample": False}, "vp"),
        ("k-diffusion", "sample_euler_ancestral", {}, "karras"),
    ):
        eta = {"eta": 0.5}
        both = paths(peer, name, config, eta, steps, bj.solvers.ExponentialEuler(**eta), clock, noisy=True)
        if both is None:
            continue
        levels, mine, theirs, z = both
        left = (
            apart(mine, ancestral(levels, z, lambda s, u: u * math.sqrt(1.0 - u / s)), levels),  # e^(-2 eta h) = u/s
            apart(theirs, ancestral(levels, z, lambda s, u: 0.5 * u * math.sqrt(1.0 - (u / s) ** 2)), levels),
        )
        found = apart(mine, theirs, levels)
        yield _told_apart(peer, told(name, config, eta), told(DDIM, eta), line, FLOAT64, found, *left, steps)


def _told_apart(
    peer: str, theirs: str, ours: str, line: str, bar: float, found: Any, mine: Any, others: Any, steps: int
) -> Any:
    return record(
        "largest difference",
        float(f"{found.max():.2g}"),
        {"peer": peer, "theirs": theirs, "ours": ours, "line": line},
        bar=f"explained to {bar:g}",
        met=mine.max() <= bar and others.max() <= bar,
        first=int(np.argmax(found > bar)),
        end=float(f"{found[-1]:.2g}"),
        our_line=float(f"{mine.max():.2g}"),
        their_line=float(f"{others.max():.2g}"),
        steps=steps,
    )


def orders(options: Any) -> Iterator[Any]:
    """The multistep solvers on a standard normal, from level 10 to 0.05."""
    import torch

    def gaussian(y: Any, level: Any) -> Any:
        return y / (1.0 + level**2)

    def theirs_k(name: str, levels: np.ndarray, **call: Any) -> float:
        y, sigmas = torch.ones((1, 1), dtype=torch.float64), torch.from_numpy(levels)
        return float(getattr(k_sampling(), name)(lambda y, s: gaussian(y, s[:, None]), y, sigmas, disable=True, **call))

    def theirs_d(levels: np.ndarray, name: str, **config: Any) -> float:
        scheduler, _ = d_scheduler(name, len(levels) - 1, final_sigmas_type="sigma_min", **config)
        scheduler.sigmas = torch.from_numpy(levels)
        scheduler.set_begin_index(0)
        x = torch.full((1, 1), 1.0 / math.hypot(1.0, levels[0]), dtype=torch.float64)
        for level, t in zip(levels, scheduler.timesteps, strict=False):
            x = scheduler.step(gaussian(x * math.hypot(1.0, level), level), t, x).prev_sample
        return float(x) * math.hypot(1.0, levels[-1])

    def mine(name: str, levels: np.ndarray) -> float:
        flow = bj.probability_flow(bj.schedules.karras(levels[0]), denoiser=lambda t, x, args: gaussian(x, t))
        ts = jnp.asarray(levels[0] - levels)
        return float(bj.simulate(flow, jax.random.key(0), jnp.ones(1), ts, solver=getattr(bj.solvers, name)())[0])

    no_noise = {"eta": 0.0, "noise_sampler": lambda level, following: 0.0}
    cases: dict[tuple[str, str], Callable[[np.ndarray], float]] = {
        ("bridgejax", TWO): lambda levels: mine(TWO, levels),
        ("bridgejax", THREE): lambda levels: mine(THREE, levels),
        ("bridgejax", UNI): lambda levels: mine(UNI, levels),
        ("k-diffusion", "sample_dpmpp_2m"): lambda levels: theirs_k("sample_dpmpp_2m", levels),
        ("k-diffusion", "sample_dpmpp_3m_sde(eta=0.0)"): lambda v: theirs_k("sample_dpmpp_3m_sde", v, **no_noise),
        ("diffusers", MULTI): lambda levels: theirs_d(levels, MULTI),
        ("diffusers", told(MULTI, {"solver_order": 3})): lambda levels: theirs_d(levels, MULTI, solver_order=3),
        ("diffusers", "UniPCMultistepScheduler"): lambda levels: theirs_d(levels, "UniPCMultistepScheduler"),
    }
    exact_ratio = math.sqrt((1.0 + 0.05**2) / (1.0 + 10.0**2))
    for (peer, name), solve in cases.items():
        if peer != "bridgejax" and not installed(peer):
            continue
        before = None
        for steps in (15, 30) if options.smoke else (20, 40, 80):
            levels = np.exp(np.linspace(math.log(10.0), math.log(0.05), steps + 1))
            error = abs(solve(levels) / exact_ratio - 1.0)
            case = {"peer": peer, "theirs": name, "steps": steps}
            yield record("error of the end", float(f"{error:.2g}"), case)
            if before is not None:
                yield record("order", round(math.log2(before / error), 2), case)
            before = error


def told_levels(options: Any) -> Iterator[Any]:
    """What a scheduler tells the network, and where its steps begin."""
    if not installed("diffusers"):
        return
    for name in (MULTI, "UniPCMultistepScheduler", "HeunDiscreteScheduler", "EulerDiscreteScheduler"):
        for steps in (20, 50):
            scheduler, made = d_scheduler(name, steps, use_karras_sigmas=True)
            kept = scheduler.alphas_cumprod.double().numpy()
            table = 0.5 * np.log((1.0 - kept) / kept)
            times = scheduler.timesteps.double().numpy()
            times = np.append(times[:1], times[1::2]) if name == "HeunDiscreteScheduler" else times
            off = np.abs(np.expm1(np.interp(times, np.arange(len(table)), table) - np.log(made[:-1])))
            case = {"peer": "diffusers", "theirs": told(name, {"use_karras_sigmas": True}), "steps": steps}
            yield record("level told to the network", float(f"{off.max():.2g}"), case)
    for steps in (20, 30):
        scheduler, made = d_scheduler("DDIMScheduler", steps)
        ends = scheduler.timesteps.numpy() - 1000 // steps
        kept = scheduler.alphas_cumprod.numpy()[np.maximum(ends[:-1], 0)]
        off = np.abs(made[1:-1] / np.sqrt((1.0 - kept) / kept) - 1.0)
        case = {"peer": "diffusers", "theirs": "DDIMScheduler", "steps": steps}
        yield record("level between steps", float(f"{off.max():.2g}"), case)


if __name__ == "__main__":
    STUDY.run(
        __doc__,
        {"same": same, "explained": explained, "orders": orders, "levels": told_levels},
        environment=harness.environment,
    )
