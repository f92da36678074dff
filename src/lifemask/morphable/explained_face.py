"""An explained face: shape, skin, camera and light of a face in a photo, in terms of a head model.

Predictors return it, the fit refines it, synthetic faces have it as ground truth, reconstructions
are made from it, and the evaluation measures it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.coefficients import FaceCoefficients


@dataclass(frozen=True)
class UVMap:
    """Values in the texture space of the head."""

    values: Float[Tensor, "*batch C R R"]
    """Row i and column j hold the point at ((j + 0.5) / R, (i + 0.5) / R) in UV."""
    coverage: Float[Tensor, "*batch R R"]
    """1 where the values are valid, 0 where they are undefined."""


@dataclass(frozen=True)
class PredictedLandmarks:
    """Dense landmarks, each with its uncertainty; hidden points are predicted like all others.

    K is 478, the dense points, or 678 with the 200 surface points after them.
    """

    points: Float[Tensor, "*batch K 2"]
    """Image pixels (x, y)."""
    sigma: Float[Tensor, "*batch K"]
    """Standard deviation of each point along each axis, pixels."""
    visible: Float[Tensor, "*batch K"] | None = None
    """Probability that the point faces the camera and nothing hides it; None if not predicted."""


@dataclass(frozen=True)
class ImageNormals:
    """Refined normals of a face in a square of its image; pixels have a scale of their own."""

    values: Float[Tensor, "*batch 3 S S"]
    """Unit vectors in light axes; 0 where the normals of the mesh hold."""
    corner: Float[Tensor, "*batch 2"]
    """Top left corner of the square in image pixels (x, y)."""
    side: Float[Tensor, "*batch"]
    """Length of its edges in image pixels."""


@dataclass(frozen=True)
class ExplainedFace:
    """Shape, skin, pose and light of faces; every part has the same leading batch axes.

    None means "not known": code then uses the head model's value, which is the albedo of the
    coefficients, no displacement, the shading of the light, or the depth of the mesh.
    """

    coefficients: FaceCoefficients
    """Identity, expression, gaze and albedo."""
    camera: PerspectiveCamera
    """The camera of the image, in the image's pixels; its world space is head space."""
    light: SphericalHarmonicsLight
    """Light in light axes: +x right in the image, +y up, +z to the viewer."""
    albedo_map: UVMap | None = None
    """Three channels: linear RGB in [0, 1], without light."""
    displacement_map: UVMap | None = None
    """One channel: metres along the surface normal, positive outwards."""
    light_map: UVMap | None = None
    """Three channels: shading in linear RGB with shadows; albedo times shading is the colour."""
    depth: Float[Tensor, "*batch H W"] | None = None
    """Refined depth in the image: metres along the optical axis; 0 outside the face."""
    normals: ImageNormals | None = None
    """Refined normals in the image. They tell more than the displacement, which a surface that covers
    itself cannot follow everywhere."""
    landmarks: PredictedLandmarks | None = None
    """Dense points that a network predicts in the image, independent of the mesh."""

    def __getitem__(self, index: "int | slice | Shaped[Tensor, '...']") -> "ExplainedFace":
        """Return the faces at an index, a slice or a mask of the first batch axis."""
        return map_tensors(lambda tensor: tensor[index], self)

    def detach(self) -> "ExplainedFace":
        """Return the same faces without gradients."""
        return map_tensors(torch.Tensor.detach, self)

    def to(self, device: torch.device | str) -> "ExplainedFace":
        """Return the same faces on another device."""
        return map_tensors(lambda tensor: tensor.to(device), self)
