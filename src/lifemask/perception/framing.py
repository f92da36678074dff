"""The square crop of a face that is the input of networks: upright, one and a half faces wide.

A frame is a square in a photo. Crop pixels and photo pixels (x right, y down, pixel centres at
+0.5) are related by a rotation, a scale and a shift. The camera of a crop represents all three
exactly; the rotation is one about its optical axis.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.viewpoints import Viewpoint
from lifemask.io.colour import image_from_pixels
from lifemask.perception.landmarks import turn
from lifemask.perception.regions import square_regions, to_photo

FOREHEAD, CHIN = 10, 152
"""The line between these dense points defines the roll, also in profiles."""

FRAME_SCALE = 1.5
"""Side of the frame, in units of the larger extent of the upright points."""


@dataclass(frozen=True)
class FaceFrame:
    """A square of a photo around a face, in photo pixels."""

    centre: Float[Tensor, "*batch 2"]
    """Middle of the square (x, y)."""
    side: Float[Tensor, "*batch"]
    """Length of an edge."""
    roll: Float[Tensor, "*batch"]
    """Rotation of the crop's +x towards the photo's +y, radians; 0 for an upright head."""


def face_frame(landmarks478: Float[Tensor, "*batch 478 dimensions"]) -> FaceFrame:
    """Return the frame around the first 468 points; forehead and chin define its roll.

    Args:
        landmarks478: dense points in photo pixels; a third coordinate is ignored.
    """
    points = landmarks478[..., :468, :2]
    down = points[..., CHIN, :] - points[..., FOREHEAD, :]
    roll = torch.atan2(-down[..., 0], down[..., 1])
    upright = turn(points, -roll)
    low, high = upright.amin(-2), upright.amax(-2)
    centre = turn(((low + high) / 2).unsqueeze(-2), roll).squeeze(-2)
    return FaceFrame(centre, (high - low).amax(-1) * FRAME_SCALE, roll)


def viewpoint_frame(seen: Viewpoint, wanted: Viewpoint, size: int) -> FaceFrame:
    """Return the frame whose crop shows a head upright, at the place and scale of another viewpoint.

    Differentiable. The roll of a head that is seen exactly from above or below is undefined.

    Args:
        seen: how the photo shows the head.
        wanted: its translation and scale in the crop, in crop pixels; its rotation does not matter.
        size: pixels on a side of the crop.
    """
    up = seen.rotation[..., :2, 1]
    # Moved off zero, where the angle has no finite gradient.
    roll = torch.atan2(up[..., 0], -up[..., 1] + 1e-6)
    enlarged = wanted.pixels_per_metre / seen.pixels_per_metre
    beside = (wanted.translation - size / 2) / enlarged.unsqueeze(-1)
    centre = seen.translation - turn(beside.unsqueeze(-2), roll).squeeze(-2)
    return FaceFrame(centre, size / enlarged, roll)


def crop_points(
    points: Float[Tensor, "*batch N 2"], frame: FaceFrame, size: int
) -> Float[Tensor, "*batch N 2"]:
    """Convert photo points to the pixels of a crop of `size` x `size`."""
    scale = (size / frame.side)[..., None, None]
    return turn(points - frame.centre.unsqueeze(-2), -frame.roll) * scale + size / 2


def photo_points(
    points: Float[Tensor, "*batch N 2"], frame: FaceFrame, size: int
) -> Float[Tensor, "*batch N 2"]:
    """Convert the pixels of a crop of `size` x `size` to photo points; inverts `crop_points`."""
    scale = (frame.side / size)[..., None, None]
    return turn((points - size / 2) * scale, frame.roll) + frame.centre.unsqueeze(-2)


def crop_photo(
    photo: Float[Tensor, "*batch C H W"],
    frame: FaceFrame,
    size: int,
    *,
    samples: int | None = None,
) -> Float[Tensor, "*batch C size size"]:
    """Return the part of a photo inside the frame; outside the photo, its border is repeated.

    Every crop pixel is the mean of bilinear samples at most one and a quarter photo pixels apart;
    this avoids aliasing of photos with high resolution. Differentiable in the photo and the frame.

    Args:
        photo: any number of channels.
        frame: which part.
        size: pixels on a side of the crop.
        samples: bilinear samples along each side of a crop pixel; by default as many as the largest
            frame of the batch needs. A fixed number makes each crop independent of the others.
    """
    batch = photo.shape[:-3]
    images = photo.reshape(-1, *photo.shape[-3:])
    coarsest = float(frame.side.detach().max()) / size
    # A photo much finer than the crop is first averaged in whole blocks, which is much faster.
    factor = max(1, math.floor(coarsest / 2)) if samples is None else 1
    if factor > 1:
        # Blocks at the right and bottom edges may be smaller. Padding would copy the whole photo.
        images = F.avg_pool2d(images, factor, ceil_mode=True)
    if samples is None:
        samples = max(1, math.ceil(coarsest / factor / 1.25))
    regions = square_regions(frame.centre / factor, frame.side / factor, frame.roll)
    regions = regions.expand(*batch, 2, 3).reshape(-1, 2, 3)
    fine = size * samples
    steps = (torch.arange(fine, dtype=images.dtype, device=images.device) + 0.5) / fine
    unit = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).reshape(-1, 2)
    points = to_photo(regions.to(images), unit.expand(len(regions), -1, -1))
    extent = points.new_tensor([images.shape[-1], images.shape[-2]])
    grid = (points * 2 / extent - 1).unflatten(1, (fine, fine))
    crops = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if samples > 1:
        crops = F.avg_pool2d(crops, samples)
    return crops.reshape(*batch, -1, size, size)


def crop_pixels(
    pixels: UInt8[np.ndarray, "H W 3"], frame: FaceFrame, size: int
) -> Float[Tensor, "3 size size"]:
    """Return the part of an sRGB photo inside the frame as linear RGB in [0, 1].

    Only that part of the photo is converted.
    """
    height, width = pixels.shape[:2]
    # Half a diagonal, and the margin for averaging and interpolation.
    reach = float(frame.side) * (0.7072 + 2 / size) + 2
    x, y = frame.centre.tolist()
    left, top = (round(min(max(v - reach, 0), n - 1)) for v, n in ((x, width), (y, height)))
    right, bottom = (
        round(max(min(v + reach, n), start + 1))
        for v, n, start in ((x, width, left), (y, height, top))
    )
    part = image_from_pixels(pixels[top:bottom, left:right])
    corner = frame.centre.new_tensor([left, top])
    return crop_photo(part, FaceFrame(frame.centre - corner, frame.side, frame.roll), size)


def crop_camera(camera: PerspectiveCamera, frame: FaceFrame, size: int) -> PerspectiveCamera:
    """Return the camera of a crop of `size` x `size` from the camera of the photo."""
    principal_point = crop_points(camera.principal_point.unsqueeze(-2), frame, size).squeeze(-2)
    return PerspectiveCamera(
        camera.focal_pixels * size / frame.side,
        principal_point,
        _about_optical_axis(-frame.roll) @ camera.world_to_camera,
        (size, size),
    )


def photo_camera(
    camera: PerspectiveCamera, frame: FaceFrame, size: int, image_size: tuple[int, int]
) -> PerspectiveCamera:
    """Return the camera of the photo from that of its crop of `size` x `size`.

    Args:
        camera: as `crop_camera` returns it.
        frame: the crop's position.
        size: pixels along each side of the crop.
        image_size: (height, width) of the photo in pixels.
    """
    principal_point = photo_points(camera.principal_point.unsqueeze(-2), frame, size).squeeze(-2)
    return PerspectiveCamera(
        camera.focal_pixels * frame.side / size,
        principal_point,
        _about_optical_axis(frame.roll) @ camera.world_to_camera,
        image_size,
    )


def crop_light(light: SphericalHarmonicsLight, frame: FaceFrame) -> SphericalHarmonicsLight:
    """Return the photo's light in the axes of the crop's camera."""
    return _rotated(light, frame.roll)


def photo_light(light: SphericalHarmonicsLight, frame: FaceFrame) -> SphericalHarmonicsLight:
    """Return the crop's light in the axes of the photo's camera."""
    return _rotated(light, -frame.roll)


def _rotated(
    light: SphericalHarmonicsLight, angle_radians: Float[Tensor, "*batch"]
) -> SphericalHarmonicsLight:
    """Rotate light about the line of sight, image +y (down) towards +x for a positive angle.

    Harmonics of azimuthal order one rotate by the angle, those of order two by twice the angle.
    """
    constant, y, z, x, xy, yz, zz, xz, xx_yy = light.coefficients.unbind(-2)

    def pair(first: Tensor, second: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        cosine, sine = angle.cos().unsqueeze(-1), angle.sin().unsqueeze(-1)
        return cosine * first - sine * second, sine * first + cosine * second

    # Light axes have y up: in a crop rotated by +roll, the light is rotated by +roll.
    x, y = pair(x, y, angle_radians)
    xz, yz = pair(xz, yz, angle_radians)
    xx_yy, xy = pair(xx_yy, xy, 2 * angle_radians)
    rows = torch.broadcast_tensors(constant, y, z, x, xy, yz, zz, xz, xx_yy)
    return SphericalHarmonicsLight(torch.stack(rows, dim=-2))


def _about_optical_axis(angle_radians: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 4 4"]:
    """Return the motion of a camera's axes that rotates +x towards +y."""
    cosine, sine = angle_radians.cos(), angle_radians.sin()
    zero, one = torch.zeros_like(cosine), torch.ones_like(cosine)
    rows = [cosine, -sine, zero, zero, sine, cosine, zero, zero]
    rows += [zero, zero, one, zero, zero, zero, zero, one]
    return torch.stack(rows, dim=-1).unflatten(-1, (4, 4))
