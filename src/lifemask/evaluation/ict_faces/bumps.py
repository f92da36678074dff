"""How relief changes a drawn surface: its normals, and what of the light reaches it.

Blinn, "Simulation of wrinkled surfaces", 1978, in the image: slopes of the heights along the tangents
of the pixels. All slopes are limited to wavelengths that a photo can show.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

Array = np.ndarray

_JUMP_METRES = 0.004
"""A step in depth between neighbours, from which on they are not the same surface."""

_REACHES = (2, 3, 4, 6, 8, 12, 16)
"""Distances in pixels at which relief is asked whether it hides light."""


@dataclass(frozen=True)
class Relief:
    """Relief of a drawn surface that its mesh does not have; maps in pixels of the drawing."""

    heights: Float[Array, "h w"]
    """Metres along the normals of the smooth surface."""
    smooth_normals: Float[Array, "h w 3"]
    """Unit normals of the surface without it, light axes."""


def bumped_normals(
    relief: Relief,
    depth: Float[Array, "h w"],
    covered: Bool[Array, "h w"],
    *,
    focal_pixels: float,
    principal_point: tuple[float, float],
    shortest_pixels: float,
) -> Float[Array, "h w 3"]:
    """Return the unit normals of a surface with relief, light axes.

    Args:
        relief: heights and smooth normals.
        depth: distance along the optical axis, metres.
        covered: the pixels with relief; elsewhere the normals stay.
        focal_pixels: of the camera.
        principal_point: (x, y) of the camera in pixels.
        shortest_pixels: shortest wavelength of the slopes that remains.
    """
    # Camera axes here: +X right, +Y down, +Z forward.
    normal = relief.smooth_normals * [1.0, -1.0, -1.0]
    rows, columns = np.indices(depth.shape) + 0.5
    ray = np.stack(
        [
            (columns - principal_point[0]) / focal_pixels,
            (rows - principal_point[1]) / focal_pixels,
            np.ones_like(depth),
        ],
        axis=-1,
    )
    facing = np.minimum((normal * ray).sum(-1), -0.1)
    tangents: list[Float[Array, "h w 3"]] = []
    slopes: list[Float[Array, "h w"]] = []
    for axis in (0, 1):
        # The point z * ray moves on the tangent plane when the pixel moves by one.
        growth = -depth * normal[..., axis] / (focal_pixels * facing)
        tangent = growth[..., None] * ray
        tangent[..., axis] += depth / focal_pixels
        tangents.append(tangent)
        slopes.append(_derivative(relief.heights, depth, covered, axis=1 - axis))
    a, b = tangents
    aa, ab, bb = (a * a).sum(-1), (a * b).sum(-1), (b * b).sum(-1)
    determinant = np.where(covered, aa * bb - ab * ab, 1.0)
    along_a = (bb * slopes[0] - ab * slopes[1]) / determinant
    along_b = (aa * slopes[1] - ab * slopes[0]) / determinant
    gradient = along_a[..., None] * a + along_b[..., None] * b
    gradient = low_passed(gradient * covered[..., None], shortest_pixels)
    bumped = normal - gradient * covered[..., None]
    bumped /= np.maximum(np.linalg.norm(bumped, axis=-1, keepdims=True), 1e-9)
    return bumped * [1.0, -1.0, -1.0]


def low_passed(image: Float[Array, "h w C"], shortest_pixels: float) -> Float[Array, "h w C"]:
    """Return an image without wavelengths below a limit; they fade from 1.4 times the limit on."""
    frequency = np.hypot(
        np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])[None]
    )
    fade = np.clip((frequency * shortest_pixels - 1 / 1.4) / (1 - 1 / 1.4), 0, 1)
    kept = 0.5 * (1 + np.cos(np.pi * fade))[..., None]
    spectrum = np.fft.rfft2(image, axes=(0, 1))
    return np.fft.irfft2(spectrum * kept, image.shape[:2], axes=(0, 1))


def sky_visibility(
    heights: Float[Array, "h w"], pixel_metres: Float[Array, "h w"]
) -> Float[Array, "h w"]:
    """Return the share of the sky above the smooth surface that relief leaves free, 0 to 1.

    Args:
        heights: relief, metres.
        pixel_metres: size of a pixel on the surface.
    """
    free = np.zeros_like(heights)
    angles = np.arange(8) * np.pi / 4
    for angle in angles:
        rise = _horizon(heights, pixel_metres, (np.cos(angle), np.sin(angle)))
        free += 1 / (1 + np.maximum(rise, 0) ** 2)
    return free / len(angles)


def lamp_visibility(
    relief: Relief, pixel_metres: Float[Array, "h w"], direction: Float[Array, "3"]
) -> Float[Array, "h w"]:
    """Return the share of a lamp's light that relief lets pass, 0 to 1, with a soft edge.

    Args:
        relief: heights and smooth normals.
        pixel_metres: size of a pixel on the surface.
        direction: unit vector to the lamp, light axes.
    """
    across = np.hypot(direction[0], direction[1])
    if across < 1e-6:
        return np.ones_like(relief.heights)
    rise = _horizon(relief.heights, pixel_metres, (direction[0] / across, -direction[1] / across))
    sine = np.clip((relief.smooth_normals * direction).sum(-1), 0.0, 0.999)
    slope = sine / np.sqrt(1 - sine**2)
    return np.clip((slope - rise) / 0.15 + 0.5, 0, 1)


def _horizon(
    heights: Float[Array, "h w"], pixel_metres: Float[Array, "h w"], step: tuple[float, float]
) -> Float[Array, "h w"]:
    """Return the steepest rise of relief in one direction (x right, y down): tangent of its angle."""
    steepest = np.full(heights.shape, -np.inf)
    size = np.maximum(pixel_metres, 1e-6)
    for reach in _REACHES:
        x, y = (round(reach * s) for s in step)
        there = np.roll(heights, (-y, -x), axis=(0, 1))
        steepest = np.maximum(steepest, (there - heights) / (size * np.hypot(x, y)))
    return steepest


def _derivative(
    heights: Float[Array, "h w"],
    depth: Float[Array, "h w"],
    covered: Bool[Array, "h w"],
    *,
    axis: int,
) -> Float[Array, "h w"]:
    """Return the central difference per pixel, 0 where a neighbour is another surface."""
    before, after = (np.roll(heights, s, axis) for s in (1, -1))
    same = covered & np.roll(covered, 1, axis) & np.roll(covered, -1, axis)
    same &= np.abs(np.roll(depth, 1, axis) - np.roll(depth, -1, axis)) < _JUMP_METRES
    return np.where(same, (after - before) / 2, 0.0)
