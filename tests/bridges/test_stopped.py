"""A process up to a time: its paths are those of the whole process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj


def test_the_state_at_a_time_of_the_grid_is_that_of_the_path(key):
    process = bj.Process(bj.starts.normal((2,)), bj.SDE(lambda t, x, args: -x), bj.grids.uniform(8))
    half = bj.stop(process, 0.5)
    np.testing.assert_array_equal(half.ts, bj.grids.uniform(8)[:5])
    whole = bj.sample(process, bj.keys(key, 3))
    np.testing.assert_allclose(bj.sample(half, bj.keys(key, 3)), whole / (1 - 1 / 8 + 1 / 128) ** 4, rtol=1e-5)
    np.testing.assert_array_equal(bj.stop(process, 1.0).ts, process.ts)


def test_a_time_off_the_grid_is_refused():
    process = bj.Process(bj.starts.normal((2,)), bj.SDE(lambda t, x, args: -x), bj.grids.uniform(8))
    for t in (0.0, 1.5, -1.0):
        with pytest.raises(ValueError, match="t must lie on the grid of the process"):
            bj.stop(process, t)
    with pytest.raises(ValueError, match="t decides how many steps"):
        jax.jit(lambda t: bj.stop(process, t).ts)(jnp.asarray(0.5))
