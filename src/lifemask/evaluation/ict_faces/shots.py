"""A test person and a shot: expression, gaze, pose, camera and light."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from lifemask.evaluation.ict_faces.head import IctHead
from lifemask.evaluation.ict_faces.light import TestLight
from lifemask.evaluation.ict_faces.skin import Appearance
from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform

Array = np.ndarray

PHOTO_SIZE = 256
"""Default number of pixels per side; the face fills the photo."""


@dataclass(frozen=True)
class Person:
    """The person in a photo."""

    identity: Float[Array, "I"]
    """ICT's coefficients, standard deviations."""
    appearance: Appearance
    """Colours and hair."""


@dataclass(frozen=True)
class Shot:
    """The conditions of one photo of a person."""

    expression: Float[Array, "E"]
    """ICT's weights, 0 to 1."""
    gaze: Float[Array, "2"]
    """(yaw towards +X, pitch up), radians."""
    camera: PerspectiveCamera
    """The camera; its world space is head space."""
    yaw_degrees: float
    """Rotation of the head about its vertical axis; positive shows the subject's right side."""
    light: TestLight
    """Environment and lamp."""
    camera_seed: int
    """Seed of background, blur, noise and compression."""


def look_at_face(
    head: IctHead,
    person: Person,
    expression: Array,
    generator: np.random.Generator,
    *,
    yaw_degrees: float,
    size: int = PHOTO_SIZE,
) -> PerspectiveCamera:
    """Return a camera with random distance, pitch, roll and framing for a head with a given yaw.

    Args:
        head: the model of the person.
        person: whose face fills the photo.
        expression: ICT's weights, 0 to 1.
        generator: source of randomness.
        yaw_degrees: rotation of the head about its vertical axis.
        size: pixels per side of the photo.
    """
    pitch, roll = np.radians(np.clip(generator.normal(0, [9, 7]), -25, 25))
    yaw = np.radians(yaw_degrees)
    turn_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    turn_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    )
    turn_z = np.array(
        [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    )
    rotation = np.array(FRONTAL_HEAD_TO_CAMERA) @ turn_z @ turn_x @ turn_y
    distance = np.exp(generator.uniform(np.log(0.4), np.log(2.5)))
    points = head.vertices(person.identity, expression, np.zeros(2))[head.landmarks]
    in_camera = points @ rotation.T + [0, 0, distance]
    slopes = in_camera[:, :2] / in_camera[:, 2:]
    low, high = slopes.min(0), slopes.max(0)
    # The points end at the brows, but the face continues above.
    up = rotation @ [0.0, 0.075, 0.02] + [0, 0, distance]
    low, high = np.minimum(low, up[:2] / up[2]), np.maximum(high, up[:2] / up[2])
    focal = size / ((high - low).max() * generator.uniform(1.1, 1.4))
    middle = (low + high) / 2 + generator.uniform(-0.04, 0.04, 2) * (high - low)
    return PerspectiveCamera(
        torch.tensor(focal, dtype=torch.float32),
        torch.tensor(size / 2 - focal * middle, dtype=torch.float32),
        rigid_transform(
            torch.from_numpy(rotation), torch.tensor([0.0, 0.0, distance], dtype=torch.float64)
        ).float(),
        (size, size),
    )
