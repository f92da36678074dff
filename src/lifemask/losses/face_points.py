"""The points of a head that losses use: far fewer than its vertices, linear in its coefficients."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.landmarks import LandmarkEmbedding
from lifemask.morphable.model import MorphableModel

IRIS_FROM = 468
"""Dense points from this index on lie on the irises; they rotate with the gaze (not linear)."""

SURFACE_STRIDE = 8
"""Losses use one of this many vertices of the face."""

# The jaw of `landmarks68_outline` slides along the outline in the image. Photos label it there, so
# neither its place on a frontal face nor the fixed one of `landmarks68` agrees with those labels.
_JAW = tuple(i for i in range(17) if i != 8)
_EAR_LOBES = (12, 16)


class FacePoints(nn.Module):
    """Landmarks and a sample of the surface, without the eyes' corrections of `MorphableModel`."""

    mean: Float[Tensor, "N 3"]
    """All points of the mean face, head space, metres."""
    basis: Float[Tensor, "P N 3"]
    """Their motion per unit of each coefficient, metres; identity first, then expression."""
    weight68: Float[Tensor, "68"]
    """How precisely each iBUG point is known, 0 to 1; 0 for those that slide along the jaw."""
    weight478: Float[Tensor, "478"]
    """The same for the dense points; 0 for the irises."""
    weight21: Float[Tensor, "21"]
    """The same for AFLW's points; 0 for the ear lobes, because their annotation is imprecise."""

    def __init__(self, model: MorphableModel) -> None:
        """Use the points of a model.

        Raises:
            ValueError: the model lacks one of the three sets of landmarks.
        """
        super().__init__()
        embeddings = (model.landmarks68_outline, model.dense478, model.aflw21)
        more = model.surface200
        if any(embedding is None for embedding in embeddings):
            raise ValueError(
                "This model lacks 68, 478 or 21 landmarks, so nothing can be trained on it. Use "
                "the default head."
            )
        sets = [embedding for embedding in embeddings if embedding is not None]
        surface = torch.nonzero(model.regions["face"] > 0.5).squeeze(-1)[::SURFACE_STRIDE]

        def gather(per_vertex: Float[Tensor, "*batch V 3"]) -> Float[Tensor, "*batch N 3"]:
            points = [embedding.points(per_vertex, model.triangles) for embedding in sets]
            if more is not None:
                points.insert(2, more.points(per_vertex, model.triangles))
            return torch.cat([*points, per_vertex[..., surface, :]], dim=-2)

        basis = torch.cat([gather(model.identity_basis), gather(model.expression_basis)])
        self.register_buffer("mean", gather(model.mean), persistent=False)
        self.register_buffer("basis", basis, persistent=False)
        self._sizes = [68, 478, 0 if more is None else 200, 21, len(surface)]
        weights = [self._weights(embedding) for embedding in sets]
        weights[0][list(_JAW)] = 0
        weights[1][IRIS_FROM:] = 0
        weights[2][list(_EAR_LOBES)] = 0
        for name, weight in zip(("weight68", "weight478", "weight21"), weights, strict=True):
            self.register_buffer(name, weight, persistent=False)

    def forward(
        self, coefficients: FaceCoefficients
    ) -> tuple[
        Float[Tensor, "*batch 68 3"],
        Float[Tensor, "*batch 478 3"],
        Float[Tensor, "*batch 21 3"],
        Float[Tensor, "*batch S 3"],
    ]:
        """Return iBUG, dense, AFLW and surface points in head space, metres."""
        weights = torch.cat([coefficients.identity, coefficients.expression], dim=-1)
        points = self.mean + torch.tensordot(weights, self.basis, dims=1)
        ibug68, dense478, _, aflw21, surface = points.split(self._sizes, dim=-2)
        return ibug68, dense478, aflw21, surface

    def dense(self, coefficients: FaceCoefficients) -> Float[Tensor, "*batch K 3"]:
        """Return the 478 dense points, then the 200 surface points if the model has them."""
        rows = self.dense_rows
        weights = torch.cat([coefficients.identity, coefficients.expression], dim=-1)
        return self.mean[rows] + torch.tensordot(weights, self.basis[:, rows], dims=1)

    @property
    def dense_rows(self) -> slice:
        """Where the points of `dense` are in `mean` and `basis`."""
        return slice(self._sizes[0], sum(self._sizes[:3]))

    @property
    def surface_basis(self) -> Float[Tensor, "P S 3"]:
        """The motion of only the surface points per unit of each coefficient, metres."""
        return self.basis[:, -self._sizes[-1] :]

    @staticmethod
    def _weights(embedding: LandmarkEmbedding) -> Float[Tensor, "N"]:
        return embedding.weight.clone().float()
