"""Pictures of a head: cameras around it, smooth edges, backgrounds."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.cameras import (
    FRONTAL_HEAD_TO_CAMERA,
    PerspectiveCamera,
    rigid_transform,
)
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.geometry.viewpoints import sight_rotation
from lifemask.hair.drawing import draw_hair
from lifemask.hair.head_of_hair import HeadOfHair
from lifemask.rendering.heads import HeadSurface, render_head

_SUPERSAMPLING = 2
_DISTANCE, _FILLED = 6.0, 0.94
"""Distance of a camera around a head, in extents of the head, and the share of the picture that it fills."""

STUDIO_LIGHT = SphericalHarmonicsLight.from_direction(0.5, 0.6, strength=0.75, ambient=0.35)
"""Light of turntables."""


def face_camera(
    camera: PerspectiveCamera, points: Float[Tensor, "N 3"], size: int, *, margin: float = 0.12
) -> tuple[PerspectiveCamera, tuple[float, float, float]]:
    """Return the same view, cropped to a square around some points, and that square.

    Args:
        points: points that must be visible, head space.
        size: pixels a side of the picture.
        margin: free space around the points as a share of their extent.

    Returns:
        The camera and (left, top, side) of the square in photo pixels.
    """
    projected = camera.project(points)[:, :2]
    low, high = projected.amin(0), projected.amax(0)
    side = float((high - low).max()) * (1 + 2 * margin)
    middle = ((low + high) / 2).tolist()
    left, top = middle[0] - side / 2, middle[1] - side / 2
    return camera.cropped(left, top, (size, size), size / side), (left, top, side)


def camera_towards(
    points: Float[Tensor, "N 3"],
    distance_metres: float,
    *,
    pixels_per_metre: float,
    degrees: float = 0.0,
    turn_degrees: float = 0.0,
) -> PerspectiveCamera:
    """Return a camera that sees a head from a distance; its principal point is the picture's middle.

    Args:
        points: the face, head space, metres.
        distance_metres: distance between the camera and the mean of the points.
        pixels_per_metre: scale of the picture at the mean of the points.
        degrees: angle between the head and the optical axis; the head is at the right.
        turn_degrees: angle between the axis of the face and the direction to the camera.
    """
    angle = math.radians(degrees)
    direction = points.new_tensor([math.sin(angle), 0.0, math.cos(angle)])
    turn = matrix_from_rotation_vector(points.new_tensor([0.0, math.radians(turn_degrees), 0.0]))
    rotation = sight_rotation(direction) @ points.new_tensor(FRONTAL_HEAD_TO_CAMERA) @ turn
    focal = pixels_per_metre * distance_metres * math.cos(angle)
    half_height = round(0.22 * pixels_per_metre)
    half_width = round(0.28 * pixels_per_metre) + round(focal * math.tan(angle))
    return PerspectiveCamera(
        points.new_tensor(focal),
        points.new_tensor([half_width, half_height]),
        rigid_transform(rotation, direction * distance_metres - rotation @ points.mean(0)),
        (2 * half_height, 2 * half_width),
    )


def camera_around(
    points: Float[Tensor, "N 3"], azimuth_degrees: float, elevation_degrees: float, size: int
) -> PerspectiveCamera:
    """Return a camera that sees all of a head from any side, in the middle of a square picture.

    Args:
        points: of the head, head space, metres.
        azimuth_degrees: 0 looks at the face; at 90, the viewer stands at the head's left.
        elevation_degrees: 90 looks from above.
        size: pixels a side.
    """
    middle = (points.amin(0) + points.amax(0)) / 2
    turn, tilt = (
        matrix_from_rotation_vector(points.new_tensor(axis) * math.radians(angle))
        for axis, angle in (
            ((0.0, -1.0, 0.0), azimuth_degrees),
            ((1.0, 0.0, 0.0), elevation_degrees),
        )
    )
    rotation = points.new_tensor(FRONTAL_HEAD_TO_CAMERA) @ tilt @ turn
    extent = float((points - middle).norm(dim=-1).max())
    away = points.new_tensor([0.0, 0.0, _DISTANCE * extent])
    camera = PerspectiveCamera(
        points.new_tensor(1.0),
        points.new_tensor([0.0, 0.0]),
        rigid_transform(rotation, away - rotation @ middle),
        (size, size),
    )
    farthest = float(camera.project(points)[:, :2].abs().max())
    return replace(
        camera,
        focal_pixels=points.new_tensor(_FILLED * size / 2 / farthest),
        principal_point=points.new_tensor([size / 2, size / 2]),
    )


def draw_smooth(
    surface: HeadSurface,
    camera: PerspectiveCamera,
    light: SphericalHarmonicsLight,
    *,
    clay: float | None = None,
    hair: HeadOfHair | None = None,
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "H W"]]:
    """Return linear colour, premultiplied by opacity, and opacity, with smooth edges.

    Args:
        surface: the head.
        camera: its `image_size` is the size of the picture.
        light: in the camera's axes.
        clay: linear grey instead of the person's colours.
        hair: on the head.
    """
    factor = _SUPERSAMPLING
    height, width = camera.image_size
    large = camera.cropped(0, 0, (height * factor, width * factor), factor)
    drawn = render_head(surface, large, light).fine
    colour = drawn.colour if clay is None else clay * drawn.shading
    colour, mask = colour.clamp(0, 1) * drawn.mask, drawn.mask
    if hair is not None:
        colour, mask = draw_hair(colour, mask, drawn.depth, hair, large, light, clay=clay)
    pooled = torch.nn.functional.avg_pool2d(torch.cat([colour, mask[None]])[None], factor)[0]
    return pooled[:3], pooled[3]
