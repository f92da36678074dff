"""Cast shadows on a fitted face, as a second stage finds them in the photo."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.perception.framing import face_frame
from lifemask.perception.observation import FaceObservation
from lifemask.pipeline.framed_face import framed_face
from lifemask.systems.rerenderable_albedo import RerenderableAlbedo


@dataclass(frozen=True)
class ShadowEstimator:
    """Lets a network find the shadows that the fitted light does not explain."""

    system: RerenderableAlbedo
    """Trained; on any device."""

    @torch.no_grad()
    def __call__(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation, face: ExplainedFace
    ) -> ExplainedFace:
        """Return the face with a light map that covers the shadows in its photo.

        A face that has a light map already stays as it is.

        Args:
            pixels: the photo, sRGB.
            observation: of the face; without a segmentation, all is taken for skin.
            face: fitted, in the photo's pixels.
        """
        if face.light_map is not None:
            return face
        upright = replace(face_frame(observation.landmarks478), roll=torch.tensor(0.0))
        framed = framed_face(pixels, observation, face, upright, self.system.crop_size)
        device = next(self.system.parameters()).device
        found = self.system.shadows(map_tensors(lambda t: t[None].to(device), framed))
        return replace(face, light_map=map_tensors(lambda t: t[0].cpu(), found))
