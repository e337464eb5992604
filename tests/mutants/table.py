"""The mutants: a sentence, a file, its line, the changed line, and the tests that must fail, as pytest takes them.

Choose lines where a wrong constant would be silent (a half, a sign, n for n - 1, sigma for sigma^2), and name the few
tests that should notice; ``slow`` also runs tests that are marked so. The truth of such a test comes from outside the
line: quadrature, a closed form, automatic differentiation of a value, a Gaussian case.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change of one line."""

    what: str
    file: str
    original: str
    changed: str
    tests: str
    slow: bool = False


MUTANTS = [
    # bridges ------------------------------------------------------------------------------------------------------
    Mutant(
        "the weights of a mixture are not normalised",
        "bridgejax/bridges/compose.py",
        "bound = (parts, jnp.log(w / jnp.sum(w)))",
        "bound = (parts, jnp.log(w))",
        "tests/bridges/test_compose.py::test_a_mixture_is_the_mixture",
    ),
    Mutant(
        "inpainting: noise for its square",
        "bridgejax/bridges/guidance.py",
        "inner = _spread(schedule, variance, t) + noise**2\n    weighted = jax.tree.map(",
        "inner = _spread(schedule, variance, t) + noise\n    weighted = jax.tree.map(",
        "tests/bridges/test_guidance.py -k inpaint",
    ),
    Mutant(
        "the landing of a constrained bridge is shifted without 1/S",
        "bridgejax/bridges/constrained.py",
        "shift = safe_divide(variance, scale * schedule.diffusion(t))",
        "shift = safe_divide(variance, schedule.diffusion(t))",
        "tests/bridges/test_constrained.py tests/methods/test_constrained_method.py",
    ),
    Mutant(
        "the weights of a reversal's source without phi_0",
        "bridgejax/bridges/potentials.py",
        "return -safe_divide(gaps, 2.0 * epsilon * as_time(t)) - logs",
        "return -safe_divide(gaps, 2.0 * epsilon * as_time(t))",
        "tests/bridges/test_potentials.py",
    ),
    Mutant(
        "weights of candidate paths without their quadratic term",
        "bridgejax/bridges/gaussian_paths.py",
        "-jnp.sum(push * eps + 0.5 * push**2)",
        "-jnp.sum(push * eps)",
        "tests/methods/test_gsbm.py -k weights",
    ),
    Mutant(
        "the dimension is missing in the width term of the action",
        "bridgejax/bridges/gaussian_paths.py",
        "0.5 * mean.size * (gamma * c) ** 2",
        "0.5 * (gamma * c) ** 2",
        "tests/methods/test_gsbm.py -k least_action",
    ),
    Mutant(
        "the divergence of u counts for 0.8",
        "bridgejax/bridges/variational.py",
        "jnp.eye(d, d + 1)",
        "0.8 * jnp.eye(d, d + 1)",
        "tests/methods/test_vsdm.py -k half_step",
    ),
    # solve --------------------------------------------------------------------------------------------------------
    Mutant(
        "half of the corrector's Langevin drift",
        "bridgejax/solve/one_step.py",
        "pull = 2.0 * self.snr**2",
        "pull = 1.0 * self.snr**2",
        "tests/solve/test_multistep.py -k corrector",
    ),
    Mutant(
        "a reverse step of annealed chains has the noise of the whole step",
        "bridgejax/solve/mcmc/annealing.py",
        "jnp.sqrt(v * left)",
        "jnp.sqrt(v)",
        "tests/solve/test_mcmc.py -k reverse_step",
    ),
    Mutant(
        "a rejected move keeps its velocity",
        "bridgejax/solve/mcmc/moves.py",
        "turned = Chain(chain.x, -v,",
        "turned = Chain(chain.x, v,",
        "tests/solve/test_mcmc.py -k 'invariant or flip'",
    ),
    Mutant(
        "the error of log Z is too small by sqrt 2",
        "bridgejax/solve/weights.py",
        "return jnp.std(relative) / jnp.sqrt(log_weights.shape[0])",
        "return jnp.std(relative) / jnp.sqrt(2 * log_weights.shape[0])",
        "tests/solve/test_weigh.py -k known_numbers",
    ),
    Mutant(
        "superposed densities without the linear drift's divergence",
        "bridgejax/solve/superpose.py",
        "- 0.5 * noise_sq * squares - x.size * rate",
        "- 0.5 * noise_sq * squares",
        "tests/solve/test_feynman_kac.py -k tracked",
    ),
    Mutant(
        "Feynman-Kac rate: the dimension is missing",
        "bridgejax/solve/feynman_kac.py",
        "(mass - 1.0) * x.size * jnp.log(a)",
        "(mass - 1.0) * jnp.log(a)",
        "tests/solve/test_feynman_kac.py -k rate",
    ),
    Mutant(
        "Feynman-Kac rate: half of the squares",
        "bridgejax/solve/feynman_kac.py",
        "0.5 * (variance / a) * squares",
        "0.25 * (variance / a) * squares",
        "tests/solve/test_feynman_kac.py -k rate",
    ),
    Mutant(
        "the control of an underdamped step is scaled by sqrt(g) h",
        "bridgejax/solve/kernels.py",
        "(jnp.sqrt(2.0 * friction) * h, control",
        "(jnp.sqrt(1.0 * friction) * h, control",
        "tests/solve/test_weigh.py -k underdamped",
    ),
    Mutant(
        "likelihoods begin 1e-4 of the clock after the data",
        "bridgejax/solve/likelihood.py",
        "_OFFSET = 1e-6",
        "_OFFSET = 1e-4",
        "tests/solve/test_likelihood.py",
    ),
    Mutant(
        "the geometric path runs backwards",
        "bridgejax/solve/smc.py",
        "return (1.0 - t / T) * start.log_prob(x) + (t / T) * log_density(x)",
        "return (t / T) * start.log_prob(x) + (1.0 - t / T) * log_density(x)",
        "tests/solve/test_smc.py",
    ),
    Mutant(
        "EDM's ladder is even in sigma",
        "bridgejax/solve/grids.py",
        "np.linspace(whole ** (1 / rho), last ** (1 / rho), n) ** rho",
        "np.linspace(whole, last, n)",
        "tests/solve/test_grids.py",
    ),
    # geometry -----------------------------------------------------------------------------------------------------
    Mutant(
        "simplex: dE/dvariance doubled",
        "bridgejax/geometry/simplex.py",
        "by_variance = 0.5 * (rest / variance + (excess - covariance @ tilt.a) / jnp.sqrt(variance))",
        "by_variance = 1.0 * (rest / variance + (excess - covariance @ tilt.a) / jnp.sqrt(variance))",
        "tests/geometry/test_simplex.py -k quadrature",
    ),
    Mutant(
        "box: dE/dvariance doubled",
        "bridgejax/geometry/intervals.py",
        "by_variance = 0.5 * jnp.sum(weights * centred",
        "by_variance = 1.0 * jnp.sum(weights * centred",
        "tests/geometry/test_domains.py -k derivatives",
    ),
    # processes ----------------------------------------------------------------------------------------------------
    Mutant(
        "weights of a conditioned mixture without their determinants",
        "bridgejax/processes/mixtures.py",
        "return log_weight - 0.5 * jnp.linalg.slogdet(inner)[1], mean",
        "return log_weight, mean",
        "tests/processes/test_mixtures.py",
    ),
    # metrics ------------------------------------------------------------------------------------------------------
    Mutant(
        "a mode is covered whatever its weight",
        "bridgejax/metrics/modes.py",
        "shares >= least * weights",
        "shares >= least / shares.size",
        "tests/metrics/test_bridge_metrics.py",
    ),
    Mutant(
        "the floor's deviation with n for n - 1",
        "bridgejax/metrics/floors.py",
        "float(values.std(ddof=1)) if draws > 1",
        "float(values.std(ddof=0)) if draws > 1",
        "tests/metrics/test_floors.py",
    ),
    Mutant(
        "cBW2-UVP: the total variance without that of the conditional means",
        "bridgejax/metrics/gaussian.py",
        ".mean() + means.var(axis=0).sum())",
        ".mean())",
        "tests/metrics/test_bridge_metrics.py",
    ),
    Mutant(
        "Chamfer: distances for their squares",
        "bridgejax/metrics/clouds.py",
        "np.mean(at_y.query(x)[0] ** 2) + np.mean(at_x.query(y)[0] ** 2)",
        "np.mean(at_y.query(x)[0]) + np.mean(at_x.query(y)[0])",
        "tests/metrics/test_clouds.py",
    ),
    # objectives ---------------------------------------------------------------------------------------------------
    Mutant(
        "EDM's log-normal times with half the deviation",
        "bridgejax/objectives/times.py",
        "jnp.clip(jnp.exp(mean + std * z), low, high)",
        "jnp.clip(jnp.exp(mean + 0.5 * std * z), low, high)",
        "tests/objectives/test_times.py",
    ),
    Mutant(
        "likelihood weighting without its half",
        "bridgejax/objectives/weightings.py",
        "return 0.5 * schedule.diffusion_squared(t)",
        "return schedule.diffusion_squared(t)",
        "tests/objectives/test_matching.py -k weightings",
    ),
    Mutant(
        "EDM weighting: sigma_data for its square",
        "bridgejax/objectives/weightings.py",
        "return _snr(schedule, t) + 1.0 / sigma_data**2",
        "return _snr(schedule, t) + 1.0 / sigma_data",
        "tests/objectives/test_matching.py -k weightings",
    ),
    Mutant(
        "adjoint paths: half of the log weight",
        "bridgejax/objectives/conditioning.py",
        "total = jnp.where(lost, -jnp.inf, total + ratio)",
        "total = jnp.where(lost, -jnp.inf, total + 0.5 * ratio)",
        "tests/methods/test_conditioned.py",
    ),
    Mutant(
        "backward paths: the variance of a step is h, not h t/(t + h)",
        "bridgejax/objectives/conditioning.py",
        "jnp.sqrt((u - t) * t / u) * drawn",
        "jnp.sqrt(u - t) * drawn",
        "tests/methods/test_conditioned.py",
    ),
    # oracles ------------------------------------------------------------------------------------------------------
    Mutant(
        "seeds: the prior's constant is lost",
        "bridgejax/oracles/posteriors.py",
        "+ shape * jnp.log(rate) - gammaln(shape)",
        "- gammaln(shape)",
        "tests/oracles/test_targets.py -k posteriors",
    ),
    Mutant(
        "Cox process: the default mean without -variance/2",
        "bridgejax/oracles/posteriors.py",
        "mean = float(np.log(table.sum()) - variance / 2) if mean is None else mean",
        "mean = float(np.log(table.sum())) if mean is None else mean",
        "tests/oracles/test_targets.py -k cox",
    ),
    Mutant(
        "the Gaussian bridge's way back has the forward variances",
        "bridgejax/oracles/gaussian.py",
        "variances = V * _backward_spectrum(bridge, t) / _backward_spectrum(bridge, u)",
        "variances = V * _backward_spectrum(bridge, u) / _backward_spectrum(bridge, t)",
        "tests/oracles/test_gaussian_bridge.py",
    ),
    Mutant(
        "entropic transitions a tenth too wide",
        "bridgejax/oracles/entropic.py",
        "variances = tau * safe_divide(inner, outer)",
        "variances = 1.1 * tau * safe_divide(inner, outer)",
        "tests/oracles/test_entropic.py",
    ),
    # training -----------------------------------------------------------------------------------------------------
    Mutant(
        "the average's warm-up is (1 + n) / (5 + n)",
        "bridgejax/training/ema.py",
        "jnp.minimum(jnp.float32(decay), (1.0 + n) / (10.0 + n))",
        "jnp.minimum(jnp.float32(decay), (1.0 + n) / (5.0 + n))",
        "tests/training/test_gradient_method.py -k average",
    ),
    # methods ------------------------------------------------------------------------------------------------------
    Mutant(
        "DDBM's skip without the correlation of the ends",
        "bridgejax/methods/ddbm.py",
        "skip=s0 * (a * s0 + b * rho * s1) / total",
        "skip=s0 * a * s0 / total",
        "tests/methods/test_paired.py -k preconditioning",
    ),
    Mutant(
        "[SF]^2M lands with its noise left in",
        "bridgejax/methods/sf2m.py",
        "return axpy((1.0, x), (-path.c(t), eps), (sign",
        "return axpy((1.0, x), (0.0 * path.c(t), eps), (sign",
        "tests/methods/test_dsbm.py -k sf2m",
    ),
    Mutant(
        "the constrained bound has 0.6 of its KL",
        "bridgejax/methods/constrained.py",
        "return 0.5 * last * jnp.mean(costs)",
        "return 0.6 * last * jnp.mean(costs)",
        "tests/methods/test_constrained_method.py -k bound",
    ),
    Mutant(
        "latent_sb trains on half of its noise levels",
        "bridgejax/methods/latent_sb.py",
        "times=times.uniform(1.0 - stop, 1.0)",
        "times=times.uniform(0.5, 1.0)",
        "tests/methods/test_latent_sb.py -k levels",
    ),
    Mutant(
        "vsdm: the sign of the score's target",
        "bridgejax/methods/vsdm.py",
        "squared_error(said, -minus_score(at.cov, eps))",
        "squared_error(said, minus_score(at.cov, eps))",
        "tests/methods/test_vsdm.py -k no_loss",
    ),
    Mutant(
        "the gap of a round is measured in half the spread",
        "bridgejax/methods/rounds.py",
        "jnp.maximum(jnp.sum(truth.var(axis=0)), 1e-4 * way + 1e-12))",
        "jnp.maximum(2.0 * jnp.sum(truth.var(axis=0)), 1e-4 * way + 1e-12))",
        "tests/methods/test_dsbm.py -k gap",
    ),
    Mutant(
        "dds: the sign of the prior's score in the guide",
        "bridgejax/methods/dis.py",
        "smoothed(log_density, schedule, scale, t, x) + x / scale**2",
        "smoothed(log_density, schedule, scale, t, x) - x / scale**2",
        "tests/methods/test_samplers.py -k guides",
    ),
    Mutant(
        "annealed densities: a quarter of the prior",
        "bridgejax/methods/cmcd.py",
        "- 0.5 * (1.0 - beta) * jnp.sum((x / scale) ** 2)",
        "- 0.25 * (1.0 - beta) * jnp.sum((x / scale) ** 2)",
        "tests/methods/test_samplers.py -k levels",
    ),
    Mutant(
        "underdamped levels: a quarter of the velocity's square",
        "bridgejax/methods/underdamped.py",
        "- 0.5 * jnp.sum(z[1] ** 2)",
        "- 0.25 * jnp.sum(z[1] ** 2)",
        "tests/methods/test_samplers.py -k levels",
    ),
    Mutant(
        "adjoint sampling: the target without T",
        "bridgejax/methods/adjoint_sampling.py",
        "end / (sigma**2 * T))",
        "end / sigma**2)",
        "tests/methods/test_samplers.py -k adjoint",
    ),
    Mutant(
        "dsb: the posterior's variance is ignored",
        "bridgejax/methods/dsb.py",
        "share = safe_divide(1.0 - ts[k + 1], 1.0 - t) if posterior else 1.0",
        "share = 1.0",
        "tests/methods/test_dsb.py",
    ),
    Mutant(
        "lightsb starts with potentials on another scale",
        "bridgejax/methods/lightsb.py",
        '"beta": (shares.mean() - shares) / (1.0 + 1.0 / epsilon)',
        '"beta": (shares.mean() - shares)',
        "tests/methods/test_lightsb.py",
    ),
    Mutant(
        "pis: the guide without sigma",
        "bridgejax/methods/pis.py",
        "return sigma * controlled.score(",
        "return controlled.score(",
        "tests/methods/test_samplers.py -k guides",
    ),
    Mutant(
        "gbs: the network of the way back is told the wrong clock",
        "bridgejax/methods/dis.py",
        "v = apply(params, noise.schedule.T - s, x, None)",
        "v = apply(params, s, x, None)",
        "tests/methods/test_samplers.py -k clock",
    ),
    # evaluation ---------------------------------------------------------------------------------------------------
    Mutant(
        "a near copy is one of the nearest tenth",
        "bridgejax/evaluation/memorisation.py",
        "_QUANTILE = 0.05",
        "_QUANTILE = 0.1",
        "tests/evaluation/test_memorisation.py",
    ),
    Mutant(
        "the forward effective sample size",
        "bridgejax/evaluation/sampler.py",
        "forward = float(jnp.exp(-weights.log_z(reverse) - weights.log_z(-reverse)))",
        "forward = float(jnp.exp(-2.0 * weights.log_z(-reverse) - weights.log_z(2.0 * reverse)))",
        "tests/evaluation/test_sampler.py",
    ),
]
