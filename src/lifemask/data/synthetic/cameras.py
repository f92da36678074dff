"""Random cameras: position relative to the head, rotation of the head, frame of the crop."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.data.synthetic.config import SyntheticConfig
from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.rotations import matrix_from_yaw_pitch_roll
from lifemask.perception.framing import FaceFrame, crop_camera, face_frame


@dataclass(frozen=True)
class View:
    """Position of one camera relative to a head, and errors of its frame."""

    yaw: float
    """Radians, towards the subject's left."""
    pitch: float
    """Radians, positive is down."""
    roll: float
    """Radians in the photo, before the frame sets the head upright."""
    distance: float
    """Metres from the camera to the head's origin."""
    offset: tuple[float, float]
    """Tangents of the angles (right, down) between the optical axis and the head."""
    shift: tuple[float, float]
    """Error of the frame's centre (right, down), in units of its side."""
    scale: float
    """Relative error of the frame's side; positive is too large."""
    turn: float
    """Error of the frame's rotation, radians."""


def sample_view(rng: np.random.Generator, config: SyntheticConfig) -> View:
    """Return a random view: near-frontal, or with a yaw drawn evenly over all angles."""
    limit = math.radians(config.yaw_limit_degrees)
    if rng.random() < config.uniform_yaw:
        yaw = rng.uniform(-limit, limit)
    else:
        yaw = float(np.clip(math.radians(18) * rng.standard_normal(), -limit, limit))
    pitch_limit = math.radians(config.pitch_limit_degrees)
    pitch = float(np.clip(math.radians(12) * rng.standard_normal(), -pitch_limit, pitch_limit))
    roll = math.radians(12) * rng.standard_normal()
    near, far = config.distance_range_metres
    distance = math.exp(rng.uniform(math.log(near), math.log(far)))
    offset = 0.12 * rng.standard_normal(2)
    loose = 3.0 if rng.random() < config.loose_frame else 1.0
    shift = rng.uniform(-1, 1, 2) * config.frame_shift * loose
    scale = math.exp(rng.uniform(-1, 1) * math.log1p(config.frame_scale) * loose)
    turn = rng.uniform(-1, 1) * math.radians(config.frame_roll_degrees) * loose
    return View(
        yaw, pitch, roll, distance, (float(offset[0]), float(offset[1])),
        (float(shift[0]), float(shift[1])), scale, turn,
    )  # fmt: skip


def between_views(first: View, last: View, share: float) -> View:
    """Return a view between two others; share 0 is the first, 1 the last."""

    def mix(a: float, b: float) -> float:
        return a + (b - a) * share

    return View(
        mix(first.yaw, last.yaw),
        mix(first.pitch, last.pitch),
        mix(first.roll, last.roll),
        mix(first.distance, last.distance),
        (mix(first.offset[0], last.offset[0]), mix(first.offset[1], last.offset[1])),
        (mix(first.shift[0], last.shift[0]), mix(first.shift[1], last.shift[1])),
        mix(first.scale, last.scale),
        mix(first.turn, last.turn),
    )


def head_to_camera(views: list[View]) -> Float[Tensor, "N 4 4"]:
    """Return the rigid motions from head space to the axes of the photos' cameras."""
    yaw, pitch, roll = (
        torch.tensor([getattr(view, name) for view in views], dtype=torch.float32)
        for name in ("yaw", "pitch", "roll")
    )
    rotation = torch.tensor(FRONTAL_HEAD_TO_CAMERA) @ matrix_from_yaw_pitch_roll(yaw, pitch, roll)
    place = [[v.offset[0] * v.distance, v.offset[1] * v.distance, v.distance] for v in views]
    return rigid_transform(rotation, torch.tensor(place, dtype=torch.float32))


def camera_positions(world_to_camera: Float[Tensor, "N 4 4"]) -> Float[Tensor, "N 3"]:
    """Return the positions of the cameras in head space, metres."""
    rotation, translation = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3:]
    return -(rotation.transpose(1, 2) @ translation)[:, :, 0]


def frame_camera(
    views: list[View],
    world_to_camera: Float[Tensor, "N 4 4"],
    points478: Float[Tensor, "N 478 3"],
    size: int,
    margin: float = 1.0,
) -> PerspectiveCamera:
    """Return the cameras of crops framed by the dense points, with each view's own errors.

    Args:
        views: views with the shift, scale and turn of the frames.
        world_to_camera: from `head_to_camera`, on the device of the points.
        points478: dense points in head space, metres.
        size: pixels along each side of the crops.
        margin: side of the crops, in units of the frames' sides.
    """
    count, device = len(views), points478.device
    photo = PerspectiveCamera(
        torch.ones(count, device=device), torch.zeros(count, 2, device=device), world_to_camera,
        (1, 1),
    )  # fmt: skip
    frame = face_frame(photo.project(points478)[..., :2])
    errors = torch.tensor([[*v.shift, v.scale, v.turn] for v in views], device=device)
    side = frame.side * errors[:, 2]
    centre = frame.centre + errors[:, :2] * side[:, None]
    return crop_camera(photo, FaceFrame(centre, side * margin, frame.roll + errors[:, 3]), size)
