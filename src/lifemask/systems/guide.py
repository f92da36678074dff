"""A system looks at a face of a whole photo: frame it, look, frame it again by what was seen."""

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


@dataclass(frozen=True)
class SystemGuide:
    """Asks a system about faces of photos; fits as `FaceFitter`'s guide."""

    system: System
    """Trained; on the CPU or wherever it runs."""
    model: MorphableModel
    """The head of its estimates, with dense landmarks, on the CPU."""
    looks: int = 2
    """The first frame follows the landmarks, each further one the estimate before: on profiles
    the landmarks, and with them their frame, are off."""

    @torch.no_grad()
    def __call__(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
    ) -> FaceEstimate:
        """Return the estimate in the photo's pixels; the principal point is the photo's middle.

        Args:
            pixels: the photo, sRGB.
            observation: one of its faces.
        """
        frame = face_frame(observation.landmarks478)
        estimate = self._look(pixels, frame)
        for _ in range(self.looks - 1):
            frame = face_frame(self.dense_points(estimate))
            estimate = self._look(pixels, frame)
        return estimate

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
