"""Refined normals of a face at the pixels of its image or of a part of it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.morphable.explained_face import ImageNormals
from lifemask.rendering.shading import normalize_image


def normals_at_pixels(
    normals: ImageNormals, size: tuple[int, int], *, left: int = 0, top: int = 0
) -> Float[Tensor, "*batch 3 H W"]:
    """Return the normals at pixels of the image, 0 where they are unknown.

    Args:
        normals: of faces.
        size: (H, W) of the part of the image.
        left: column of the image where the part begins.
        top: its row.
    """
    values = normals.values
    batch = values.shape[:-3]
    height, width = size
    x, y = (
        (torch.arange(count, device=values.device) + start + 0.5 - normals.corner[..., k, None])
        / normals.side[..., None] * 2 - 1
        for k, (count, start) in enumerate(((width, left), (height, top)))
    )  # fmt: skip
    grid = torch.stack(
        torch.broadcast_tensors(x.unsqueeze(-2), y.unsqueeze(-1)), -1
    ).reshape(-1, height, width, 2)  # fmt: skip
    images = values.reshape(-1, *values.shape[-3:])
    sampled = F.grid_sample(images, grid.to(images), align_corners=False)
    sampled = sampled.reshape(*batch, 3, height, width)
    # Less than half of a pixel's surroundings is unknown.
    known = sampled.square().sum(-3, keepdim=True) > 0.25
    return normalize_image(sampled * known)
