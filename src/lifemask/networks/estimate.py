"""What a network says about the face in a crop."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.viewpoints import Viewpoint, camera_of, viewpoint_of
from lifemask.morphable.coefficients import FaceCoefficients


@dataclass(frozen=True)
class FaceEstimate:
    """Shape, skin, pose and light of one face per crop; all with the same leading batch axes."""

    coefficients: FaceCoefficients
    """Identity, expression, gaze and albedo of the default head."""
    camera: PerspectiveCamera
    """The camera of the crop, in the crop's pixels; its world is the head's own space."""
    light: SphericalHarmonicsLight
    """Light in the axes of that camera, +y up, +z to the viewer."""

    def __getitem__(self, index: "int | slice | Shaped[Tensor, '...']") -> "FaceEstimate":
        """Return the estimates at an index, a slice or a mask of the first batch axis."""
        return self._each(lambda tensor: tensor[index])

    def detach(self) -> "FaceEstimate":
        """Return the same estimate without its history."""
        return self._each(torch.Tensor.detach)

    def to(self, device: torch.device | str) -> "FaceEstimate":
        """Return the same estimate on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(
        self, change: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]
    ) -> "FaceEstimate":
        given = self.coefficients
        coefficients = FaceCoefficients(
            **{f.name: change(getattr(given, f.name)) for f in fields(given)}
        )
        camera = PerspectiveCamera(
            change(self.camera.focal_pixels),
            change(self.camera.principal_point),
            change(self.camera.world_to_camera),
            self.camera.image_size,
        )
        light = SphericalHarmonicsLight(change(self.light.coefficients))
        return FaceEstimate(coefficients, camera, light)


def mean_estimate(estimates: FaceEstimate, weights: Float[Tensor, "N"]) -> FaceEstimate:
    """Return the mean of several estimates of one face.

    Heads are averaged as they are seen: rotation, place, size, distance (the latter two as
    logarithms), so that the mean lies where its parts do.

    Args:
        estimates: with one batch axis of length N, in the same picture.
        weights: of each; any scale, not all 0.
    """
    weights = weights / weights.sum()

    def mean(values: Float[Tensor, "N *shape"]) -> Float[Tensor, "*shape"]:
        return torch.tensordot(weights.to(values), values, dims=1)

    view = viewpoint_of(estimates.camera)
    left, _, right = torch.linalg.svd(mean(view.rotation))
    # The nearest rotation, never a reflection.
    sign = torch.linalg.det(left @ right)
    rotation = left * torch.stack([torch.ones_like(sign)] * 2 + [sign]) @ right
    seen = Viewpoint(
        rotation,
        mean(view.place),
        mean(view.pixels_per_metre.log()).exp(),
        mean(view.distance.log()).exp(),
    )
    middle = mean(estimates.camera.principal_point)
    given = estimates.coefficients
    return FaceEstimate(
        FaceCoefficients(**{f.name: mean(getattr(given, f.name)) for f in fields(given)}),
        camera_of(seen, middle, estimates.camera.image_size),
        SphericalHarmonicsLight(mean(estimates.light.coefficients)),
    )
