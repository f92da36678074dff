"""Pictures of luminance and opacity in pyramids of halved sizes, all in one buffer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_LEVELS = 7

Levels = tuple[Tensor, ...]
"""One picture at seven sizes (2, h, w), each half of the one before: luminance times opacity, and
opacity."""


@dataclass(frozen=True)
class Pyramids:
    """Texels of all pictures at all sizes."""

    texels: Float[Tensor, "P 2"]
    """Luminance times opacity, and opacity, row by row."""
    start: Int[Tensor, "L"]
    """First texel of each level of each picture."""
    height: Int[Tensor, "L"]
    """Rows of each level."""
    width: Int[Tensor, "L"]
    """Columns of each level."""

    def pages(
        self, picture: Int[Tensor, "T"], uv: Float[Tensor, "T 3 2"], points: Float[Tensor, "T 3 3"]
    ) -> Int[Tensor, "T"]:
        """Return the level whose texels are about as large as pixels, for each triangle."""
        if len(picture) == 0:
            return picture
        texture_area = _double_area(uv) * (
            self.height[picture * _LEVELS] * self.width[picture * _LEVELS]
        )
        image_area = _double_area(points[..., :2]).clamp(min=1e-9)
        level = (0.5 * (texture_area / image_area).clamp(min=1e-9).log2()).round()
        return picture * _LEVELS + level.clamp(0, _LEVELS - 1).long()


def _double_area(corners: Float[Tensor, "T 3 2"]) -> Float[Tensor, "T"]:
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).abs()


def pyramids(pictures: Sequence[Levels], device: torch.device) -> Pyramids:
    """Return all levels of some pictures in one buffer."""
    levels = [level for picture in pictures for level in picture]
    sizes = [level.shape[-2:] for level in levels]
    counts = torch.tensor([h * w for h, w in sizes], dtype=torch.int64)
    texels = [level.flatten(1).T for level in levels]
    return Pyramids(
        torch.cat(texels).contiguous() if texels else torch.zeros(0, 2, device=device),
        (counts.cumsum(0) - counts).to(device),
        torch.tensor([h for h, _ in sizes], dtype=torch.int64).to(device),
        torch.tensor([w for _, w in sizes], dtype=torch.int64).to(device),
    )


def halved(picture: Float[Tensor, "2 h w"]) -> Levels:
    """Return a picture of luminance and opacity at all sizes, for sampling."""
    level = torch.stack([picture[0] * picture[1], picture[1]])
    levels = [level]
    for _ in range(_LEVELS - 1):
        if min(level.shape[-2:]) > 1:
            level = torch.nn.functional.avg_pool2d(level[None], 2)[0]
        levels.append(level)
    return tuple(levels)
