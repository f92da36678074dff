"""Sample textures at texture coordinates."""

import torch
from jaxtyping import Float
from torch import Tensor


def sample_texture(
    texture: Float[Tensor, "*batch C Ht Wt"], uv: Float[Tensor, "*image_batch 2 H W"]
) -> Float[Tensor, "*image_batch C H W"]:
    """Return the texture at each pixel's coordinates, bilinear, with clamped borders.

    Gradients flow to the texture and to the coordinates. Mask the result: a pixel without a
    triangle has coordinates zero and gets the top-left texel.

    Args:
        texture: its batch axes broadcast against those of `uv`.
        uv: (u, v) in [0, 1], origin at the top left of the texture, v down; the texel in row i and
            column j has its centre at ((j + 0.5) / Wt, (i + 0.5) / Ht).
    """
    batch = uv.shape[:-3]
    grid = uv.reshape(batch.numel(), *uv.shape[-3:]).permute(0, 2, 3, 1) * 2 - 1
    texture = texture.expand(*batch, *texture.shape[-3:])
    image = torch.nn.functional.grid_sample(
        texture.reshape(batch.numel(), *texture.shape[-3:]),
        grid,
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return image.view(*batch, *image.shape[-3:])
