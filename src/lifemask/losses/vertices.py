"""Distance between predicted and true surface points."""

from jaxtyping import Float
from torch import Tensor

FACE_SIZE_METRES = 0.15
"""Unit of the loss: about the height of a face."""


def vertex_loss(
    predicted: Float[Tensor, "*batch N 3"], true: Float[Tensor, "*batch N 3"]
) -> Float[Tensor, "*batch"]:
    """Return the mean distance in units of a face's size.

    With points in head space it compares shapes; with points in camera axes it compares shape and
    pose together (the geometry loss of Richardson et al., "Learning detailed face reconstruction
    from a single image", 2017, with distances instead of squares).

    Args:
        predicted: metres.
        true: metres, the same points in the same order.
    """
    return (predicted - true).norm(dim=-1).mean(-1) / FACE_SIZE_METRES
