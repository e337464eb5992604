"""Bad input to methods: an error of one sentence that names the argument, before anything is trained."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_input import COUNT, FUNCTION, NUMBER, POSITIVE, REAL, SDE, VP, X, arguments, log_density, refuse_wrong

import bridgejax as bj

NET = (lambda params, t, x, args: params * x, jnp.ones(2))
PAIR = (lambda params, t, x, args: jnp.stack([x, x]), jnp.ones(()))
SHAPE = dict(network=NET, shape=(2,))
DENSITY = dict(log_density=log_density, network=NET, dim=2)
SPHERE = dict(manifold=bj.manifolds.Sphere(2), network=NET)
ROWS = np.arange(12.0).reshape(6, 2)

_DEEP = bj.methods.deep_gp(ROWS, ROWS[:, 0], posterior="full", layers=1, inducing=3)
DEEP = _DEEP.process(_DEEP.init(jax.random.key(0), None))

TIMES = ("text", "count", "clock - none")
SIGMA = {"sigma": POSITIVE}
ROUNDS = {"shape": ("shape",), "sigma": POSITIVE, "cache": COUNT, "max_marginal_error": POSITIVE}
GUIDED = {"condition_dropout": (*NUMBER, "negative"), "guidance_scale": NUMBER}
TRAINING = {"ema": ("text", "negative", "not finite"), "accumulate": COUNT}
SAMPLER = {"log_density": FUNCTION, "dim": ("text", "count", "zero count")}


def defaults(function):
    """The defaults of a function's arguments, for kinds of wrong that are made of a right value."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


# name: (function, a right call, {argument: kinds of wrong}); what a right call leaves out has its default
TABLE = {
    "diffusion": (
        bj.methods.diffusion,
        dict(schedule=VP, **SHAPE),
        {
            **{"schedule": ("schedule",), "shape": ("shape",), "predict": ("word",), "sampler": ("word",)},
            **{"weighting": ("text",), "sigma_data": POSITIVE, **GUIDED, **TRAINING},
        },
    ),
    "edm": (
        bj.methods.edm,
        SHAPE,
        {"shape": ("shape",), "sigma_data": POSITIVE, "sigma_max": POSITIVE, "sampler": ("word",), **GUIDED},
    ),
    "mean_flow": (
        bj.methods.mean_flow,
        SHAPE,
        {
            **{"shape": ("shape",), "apart": (*NUMBER, "negative"), "robust": (*NUMBER, "negative")},
            **{"time_sampler": FUNCTION[1:], **TRAINING},
        },
    ),
    "truncated": (
        bj.methods.truncated,
        dict(schedule=VP, generator_network=NET, discriminator=NET, truncation=0.5, **SHAPE),
        {
            **{"schedule": ("schedule",), "shape": ("shape",), "truncation": (*NUMBER[1:], "negative", "zero")},
            **{"generator": ("word",), "predict": ("word",), "sampler": ("word",), "weighting": ("text",)},
            **{"gamma": (*NUMBER, "negative"), "r1_every": COUNT, "sigma_data": POSITIVE, **GUIDED, **TRAINING},
            **{name: FUNCTION[1:] for name in ("generator_optimizer", "discriminator_optimizer")},
        },
    ),
    "constrained": (
        bj.methods.constrained,
        dict(domain=bj.domains.Box(0.0, 1.0), **SHAPE),
        {
            **{"domain": ("other",), "schedule": ("schedule - none",), "shape": ("shape",), "start": REAL},
            **{"predict": ("word",), "weighting": ("text",), "bound_times": COUNT},
        },
    ),
    "vsdm": (
        bj.methods.vsdm,
        SHAPE,
        {
            **{"shape": ("shape",), "schedule": ("schedule - none",), "predict": ("word",), "sampler": ("word",)},
            **{"knots": COUNT, "gain": (*NUMBER, "negative"), "decay": (*NUMBER, "negative")},
            **{"max_marginal_error": POSITIVE, "cache": COUNT},
        },
    ),
    "vae": (
        bj.methods.vae,
        dict(encoder=PAIR, decoder=NET, shape=(2,), latent=2),
        {"shape": ("shape",), "latent": COUNT, "noise": POSITIVE, "beta": (*NUMBER, "negative")},
    ),
    "pca": (bj.methods.pca, dict(x=ROWS, dim=1), {"x": ("text", "spoilt"), "dim": COUNT}),
    "latent_sb": (
        bj.methods.latent_sb,
        dict(network=NET, rows=ROWS),
        {"rows": ("text", "spoilt"), "sigma": POSITIVE, "stop": POSITIVE, "predict": ("word",)},
    ),
    "closed_form": (
        bj.methods.closed_form,
        dict(schedule=VP, rows=ROWS),
        {
            **{"schedule": ("schedule",), "rows": ("text", "spoilt"), "smoothing": (*NUMBER, "negative")},
            **{"draws": COUNT, "sampler": ("word",)},
        },
    ),
    "score_machine": (
        bj.methods.score_machine,
        dict(schedule=VP, rows=ROWS.reshape(3, 2, 2)),
        {
            **{
                "schedule": ("schedule",),
                "rows": ("text", "spoilt"),
                "kind": ("word",),
                "patch": ("count", "zero count"),
            },
            **{"image": ("text",), "sampler": ("word",)},
        },
    ),
    "bridge_matching": (
        bj.methods.bridge_matching,
        SHAPE,
        {"shape": ("shape",), "sigma": (*NUMBER, "negative"), "predict": ("text",), **GUIDED},
    ),
    "sf2m": (
        bj.methods.sf2m,
        SHAPE,
        {"shape": ("shape",), "sigma": POSITIVE, "noise": ("text", "negative", "not finite")},
    ),
    "action_matching": (
        bj.methods.action_matching,
        dict(shape=(2,), source=ROWS, source_weights=np.ones(6)),
        {
            **{"shape": ("shape",), "times": ("snapshot times",), "noise": (*NUMBER, "negative")},
            **{
                "divergence": ("words",),
                "source": ("text", "spoilt"),
                "source_weights": ("text", "spoilt", "negative"),
            },
            **TRAINING,
        },
    ),
    "wasserstein_lagrangian": (
        bj.methods.wasserstein_lagrangian,
        dict(shape=(2,), source=ROWS),
        {
            **{"shape": ("shape",), "times": ("snapshot times",), "noise": (*NUMBER, "negative")},
            **{"cost": ("function",), "path_rate": POSITIVE, "divergence": ("words",), "source": ("text", "spoilt")},
            **TRAINING,
        },
    ),
    "dsbm": (bj.methods.dsbm, SHAPE, ROUNDS),
    "dsb": (bj.methods.dsb, SHAPE, ROUNDS),
    "simplified_dsb": (
        bj.methods.simplified_dsb,
        SHAPE,
        {**ROUNDS, "reparameterise": ("word",), "variance": ("word",)},
    ),
    "gsbm": (
        bj.methods.gsbm,
        dict(cost=lambda t, x, others: jnp.zeros(()), **SHAPE),
        {
            **{**ROUNDS, "cost": FUNCTION, "knots": COUNT, "width_knots": COUNT, "path_steps": COUNT},
            **{"path_rate": POSITIVE, "resample": ("text", "count"), "crowd": ("text", "count")},
        },
    ),
    "lightsb": (
        bj.methods.lightsb,
        dict(epsilon=1.0, dim=2, components=2),
        {"epsilon": POSITIVE, "dim": COUNT, "components": COUNT, "covariance": ("word",)},
    ),
    "lightsb_m": (
        bj.methods.lightsb_m,
        dict(epsilon=1.0, dim=2, components=2),
        {"epsilon": POSITIVE, "dim": COUNT, "components": COUNT, "covariance": ("word",)},
    ),
    "deep_gp": (
        bj.methods.deep_gp,
        dict(inputs=ROWS, targets=ROWS[:, 0], layers=2, inducing=3, steps=2, draws=1, width=2),
        {
            **{"inputs": (*REAL, "spoilt"), "targets": (*REAL, "length", "spoilt"), "posterior": ("word",)},
            **{"likelihood": ("text",), "covariance": ("text",), "ema": ("text",)},
            **{name: COUNT for name in ("layers", "inducing", "steps", "draws")},
        },
    ),
    "predict": (
        bj.methods.predict,
        dict(process=DEEP, key=jax.random.key(0), inputs=ROWS, draws=2),
        {"process": ("none", "text"), "key": ("key", "many keys"), "inputs": REAL, "draws": COUNT},
    ),
    "augmented_bridge": (bj.methods.augmented_bridge, SHAPE, {"shape": ("shape",), **SIGMA, "predict": ("word",)}),
    "bdbm": (bj.methods.bdbm, SHAPE, {"shape": ("shape",), **SIGMA}),
    "i2sb": (bj.methods.i2sb, SHAPE, {"shape": ("shape",), **SIGMA, "kind": ("word",)}),
    "ddbm": (
        bj.methods.ddbm,
        SHAPE,
        {
            **{"shape": ("shape",), "schedule": ("none", "word"), "sigma_target": POSITIVE, "sigma_source": POSITIVE},
            **{"correlation": NUMBER, "sampler": ("word",)},
        },
    ),
    "pis": (bj.methods.pis, DENSITY, {**SAMPLER, "sigma": POSITIVE, "T": POSITIVE}),
    "pis(options)": (
        bj.methods.pis,
        dict(ema=0.9, accumulate=1, **DENSITY),
        {
            **{"loss": ("word",), "subtrajectories": COUNT, "replay": ("text", "count")},
            **{"exploration_scale": ("text", "not finite", "negative", "zero")},
            **{"annealing_steps": ("text", "count"), **TRAINING},
        },
    ),
    "dis": (bj.methods.dis, DENSITY, {**SAMPLER, "schedule": ("schedule - none",), "scale": POSITIVE}),
    "dds": (bj.methods.dds, DENSITY, {**SAMPLER, "schedule": ("schedule - none",), "scale": POSITIVE}),
    "gbs": (
        bj.methods.gbs,
        dict(backward_network=NET, **DENSITY),
        {**SAMPLER, "schedule": ("schedule - none",), "scale": POSITIVE},
    ),
    "cmcd": (bj.methods.cmcd, dict(sigma=1.0, **DENSITY), {**SAMPLER, "scale": POSITIVE, "sigma": POSITIVE[1:]}),
    "underdamped": (
        bj.methods.underdamped,
        dict(log_density=log_density, network=(NET[0], jnp.ones(4)), dim=2, friction=1.0, step=0.1),
        {**SAMPLER, "scale": POSITIVE, "friction": POSITIVE[1:], "step": POSITIVE[1:]},
    ),
    "adjoint_sampling": (bj.methods.adjoint_sampling, DENSITY, {**SAMPLER, **SIGMA, "T": POSITIVE, "cache": COUNT}),
    "conditioned": (
        bj.methods.conditioned,
        dict(sde=SDE, network=NET, start=X, end=X + 1.0),
        {"sde": ("sde",), "start": (*REAL, "spoilt"), "end": REAL[1:], "kind": ("word",)},
    ),
    "riemannian_flow": (bj.methods.riemannian_flow, SPHERE, {"manifold": ("other",), "path": ("word",)}),
    "trivialised_momentum": (
        bj.methods.trivialised_momentum,
        {**SPHERE, "manifold": bj.manifolds.SO(3)},
        {"manifold": ("other",), "T": POSITIVE, "walk": COUNT, "sampler": ("word",)},
    ),
    "riemannian_score": (
        bj.methods.riemannian_score,
        SPHERE,
        {"manifold": ("other",), "target": ("text",), "walk": COUNT, "sampler": ("word",)},
    ),
    "manifold_bridge": (bj.methods.manifold_bridge, SPHERE, {"manifold": ("other",), "sigma": POSITIVE, "walk": COUNT}),
    "projected": (bj.methods.projected, SPHERE, {"manifold": ("other",), "floor": POSITIVE, "spacing": POSITIVE}),
    "mirrored": (
        bj.methods.mirrored,
        dict(method=bj.methods.diffusion(VP, **SHAPE), mirror=bj.mirrors.Positive()),
        {"method": ("other",), "mirror": ("other",)},
    ),
}


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_bad_input_is_refused_by_name(name, argument):
    function, right, kinds = TABLE[name]
    refuse_wrong((function, {**defaults(function), **right}, kinds), argument)
