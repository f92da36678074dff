"""Positions of brows on the default head: midway between the dense points above and below."""

import numpy as np
from numpy.typing import NDArray

from lifemask.morphable.model import MorphableModel

from .pieces import Piece

# Dense points of the subject's left brow, from its inner to its outer end.
_ABOVE = (336, 296, 334, 293, 300)
_BELOW = (285, 295, 282, 283, 276)


def raised(brows: Piece, opacity: NDArray[np.float64], head: MorphableModel) -> Piece:
    """Return brows shifted up and tilted to their usual position in photos.

    MakeHuman's brows lie 2 to 4 mm lower than those in photos, most of all beside the nose; people
    then look stern. Each brow keeps its shape.

    Args:
        brows: the mesh, on the mean head.
        opacity: (H,W) opacity of its picture, 0 to 1; above 0 there is hair.
        head: model with dense points, which define the position.
    """
    embedding = head.dense478
    if embedding is None:
        raise ValueError("This head has no dense points. Use the default head.")
    points = embedding.points(head.mean, head.triangles).double().cpu().numpy()
    middle = (points[list(_ABOVE)] + points[list(_BELOW)]) / 2
    size = np.array(opacity.shape[::-1])
    texel = np.clip((brows.uv * size).astype(int), 0, size - 1)
    hair = opacity[texel[:, 1], texel[:, 0]] > 0.2
    across = np.abs(brows.points[:, 0])
    wanted = np.polyfit(middle[:, 0], middle[:, 1], 1)
    given = np.polyfit(across[hair], brows.points[hair, 1], 1)
    moved = brows.points.copy()
    moved[:, 1] += np.polyval(wanted - given, across)
    return Piece(moved, brows.quads, brows.uv, brows.source)
