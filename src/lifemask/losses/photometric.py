"""Difference between a rendered prediction and the photo."""

from jaxtyping import Float
from torch import Tensor

from lifemask.losses.means import weighted_mean


def photometric_loss(
    rendered: Float[Tensor, "*batch 3 H W"],
    photo: Float[Tensor, "*batch 3 H W"],
    mask: Float[Tensor, "*batch H W"],
    *,
    scale: float = 0.1,
) -> Float[Tensor, "*batch"]:
    """Return the masked mean of a robust colour difference, 0 to 1.

    The difference is d² / (d² + scale²) with the distance d in RGB (Geman and McClure). Hair, glasses
    and specular highlights, which the model does not explain, count at most 1.

    Args:
        rendered: linear RGB.
        photo: linear RGB.
        mask: 0 to 1, for example rendered face times visible skin.
        scale: distance at which a pixel counts half.
    """
    squared = (rendered - photo).square().sum(-3)
    return weighted_mean((squared / (squared + scale**2)).flatten(-2), mask.flatten(-2))
