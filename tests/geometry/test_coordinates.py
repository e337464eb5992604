"""The columns of a table as points of a manifold and back: every form, and one sentence for every row that is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj

read = bj.manifolds.coordinates.read
RANDOM = np.random.default_rng(0)
PLACES = np.stack([RANDOM.uniform(-90, 90, 40), RANDOM.uniform(-180, 180, 40)], axis=1)
NORMAL = RANDOM.normal(size=(40, 4))
QUATERNIONS = NORMAL / np.linalg.norm(NORMAL, axis=1, keepdims=True)
VECTORS = NORMAL[:, :3] / np.linalg.norm(NORMAL[:, :3], axis=1, keepdims=True)
MATRICES = np.asarray(bj.manifolds.rotations.from_quaternion(QUATERNIONS)).reshape(-1, 9)
ANGLES = RANDOM.uniform(-180, 180, (40, 3))

FORMS = [
    ("sphere", PLACES, None, "latitude and longitude in degrees", 1e-4),
    ("sphere", PLACES % [1000, 360], None, "latitude and longitude in degrees", 1e-4),
    ("sphere", VECTORS, None, "unit vectors", 1e-6),
    ("torus", ANGLES, None, "3 angles in degrees", 1e-4),
    ("torus", ANGLES % 360, "degrees", "3 angles in degrees", 1e-4),
    ("torus", np.deg2rad(ANGLES[:, :1]), "radians", "1 angle in radians", 1e-6),
    ("torus", np.deg2rad(ANGLES % 360), "radians", "3 angles in radians", 1e-6),
    ("so3", MATRICES, None, "rotation matrices, row after row", 1e-6),
    ("so3", QUATERNIONS, None, "unit quaternions (x, y, z, w), scalar last", 1e-6),
    ("so3", 2.0 * VECTORS, None, "rotation vectors in radians", 1e-5),
]


@pytest.mark.parametrize(("manifold", "rows", "angles", "said", "error"), FORMS)
def test_rows_become_points_and_come_back_as_they_were(manifold, rows, angles, said, error):
    if said.startswith("latitude"):  # the modulus above is of longitudes alone
        rows = np.stack([PLACES[:, 0], rows[:, 1]], axis=1)
    found, x = read(rows, manifold, angles=angles, name="table")
    assert str(found) == said
    assert x.dtype == np.float32
    assert np.all(jax.vmap(found.space.contains)(x))
    back = found.to_columns(x)
    sign = np.sign(np.sum(back * rows, axis=1, keepdims=True)) if "quaternion" in said else 1.0
    np.testing.assert_allclose(back * sign, rows, atol=error)
    assert len(found.names) == rows.shape[1]
    assert len(found.embedded) == found.space.features(x[0]).size
    np.testing.assert_allclose(jax.jit(found.decode)(x[0]), found.decode(jnp.asarray(x[0])), rtol=1e-6)  # a few ulps


def test_what_the_columns_mean():
    """The north pole, 90 E on the equator; a quarter turn about z takes x to y."""
    x = read([[90.0, 12.0], [0.0, 90.0]], "sphere")[1]
    np.testing.assert_allclose(x, [[0, 0, 1], [0, 1, 0]], atol=1e-6)
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    root = np.sqrt(0.5)
    for row in (turn.ravel(), [0, 0, root, root], [0, 0, np.pi / 2]):
        np.testing.assert_allclose(read([row], "so3")[1][0], turn, atol=1e-6)
    np.testing.assert_allclose(read([[270.0, 90.0]], "torus")[1], [[-np.pi / 2, np.pi / 2]], atol=1e-6)


def test_rounded_rows_are_points_and_others_on_request():
    x = read(np.round(VECTORS, 4), "sphere")[1]
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1.0, atol=1e-6)
    x = read(3.0 * VECTORS, "sphere", project=True)[1]
    np.testing.assert_allclose(x, VECTORS, atol=1e-6)
    x = read(1.1 * MATRICES, "so3", project=True)[1]
    np.testing.assert_allclose(x.reshape(-1, 9), MATRICES, atol=1e-5)


BAD = [
    (PLACES[:, ::-1] * [1, 0.5], "sphere", {}, "beyond 90 degrees; latitude comes first: are the columns exchanged"),
    (PLACES + [0, 400], "sphere", {}, r"take them modulo 360 first"),
    (np.deg2rad(PLACES), "sphere", {}, "look like radians; latitude and longitude are read in degrees"),
    (PLACES, "sphere", {"names": ("Lon", "Lat")}, "latitude comes first: --columns Lat,Lon"),
    (1.5 * VECTORS, "sphere", {}, r"row \d+ is a vector of norm 1.5, off the sphere by 0.5; --project divides"),
    (0 * VECTORS, "sphere", {"project": True}, "row 1 is a vector of norm 0, which has no direction; leave"),
    (QUATERNIONS, "sphere", {}, "has 4 columns, and manifold sphere takes 2 columns .* choose them with --columns"),
    (ANGLES, "torus", {"angles": "radians"}, "look like degrees where radians were said; give --angles degrees"),
    (np.deg2rad(ANGLES), "torus", {}, "look like radians where degrees were said; give --angles radians"),
    (3 * ANGLES, "torus", {}, "beyond 360 degrees; take the angles modulo 360 first"),
    (0 * QUATERNIONS, "so3", {}, "row 1 is a quaternion of norm 0"),
    (2 * QUATERNIONS, "so3", {}, r"row \d+ is a quaternion of norm 2, off the sphere by 1; --project"),
    (-MATRICES, "so3", {}, r"row \d+ has determinant -1: it is a reflection \(its negative is a rotation\)"),
    (-MATRICES, "so3", {"project": True}, "determinant -1"),
    (0 * MATRICES, "so3", {"project": True}, "row 1 has determinant 0: it is singular"),
    (1.2 * MATRICES, "so3", {}, "R.T R is off the identity by 0.44; --project takes the nearest rotation"),
    (100 * VECTORS, "so3", {}, "of length 100, beyond 2 pi: these look like degrees; .* multiply them by pi"),
    (PLACES, "so3", {}, "has 2 columns, and manifold so3 takes 9 columns"),
    (np.full((3, 2), np.nan), "sphere", {}, "not finite"),
    (PLACES, "plane", {}, "manifold must be one of sphere, torus, so3, got 'plane'"),
]


@pytest.mark.parametrize(("rows", "manifold", "options", "words"), BAD)
def test_what_is_no_point_is_said_with_its_row_and_a_remedy(rows, manifold, options, words):
    with pytest.raises(ValueError, match=words):
        read(rows, manifold, name="table", **options)


def test_few_small_angles_may_be_degrees():
    """The unit is judged by the range of many rows, and a run scores single ones in its own unit."""
    found, _ = read(ANGLES, "torus")
    np.testing.assert_allclose(found.to_points([[1.0, 2.0, 3.0]]), np.deg2rad([[1.0, 2.0, 3.0]]), rtol=1e-6)
    with pytest.raises(ValueError, match="x must have 3 columns, 3 angles in degrees, got shape"):
        found.to_points([[1.0, 2.0]])
