"""The colour of the light, as the whites of the eyes tell it.

Skin alone does not tell dark, reddish skin under blue light from neutral light. The white of the eye has
nearly the same colour in all people. It counts only where it is much brighter than the skin around:
else lids and lashes may be taken for it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.io.colour import linear_from_srgb
from lifemask.perception.observation import FaceObservation

_EYES = ((33, 133, 159, 145, 468, 469), (263, 362, 386, 374, 473, 474))
"""Corners, middles of upper and lower lid, centre and border of the iris."""
_CHEEKS = (50, 280)
"""Points on the cheeks; the brighter one is compared with the whites."""
_WHITE = (0.12, 0.0, -0.12)
"""Log chroma of whites under white light, with what lids and skin reflect: measured on pale people."""
_BRIGHTER = (0.5, 1.2)
"""Log luminance of whites over that of skin from which they tell the light, in part and wholly."""
_FEWEST_PIXELS = 24
_CLIPPED = 0.95


@dataclass(frozen=True)
class EyeWhites:
    """What the whites of the eyes say about the light."""

    chroma: Float[Tensor, "3"]
    """Logarithm of each channel of the light towards the camera, minus the mean."""
    trust: float
    """0 to 1."""


def eye_whites(
    pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation
) -> EyeWhites | None:
    """Return what the whites say; None where they are too small, hidden, or no brighter than skin.

    Args:
        pixels: the photo, sRGB.
        observation: of the face.
    """
    landmarks = torch.as_tensor(observation.landmarks478)[:, :2].float()
    colours = torch.cat([_white_pixels(pixels, landmarks, eye) for eye in _EYES])
    if len(colours) < _FEWEST_PIXELS:
        return None
    brightness = colours.mean(1)
    chosen = (brightness >= brightness.median()) & (colours.amax(1) < _CLIPPED)
    if not bool(chosen.any()):
        return None
    white = colours[chosen].median(0).values.clamp(min=1e-3)
    skin = max(float(_around(pixels, landmarks[point]).mean()) for point in _CHEEKS)
    low, high = _BRIGHTER
    brighter = float(white.mean().log()) - float(np.log(max(skin, 1e-3)))
    trust = min(max((brighter - low) / (high - low), 0.0), 1.0)
    if trust == 0:
        return None
    chroma = white.log() - white.log().mean() - white.new_tensor(_WHITE)
    return EyeWhites(chroma, trust)


def _white_pixels(
    pixels: UInt8[np.ndarray, "H W 3"], landmarks: Float[Tensor, "478 2"], eye: tuple[int, ...]
) -> Float[Tensor, "N 3"]:
    """Return linear RGB between the lids and beside the iris, away from corners and lashes."""
    outer, inner, upper, lower, iris, border = (landmarks[point] for point in eye)
    width = (inner - outer).norm().clamp(min=1e-3)
    along = (inner - outer) / width
    down = torch.stack([-along[1], along[0]])
    down = down * torch.where((lower - upper) @ down < 0, -1.0, 1.0)
    height, columns = pixels.shape[:2]
    reach = (lower - upper).norm()
    low = (torch.minimum(outer, inner) - reach).long().clamp(min=0)
    high = (torch.maximum(outer, inner) + reach).long()
    x1, y1 = min(int(high[0]), columns), min(int(high[1]), height)
    y, x = torch.meshgrid(
        torch.arange(int(low[1]), max(y1, int(low[1]))),
        torch.arange(int(low[0]), max(x1, int(low[0]))),
        indexing="ij",
    )
    points = torch.stack([x, y], -1).float() + 0.5
    share = (points - outer) @ along / width
    rise = (points - outer) @ down
    # Lids are parabolas between the corners.
    arch = 4 * share * (1 - share)
    top, bottom = ((lid - outer) @ down * arch for lid in (upper, lower))
    opening = bottom - top
    inside = (share > 0.12) & (share < 0.88)
    inside &= (rise > top + 0.3 * opening) & (rise < top + 0.85 * opening)
    inside &= (points - iris).norm(dim=-1) > 1.15 * (border - iris).norm()
    return _linear(pixels[y.numpy(), x.numpy()])[inside]


def _around(pixels: UInt8[np.ndarray, "H W 3"], point: Float[Tensor, "2"]) -> Float[Tensor, "N 3"]:
    column, row = (int(value) for value in point)
    part = pixels[max(row - 2, 0) : max(row + 3, 1), max(column - 2, 0) : max(column + 3, 1)]
    return _linear(part).reshape(-1, 3)


def _linear(part: UInt8[np.ndarray, "*N 3"]) -> Float[Tensor, "*N 3"]:
    return linear_from_srgb(torch.from_numpy(part.astype(np.float32) / 255))
