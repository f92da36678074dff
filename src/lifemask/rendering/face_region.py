"""The region `face` of a head model: less than half of the head, for drawings that must be fast."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.meshes import Mesh
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.model import MorphableModel


class FaceRegion(nn.Module):
    """The skin of the face without eyeballs and teeth; it has nothing that learns or is stored.

    It is linear in the coefficients: it leaves out the corrections of the lids, which hardly change
    a drawing.
    """

    rows: Int[Tensor, "F"]
    """Its vertices among those of the model."""
    mean: Float[Tensor, "F 3"]
    """These vertices of the mean face, head space, metres."""
    basis: Float[Tensor, "P F 3"]
    """Their motion per unit of each coefficient, metres; identity first, then expression."""
    triangles: Int[Tensor, "T 3"]
    """Indices of these vertices."""
    uv: Float[Tensor, "U 2"]
    """Texture coordinates of the model."""
    uv_triangles: Int[Tensor, "T 3"]
    """Indices of these coordinates."""

    def __init__(self, model: MorphableModel) -> None:
        """Take the face out of a model.

        Raises:
            ValueError: the model has no region `face`.
        """
        super().__init__()
        region = model.regions.get("face")
        if region is None:
            raise ValueError("This model has no region `face` to draw. Use the default head.")
        inside = (region[model.triangles] > 0.5).all(-1)
        rows, triangles = model.triangles[inside].unique(return_inverse=True)
        basis = torch.cat([model.identity_basis, model.expression_basis])
        for name, value in {
            "rows": rows,
            "mean": model.mean[rows],
            "basis": basis[:, rows],
            "triangles": triangles,
            "uv": model.uv,
            "uv_triangles": model.uv_triangles[inside],
        }.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, coefficients: FaceCoefficients) -> Mesh:
        """Return the faces of coefficients in head space; differentiable."""
        weights = torch.cat([coefficients.identity, coefficients.expression], dim=-1)
        vertices = self.mean + torch.tensordot(weights, self.basis, dims=1)
        return Mesh(vertices, self.triangles, self.uv, self.uv_triangles)


def resized_camera(camera: PerspectiveCamera, size: int) -> PerspectiveCamera:
    """Return the camera of the same square image at another size, pixels on a side."""
    return camera.cropped(0, 0, (size, size), size / camera.image_size[1])
