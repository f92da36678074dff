"""Photos without colours: the texture keeps its brightness and gets one hue."""

from jaxtyping import Float
from torch import Tensor

from lifemask.texture.light_separation import DARKEST

_GREY = 0.02
"""A photo has no colours if the log chroma of its face spreads less than this."""


def is_grey(photo: Float[Tensor, "3 R R"], weight: Float[Tensor, "R R"]) -> bool:
    """Whether an unwrapped photo (linear RGB) has no colours where it shows the face."""
    seen = weight > 0.5
    if int(seen.sum()) < 100:
        return False
    log = photo[:, seen].clamp(min=DARKEST).log()
    return bool((log - log.mean(0)).square().mean().sqrt() < _GREY)


def toned(
    albedo: Float[Tensor, "3 R R"], log_colour: Float[Tensor, "3 r r"], weight: Float[Tensor, "r r"]
) -> Float[Tensor, "3 R R"]:
    """Return the texture with its own brightness and one hue everywhere.

    Args:
        albedo: linear RGB.
        log_colour: log colour that each texel must have for the photo to be grey.
        weight: how far each texel shows skin, 0 to 1.
    """
    hue = (log_colour - log_colour.mean(0))[:, weight > 0.5].mean(-1)
    return (albedo.mean(0) * hue.exp()[:, None, None]).clamp(0, 1)
