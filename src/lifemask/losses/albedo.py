"""Difference between a predicted skin texture and the true one."""

from jaxtyping import Float
from torch import Tensor

from lifemask.losses.means import weighted_mean


def albedo_loss(
    predicted: Float[Tensor, "*batch 3 R R"],
    true: Float[Tensor, "*batch 3 R R"],
    weight: Float[Tensor, "*batch R R"],
) -> Float[Tensor, "*batch"]:
    """Return the weighted mean of |log ratio| over texels and colours, independent of skin tone.

    Args:
        predicted: linear RGB in (0, 1].
        true: linear RGB in [0, 1]; values below 0.01 count as 0.01.
        weight: 0 to 1, for example 1 on the skin of the face.
    """
    ratio = predicted.clamp(min=0.01).log() - true.clamp(min=0.01).log()
    return weighted_mean(ratio.abs().mean(-3).flatten(-2), weight.flatten(-2))
