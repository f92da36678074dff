"""Poses of a head that do not depend on the principal point.

Another crop of a photo has another principal point and thus another rotation in camera axes,
although the head looks the same. A viewpoint does not change: it holds the rotation relative to the
line of sight, the translation and the scale in the image, and the distance.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera, rigid_transform
from lifemask.geometry.rotations import cross_product_matrix


@dataclass(frozen=True)
class Viewpoint:
    """A pose without a principal point."""

    rotation: Float[Tensor, "*batch 3 3"]
    """From head axes to the axes of a camera with the head's origin on its optical axis."""
    translation: Float[Tensor, "*batch 2"]
    """Image point of the head's origin: (x, y) in pixels."""
    pixels_per_metre: Float[Tensor, "*batch"]
    """Scale in the image at the depth of the head's origin."""
    distance: Float[Tensor, "*batch"]
    """Depth of the head's origin in metres."""


def viewpoint_of(camera: PerspectiveCamera) -> Viewpoint:
    """Return the viewpoint of a camera; the head's origin must be in front of the camera."""
    origin = camera.world_to_camera[..., :3, 3]
    rotation = sight_rotation(origin).transpose(-1, -2) @ camera.world_to_camera[..., :3, :3]
    distance = origin[..., 2]
    pixels_per_metre = camera.focal_pixels / distance
    translation = origin[..., :2] * pixels_per_metre.unsqueeze(-1) + camera.principal_point
    return Viewpoint(rotation, translation, pixels_per_metre, distance)


def camera_of(
    viewpoint: Viewpoint, principal_point: Float[Tensor, "*batch 2"], image_size: tuple[int, int]
) -> PerspectiveCamera:
    """Return the camera with this viewpoint and principal point; inverts `viewpoint_of`.

    Args:
        viewpoint: rotation, translation, scale and distance of the head.
        principal_point: (x, y) in pixels.
        image_size: (height, width) in pixels.
    """
    beside = (viewpoint.translation - principal_point) / viewpoint.pixels_per_metre.unsqueeze(-1)
    translation = torch.cat([beside, viewpoint.distance.unsqueeze(-1)], dim=-1)
    return PerspectiveCamera(
        viewpoint.pixels_per_metre * viewpoint.distance,
        principal_point,
        rigid_transform(sight_rotation(translation) @ viewpoint.rotation, translation),
        image_size,
    )


def sight_rotation(direction: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the smallest rotation from +Z to a direction; undefined for -Z."""
    x, y, z = torch.nn.functional.normalize(direction, dim=-1).unbind(-1)
    skew = cross_product_matrix(torch.stack([-y, x, torch.zeros_like(x)], dim=-1))
    identity = torch.eye(3, dtype=direction.dtype, device=direction.device)
    return identity + skew + skew @ skew / (1 + z)[..., None, None]
