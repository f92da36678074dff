"""Faces that hide others: how far two faces overlap, and the photo without the one in front."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from lifemask.perception.correspondences import FACE_OVAL, keypoints_of
from lifemask.perception.observation import FaceDetection, FaceObservation

LEAST_OVERLAP = 0.03
"""Share of the smaller face from which on one of two faces hides a part of the other."""

SAME_FACE = 0.5
"""Share of the smaller face from which on two detections may be one face."""

LEAST_GAIN = 0.02
"""Fall of `disagreement` from which on a face was hidden; of faces that hardly overlap, it tells nothing."""

_WIDER = 1.12
"""Factor on the outline of a face in front, which ends at the forehead and inside the hair."""

_GREY = 128
_GRID = 96
"""Pixels on a side of the picture on which overlaps are counted."""


@dataclass(frozen=True, eq=False)
class ObservedFace:
    """A detection, and what was measured there."""

    detection: FaceDetection
    observation: FaceObservation


Observe = Callable[[UInt8[np.ndarray, "H W 3"], FaceDetection], FaceObservation | None]
"""Measures a detected face in the given pixels; None if its points are lost."""


def apart(
    pixels: UInt8[np.ndarray, "H W 3"], faces: Sequence[ObservedFace], observe: Observe
) -> list[ObservedFace]:
    """Return faces of which each was measured without those that hide a part of it.

    Of two faces that overlap, each is measured again without the other. The one behind gains by it:
    its points lie nearer to its own detection, and scatter less. If two faces at one place are both lost
    without the other, they are one face, and the detection further from its points is dropped.

    Args:
        pixels: the photo.
        faces: as measured in the photo itself; their order stays.
        observe: measures again.
    """
    kept = list(faces)
    for pair in combinations([face.detection for face in faces], 2):
        # As they are after the pairs before: another face may be known to be in front.
        now = [face for face in kept if any(face.detection is each for each in pair)]
        if len(now) < 2:
            continue
        first, second = now
        common = overlap(outline(first.observation), outline(second.observation))
        if common < LEAST_OVERLAP:
            continue
        changes = [_without(pixels, *each, observe) for each in ((first, second), (second, first))]
        gains = [
            -math.inf if changed is None else _doubt(face) - _doubt(changed)
            for face, changed in zip((first, second), changes, strict=True)
        ]
        behind = int(gains[1] > gains[0])
        if max(gains) == -math.inf and common > SAME_FACE:
            behind = int(_doubt(second) > _doubt(first))
        elif max(gains) < LEAST_GAIN:
            continue
        kept = _replaced(kept, (first, second)[behind], changes[behind])
    return kept


def boxes_meet(first: FaceDetection, second: FaceDetection) -> bool:
    """Return whether two boxes have a common part."""
    low = torch.maximum(first.box_xyxy[:2], second.box_xyxy[:2])
    high = torch.minimum(first.box_xyxy[2:], second.box_xyxy[2:])
    return bool((low < high).all())


def _without(
    pixels: UInt8[np.ndarray, "H W 3"], face: ObservedFace, other: ObservedFace, observe: Observe
) -> ObservedFace | None:
    outlines = (*face.observation.in_front, outline(other.observation))
    again = observe(without_faces(pixels, outlines), face.detection)
    if again is None:
        return None
    return replace(face, observation=replace(again, in_front=outlines))


def _replaced(
    faces: list[ObservedFace], old: ObservedFace, new: ObservedFace | None
) -> list[ObservedFace]:
    """Return the faces with another state of one of them, or without it."""
    result: list[ObservedFace] = []
    for face in faces:
        if face.detection is not old.detection:
            result.append(face)
        elif new is not None:
            result.append(new)
    return result


def _doubt(face: ObservedFace) -> float:
    return disagreement(face.detection, face.observation)


def outline(observation: FaceObservation) -> Float[Tensor, "36 2"]:
    """Return the outline of a face with its rim, in photo pixels."""
    oval = observation.landmarks478[list(FACE_OVAL), :2]
    middle = oval.mean(0)
    return middle + _WIDER * (oval - middle)


def overlap(first: Float[Tensor, "N 2"], second: Float[Tensor, "M 2"]) -> float:
    """Return the common area of two outlines as a share of the smaller one, 0 to 1."""
    both = torch.cat([first, second])
    low, high = both.amin(0), both.amax(0)
    scale = _GRID / float((high - low).max().clamp(min=1e-6))
    a, b = (_inside((points - low) * scale, _GRID, _GRID) for points in (first, second))
    return float((a & b).sum() / max(1, min(a.sum(), b.sum())))


def without_faces(
    pixels: UInt8[np.ndarray, "H W 3"], outlines: Sequence[Float[Tensor, "N 2"]]
) -> UInt8[np.ndarray, "H W 3"]:
    """Return the photo with grey in place of the faces with these outlines."""
    if not outlines:
        return pixels
    painted = pixels.copy()
    for points in outlines:
        painted[_inside(points, *pixels.shape[:2])] = _GREY
    return painted


def disagreement(detection: FaceDetection, observation: FaceObservation) -> float:
    """Return how far points scatter and lie from those that the detector found, in sizes of its box.

    Points that moved to the face in front lie far from their own detection.
    """
    low, high = detection.box_xyxy[:2], detection.box_xyxy[2:]
    moved = keypoints_of(observation.landmarks478) - detection.keypoints5
    scatter = observation.landmark_sigma.mean()
    return float((moved.norm(dim=-1).mean() + scatter) / (high - low).max())


def _inside(points: Float[Tensor, "N 2"], height: int, width: int) -> np.ndarray:
    mask = Image.new("1", (width, height))
    ImageDraw.Draw(mask).polygon([(x, y) for x, y in points.tolist()], fill=1)
    return np.array(mask)
