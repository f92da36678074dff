"""Feedback: a drawing of an estimated face that a network gets beside the photo.

Richardson et al., "3D face reconstruction by learning from synthetic data" (3DV 2016).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lifemask.geometry.meshes import Mesh
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
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
    """Draws the region `face` of a model; it has nothing that learns or is stored.

    Less than half of the head, without the corrections of the lids, which hardly change the drawing: a
    few milliseconds a face.
    """

    mean: Float[Tensor, "F 3"]
    """Vertices of the mean face, head space, metres."""
    basis: Float[Tensor, "P F 3"]
    """Their motion per unit of each coefficient, metres; identity first, then expression."""
    triangles: Int[Tensor, "T 3"]
    """Indices of these vertices."""
    code: Float[Tensor, "F 3"]
    """Their places on the mean face, [0, 1] along each axis of head space."""

    def __init__(self, model: MorphableModel) -> None:
        """Take the face out of a model.

        Raises:
            ValueError: the model has no region `face`.
        """
        super().__init__()
        region = model.regions.get("face")
        if region is None:
            raise ValueError("This model has no region `face` to draw. Use the default head.")
        chosen = model.triangles[(region[model.triangles] > 0.5).all(-1)]
        rows, triangles = chosen.unique(return_inverse=True)
        basis = torch.cat([model.identity_basis, model.expression_basis])
        mean = model.mean[rows]
        low, high = mean.amin(0), mean.amax(0)
        for name, value in {
            "mean": mean,
            "basis": basis[:, rows],
            "triangles": triangles,
            "code": (mean - low) / (high - low),
        }.items():
            self.register_buffer(name, value, persistent=False)

    @torch.no_grad()
    def forward(self, face: ExplainedFace, size: int) -> Feedback:
        """Draw faces; not differentiable.

        Args:
            face: with one batch axis or more.
            size: pixels on a side of the drawing, which shows the whole square image of the camera.
        """
        given, camera = face.coefficients, face.camera
        weights = torch.cat([given.identity, given.expression], dim=-1)
        vertices = self.mean + torch.tensordot(weights, self.basis, dims=1)
        scaled = camera.cropped(0, 0, (size, size), size / camera.image_size[1])
        drawn = render(Mesh(vertices, self.triangles), scaled, vertex_colours=self.code)
        return Feedback(drawn.mask.unsqueeze(-3), drawn.albedo, drawn.normals)
