"""The best similarity transform or rigid motion between two point sets (Umeyama, 1991)."""

import torch
from jaxtyping import Float
from torch import Tensor


def align_points(
    source: Float[Tensor, "*batch N 3"],
    target: Float[Tensor, "*batch N 3"],
    weights: Float[Tensor, "*batch N"] | None = None,
    *,
    with_scale: bool = False,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch 3"]]:
    """Return scale s, rotation R, translation t that minimise sum w |s R source + t - target|².

    Reflections are excluded. Without `with_scale` the scale is one.
    """
    if weights is None:
        weights = torch.ones_like(source[..., 0])
    weights = (weights / weights.sum(-1, keepdim=True)).unsqueeze(-1)
    source_mean = (weights * source).sum(-2, keepdim=True)
    target_mean = (weights * target).sum(-2, keepdim=True)
    a, b = source - source_mean, target - target_mean
    u, singular, vh = torch.linalg.svd((b * weights).transpose(-1, -2) @ a)
    sign = torch.linalg.det(u @ vh).sign()
    flip = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)
    rotation = (u * flip.unsqueeze(-2)) @ vh
    scale = torch.ones_like(sign)
    if with_scale:
        scale = (singular * flip).sum(-1) / (weights * a * a).sum((-1, -2))
    moved = scale[..., None] * (rotation @ source_mean.transpose(-1, -2)).squeeze(-1)
    return scale, rotation, target_mean.squeeze(-2) - moved
