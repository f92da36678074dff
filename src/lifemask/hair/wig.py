"""A shipped hair mesh on a person's head, in the hair colour of the photo."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.data.wearables.dressing import worn
from lifemask.data.wearables.wardrobe import Wearable
from lifemask.geometry.meshes import vertex_normals
from lifemask.hair.head_of_hair import HeadOfHair
from lifemask.hair.rays import MIDDLE
from lifemask.io.colour import pixels_from_image
from lifemask.morphable.model import MorphableModel

_LAYERS = 8
"""Layers by distance from the skull: cards lie over each other."""
_ROUNDED = 0.6
"""Weight in the normals of those of a sphere: flat cards are lit like the whole hair."""


def wig(
    item: Wearable,
    model: MorphableModel,
    neutral: Float[Tensor, "V_head 3"],
    colour: Float[Tensor, "3"],
) -> HeadOfHair:
    """Return a hair mesh on a head.

    Args:
        item: hair of the same head model.
        neutral: vertices of the head without expression, head space, metres.
        colour: mean linear RGB of the hair.
    """
    vertices = worn(item, model, neutral, neutral)
    away = F.normalize(vertices - vertices.new_tensor(MIDDLE), dim=-1)
    own = vertex_normals(vertices, item.triangles)
    outward = torch.where((own * away).sum(-1, keepdim=True) < 0, -own, own)
    normals = F.normalize((1 - _ROUNDED) * outward + _ROUNDED * away, dim=-1)

    corners = vertices[item.triangles]
    facing = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = (facing * away[item.triangles[:, 0]]).sum(-1) < 0
    triangles = torch.where(inward[:, None], item.triangles.flip(-1), item.triangles)
    distance = (corners.mean(1) - vertices.new_tensor(MIDDLE)).norm(dim=-1)
    triangles = triangles[distance.argsort()]
    sizes = tuple(len(part) for part in triangles.tensor_split(_LAYERS))

    luminance, opacity = item.picture[0]
    luminance = luminance / opacity.clamp(min=1 / 255)
    picture = pixels_from_image((luminance * colour[:, None, None]).clamp(0, 1))
    alpha = (opacity * 255).round().to(torch.uint8).numpy()
    return HeadOfHair(vertices, triangles, normals, item.uv, sizes, np.dstack([picture, alpha]))
