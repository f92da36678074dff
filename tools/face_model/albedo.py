"""Log-albedo modes in the head's own atlas, from the 20 CC0 MakeHuman skins and painted parts."""

import io
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree

from .assembly import PARTS, Assembly
from .makehuman import read_accessory
from .painting import FINE, IRIS_HUE, IRIS_LIGHTNESS, paint
from .sources import Sources


@njit(cache=True)
def rasterize_atlas(
    corners: NDArray[np.float64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return for every texel centre its triangle (-1: none), barycentrics and triangle count.

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


def sample_image(image: NDArray[np.float32], uv: NDArray[np.float64]) -> NDArray[np.float32]:
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


@dataclass(frozen=True)
class Atlas:
    """The triangle and its point at each texel centre of the texture layout."""

    size: int
    """Texels along each side."""
    triangle: NDArray[np.int64]
    """(R, R) level-1 triangle; -1: none."""
    weights: NDArray[np.float64]
    """(R, R, 3) barycentrics in that triangle."""
    uv: NDArray[np.float64]
    """(R, R, 2) texture coordinates of the texel centres."""

    def interpolate(
        self, values: NDArray[np.float64], triangles: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return per-vertex values (V, C) at the texels (R, R, C), 0 outside the islands."""
        result = (values[triangles[self.triangle]] * self.weights[..., None]).sum(2)
        return np.where(self.triangle[..., None] >= 0, result, 0)


def rasterize(
    assembly: Assembly, uv: NDArray[np.float64], uv_quads: NDArray[np.int64], size: int
) -> Atlas:
    """Return the atlas with `size` texels along each side."""
    corners = uv[uv_quads][:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3, 2)
    triangle, weights, _ = rasterize_atlas(corners, size)
    centres = (np.arange(size) + 0.5) / size
    return Atlas(size, triangle, weights, np.stack(np.meshgrid(centres, centres), -1))


def part_masks(assembly: Assembly, atlas: Atlas) -> dict[str, NDArray[np.bool_]]:
    """Return the texels (R, R) of each part; eye sockets and mouth cavity are separate parts."""
    skin = np.repeat(assembly.skin.fine_part, 2)
    start = len(skin)
    names = ("skin", "socket_left", "socket_right", "mouth_bag")
    inside = (atlas.triangle >= 0) & (atlas.triangle < start)
    part = np.where(inside, skin[np.clip(atlas.triangle, 0, start - 1)], -1)
    masks = {name: part == k for k, name in enumerate(names)}
    for name in PARTS[1:]:
        stop = start + 2 * len(assembly.parts[name].quads)
        masks[name] = (atlas.triangle >= start) & (atlas.triangle < stop)
        start = stop
    return masks


# Natural logarithm of linear RGB. The mean is half-way between very fair and very dark skin; one
# standard deviation of melanin darkens by these amounts (from fair and dark patches of colour charts).
_MEAN_SKIN = np.array([-1.18, -1.88, -2.34])
_MELANIN = np.array([-0.60, -0.72, -0.78])
_BLOOD = np.array([0.012, -0.095, -0.070])
_UNDERTONE = np.array([0.014, 0.0, -0.085])
_HAIR = np.log(np.array([0.030, 0.019, 0.013]))

MODES = (
    "melanin",
    "blood",
    "undertone",
    "brow_darkness",
    "brow_shape_1",
    "brow_shape_2",
    "scalp_darkness",
    "beard_shadow",
    "lip_darkness",
    "lip_redness",
    "iris_lightness",
    "iris_hue",
)
"""Names of the explicit modes; the principal modes of the skins follow."""


def build_albedo(
    sources: Sources,
    assembly: Assembly,
    uv: NDArray[np.float64],
    uv_quads: NDArray[np.int64],
    regions: dict[str, NDArray[np.float64]],
    control: NDArray[np.float64],
    *,
    size: int = 256,
    skin_modes: int = 5,
) -> tuple[dict[str, NDArray[np.generic]], tuple[str, ...]]:
    """Return the tensors of the albedo model and the names of its modes.

    The tensors are `mean_log` (3, R, R) float16, `basis_log` (A, 3, R, R) int8 with `basis_scale`
    (A,), and at 2048 texels painted patches for eyes and teeth and the lashes' opacity.

    Args:
        sources: the packages with skins and brows.
        assembly: the parts.
        uv: (U, 2) texture layout.
        uv_quads: (Q, 4) level-1 uv quads.
        regions: weights (V,) of the level-1 vertices.
        control: (C, 3) mean control vertices, metres.
        size: texels along each side.
        skin_modes: number of principal modes of the skins after tone is removed.
    """
    atlas = rasterize(assembly, uv, uv_quads, size)
    masks = part_masks(assembly, atlas)
    triangles = assembly.fine_triangles

    def region(name: str) -> NDArray[np.float64]:
        return atlas.interpolate(regions[name][:, None], triangles)[..., 0]

    shape = (size, size, 3)
    mean = np.zeros(shape)
    modes = {name: np.zeros(shape) for name in MODES}
    pattern, slope, principal = skin_statistics(
        sources, assembly, atlas, region("face"), skin_modes
    )
    lips, face, surface = region("lips"), region("face"), region("skin")
    fine = rasterize(assembly, uv, uv_quads, 1024)
    brows = np.stack([shrink(a, size) for a in brow_opacities(sources, assembly, fine)])
    # Brows 1, 2 and 8 have similar shapes; the average of all eight would be blurred.
    usual = brows[[0, 1, 4]].mean(0)
    brow = usual * masks["skin"]
    on_skin = masks["skin"][..., None]

    # The skins' lids have painted lashes and stretch in a blink, so they are smoothed.
    lids = region("eyes")
    calm = smooth_inside(pattern, masks["skin"], 5.0)
    pattern = pattern + lids[..., None] * (calm - pattern)
    brow = brow * (1 - lids)
    mean += np.where(on_skin, _MEAN_SKIN + pattern, 0)
    mean += brow[..., None] * 0.8 * (_HAIR - mean) * on_skin
    mean += (lips * masks["skin"])[..., None] * (0.04, -0.16, -0.08)
    keep = (1 - 0.75 * brow)[..., None]
    modes["melanin"] += on_skin * slope * keep * _MELANIN
    modes["blood"] += on_skin * keep * _BLOOD * (0.7 + 0.6 * face[..., None])
    modes["undertone"] += on_skin * keep * _UNDERTONE
    modes["brow_darkness"] += brow[..., None] * on_skin * (-0.45, -0.55, -0.62)
    flat = (brows - usual).reshape(len(brows), -1)
    _, singular, vh = np.linalg.svd(flat, full_matrices=False)
    for k in range(2):
        opacity = (vh[k] * singular[k] / np.sqrt(len(brows))).reshape(size, size)
        opacity *= np.sign(opacity.sum())
        modes[f"brow_shape_{k + 1}"] += (opacity * masks["skin"])[..., None] * (_HAIR - _MEAN_SKIN)
    modes["scalp_darkness"] += (region("scalp") * surface)[..., None] * (-0.45, -0.5, -0.52)
    points = assembly.skin.refine(control[: len(assembly.skin.base_index)])
    points = np.concatenate([points, np.zeros((len(regions["skin"]) - len(points), 3))])
    place = atlas.interpolate(points, triangles)
    beard = beard_weight(place) * masks["skin"] * (1 - lips) * (1 - region("ears"))
    modes["beard_shadow"] += beard[..., None] * (-0.20, -0.16, -0.12)
    modes["lip_darkness"] += (lips * masks["skin"])[..., None] * (-0.13, -0.17, -0.16)
    modes["lip_redness"] += (lips * masks["skin"])[..., None] * (0.04, -0.09, -0.04)

    finest = rasterize(assembly, uv, uv_quads, FINE)
    painted = paint(part_masks(assembly, finest), finest.uv)
    for name, mask in masks.items():
        if name != "skin":
            mean = np.where(
                mask[..., None], shrink(painted.log_colour, size, painted.covered), mean
            )
    for mode, colour in (("iris_lightness", IRIS_LIGHTNESS), ("iris_hue", IRIS_HUE)):
        modes[mode] += shrink(painted.iris, size)[..., None] * colour

    stack = np.concatenate([np.stack([modes[name] for name in MODES]), principal])
    near = distance_transform_edt(atlas.triangle < 0, return_distances=False, return_indices=True)
    mean, stack = mean[near[0], near[1]], stack[:, near[0], near[1]]
    mean, stack = (mean + mean[:, ::-1]) / 2, (stack + stack[:, :, ::-1]) / 2
    scale = np.abs(stack).max((1, 2, 3))
    stored = np.rint(stack / scale[:, None, None, None] * 127).astype(np.int8)
    tensors: dict[str, NDArray[np.generic]] = {
        "mean_log": np.ascontiguousarray(mean.transpose(2, 0, 1)).astype(np.float16),
        "basis_log": np.ascontiguousarray(stored.transpose(0, 3, 1, 2)),
        "basis_scale": scale.astype(np.float32),
        **painted.patches,
        **lash_patch(sources, assembly, finest),
    }
    return tensors, MODES + tuple(f"skin_{k + 1}" for k in range(skin_modes))


def skin_statistics(
    sources: Sources, assembly: Assembly, atlas: Atlas, face: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return statistics of the skins in log albedo.

    These are their mean pattern (R, R, 3), the strength of melanin at each texel (R, R, 1; mean 1),
    and the principal modes (count, R, R, 3) of the rest after tone is removed. Large soft shadows in
    the skins are mostly baked light, so they are reduced to 45 %.
    """
    old = old_texture_corners(assembly)[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3, 2)
    on_skin = (atlas.triangle >= 0) & (atlas.triangle < len(old))
    place = (old[atlas.triangle[on_skin]] * atlas.weights[on_skin][..., None]).sum(1)
    _, skins = read_skins(sources)
    logs = np.zeros((len(skins), atlas.size, atlas.size, 3))
    logs[:, on_skin] = np.log(np.maximum(sample_image(skins, place), 4e-3))
    logs = np.where(on_skin[..., None], (logs + logs[:, :, ::-1]) / 2, 0)
    weight = face[on_skin]
    tone = (logs[:, on_skin] * weight[:, None]).sum(1) / weight.sum()
    pattern = logs - tone[:, None, None]
    pattern[:, ~on_skin] = 0
    lightness = tone.mean(1)
    lightness = (lightness - lightness.mean()) / lightness.std()
    response = np.einsum("n,nrcd->rcd", lightness, logs).mean(-1) / len(skins)
    inside = on_skin & (face > 0.9)
    slope = np.where(on_skin, response / response[inside].mean(), 1)
    slope = np.clip(smooth_inside(slope, on_skin, 1.5), 0.45, 1.25)[..., None]
    average = pattern.mean(0)
    soft = smooth_inside(average, on_skin, 9.0)
    average = np.where(on_skin[..., None], average - 0.55 * soft, 0)
    average -= (average[on_skin] * weight[:, None]).sum(0) / weight.sum()
    rest = pattern - pattern.mean(0)
    rest -= np.einsum(
        "n,rcd->nrcd", lightness, np.einsum("n,nrcd->rcd", lightness, rest) / len(skins)
    )
    flat = rest.reshape(len(rest), -1)
    _, singular, vh = np.linalg.svd(flat, full_matrices=False)
    modes = vh[:count] * (singular[:count] / np.sqrt(len(skins)))[:, None]
    modes *= np.sign(modes.sum(1, keepdims=True))
    return average, slope, modes.reshape(count, atlas.size, atlas.size, 3)


def smooth_inside(
    image: NDArray[np.float64], mask: NDArray[np.bool_], sigma: float
) -> NDArray[np.float64]:
    """Return the image blurred by a Gaussian of `sigma` texels, without texels outside the mask."""
    flat = image if image.ndim == 3 else image[..., None]
    width = (sigma, sigma, 0)
    weight = gaussian_filter(mask[..., None].astype(float), width)
    blurred = gaussian_filter(np.where(mask[..., None], flat, 0), width) / np.maximum(weight, 1e-6)
    return blurred if image.ndim == 3 else blurred[..., 0]


def shrink(
    image: NDArray[np.float64], size: int, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return a square image averaged over blocks; with `mask`, only over the masked texels."""
    step = len(image) // size
    weight = np.ones(image.shape[:2]) if mask is None else mask.astype(float)
    values = image if image.ndim == 3 else image[..., None]
    blocks = (values * weight[..., None]).reshape(size, step, size, step, -1).sum((1, 3))
    total = weight.reshape(size, step, size, step).sum((1, 3))
    result = blocks / np.maximum(total, 1e-9)[..., None]
    return result if image.ndim == 3 else result[..., 0]


def beard_weight(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the beard's weight (R, R), 0 to 1, for mean positions (R, R, 3) in metres."""

    def ramp(x: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
        t = np.clip((x - low) / (high - low), 0, 1)
        return t * t * (3 - 2 * t)

    x, y, z = np.abs(place[..., 0]), place[..., 1], place[..., 2]
    # The upper border goes from below the nose along the cheek to the ear.
    border = -0.058 - 0.020 * np.clip((x - 0.012) / 0.03, 0, 1) + 0.035 * ramp(x, 0.05, 0.075)
    above = ramp(y - border, 0.004, -0.008)
    return above * ramp(y, -0.150, -0.125) * ramp(z, -0.085, -0.06)


def brow_opacities(sources: Sources, assembly: Assembly, atlas: Atlas) -> list[NDArray[np.float64]]:
    """Return the opacity (R, R) of eight brows on the skin."""
    skin = assembly.skin
    base = assembly.base.vertices
    points = skin.refine(base[skin.base_index])
    triangles = assembly.fine_triangles[: 2 * len(skin.fine_quads)]
    inside = (atlas.triangle >= 0) & (atlas.triangle < len(triangles))
    place = np.zeros((atlas.size, atlas.size, 3))
    corners = points[triangles[atlas.triangle[inside]]]
    place[inside] = (corners * atlas.weights[inside][..., None]).sum(1)
    bary = np.random.default_rng(0).dirichlet([1, 1, 1], 400)
    result = []
    for number in (1, 2, 3, 4, 8, 9, 11, 12):
        name = f"eyebrow{number:03d}"
        brow = read_accessory(sources, "eyebrows", name)
        split = [0, 1, 2, 0, 2, 3]
        mesh = brow.fit(base)[brow.quads[:, split].reshape(-1, 3)]
        texture = brow.uv[brow.uv_quads[:, split].reshape(-1, 3)]
        samples = np.einsum("kb,tbc->tkc", bary, mesh).reshape(-1, 3)
        sample_uv = np.einsum("kb,tbc->tkc", bary, texture).reshape(-1, 2)
        low, high = samples.min(0) - 0.004, samples.max(0) + 0.004
        near = inside & ((place > low) & (place < high)).all(-1)
        distance, index = cKDTree(samples).query(place[near])
        file = sources.makehuman_names(f"proxies/eyebrows/{name}/textures/")[0]
        image = np.asarray(Image.open(io.BytesIO(sources.makehuman(file))).convert("RGBA"))
        alpha = sample_image(image[..., 3:].astype(np.float32) / 255, sample_uv[index])[:, 0]
        opacity = np.zeros(inside.shape)
        opacity[near] = alpha * (distance < 0.007)
        result.append(smooth_inside((opacity + opacity[:, ::-1]) / 2, inside, 1.0))
    return result


def lash_patch(
    sources: Sources, assembly: Assembly, atlas: Atlas
) -> dict[str, NDArray[np.generic]]:
    """Return the opacity of the left lashes' island as a patch of the finest atlas."""
    mask = part_masks(assembly, atlas)["lashes"]
    start = len(assembly.fine_triangles) - 2 * len(assembly.lashes.quads)
    corners = assembly.lashes.uv[assembly.lashes.uv_quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)]
    place = (corners[atlas.triangle[mask] - start] * atlas.weights[mask][..., None]).sum(1)
    file = sources.makehuman_names("proxies/eyelashes/Eyelashes01/textures/")[0]
    image = np.asarray(Image.open(io.BytesIO(sources.makehuman(file))).convert("RGBA"))
    alpha = gaussian_filter(image[..., 3].astype(np.float32) / 255, 0.8)
    opacity = np.zeros(mask.shape)
    opacity[mask] = sample_image(alpha[..., None], place)[:, 0] * 0.85
    top, bottom, left, right = box = (1936, 2044, 1280, 1508)
    weight = np.rint(opacity[top:bottom, left:right] * 255).astype(np.uint8)
    return {
        "patch_lashes": np.zeros((*weight.shape, 3), np.float16),
        "patch_lashes_weight": weight,
        "patch_lashes_iris": np.zeros_like(weight),
        "patch_lashes_box": np.array(box, np.int32),
    }
