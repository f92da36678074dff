"""Skin and light of a fitted face, as a second stage separates them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.perception.framing import face_frame
from lifemask.perception.observation import FaceObservation
from lifemask.pipeline.framed_face import framed_face
from lifemask.training.system import System


@dataclass(frozen=True)
class AlbedoEstimator:
    """Lets a second stage separate skin and light of fitted faces of photos."""

    system: System
    """Trained, with `refines`; on any device."""

    @torch.no_grad()
    def __call__(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation, face: ExplainedFace
    ) -> ExplainedFace:
        """Return the face with the albedo, the light map and the light that its photo shows.

        A face that has an albedo map already stays as it is.

        Args:
            pixels: the photo, sRGB.
            observation: of the face; without a segmentation, all is taken for skin.
            face: fitted, in the photo's pixels.
        """
        if face.albedo_map is not None:
            return face
        upright = replace(face_frame(observation.landmarks478), roll=torch.tensor(0.0))
        framed = framed_face(pixels, observation, face, upright, self.system.crop_size)
        device = next(self.system.parameters()).device
        found = self.system(map_tensors(lambda t: t[None].to(device), framed))[0].to("cpu")
        return replace(
            face, albedo_map=found.albedo_map, light_map=found.light_map, light=found.light
        )
