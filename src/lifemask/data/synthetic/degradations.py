"""Camera degradations: changes of a picture by lenses, sensors and files."""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.data.synthetic import camera_kernels
from lifemask.data.synthetic.config import SyntheticConfig
from lifemask.data.synthetic.scenes import is_compiled
from lifemask.io.colour import linear_from_srgb, srgb_from_linear
from lifemask.rendering.backends import BackendName

_NOISE_POOL = 1 << 20
_CONTRAST, _SATURATION = 1.36, 0.64
"""Usual contrast and saturation of cameras, relative to the scene."""


@dataclass(frozen=True)
class CameraDegradations:
    """The degradations of one picture by a camera and its file."""

    blur: float
    """Standard deviation of the blur, in pixels of a picture of 224 x 224."""
    sharpening: float
    """Amplification of detail of about one pixel; 0 is none."""
    motion: tuple[float, float]
    """Blur along a line (right, down), in pixels of a picture of 224 x 224."""
    resolution: float
    """Effective pixels along each side, divided by the picture's."""
    read_noise: float
    """Standard deviation of the noise without light, linear."""
    shot_noise: float
    """Variance of the noise per unit of light, linear."""
    noise_size: float
    """Size of the grain in pixels: 1 is the sensor's; smoothing or enlarging makes it larger."""
    contrast: float
    """Exponent around middle grey; 1 is no change."""
    black: float
    """Scattered light added to all pixels, linear."""
    vignette: float
    """Share of the light lost in the corners."""
    saturation: float
    """1 is no change, 0 a grey photo."""
    quality: float
    """JPEG quality from 1 to 100; above 99 there is no compression."""
    half_colour: bool
    """Whether colour is stored at half resolution."""
    noise_seed: int
    """Start of the picture's grain in the pool of noise."""


def sample_degradations(rng: np.random.Generator, config: SyntheticConfig) -> CameraDegradations:
    """Return random degradations of one picture; most are weak, some are strong."""
    amount = config.degradations
    poor = rng.random() < 0.2
    blur = (0.25 + 0.35 * rng.random() + (rng.uniform(0, 2.0) if poor else 0.0)) * amount
    # Cameras with little blur mostly sharpen.
    sharpening = 0.0
    if not poor and rng.random() < 0.6:
        blur, sharpening = 0.0, rng.uniform(0.1, 0.9) * amount
    angle, length = rng.uniform(0, math.pi), 0.0
    if rng.random() < 0.08:
        length = rng.uniform(1, 7) * amount
    small = rng.random() < 0.3
    resolution = math.exp(rng.uniform(math.log(0.22), 0)) if small and amount > 0 else 1.0
    iso = math.exp(rng.uniform(math.log(0.02), math.log(1.0))) * amount
    grain = float(rng.choice([1.0, 1.0, 1.6, 2.2]))
    if amount == 0:
        return CameraDegradations(0, 0, (0, 0), 1, 0, 0, 1, 1, 0, 0, 1, 100, False, 0)
    return CameraDegradations(
        blur=blur,
        sharpening=sharpening,
        motion=(length * math.cos(angle), length * math.sin(angle)),
        resolution=resolution,
        read_noise=0.004 * iso,
        shot_noise=0.0006 * iso,
        noise_size=grain,
        contrast=float(np.clip(_CONTRAST + 0.18 * rng.standard_normal(), 0.8, 1.75)),
        black=max(0.0, 0.004 * rng.standard_normal()) * amount,
        vignette=float(rng.random() < 0.3) * rng.uniform(0, 0.35),
        saturation=0.0 if rng.random() < config.grey else float(
            np.clip(_SATURATION + 0.15 * rng.standard_normal(), 0.4, 1.25)
        ),
        quality=float(rng.uniform(30, 98)) if rng.random() < 0.8 else 100.0,
        half_colour=bool(rng.random() < 0.7),
        noise_seed=int(rng.integers(0, _NOISE_POOL)),
    )  # fmt: skip


def photo_degradations(degradations: CameraDegradations) -> CameraDegradations:
    """Return the degradations for a scene that is a photo: its tones are already a camera's."""
    if degradations.quality == 100 and degradations.contrast == 1:
        return degradations
    contrast, saturation = degradations.contrast / _CONTRAST, degradations.saturation / _SATURATION
    return replace(degradations, contrast=contrast, saturation=saturation)


def photograph(
    scene: Float[Tensor, "3 H W"],
    degradations: CameraDegradations,
    *,
    margin: float = 1.0,
    backend: BackendName = "auto",
) -> Float[Tensor, "3 H W"]:
    """Return the picture that a camera stores: linear RGB in [0, 1] of 8-bit sRGB values.

    Args:
        scene: linear RGB after exposure, at least 0.
        degradations: of the camera.
        margin: side of the picture, in units of the side of the frame to which `degradations` refers.
        backend: "numba" uses compiled kernels.
    """
    compiled = is_compiled(backend, scene.device)
    size = scene.shape[-1]
    unit = size / margin / 224
    image = _blurred(scene, degradations.blur * unit, compiled=compiled)
    if degradations.sharpening > 0:
        lost = image - _blurred(image, 0.9 * unit, compiled=compiled)
        image = torch.add(image, lost, alpha=degradations.sharpening).clamp_(min=0)
    image = _dragged(image, (degradations.motion[0] * unit, degradations.motion[1] * unit))
    small = max(round(size * degradations.resolution), 16)
    if small < size:
        image = F.interpolate(image[None], (small, small), mode="bilinear", antialias=True)[0]
    image = _sensed_fast(image, degradations) if compiled else _sensed(image, degradations)
    if small < size:
        image = F.interpolate(image[None], (size, size), mode="bicubic", align_corners=False)[0]
    return _stored_fast(image, degradations) if compiled else _stored(image, degradations)


def _sensed(image: Tensor, degradations: CameraDegradations) -> Tensor:
    """Return the sensor's image: with dark corners, scattered light, noise and weak colours."""
    if degradations.vignette > 0:
        image = image * _falloff(image.shape[-1], degradations.vignette, image)
    image = image + degradations.black
    if degradations.read_noise > 0:
        sigma = (image.clamp(min=0) * degradations.shot_noise + degradations.read_noise**2).sqrt()
        image = image + sigma * _grain(image.shape[-1], degradations, image)
    if degradations.saturation != 1:
        grey = (image * image.new_tensor([0.2126, 0.7152, 0.0722])[:, None, None]).sum(0)
        image = grey + (image - grey) * degradations.saturation
    return image


def _sensed_fast(image: Tensor, degradations: CameraDegradations) -> Tensor:
    image = image.contiguous()
    result, grain = torch.empty_like(image), image
    if degradations.read_noise > 0:
        grain = _grain(image.shape[-1], degradations, image)
    camera_kernels.sense(
        image.numpy(), degradations.vignette, degradations.black, degradations.read_noise,
        degradations.shot_noise, grain.numpy(), degradations.saturation, result.numpy(),
    )  # fmt: skip
    return result


def _stored(image: Tensor, degradations: CameraDegradations) -> Tensor:
    """Return the image in the file: rounded sRGB values, usually after JPEG."""
    encoded = srgb_from_linear(_shoulder(image.clamp(min=0)))
    if degradations.contrast != 1:
        encoded = 0.45 + (encoded - 0.45) * degradations.contrast
    encoded = encoded.clamp(0, 1)
    if degradations.quality <= 99:
        encoded = jpeg(encoded, degradations.quality, half_colour=degradations.half_colour)
    return linear_from_srgb((encoded * 255).round().clamp(0, 255) / 255)


def _stored_fast(image: Tensor, degradations: CameraDegradations) -> Tensor:
    image = image.contiguous()
    result = torch.empty_like(image)
    camera_kernels.store(
        image.numpy(), degradations.contrast, degradations.quality, degradations.half_colour,
        *_file_tables(), result.numpy(),
    )  # fmt: skip
    return result


@cache
def _file_tables() -> tuple[np.ndarray, ...]:
    """Return tone curve, divisors and waves of JPEG, and each value's light, for the kernels."""
    root = torch.linspace(0, 1, camera_kernels.TONES + 1, dtype=torch.float64)
    tones = srgb_from_linear(_shoulder(camera_kernels.BRIGHTEST * root**2))
    linear = linear_from_srgb(torch.arange(256) / 255)
    tables = torch.tensor(_TABLES).view(2, 8, 8)
    return tuple(value.float().numpy() for value in (tones, tables, _waves(linear), linear))


def _shoulder(image: Tensor) -> Tensor:
    """Compress highlights above 0.8, as cameras do; 1 is reached at about 1.6."""
    over = (image - 0.8).clamp(min=0)
    return image.clamp(max=0.8) + 0.2 * (1 - torch.exp(-over / 0.2 * 0.8))


def _blurred(image: Tensor, sigma: float, *, compiled: bool) -> Tensor:
    if sigma < 0.25:
        return image
    reach = max(1, math.ceil(2.5 * sigma))
    steps = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    if compiled:
        result = torch.empty_like(image)
        camera_kernels.blur(image.numpy(), kernel[reach:].numpy(), result.numpy())
        return result
    weights: list[float] = kernel.tolist()
    padded = F.pad(image[None], (reach, reach, reach, reach), mode="replicate")[0]
    height, width = image.shape[-2:]
    # Sums of shifted images are much faster than convolutions with always different kernels.
    rows = weights[reach] * padded[..., reach : reach + width]
    for k in range(reach):
        rows += weights[k] * (
            padded[..., k : k + width] + padded[..., 2 * reach - k : 2 * reach - k + width]
        )
    blurred = weights[reach] * rows[:, reach : reach + height]
    for k in range(reach):
        blurred += weights[k] * (
            rows[:, k : k + height] + rows[:, 2 * reach - k : 2 * reach - k + height]
        )
    return blurred


def _dragged(image: Tensor, motion: tuple[float, float]) -> Tensor:
    """Return the mean of the image along a line."""
    length = math.hypot(*motion)
    if length < 1:
        return image
    steps = math.ceil(length) + 1
    total = torch.zeros_like(image)
    for k in range(steps):
        share = k / (steps - 1) - 0.5
        shift = (round(motion[1] * share), round(motion[0] * share))
        total += _shifted(image, shift)
    return total / steps


def _shifted(image: Tensor, shift: tuple[int, int]) -> Tensor:
    """Return the image moved by whole pixels (down, right); the border repeats."""
    rows = torch.arange(image.shape[-2], device=image.device) - shift[0]
    columns = torch.arange(image.shape[-1], device=image.device) - shift[1]
    rows, columns = rows.clamp(0, image.shape[-2] - 1), columns.clamp(0, image.shape[-1] - 1)
    return image[:, rows][:, :, columns]


def _falloff(size: int, amount: float, like: Tensor) -> Tensor:
    steps = torch.linspace(-1, 1, size, dtype=like.dtype, device=like.device)
    return 1 - amount * (steps[:, None] ** 2 + steps**2) / 2


_pools: dict[str, Tensor] = {}


def _grain(size: int, degradations: CameraDegradations, like: Tensor) -> Tensor:
    """Return noise (3,size,size) of variance about one from a pool for all pictures."""
    key = str(like.device)
    if key not in _pools:
        values = np.random.default_rng(3).standard_normal(2 * _NOISE_POOL, np.float32)
        _pools[key] = torch.from_numpy(values).to(like.device)
    cells = math.ceil(size / degradations.noise_size)
    needed = 3 * cells * cells
    start = degradations.noise_seed % max(2 * _NOISE_POOL - needed, 1)
    noise = _pools[key][start : start + needed].view(3, cells, cells)
    if cells == size:
        return noise
    return 1.3 * F.interpolate(noise[None], (size, size), mode="bilinear", align_corners=False)[0]


# Annex K of ITU-T T.81 (JPEG): brightness, then colour.
_TABLES = (
    (
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69,
        56, 14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81,
        104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ),
    (
        17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99,
        99, 47, 66, *[99] * 38,
    ),
)  # fmt: skip


def jpeg(
    image: Float[Tensor, "3 H W"], quality: float, *, half_colour: bool
) -> Float[Tensor, "3 H W"]:
    """Return an sRGB image after JPEG compression, before rounding to whole values.

    Args:
        image: sRGB in [0, 1].
        quality: 1 to 100, as in libjpeg of the Independent JPEG Group.
        half_colour: store colour at half resolution (4:2:0).
    """
    height, width = image.shape[-2:]
    padded = F.pad(image[None], (0, -width % 16, 0, -height % 16), mode="replicate")[0] * 255
    red, green, blue = padded
    bright = 0.299 * red + 0.587 * green + 0.114 * blue
    colour = torch.stack([(blue - bright) / 1.772, (red - bright) / 1.402])
    if half_colour:
        colour = F.avg_pool2d(colour, 2)
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    bright = _quantized((bright - 128)[None], _TABLES[0], scale)[0] + 128
    colour = _quantized(colour, _TABLES[1], scale)
    if half_colour:
        colour = F.interpolate(colour[None], scale_factor=2, mode="bilinear", align_corners=False)[
            0
        ]
    blue_less, red_less = colour
    red, blue = bright + 1.402 * red_less, bright + 1.772 * blue_less
    green = (bright - 0.299 * red - 0.114 * blue) / 0.587
    result = torch.stack([red, green, blue])[:, :height, :width] / 255
    return result.clamp(0, 1)


def _quantized(planes: Tensor, table: tuple[int, ...], scale: float) -> Tensor:
    count, height, width = planes.shape
    basis = _waves(planes)
    divisor = planes.new_tensor(table).view(8, 8).mul(scale).round().clamp(min=1)
    blocks = planes.view(count, height // 8, 8, width // 8, 8).transpose(2, 3)
    coefficients = basis @ blocks @ basis.T
    coefficients = (coefficients / divisor).round() * divisor
    return (basis.T @ coefficients @ basis).transpose(2, 3).reshape(count, height, width)


def _waves(like: Tensor) -> Float[Tensor, "8 8"]:
    """Return the cosine transform of eight pixels, one wave in each row."""
    steps = torch.arange(8, dtype=like.dtype, device=like.device)
    waves = torch.cos(math.pi / 8 * steps[:, None] * (steps + 0.5)) / 2
    waves[0] /= math.sqrt(2)
    return waves
