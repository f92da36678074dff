"""Detection and observation of a face for all evaluated systems of this project."""

import numpy as np
from jaxtyping import Float, UInt8

from lifemask.evaluation.config import Quality
from lifemask.evaluation.predictions import Prediction
from lifemask.perception.correspondences import AFLW21_FROM_DENSE478, IBUG68_FROM_DENSE478
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceObservation


def observe_largest(
    perception: FacePerception,
    pixels: UInt8[np.ndarray, "H W 3"],
    *,
    crop: bool,
    quality: Quality,
    segment: bool = False,
) -> FaceObservation | None:
    """Return the observation of the largest face, or None if none convinces.

    Args:
        perception: the networks.
        pixels: sRGB.
        crop: the whole photo is the face: nothing is detected, and there is always an observation.
        quality: "full" uses the mean of jittered and mirrored crops.
        segment: whether the skin is segmented.
    """
    if crop:
        return perception.observe_crop(pixels, quality=quality, segment=segment, embed=False)
    faces = perception.faces(pixels, largest=True, quality=quality, segment=segment, embed=False)
    return faces[0] if faces else None


def landmark_prediction(observation: FaceObservation) -> Prediction:
    """Return the 68 and the 21 points from the dense landmarks."""
    points: Float[np.ndarray, "478 2"] = observation.landmarks478[:, :2].numpy()
    return Prediction(
        landmarks68=points[list(IBUG68_FROM_DENSE478)],
        aflw21=points[list(AFLW21_FROM_DENSE478)],
    )
