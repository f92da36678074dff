"""Relief of the skin that the head's mesh does not have: folds, pores, hatching; code of its own.

Depths are those of real skin: crow's feet 0.1 to 0.3 mm, forehead lines 0.2 to 0.5 mm, nasolabial
folds up to 1.2 mm, pores 0.03 to 0.06 mm.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from lifemask.evaluation.ict_faces.chart import (
    band_noise,
    cell_places,
    chart_landmarks,
    distance_to,
    spots,
    within,
)
from lifemask.evaluation.ict_faces.folds import Fold, fold_heights
from lifemask.evaluation.ict_faces.head import IctHead

Array = np.ndarray

_MILLIMETRE = 0.001


def draw_relief(
    head: IctHead, expression: Float[Array, "E"], generator: np.random.Generator
) -> Float[Array, "R C"]:
    """Return random heights above the smooth face in its chart, metres.

    Folds deepen with age, which is random, and with the movement that makes them.

    Args:
        head: the mean head.
        expression: ICT's weights, 0 to 1.
        generator: source of randomness.
    """
    marks = chart_landmarks(head)
    age = generator.uniform(0.25, 1.0)
    moved = _movements(head, expression)
    places = cell_places()
    lines = [
        *_forehead(marks, max(age, moved["brow up"]), generator),
        *_glabella(marks, max(age, moved["brow down"]), generator),
        *_eyes(marks, age, max(age, moved["squint"]), generator),
        *_cheeks(marks, age, max(age, moved["smile"]), generator),
        *_mouth(marks, age, generator),
    ]
    heights = fold_heights(lines, places.shape[:2], generator)
    heights += _texture(marks, places, age, generator)
    return heights * _soft_parts(marks)


def unmeasured(head: IctHead) -> Bool[Array, "R C"]:
    """Return the cells of brows, lids and lips, where relief is not compared."""
    marks = chart_landmarks(head)
    brows = [distance_to(marks[span], 0.0075) < 0.007 for span in (slice(17, 22), slice(22, 27))]
    lids = [distance_to(eye, 0.009) < 0.0065 for eye in _eye_outlines(marks)]
    lips = distance_to(_lip_outline(marks), 0.004) < 0.003
    openings = [within(outline) for outline in (*_eye_outlines(marks), _lip_outline(marks))]
    return np.any([*brows, *lids, lips, *openings], axis=0)


def _movements(head: IctHead, expression: Float[Array, "E"]) -> dict[str, float]:
    def strength(*stems: str) -> float:
        names = head.model.expression_names
        return max(float(w) for n, w in zip(names, expression, strict=True) if n.startswith(stems))

    return {
        "brow up": strength("browInnerUp", "browOuterUp"),
        "brow down": strength("browDown", "noseSneer"),
        "squint": strength("cheekSquint", "eyeSquint"),
        "smile": strength("mouthSmile", "mouthUpperUp", "noseSneer"),
    }


def _eye_outlines(marks: Float[Array, "68 2"]) -> tuple[Array, Array]:
    return marks[[*range(36, 42), 36]], marks[[*range(42, 48), 42]]


def _lip_outline(marks: Float[Array, "68 2"]) -> Float[Array, "13 2"]:
    return marks[[*range(48, 60), 48]]


def _soft_parts(marks: Float[Array, "68 2"]) -> Float[Array, "R C"]:
    """Return 1 on skin and 0 on lips, eyes and the rims of lids, with soft edges."""
    weight = np.ones(cell_places().shape[:2])
    for outline, start, end in (
        *((eye, 0.0015, 0.0045) for eye in _eye_outlines(marks)),
        (_lip_outline(marks), 0.0003, 0.0020),
    ):
        distance = distance_to(outline, end)
        outside = np.where(within(outline), 0, (distance - start) / (end - start))
        weight *= np.clip(outside, 0, 1)
    return weight


def _both_sides(
    path: Iterable[tuple[float, float]], origin: Float[Array, "2"], generator: np.random.Generator
) -> list[tuple[float, Float[Array, "N 2"]]]:
    """Return a path on the subject's left and its mirror image, each a little moved, with its side.

    Args:
        path: offsets from the origin in millimetres, outwards and up.
        origin: landmark on the subject's left, metres.
        generator: source of randomness.
    """
    points = origin + np.array(list(path)) * _MILLIMETRE
    moved = [points + generator.normal(0, 0.0007, points.shape) for _ in range(2)]
    return [(side, m * [side, 1.0]) for side, m in zip((1.0, -1.0), moved, strict=True)]


def _fold(
    path: Float[Array, "N 2"],
    depth: tuple[float, float],
    width: tuple[float, float],
    strength: float,
    generator: np.random.Generator,
    *,
    bulge_to: float = 0.0,
    side: float = 1.0,
) -> Fold:
    """Return a fold whose depth grows from the lower to the upper end of its range (millimetres).

    Args:
        path: control points, metres.
        depth: range of depths, millimetres.
        width: range of half widths, millimetres.
        strength: 0 to 1; the share of the range, which also varies by chance.
        generator: source of randomness.
        bulge_to: height of the skin to the left of the path on the subject's left, in depths.
        side: 1 for the subject's left, -1 for a mirrored path.
    """
    share = np.clip(strength + generator.normal(0, 0.2), 0, 1)
    deep = (depth[0] + share * (depth[1] - depth[0])) * _MILLIMETRE
    wide = generator.uniform(*width) * _MILLIMETRE
    # A mirrored path runs the other way, so that the same side lies to its left.
    ordered = path if side > 0 else path[::-1]
    return Fold(ordered, deep, wide, bulge_to * deep)


def _forehead(marks: Array, strength: float, generator: np.random.Generator) -> list[Fold]:
    folds = list[Fold]()
    bottom = marks[[19, 24], 1].mean() + generator.uniform(0.009, 0.013)
    for level in np.arange(bottom, 0.066, generator.uniform(0.0055, 0.0085)):
        centre, half = generator.normal(0, 0.006), generator.uniform(0.018, 0.045)
        parts = 1 if generator.random() < 0.6 else 2
        edges = np.linspace(centre - half, centre + half, parts + 1)
        for start, end in pairwise(edges):
            along = np.linspace(start - 0.002, end + 0.002, 7)
            # Lines follow the brows: low in the middle, then high, then low at the temples.
            drop = 0.0022 * np.exp(-((along / 0.013) ** 2)) + 0.007 * (along / 0.05) ** 2
            jitter = generator.normal(0, 0.0005, 7) + generator.normal(0, 0.0015)
            path = np.stack([along, level - drop + jitter], axis=-1)
            if generator.random() < 0.35 + 0.65 * strength:
                folds.append(_fold(path, (0.2, 0.5), (0.9, 1.5), strength - 0.1, generator))
    return folds


def _glabella(marks: Array, strength: float, generator: np.random.Generator) -> list[Fold]:
    folds = list[Fold]()
    between = np.array([0.0, marks[[21, 22], 1].mean()])
    for out in (generator.uniform(4.5, 7.5), generator.uniform(8.5, 11)):
        path = ((out + 1, -6), (out, 0), (out - 0.5, 6), (out + 1.5, 13))
        for _, side_path in _both_sides(path, between, generator):
            if generator.random() < strength:
                folds.append(_fold(side_path, (0.15, 0.5), (0.9, 1.4), strength, generator))
    for up in (generator.uniform(-12, -9), generator.uniform(-7, -5)):
        path = between + np.array([[-9, up], [0, up + 1.5], [9, up]]) * _MILLIMETRE
        path = path + generator.normal(0, 0.0007, path.shape)
        if generator.random() < 0.7 * strength:
            folds.append(_fold(path, (0.1, 0.3), (0.9, 1.3), strength, generator))
    return folds


def _eyes(marks: Array, age: float, squint: float, generator: np.random.Generator) -> list[Fold]:
    folds = list[Fold]()
    for angle in np.linspace(-48, 38, int(generator.integers(4, 8))):
        turn = np.radians(angle + generator.normal(0, 4))
        start, length = generator.uniform(9, 12), generator.uniform(9, 24)
        reach = start + np.linspace(0, 1, 4) * length
        bend = np.radians(np.linspace(0, 1, 4) * generator.normal(6, 6) * np.sign(angle + 5))
        path = [(float(r * np.cos(turn + b)), float(r * np.sin(turn + b))) for r, b in
                zip(reach, bend, strict=True)]  # fmt: skip
        for _, side_path in _both_sides(path, marks[45], generator):
            if generator.random() < 0.3 + 0.7 * squint:
                folds.append(_fold(side_path, (0.1, 0.3), (0.7, 1.0), squint, generator))
    inner, outer = marks[42], marks[45]
    for low in np.cumsum(generator.uniform(2.5, 4, 3)) + 5.5:
        span = 1000 * (outer - inner)
        path = ((1, -low + 2), (0.35 * span[0], -low - 2), (0.75 * span[0], -low - 1),
                (span[0] + 2, -low + 4))  # fmt: skip
        for _, side_path in _both_sides(path, inner, generator):
            if generator.random() < 0.3 + 0.6 * squint:
                folds.append(_fold(side_path, (0.07, 0.2), (0.7, 1.0), squint, generator))
    if age > 0.45:
        low = generator.uniform(12, 16)
        path = ((-2, -low + 5), (8, -low), (18, -low - 1), (29, -low + 6))
        for side, side_path in _both_sides(path, inner, generator):
            folds.append(
                _fold(side_path, (0.1, 0.35), (1.3, 1.8), age, generator, bulge_to=1.5, side=side)
            )
    return folds


def _cheeks(marks: Array, age: float, smile: float, generator: np.random.Generator) -> list[Fold]:
    folds = list[Fold]()
    nose, mouth = marks[35], marks[54]
    corner = 1000 * (mouth - nose)
    out = generator.uniform(6, 10)
    # From the nose down, so that the cheek lies to the left.
    path = (
        (4, 6),
        (8, -1),
        (corner[0] + out - 2, corner[1] + 11),
        (corner[0] + out, corner[1] - 2),
    )
    for side, side_path in _both_sides(path, nose, generator):
        folds.append(
            _fold(side_path, (0.2, 0.7), (1.7, 2.4), smile, generator, bulge_to=0.7, side=side)
        )
    for step in np.arange(1, 4):
        more = step * generator.uniform(5.5, 8)
        path = ((corner[0] + out + more - 3, corner[1] + 16), (corner[0] + out + more, corner[1] + 5),
                (corner[0] + out + more - 2, corner[1] - 9))  # fmt: skip
        for _, side_path in _both_sides(path, nose, generator):
            if generator.random() < 0.9 * smile * age:
                folds.append(_fold(side_path, (0.1, 0.3), (1.0, 1.5), smile, generator))
    return folds


def _mouth(marks: Array, age: float, generator: np.random.Generator) -> list[Fold]:
    folds = list[Fold]()
    path = ((4, -4), (6.5, -13), (7, -22), (10, -31))
    for side, side_path in _both_sides(path, marks[54], generator):
        if generator.random() < age:
            folds.append(
                _fold(side_path, (0.15, 0.5), (1.2, 1.8), age, generator, bulge_to=0.6, side=side)
            )
    chin = marks[57] + np.array([0, -0.008])
    path = chin + np.array([[-13, -3], [-6, 0], [6, 0], [13, -3]]) * _MILLIMETRE
    if generator.random() < age:
        folds.append(_fold(path, (0.1, 0.4), (1.4, 2.0), age, generator))
    top, bottom = marks[[50, 51, 52]].mean(0), marks[[56, 57, 58]].mean(0)
    for middle, up in ((top, 1.0), (bottom, -1.0)):
        for out in np.linspace(-19, 19, 11) + generator.normal(0, 1.3, 11):
            base = middle + np.array([out, up * (2.2 - (out / 9) ** 2 * 1.3)]) * _MILLIMETRE
            rise = up * generator.uniform(4, 7)
            path = base + np.array([[0, 0], [out / 30, rise / 2], [out / 14, rise]]) * _MILLIMETRE
            if generator.random() < 0.8 * age**1.5:
                folds.append(_fold(path, (0.05, 0.15), (0.65, 0.9), age, generator))
    return folds


def _texture(
    marks: Array, places: Array, age: float, generator: np.random.Generator
) -> Float[Array, "R C"]:
    """Return pores, cross-hatching and undulation."""

    def region(*middles: tuple[Array, float]) -> Float[Array, "R C"]:
        near = [np.exp(-(((places - m) ** 2).sum(-1)) / radius**2) for m, radius in middles]
        return np.clip(np.sum(near, axis=0), 0, 1)

    cheeks = [marks[[2, 31, 36]].mean(0), marks[[14, 35, 45]].mean(0)]
    temples = [marks[36] + [-0.018, -0.008], marks[45] + [0.018, -0.008]]
    jaws = [marks[[3, 4, 48]].mean(0), marks[[12, 13, 54]].mean(0)]
    forehead = np.array([0.0, 0.048])
    porous = region(*((c, 0.019) for c in cheeks), (marks[30], 0.016), (marks[28], 0.012))
    porous = np.clip(porous + 0.45 * region((forehead, 0.04), (marks[8], 0.02)), 0, 1)
    spacing = generator.uniform(0.0020, 0.0028)
    grid = np.stack(np.meshgrid(*(np.arange(-0.1, 0.1, spacing) for _ in range(2))), -1)
    pores = grid.reshape(-1, 2) + generator.normal(0, 0.3 * spacing, (grid.size // 2, 2))
    depths = generator.uniform(0.03, 0.06, len(pores)) * _MILLIMETRE
    heights = -spots(pores, depths, generator.uniform(0.00045, 0.0006)) * porous
    creased = region(*((c, 0.02) for c in temples + jaws), *((c, 0.022) for c in cheeks))
    depth = generator.uniform(0.01, 0.015 + 0.02 * age) * _MILLIMETRE
    turn = generator.uniform(25, 65)
    for angle in (turn, turn - generator.uniform(60, 100)):
        ridges = band_noise(generator, generator.uniform(0.0022, 0.0034), angle_degrees=angle)
        patches = np.clip(0.5 + 0.6 * band_noise(generator, 0.016), 0, 1.5)
        heights -= depth * np.maximum(ridges, 0) * creased * patches
    heights += 0.02 * _MILLIMETRE * band_noise(generator, 0.007)
    chin = region((marks[8] + [0, 0.012], 0.012))
    heights += generator.uniform(0, 0.06) * age * _MILLIMETRE * band_noise(generator, 0.005) * chin
    return heights
