"""What a network says about the face in a crop."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
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
