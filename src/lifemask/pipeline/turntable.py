"""Pictures of a saved head that turns once about its vertical axis."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.pipeline.saved import SavedHead
from lifemask.pipeline.views import STUDIO_LIGHT

_DISTANCE_METRES = 1.2
_FILLED = 0.92
"""Share of the picture that the head fills at most."""


def turntable_frames(
    head: SavedHead, *, frames: int, size: int
) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
    """Yield square sRGB pictures of one turn, the face to the front in the first; lamp and camera stay.

    Args:
        head: with the expression of its file.
        frames: pictures of one turn.
        size: pixels a side.

    Raises:
        SavedHeadError: its textures are too large.
        PhotoError: a texture is damaged.
    """
    points = torch.from_numpy(
        np.concatenate([surface.positions for _, surface in head.scene.at_rest()])
    ).float()
    middle = (points.amin(0) + points.amax(0)) / 2
    radius = float((points - middle)[:, [0, 2]].norm(dim=-1).max())
    extent = max(radius, float((points - middle)[:, 1].abs().max()))
    focal = _FILLED * size / 2 * (_DISTANCE_METRES - radius) / extent
    front = torch.tensor(FRONTAL_HEAD_TO_CAMERA)
    for number in range(frames):
        angle = 2 * math.pi * number / frames
        rotation = front @ matrix_from_rotation_vector(torch.tensor([0.0, angle, 0.0]))
        translation = torch.tensor([0.0, 0.0, _DISTANCE_METRES]) - rotation @ middle
        camera = PerspectiveCamera(
            torch.tensor(focal),
            torch.tensor([size / 2, size / 2]),
            rigid_transform(rotation, translation),
            (size, size),
        )
        yield head.picture(camera, STUDIO_LIGHT, opaque=True)
