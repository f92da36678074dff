"""How far the person in a drawing looks from the person in the photo, by an identity embedding."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.perception.identity import CHIP_POINTS, CHIP_SIZE, chip_region
from lifemask.perception.regions import to_photo


def likeness_loss(
    embed: Callable[[Tensor], Tensor],
    drawn: Float[Tensor, "batch 3 s s"],
    photo: Float[Tensor, "batch 3 s s"],
    landmarks: Float[Tensor, "batch 478 2"],
    weight: Float[Tensor, "batch 478"],
) -> Float[Tensor, "batch"]:
    """Return the squared distance of embeddings; 0 where the aligned chip is unknown.

    Both chips are cut at the same place, from images of the same size. Gradients flow to the drawing
    only. Photos of one person have distances below about 0.6, so squares below 0.36.

    Args:
        embed: chips of 150 pixels in sRGB to embeddings, such as
            `lifemask.perception.identity.IdentityNetwork`.
        drawn: sRGB in [0, 1], such as `RenderedPhoto.pasted`.
        photo: the same.
        landmarks: dense landmarks in pixels of these images; any value where the weight is 0.
        weight: 0 (unknown) to 1.
    """
    known = weight[:, list(CHIP_POINTS)].amin(-1)
    regions = chip_region(landmarks.where(known[:, None, None] > 0, 0.0))
    with torch.no_grad():
        target = embed(_chips(photo, regions))
    squared = (embed(_chips(drawn, regions)) - target).square().sum(-1)
    return known * squared


def _chips(
    images: Float[Tensor, "batch 3 s s"], regions: Float[Tensor, "batch 2 3"]
) -> Float[Tensor, "batch 3 150 150"]:
    steps = (torch.arange(CHIP_SIZE, dtype=images.dtype, device=images.device) + 0.5) / CHIP_SIZE
    unit = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).flatten(0, 1)
    points = to_photo(regions, unit.expand(len(regions), -1, -1)) * (2 / images.shape[-1]) - 1
    grid = points.unflatten(1, (CHIP_SIZE, CHIP_SIZE))
    chips = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return chips.contiguous(memory_format=torch.channels_last)
