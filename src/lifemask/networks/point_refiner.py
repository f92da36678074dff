"""Points correct themselves from the features around them, and say how sure they are.

Each of K points reads a map of features at its own place. What it reads, together with the features
of the whole face, becomes a few hidden features; each point has its own linear map from these to its
correction, its uncertainty and its visibility, as in the supervised descent method (Xiong and De la
Torre, CVPR 2013).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.networks.place_reader import PlaceReader

STEP = 0.05
"""Correction of a point by an output of 1, in units of the image's side."""

FIRST_LOG_SIGMA = -4.6
"""Logarithm of the standard deviation that an untrained refiner predicts: 1 % of the image's side."""

LOG_SIGMA_RANGE = (-7.0, 0.0)
"""Range of the natural logarithm of predicted standard deviations, in the same unit."""


class RefinedPoints(NamedTuple):
    """Points in units of the image's side, from its top left corner."""

    points: Float[Tensor, "batch K 2"]
    """The corrected points."""
    log_sigma: Float[Tensor, "batch K"]
    """Logarithm of the standard deviation along each axis."""
    visible_logit: Float[Tensor, "batch K"]
    """Log-odds that the point is visible."""


class PointRefiner(nn.Module):
    """Corrects K points on feature maps of one image."""

    def __init__(self, count: int, *, near: int, whole: int, hidden: int = 64) -> None:
        """Start with no corrections.

        Args:
            count: number of points, K.
            near: channels of the map.
            whole: numbers that describe the whole face.
            hidden: hidden features of each point.
        """
        super().__init__()
        self.places = PlaceReader(count, near=near, whole=whole, hidden=hidden)
        self.readout = nn.Parameter(torch.zeros(count, 4, hidden))
        self.bias = nn.Parameter(torch.zeros(count, 4))

    def forward(
        self,
        first: Float[Tensor, "batch K 2"],
        near: Float[Tensor, "batch c h w"],
        whole: Float[Tensor, "batch n"],
    ) -> RefinedPoints:
        """Return the corrected points.

        Args:
            first: their first estimate.
            near: map of features over the image.
            whole: features of the whole face.
        """
        hidden = self.places(first, near, whole)
        rest = torch.einsum("nkh,kch->nkc", hidden, self.readout) + self.bias
        log_sigma = (rest[..., 2] + FIRST_LOG_SIGMA).clamp(*LOG_SIGMA_RANGE)
        return RefinedPoints(first + rest[..., :2] * STEP, log_sigma, rest[..., 3])
