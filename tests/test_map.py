"""Where a module is tested: bridgejax/<room>/<module>.py in tests/<room>/test_<module>*.py, or as the list below says.

The list is for modules that are tested through what they serve: pieces behind a face, a wing's methods in one table.
"""

import importlib.util
import pathlib

import pytest

TESTS = pathlib.Path(__file__).parent
PACKAGE = TESTS.parent / "bridgejax"
if not PACKAGE.exists():
    pytest.skip("the package is not beside these tests", allow_module_level=True)

ELSEWHERE = {
    # the ground floor: every room's errors, dtypes and summaries rest on it
    "test_precision.py": ["_numerics.py", "_types.py"],
    "test_summaries.py": ["_summary.py"],
    "bad_input.py": ["_checks.py", "networks/_checks.py"],
    # a face's pieces, tested through the functions that the face shows
    "bridges/test_transforms.py": ["bridges/_transport.py", "bridges/pinned.py"],
    "processes/test_schedules.py": ["processes/_schedule.py"],
    "processes/test_gaussians.py": ["processes/_gaussian_fit.py", "processes/_gaussian_flow.py"],
    "oracles/test_finite.py": ["oracles/regimes.py"],
    "cli/test_commands.py": [
        *("cli/arguments.py", "cli/composition.py", "cli/evaluate.py", "cli/expression.py", "cli/listing.py"),
        *("cli/export.py", "cli/main.py", "cli/paths.py"),
        *("cli/pictures.py", "cli/results.py", "cli/sample.py", "cli/train.py", "cli/train_words.py"),
    ],
    "data/test_loading.py": ["data/arrays.py", "data/files.py", "data/named.py", "data/reading.py"],
    "evaluation/test_plots.py": [
        *("evaluation/_columns.py", "evaluation/_figures.py", "evaluation/_image_grids.py"),
        *("evaluation/_loss_curves.py", "evaluation/arrays.py"),
    ],
    "evaluation/test_report.py": ["evaluation/comparisons.py", "evaluation/draws.py", "evaluation/records.py"],
    "gp/test_inducing.py": ["gp/layers.py"],
    "methods/variational/test_deep_gp.py": [
        *("methods/variational/_bounds.py", "methods/variational/_plan.py", "methods/variational/_posteriors.py"),
        "methods/variational/predictions.py",
    ],
    "oracles/test_targets.py": ["oracles/_posteriors.py", "oracles/_target.py"],
    "cli/test_supervised_runs.py": ["cli/predict.py", "runs/predictions.py", "runs/supervised.py"],
    "evaluation/test_predictive.py": ["evaluation/_prediction_pictures.py"],
    "runs/test_config.py": ["runs/about.py", "runs/build.py", "runs/record.py", "runs/registry.py"],
    "solve/test_simulate.py": ["solve/_accepted.py", "solve/_adaptive.py", "solve/_batch.py", "solve/_fixed_grid.py"],
    "weigh/test_weigh.py": ["weigh/_path_weights.py", "weigh/weights.py"],
    "weigh/test_feynman_kac.py": ["weigh/_population.py", "weigh/_superpose.py"],
    "weigh/test_likelihood.py": ["weigh/_divergence.py"],
    "methods/schroedinger/test_action_matching.py": ["methods/schroedinger/_snapshots.py"],
    "weigh/test_mcmc.py": ["weigh/_path_mcmc.py", "weigh/mcmc/annealing.py", "weigh/mcmc/moves.py"],
    "applications/speech/test_enhance.py": ["applications/speech/_enhancer.py"],
    "applications/speech/test_training_of_enhancers.py": ["applications/speech/_saved.py"],
    "applications/autonomy/test_demo.py": ["applications/autonomy/_saved.py"],
    "applications/autonomy/test_episodes.py": ["applications/autonomy/_wrappers.py"],
    "cli/test_explain.py": ["evaluation/_explanation_picture.py"],
    "cli/test_manifold_runs.py": ["cli/on_manifold.py"],
    # a command makes, keeps and reads a run; the room's own file tests the configuration
    "cli/test_bridges.py": ["runs/data.py", "runs/directory.py", "runs/run.py", "runs/units.py"],
    # one table of laws over all domains, of charts and distances over all manifolds
    "geometry/test_domains.py": [
        *("geometry/_domain.py", "geometry/finite.py", "geometry/intervals.py", "geometry/product.py"),
        "geometry/sphere.py",
    ],
    "geometry/test_manifolds.py": [
        *("geometry/manifolds/_groups.py", "geometry/manifolds/_manifold.py", "geometry/manifolds/_product.py"),
        *("geometry/manifolds/_series.py", "geometry/manifolds/_unitary.py", "geometry/manifolds/_vectors.py"),
        *("geometry/manifolds/earth.py", "geometry/manifolds/rotations.py"),
    ],
    "geometry/test_mirrors.py": [
        *("geometry/_matrix_sets.py", "geometry/_mirror_map.py", "geometry/_spectral.py", "geometry/_vector_sets.py"),
    ],
    "solve/test_manifold_sde.py": ["solve/_solvers/geodesic.py"],
    # one table over all methods, or over those of a wing
    "methods/test_methods.py": [
        *("methods/_ends.py", "methods/_setup.py", "methods/_spec.py", "methods/generative/diffusion.py"),
        "methods/schroedinger/bridge_matching.py",
    ],
    "methods/manifolds/test_manifold_methods.py": [
        *("methods/manifolds/_fields.py", "methods/manifolds/_lifts.py", "methods/manifolds/manifold_bridge.py"),
        *("methods/manifolds/projected.py", "methods/manifolds/riemannian_flow.py"),
        "methods/manifolds/riemannian_score.py",
    ],
    "methods/conditioning/test_conditioned.py": ["methods/conditioning/_losses.py"],
    "methods/generative/test_closed_form.py": ["methods/generative/_training_free.py"],
    "methods/generative/test_latent_sb.py": ["methods/generative/autoencoder.py"],
    "methods/generative/test_truncated.py": ["methods/generative/_adversaries.py"],
    "methods/generative/test_vsdm.py": ["methods/generative/_affine_forward.py"],
    "methods/paired/test_paired.py": [
        *("methods/paired/augmented_bridge.py", "methods/paired/bdbm.py", "methods/paired/ddbm.py"),
        "methods/paired/i2sb.py",
    ],
    "methods/samplers/test_samplers.py": [
        *("methods/samplers/_losses.py", "methods/samplers/_path_sampler.py", "methods/samplers/adjoint_sampling.py"),
        *("methods/samplers/cmcd.py", "methods/samplers/dis.py", "methods/samplers/pis.py"),
        "methods/samplers/underdamped.py",
    ],
    "methods/schroedinger/test_dsb.py": ["methods/_alternating.py"],
    "methods/schroedinger/test_dsbm.py": ["methods/schroedinger/sf2m.py"],
    "methods/schroedinger/test_gsbm.py": ["methods/schroedinger/_gaussian_paths.py"],
    # parts of networks and solvers, tested in what is built of them
    "networks/test_family.py": ["networks/layers.py"],
    "methods/test_without_network.py": ["networks/fallback.py"],
    "networks/test_functional.py": ["networks/pure.py"],
    "networks/test_transformer.py": ["networks/attention.py"],
    "bridges/test_compose.py": ["bridges/_density.py", "networks/_energy.py"],
    "bridges/test_guided.py": ["bridges/_observations.py"],
    "bridges/test_hold.py": ["networks/_hold.py"],
    "solve/test_solvers.py": ["solve/_solvers/one_step.py", "solve/_solvers/terms.py", "solve/kernels.py"],
    # the file is named in full where a module's name alone says too little
    "metrics/test_kernel_metrics.py": ["metrics/kernels.py"],
    "metrics/test_bridge_metrics.py": ["metrics/modes.py"],
    "metrics/test_metrics_bad_input.py": ["metrics/points.py"],
    "objectives/test_matching.py": ["objectives/weightings.py"],
    "processes/test_sde.py": ["processes/noise.py", "processes/starts.py"],
    "training/test_fit.py": [
        *("training/_feed.py", "training/_recorder.py", "training/progress.py", "training/records.py"),
    ],
    "training/test_checkpoints.py": ["training/_orbax.py"],
    "training/test_resume.py": ["training/interrupts.py"],
    "training/test_gradient_method.py": ["training/ema.py", "training/method.py"],
}


def modules():
    """Every module of the package that is no face."""
    return [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")) if not path.name.startswith("__")]


def mirrors(module):
    """The test files of a module's own name, in the folder of its room or below."""
    stem = module.stem.lstrip("_")
    below = (TESTS / module.parts[0]).rglob("test_*.py") if len(module.parts) > 1 else TESTS.glob("test_*.py")
    return [path for path in below if f"{path.stem}_".startswith(f"test_{stem}_")]


def test_every_module_has_its_tests():
    listed = [module for names in ELSEWHERE.values() for module in names]
    without = [str(module) for module in modules() if not mirrors(module) and str(module) not in listed]
    assert not without, f"no tests/<room>/test_<module>*.py, and not listed in ELSEWHERE: {without}"


def test_the_list_is_of_modules_without_a_file_of_their_own():
    listed = [module for names in ELSEWHERE.values() for module in names]
    assert len(set(listed)) == len(listed)
    needed = {str(module) for module in modules() if not mirrors(module)}
    assert set(listed) <= needed, f"gone, or with a file of their own: {set(listed) - needed}"
    missing = [name for name in ELSEWHERE if not (TESTS / name).exists()]
    assert not missing, f"no such file of tests: {missing}"


def test_no_two_test_files_share_a_name():
    """Without packages pytest takes a file for the module of its base name, so a second of one name is not run."""
    names = [path.name for path in pathlib.Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_the_line_of_every_mutant_stands_once_in_its_file():
    """A line that moved would be a mutant that nobody runs."""
    spec = importlib.util.spec_from_file_location("mutants", TESTS / "mutants" / "table.py")
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    counts = {m.original: (PACKAGE.parent / m.file).read_text().count(m.original) for m in table.MUTANTS}
    assert {line: count for line, count in counts.items() if count != 1} == {}
