"""Squared distances of posed points: in the image, and in the image with relative depth."""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.losses.means import weighted_mean

FRAME_PIXELS = 120.0
"""Unit of the points: as if each frame had so many pixels on a side, whatever the crop's size."""


def framed_points(
    points: Float[Tensor, "*batch N 3"], camera: PerspectiveCamera, *, frame_side: float
) -> Float[Tensor, "*batch N 3"]:
    """Return posed points: x and y in the image, and depth relative to the head's origin.

    All three have the same unit, because depth is multiplied by the scale at the head's origin. So
    the distance of the camera does not count by itself, as under weak perspective.

    Args:
        points: head space, metres.
        camera: of the crop, in its pixels.
        frame_side: pixels on a side of the crop.
    """
    projected = camera.project(points)
    distance = camera.world_to_camera[..., 2, 3]
    scale = (camera.focal_pixels / distance)[..., None, None]
    depth = (projected[..., 2:] - distance[..., None, None]) * scale
    return torch.cat([projected[..., :2], depth], -1) * (FRAME_PIXELS / frame_side)


def squared_point_loss(
    predicted: Float[Tensor, "*batch N d"],
    seen: Float[Tensor, "*batch N d"],
    weight: Float[Tensor, "*batch N"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Return the weighted mean squared distance, in the square of the points' unit.

    Args:
        predicted: points.
        seen: the same points; any value, also NaN, where the weight is 0.
        weight: 0 (unknown) and more; equal by default.
    """
    if weight is None:
        return (predicted - seen).square().sum(-1).mean(-1)
    known = (weight > 0).unsqueeze(-1)
    squared = (predicted - seen.where(known, predicted.detach())).square().sum(-1)
    return weighted_mean(squared, weight)
