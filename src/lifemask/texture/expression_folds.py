"""Takes the folds of an expression out of a displacement, so that the neutral head does not keep them.

One photo does not say which part of a smile line stays when the smile ends. The drawn faces know where
each expression folds the skin; there, and as far as the expression is active, the displacement shrinks.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.data.synthetic.wrinkles import FAMILIES, WrinkleDrawings, wrinkle_weights
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.filters import gaussian_blur

_FOLD_SHARE = 0.75
"""Share of the displacement that a full expression has folded."""
_OLD_YEARS = 75.0
"""Age at which `wrinkle_weights` gives the full depth of an expression."""
_SIZE = 256
_SOFT_TEXELS = 2.0
_DEPTH_METRES = 0.0002
"""Depth of a drawn fold from which its place counts fully."""


def without_expression_folds(
    displacement: Float[Tensor, "R R"], expression: Float[Tensor, "52"], model: MorphableModel
) -> Float[Tensor, "R R"]:
    """Return a displacement as it is at rest.

    Args:
        displacement: metres along the normal, with the expression.
        expression: ARKit weights in the photo.
        model: the head.
    """
    _, folded = wrinkle_weights(expression.numpy(), _OLD_YEARS)
    kept = torch.ones(_SIZE, _SIZE)
    for place, (left, right) in zip(_fold_places(model), folded.tolist(), strict=True):
        kept = kept * (1 - _FOLD_SHARE * left * place)
        kept = kept * (1 - _FOLD_SHARE * right * place.flip(-1))
    large = F.interpolate(kept[None, None], displacement.shape, mode="bilinear")[0, 0]
    return displacement * large


@lru_cache(maxsize=2)
def _fold_places(model: MorphableModel) -> tuple[Float[Tensor, "S S"], ...]:
    """Return where each family of wrinkles lies on the left side, 0 to 1."""
    drawings = WrinkleDrawings(model, _SIZE)
    places: list[Tensor] = []
    for row, boxes in zip(drawings.patches, drawings.boxes, strict=True):
        deepest = torch.zeros(_SIZE, _SIZE)
        for patch, (top, bottom, left, right) in zip(row, boxes, strict=True):
            part = deepest[top:bottom, left:right]
            torch.maximum(part, patch.abs(), out=part)
        places.append(gaussian_blur((deepest / _DEPTH_METRES).clamp(0, 1)[None], _SOFT_TEXELS)[0])
    assert len(places) == len(FAMILIES)
    return tuple(places)
