"""A face far from the middle of its photo, as if the camera had looked straight at it.

Far from the middle, perspective stretches a face along the line to the middle, and networks see such
faces seldom. If the focal length is known, the photo can be resampled as if the camera had been
turned to the face: the camera stays in its place, so nothing else changes.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera, rigid_transform
from lifemask.geometry.viewpoints import sight_rotation
from lifemask.io.colour import block_means, pixels_from_image
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.perception.framing import face_frame
from lifemask.perception.observation import FaceDetection, FaceObservation

LEAST_ANGLE_DEGREES = 10.0
"""Angle between face and optical axis from which a view is worth its time; it stretches by 1.5 %."""

_EXTENT = 3.0
"""Side of a view, in units of the face's extent; the whole head with its hair must be visible."""
_WIDEST_COSINE = 0.5
"""Faces that reach further than 60° from their middle get no view: the focal length is wrong."""
_LARGEST_SIDE = 1024
"""Pixels on a side of a view; no stage that reads views needs more."""


@dataclass(frozen=True)
class SightView:
    """A square part of a photo, resampled for a camera that looks at its middle."""

    pixels: UInt8[np.ndarray, "S S 3"]
    """sRGB."""
    focal_pixels: float
    """Focal length of the view; its principal point is its middle."""
    rotation: Float[Tensor, "3 3"]
    """From the axes of the view's camera to the axes of the photo's camera."""
    photo_focal: float
    """Focal length of the photo, pixels; its principal point is its middle."""
    photo_size: tuple[int, int]
    """(height, width) of the photo."""

    def photo_points(self, points: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2"]:
        """Return where the photo shows points of the view."""
        middle = points.new_tensor([len(self.pixels) / 2] * 2)
        turned = _rays(points - middle, self.focal_pixels) @ self.rotation.to(points).T
        return _seen(turned, self.photo_focal) + self._photo_middle.to(points)

    def view_points(self, points: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2"]:
        """Return where the view shows points of the photo; inverts `photo_points`."""
        turned = _rays(points - self._photo_middle.to(points), self.photo_focal)
        seen = _seen(turned @ self.rotation.to(points), self.focal_pixels)
        return seen + len(self.pixels) / 2

    def detection(self, observation: FaceObservation) -> FaceDetection:
        """Return where the view shows the observed face of the photo."""
        left, top, right, bottom = observation.box_xyxy
        corners = torch.stack([left, top, right, top, left, bottom, right, bottom]).view(4, 2)
        corners = self.view_points(corners)
        box = torch.cat([corners.amin(0), corners.amax(0)])
        return FaceDetection(box, observation.score, self.view_points(observation.keypoints5))

    def face_in_photo(self, face: ExplainedFace) -> ExplainedFace:
        """Return a face of the view for the photo's camera.

        Args:
            face: its camera has the view's middle as its principal point, and a focal length that
                may differ a little from the view's. It has no depth.
        """
        camera = face.camera
        motion = camera.world_to_camera
        turn = self.rotation.to(motion)
        moved = replace(
            face,
            camera=PerspectiveCamera(
                camera.focal_pixels * (self.photo_focal / self.focal_pixels),
                self._photo_middle.to(motion),
                rigid_transform(turn @ motion[:3, :3], turn @ motion[:3, 3]),
                self.photo_size,
            ),
            light=face.light.turned(turn),
        )
        if face.landmarks is None:
            return moved
        points = self.photo_points(face.landmarks.points)
        scale = _spread(points) / _spread(face.landmarks.points)
        landmarks = replace(face.landmarks, points=points, sigma=face.landmarks.sigma * scale)
        return replace(moved, landmarks=landmarks)

    @property
    def _photo_middle(self) -> Float[Tensor, "2"]:
        height, width = self.photo_size
        return torch.tensor([width / 2, height / 2])


def sight_view(
    pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation, focal_pixels: float
) -> SightView | None:
    """Return the view of an observed face; None if it lies near the middle or is impossibly wide.

    Args:
        pixels: the photo, sRGB.
        observation: one of its faces.
        focal_pixels: focal length of the photo.
    """
    height, width = pixels.shape[:2]
    middle = torch.tensor([width / 2, height / 2])
    points = observation.landmarks478[:, :2].cpu()
    rays = _rays(points - middle, focal_pixels)
    (direction,) = _rays((face_frame(points).centre - middle)[None], focal_pixels)
    angle = math.atan(float(direction[:2].norm()))
    if angle < math.radians(LEAST_ANGLE_DEGREES):
        return None
    rotation = sight_rotation(direction)
    turned = rays[:468] @ rotation
    if float((turned[:, 2] / turned.norm(dim=-1)).min()) < _WIDEST_COSINE:
        return None
    seen = _seen(turned, 1.0)
    side = float(2 * seen.abs().max()) * _EXTENT * focal_pixels
    scale = min(1.0, _LARGEST_SIDE / side)
    size = max(2, round(side * scale))
    view = SightView(
        np.zeros((size, size, 3), np.uint8),
        focal_pixels * scale,
        rotation,
        focal_pixels,
        (height, width),
    )
    return replace(view, pixels=_resampled(pixels, view))


def _resampled(pixels: UInt8[np.ndarray, "H W 3"], view: SightView) -> UInt8[np.ndarray, "S S 3"]:
    """Return the photo at the pixels of the view; outside of the photo, its border is repeated."""
    size = len(view.pixels)
    steps = torch.arange(size) + 0.5
    places = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).flatten(0, 1)
    points = view.photo_points(places)
    height, width = pixels.shape[:2]
    block = max(1, int(view.photo_focal / view.focal_pixels))
    low, high = points.amin(0).tolist(), points.amax(0).tolist()
    left, top = (int(min(max(low[k] - 2, 0), (width, height)[k] - 1)) for k in range(2))
    right, bottom = (
        int(max(min(high[k] + 3, (width, height)[k]), (left, top)[k] + 1)) for k in range(2)
    )
    image = block_means(pixels[top:bottom, left:right], block)
    extent = points.new_tensor([image.shape[2], image.shape[1]]) * block
    grid = (points - points.new_tensor([left, top])) / extent * 2 - 1
    sampled = torch.nn.functional.grid_sample(
        image[None], grid.view(1, size, size, 2), padding_mode="border", align_corners=False
    )[0]
    return pixels_from_image(sampled)


def _rays(points: Float[Tensor, "N 2"], focal: float) -> Float[Tensor, "N 3"]:
    """Return directions of points, given relative to the principal point."""
    return torch.cat([points / focal, torch.ones_like(points[:, :1])], -1)


def _seen(rays: Float[Tensor, "N 3"], focal: float) -> Float[Tensor, "N 2"]:
    """Return image points of directions, relative to the principal point."""
    # Directions beside or behind the camera are not visible: they end far outside.
    return rays[:, :2] / rays[:, 2:].clamp(min=1e-3) * focal


def _spread(points: Float[Tensor, "N 2"]) -> float:
    """Return the root mean square distance of points from their mean."""
    return float((points - points.mean(0)).square().sum(-1).mean()) ** 0.5
