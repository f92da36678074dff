"""Log-albedo basis in the head's own atlas, from the 20 CC0 MakeHuman skins and painted parts."""

import io

import numpy as np
from numba import njit
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from .assembly import PARTS, Assembly
from .sources import Sources


@njit(cache=True)
def rasterize_atlas(
    corners: NDArray[np.float64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return triangle (-1 = none), barycentrics and number of triangles of every texel centre.

    `corners` (T, 3, 2) are texture coordinates in [0, 1], v down.
    """
    index = np.full((size, size), -1, np.int64)
    weights = np.zeros((size, size, 3))
    hits = np.zeros((size, size), np.int64)
    for t in range(len(corners)):
        ax, ay = corners[t, 0] * size
        bx, by = corners[t, 1] * size
        cx, cy = corners[t, 2] * size
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-12:
            continue
        for row in range(max(0, int(min(ay, by, cy) - 0.5)), min(size, int(max(ay, by, cy)) + 1)):
            for column in range(
                max(0, int(min(ax, bx, cx) - 0.5)), min(size, int(max(ax, bx, cx)) + 1)
            ):
                x, y = column + 0.5, row + 0.5
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                w = 1 - u - v
                if u >= 0 and v >= 0 and w >= 0:
                    if u > 1e-7 and v > 1e-7 and w > 1e-7:
                        hits[row, column] += 1
                    index[row, column] = t
                    weights[row, column] = (u, v, w)
    return index, weights, hits


def read_skins(sources: Sources) -> tuple[list[str], NDArray[np.float32]]:
    """Return the names and linear RGB images (20, 512, 512, 3) of the skins."""
    names = [n for n in sources.makehuman_names("skins/") if "_diffuse" in n and n.endswith("png")]
    images = [
        np.asarray(Image.open(io.BytesIO(sources.makehuman(n))).convert("RGB")) for n in names
    ]
    return names, srgb_to_linear(np.stack(images).astype(np.float32) / 255)


def srgb_to_linear(srgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return linear RGB of sRGB values in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


def sample_image(
    image: NDArray[np.float32], uv: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return bilinear samples (..., C) of an image (..., H, W, C) at uv (N, 2), v down."""
    height, width = image.shape[-3:-1]
    x = np.clip(uv[..., 0] * width - 0.5, 0, width - 1.001)
    y = np.clip(uv[..., 1] * height - 0.5, 0, height - 1.001)
    i, j = y.astype(int), x.astype(int)
    fy, fx = (y - i)[..., None], (x - j)[..., None]
    top = image[..., i, j, :] * (1 - fx) + image[..., i, j + 1, :] * fx
    bottom = image[..., i + 1, j, :] * (1 - fx) + image[..., i + 1, j + 1, :] * fx
    return (top * (1 - fy) + bottom * fy).astype(np.float32)


def old_texture_corners(assembly: Assembly) -> NDArray[np.float64]:
    """Return body texture coordinates (4 Q, 4, 2) at the corners of the level-1 skin quads."""
    corner = assembly.base.uv[assembly.skin.old_uv_quads]
    after = (corner + np.roll(corner, -1, 1)) / 2
    centre = np.repeat(corner.mean(1, keepdims=True), 4, 1)
    return np.stack([corner, after, centre, np.roll(after, 1, 1)], 2).reshape(-1, 4, 2)


def build_albedo(
    sources: Sources,
    assembly: Assembly,
    uv: NDArray[np.float64],
    uv_quads: NDArray[np.int64],
    *,
    size: int = 256,
    modes: int = 10,
) -> dict[str, NDArray[np.generic]]:
    """Return `mean_log` (3, R, R) float16, `basis_log` (A, 3, R, R) int8 and `basis_scale` (A,)."""
    corners = uv[uv_quads][:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3, 2)
    index, weights, _ = rasterize_atlas(corners, size)
    old = old_texture_corners(assembly)[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3, 2)
    on_skin = (index >= 0) & (index < len(old))
    place = (old[index[on_skin]] * weights[on_skin][..., None]).sum(1)
    _, skins = read_skins(sources)
    logs = np.log(np.maximum(sample_image(skins, place), 2e-3)).reshape(len(skins), -1)
    mean = logs.mean(0)
    _, singular, vh = np.linalg.svd(logs - mean, full_matrices=False)
    vh *= np.sign(vh.mean(1, keepdims=True))
    std = singular[:modes] / np.sqrt(len(skins))
    basis = vh[:modes] * std[:, None]
    painted = paint_parts(assembly, index, corners, weights)
    texture = np.log(np.maximum(painted, 2e-3)).astype(np.float64)
    texture[on_skin] = mean.reshape(-1, 3)
    part = np.repeat(assembly.skin.fine_part, 2)
    bag = on_skin.copy()
    bag[on_skin] = part[index[on_skin]] > 0
    texture[bag] = np.log(painted[bag])
    maps = np.zeros((modes, size, size, 3))
    maps[:, on_skin] = basis.reshape(modes, -1, 3)
    maps[:, bag] = 0
    near = distance_transform_edt(index < 0, return_distances=False, return_indices=True)
    texture, maps = texture[near[0], near[1]], maps[:, near[0], near[1]]
    scale = np.abs(maps).max((1, 2, 3))
    stored = np.rint(maps / scale[:, None, None, None] * 127).astype(np.int8)
    return {
        "mean_log": np.ascontiguousarray(texture.transpose(2, 0, 1)).astype(np.float16),
        "basis_log": np.ascontiguousarray(stored.transpose(0, 3, 1, 2)),
        "basis_scale": scale.astype(np.float32),
    }


def paint_parts(
    assembly: Assembly,
    index: NDArray[np.int64],
    corners: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return linear RGB (R, R, 3) of everything that is not skin."""
    size = len(index)
    colour = np.full((size, size, 3), 0.3)
    start = 2 * len(assembly.skin.fine_quads)
    part = np.repeat(assembly.skin.fine_part, 2)
    inside = (index >= 0) & (index < start)
    bag = np.zeros_like(inside)
    bag[inside] = part[index[inside]] == 3
    socket = np.zeros_like(inside)
    socket[inside] = np.isin(part[index[inside]], (1, 2))
    colour[bag] = (0.16, 0.035, 0.03)
    colour[socket] = (0.42, 0.22, 0.19)
    flat = {
        "teeth_upper": (0.62, 0.55, 0.43),
        "teeth_lower": (0.58, 0.51, 0.40),
        "tongue": (0.32, 0.09, 0.08),
        "lashes": (0.02, 0.016, 0.014),
    }
    uv_here = np.zeros((size, size, 2))
    covered = index >= 0
    uv_here[covered] = (corners[index[covered]] * weights[covered][..., None]).sum(1)
    for name in PARTS[1:]:
        stop = start + 2 * len(assembly.parts[name].quads)
        here = (index >= start) & (index < stop)
        if name in flat:
            colour[here] = flat[name]
        else:
            centre = np.array([0.946 if name.endswith("left") else 0.054, 0.054])
            radius = np.linalg.norm(uv_here[here] - centre, axis=1) / 0.049
            angle = radius / 0.8 * 70
            iris = np.where(angle[:, None] < 30, np.array([0.13, 0.065, 0.03]), (0.66, 0.62, 0.58))
            iris = np.where((angle[:, None] > 26) & (angle[:, None] < 31), (0.05, 0.03, 0.02), iris)
            colour[here] = np.where(angle[:, None] < 11, (0.005, 0.005, 0.005), iris)
        start = stop
    return colour
