"""Wrinkles as displacement in texture space; their depth depends on age and expression."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.data.synthetic.wrinkle_drawing import TextureFrame, draw_wrinkles
from lifemask.morphable.arkit import ARKIT_EXPRESSIONS
from lifemask.morphable.model import MorphableModel

VARIANTS = 6
"""Number of drawings of each family of wrinkles."""


@dataclass(frozen=True)
class Family:
    """Wrinkles of one region, on one side of the face."""

    name: str
    """Name of the family for `draw_wrinkles`."""
    drivers: dict[str, float]
    """Expressions that cause them (ARKit's name without the side), with their strength."""
    age: float
    """Depth without expression in old age, divided by the depth with full expression."""


FAMILIES: tuple[Family, ...] = (
    Family("forehead", {"browInnerUp": 0.7, "browOuterUp": 0.5}, 0.8),
    Family("frown", {"browDown": 0.9, "noseSneer": 0.2}, 0.8),
    Family("crow's feet", {"cheekSquint": 0.8, "eyeSquint": 0.5, "mouthSmile": 0.2}, 0.8),
    Family("nasolabial", {"mouthSmile": 0.8, "mouthUpperUp": 0.4, "noseSneer": 0.5}, 0.9),
    Family("nose", {"noseSneer": 1.0}, 0.0),
    Family("lower lid", {"cheekSquint": 0.6, "eyeSquint": 0.5, "mouthSmile": 0.15}, 0.9),
    Family("bag", {"cheekSquint": 0.3, "mouthSmile": 0.1}, 1.0),
    Family("cheek", {"mouthSmile": 0.3}, 1.0),
    Family("smile", {"mouthSmile": 0.5, "mouthStretch": 0.6, "mouthDimple": 0.6}, 0.4),
    Family("marionette", {"mouthFrown": 0.8, "mouthShrugLower": 0.2}, 0.9),
    Family("upper lip", {"mouthPucker": 0.6, "mouthPress": 0.2}, 0.8),
    Family("chin", {"mouthShrugLower": 0.8, "mouthPucker": 0.3}, 0.2),
    Family("neck", {}, 0.8),
)
"""All families, in the order of weights and variants."""

_INDEX = {name: index for index, name in enumerate(ARKIT_EXPRESSIONS)}


def wrinkle_weights(
    expression: Float[np.ndarray, "52"], age_years: float
) -> tuple[Float[np.ndarray, "F 2"], Float[np.ndarray, "F 2"]]:
    """Return each family's depth on the left and right side: at rest, and added by expression.

    Args:
        expression: ARKit weights.
        age_years: both kinds of wrinkles grow with age from 25 to 75.
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
    """Several drawings of each family on the left side of the face; the right side is mirrored."""

    def __init__(self, model: MorphableModel, resolution: int) -> None:
        frame = TextureFrame(model, resolution)
        rng = np.random.default_rng(5)
        drawings = [
            [draw_wrinkles(frame, family.name, rng) for _ in range(VARIANTS)] for family in FAMILIES
        ]
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
            variants: (F,2) numbers of the drawings.
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
