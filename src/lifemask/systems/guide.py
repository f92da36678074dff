"""A system looks at a face of a whole photo: frame it, look, frame it again by what was seen."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.geometry.viewpoints import recentred
from lifemask.morphable.model import MorphableModel
from lifemask.networks.estimate import FaceEstimate
from lifemask.perception.framing import (
    FaceFrame,
    crop_pixels,
    face_frame,
    photo_camera,
    photo_light,
)
from lifemask.perception.observation import FaceObservation
from lifemask.systems.system import System

CROP_SIDE, CROP_MIDDLE = 1.2, (0.5, 0.44)
"""Where the frame lies in a photo that is cut to one face, in units of the photo's longer side and
of its width and height: the median on such photos."""


@dataclass(frozen=True)
class SystemGuide:
    """Asks a system about faces of photos; fits as `FaceFitter`'s guide.

    The first frame follows the landmarks, each further one the estimate before: on profiles the
    landmarks, and with them their frame, are off. A face that fills the photo is also looked for
    from the whole photo, and the answer counts whose own frame is nearest to the one it was given
    in: a network that does not see a face in its frame does not place one there either.
    """

    system: System
    """Trained; on the CPU or wherever it runs."""
    model: MorphableModel
    """The head of its estimates, with dense landmarks, on the CPU."""
    looks: int = 1
    """How often each start is followed."""

    @torch.no_grad()
    def __call__(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> FaceEstimate:
        """Return the estimate in the photo's pixels; the principal point is the photo's middle.

        Args:
            pixels: the photo, sRGB.
            observation: one of its faces; without a detection's score the photo is the face.
        """
        starts = [face_frame(observation.landmarks478)]
        if observation.score == 0:
            starts.append(whole_photo_frame(pixels.shape[0], pixels.shape[1]))
        found: list[tuple[float, FaceEstimate]] = []
        for frame in starts:
            change, estimate = 0.0, self._look(pixels, frame)
            for look in range(self.looks):
                own = face_frame(self.dense_points(estimate))
                change = frame_change(frame, own)
                if look + 1 < self.looks:
                    frame, estimate = own, self._look(pixels, own)
            found.append((change, estimate))
        return min(found, key=lambda pair: pair[0])[1]

    def dense_points(self, estimate: FaceEstimate) -> Float[Tensor, "478 2"]:
        """Return where the estimate's dense points are seen, in pixels."""
        dense478 = self.model.dense478
        if dense478 is None:
            raise ValueError("This model has no dense landmarks. Use the default head.")
        vertices = self.model.vertices(estimate.coefficients)
        return estimate.camera.project(dense478.points(vertices, self.model.triangles))[:, :2]

    def _look(self, pixels: UInt8[np.ndarray, "H W 3"], frame: FaceFrame) -> FaceEstimate:
        size = self.system.crop_size
        crop = crop_pixels(pixels, frame, size)
        device = next(self.system.parameters()).device
        seen = self.system(crop.to(device).unsqueeze(0))[0].to("cpu")
        height, width = pixels.shape[:2]
        camera = photo_camera(seen.camera, frame, size, (height, width))
        middle = camera.principal_point.new_tensor([width / 2, height / 2])
        return FaceEstimate(
            seen.coefficients, recentred(camera, middle), photo_light(seen.light, frame)
        )


def whole_photo_frame(height: int, width: int) -> FaceFrame:
    """Return the likeliest frame of the face in a photo that is cut to it, upright.

    Args:
        height: of the photo in pixels.
        width: of the photo in pixels.
    """
    return FaceFrame(
        torch.tensor([width * CROP_MIDDLE[0], height * CROP_MIDDLE[1]]),
        torch.tensor(CROP_SIDE * max(height, width)),
        torch.tensor(0.0),
    )


def frame_change(first: FaceFrame, second: FaceFrame) -> float:
    """Return how far two frames are apart: shift in sides plus |log scale| plus turn in radians."""
    shift = (first.centre - second.centre).norm() / first.side
    turn = torch.remainder(second.roll - first.roll + math.pi, 2 * math.pi) - math.pi
    return float(shift + (second.side / first.side).log().abs() + turn.abs())
