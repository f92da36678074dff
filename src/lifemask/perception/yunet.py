"""YuNet: a small convolutional face detector with five points (Wu et al., 2023), as a torch module."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STRIDES = (8, 16, 32)
"""Pixels between neighbouring cells of the three output grids."""


class Candidates(NamedTuple):
    """Candidate faces of all cells of the three grids, before non-maximum suppression."""

    boxes: Float[Tensor, "*batch N 4"]
    """x0, y0, x1, y1 in input pixels."""
    keypoints: Float[Tensor, "*batch N 5 2"]
    """Image-left eye, image-right eye, nose tip, image-left and image-right mouth corner."""
    scores: Float[Tensor, "*batch N"]
    """Geometric mean of the class and the objectness score, 0..1."""


class YuNet(nn.Module):
    """Backbone of separable convolutions, a three-level feature pyramid, and one head per level."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.backbone = nn.ModuleList(
            [
                _Separable(16, 16),
                nn.Sequential(_Separable(16, 16), _Separable(16, 32)),
                nn.Sequential(_Separable(32, 32), _Separable(32, 64)),
                nn.Sequential(_Separable(64, 64), _Separable(64, 64)),
                nn.Sequential(_Separable(64, 64), _Separable(64, 64)),
                nn.Sequential(_Separable(64, 64), _Separable(64, 64)),
            ]
        )
        self.neck = nn.ModuleList(_Separable(64, 64) for _ in STRIDES)
        self.heads = nn.ModuleList(_Separable(64, 16, relu=False) for _ in STRIDES)

    def forward(
        self, images: Float[Tensor, "batch 3 H W"]
    ) -> tuple[
        Float[Tensor, "batch 16 H8 W8"],
        Float[Tensor, "batch 16 H16 W16"],
        Float[Tensor, "batch 16 H32 W32"],
    ]:
        """Return three output grids, for `decode`, of sRGB images with values 0..1.

        H and W must be multiples of 32.
        """
        x = F.relu_(self.stem(images))
        features: list[Tensor] = []
        for level, block in enumerate(self.backbone):
            # There is a pooling in front of every block except the first and the third.
            x = block(x if level in (0, 2) else F.max_pool2d(x, 2))
            features.append(x)
        coarse = self.neck[2](features[5])
        middle = self.neck[1](features[4] + F.interpolate(coarse, scale_factor=2.0))
        fine = self.neck[0](features[3] + F.interpolate(middle, scale_factor=2.0))
        return self.heads[0](fine), self.heads[1](middle), self.heads[2](coarse)


def decode(grids: tuple[Tensor, Tensor, Tensor]) -> Candidates:
    """Convert the network's output to boxes, points and scores in input pixels."""
    levels = [_decode_grid(grid, stride) for grid, stride in zip(grids, STRIDES, strict=True)]
    return Candidates(*(torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)))


def _decode_grid(
    grid: Float[Tensor, "batch 16 rows columns"], stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    rows, columns = grid.shape[-2:]
    cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(-1).to(grid)
    cell_values = grid.flatten(2).transpose(1, 2)
    score, box, objectness, points = cell_values.split((1, 4, 1, 10), dim=-1)
    centre, size = (box[..., :2] + cells) * stride, box[..., 2:].exp() * stride
    return (
        torch.cat([centre - size / 2, centre + size / 2], dim=-1),
        (points.unflatten(-1, (5, 2)) + cells.unsqueeze(-2)) * stride,
        (score.sigmoid() * objectness.sigmoid()).sqrt().squeeze(-1),
    )


class _Separable(nn.Module):
    """Pointwise, then depthwise convolution, with an optional ReLU."""

    def __init__(self, inputs: int, outputs: int, *, relu: bool = True) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(inputs, outputs, 1)
        self.depthwise = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.pointwise(x))
        return F.relu_(x) if self.relu else x
