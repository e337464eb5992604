"""Score machines: against loops over patches in NumPy, the exact law, translations, sizes that are known to be best."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.cli import main
from bridgejax.methods import score_machine
from bridgejax.methods.generative import score_machines

COSINE = bj.schedules.cosine()
RNG = np.random.default_rng(2)
IMAGES = RNG.normal(size=(5, 4, 6, 2)).astype(np.float32) + 1.0
KEY = jax.random.key(7)


def denoiser(rows=IMAGES, schedule=COSINE, **options):
    method = score_machine(schedule, rows=rows, **options)
    return jax.jit(method.process(method.init(KEY, None)).dynamics.semilinear.denoiser)


def cut(image, r, c, k):
    """The patch around a pixel, and at which of its places the image has one."""
    patch, there = np.zeros((2 * k + 1, 2 * k + 1, image.shape[2])), np.zeros((2 * k + 1, 2 * k + 1), bool)
    for i in range(-k, k + 1):
        for j in range(-k, k + 1):
            if 0 <= r + i < image.shape[0] and 0 <= c + j < image.shape[1]:
                patch[i + k, j + k], there[i + k, j + k] = image[r + i, c + j], True
    return patch, there


def by_loops(x, alpha, sigma, patch, kind, images=IMAGES):
    found, k = np.zeros(x.shape), patch // 2
    for r, c in np.ndindex(x.shape[:2]):
        asked, there = cut(x, r, c, k)
        logs, values = [], []
        for image in np.float64(images):
            for place in [(r, c)] if kind == "local" else np.ndindex(x.shape[:2]):
                known, at = cut(image, *place, k)
                if np.array_equal(at, there):  # cut off at the border alike
                    logs.append(-np.sum((asked - alpha * known) ** 2) / (2 * sigma**2))
                    values.append(image[place])
        weights = np.exp(np.array(logs) - max(logs))
        found[r, c] = weights @ np.array(values) / weights.sum()
    return found


@pytest.mark.parametrize("kind", ["local", "equivariant"])
@pytest.mark.parametrize(("patch", "block"), [(1, 2**15), (3, 2**15), (3, 50), (5, 200)])
def test_loops_over_patches(kind, patch, block, monkeypatch):
    """Blocks of all five images, or of one or two, so that the last one reaches back."""
    monkeypatch.setattr(score_machines, "_BLOCK", block)
    say, x = denoiser(kind=kind, patch=patch), RNG.normal(size=IMAGES.shape[1:])
    for t in (0.2, 0.6):
        want = by_loops(x, float(COSINE.alpha(t)), float(COSINE.sigma(t)), patch, kind)
        np.testing.assert_allclose(say(t, jnp.asarray(x, jnp.float32), None), want, rtol=1e-4, atol=1e-4)


@pytest.mark.fast
@pytest.mark.parametrize("kind", ["local", "equivariant"])
def test_a_patch_as_large_as_the_image_is_the_exact_law(kind):
    say, law = denoiser(kind=kind, patch=11), bj.oracles.empirical_law(IMAGES)
    x = jnp.asarray(RNG.normal(size=IMAGES.shape[1:]), jnp.float32)
    for t in (0.0, 0.1, 0.5, 1.0):
        np.testing.assert_allclose(say(t, x, None), law.denoise(COSINE, t, x), rtol=1e-4, atol=1e-5)


def test_inside_the_equivariant_machine_moves_with_the_image_and_the_local_one_does_not():
    images = RNG.normal(size=(4, 7, 7)).astype(np.float32)
    x = RNG.normal(size=(7, 7)).astype(np.float32)
    moved = np.roll(x, (1, -1), axis=(0, 1))
    for kind, same in (("equivariant", True), ("local", False)):
        say = denoiser(images, kind=kind, patch=3)
        one, other = (np.asarray(say(0.5, jnp.asarray(z), None)) for z in (x, moved))
        # pixels whose patches are whole before and after
        assert np.allclose(other[2:-1, 1:-2], one[1:-2, 2:-1], atol=1e-5) is same
        assert not np.allclose(other[1, 1:-2], one[0, 2:-1], atol=1e-3)  # from the border to the inside


def test_flat_rows_and_single_channels_are_the_same_images():
    x = jnp.asarray(RNG.normal(size=(4, 6)), jnp.float32)
    one = IMAGES[..., 0]
    plain = denoiser(one, patch=3)(0.4, x, None)
    flat = denoiser(one.reshape(5, -1), patch=3, image=(4, 6))(0.4, x.ravel(), None)
    deep = denoiser(one[..., None], patch=3)(0.4, x[..., None], None)
    np.testing.assert_array_equal(flat.reshape(4, 6), plain)
    np.testing.assert_array_equal(deep[..., 0], plain)


@pytest.mark.parametrize("kind", ["local", "equivariant"])
def test_finite_values_and_slopes_at_both_ends(kind):
    say = denoiser(kind=kind, patch=(3, 11))
    slopes = jax.jit(jax.value_and_grad(lambda t, x: jnp.sum(say(t, x, None) ** 2), argnums=(0, 1)))
    for t in (0.0, 1e-6, 1.0):
        chex.assert_tree_all_finite(slopes(jnp.asarray(t, float), jnp.asarray(IMAGES[2] + 0.1)))


def test_the_slope_is_that_of_differences():
    with jax.enable_x64(True):
        say, x = denoiser(np.float64(IMAGES[:, :3, :3]), kind="equivariant", patch=3), RNG.normal(size=(3, 3, 2))
        step = np.zeros(x.shape)
        step[1, 1, 0] = 1e-6

        def total(x):
            return jnp.sum(say(0.5, x, None) ** 2)

        slope = jax.grad(total)(jnp.asarray(x))
        np.testing.assert_allclose(slope[1, 1, 0], (total(x + step) - total(x - step)) / 2e-6, rtol=1e-6)


def test_the_best_size_is_one_pixel_for_pixels_that_are_independent_and_all_of_them_for_one_grey():
    """Pixels alone say all there is, and neighbours only mislead; or every pixel says the same, and all say it best."""
    apart = RNG.choice([-1.0, 1.0], (80, 3, 3)).astype(np.float32)
    grey = np.broadcast_to(RNG.normal(size=(80, 1, 1)), (80, 3, 3)).astype(np.float32)
    for rows, best in ((apart, 1), (grey, 5)):
        method = score_machine(COSINE, rows=rows, kind="local", patch=(1, 5))
        params = method.params(method.init(KEY, None))
        assert params["patches"].shape == (12,)
        assert params["times"].shape == (11,)
        middle = slice(4, 8)  # at low noise either size finds the row, at high noise neither does
        assert set(np.asarray(params["patches"][middle])) == {best}


def test_sizes_stand_in_the_order_of_rising_noise():
    """One grey for all with a little noise for each: pixel by pixel at low noise, all together at high noise."""
    rows = (RNG.normal(size=(300, 1, 1)) + 0.1 * RNG.normal(size=(300, 3, 3))).astype(np.float32)
    method = score_machine(COSINE, rows=rows, kind="local", patch=(1, 5))
    params = method.params(method.init(KEY, None))
    assert params["patches"][1:3].tolist() == [1, 1]
    assert params["patches"][4:8].tolist() == [5] * 4
    assert np.all(np.diff(params["times"]) > 0)


def test_a_size_is_used_between_its_times():
    method = score_machine(COSINE, rows=IMAGES, kind="local", patch=(1, 11))
    state = method.init(KEY, None)
    choice = jnp.arange(12, dtype=jnp.int32) % 2
    state = state._replace(model=score_machines.replace(state.model, choice=choice))
    say, x = jax.jit(method.process(state).dynamics.semilinear.denoiser), jnp.asarray(IMAGES[0] + 0.3)
    each = [denoiser(kind="local", patch=patch) for patch in (1, 11)]
    times = np.asarray(method.params(state)["times"])
    for level in (0, 1, 5, 11):
        t = 0.5 * (np.r_[0.0, times][level] + np.r_[times, 1.0][level])
        want = each[level % 2](t, x, None)
        np.testing.assert_allclose(say(t, x, None), want, rtol=1e-5)


def test_every_pixel_of_a_sample_is_one_of_a_training_image():
    """Not so the whole: with patches of 3 samples are mosaics that are no training image."""
    rows = RNG.choice([-1.0, 0.0, 1.0], (6, 5, 5)).astype(np.float32)
    method = score_machine(COSINE, rows=rows, kind="equivariant", patch=3)
    x = np.asarray(bj.sample(method.process(method.init(KEY, None)), bj.keys(KEY, 30)))
    assert np.abs(x[..., None] - np.array([-1.0, 0.0, 1.0])).min(axis=-1).max() < 1e-2
    nearest = np.abs(x[:, None] - rows).max(axis=(2, 3)).min(axis=1)
    assert np.mean(nearest > 0.5) > 0.5


@pytest.mark.optimised
def test_no_array_of_images_times_states_times_pixels():
    n, batch = 16_384, 64
    rows = RNG.normal(size=(n, 8, 8)).astype(np.float32)
    say = jax.vmap(denoiser(rows, kind="local", patch=3), (None, 0, None))
    many = jax.jit(lambda x: say(0.3, x, None)).lower(jnp.zeros((batch, 8, 8), jnp.float32)).compile()
    assert many.memory_analysis().temp_size_in_bytes < 4 * n * batch * 64 / 10


def test_by_words_of_a_table_of_images(tmp_path, capsys):
    np.save(tmp_path / "x.npy", RNG.normal(size=(40, 9)))
    words = ["train", "score_machine", "--data", str(tmp_path / "x.npy"), "--num", "10", "--batch-size", "4"]
    words += ["--machine", "local", "--patch", "3", "--sample-steps", "4"]
    assert main([*words, "--out", str(tmp_path / "none")]) == 1
    assert "learns images, and these data are table; of flat images say --image 8x8" in capsys.readouterr().err
    assert main([*words, "--image", "3 by 3", "--out", str(tmp_path / "none")]) == 1
    assert "image must be HEIGHTxWIDTH" in capsys.readouterr().err
    out = tmp_path / "run"
    assert main([*words, "--image", "3x3", "--out", str(out)]) == 0
    x = np.load(out / "samples.npz")["x"]
    assert x.shape == (10, 9)
    assert main(["sample", str(out), "--num", "10", "--seed", "1"]) == 0
    np.testing.assert_array_equal(np.load(out / "samples-1.npz")["x"], x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(rows=np.zeros((3, 4))), "give image= for rows that are flat"),
        (dict(rows=np.zeros((3, 4)), image=(2, 3)), "image must have as many numbers as a row of shape"),
        (dict(rows=IMAGES, patch=4), "patch must be an odd integer"),
        (dict(rows=IMAGES, patch=()), "patch must be an odd integer"),
        (dict(rows=IMAGES[:1]), "rows must be at least 2 for patch sizes to be chosen"),
    ],
)
def test_what_is_no_machine_says_so(options, words):
    with pytest.raises(ValueError, match=words):
        score_machine(COSINE, **options)
