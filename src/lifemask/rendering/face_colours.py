"""The colours of an explained face in its image, differentiable and fast enough for losses."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.head_surface import vertex_uv
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.face_region import FaceRegion, resized_camera
from lifemask.rendering.images import render_colour
from lifemask.rendering.texture import sample_texture


class FaceRenderer(nn.Module):
    """Draws the lit region `face` of a model; it has nothing that learns or is stored.

    The albedo is that of a face's map, or else that of its coefficients at the vertices, which is
    fine enough for images of 128 pixels and needs no texture per face.
    """

    log_mean: Float[Tensor, "F 3"]
    """Natural logarithm of the mean linear RGB albedo at the vertices of the face."""
    log_basis: Float[Tensor, "A F 3"]
    """Its change per standard deviation of each albedo mode."""

    def __init__(self, model: MorphableModel) -> None:
        """Take the face and its colours out of a model.

        Raises:
            ValueError: the model has no region `face`, or no albedo.
        """
        super().__init__()
        self.region = FaceRegion(model)
        if model.albedo is None:
            raise ValueError("This model has no albedo to draw. Use the default head.")
        places = vertex_uv(model)[self.region.rows].T[:, None]
        textures = torch.cat([model.albedo.mean_log[None], model.albedo.basis_log])
        sampled = sample_texture(textures, places.expand(len(textures), -1, -1, -1))
        colours = sampled.squeeze(-2).transpose(-1, -2)
        self.register_buffer("log_mean", colours[0], persistent=False)
        self.register_buffer("log_basis", colours[1:], persistent=False)

    def forward(
        self, face: ExplainedFace, size: int
    ) -> tuple[Float[Tensor, "*batch 3 S S"], Float[Tensor, "*batch S S"]]:
        """Return colours in linear RGB, and 1 where the face is seen; both are 0 elsewhere.

        Colours are not clamped: where the shading is below 0, a clamp would have no gradient.
        Gradients flow to coefficients, camera, light and albedo map, but not from the outline.

        Args:
            face: with any batch axes. If it has an albedo map, the map must cover the whole face.
            size: pixels on a side of the drawing, which shows the whole square image of the camera.
        """
        mesh, camera = self.region(face.coefficients), resized_camera(face.camera, size)
        if face.albedo_map is not None:
            return render_colour(mesh, camera, texture=face.albedo_map.values, light=face.light)
        colours = self.vertex_albedo(face.coefficients.albedo)
        return render_colour(mesh, camera, vertex_colours=colours, light=face.light)

    def vertex_albedo(self, coefficients: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch F 3"]:
        """Return the linear RGB albedo in (0, 1] of the face's vertices."""
        log = self.log_mean + torch.tensordot(coefficients, self.log_basis, dims=1)
        return log.clamp(max=0).exp()
