"""The relief of a fitted face's skin, as a second stage sees it in the photo."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.explained_face import ExplainedFace, ImageNormals
from lifemask.morphable.model import MorphableModel
from lifemask.perception.framing import FaceFrame
from lifemask.perception.observation import FaceObservation
from lifemask.pipeline.framed_face import framed_face
from lifemask.texture.head_photo import pixels_per_millimetre
from lifemask.training.system import System

PIXELS_PER_MILLIMETRE = 2.0
"""Scale of the crops, the same for all photos: what the network has learned from."""

_COARSE_PHOTO = (0.3, 0.8)
"""Pixels per millimetre up to which a photo shows no relief, and from which on all of it counts."""
_FINEST_PIXELS = 4
"""Pixels of the photo, and of the network's image, of the finest wave that is more than noise."""

_STEP = 16
"""Sides of crops are multiples of this."""
_MARGIN = 1.06
"""Side of the crop, in units of the face's larger extent."""
_LARGEST = 640
"""Largest side of a crop in pixels; no face is larger."""


def relief_share(face: ExplainedFace, model: MorphableModel) -> float:
    """Return how much of the relief counts, 0 to 1: small faces show none.

    Args:
        face: in the photo's pixels.
        model: its head.
    """
    low, high = _COARSE_PHOTO
    scale = pixels_per_millimetre(face.camera, model.vertices(face.coefficients))
    return min(max((scale - low) / (high - low), 0.0), 1.0)


def finest_millimetres(face: ExplainedFace, model: MorphableModel) -> float:
    """Return the shortest wavelength on the skin at which the relief can be trusted.

    Args:
        face: in the photo's pixels.
        model: its head.
    """
    scale = pixels_per_millimetre(face.camera, model.vertices(face.coefficients))
    return _FINEST_PIXELS / min(scale, PIXELS_PER_MILLIMETRE)


@dataclass(frozen=True)
class ReliefEstimator:
    """Lets a second stage add the relief to fitted faces of photos."""

    system: System
    """Trained, with `refines`; on any device."""
    model: MorphableModel
    """The head of the faces, on the CPU."""

    @torch.no_grad()
    def __call__(
        self, pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation, face: ExplainedFace
    ) -> ExplainedFace:
        """Return the face with the displacement and the normals of the skin that the photo shows.

        A face that has a displacement already stays as it is.

        Args:
            pixels: the photo, sRGB.
            observation: of the face; without a segmentation, all is taken for skin.
            face: fitted, in the photo's pixels.
        """
        if face.displacement_map is not None:
            return face
        frame, size = self._frame(face)
        faces = framed_face(pixels, observation, face, frame, size)
        device = next(self.system.parameters()).device
        batch = map_tensors(lambda t: t[None].to(device), faces)
        found = self.system(batch)[0].to("cpu")
        relief, normals = found.displacement_map, found.normals
        share = relief_share(face, self.model)
        if relief is not None:
            relief = replace(relief, values=relief.values * share)
        if normals is not None:
            # Without rotation: the axes of the light are those of the photo.
            corner = frame.centre - frame.side / 2 + normals.corner * frame.side / size
            normals = ImageNormals(normals.values, corner, normals.side * frame.side / size)
        return replace(face, displacement_map=relief, normals=normals if share > 0 else None)

    def _frame(self, face: ExplainedFace) -> tuple[FaceFrame, int]:
        """Return the square around the face, and the pixels on a side of its crop."""
        vertices = self.model.vertices(face.coefficients)
        points = face.camera.project(vertices[self.model.regions["face"] > 0.5])[:, :2]
        low, high = points.amin(0), points.amax(0)
        reduced = PIXELS_PER_MILLIMETRE / pixels_per_millimetre(face.camera, vertices)
        wanted = float((high - low).max()) * _MARGIN * reduced
        size = min(math.ceil(wanted / _STEP) * _STEP, _LARGEST)
        return FaceFrame((low + high) / 2, torch.tensor(size / reduced), torch.tensor(0.0)), size
