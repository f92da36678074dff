"""Warnings about a reconstruction: what in its photo makes the head a guess.

`python tools/measure_warnings.py` prints how often each reason holds on sets of photos.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.fitting.fit import FaceFit
from lifemask.geometry.meshes import vertex_normals
from lifemask.io.colour import block_means, srgb_from_linear
from lifemask.morphable.covered import covered_vertices
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.perception.photo_segments import skin_probability
from lifemask.rendering.filters import gaussian_blur

Reason = Literal["small", "blurred", "turned", "landmarks", "hidden", "unsure"]

SMALLEST_FACE = 80.0
"""Longer side of the face in pixels, below which it is small."""
LEAST_SHARPNESS = 0.55
"""Sharpness below which a face is blurred."""
LARGEST_TURN = 60.0
"""Degrees between the axis of the face and the view, above which it is turned away."""
LARGEST_LANDMARK_ERROR = 0.015
"""Landmark error above which the landmarks do not agree with any head."""
LARGEST_LANDMARK_SPREAD = 0.02
"""Spread of the landmarks above which the passes of the landmark network do not agree."""
LARGEST_HIDDEN_SHARE = 0.3
"""Share of the face that may be covered or outside the photo."""
LEAST_PRESENCE = 0.5
"""Presence below which this may be no face."""

_SHARPNESS_SIZE = 128
"""Sharpness is measured where the longer side of the face has at most about so many pixels."""
_FACING = 0.3
"""Smallest cosine between normal and view of the part of a face that a photo can show."""


@dataclass(frozen=True)
class FaceSignals:
    """What speaks for and against a reconstruction."""

    pixels: float
    """Longer side of the landmarks' box, in pixels of the photo."""
    sharpness: float
    """Detail of the face, relative to what is twice as large; see `sharpness`."""
    turn_degrees: float
    """Angle between the axis of the face and the direction to the camera."""
    landmark_error: float
    """That of the fit."""
    landmark_spread: float
    """Mean standard deviation of a landmark between the passes of its network, over the face's size."""
    hidden_share: float
    """Share of the face towards the camera that is outside the photo, or not skin in it."""
    presence: float
    """Probability that this is a face."""


@dataclass(frozen=True)
class FaceWarning:
    """One reason why a reconstruction may be wrong."""

    reason: Reason
    """The kind, for programs."""
    message: str
    """What was found, and what helps."""


def warnings_of(signals: FaceSignals) -> tuple[FaceWarning, ...]:
    """Return all warnings about a reconstruction, the gravest first; empty for a good one."""
    found: list[FaceWarning] = []
    if signals.presence < LEAST_PRESENCE:
        found.append(
            FaceWarning(
                "unsure", f"this may be no face (presence {signals.presence:.2f}); look at it"
            )
        )
    blurred = signals.sharpness < LEAST_SHARPNESS
    # The segmentation finds no skin in blurred faces.
    if signals.hidden_share > LARGEST_HIDDEN_SHARE and not blurred:
        text = f"{100 * signals.hidden_share:.0f} % of the face is covered or outside the photo"
        found.append(FaceWarning("hidden", f"{text}; the rest is a guess"))
    if signals.turn_degrees > LARGEST_TURN:
        text = f"the face is turned away by {signals.turn_degrees:.0f}°"
        found.append(
            FaceWarning("turned", f"{text}; a photo from the front gives a better likeness")
        )
    if (
        signals.landmark_error > LARGEST_LANDMARK_ERROR
        or signals.landmark_spread > LARGEST_LANDMARK_SPREAD
    ):
        worst = max(signals.landmark_error, signals.landmark_spread)
        text = f"the landmarks do not agree ({100 * worst:.1f} % of the face)"
        found.append(FaceWarning("landmarks", f"{text}; shape and pose may be wrong"))
    if signals.pixels < SMALLEST_FACE:
        text = f"the face is {signals.pixels:.0f} pixels large"
        found.append(
            FaceWarning("small", f"{text}; {SMALLEST_FACE:.0f} or more give a better likeness")
        )
    if blurred:
        found.append(
            FaceWarning("blurred", "the face is blurred; a sharper photo gives a better likeness")
        )
    return tuple(found)


def face_signals(
    pixels: UInt8[np.ndarray, "H W 3"],
    observation: FaceObservation,
    fit: FaceFit,
    model: MorphableModel,
) -> FaceSignals:
    """Return what speaks for and against the fit of an observed face of a photo."""
    low, high = _box(observation)
    vertices = model.vertices(fit.face.coefficients)
    return FaceSignals(
        pixels=float((high - low).max()),
        sharpness=sharpness(_around(pixels, low, high)),
        turn_degrees=_turn_degrees(fit),
        landmark_error=float(fit.landmark_error),
        landmark_spread=float(observation.landmark_sigma.mean() / (high - low).max()),
        hidden_share=_hidden_share(pixels, observation, fit, model, vertices),
        presence=float(observation.presence),
    )


def sharpness(pixels: UInt8[np.ndarray, "H W 3"]) -> float:
    """Return the detail of a picture of one pixel, relative to its detail of two pixels.

    It is the ratio of two neighbouring octaves of a difference of Gaussians: about 0.7 to 1.1 for a
    photo in focus, and 0.45 if it is blurred by 2.5 % of its size. Exposure and contrast do not
    change it; noise raises it.
    """
    factor = max(1, round(max(pixels.shape[:2]) / _SHARPNESS_SIZE))
    grey = srgb_from_linear(block_means(pixels, factor)).mean(0, keepdim=True)
    once, twice = (gaussian_blur(grey, sigma) for sigma in (1.0, 2.0))
    fine, coarse = (
        float(difference.square().mean().sqrt()) for difference in (grey - once, once - twice)
    )
    return fine / max(coarse, 1e-6)


def _box(observation: FaceObservation) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
    points = observation.landmarks478[:, :2]
    return points.amin(0), points.amax(0)


def _around(
    pixels: UInt8[np.ndarray, "H W 3"], low: Float[Tensor, "2"], high: Float[Tensor, "2"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return the part of the photo that shows the face; never less than one pixel."""
    height, width = pixels.shape[:2]
    left, right = (min(max(int(x), 0), width - 1) for x in (low[0], high[0]))
    top, bottom = (min(max(int(y), 0), height - 1) for y in (low[1], high[1]))
    return pixels[top : bottom + 1, left : right + 1]


def _turn_degrees(fit: FaceFit) -> float:
    """Return the angle between the face's +Z and the direction from the head to the camera."""
    pose = fit.face.camera.world_to_camera.double()
    towards_camera = -(pose[:3, :3].T @ pose[:3, 3])
    cosine = float(towards_camera[2] / towards_camera.norm().clamp_min(1e-9))
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))


def _hidden_share(
    pixels: UInt8[np.ndarray, "H W 3"],
    observation: FaceObservation,
    fit: FaceFit,
    model: MorphableModel,
    vertices: Float[Tensor, "V 3"],
) -> float:
    camera = fit.face.camera
    points, normals = camera.to_camera(vertices), vertex_normals(vertices, model.triangles)
    view = -torch.nn.functional.normalize(points, dim=-1)
    turned = normals @ camera.world_to_camera[:3, :3].T
    shown = ((turned * view).sum(-1) > _FACING) & (model.regions["face"] > 0.5)
    if not bool(shown.any()):
        return 1.0
    seen = camera.project_from_camera(points[shown])[:, :2]
    size = seen.new_tensor([pixels.shape[1], pixels.shape[0]])
    inside = ((seen >= 0) & (seen <= size)).all(-1)
    skin = skin_probability(observation, seen)
    covered = covered_vertices(model, fit.face)
    if covered is not None:
        skin = skin * (1 - covered[shown])
    return 1 - float((skin * inside).mean())
