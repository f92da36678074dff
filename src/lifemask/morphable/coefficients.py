"""The numbers that describe one face: identity, expression, gaze and albedo."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FaceCoefficients:
    """Input of a morphable model. All zeros is the neutral mean face."""

    identity: Float[Tensor, "*batch I"]
    """Standard deviations from the mean person."""
    expression: Float[Tensor, "*batch E"]
    """Weights in [0, 1] in the order of the model's `expression_names`."""
    gaze: Float[Tensor, "*batch 2 2"]
    """Eyeball rotations in radians: (left eye, right eye) x (yaw towards +X, pitch up positive)."""
    albedo: Float[Tensor, "*batch A"]
    """Standard deviations from the mean skin."""

    def to(self, device: torch.device | str) -> "FaceCoefficients":
        """Return the same coefficients on another device."""
        return FaceCoefficients(
            **{field.name: getattr(self, field.name).to(device) for field in fields(self)}
        )
