"""What points see where they lie on a map of features, each in its own way."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PlaceReader(nn.Module):
    """Gives each of K points a few features of its place, from a map and from the whole face."""

    def __init__(self, count: int, *, near: int, whole: int, hidden: int) -> None:
        """Start from random weights.

        Args:
            count: number of points, K.
            near: channels of the map.
            whole: numbers that describe the whole face.
            hidden: features of each point.
        """
        super().__init__()
        self.near = nn.Linear(near, hidden)
        self.whole = nn.Linear(whole, hidden)
        self.own = nn.Parameter(torch.randn(count, hidden) * 0.1)

    def forward(
        self,
        points: Float[Tensor, "batch K 2"],
        near: Float[Tensor, "batch c h w"],
        whole: Float[Tensor, "batch n"],
    ) -> Float[Tensor, "batch K hidden"]:
        """Return the features of points.

        Args:
            points: in units of the image's side, from its top left corner; outside, the border counts.
                They get no gradient: only what is read tells where to go.
            near: map of features over the image.
            whole: features of the whole face.
        """
        grid = (points.detach() * 2 - 1).unsqueeze(2)
        seen = F.grid_sample(near, grid, padding_mode="border", align_corners=False)
        near_features = self.near(seen.squeeze(-1).transpose(1, 2))
        return F.relu(near_features + self.whole(whole).unsqueeze(1) + self.own)
