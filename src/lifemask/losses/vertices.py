"""Distance between predicted and true surface points, and its square."""

from jaxtyping import Float
from torch import Tensor

FACE_SIZE_METRES = 0.15
"""Unit of the loss: about the height of a face."""


def vertex_loss(
    predicted: Float[Tensor, "*batch N 3"], true: Float[Tensor, "*batch N 3"]
) -> Float[Tensor, "*batch"]:
    """Return the mean distance in units of a face's size.

    With points in head space it compares shapes; with points in camera axes it compares shape and
    pose together.

    Args:
        predicted: metres.
        true: metres, the same points in the same order.
    """
    return (predicted - true).norm(dim=-1).mean(-1) / FACE_SIZE_METRES


def squared_vertex_loss(
    predicted: Float[Tensor, "*batch N 3"], true: Float[Tensor, "*batch N 3"]
) -> Float[Tensor, "*batch"]:
    """Return the mean squared distance in units of a face's size squared.

    On posed points it is the geometry loss of Richardson et al., "Learning detailed face
    reconstruction from a single image", 2017: each coefficient counts as much as it moves the
    surface.

    Args:
        predicted: metres.
        true: metres, the same points in the same order.
    """
    return (predicted - true).square().sum(-1).mean(-1) / FACE_SIZE_METRES**2
