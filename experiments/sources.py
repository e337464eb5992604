"""Data that stands on other packages' shoulders: read where it is, left out with a sentence where it is not.

frog_labels     pyvista's examples/frog_tissues.vti, 470 x 500 x 136 voxels, labels 0..29 from a real segmentation;
                a zlib-compressed VTK XML file, read without VTK
emoji_bitmaps   the colour bitmaps in Debian's fonts-noto-color-emoji (OFL-1.1), read with fontTools and PIL
mesh_points     points drawn evenly over the surfaces of OFF meshes, such as those of Debian's libcgal-demo
                (data.tar.gz in its documentation)
"""

from __future__ import annotations

import base64
import importlib.util
import io
import pathlib
import re
import zlib

import numpy as np

EMOJI = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"


def _pyvista(name: str) -> pathlib.Path | None:
    """A file among pyvista's examples, if it is installed; pyvista itself is not imported."""
    spec = importlib.util.find_spec("pyvista")
    if spec is None or spec.origin is None:
        return None
    path = pathlib.Path(spec.origin).parent / "examples" / name
    return path if path.exists() else None


def frog_labels(path: str | None = None) -> np.ndarray | None:
    """(136, 470, 500) uint8; None, with a sentence, where the file is not to be found."""
    file = _pyvista("frog_tissues.vti") if path is None else pathlib.Path(path)
    if file is None or not file.exists():
        print("label maps left out: pip install --no-deps pyvista, or give --labels FILE", flush=True)
        return None
    text = file.read_text()
    found = re.search(r'<DataArray type="UInt8"[^>]*format="binary"[^>]*>\s*(\S+)\s*</DataArray>', text)
    assert found is not None, f"{file} holds no inline UInt8 array"
    raw = found.group(1)
    count = int(np.frombuffer(base64.b64decode(raw[:8])[:4], "<u4")[0])
    length = 4 * -(-(4 * (3 + count)) // 3)  # base64 characters of the header: blocks, block size, last size, sizes
    sizes = np.frombuffer(base64.b64decode(raw[:length]), "<u4")[3 : 3 + count]
    data, parts, at = base64.b64decode(raw[length:]), [], 0
    for size in sizes:
        parts.append(zlib.decompress(data[at : at + size]))
        at += int(size)
    extent = [int(v) for v in re.search(r'WholeExtent="([^"]*)"', text).group(1).split()]  # pyright: ignore
    shape = tuple(extent[2 * k + 1] - extent[2 * k] + 1 for k in (2, 1, 0))
    return np.frombuffer(b"".join(parts), np.uint8).reshape(shape)


def frog_crops(volume: np.ndarray, size: int = 16, k: int = 8, every: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """One-hot (n, size, size, k) from training and held-out slices: the k - 1 commonest labels, the rest one category.

    Slices are thinned to every ``every``-th voxel and cut into windows a quarter of a window apart, and those kept that
    are at least a fifth tissue. Every fourth block of four slices is held out: none is a training slice.
    """
    common = np.argsort(-np.bincount(volume.ravel(), minlength=256))[: k - 1]
    lookup = np.full(256, k - 1)
    lookup[common] = np.arange(k - 1)
    thin = lookup[volume[:, ::every, ::every]]
    windows = np.lib.stride_tricks.sliding_window_view(thin, (size, size), axis=(1, 2))[:, :: size // 4, :: size // 4]
    tissue = (windows != 0).mean((3, 4)) >= 0.2
    out = ((np.arange(len(thin)) // 4) % 4 == 3)[:, None, None] & tissue
    hot = np.eye(k, dtype=np.float32)
    return hot[windows[tissue & ~out]], hot[windows[out]]


def emoji_bitmaps(path: str = EMOJI, size: int = 32) -> np.ndarray | None:
    """(n, size, size, 3) in v / 127.5 - 1, on white; None, with a sentence, where font or reader are missing."""
    if not pathlib.Path(path).exists() or importlib.util.find_spec("fontTools") is None:
        print("emoji left out: apt-get install fonts-noto-color-emoji, pip install fonttools pillow", flush=True)
        return None
    from fontTools.ttLib import TTFont
    from PIL import Image

    seen: dict[bytes, np.ndarray] = {}
    for glyph in TTFont(path)["CBDT"].strikeData[0].values():
        picture = Image.open(io.BytesIO(glyph.imageData)).convert("RGBA")
        page = Image.new("RGBA", picture.size, "white")
        page.alpha_composite(picture)
        side = max(page.size)
        square = Image.new("RGB", (side, side), "white")
        square.paste(page.convert("RGB"), ((side - page.width) // 2, (side - page.height) // 2))
        small = np.asarray(square.resize((size, size), Image.Resampling.BOX))
        seen.setdefault(small.tobytes(), small)
    return np.asarray(np.stack(list(seen.values())) / 127.5 - 1.0, np.float32)


def _mesh(file: pathlib.Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Vertices and triangles of an ASCII OFF file; None for other variants and for small meshes."""
    lines = [line.split("#")[0].split() for line in file.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line]
    if not lines or lines[0] != ["OFF"] or len(lines[1]) < 2:
        return None
    n, m = int(lines[1][0]), int(lines[1][1])
    if n <= 300 or len(lines) < 2 + n + m or any(len(line) < 3 for line in lines[2 : 2 + n]):
        return None
    vertices = np.array([line[:3] for line in lines[2 : 2 + n]], float)
    faces = [[int(v) for v in line[1 : 1 + int(line[0])]] for line in lines[2 + n : 2 + n + m]]
    triangles = [[f[0], f[k], f[k + 1]] for f in faces for k in range(1, len(f) - 1)]
    return (vertices, np.array(triangles, int)) if triangles else None


def mesh_points(folder: str | None, count: int, draws: int, seed: int = 0) -> np.ndarray | None:
    """(meshes * draws, count, 3), each cloud centred and scaled so that its mesh fits into the unit ball.

    None, with a sentence, where there is no folder.
    """
    if folder is None or not pathlib.Path(folder).is_dir():
        print("point clouds left out: give --meshes FOLDER with OFF files, as in Debian's libcgal-demo", flush=True)
        return None
    random, clouds = np.random.default_rng(seed), []
    for file in sorted(pathlib.Path(folder).rglob("*.off")):
        mesh = _mesh(file)
        if mesh is None:
            continue
        vertices, faces = mesh
        middle = 0.5 * (vertices.max(0) + vertices.min(0))
        a, b, c = ((vertices - middle) / np.linalg.norm(vertices - middle, axis=1).max())[faces].transpose(1, 0, 2)
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        if not np.isfinite(area).all() or area.sum() <= 0:
            continue
        face = random.choice(len(faces), (draws, count), p=area / area.sum())
        u, v = random.uniform(size=(2, draws, count, 1))
        flip = u + v > 1.0
        u, v = np.where(flip, 1.0 - u, u), np.where(flip, 1.0 - v, v)
        clouds.append(a[face] + u * (b[face] - a[face]) + v * (c[face] - a[face]))
    return np.asarray(np.concatenate(clouds), np.float32)
