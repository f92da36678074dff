"""Feedback: a drawing of an estimated face that a network gets beside the photo.

Richardson et al., "3D face reconstruction by learning from synthetic data" (3DV 2016).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.face_region import FaceRegion, resized_camera
from lifemask.rendering.images import render


@dataclass(frozen=True)
class Feedback:
    """What an estimate looks like; all images are zero beside the face."""

    mask: Float[Tensor, "*batch 1 S S"]
    """1 where the face is seen."""
    code: Float[Tensor, "*batch 3 S S"]
    """Projected normalised coordinate code (PNCC): which point of the face is seen, as its place on
    the mean face, [0, 1] along each axis."""
    normals: Float[Tensor, "*batch 3 S S"]
    """Unit normals in light axes (+x right, +y up, +z to the viewer)."""


class FeedbackRenderer(nn.Module):
    """Draws the region `face` of a model, a few milliseconds a face; nothing learns or is stored."""

    code: Float[Tensor, "F 3"]
    """Places of its vertices on the mean face, [0, 1] along each axis of head space."""

    def __init__(self, model: MorphableModel) -> None:
        """Take the face out of a model.

        Raises:
            ValueError: the model has no region `face`.
        """
        super().__init__()
        self.region = FaceRegion(model)
        low, high = self.region.mean.amin(0), self.region.mean.amax(0)
        self.register_buffer("code", (self.region.mean - low) / (high - low), persistent=False)

    @torch.no_grad()
    def forward(self, face: ExplainedFace, size: int) -> Feedback:
        """Draw faces; not differentiable.

        Args:
            face: with one batch axis or more.
            size: pixels on a side of the drawing, which shows the whole square image of the camera.
        """
        mesh, camera = self.region(face.coefficients), resized_camera(face.camera, size)
        drawn = render(mesh, camera, vertex_colours=self.code)
        return Feedback(drawn.mask.unsqueeze(-3), drawn.albedo, drawn.normals)
