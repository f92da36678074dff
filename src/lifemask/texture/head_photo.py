"""Cuts the head out of its photo, at the resolution that a texture needs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.io.colour import block_means


@dataclass(frozen=True)
class HeadPhoto:
    """A part of a photo around the head, in linear light."""

    image: Float[Tensor, "3 h w"]
    """Linear RGB."""
    camera: PerspectiveCamera
    """Camera of the cutout."""
    whole: PerspectiveCamera
    """Camera of the whole photo."""

    def points(self, photo_points: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2"]:
        """Return points of the whole photo (pixels) in pixels of the cutout."""
        reduction = self.camera.focal_pixels / self.whole.focal_pixels
        points = photo_points - self.whole.principal_point
        return points * reduction + self.camera.principal_point


def cut_out_head(
    pixels: UInt8[np.ndarray, "H W 3"],
    camera: PerspectiveCamera,
    vertices: Float[Tensor, "V 3"],
    *,
    reduced: float,
) -> HeadPhoto:
    """Return the part of the photo around the head, in linear light; huge photos then cost little.

    Args:
        pixels: the photo, sRGB.
        camera: the photo's.
        vertices: of the head, metres.
        reduced: factor by which the cutout may be coarser than the photo; it is rounded down.
    """
    points = camera.project(vertices)[:, :2]
    height, width = camera.image_size
    low, high = points.amin(0).tolist(), points.amax(0).tolist()
    left, top = (int(min(max(low[k] - 8, 0), (width, height)[k] - 16)) for k in range(2))
    right, bottom = (
        int(max(min(high[k] + 8, (width, height)[k]), (left, top)[k] + 16)) for k in range(2)
    )
    block = max(1, int(reduced))
    right -= (right - left) % block
    bottom -= (bottom - top) % block
    part = block_means(pixels[top:bottom, left:right], block)
    size = (part.shape[1], part.shape[2])
    return HeadPhoto(part, camera.cropped(left, top, size, 1 / block), camera)


def pixels_per_millimetre(camera: PerspectiveCamera, vertices: Float[Tensor, "V 3"]) -> float:
    """Return the photo's resolution at the vertex that is nearest to the camera."""
    distance = camera.to_camera(vertices)[:, 2].amin()
    return float(camera.focal_pixels / distance) / 1000
