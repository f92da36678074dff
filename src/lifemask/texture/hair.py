"""Hair on the texture of a mesh without hair: its presence, its place and its colour."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.io.colour import LUMINANCE, image_from_pixels
from lifemask.perception.observation import FaceObservation
from lifemask.rendering.filters import fill_unknown, gaussian_blur, resized

_ENOUGH_TEXELS = 40
"""Fewest texels of clear hair for which its colour is used."""
_ENOUGH_COVERAGE = 0.25
"""A head counts as bald if the share of hair on its visible scalp is below this."""
_HAIR_BESIDE = 0.3
"""Smallest area of hair beside the head, over that of the visible face, for hair on the crown."""
_HAIR_IN_VIEW = 0.12
"""The same if the photo does not show the scalp."""
_SCALP_UNSEEN = 300
"""Fewest texels of clear skin or hair on the scalp for which the scalp counts as visible."""
_ABOVE, _BESIDE = (0.25, 0.55), (0.4, 0.7)
"""Quantiles of brightness of hair on the scalp and beside the face that are its colour: the crown has
highlights, and hair beside the face has shadows."""
_REACH = 5.0
"""Distance in texels over which the photo's hairline is extended."""
_CROWN = 22.0
"""Approximate distance of the crown behind the hairline in texels."""
_EDGE = 7.0
"""Softness of the hairline in texels."""
_WARMEST, _COOLEST = 1.5, -0.15
"""Range of the logarithm of red over blue of hair: red hair, and grey hair in the light of the sky."""
_GREENISH = 0.06
"""Largest difference of the logarithm of green from the mean of red and blue, in dark hair."""
_DYED = (0.03, 0.12)
"""Linear brightness from which hair may have any hue, in part and wholly: dark chroma is noise."""
_LIKE_SKIN_BRIGHTNESS, _LIKE_SKIN_HUE = 0.3, 0.25
"""Hair whose log brightness and log chroma (root mean square) are this near to those of the skin is skin
that shines through."""
_LESS_RED = 0.1
"""Unless its logarithm of red over green is lower than that of the skin by more than this: blood makes skin
redder than blond hair."""


@dataclass(frozen=True)
class HairEstimate:
    """The hair in the photo."""

    coverage: float
    """Share of the visible scalp that hair covers, 0 (bald) to 1."""
    colour: Float[Tensor, "3"] | None
    """Linear RGB without light; None for a bald head or if the photo shows no hair."""
    contrast: float = 0.35
    """Spread of the logarithm of its brightness."""
    growth: Float[Tensor, "R R"] | None = None
    """Where hair grows, 0 to 1; None stands for the model's scalp if the photo does not show it."""

    def paint(
        self, albedo: Float[Tensor, "3 R R"], scalp: Float[Tensor, "r r"]
    ) -> tuple[Float[Tensor, "3 R R"], Float[Tensor, "rows R"]]:
        """Return the texture with short hair on the scalp that thins out towards the hairline.

        Returns:
            The texture, and how much of it is hair, 0 to 1, for its uppermost rows; other rows have
            no hair.
        """
        size = albedo.shape[-1]
        if self.colour is None:
            return albedo, albedo.new_zeros(0, size)
        growth = scalp if self.growth is None else self.growth
        edge = resized(gaussian_blur(growth[None], _EDGE), size)[0]
        rows = int((edge.amax(-1) > 0.06).nonzero().amax()) + 1 if bool((edge > 0.06).any()) else 0
        edge, strands = edge[:rows], _strands(size)[:rows]
        amount = edge.add(strands - 0.5, alpha=0.6).sub_(0.22).div_(0.48).clamp_(0, 1)
        amount.mul_(((edge - 0.05) / 0.35).clamp_(0, 1))
        tone = (strands - 0.5).mul_(3.0).add_(_clumps(size)[:rows] - 0.5, alpha=1.6)
        tone = tone.mul_(self.contrast).exp_().mul_(amount)
        painted = albedo.clone()
        painted[:, :rows] *= 1 - amount
        for channel, value in zip(painted[:, :rows], self.colour.tolist(), strict=True):
            channel.add_(tone, alpha=value)
        return painted.clamp_(0, 1), amount


def estimate_hair(
    texture: Float[Tensor, "3 R R"],
    visibility: Float[Tensor, "R R"],
    segments: Float[Tensor, "6 R R"],
    scalp: Float[Tensor, "R R"],
    log_shading: Float[Tensor, "3 R R"],
    *,
    beside: Float[Tensor, "3 N"] | None = None,
    beside_share: float = 0.0,
    face_colour: Float[Tensor, "3"] | None = None,
) -> HairEstimate:
    """Measure coverage, colour and extent of the hair on the visible scalp.

    Args:
        texture: the unwrapped photo, linear.
        visibility: of each texel, 0 to 1.
        segments: class probabilities at each texel: background, hair, body, face, clothes, other.
        scalp: how far each texel belongs to the scalp, 0 to 1.
        log_shading: logarithm of the light on each texel.
        beside: light-free colours of hair anywhere in the photo, for heads with a hidden scalp.
        beside_share: their area as a share of the face's.
        face_colour: light-free, linear RGB; hair of this colour is a bare scalp.
    """
    shown = visibility * (scalp > 0.5)
    hair = (segments[1] > 0.7) & (shown > 0.5)
    skin = ((segments[2] + segments[3]) > 0.6) & (shown > 0.5)
    n_hair, n_skin = int(hair.sum()), int(skin.sum())
    coverage = n_hair / max(n_hair + n_skin, 1)
    found: list[tuple[Tensor, float]] = []
    if n_hair >= _ENOUGH_TEXELS and coverage >= _ENOUGH_COVERAGE:
        above = (texture.clamp(min=1e-3).log() - log_shading)[:, hair].exp()
        found.append(_colour(above, _ABOVE))
    least = _HAIR_IN_VIEW if n_hair + n_skin < _SCALP_UNSEEN else _HAIR_BESIDE
    if beside is not None and beside.shape[-1] >= _ENOUGH_TEXELS and beside_share > least:
        found.append(_colour(beside, _BESIDE))
    if not found:
        return HairEstimate(coverage, None)
    colour = torch.stack([colour.log() for colour, _ in found]).mean(0).exp()
    if face_colour is not None and _like(colour, face_colour):
        return HairEstimate(coverage, None)
    colour = hair_hue(colour)
    growth = _growth(visibility, segments, scalp)
    if beside_share > _HAIR_BESIDE:
        # With this much hair beside the head, the crown has hair too.
        growth = torch.maximum(growth, _crown(scalp))
    return HairEstimate(coverage, colour, found[0][1], growth)


def hair_hue(colour: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    """Return the nearest linear RGB that hair has; dark hair is black or brown, bright hair may be dyed."""
    brightness = colour.mean().clamp(min=1e-4)
    red, green, blue = colour.clamp(min=1e-4).log().unbind()
    warm, greenish = red - blue, green - (red + blue) / 2
    free = float(((brightness - _DYED[0]) / (_DYED[1] - _DYED[0])).clamp(0, 1))
    # Too warm hair has lost its blue, and would turn yellow if only that came back.
    greenish = greenish * (_WARMEST / warm.clamp(min=_WARMEST))
    warm = torch.lerp(warm.clamp(_COOLEST, _WARMEST), warm.clamp(max=_WARMEST), free)
    greenish = torch.lerp(greenish.clamp(-_GREENISH, _GREENISH), greenish, free)
    hue = torch.stack([warm / 2, greenish, -warm / 2]).exp()
    return hue / hue.mean() * brightness


def _like(hair: Float[Tensor, "3"], skin: Float[Tensor, "3"]) -> bool:
    """Whether two light-free colours are nearly the same."""
    apart = hair.clamp(min=1e-4).log() - skin.clamp(min=1e-4).log()
    hue = (apart - apart.mean()).square().mean().sqrt()
    weights = hair.new_tensor(LUMINANCE)
    brighter = ((hair @ weights) / (skin @ weights).clamp(min=1e-4)).log()
    near = brighter.abs() < _LIKE_SKIN_BRIGHTNESS and hue < _LIKE_SKIN_HUE
    return bool(near) and bool(apart[0] - apart[1] > -_LESS_RED)


def hair_beside(
    pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation, shading: Float[Tensor, "3"]
) -> tuple[Float[Tensor, "3 N"], float]:
    """Return light-free colours of the hair around the face, and its area over that of the face.

    Args:
        pixels: the photo, sRGB.
        shading: light on a surface that faces the camera.
    """
    if observation.segmentation is None:
        return torch.zeros(3, 0), 0.0
    segments = observation.segmentation[:, ::4, ::4]
    hair = segments[1] > 0.8
    area = int((segments[3] > 0.5).sum())
    rows, columns = hair.nonzero().unbind(-1)
    crop = torch.stack([columns * 4 + 0.5, rows * 4 + 0.5, torch.ones(len(rows))], -1)
    x, y = (crop @ observation.segmentation_to_photo.float().T).floor().long().unbind(-1)
    height, width = pixels.shape[:2]
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    found = pixels[y[inside].numpy(), x[inside].numpy()]
    colours = image_from_pixels(np.ascontiguousarray(found[None]))[:, 0]
    return colours / shading[:, None].clamp(min=1e-3), int(inside.sum()) / max(area, 1)


def _colour(
    colours: Float[Tensor, "3 N"], ranks: tuple[float, float]
) -> tuple[Float[Tensor, "3"], float]:
    """Return a typical colour without highlights, and the spread of the log brightness.

    Args:
        ranks: lower and upper quantile of brightness of the colours that count.
    """
    brightness = colours.mean(0).clamp(min=1e-3)
    low, high = brightness.quantile(brightness.new_tensor(ranks)).tolist()
    middle = (brightness >= low) & (brightness <= high)
    colour = colours[:, middle].median(dim=-1).values.clamp(0.004, 0.8)
    spread = float(brightness[middle].log().std()) if int(middle.sum()) > 2 else 0.2
    return colour, min(max(1.5 * spread, 0.28), 0.45)


def _growth(
    visibility: Float[Tensor, "R R"], segments: Float[Tensor, "6 R R"], scalp: Float[Tensor, "R R"]
) -> Float[Tensor, "R R"]:
    """Return where hair grows, 0 to 1: the model's scalp with the photo's hairline if visible."""
    hair, skin = segments[1], segments[2] + segments[3]
    usual = gaussian_blur(scalp[None], 2.0)[0]
    near = (gaussian_blur(scalp[None], _EDGE)[0] > 0.08).float()
    known = visibility * near * ((hair + skin - 0.6) / 0.3).clamp(0, 1)
    known = gaussian_blur(known[None], 2.0)[0].clamp(0, 1)
    mirrored = known.flip(-1) * 0.6 * (1 - known)
    change = (hair / (hair + skin).clamp(min=1e-3) - usual) * near
    total = known + mirrored
    both = known * change + mirrored * change.flip(-1)
    carried = fill_unknown(both[None], total)[0]
    reach = gaussian_blur((total > 0.3).float()[None], _REACH)[0]
    return (usual + carried * torch.maximum(total.clamp(max=1), reach)).clamp(0, 1)


def _crown(scalp: Float[Tensor, "R R"]) -> Float[Tensor, "R R"]:
    """Return the part of the scalp that lies well behind the usual hairline."""
    wide = gaussian_blur(scalp[None], _CROWN)[0]
    return ((wide - 0.72) / 0.2).clamp(0, 1) * scalp


@lru_cache(maxsize=2)
def _strands(size: int) -> Float[Tensor, "R R"]:
    """Return fixed, fine noise in [0, 1] around 0.5, stretched along v, the hair's direction."""
    total = torch.zeros(size, size)
    for seed, (along, across, share) in enumerate(((10, 1.5, 0.6), (26, 4, 0.6))):
        total += share * (_noise(size, size // along, round(size / across), seed) - 0.5)
    return (total + 0.5).clamp(0, 1)


@lru_cache(maxsize=2)
def _clumps(size: int) -> Float[Tensor, "R R"]:
    """Return fixed, coarse noise, in [0, 1] around 0.5: locks that lie together."""
    return _noise(size, 12, 40, 9)


def _noise(size: int, rows: int, columns: int, seed: int) -> Float[Tensor, "R R"]:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 1, rows, columns, generator=generator)
    return torch.nn.functional.interpolate(
        noise, (size, size), mode="bicubic", align_corners=False
    )[0, 0].clamp(0, 1)
