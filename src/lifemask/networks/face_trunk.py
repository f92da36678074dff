"""Convolutions on FaceMesh's first maps: what a system learns where those maps stay as they are.

Residual blocks (He et al., CVPR 2016) of plain 3 x 3 convolutions, which processors with matrix units
train several times faster in bfloat16 than the depthwise ones of FaceMesh.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CHANNELS = (48, 96, 128, 128)
"""Channels at a quarter, an eighth, ... of the finest map's resolution, halved each time."""

NEAR = 64
"""Channels of the map that points read at their places."""


class TrunkFeatures(NamedTuple):
    """What a trunk knows about an image."""

    near: Float[Tensor, "batch 64 c c"]
    """Features of each place, at the resolution of the coarse map."""
    whole: Float[Tensor, "batch n"]
    """Features of the whole face."""


class StageMaps(NamedTuple):
    """What the stages of a trunk give for images."""

    first: Float[Tensor, "batch 48 c c"]
    """After the first stage, at the resolution of the coarse map."""
    second: Float[Tensor, "batch 96 d d"]
    """After the second, at half of it."""
    third: Float[Tensor, "batch 128 e e"]
    """After the third, at a quarter of it."""
    whole: Float[Tensor, "batch n"]
    """Features of the whole face."""


class TrunkStages(nn.Module):
    """Reads the maps after FaceMesh's second and third stage (see `BackboneMaps`)."""

    def __init__(self, *, coarse_size: int = 32, whole: int = 256) -> None:
        """Start from random weights.

        Args:
            coarse_size: side of the coarse map, a multiple of 8.
            whole: features of the whole face.
        """
        super().__init__()
        first, second, third, last = CHANNELS
        self.fine = nn.Conv2d(32, 64, 2, 2)
        self.first = ResidualBlock(64, first)
        self.second = nn.Sequential(ResidualBlock(first, second, 2), ResidualBlock(second, second))
        self.third = nn.Sequential(ResidualBlock(second, third, 2), ResidualBlock(third, third))
        self.last = ResidualBlock(third, last, 2)
        self.gathered = nn.Conv2d(last, 64, 1)
        self.whole = nn.Sequential(
            nn.Linear(64 * (coarse_size // 8) ** 2, whole), nn.LayerNorm(whole), nn.ReLU()
        )

    def maps(
        self,
        fine: Float[Tensor, "batch 32 f f"],
        coarse: Float[Tensor, "batch 64 c c"],
    ) -> StageMaps:
        """Return the maps of images.

        Maps of encoded banks come in bfloat16; autocast alone decides on the precision here.
        """
        given = _plain(coarse) + self.fine(_plain(fine))
        first = self.first(given)
        second = self.second(first)
        third = self.third(second)
        whole = self.whole(self.gathered(self.last(third)).flatten(1))
        return StageMaps(first, second, third, whole)


class FaceTrunk(TrunkStages):
    """The stages, and features of each place, for which they meet again."""

    def __init__(self, *, coarse_size: int = 32, whole: int = 256) -> None:
        """Start from random weights; see `TrunkStages`."""
        super().__init__(coarse_size=coarse_size, whole=whole)
        first, second, third, _ = CHANNELS
        self.down = nn.Conv2d(third, second, 1)
        self.beside = nn.Conv2d(second, second, 1)
        self.up = nn.Conv2d(second, NEAR, 1)
        self.near = nn.Conv2d(first, NEAR, 1)

    def forward(
        self, fine: Float[Tensor, "batch 32 f f"], coarse: Float[Tensor, "batch 64 c c"]
    ) -> TrunkFeatures:
        """Return the features of images."""
        first, second, third, whole = self.maps(fine, coarse)
        wide = F.relu(self.beside(second) + F.interpolate(self.down(third), scale_factor=2.0))
        return TrunkFeatures(
            self.near(first) + F.interpolate(self.up(wide), scale_factor=2.0), whole
        )


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; it starts as the shortcut alone."""

    def __init__(self, given: int, channels: int, stride: int = 1) -> None:
        """Start from random weights.

        Args:
            given: channels that come in.
            channels: channels that go out.
            stride: 1, or 2 to halve the resolution.
        """
        super().__init__()
        self.stride = stride
        self.inner = nn.Sequential(
            nn.Conv2d(given, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = (
            nn.Identity()
            if given == channels and stride == 1
            else nn.Sequential(
                nn.Conv2d(given, channels, stride, stride, bias=False), nn.BatchNorm2d(channels)
            )
        )
        last = self.inner[-1]
        assert isinstance(last, nn.BatchNorm2d)
        nn.init.zeros_(last.weight)

    def forward(self, x: Float[Tensor, "batch g h w"]) -> Float[Tensor, "batch c h2 w2"]:
        """Return the next map; the half of an odd side is rounded up."""
        below, beside = (side % self.stride for side in x.shape[-2:])
        if below or beside:
            x = F.pad(x, (0, beside, 0, below))
        return F.relu(self.shortcut(x) + self.inner(x))


def _plain(features: Tensor) -> Tensor:
    return features.float().contiguous(memory_format=torch.channels_last)
