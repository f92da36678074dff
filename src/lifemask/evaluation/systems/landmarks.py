"""The dense landmarks alone: what the fit starts from, without any face model."""

import numpy as np
from jaxtyping import Float, UInt8

from lifemask.evaluation.cache import fingerprint
from lifemask.evaluation.config import Quality
from lifemask.evaluation.predictions import Prediction
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceObservation

# For each of AFLW's 21 points the dense point with the smallest median distance to it on 1,401
# crops of the research training set with absolute yaw up to 45 degrees, made symmetric.
AFLW21_FROM_DENSE478 = (
    *(70, 52, 107, 336, 282, 300),
    *(33, 468, 173, 398, 473, 263),
    *(132, 64, 1, 294, 361, 62, 13, 292, 175),
)

# Dense points nearest to the 68 iBUG points; brows and jaw are the worst of them.
IBUG68_FROM_DENSE478 = (
    *(127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(168, 197, 5, 4, 98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)


def observe_largest(
    perception: FacePerception, pixels: UInt8[np.ndarray, "H W 3"], *, crop: bool
) -> FaceObservation | None:
    """Return the dense landmarks of the largest face, the mean of jittered and mirrored crops.

    Args:
        perception: the networks.
        pixels: sRGB.
        crop: the whole photo is the face: nothing is detected, and there is always an answer.
    """
    if crop:
        return perception.observe_crop(pixels, quality="full", segment=False, embed=False)
    faces = perception.detect(pixels)
    if not faces:
        return None
    return perception.observe(pixels, faces[0], quality="full", segment=False, embed=False)


class LandmarkSystem:
    """FaceMesh-V2's dense points, taken as the answer; the quality makes no difference."""

    name = "landmarks"

    def __init__(self, perception: FacePerception, version: str) -> None:
        """Judge these networks, whose answers change with `version`."""
        self.version = version
        self._perception = perception

    @classmethod
    def from_pretrained(cls) -> "LandmarkSystem":
        """Load the networks that ship with the package."""
        return cls(FacePerception.from_pretrained(), fingerprint("perception", "assets/perception"))

    def predict(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        crop: bool,
        quality: Quality,
        fields: tuple[str, ...] | None = None,
    ) -> Prediction | None:
        """Return the 68 and the 21 points, or None where no face is found."""
        observation = observe_largest(self._perception, pixels, crop=crop)
        if observation is None:
            return None
        points: Float[np.ndarray, "478 2"] = observation.landmarks478[:, :2].numpy()
        return Prediction(
            landmarks68=points[list(IBUG68_FROM_DENSE478)],
            aflw21=points[list(AFLW21_FROM_DENSE478)],
        )
