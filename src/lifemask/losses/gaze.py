"""Difference between predicted and true gaze directions."""

import torch
from jaxtyping import Float
from torch import Tensor


def gaze_loss(
    predicted: Float[Tensor, "*batch 2 2"], true: Float[Tensor, "*batch 2 2"]
) -> Float[Tensor, "*batch"]:
    """Return the distance between the unit vectors of gaze, mean of both eyes.

    Small distances equal the angle in radians.

    Args:
        predicted: (left eye, right eye) x (yaw, pitch) in radians.
        true: the same.
    """
    return (gaze_direction(predicted) - gaze_direction(true)).norm(dim=-1).mean(-1)


def gaze_direction(gaze: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 3"]:
    """Return unit vectors in head space of (yaw towards +X, pitch up positive)."""
    yaw, pitch = gaze.unbind(-1)
    return torch.stack([pitch.cos() * yaw.sin(), pitch.sin(), pitch.cos() * yaw.cos()], dim=-1)
