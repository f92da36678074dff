"""A system looks at a face of a whole photo: frame it, look, look in a mirror, take the mean."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.data.mirroring import mirrored_camera, mirrored_coefficients, mirrored_light
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.geometry.viewpoints import recentred
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.networks.estimate import mean_estimate
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


TRUST_CHANGE = 0.03
"""Frame change at which an answer counts a quarter of one whose own frame is the one it was given."""


@dataclass(frozen=True)
class SystemGuide:
    """Asks a system about faces of photos; fits as `FaceFitter`'s guide.

    The frame follows the landmarks; a face that fills the photo is also looked for from the whole
    photo, for on profiles landmarks are off. Each frame is looked at twice, as it is and in a
    mirror, and the answers are averaged. They count the more the nearer their own frame is to the
    one they were given in: a network that does not see a face in its frame does not place one
    there either.
    """

    system: System
    """Trained; on the CPU or wherever it runs."""
    model: MorphableModel
    """The head of its estimates: the default one, on the CPU."""

    @torch.no_grad()
    def __call__(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> ExplainedFace:
        """Return the estimate in the photo's pixels; the principal point is the photo's middle.

        Args:
            pixels: the photo, sRGB.
            observation: one of its faces; without a detection's score the photo is the face.
        """
        frames = [face_frame(observation.landmarks478)]
        if observation.score == 0:
            frames.append(whole_photo_frame(pixels.shape[0], pixels.shape[1]))
        answers: list[ExplainedFace] = []
        weights: list[float] = []
        for frame in frames:
            for answer in self.look(pixels, frame):
                change = frame_change(frame, face_frame(self.dense_points(answer)))
                answers.append(map_tensors(lambda t: t.unsqueeze(0), answer))
                weights.append((TRUST_CHANGE + change) ** -2)
        return mean_estimate(joined(answers), torch.tensor(weights))

    def dense_points(self, estimate: ExplainedFace) -> Float[Tensor, "478 2"]:
        """Return where the estimate's dense points are seen, in pixels."""
        dense478 = self.model.dense478
        if dense478 is None:
            raise ValueError("This model has no dense landmarks. Use the default head.")
        vertices = self.model.vertices(estimate.coefficients)
        return estimate.camera.project(dense478.points(vertices, self.model.triangles))[:, :2]

    def look(
        self, pixels: UInt8[np.ndarray, "H W 3"], frame: FaceFrame
    ) -> tuple[ExplainedFace, ExplainedFace]:
        """Return what the system says of a frame as it is, and in a mirror; in photo pixels."""
        size = self.system.crop_size
        crop = crop_pixels(pixels, frame, size)
        device = next(self.system.parameters()).device
        seen = self.system(torch.stack([crop, crop.flip(-1)]).to(device)).to("cpu")
        height, width = pixels.shape[:2]
        middle = crop.new_tensor([width / 2, height / 2])

        def in_photo(estimate: ExplainedFace) -> ExplainedFace:
            camera = photo_camera(estimate.camera, frame, size, (height, width))
            light = photo_light(estimate.light, frame)
            return ExplainedFace(estimate.coefficients, recentred(camera, middle), light)

        return in_photo(seen[0]), in_photo(mirrored_estimate(seen[1], size))


def mirrored_estimate(estimate: ExplainedFace, width: int) -> ExplainedFace:
    """Return the estimate of a flipped picture `width` pixels wide as one of the picture itself."""
    return ExplainedFace(
        mirrored_coefficients(estimate.coefficients),
        mirrored_camera(estimate.camera, width),
        mirrored_light(estimate.light),
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
