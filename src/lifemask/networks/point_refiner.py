"""Points correct themselves from the features around them, and say how sure they are.

Each of K points reads two feature maps at its own place and at four places around it, moves, and
reads again. What it reads, together with the features of the whole face, becomes a few hidden
features; each point has its own linear map from these to its correction, its uncertainty and its
visibility, as in the supervised descent method (Xiong and De la Torre, CVPR 2013).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

REFINEMENTS = 2
"""How often each point corrects itself."""

REACH = 1.5
"""Distance between a point and the four places around it, in cells of the fine map."""

STEP = 0.05
"""Correction of a point by an output of 1, in units of the image's side."""

FIRST_SIGMA = 0.01
"""Standard deviation that an untrained refiner predicts, in units of the image's side."""

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

    def __init__(
        self,
        count: int,
        *,
        fine_channels: int,
        coarse_channels: int,
        features: int,
        channels: int = 24,
        hidden: int = 64,
    ) -> None:
        """Start with no corrections.

        Args:
            count: number of points, K.
            fine_channels: channels of the fine map.
            coarse_channels: channels of the coarse map, which has half the fine map's side.
            features: numbers that describe the whole face.
            channels: features that a point reads at each place.
            hidden: hidden features of each point.
        """
        super().__init__()
        self.fine = nn.Conv2d(fine_channels, channels, 1)
        self.coarse = nn.Conv2d(coarse_channels, channels, 1)
        self.around = nn.Linear(5 * channels, hidden)
        self.whole = nn.Linear(features, hidden)
        self.readout = nn.Parameter(torch.zeros(count, 4, hidden))
        self.bias = nn.Parameter(torch.zeros(count, 4))

    def forward(
        self,
        first: Float[Tensor, "batch K 2"],
        fine: Float[Tensor, "batch f h w"],
        coarse: Float[Tensor, "batch c h/2 w/2"],
        features: Float[Tensor, "batch n"],
    ) -> RefinedPoints:
        """Return the corrected points.

        Args:
            first: their first estimate.
            fine: map of features over the image.
            coarse: another one.
            features: of the whole face.
        """
        both = self.fine(fine) + F.interpolate(
            self.coarse(coarse), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        told = self.whole(features).unsqueeze(1)
        points, rest = first, self.bias.expand(len(first), -1, -1)
        for _ in range(REFINEMENTS):
            # A sampled place has no gradient: only what is read there tells where to go.
            seen = _sampled(both, points.detach())
            hidden = F.relu(self.around(seen) + told)
            rest = torch.einsum("nkh,kch->nkc", hidden, self.readout) + self.bias
            points = points + rest[..., :2] * STEP
        first_log = torch.log(torch.tensor(FIRST_SIGMA)).to(rest)
        log_sigma = (rest[..., 2] + first_log).clamp(*LOG_SIGMA_RANGE)
        return RefinedPoints(points, log_sigma, rest[..., 3])


def _sampled(
    features: Float[Tensor, "batch C h w"], points: Float[Tensor, "batch K 2"]
) -> Float[Tensor, "batch K F"]:
    """Return the features at points and at four places around each."""
    cell = 2 * REACH / features.shape[-1]
    around = points.new_tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) * cell
    grid = (points * 2 - 1).unsqueeze(2) + around
    found = F.grid_sample(features, grid, padding_mode="border", align_corners=False)
    return found.permute(0, 2, 3, 1).flatten(2)
