"""Pictures of luminance and opacity in pyramids of halved sizes, all in one buffer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_LEVELS = 7


@dataclass(frozen=True)
class Pyramids:
    """Texels of all pictures at all sizes."""

    texels: Float[Tensor, "P 2"]
    """Luminance times opacity, and opacity; row by row."""
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


_cache: dict[int, tuple[Tensor, list[Tensor]]] = {}


def pyramids(pictures: Sequence[Float[Tensor, "2 _ _"]], device: torch.device) -> Pyramids:
    """Return the pyramids of some pictures, each halved until it is one texel."""
    levels = [level for picture in pictures for level in _halved(picture)]
    sizes = [level.shape[-2:] for level in levels]
    counts = torch.tensor([h * w for h, w in sizes], dtype=torch.int64)
    texels = [level.flatten(1).T for level in levels]
    return Pyramids(
        torch.cat(texels).contiguous() if texels else torch.zeros(0, 2, device=device),
        (counts.cumsum(0) - counts).to(device),
        torch.tensor([h for h, _ in sizes], dtype=torch.int64).to(device),
        torch.tensor([w for _, w in sizes], dtype=torch.int64).to(device),
    )


def _halved(picture: Float[Tensor, "2 h w"]) -> list[Float[Tensor, "2 a b"]]:
    """Return all levels of one picture; those of a picture that lives on are kept with it."""
    known = _cache.get(id(picture))
    if known is not None and known[0] is picture:
        return known[1]
    level = torch.stack([picture[0] * picture[1], picture[1]])
    levels = [level]
    for _ in range(_LEVELS - 1):
        if min(level.shape[-2:]) > 1:
            level = torch.nn.functional.avg_pool2d(level[None], 2)[0]
        levels.append(level)
    if picture.shape[-1] >= 128 or picture.shape[-1] == 1:
        _cache[id(picture)] = (picture, levels)
    return levels
