"""Named points of the face, each attached to a triangle of the mesh."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class LandmarkEmbedding:
    """N points that are attached to the mesh."""

    triangle_index: Int[Tensor, "N"]
    """Triangle that each point is attached to."""
    barycentric: Float[Tensor, "N 3"]
    """Weights of its three corners; they sum to one."""
    weight: Float[Tensor, "N"]
    """How precisely the point's place on the mesh is known, 0 to 1."""

    def points(
        self, vertices: Float[Tensor, "*batch V 3"], triangles: Int[Tensor, "T 3"]
    ) -> Float[Tensor, "*batch N 3"]:
        """Return the points on the given vertices, in the vertices' space and unit."""
        corners = vertices[..., triangles[self.triangle_index], :]
        return (corners * self.barycentric[..., None]).sum(-2)

    def to(self, device: torch.device | str) -> "LandmarkEmbedding":
        """Return the same points on another device."""
        return LandmarkEmbedding(
            self.triangle_index.to(device), self.barycentric.to(device), self.weight.to(device)
        )


@dataclass(frozen=True)
class FaceLandmarks:
    """All landmark sets of a model; a set that is not known is None."""

    landmarks68: LandmarkEmbedding | None = None
    """68 points in iBUG's order, jaw first, fixed on the surface whether hidden or not. On the default
    head they have the places of AFLW2000-3D."""
    landmarks68_outline: LandmarkEmbedding | None = None
    """68 points of iBUG 300-W at their places on a frontal face; the jaw slides from there."""
    aflw21: LandmarkEmbedding | None = None
    """21 points of AFLW, in the order of that data set, ear lobes included."""
    dense478: LandmarkEmbedding | None = None
    """478 points of MediaPipe's face mesh with irises."""
    surface200: LandmarkEmbedding | None = None
    """200 points on forehead, temples, cheeks, jaw, nose and ears, where the dense points have gaps;
    points 2k and 2k + 1 are mirror images."""
    contours: Int[Tensor, "17 L"] | None = None
    """Vertices among which points 0 to 16 of `landmarks68_outline` slide when the head rotates; -1
    pads."""


def landmarks_from_tensors(tensors: dict[str, Tensor]) -> FaceLandmarks:
    """Return the landmark sets stored as `NAME.triangle_index`, `NAME.barycentric`, `NAME.weight`.

    NAME is `landmarks68`, `landmarks68_outline`, `aflw21`, `dense478` or
    `surface200`; `contours` is one tensor.
    If there is only one set of 68 points, it is used for both.
    """

    def embedding(name: str) -> LandmarkEmbedding | None:
        if f"{name}.triangle_index" not in tensors:
            return None
        return LandmarkEmbedding(
            tensors[f"{name}.triangle_index"].long(),
            tensors[f"{name}.barycentric"].float(),
            tensors[f"{name}.weight"].float(),
        )

    contours = tensors.get("contours")
    return FaceLandmarks(
        embedding("landmarks68") or embedding("landmarks68_outline"),
        embedding("landmarks68_outline") or embedding("landmarks68"),
        embedding("aflw21"),
        embedding("dense478"),
        embedding("surface200"),
        None if contours is None else contours.long(),
    )
