"""Draws each family of wrinkles: grooves and folds between dense points of the head's texture.

A groove is a line in flat skin with raised banks. A fold is one-sided, as loose skin makes it: skin on
one side bulges and drops steeply into the crease, on the other side it stays flat.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from lifemask.morphable.model import MorphableModel
from lifemask.rendering.filters import gaussian_blur

_MM = 0.001
"""Metres in a millimetre."""


class TextureFrame:
    """Positions of the dense points on the texture, and its number of texels per metre."""

    def __init__(self, model: MorphableModel, resolution: int) -> None:
        self.resolution = resolution
        self.uv = texture_points(model)
        embedding = model.dense478
        assert embedding is not None
        points = embedding.points(model.mean, model.triangles).cpu().numpy()
        # Measured by the distance across the cheeks.
        apart = float(np.linalg.norm(points[50] - points[280]))
        self.texels_per_metre = float(
            np.linalg.norm(self.uv[50] - self.uv[280]) * resolution / apart
        )
        rows, columns = np.mgrid[0:resolution, 0:resolution] + 0.5
        self.grid = np.stack([columns, rows], -1).astype(np.float32)

    @property
    def texel(self) -> float:
        """Texels per millimetre."""
        return self.texels_per_metre * _MM

    def at(self, *indices: int) -> Float[np.ndarray, "2"]:
        """Return the mean position of some dense points, texels (x, y)."""
        return self.uv[list(indices)].mean(0) * self.resolution


def texture_points(model: MorphableModel) -> Float[np.ndarray, "478 2"]:
    """Return the positions (u, v) of the dense points on the texture, in [0, 1].

    Raises:
        ValueError: the model has no dense points.
    """
    embedding = model.dense478
    if embedding is None:
        raise ValueError("This model has no dense landmarks. Use the default head.")
    corners = model.uv[model.uv_triangles[embedding.triangle_index]]
    return (corners * embedding.barycentric[..., None]).sum(1).cpu().numpy()


def draw_wrinkles(
    frame: TextureFrame, family: str, rng: np.random.Generator
) -> Float[np.ndarray, "R R"]:
    """Return one drawing of a family on the subject's left side: displacement in metres.

    Raises:
        ValueError: the family is unknown.
    """
    if family not in _FAMILIES:
        raise ValueError(f"Unknown wrinkles {family!r}. Known: {sorted(_FAMILIES)}.")
    drawing = _Drawing(frame, rng, np.zeros((frame.resolution, frame.resolution), np.float32))
    _FAMILIES[family](drawing)
    return drawing.displacement


@dataclass(frozen=True)
class _Drawing:
    """One drawing, and the functions that draw it."""

    frame: TextureFrame
    """The head's dense points on the texture."""
    rng: np.random.Generator
    """Generator of random numbers."""
    displacement: Float[np.ndarray, "R R"]
    """The drawing in metres; changed in place."""

    def jitter(self, size: float) -> Float[np.ndarray, "2"]:
        """Return a random step in texels, with a standard deviation of `size` millimetres."""
        return self.rng.normal(0, size, 2) * self.frame.texel

    def curve(self, anchors: list[np.ndarray], wobble: float) -> Float[np.ndarray, "24 2"]:
        """Return a smooth random polyline (texels) near some points; `wobble` in metres."""
        anchors_array = np.array(anchors)
        t = np.linspace(0, 1, len(anchors))
        fine = np.linspace(0, 1, 24)
        degree = min(len(anchors) - 1, 3)
        path = np.stack(
            [np.polyval(np.polyfit(t, anchors_array[:, k], degree), fine) for k in (0, 1)], -1
        )
        phase = self.rng.uniform(0, 2 * np.pi, 4)
        noise = sum(np.sin(2 * np.pi * (k + 1) * fine + phase[k]) / (k + 1) for k in range(4))
        across = np.gradient(path, axis=0)[:, ::-1] * (1, -1)
        across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-6
        return path + across * np.asarray(noise)[:, None] * wobble * self.frame.texels_per_metre

    def groove(self, points: Float[np.ndarray, "K 2"], *, width: float, depth: float) -> None:
        """Add a groove with raised banks along a polyline; it fades out at both ends.

        Args:
            points: texels (x, y).
            width: metres.
            depth: metres.
        """
        sigma = max(width * self.frame.texels_per_metre, 0.6)
        found = self._beside(points, 5 * sigma)
        if found is None:
            return
        part, along, across = found
        distance = np.abs(across)
        floor = -np.exp(-0.5 * (distance / sigma) ** 2)
        bank = np.exp(-0.5 * ((distance - 2 * sigma) / sigma) ** 2)
        part += depth * _fade(along) * (floor + 0.35 * bank)

    def fold(
        self,
        points: Float[np.ndarray, "K 2"],
        *,
        loose: Float[np.ndarray, "2"],
        width: float,
        depth: float,
        bulge: float,
        reach: float,
    ) -> None:
        """Add a crease along a polyline beside skin that bulges on one side; both fade at the ends.

        Args:
            points: texels (x, y).
            loose: a place on the side that bulges, texels.
            width: of the crease, metres.
            depth: of the crease, metres.
            bulge: height of the loose skin, metres.
            reach: distance of its highest place from the crease, metres.
        """
        sigma, crest = (max(x * self.frame.texels_per_metre, 0.6) for x in (width, reach))
        found = self._beside(points, 4 * crest)
        if found is None:
            return
        part, along, across = found
        first, last = points[0], points[-1]
        turn = (last - first)[0] * (loose - first)[1] - (last - first)[1] * (loose - first)[0]
        across = across * np.sign(turn)
        slope = np.where(across > 0, 0.8, 1.6) * sigma
        part -= depth * _fade(along) * np.exp(-0.5 * (across / slope) ** 2)
        rise = np.clip(across / crest, 0, None)
        height = bulge * _fade(along) * rise * np.exp(0.5 * (1 - rise**2))
        # Where two parts of the line are equally near, the height has a ridge.
        soft = gaussian_blur(torch.from_numpy(height.astype(np.float32))[None], 0.4 * crest)
        part += soft[0].numpy()

    def _beside(
        self, points: Float[np.ndarray, "K 2"], reach: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return the drawing beside a polyline, and the place along and across it, or None outside.

        Args:
            points: texels (x, y).
            reach: texels.

        Returns:
            A view of the drawing; the share of the length up to the nearest place, 0 to 1; the
            distance in texels, positive on the right of the direction of the line.
        """
        low = np.maximum(np.floor(points.min(0) - reach), 0).astype(int)
        high = np.minimum(np.ceil(points.max(0) + reach), self.frame.resolution).astype(int)
        if (high <= low).any():
            return None
        grid = self.frame.grid[low[1] : high[1], low[0] : high[0]]
        lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        nearest = np.full(grid.shape[:2], np.inf, np.float32)
        along, side = np.zeros_like(nearest), np.zeros_like(nearest)
        for a, b, start, length in zip(points[:-1], points[1:], starts, lengths, strict=False):
            away = grid - a
            t = np.clip((away @ (b - a)) / max(length**2, 1e-6), 0, 1)
            distance = np.linalg.norm(away - t[..., None] * (b - a), axis=-1)
            closer = distance < nearest
            nearest = np.where(closer, distance, nearest)
            along = np.where(closer, (start + t * length) / starts[-1], along)
            turn = (b - a)[0] * away[..., 1] - (b - a)[1] * away[..., 0]
            side = np.where(closer, np.sign(turn), side)
        return self.displacement[low[1] : high[1], low[0] : high[0]], along, nearest * side


def _fade(along: np.ndarray) -> np.ndarray:
    return np.sin(np.pi * np.clip(along, 0, 1)) ** 0.7


# In the functions below, the order of random numbers decides the drawing of every seed.


def _forehead(drawing: _Drawing) -> None:
    rng, at, texel = drawing.rng, drawing.frame.at, drawing.frame.texel
    count = rng.integers(3, 6)
    for k in range(count):
        share = (k + rng.uniform(0.3, 0.9)) / count
        middle = at(9) * (1 - share) + at(10) * share
        outer = at(334) * (1 - share) + at(297) * share
        # Each side extends beyond the middle, where the halves fade into each other.
        start = middle - (outer - middle) * rng.uniform(0.1, 0.35)
        bend = (middle + outer) / 2 - _by(0, rng.uniform(0, 2) * texel)
        path = drawing.curve([start, middle, bend, outer + drawing.jitter(3)], 0.8 * _MM)
        width = rng.uniform(0.6, 1.4) * _MM
        drawing.groove(path, width=width, depth=rng.uniform(0.25, 0.6) * _MM)


def _frown(drawing: _Drawing) -> None:
    rng, texel = drawing.rng, drawing.frame.texel
    for k in range(rng.integers(1, 3)):
        x = drawing.frame.at(9, 336) + _by(rng.uniform(-1, 2) * texel + k * 3 * texel, 0)
        top = x + _by(rng.uniform(0, 3) * texel, -rng.uniform(3, 8) * texel)
        foot = x + _by(-rng.uniform(0, 2) * texel, rng.uniform(4, 9) * texel)
        path = drawing.curve([top, (top + foot) / 2, foot], 0.5 * _MM)
        width = rng.uniform(0.7, 1.2) * _MM
        depth = rng.uniform(0.3, 0.6) * _MM
        loose = foot + _by(9 * texel, 0)
        drawing.fold(path, loose=loose, width=width, depth=depth, bulge=depth, reach=3 * _MM)


def _crows_feet(drawing: _Drawing) -> None:
    rng, texel = drawing.rng, drawing.frame.texel
    corner = drawing.frame.at(263)
    for _ in range(rng.integers(3, 6)):
        angle = rng.uniform(-0.75, 0.75)
        start = corner + rng.uniform(4, 8) * texel * np.array([np.cos(angle), np.sin(angle)])
        end = corner + rng.uniform(13, 24) * texel * np.array(
            [np.cos(angle * 1.3), np.sin(angle * 1.3)]
        )
        path = drawing.curve([start, (start + end) / 2 + drawing.jitter(0.6), end], 0.4 * _MM)
        width = rng.uniform(0.5, 1.0) * _MM
        drawing.groove(path, width=width, depth=rng.uniform(0.2, 0.45) * _MM)


def _nasolabial(drawing: _Drawing) -> None:
    rng, at, jitter = drawing.rng, drawing.frame.at, drawing.jitter
    anchors = [
        at(358) + jitter(1),
        at(423) + jitter(1),
        at(426, 436) + jitter(1.5),
        at(410, 432) + jitter(2),
    ]
    path = drawing.curve(anchors, 0.5 * _MM)
    drawing.fold(
        path,
        loose=at(425),
        width=rng.uniform(0.9, 2.0) * _MM,
        depth=rng.uniform(0.4, 1.0) * _MM,
        bulge=rng.uniform(0.5, 1.4) * _MM,
        reach=rng.uniform(4, 8) * _MM,
    )
    drawing.groove(path, width=0.7 * _MM, depth=rng.uniform(0.1, 0.3) * _MM)


def _nose(drawing: _Drawing) -> None:
    rng, at, texel = drawing.rng, drawing.frame.at, drawing.frame.texel
    for k in range(rng.integers(2, 4)):
        start = at(6, 197) + _by(2 * texel, (2.5 * k - 2) * texel)
        end = at(351, 419) + _by(2 * texel, (2.5 * k + rng.uniform(-1, 1)) * texel)
        path = drawing.curve([start, (start + end) / 2, end], 0.4 * _MM)
        drawing.groove(path, width=0.7 * _MM, depth=rng.uniform(0.15, 0.35) * _MM)


def _lower_lid(drawing: _Drawing) -> None:
    rng, texel = drawing.rng, drawing.frame.texel
    for k in range(rng.integers(2, 4)):
        drop = np.array([0.0, (2.0 + 2.6 * k + rng.uniform(-0.5, 0.5)) * texel])
        points = [drawing.frame.at(i) + drop * f for i, f in ((463, 0.8), (374, 1.3), (446, 0.9))]
        path = drawing.curve(points, 0.3 * _MM)
        width = rng.uniform(0.5, 1.1) * _MM
        drawing.groove(path, width=width, depth=rng.uniform(0.15, 0.4) * _MM)


def _bag(drawing: _Drawing) -> None:
    rng, at, texel = drawing.rng, drawing.frame.at, drawing.frame.texel
    drop = rng.uniform(8, 13) * texel
    path = drawing.curve(
        [
            at(463) + _by(2 * texel, 0.55 * drop),
            at(374) + _by(-3 * texel, drop),
            at(374) + _by(4 * texel, drop),
            at(446) + _by(3 * texel, 0.6 * drop),
        ],
        0.4 * _MM,
    )
    drawing.fold(
        path,
        loose=at(374),
        width=rng.uniform(0.8, 1.8) * _MM,
        depth=rng.uniform(0.2, 0.6) * _MM,
        bulge=rng.uniform(0.4, 1.2) * _MM,
        reach=rng.uniform(2, 4) * _MM,
    )


def _cheek(drawing: _Drawing) -> None:
    """Draw the fine lines that cross each other on old cheeks, and a few long ones."""
    rng, at, texel = drawing.rng, drawing.frame.at, drawing.frame.texel
    for _ in range(40):
        start = at(425, 411, 434) + rng.normal(0, 1, 2) * (11 * texel, 15 * texel)
        angle = rng.choice([1.2, 2.2]) + rng.normal(0, 0.25)
        step = rng.uniform(4, 11) * texel * np.array([np.cos(angle), np.sin(angle)])
        path = drawing.curve(
            [start, start + step / 2 + drawing.jitter(0.4), start + step], 0.2 * _MM
        )
        width = rng.uniform(0.4, 0.9) * _MM
        drawing.groove(path, width=width, depth=rng.uniform(0.04, 0.14) * _MM)
    for k in range(rng.integers(0, 3)):
        top = at(411) + _by((4 + 6 * k) * texel, rng.uniform(-4, 4) * texel)
        foot = at(434) + _by((4 * k - 2) * texel, rng.uniform(-4, 4) * texel)
        path = drawing.curve([top, (top + foot) / 2 + _by(3 * texel, 0), foot], 0.7 * _MM)
        depth = rng.uniform(0.1, 0.3) * _MM
        drawing.groove(path, width=rng.uniform(0.9, 2.0) * _MM, depth=depth)


def _smile(drawing: _Drawing) -> None:
    rng, at, texel = drawing.rng, drawing.frame.at, drawing.frame.texel
    middle = at(432) + _by(rng.uniform(1, 5) * texel, 0)
    anchors = [at(426, 427) + _by(2 * texel, 0), middle, at(434) + drawing.jitter(2)]
    path = drawing.curve(anchors, 0.5 * _MM)
    drawing.groove(path, width=rng.uniform(1.0, 1.8) * _MM, depth=0.4 * _MM)


def _marionette(drawing: _Drawing) -> None:
    rng, at, texel = drawing.rng, drawing.frame.at, drawing.frame.texel
    start = at(291) + _by(1.5 * texel, 1.5 * texel)
    anchors = [start, at(422, 424) + drawing.jitter(1), at(430, 394) + drawing.jitter(2)]
    path = drawing.curve(anchors, 0.4 * _MM)
    drawing.fold(
        path,
        loose=at(434),
        width=rng.uniform(0.9, 1.6) * _MM,
        depth=rng.uniform(0.3, 0.7) * _MM,
        bulge=rng.uniform(0.3, 1.2) * _MM,
        reach=rng.uniform(4, 9) * _MM,
    )


def _upper_lip(drawing: _Drawing) -> None:
    rng, at, texel = drawing.rng, drawing.frame.at, drawing.frame.texel
    for k in range(rng.integers(4, 7)):
        share = (k + rng.uniform(0.2, 0.8)) / 7
        foot = at(0) * (1 - share) + at(270) * share - _by(0, 1.0 * texel)
        top = foot + _by(rng.uniform(-1, 2) * texel, -rng.uniform(3, 6) * texel)
        path = drawing.curve([foot, (foot + top) / 2, top], 0.2 * _MM)
        drawing.groove(path, width=0.5 * _MM, depth=rng.uniform(0.12, 0.3) * _MM)


def _chin(drawing: _Drawing) -> None:
    rng, texel = drawing.rng, drawing.frame.texel
    for _ in range(14):
        x = drawing.frame.at(199, 175) + rng.normal(0, 1, 2) * (5 * texel, 4 * texel)
        x[0] = max(x[0], drawing.frame.resolution / 2 - 1)
        path = np.stack([x, x + drawing.jitter(1.5)])
        width = rng.uniform(0.9, 1.5) * _MM
        drawing.groove(path, width=width, depth=rng.uniform(0.1, 0.3) * _MM)


def _neck(drawing: _Drawing) -> None:
    rng, texel = drawing.rng, drawing.frame.texel
    x = drawing.frame.resolution / 2
    for k in range(2):
        y = drawing.frame.at(152)[1] + (14 + 16 * k + rng.uniform(-3, 3)) * texel
        anchors = [
            np.array([x - 8 * texel, y]),
            np.array([x + 15 * texel, y + texel]),
            np.array([x + 45 * texel, y - 8 * texel]),
        ]
        path = drawing.curve(anchors, 0.8 * _MM)
        drawing.groove(path, width=1.2 * _MM, depth=rng.uniform(0.3, 0.5) * _MM)


def _by(right: float, down: float) -> Float[np.ndarray, "2"]:
    """Return a step on the texture, texels."""
    return np.array([right, down])


_FAMILIES: dict[str, Callable[[_Drawing], None]] = {
    "forehead": _forehead,
    "frown": _frown,
    "crow's feet": _crows_feet,
    "nasolabial": _nasolabial,
    "nose": _nose,
    "lower lid": _lower_lid,
    "bag": _bag,
    "cheek": _cheek,
    "smile": _smile,
    "marionette": _marionette,
    "upper lip": _upper_lip,
    "chin": _chin,
    "neck": _neck,
}
