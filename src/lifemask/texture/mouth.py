"""Teeth: their colour in the photo, darker towards the back of the mouth."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_LIT_METRES, _DARK_METRES, _DARKEST_THROAT = 0.014, 0.016, 0.06
"""Depth behind the front of the mouth down to which light reaches, over which it fades, and its rest."""
_GROOVE, _GROOVE_METRES = 0.3, 0.0016
"""Darkness of the groove of the tongue, and half its width."""
_INNER_LIPS = (
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95,
)  # fmt: skip
"""Dense landmarks around the mouth's opening, in order."""
_LOWEST_OPENING = 4.0
"""Fewest pixels between the lips for which the colour of the teeth is measured."""
_BRIGHTEST_SHARE = 0.3
"""Share of the opening's pixels, the brightest, that is taken for teeth."""
_REDDEST = 1.5
"""Largest ratio of red to green of teeth; redder pixels are tongue or lip."""
_LEAST = 0.25
_MOST = 0.50
"""Linear luminance of teeth without light."""
_DEFAULT = (0.45, 0.42, 0.36)
"""Linear RGB of teeth that the photo does not show."""
_ENAMEL_FROM = 0.6
"""Quantile of the brightness of the teeth in the texture from which they are enamel."""
_FRONT_METRES = 0.008
_BACK_METRES = 0.026
"""Distance from the middle at which the shade towards the corners begins and ends."""


def teeth_colour(
    photo: Float[Tensor, "3 H W"],
    landmarks: Float[Tensor, "478 2"],
    shading: Float[Tensor, "3"],
) -> Float[Tensor, "3"] | None:
    """Return the light-free linear RGB of the teeth, or None where the photo shows none.

    Args:
        photo: linear RGB.
        landmarks: dense landmarks in this photo's pixels.
        shading: light on a surface that faces the camera.
    """
    lips = landmarks[list(_INNER_LIPS)]
    if float((landmarks[13] - landmarks[14]).norm()) < _LOWEST_OPENING:
        return None
    height, width = photo.shape[-2:]
    left, top = lips.amin(0).floor().long().clamp(min=0).tolist()
    right, bottom = lips.amax(0).ceil().long().tolist()
    right, bottom = min(right, width), min(bottom, height)
    if right - left < 2 or bottom - top < 2:
        return None
    y, x = torch.meshgrid(
        torch.arange(top, bottom) + 0.5, torch.arange(left, right) + 0.5, indexing="ij"
    )
    middle = lips.mean(0)
    inside = _inside(torch.stack([x, y], -1), middle + 0.85 * (lips - middle))
    pixels = photo[:, top:bottom, left:right][:, inside]
    if pixels.shape[-1] < 12:
        return None
    brightness = pixels.mean(0)
    teeth = pixels[:, brightness >= brightness.quantile(1 - _BRIGHTEST_SHARE)]
    colour = teeth.median(dim=-1).values / shading.clamp(min=1e-3)
    if colour[0] > _REDDEST * colour[1] or colour.mean() < 0.5 * _LEAST:
        return None
    luminance = colour.mean()
    hue = colour / luminance
    usual = colour.new_tensor(_DEFAULT) / sum(_DEFAULT) * 3
    return (0.25 * hue + 0.75 * usual) * luminance.clamp(_LEAST, _MOST)


def teeth_change(
    colour: Float[Tensor, "3"] | None,
    log_albedo: Float[Tensor, "3 R R"],
    teeth: Float[Tensor, "R R"],
    side_metres: Float[Tensor, "R R"],
) -> Float[Tensor, "3 R R"]:
    """Return the change of the log albedo that gives teeth a colour, darker towards the corners.

    Args:
        colour: linear RGB, None for the usual one.
        log_albedo: the model's.
        teeth: how far each texel shows teeth, 0 to 1.
        side_metres: distance of each texel from the middle of the mean head.
    """
    where = teeth > 0.5
    if not bool(where.any()):
        return torch.zeros_like(log_albedo)
    if colour is None:
        colour = log_albedo.new_tensor(_DEFAULT)
    # Gums and gaps are darker and redder; measured against them, enamel would turn cyan.
    brightness = log_albedo[:, where].mean(0)
    enamel = log_albedo[:, where][:, brightness >= brightness.quantile(_ENAMEL_FROM)]
    change = colour.log() - enamel.median(dim=-1).values
    deep = ((side_metres - _FRONT_METRES) / (_BACK_METRES - _FRONT_METRES)).clamp(0, 1)
    return teeth * (change[:, None, None] + (1 - 0.6 * deep).log())


def mouth_shade(
    position: Float[Tensor, "3 R R"], inside: Float[Tensor, "R R"], tongue: Float[Tensor, "R R"]
) -> Float[Tensor, "R R"]:
    """Return the share of the light that reaches each texel in the mouth; 1 elsewhere.

    The throat is dark. The tongue is darker at its sides, so it looks round, and in its groove.

    Args:
        position: of each texel on the mean head, metres.
        inside: how far each texel belongs to mouth or tongue, 0 to 1.
        tongue: how far it belongs to the tongue, 0 to 1.
    """
    where = inside > 0.5
    if not bool(where.any()):
        return torch.ones_like(inside)
    side, depth = position[0].abs(), position[2, where].amax() - position[2]
    deep = ((depth - _LIT_METRES) / _DARK_METRES).clamp(min=0)
    shade = _DARKEST_THROAT + (1 - _DARKEST_THROAT) * torch.exp(-(deep**2))
    on_tongue = tongue > 0.5
    if bool(on_tongue.any()):
        half = side[on_tongue].quantile(0.95)
        rounded = 1 - 0.5 * (side / half).clamp(max=1) ** 3
        groove = 1 - _GROOVE * torch.exp(-((side / _GROOVE_METRES) ** 2))
        shade = shade * torch.lerp(torch.ones_like(shade), rounded * groove, tongue)
    return torch.lerp(torch.ones_like(shade), shade, inside.clamp(0, 1))


def _inside(points: Float[Tensor, "H W 2"], polygon: Float[Tensor, "N 2"]) -> Bool[Tensor, "H W"]:
    """Return which points lie in a polygon; the count of edges to their right is odd."""
    crossings = torch.zeros(points.shape[:2], dtype=torch.long)
    for a, b in zip(polygon, polygon.roll(-1, 0), strict=True):
        rises = (a[1] > points[..., 1]) != (b[1] > points[..., 1])
        at = a[0] + (points[..., 1] - a[1]) * (b[0] - a[0]) / (b[1] - a[1] + 1e-9)
        crossings += rises & (points[..., 0] < at)
    return crossings % 2 == 1
