"""Residual networks (He et al., "Deep residual learning for image recognition", 2016): image to features."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.networks.face_trunk import ResidualBlock

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
"""Blocks of each stage of the networks with 18 and 50 layers."""

EXPANSION = 4
"""Channels that leave a block of ResNet-50, relative to those inside of it."""


class ResidualNetwork(nn.Module):
    """ResNet-50 or ResNet-18 from random weights, without its classes."""

    def __init__(
        self, *, input_channels: int = 3, width: int = 64, last_stride: int = 2, layers: int = 50
    ) -> None:
        """Start from random weights.

        Args:
            input_channels: channels of the images.
            width: channels inside the blocks of the first stage, which double from stage to stage;
                64 is that of the paper.
            last_stride: stride of the last stage; 1 keeps a larger last map of small images.
            layers: 50, or 18 for blocks of two convolutions.

        Raises:
            ValueError: another number of layers.
        """
        super().__init__()
        if layers not in BLOCKS:
            raise ValueError(f"Got layers={layers}; allowed are {sorted(BLOCKS)}.")
        block_class, expansion = (ResidualBlock, 1) if layers == 18 else (Bottleneck, EXPANSION)
        self.stem = nn.Sequential(
            nn.Conv2d(input_channels, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        blocks: list[nn.Module] = []
        given = width
        strides = (1, 2, 2, last_stride)
        for stage, (count, stride) in enumerate(zip(BLOCKS[layers], strides, strict=True)):
            inner = width * 2**stage
            for block in range(count):
                blocks.append(block_class(given, inner, stride if block == 0 else 1))
                given = inner * expansion
        self.blocks = nn.Sequential(*blocks)
        self.features = given

    def forward(self, images: Float[Tensor, "batch C h w"]) -> Float[Tensor, "batch n"]:
        """Return `features` numbers for each image: the mean of the last map."""
        return self.blocks(self.stem(images)).mean((-1, -2))


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut; it starts as the shortcut alone."""

    def __init__(self, given: int, inner: int, stride: int) -> None:
        """Start from random weights.

        Args:
            given: channels that come in.
            inner: channels of the 3 x 3 convolution; `EXPANSION` times as many go out.
            stride: 1, or 2 to halve the resolution.
        """
        super().__init__()
        channels = inner * EXPANSION
        last = nn.BatchNorm2d(channels)
        nn.init.zeros_(last.weight)
        self.inner = nn.Sequential(
            nn.Conv2d(given, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1, bias=False),
            last,
        )
        self.shortcut = (
            nn.Identity()
            if given == channels and stride == 1
            else nn.Sequential(
                nn.Conv2d(given, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        )

    def forward(self, x: Float[Tensor, "batch g h w"]) -> Float[Tensor, "batch c h2 w2"]:
        """Return the next map."""
        return F.relu(self.shortcut(x) + self.inner(x))
