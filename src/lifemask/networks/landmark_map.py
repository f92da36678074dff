"""Maps of face points that a network reads beside the photo.

As in Tu et al., "Joint 3D face reconstruction and dense face alignment from a single image with
2D-assisted self-supervised learning" (2019): 18 points without the jaw, as one channel.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.perception.correspondences import IBUG68_FROM_DENSE478

POINTS18_FROM_IBUG68 = (
    *((17, 17), (19, 19), (21, 21), (22, 22), (24, 24), (26, 26)),
    *((36, 36), (37, 40), (39, 39), (42, 42), (43, 46), (45, 45)),
    *((31, 31), (30, 30), (35, 35)),
    *((48, 48), (62, 66), (54, 54)),
)
"""Each point is the mean of two iBUG points: brows, eyes with their centres, nose, mouth with its
centre; from the image's left to its right."""

IMPORTANCE18 = (
    *(0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    *(0.5, 1.0, 0.5, 0.5, 1.0, 0.5),
    *(0.5, 2.0, 0.5),
    *(1.0, 2.0, 1.0),
)
"""How much each point counts in losses: most of all the tip of the nose and the mouth's centre."""

_FIRST, _SECOND = ([IBUG68_FROM_DENSE478[pair[k]] for pair in POINTS18_FROM_IBUG68] for k in (0, 1))


SIGMA = 1.5 / 120
"""Standard deviation of the Gaussians of a soft map, in sides of the frame."""


@dataclass(frozen=True)
class LandmarkMap:
    """Draws the points of crops as a channel for a network."""

    size: int
    """Pixels on a side of the map."""
    frame_side: int
    """Pixels on a side of the crops."""
    soft: bool = True
    """Gaussians, see `soft_map`; else single pixels, see `binary_map`."""

    def __call__(
        self, points: Float[Tensor, "batch N 2"], weight: Float[Tensor, "batch N"]
    ) -> Float[Tensor, "batch 1 size size"]:
        """Return the maps.

        Args:
            points: (x, y) in crop pixels; any value, also NaN, where the weight is 0.
            weight: 0 (unknown) to 1; without known points a map is empty.
        """
        scaled = points * (self.size / self.frame_side)
        drawn = (
            soft_map(scaled, weight, size=self.size, sigma=SIGMA * self.size)
            if self.soft
            else binary_map(scaled, weight, size=self.size)
        )
        return drawn.unsqueeze(1)


class MapReader(nn.Module):
    """Convolutions that turn a landmark map into features of the whole map.

    A map is almost empty: random biases would outweigh it, and small weights would let it fade, so that
    all maps would look the same for thousands of steps. So no layer before the norm has a bias, and the
    weights keep the size of the signal (He et al. 2015).
    """

    CHANNELS = (16, 32, 48, 64)
    """Channels after each halving of the resolution."""

    GATHERED = 16
    """Channels of the last map, at the last resolution."""

    def __init__(self, size: int, features: int) -> None:
        """Start from random weights.

        Args:
            size: pixels on a side of the maps, a multiple of 16.
            features: numbers that go out.
        """
        super().__init__()
        widths = (1, *self.CHANNELS)
        layers: list[nn.Module] = []
        for given, channels in pairwise(widths):
            layers += [nn.Conv2d(given, channels, 4, 2, 1, bias=False), nn.ReLU()]
        layers += [nn.Conv2d(widths[-1], self.GATHERED, 1, bias=False), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.whole = nn.Sequential(
            nn.Linear(self.GATHERED * (size // 2 ** len(self.CHANNELS)) ** 2, features, bias=False),
            nn.LayerNorm(features),
            nn.ReLU(),
        )
        for weight in (*self.layers.parameters(), *self.whole[0].parameters()):
            nn.init.kaiming_normal_(weight, nonlinearity="relu")

    def forward(self, drawn: Float[Tensor, "batch 1 m m"]) -> Float[Tensor, "batch features"]:
        """Return the features of maps."""
        return self.whole(self.layers(drawn).flatten(1))


def points18(dense: Float[Tensor, "*batch 478 d"]) -> Float[Tensor, "*batch 18 d"]:
    """Return the 18 points of dense points, in the same space."""
    return (dense[..., _FIRST, :] + dense[..., _SECOND, :]) / 2


def weights18(dense: Float[Tensor, "*batch 478"]) -> Float[Tensor, "*batch 18"]:
    """Return how well the 18 points are known: as well as the worse of their dense points."""
    return torch.minimum(dense[..., _FIRST], dense[..., _SECOND])


def soft_map(
    points: Float[Tensor, "*batch N 2"],
    weight: Float[Tensor, "*batch N"],
    *,
    size: int,
    sigma: float,
) -> Float[Tensor, "*batch size size"]:
    """Return the sum of a Gaussian at each point, whose height is the point's weight.

    It is differentiable in the points and knows fractions of pixels. Without known points it is 0.

    Args:
        points: (x, y) in pixels of the map; any value, also NaN, where the weight is 0.
        weight: 0 (unknown) to 1.
        size: pixels on a side of the map.
        sigma: standard deviation of the Gaussians in pixels.
    """
    known = points.where((weight > 0).unsqueeze(-1), 0.0)
    centres = torch.arange(size, device=points.device, dtype=points.dtype) + 0.5
    columns, rows = (
        torch.exp(-0.5 * ((centres - known[..., axis, None]) / sigma).square()) for axis in (0, 1)
    )
    return (rows * weight.unsqueeze(-1)).transpose(-1, -2) @ columns


def binary_map(
    points: Float[Tensor, "*batch N 2"], weight: Float[Tensor, "*batch N"], *, size: int
) -> Float[Tensor, "*batch size size"]:
    """Return the paper's map: 1 at the pixels that hold a known point, -1 elsewhere.

    Points outside count as on the border. There is no gradient.

    Args:
        points: (x, y) in pixels of the map; any value, also NaN, where the weight is 0.
        weight: 0 (unknown) to 1.
        size: pixels on a side of the map.
    """
    is_known = weight > 0
    column, row = points.detach().where(is_known.unsqueeze(-1), 0.0).floor().unbind(-1)
    place = row.clamp(0, size - 1) * size + column.clamp(0, size - 1)
    empty = points.new_full((*points.shape[:-2], size * size), -1.0)
    # A maximum, as a pixel may hold a known point and the place of an unknown one.
    marks = is_known.to(points) * 2 - 1
    return empty.scatter_reduce(-1, place.long(), marks, "amax").unflatten(-1, (size, size))
