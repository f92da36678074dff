"""Pinhole cameras in the OpenCV convention: +X right, +Y down, +Z forward, pixel centres at +0.5."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Rotation from head axes (+X left, +Y up, +Z out of the face) to the axes of a frontal camera.
FRONTAL_HEAD_TO_CAMERA = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))


@dataclass(frozen=True)
class PerspectiveCamera:
    """A pinhole camera without distortion, square pixels.

    The pixel with row i and column j covers [j, j+1) x [i, i+1) in image coordinates.
    """

    focal_pixels: Float[Tensor, "*batch"]
    """Focal length in pixels."""
    principal_point: Float[Tensor, "*batch 2"]
    """The image point on the optical axis: (x, y) in pixels."""
    world_to_camera: Float[Tensor, "*batch 4 4"]
    """Rigid motion from world (head) space to camera space, metres: x_cam = M @ x_world."""
    image_size: tuple[int, int]
    """(height, width) in pixels."""

    def to_camera(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N 3"]:
        """Return world points in camera axes, metres."""
        rotation = self.world_to_camera[..., :3, :3]
        translation = self.world_to_camera[..., :3, 3]
        return points @ rotation.transpose(-1, -2) + translation.unsqueeze(-2)

    def project(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N 3"]:
        """Return image points (x pixels, y pixels, depth metres) of world points.

        A point at or behind the camera has a depth of zero or less and meaningless x, y; the
        rasteriser drops triangles that use one.
        """
        return self.project_from_camera(self.to_camera(points))

    def project_from_camera(
        self, points: Float[Tensor, "*batch N 3"]
    ) -> Float[Tensor, "*batch N 3"]:
        """Return image points (x pixels, y pixels, depth metres) of points in camera axes."""
        depth = points[..., 2:]
        safe = torch.where(depth.abs() < 1e-9, torch.full_like(depth, 1e-9), depth)
        xy = points[..., :2] / safe * self.focal_pixels[..., None, None]
        return torch.cat([xy + self.principal_point.unsqueeze(-2), depth], dim=-1)

    def cropped(
        self, left: float, top: float, image_size: tuple[int, int], scale: float = 1.0
    ) -> "PerspectiveCamera":
        """Return the camera of the photo, first cropped at (left, top) pixels, then scaled.

        Args:
            left: left edge of the crop, pixels.
            top: top edge of the crop, pixels.
            image_size: (height, width) of the result, after scaling.
            scale: factor of enlargement.
        """
        corner = torch.tensor([left, top]).to(self.principal_point)
        return PerspectiveCamera(
            self.focal_pixels * scale,
            (self.principal_point - corner) * scale,
            self.world_to_camera,
            image_size,
        )

    def to(self, device: torch.device | str) -> "PerspectiveCamera":
        """Return the same camera on another device."""
        return PerspectiveCamera(
            self.focal_pixels.to(device),
            self.principal_point.to(device),
            self.world_to_camera.to(device),
            self.image_size,
        )


def rigid_transform(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Return the 4 x 4 matrix that rotates, then translates."""
    top = torch.cat([rotation, translation.unsqueeze(-1)], dim=-1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 0, 3] = 1
    return torch.cat([top, bottom], dim=-2)
