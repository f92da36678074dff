"""FaceMesh-V2: the residual network that finds 478 three-dimensional points on a face crop.

Architecture as in MediaPipe's `face_landmarks_detector`: a stem, seven stages of bottleneck blocks
that halve the resolution from 128 to 2, and linear heads for points and presence.
"""

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CROP_SIZE = 256
"""Pixels on a side of the crop that the network was trained on."""

POINT_COUNT = 478
"""468 points of the mesh and five on each iris."""


class FaceMeshOutput(NamedTuple):
    """Points in crop units and how sure the network is that they lie on a face."""

    points: Float[Tensor, "batch 478 3"]
    """x, y in [0, 1] from the crop's top left; z in the same unit, smaller is nearer."""
    presence_logit: Float[Tensor, " batch"]
    """Below about 5 the points deserve distrust; negative on most profiles."""


class FaceMeshNetwork(nn.Module):
    """Image crops to points. Differentiable; runs on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2)
        self.stem_activation = nn.PReLU(16)
        widths = (16, 32, 64, 128, 128, 128, 128)
        stages: list[nn.Module] = []
        for stage, width in enumerate(widths):
            blocks: list[nn.Module] = [_Bottleneck(width) for _ in range(4)]
            if stage:
                blocks.insert(0, _Downsample(widths[stage - 1], width))
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.presence = nn.Conv2d(128, 1, 2)
        self.points = nn.Conv2d(128, 3 * POINT_COUNT, 2)

    def forward(self, crops: Float[Tensor, "batch 3 256 256"]) -> FaceMeshOutput:
        """Find the points on sRGB crops with values 0..1."""
        # TensorFlow's SAME padding of a stride-two convolution falls on the far side only.
        x = self.stem_activation(self.stem(F.pad(crops, (0, 1, 0, 1))))
        x = self.stages(x)
        points = self.points(x).reshape(-1, POINT_COUNT, 3) / CROP_SIZE
        return FaceMeshOutput(points, self.presence(x).reshape(-1))


class _Bottleneck(nn.Module):
    """Residual block: reduce, depthwise 3x3, expand."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = nn.Conv2d(channels, half, 1)
        self.reduce_activation = nn.PReLU(half)
        self.depthwise = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.expand = nn.Conv2d(half, channels, 1)
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.depthwise(self.reduce_activation(self.reduce(x))))
        return self.activation(x + y)


class _Downsample(nn.Module):
    """Residual block that halves the resolution; the skip is pooled and zero-padded in channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.reduce = nn.Conv2d(inputs, half, 2, stride=2)
        self.reduce_activation = nn.PReLU(half)
        self.depthwise = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.expand = nn.Conv2d(half, outputs, 1)
        self.activation = nn.PReLU(outputs)
        self.new_channels = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.depthwise(self.reduce_activation(self.reduce(x))))
        skip = F.pad(F.max_pool2d(x, 2), (0, 0, 0, 0, 0, self.new_channels))
        return self.activation(skip + y)
