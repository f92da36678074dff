"""Gaze from the iris: the ray through its centre in the image is intersected with the eyeball."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.eyes import IRIS_ANGLE_RADIANS, SCLERA_RADIUS
from lifemask.morphable.model import MorphableModel

IRIS_DISTANCE = SCLERA_RADIUS * math.cos(IRIS_ANGLE_RADIANS)
"""Distance from the eyeball's centre to the middle of the iris (behind the cornea), metres."""
_LIMIT_RADIANS = 0.7
"""Eyes rotate by at most about forty degrees; larger angles are landmark errors."""


def gaze_from_iris(
    model: MorphableModel,
    coefficients: FaceCoefficients,
    camera: PerspectiveCamera,
    iris: Float[Tensor, "10 2"],
) -> Float[Tensor, "2 2"]:
    """Return yaw (towards +X) and pitch (up) of the subject's left and right eyeball, radians.

    Args:
        model: the head.
        coefficients: those of the face, without batch axes.
        camera: the camera of the photo.
        iris: dense landmarks 468 to 477 in photo pixels: five of the subject's right iris (centre
            first), five of the left.
    """
    if model.eyeballs is None:
        return torch.zeros(2, 2)
    centres = model.eyeball_centres(coefficients.identity)
    gaze = torch.zeros(2, 2)
    for eye, centre_pixel in enumerate((iris[5:].mean(0), iris[:5].mean(0))):
        direction = _gaze_direction(camera, centre_pixel, centres[eye])
        yaw = torch.atan2(direction[0], direction[2])
        pitch = torch.asin(direction[1].clamp(-1, 1))
        gaze[eye] = torch.stack([yaw, pitch]).clamp(-_LIMIT_RADIANS, _LIMIT_RADIANS)
    return gaze


def _gaze_direction(
    camera: PerspectiveCamera,
    pixel: Float[Tensor, "2"],
    centre: Float[Tensor, "3"],
) -> Float[Tensor, "3"]:
    """Return the unit vector, in head axes, from an eyeball's centre to its iris."""
    rotation, translation = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    ray = torch.cat([(pixel - camera.principal_point) / camera.focal_pixels, torch.ones(1)])
    ray = rotation.T @ torch.nn.functional.normalize(ray, dim=0)
    origin = -rotation.T @ translation
    to_centre = centre - origin
    along = to_centre @ ray
    missed = (to_centre - along * ray).norm()
    # If the ray misses the eyeball, the nearest point on the ray is used.
    depth = along - (IRIS_DISTANCE**2 - missed**2).clamp(min=0).sqrt()
    return torch.nn.functional.normalize(origin + depth * ray - centre, dim=0)
