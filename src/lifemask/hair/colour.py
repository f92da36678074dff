"""The colours of a head of hair: the photo's own where it shows them, continued by strands behind."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight, light_axes_from_camera
from lifemask.io.colour import image_from_pixels
from lifemask.perception.observation import FaceObservation
from lifemask.perception.photo_segments import segmentation_at
from lifemask.rendering.filters import fill_unknown, gaussian_blur
from lifemask.texture.hair import hair_hue

_DARKEST = 0.002
_SHADING, _SOFTENED = (0.2, 2.0), 0.6
"""Range of the shading over that of a surface which faces the camera, and a power for it."""
SPREAD_OF_STRANDS = 0.17
"""Standard deviation of `strands`."""
_BRIGHTER = 0.8
"""Log of the brightness over the usual one above which hair is a highlight."""
_HUES, _MOST_HUE = 0.7, 0.12
"""Share of the differences in hue that is kept, and their limit (logarithm)."""
_ENOUGH = 500
"""Fewest texels of hair whose spectrum is used."""


@dataclass(frozen=True)
class SeenHair:
    """What the photo shows at places on hair."""

    colour: Float[Tensor, "3 R C"]
    """Linear RGB without light."""
    weight: Float[Tensor, "R C"]
    """How far the colour is that of hair, 0 to 1."""
    hair: Float[Tensor, "R C"]
    """Probability of hair."""
    shown: Float[Tensor, "R C"]
    """How far the photo shows the place, 0 to 1."""


def seen_hair(
    pixels: UInt8[np.ndarray, "H W 3"],
    camera: PerspectiveCamera,
    light: SphericalHarmonicsLight,
    observation: FaceObservation,
    points: Float[Tensor, "R C 3"],
    normals: Float[Tensor, "R C 3"],
    wanted: Bool[Tensor, "R C"],
) -> SeenHair:
    """Return what the photo shows at points in head space with unit normals.

    Args:
        wanted: where it is looked up.
    """
    size = points.shape[:2]
    in_camera = camera.to_camera(points)
    turned = normals @ camera.world_to_camera[:3, :3].T
    facing = -(turned * torch.nn.functional.normalize(in_camera, dim=-1)).sum(-1)
    places = camera.project_from_camera(in_camera.flatten(0, 1))[:, :2].view(*size, 2)
    height, width = pixels.shape[:2]
    inside = ((places > 1) & (places < places.new_tensor([width - 1, height - 1]))).all(-1)
    chosen = wanted & inside & (facing > 0.05)
    colour, hair = torch.ones(3, *size), torch.zeros(size)
    if bool(chosen.any()):
        at = places[chosen]
        hair[chosen] = segmentation_at(observation, at)[:, 1]
        colour[:, chosen] = (
            _photo_at(pixels, at) / hair_shading(light, light_axes_from_camera(turned[chosen])).T
        )
    weight = ((facing - 0.2) / 0.3).clamp(0, 1) * ((hair - 0.75) / 0.2).clamp(0, 1) * chosen
    shown = ((facing - 0.25) / 0.25).clamp(0, 1) * chosen
    return SeenHair(colour.clamp(_DARKEST, 0.9), weight, hair, shown)


def hair_shading(
    light: SphericalHarmonicsLight, normals: Float[Tensor, "N 3"]
) -> Float[Tensor, "N 3"]:
    """Return the shading of hair at normals in light axes: softer than that of skin, of one hue.

    A light fitted to a face is uncertain on surfaces that look elsewhere, and hair passes light on.
    """
    towards = light.shade(light.coefficients.new_tensor([[0.0, 0.0, 1.0]]))[0].clamp(min=1e-3)
    strength = light.shade(normals).mean(-1, keepdim=True) / towards.mean()
    return towards * strength.clamp(*_SHADING).pow(_SOFTENED)


def _photo_at(
    pixels: UInt8[np.ndarray, "H W 3"], places: Float[Tensor, "N 2"]
) -> Float[Tensor, "3 N"]:
    low = (places.amin(0) - 1).floor().clamp(min=0).long()
    high = places.amax(0).ceil().long() + 1
    part = np.ascontiguousarray(pixels[low[1] : high[1], low[0] : high[0]])
    image = image_from_pixels(part)
    grid = (places - low) / places.new_tensor([image.shape[2], image.shape[1]]) * 2 - 1
    return torch.nn.functional.grid_sample(
        image[None], grid[None, None], padding_mode="border", align_corners=False
    )[0, :, 0]


def continued(seen: SeenHair, usual: Float[Tensor, "3"], contrast: float) -> Float[Tensor, "3 R C"]:
    """Return colours everywhere: those of the photo, and strands like them elsewhere.

    The strands have the power spectrum of those in the photo: Galerne et al., "Random phase
    textures: theory and synthesis", 2011.

    Args:
        usual: of this hair, linear RGB.
        contrast: spread of the logarithm of the brightness of strands, if the photo shows too few.
    """
    rows, columns = seen.weight.shape
    weight, log = seen.weight, seen.colour.log()
    tone = (strands(rows, columns) - 0.5) * (contrast / SPREAD_OF_STRANDS)
    middle = usual.clamp(min=_DARKEST).log()
    known = weight > 0.9
    if int(known.sum()) > _ENOUGH:
        brightness = log.mean(0)
        mean = gaussian_blur((brightness * weight)[None], 8.0)[0] / gaussian_blur(
            weight[None], 8.0
        )[0].clamp(min=0.05)
        fine = (brightness - mean) * known
        spread = float(fine[known].std())
        white = torch.randn(rows, columns, generator=torch.Generator().manual_seed(5))
        own = torch.fft.irfft2(torch.fft.rfft2(fine) * torch.fft.rfft2(white), s=(rows, columns))
        own *= 1 / own.std().clamp(min=1e-6)
        generic = (strands(rows, columns) - 0.5) / SPREAD_OF_STRANDS
        tone = (0.8 * own + 0.6 * generic) * min(max(spread, 0.08), 0.28)
        middle = 0.25 * middle + 0.75 * log[:, known].median(-1).values
        middle = hair_hue(middle.exp()).log()
    # Highlights at the rim of the hair belong to the photo's light.
    excess = (log.mean(0) - middle.mean() - _BRIGHTER).clamp(min=0)
    log = log - 0.7 * excess
    log = _of_one_hue(log, middle)
    weak = 1e-4
    far = fill_unknown(log * weight + middle[:, None, None] * weak, (weight + weak).clamp(max=1))
    # Beside what the photo shows the tone goes on; farther away it is that of all hair.
    near = (gaussian_blur(weight[None], 40.0)[0] / 0.25).clamp(0, 1)
    made = torch.lerp(middle[:, None, None].expand_as(far), far, near) + tone
    return torch.lerp(made, log, weight).exp().clamp(0, 1)


def _of_one_hue(log: Float[Tensor, "3 R C"], middle: Float[Tensor, "3"]) -> Float[Tensor, "3 R C"]:
    """Return colours whose hue is near the usual one; background shines through the rim of hair."""
    brightness, usual = log.mean(0), middle - middle.mean()
    away = log - brightness - usual[:, None, None]
    return brightness + usual[:, None, None] + (_HUES * away).clamp(-_MOST_HUE, _MOST_HUE)


@lru_cache(maxsize=2)
def strands(rows: int, columns: int) -> Float[Tensor, "R C"]:
    """Return fixed noise in [0, 1] around 0.5, stretched along the columns; it closes around."""
    total = torch.zeros(rows, columns)
    for seed, (along, across, share) in enumerate(((14, 1.6, 0.55), (40, 5, 0.5), (70, 16, 0.4))):
        generator = torch.Generator().manual_seed(seed)
        few = round(columns / across)
        noise = torch.rand(1, 1, max(4, rows // along), few, generator=generator)
        noise = torch.cat([noise[..., -2:], noise, noise[..., :2]], dim=-1)
        wide = round(columns * (few + 4) / few)
        large = torch.nn.functional.interpolate(
            noise, (rows, wide), mode="bicubic", align_corners=False
        )[0, 0]
        start = (wide - columns) // 2
        total += share * (large[:, start : start + columns] - 0.5)
    return (total + 0.5).clamp(0, 1)
