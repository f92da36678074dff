"""A U-Net: from maps to maps of the same size (Ronneberger et al., MICCAI 2015).

The last layer is zero, so an untrained network says 0 everywhere.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MOST = 8
"""Channels of the deepest levels, at most, in units of those of the first."""


class EncoderDecoder(nn.Module):
    """Halves the resolution level by level, doubles it again, and reads each level once more."""

    def __init__(self, given: int, outputs: int, *, levels: int, width: int) -> None:
        """Start from random weights.

        Args:
            given: channels that come in.
            outputs: channels that go out.
            levels: how often the resolution is halved; the side of the maps is a multiple of 2^levels.
            width: channels at the full resolution, which double from level to level.
        """
        super().__init__()
        channels = [width * min(2**level, MOST) for level in range(levels + 1)]
        self.first = _convolution(given, width)
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(a, b, stride=2), _convolution(b, b))
            for a, b in pairwise(channels)
        )
        self.up = nn.ModuleList(
            _convolution(b + a, a) for a, b in reversed(list(pairwise(channels)))
        )
        self.last = nn.Conv2d(width, outputs, 1)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, maps: Float[Tensor, "batch g R R"]) -> Float[Tensor, "batch c R R"]:
        """Return the maps that the network makes of others."""
        x = self.first(maps.contiguous(memory_format=torch.channels_last))
        beside: list[Tensor] = []
        for level in self.down:
            beside.append(x)
            x = level(x)
        for level in self.up:
            x = F.interpolate(x, scale_factor=2.0)
            x = level(torch.cat([x, beside.pop()], 1))
        return self.last(x)


class StridedEncoder(nn.Module):
    """Six convolutions that halve the resolution: from maps to numbers that know their places."""

    def __init__(self, given: int, *, size: int, width: int) -> None:
        """Start from random weights.

        Args:
            given: channels that come in.
            size: side of the maps.
            width: channels after the first convolution; at most four times as many after others.
        """
        super().__init__()
        channels = [given, *(width * min(2**k, 4) for k in range(6))]
        self.layers = nn.Sequential(*(_convolution(a, b, stride=2) for a, b in pairwise(channels)))
        side = size
        for _ in range(6):
            side = (side + 1) // 2
        self.features = channels[-1] * side**2

    def forward(self, maps: Float[Tensor, "batch g R R"]) -> Float[Tensor, "batch n"]:
        """Return `features` numbers for each map."""
        return self.layers(maps.contiguous(memory_format=torch.channels_last)).flatten(1)


def _convolution(given: int, channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(given, channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
