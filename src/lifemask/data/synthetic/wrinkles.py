"""Wrinkles as displacement in texture space: lines where skin folds, as deep as age and face ask."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.morphable.arkit import ARKIT_EXPRESSIONS
from lifemask.morphable.model import MorphableModel

VARIANTS = 6
"""How many drawings there are of each family of wrinkles."""


@dataclass(frozen=True)
class Family:
    """Wrinkles that come together, on one side of the face."""

    name: str
    """For people and tests."""
    drivers: dict[str, float]
    """Expressions that fold them, by ARKit's name without the side, with their strength."""
    age: float
    """Depth at rest in old age, in parts of the depth when folded."""


FAMILIES: tuple[Family, ...] = (
    Family("forehead", {"browInnerUp": 0.7, "browOuterUp": 0.5}, 0.35),
    Family("frown", {"browDown": 0.9, "noseSneer": 0.2}, 0.35),
    Family("crow's feet", {"cheekSquint": 0.8, "eyeSquint": 0.5, "mouthSmile": 0.2}, 0.35),
    Family("nasolabial", {"mouthSmile": 0.8, "mouthUpperUp": 0.4, "noseSneer": 0.5}, 0.5),
    Family("nose", {"noseSneer": 1.0}, 0.0),
    Family("lower lid", {"cheekSquint": 0.6, "eyeSquint": 0.5, "mouthSmile": 0.15}, 0.5),
    Family("smile", {"mouthSmile": 0.5, "mouthStretch": 0.6, "mouthDimple": 0.6}, 0.15),
    Family("marionette", {"mouthFrown": 0.8, "mouthShrugLower": 0.2}, 0.45),
    Family("upper lip", {"mouthPucker": 0.6, "mouthPress": 0.2}, 0.35),
    Family("chin", {"mouthShrugLower": 0.8, "mouthPucker": 0.3}, 0.0),
    Family("neck", {}, 0.8),
)
"""In the order of all weights and variants."""

_INDEX = {name: index for index, name in enumerate(ARKIT_EXPRESSIONS)}


def wrinkle_weights(
    expression: Float[np.ndarray, "52"], age_years: float
) -> tuple[Float[np.ndarray, "F 2"], Float[np.ndarray, "F 2"]]:
    """Return how deep each family is on the left and right side: at rest, and folded on top.

    Args:
        expression: ARKit weights.
        age_years: skin at 20 hardly folds, at 70 it stays folded.
    """
    old = float(np.clip((age_years - 25) / 50, 0, 1))
    rest, folded = (
        np.zeros((len(FAMILIES), 2), np.float32),
        np.zeros((len(FAMILIES), 2), np.float32),
    )
    for row, family in enumerate(FAMILIES):
        rest[row] = family.age * old**1.3
        for name, strength in family.drivers.items():
            for side, suffix in enumerate(("Left", "Right")):
                index = _INDEX.get(name, _INDEX.get(name + suffix))
                folded[row, side] += strength * expression[index]
    folded = np.clip(folded - 0.1, 0, 1) * (0.3 + 0.7 * old)
    return rest, folded


class WrinkleDrawings:
    """Every family in several drawings on the left side of the face; the right is a mirror image.

    Attributes:
        displacement: (families, VARIANTS, R, R) metres at weight 1; zero outside the family's place.
    """

    def __init__(self, model: MorphableModel, resolution: int) -> None:
        place = _Place(model, resolution)
        rng = np.random.default_rng(5)
        drawings = [[place.draw(family.name, rng) for _ in range(VARIANTS)] for family in FAMILIES]
        self.boxes = [[_box(d) for d in row] for row in drawings]
        self.patches = [
            [
                torch.from_numpy(d[top:bottom, left:right].copy())
                for d, (top, bottom, left, right) in zip(row, boxes, strict=True)
            ]
            for row, boxes in zip(drawings, self.boxes, strict=True)
        ]
        self.resolution = resolution

    def add_to(
        self,
        displacement: Float[Tensor, "R R"],
        weights: Float[np.ndarray, "F 2"],
        variants: np.ndarray,
    ) -> None:
        """Add wrinkles to one displacement in place.

        Args:
            displacement: metres.
            weights: depth of each family on the (left, right) side.
            variants: (F,2) which drawing.
        """
        for row, (left_right, chosen) in enumerate(zip(weights, variants, strict=True)):
            for side in (0, 1):
                weight = float(left_right[side])
                if weight < 0.02:
                    continue
                patch = self.patches[row][chosen[side]].to(displacement.device)
                top, bottom, left, right = self.boxes[row][chosen[side]]
                if side == 1:
                    patch = patch.flip(-1)
                    left, right = self.resolution - right, self.resolution - left
                displacement[top:bottom, left:right].add_(patch, alpha=weight)


def _box(drawing: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(np.abs(drawing) > 1e-7)
    if len(rows) == 0:
        return 0, 0, 0, 0
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


class _Place:
    """Where on the texture things are, and how large a metre is there."""

    def __init__(self, model: MorphableModel, resolution: int) -> None:
        self.resolution = resolution
        self.uv = texture_points(model)
        embedding = model.dense478
        assert embedding is not None
        points = embedding.points(model.mean, model.triangles).cpu().numpy()
        # Texels per metre, by the distance across the cheeks.
        apart = float(np.linalg.norm(points[50] - points[280]))
        self.texels_per_metre = float(
            np.linalg.norm(self.uv[50] - self.uv[280]) * resolution / apart
        )
        rows, columns = np.mgrid[0:resolution, 0:resolution] + 0.5
        self.grid = np.stack([columns, rows], -1).astype(np.float32)

    def at(self, *indices: int) -> np.ndarray:
        """Return the mean place of some dense points, texels (x, y)."""
        return self.uv[list(indices)].mean(0) * self.resolution

    def line(
        self, displacement: np.ndarray, points: np.ndarray, *, width: float, depth: float
    ) -> None:
        """Cut a groove with raised banks along a polyline (K,2) of texels; metres.

        The groove fades out at both ends.
        """
        sigma = max(width * self.texels_per_metre, 0.6)
        reach = 5 * sigma
        low = np.maximum(np.floor(points.min(0) - reach), 0).astype(int)
        high = np.minimum(np.ceil(points.max(0) + reach), self.resolution).astype(int)
        if (high <= low).any():
            return
        grid = self.grid[low[1] : high[1], low[0] : high[0]]
        lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        nearest = np.full(grid.shape[:2], np.inf, np.float32)
        along = np.zeros(grid.shape[:2], np.float32)
        for a, b, start, length in zip(points[:-1], points[1:], starts, lengths, strict=False):
            t = np.clip(((grid - a) @ (b - a)) / max(length**2, 1e-6), 0, 1)
            distance = np.linalg.norm(grid - a - t[..., None] * (b - a), axis=-1)
            closer = distance < nearest
            nearest = np.where(closer, distance, nearest)
            along = np.where(closer, (start + t * length) / starts[-1], along)
        fade = np.sin(np.pi * np.clip(along, 0, 1)) ** 0.7
        groove = -np.exp(-0.5 * (nearest / sigma) ** 2)
        bank = np.exp(-0.5 * ((nearest - 2 * sigma) / sigma) ** 2)
        displacement[low[1] : high[1], low[0] : high[0]] += depth * fade * (groove + 0.35 * bank)

    def curve(
        self, rng: np.random.Generator, anchors: list[np.ndarray], wobble: float
    ) -> np.ndarray:
        """Return a smooth polyline (24,2) near some points; `wobble` in metres."""
        anchors_array = np.array(anchors)
        t = np.linspace(0, 1, len(anchors))
        fine = np.linspace(0, 1, 24)
        degree = min(len(anchors) - 1, 3)
        path = np.stack(
            [np.polyval(np.polyfit(t, anchors_array[:, k], degree), fine) for k in (0, 1)], -1
        )
        phase = rng.uniform(0, 2 * np.pi, 4)
        noise = sum(np.sin(2 * np.pi * (k + 1) * fine + phase[k]) / (k + 1) for k in range(4))
        across = np.gradient(path, axis=0)[:, ::-1] * (1, -1)
        across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-6
        return path + across * np.asarray(noise)[:, None] * wobble * self.texels_per_metre

    def draw(self, name: str, rng: np.random.Generator) -> np.ndarray:
        """Return one drawing (R,R) of a family on the subject's left side, metres."""
        displacement = np.zeros((self.resolution, self.resolution), np.float32)
        mm = 0.001
        texel = self.texels_per_metre * mm

        def jitter(size: float) -> np.ndarray:
            return rng.normal(0, size, 2) * texel

        if name == "forehead":
            count = rng.integers(3, 6)
            for k in range(count):
                share = (k + rng.uniform(0.3, 0.9)) / count
                middle = self.at(9) * (1 - share) + self.at(10) * share
                outer = self.at(334) * (1 - share) + self.at(297) * share
                # Both sides meet beyond the middle, where the halves fade into each other.
                start = middle - (outer - middle) * rng.uniform(0.1, 0.35)
                bend = (middle + outer) / 2 - _by(0, rng.uniform(0, 2) * texel)
                path = self.curve(rng, [start, middle, bend, outer + jitter(3)], 0.8 * mm)
                self.line(
                    displacement, path, width=rng.uniform(0.6, 1.1) * mm,
                    depth=rng.uniform(0.2, 0.45) * mm,
                )  # fmt: skip
        elif name == "frown":
            for k in range(rng.integers(1, 3)):
                x = self.at(9, 336) + _by(rng.uniform(-1, 2) * texel + k * 3 * texel, 0)
                top = x + _by(rng.uniform(0, 3) * texel, -rng.uniform(3, 8) * texel)
                foot = x + _by(-rng.uniform(0, 2) * texel, rng.uniform(4, 9) * texel)
                path = self.curve(rng, [top, (top + foot) / 2, foot], 0.5 * mm)
                self.line(
                    displacement, path, width=rng.uniform(0.7, 1.2) * mm,
                    depth=rng.uniform(0.3, 0.6) * mm,
                )  # fmt: skip
        elif name == "crow's feet":
            corner = self.at(263)
            for _ in range(rng.integers(3, 6)):
                angle = rng.uniform(-0.75, 0.75)
                start = corner + rng.uniform(4, 8) * texel * np.array(
                    [np.cos(angle), np.sin(angle)]
                )
                end = corner + rng.uniform(13, 24) * texel * np.array(
                    [np.cos(angle * 1.3), np.sin(angle * 1.3)]
                )
                path = self.curve(rng, [start, (start + end) / 2 + jitter(0.6), end], 0.4 * mm)
                self.line(
                    displacement, path, width=rng.uniform(0.5, 0.9) * mm,
                    depth=rng.uniform(0.15, 0.35) * mm,
                )  # fmt: skip
        elif name == "nasolabial":
            path = self.curve(
                rng,
                [self.at(358) + jitter(1), self.at(423) + jitter(1), self.at(426, 436) + jitter(1.5),
                 self.at(410, 432) + jitter(2)],
                0.5 * mm,
            )  # fmt: skip
            self.line(
                displacement,
                path,
                width=rng.uniform(1.6, 2.6) * mm,
                depth=rng.uniform(0.6, 1.2) * mm,
            )
            self.line(displacement, path, width=0.7 * mm, depth=rng.uniform(0.1, 0.3) * mm)
        elif name == "nose":
            for k in range(rng.integers(2, 4)):
                start = self.at(6, 197) + _by(2 * texel, (2.5 * k - 2) * texel)
                end = self.at(351, 419) + _by(2 * texel, (2.5 * k + rng.uniform(-1, 1)) * texel)
                path = self.curve(rng, [start, (start + end) / 2, end], 0.4 * mm)
                self.line(displacement, path, width=0.7 * mm, depth=rng.uniform(0.15, 0.35) * mm)
        elif name == "lower lid":
            for k in range(rng.integers(2, 4)):
                drop = np.array([0.0, (2.0 + 2.6 * k + rng.uniform(-0.5, 0.5)) * texel])
                points = [self.at(i) + drop * f for i, f in ((463, 0.8), (374, 1.3), (446, 0.9))]
                path = self.curve(rng, points, 0.3 * mm)
                self.line(
                    displacement, path, width=rng.uniform(0.5, 1.1) * mm,
                    depth=rng.uniform(0.12, 0.35) * mm,
                )  # fmt: skip
        elif name == "smile":
            middle = self.at(432) + _by(rng.uniform(1, 5) * texel, 0)
            path = self.curve(
                rng, [self.at(426, 427) + _by(2 * texel, 0), middle, self.at(434) + jitter(2)],
                0.5 * mm,
            )  # fmt: skip
            self.line(displacement, path, width=rng.uniform(1.0, 1.8) * mm, depth=0.4 * mm)
        elif name == "marionette":
            start = self.at(291) + _by(1.5 * texel, 1.5 * texel)
            path = self.curve(
                rng, [start, self.at(422, 424) + jitter(1), self.at(430, 394) + jitter(2)], 0.4 * mm
            )
            self.line(
                displacement,
                path,
                width=rng.uniform(1.0, 1.6) * mm,
                depth=rng.uniform(0.3, 0.6) * mm,
            )
        elif name == "upper lip":
            for k in range(rng.integers(4, 7)):
                share = (k + rng.uniform(0.2, 0.8)) / 7
                foot = self.at(0) * (1 - share) + self.at(270) * share - _by(0, 1.0 * texel)
                top = foot + _by(rng.uniform(-1, 2) * texel, -rng.uniform(3, 6) * texel)
                path = self.curve(rng, [foot, (foot + top) / 2, top], 0.2 * mm)
                self.line(displacement, path, width=0.45 * mm, depth=rng.uniform(0.1, 0.22) * mm)
        elif name == "chin":
            for _ in range(14):
                x = self.at(199, 175) + rng.normal(0, 1, 2) * (5 * texel, 4 * texel)
                x[0] = max(x[0], self.resolution / 2 - 1)
                self.line(
                    displacement, np.stack([x, x + jitter(1.5)]), width=rng.uniform(0.9, 1.5) * mm,
                    depth=rng.uniform(0.1, 0.3) * mm,
                )  # fmt: skip
        elif name == "neck":
            for k in range(2):
                y = self.at(152)[1] + (14 + 16 * k + rng.uniform(-3, 3)) * texel
                x = self.resolution / 2
                path = self.curve(
                    rng, [np.array([x - 8 * texel, y]), np.array([x + 15 * texel, y + texel]),
                          np.array([x + 45 * texel, y - 8 * texel])], 0.8 * mm,
                )  # fmt: skip
                self.line(displacement, path, width=1.2 * mm, depth=rng.uniform(0.3, 0.5) * mm)
        else:
            raise ValueError(f"Nobody knows how to draw the wrinkles {name!r}.")
        return displacement


def _by(right: float, down: float) -> np.ndarray:
    """Return a step on the texture, texels."""
    return np.array([right, down])


def texture_points(model: MorphableModel) -> Float[np.ndarray, "478 2"]:
    """Return where the dense points lie on the texture, (u, v)."""
    embedding = model.dense478
    if embedding is None:
        raise ValueError("This model has no dense landmarks. Use the default head.")
    corners = model.uv[model.uv_triangles[embedding.triangle_index]]
    return (corners * embedding.barycentric[..., None]).sum(1).cpu().numpy()
