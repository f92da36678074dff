"""Distance between predicted and measured points."""

from jaxtyping import Float
from torch import Tensor

from lifemask.losses.means import weighted_mean


def landmark_loss(
    predicted: Float[Tensor, "*batch N 2"],
    seen: Float[Tensor, "*batch N 2"],
    weight: Float[Tensor, "*batch N"],
    *,
    frame_side: float,
) -> Float[Tensor, "*batch"]:
    """Return the weighted mean distance, in units of the frame's side.

    Args:
        predicted: image points in pixels.
        seen: measured points; any value, also NaN, where the weight is 0.
        weight: 0 (unknown or hidden) to 1.
        frame_side: side of the face's frame in the same pixels: the crop's size.
    """
    known = (weight > 0).unsqueeze(-1)
    distance = (predicted - seen.where(known, predicted.detach())).norm(dim=-1)
    return weighted_mean(distance / frame_side, weight)
