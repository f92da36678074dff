"""Procedural skin for test people: tones, lips, brows, beard shadow, freckles and moles.

This module does not use the project's albedo basis. Skin tone depends on two pigments, melanin and
haemoglobin, whose effects add up in the logarithm (Tsumura et al., "Image-based skin color and
texture analysis/synthesis by extracting hemoglobin and melanin information", 2003); a third of the
variation is not symmetric.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

from lifemask.evaluation.ict_faces.head import SKIN, IctHead
from lifemask.evaluation.polygons import inside_polygon
from lifemask.morphable.importers.ict import VERTEX_RANGES
from lifemask.rendering.uv import rasterize_uv

Array = np.ndarray

RESOLUTION = 640
"""Default number of texels along each side; the face is in the left half."""

# Log reflectance of skin without pigment (R, G, B).
_PALE = np.log([0.66, 0.50, 0.42])
MELANIN = np.array([0.66, 0.90, 1.08])
"""Decrease of the log reflectance (R, G, B) per unit of melanin."""
HAEMOGLOBIN = np.array([0.06, 0.34, 0.29])
"""The same for haemoglobin."""


@dataclass(frozen=True)
class _Texels:
    """Places of the texels on the mean head, and weights 0 to 1 of the features there."""

    inside: Bool[Array, "R R"]
    """Texels that a triangle covers; the other arrays hold only these."""
    position: Float[Array, "P 3"]
    hairline: Float[Array, "P"]
    lips: Float[Array, "P"]
    brows: Float[Array, "P"]
    lids: Float[Array, "P"]
    lashes: Float[Array, "P"]
    beard: Float[Array, "P"]
    flush: Float[Array, "P"]
    inner: Float[Array, "P"]
    """Mouth cavity and eye sockets."""


@dataclass(frozen=True)
class Appearance:
    """The colours of one test person."""

    texture: Float[Array, "3 R R"]
    """Linear RGB of skin, mouth cavity and sockets."""
    vertex_colours: Float[Array, "V 3"]
    """Linear RGB of eyeballs, teeth, gums and tongue; undefined elsewhere."""
    hair_colour: Float[Array, "3"]
    """Linear RGB."""
    hair_metres: float
    """Thickness of the hair above the scalp; 0 means no hair."""


def random_appearance(
    head: IctHead, generator: np.random.Generator, *, resolution: int = RESOLUTION
) -> Appearance:
    """Return random colours of a person: any skin tone, eye colour, hair, brows and beard.

    Args:
        head: the head that all people share.
        generator: source of randomness.
        resolution: texels along each side of the texture; the same generator draws another person at
            another resolution.
    """
    texels = _measure_texels(head, resolution)
    melanin = generator.beta(1.1, 1.5) * 2.1
    haemoglobin = generator.uniform(0.3, 0.95)
    position = texels.position
    # The field of each pigment has a symmetric and an asymmetric share.
    mirrored = position * np.where(position[:, :1] < 0, [-1.0, 1.0, 1.0], 1.0)
    melanin_field = 0.10 * _noise(mirrored, 0.05, generator) + 0.05 * _noise(
        position, 0.03, generator
    )
    flush_field = 0.16 * _noise(mirrored, 0.03, generator) + 0.10 * _noise(
        position, 0.018, generator
    )
    flush_field += texels.flush * generator.uniform(0.1, 0.6)
    fine = 0.05 * _noise(position, 0.0035, generator) + 0.035 * _noise(position, 0.0013, generator)
    melanin_map = melanin * (1 + 0.5 * melanin_field) + 0.12 * melanin_field
    if generator.random() < 0.3:
        speckle = np.maximum(_noise(position, 0.003, generator) - 1.1, 0)
        where = np.clip(texels.flush + 0.4, 0, 1)
        melanin_map = melanin_map + generator.uniform(0.2, 0.6) * speckle * where
    melanin_map = melanin_map + _moles(position, generator)
    melanin_map += 0.25 * texels.lids * generator.uniform(0, 1)
    haemoglobin_map = haemoglobin + flush_field + 0.2 * texels.lids * generator.uniform(0, 1)
    log = _PALE - melanin_map[:, None] * MELANIN - haemoglobin_map[:, None] * HAEMOGLOBIN
    log = log + fine[:, None] + generator.normal(0, 0.03, 3)

    lip_stain = generator.uniform(1.0, 2.2)
    made_up = generator.random() < 0.15
    lips = _PALE - (0.8 * melanin + 0.15) * MELANIN - (haemoglobin + lip_stain) * HAEMOGLOBIN
    if made_up:
        lips = np.log([0.42, 0.06, 0.09]) + generator.normal(0, 0.3, 3)
    streaks = 0.08 * _noise(position * [1.0, 0.25, 0.25], 0.0016, generator)
    log = _mix(log, lips + streaks[:, None], texels.lips * generator.uniform(0.7, 1.0))

    hair = _hair_colour(melanin, generator)
    strands = _noise(position * [1.0, 0.35, 0.35], 0.0009, generator)
    density = np.clip(0.8 + 0.25 * strands, 0, 1)
    log = _mix(log, np.log(hair * 0.8), texels.brows * density * generator.uniform(0.55, 0.95))
    log = _mix(log, np.log([0.03, 0.02, 0.02]), texels.lashes * 0.85)
    if generator.random() < 0.35:
        thickness = generator.uniform(0.2, 0.85)
        log = _mix(log, np.log(hair * 0.8), texels.beard * density * thickness)
    elif generator.random() < 0.4:
        log = log - texels.beard[:, None] * np.array([0.28, 0.22, 0.14]) * generator.uniform(0.3, 1)
    shorn = np.clip(texels.hairline / 0.006 + 0.35 * strands, 0, 1)
    bald = generator.random() < 0.12
    log = _mix(log, np.log(hair), shorn * (0.15 if bald else 0.93))
    log = _mix(log, np.log([0.10, 0.018, 0.018]) - 0.3 * melanin, texels.inner)

    texture = np.full((3, resolution, resolution), 0.2, np.float32)
    texture[:, texels.inside] = np.exp(log).T.clip(0.004, 0.92)
    return Appearance(
        _bleed(texture, texels.inside),
        _vertex_colours(head, generator),
        hair,
        0.0 if bald or generator.random() < 0.2 else generator.uniform(0.004, 0.028),
    )


def _mix(
    below: Float[Array, "P 3"], above: Float[Array, "*P 3"], share: Float[Array, "P"]
) -> Float[Array, "P 3"]:
    return below + share[:, None] * (above - below)


def _hair_colour(melanin: float, generator: np.random.Generator) -> Float[Array, "3"]:
    if generator.random() < 0.18:
        return np.full(3, generator.uniform(0.18, 0.5)) * [1.0, 0.98, 0.95]
    # Fair hair is rarer if the skin is darker.
    dark = generator.beta(2.0, 1.0 + 1.2 * max(0.0, 1.2 - melanin))
    fair, brown, black = np.array([[0.38, 0.25, 0.12], [0.10, 0.05, 0.028], [0.018, 0.014, 0.013]])
    return fair * 2 ** (-4 * dark) * (1 - dark) + brown * 2 * dark * (1 - dark) + black * dark**2


def _moles(position: Float[Array, "P 3"], generator: np.random.Generator) -> Float[Array, "P"]:
    """Return melanin of a few dark spots in random places."""
    result = np.zeros(len(position))
    for _ in range(generator.poisson(4)):
        centre = position[generator.integers(len(position))]
        radius = generator.uniform(0.0007, 0.0025)
        distance = np.linalg.norm(position - centre, axis=1)
        result += generator.uniform(0.4, 1.2) * np.clip(1.5 - distance / radius, 0, 1)
    return result


def _vertex_colours(head: IctHead, generator: np.random.Generator) -> Float[Array, "V 3"]:
    colours = np.tile(np.array([0.25, 0.05, 0.05]), (len(head.model.mean), 1))
    colours[slice(*VERTEX_RANGES["teeth"])] = np.array([0.62, 0.55, 0.44]) * generator.uniform(
        0.7, 1.0
    )
    iris = np.array(
        [[0.09, 0.045, 0.02], [0.03, 0.016, 0.01], [0.10, 0.16, 0.24], [0.10, 0.12, 0.06]]
    )
    colour = iris[generator.choice(4, p=[0.4, 0.35, 0.15, 0.1])] * generator.uniform(0.7, 1.3)
    white = np.array([0.62, 0.57, 0.55]) * generator.uniform(0.8, 1.05)
    for ball, centre in zip(head.eyeballs, head.eye_centres, strict=True):
        outward = head.model.mean[ball] - centre
        angle = np.arccos((outward / np.linalg.norm(outward, axis=1, keepdims=True))[:, 2])
        shade = np.where((angle < 0.5)[:, None], colour, white)
        shade = np.where((angle < 0.22)[:, None], 0.008, shade)
        colours[ball] = np.where(((angle > 0.45) & (angle < 0.55))[:, None], 0.5 * shade, shade)
    return colours


def _noise(
    position: Float[Array, "P 3"], metres: float, generator: np.random.Generator
) -> Float[Array, "P"]:
    """Return smooth solid noise of unit variance with features of about this size."""
    lattice = generator.normal(size=(32, 32, 32)).astype(np.float32)
    places = (position / metres + generator.uniform(0, 32, 3)).T
    # Interpolation between independent values loses variance: 8/27 is left on average.
    return map_coordinates(lattice, places, order=1, mode="grid-wrap") * np.sqrt(27 / 8)


@lru_cache(maxsize=2)
def _measure_texels(head: IctHead, resolution: int) -> _Texels:
    textured = head.textured
    triangles = head.triangles[textured]
    fragments = rasterize_uv(
        torch.from_numpy(head.uv).float(),
        torch.from_numpy(head.uv_triangles[textured]),
        resolution,
    )
    inside = fragments.mask.numpy()
    corner = triangles[fragments.triangle_index.numpy()[inside]]
    weight = fragments.barycentric.numpy()[inside].astype(np.float64)
    position = (head.model.mean[corner] * weight[..., None]).sum(1)
    hairline = np.full(len(head.model.mean), -0.03)
    hairline[:SKIN] = head.hairline
    points = head.model.mean[head.landmarks]
    upper_lids = [points[36:40], points[42:46]]
    whole_lids = [points[[36, 37, 38, 39, 40, 41, 36]], points[[42, 43, 44, 45, 46, 47, 42]]]
    brow_curves = [points[17:22], points[22:27]]
    nose, chin = points[30], points[8]
    cheeks = np.stack([points[[2, 31, 36]].mean(0), points[[14, 35, 45]].mean(0)])
    flush = np.exp(-((np.linalg.norm(position - nose, axis=1) / 0.014) ** 2))
    for cheek in cheeks:
        flush = flush + np.exp(-((np.linalg.norm(position - cheek, axis=1) / 0.022) ** 2))
    lips = _inside_lips(position, points)
    below_nose = np.clip((points[33, 1] - 0.004 - position[:, 1]) / 0.008, 0, 1)
    jaw = np.clip((position[:, 1] - (chin[1] - 0.025)) / 0.015, 0, 1)
    front = np.clip((position[:, 2] + 0.055) / 0.02, 0, 1)
    cheek_free = np.clip((np.abs(position[:, 0]) - 0.038) / 0.012, 0, 1)
    upper_cheek = np.clip((position[:, 1] + 0.062) / 0.012, 0, 1)
    beard = below_nose * jaw * front * (1 - cheek_free * upper_cheek) * (1 - lips)
    lid = np.min([_distance(position, curve) for curve in whole_lids], axis=0)
    lash = np.min([_distance(position, curve) for curve in upper_lids], axis=0)
    brow = np.min([_distance(position, curve) for curve in brow_curves], axis=0)
    return _Texels(
        inside,
        position,
        (hairline[corner] * weight).sum(1),
        lips,
        np.clip(1.5 - brow / 0.0042, 0, 1),
        np.exp(-((lid / 0.006) ** 2)),
        np.clip(1.6 - lash / 0.0011, 0, 1),
        beard,
        np.clip(flush, 0, 1),
        np.asarray((corner >= SKIN).all(1), np.float64),
    )


def _inside_lips(position: Float[Array, "P 3"], points: Float[Array, "68 3"]) -> Float[Array, "P"]:
    """Return weights, 0 to 1, of texels inside the outer outline of the lips, from the front."""
    outline = points[[*range(48, 60), 48]]
    steps = np.linspace(0, 1, 24, endpoint=False)[:, None]
    rim = np.concatenate([a + steps * (b - a) for a, b in pairwise(outline)])
    inside = inside_polygon(position[:, :2], rim[:, :2])
    inside &= position[:, 2] > points[48, 2] - 0.012
    distance = _distance(position, outline)
    return np.clip(0.5 + np.where(inside, distance, -distance) / 0.0016, 0, 1)


def _distance(position: Float[Array, "P 3"], curve: Float[Array, "N 3"]) -> Float[Array, "P"]:
    """Return the distance to a polyline, which is sampled densely."""
    steps = np.linspace(0, 1, 40)[:, None]
    samples = np.concatenate([a + steps * (b - a) for a, b in pairwise(curve)])
    return np.asarray(KDTree(samples).query(position)[0])


def _bleed(texture: Float[Array, "3 R R"], inside: Bool[Array, "R R"]) -> Float[Array, "3 R R"]:
    """Return the texture with its colours extended beyond the borders of its charts."""
    filled, known = texture.copy(), inside.copy()
    for _ in range(4):
        total, count = np.zeros_like(filled), np.zeros(known.shape)
        for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
            moved = np.roll(known, step, axis - 1)
            total += np.roll(filled, step, axis) * moved
            count += moved
        border = ~known & (count > 0)
        filled[:, border] = total[:, border] / count[border]
        known |= border
    return filled
