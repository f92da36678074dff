"""The inverse of `matrix_from_yaw_pitch_roll`, to check rotations by their angles."""

import torch
from torch import Tensor


def yaw_pitch_roll_from_matrix(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the angles in radians, pitch in [-pi/2, pi/2]."""
    pitch = torch.asin(matrix[..., 2, 1].clamp(-1, 1))
    yaw = torch.atan2(-matrix[..., 2, 0], matrix[..., 2, 2])
    roll = torch.atan2(-matrix[..., 0, 1], matrix[..., 1, 1])
    return yaw, pitch, roll
