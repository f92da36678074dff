"""Random variations of batches; labels and truth change together with the photo."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch, FaceTruth
from lifemask.data.compression import compressed
from lifemask.data.mirroring import mirrored_batch
from lifemask.data.occlusion import hidden_truth, occluded, random_rows
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.tensors import map_tensors, named_tensors
from lifemask.io.colour import linear_from_srgb, srgb_from_linear
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.perception.framing import (
    FaceFrame,
    crop_camera,
    crop_light,
    crop_photo,
    crop_points,
)
from lifemask.perception.landmarks import turn
from lifemask.perception.regions import square_regions, to_photo

LEAST_NOISE = 0.003
"""Weaker noise, standard deviation in sRGB, is left out: it would be less than a step of 8 bits."""


def augmented(
    batch: FaceBatch,
    strength: Augmentation,
    generator: torch.Generator,
    *,
    side: int | None = None,
    size: int | None = None,
) -> FaceBatch:
    """Return a varied batch; it depends only on the arguments and the state of the generator.

    The frames of a clip are mirrored together; every other variation is drawn for each frame.

    Args:
        batch: crops on any device.
        strength: of all variations.
        generator: of random numbers; always on the CPU.
        side: pixels on a side of the frame in the middle of each crop; default: the whole crop.
        size: pixels on a side of the varied crops; default: those of the frame.

    Raises:
        ValueError: the batch has features, which belong to its crops as they are.
    """
    if batch.features is not None:
        raise ValueError("Crops of an encoded bank cannot be varied. Encode more copies instead.")
    given = batch.photo.shape[-1]
    side = given if side is None else side
    size = side if size is None else size
    resized = (side, size) != (given, given)
    if strength == Augmentation.none() and not resized:
        return batch
    shape = batch.photo.shape[:-3]
    flip = torch.rand(shape[0], generator=generator) < strength.mirror
    flip = flip.reshape(-1, *[1] * (len(shape) - 1)).expand(shape).flatten()
    flat = map_tensors(lambda t: t.flatten(0, len(shape) - 1), batch)
    device = batch.photo.device
    if flip.any():
        flat = _partly_mirrored(flat, torch.nonzero(flip).squeeze(-1).to(device))
    if strength.shift or strength.scale or strength.turn_degrees or resized:
        frames = random_frames(len(flip), side, strength, generator)
        frames = replace(frames, centre=frames.centre + (given - side) / 2)
        flat = reframed(flat, map_tensors(lambda t: t.to(device), frames), size)
    if strength.occlusion:
        flat = occluded(flat, strength.occlusion, generator)
    if strength.cut:
        flat = cut(flat, strength.cut, generator)
    flat = photographed(flat, strength, generator)
    return map_tensors(lambda t: t.unflatten(0, shape), flat)


def random_frames(
    count: int, size: int, strength: Augmentation, generator: torch.Generator
) -> FaceFrame:
    """Return `count` random frames near the whole crop, in pixels of a crop of `size`."""

    def even(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * 2 - 1

    return FaceFrame(
        size / 2 + even(2) * strength.shift * size,
        size * torch.exp(even() * math.log1p(strength.scale)),
        even() * math.radians(strength.turn_degrees),
    )


def reframed(batch: FaceBatch, frame: FaceFrame, size: int | None = None) -> FaceBatch:
    """Return crops of other frames; cameras are changed exactly.

    Args:
        batch: with one batch axis.
        frame: one for each crop, in crop pixels.
        size: pixels along each side of the results; default: those of the crops.
    """
    size = batch.photo.shape[-1] if size is None else size
    grid = _grid(frame, size, batch.photo.shape[-1])
    return replace(
        batch,
        photo=crop_photo(batch.photo, frame, size),
        landmarks68=crop_points(batch.landmarks68, frame, size),
        landmarks478=crop_points(batch.landmarks478, frame, size),
        aflw21=crop_points(batch.aflw21, frame, size),
        skin=_sampled(batch.skin.unsqueeze(1), grid).squeeze(1),
        truth=None if batch.truth is None else _reframed_truth(batch.truth, frame, grid, size),
    )


def cut(batch: FaceBatch, share: float, generator: torch.Generator) -> FaceBatch:
    """Return the batch; a share of the photos now ends inside the frame, like tight portraits.

    Outside the photo its border repeats, as in `crop_photo`, or all is black, as in padded crops.
    Landmarks keep their weights; points that are cut off are not visible.
    """
    count, _, height, width = batch.photo.shape
    rows = random_rows(count, share, generator).to(batch.photo.device)
    if not len(rows):
        return batch
    photo = batch.photo[rows]

    def even(*shape: int) -> Tensor:
        return torch.rand(len(rows), *shape, generator=generator).to(photo.device)

    black = even(1, 1, 1) < 0.3
    # Cuts two of four sides on average; a face fills the middle two thirds of its frame.
    depth = torch.where(even(4) < 0.5, 0.3 * even(4), 0.0)
    steps_y, steps_x = (torch.arange(side, device=photo.device) for side in (height, width))
    left, right = depth[:, 0, None] * width, (1 - depth[:, 1, None]) * width - 1
    top, bottom = depth[:, 2, None] * height, (1 - depth[:, 3, None]) * height - 1
    x = steps_x.clamp(left.round(), right.round())
    y = steps_y.clamp(top.round(), bottom.round())
    index = (y.unsqueeze(2) * width + x.unsqueeze(1)).flatten(1).long()
    kept = ((x == steps_x).unsqueeze(1) & (y == steps_y).unsqueeze(2)).to(photo.dtype)
    spread = photo.flatten(2).gather(2, index.unsqueeze(1).expand(-1, 3, -1)).view_as(photo)
    photo = torch.where(black, photo * kept.unsqueeze(1), spread)
    return replace(
        batch,
        photo=batch.photo.index_copy(0, rows, photo),
        skin=batch.skin.index_copy(0, rows, batch.skin[rows] * kept),
        truth=hidden_truth(batch, rows, 1 - kept),
    )


def photographed(batch: FaceBatch, strength: Augmentation, generator: torch.Generator) -> FaceBatch:
    """Return the batch with other exposure, colour, blur, noise and compression.

    The true light is multiplied by the gains of exposure and tint; it stays exact if no value is
    clipped.

    Args:
        batch: with one batch axis.
        strength: of the variations.
        generator: of random numbers.
    """
    photo, truth = batch.photo, batch.truth
    count, size = len(photo), photo.shape[-1]

    def even(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator).to(photo.device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator).to(photo.device)

    gain = torch.exp((even(1) * 2 - 1) * strength.exposure + normal(3) * strength.tint)
    if strength.exposure or strength.tint:
        photo = photo * gain[..., None, None]
        if truth is not None:
            light = SphericalHarmonicsLight(truth.face.light.coefficients * gain[:, None])
            truth = replace(truth, face=replace(truth.face, light=light))
    if strength.gamma:
        exponent = torch.exp((even(1, 1, 1) * 2 - 1) * math.log1p(strength.gamma))
        photo = photo.clamp(min=1e-6) ** exponent
    rows = random_rows(count, strength.grey, generator).to(photo.device)
    if len(rows):
        weights = photo.new_tensor([0.2126, 0.7152, 0.0722])[:, None, None]
        grey = (photo[rows] * weights).sum(1, True).expand(-1, 3, -1, -1)
        photo = photo.index_copy(0, rows, grey)
    if strength.blur:
        sigma = even() * strength.blur_pixels * size / 224
        photo = _blurred(photo, torch.where(even() < strength.blur, sigma, 0.0))
    photo = photo.clamp(0, 1)
    if strength.noise or strength.compression:
        photo = _damaged(photo, strength, generator)
    return replace(batch, photo=photo, truth=truth)


def _damaged(
    photo: Float[Tensor, "N 3 H W"], strength: Augmentation, generator: torch.Generator
) -> Float[Tensor, "N 3 H W"]:
    """Return linear photos with sensor noise and the traces of compression."""
    count, device, (height, width) = len(photo), photo.device, photo.shape[-2:]
    level = torch.rand(count, generator=generator).square() * strength.noise
    packed = torch.rand(count, generator=generator) < strength.compression
    quality = 20 + 70 * torch.rand(count, generator=generator)
    rows = torch.nonzero((level > LEAST_NOISE) | packed).squeeze(-1)
    if not len(rows):
        return photo
    seen = srgb_from_linear(photo[rows.to(device)])
    # Each photo gets another part of one sheet of noise: drawing it is the slowest step.
    sheet = torch.randn(3, 2 * height, 2 * width, generator=generator)
    tops, lefts = (
        torch.randint(side + 1, (len(rows),), generator=generator).tolist()
        for side in (height, width)
    )
    noise = torch.stack(
        [sheet[:, y : y + height, x : x + width] for y, x in zip(tops, lefts, strict=True)]
    )
    noise *= torch.where(level > LEAST_NOISE, level, 0.0)[rows, None, None, None]
    seen = (seen + noise.to(device)).clamp_(0, 1)
    chosen = packed[rows].to(device)
    if chosen.any():
        seen[chosen] = compressed(seen[chosen], quality[rows].to(device)[chosen])
    return photo.index_copy(0, rows.to(device), linear_from_srgb(seen))


def _partly_mirrored(batch: FaceBatch, rows: Int[Tensor, "R"]) -> FaceBatch:
    """Return the batch with some rows mirrored."""
    mirrored = mirrored_batch(map_tensors(lambda t: t[rows], batch))
    values = iter(named_tensors(mirrored).values())
    return map_tensors(lambda t: t.index_copy(0, rows, next(values)), batch)


def _reframed_truth(
    truth: FaceTruth, frame: FaceFrame, grid: Float[Tensor, "N S S 2"], size: int
) -> FaceTruth:
    # Values on both sides of an outline must not mix.
    normals, albedo = truth.normals, truth.albedo
    if normals is not None:
        normals = _sampled(normals, grid, nearest=True)
        # The frame's x axis points along +roll in the picture, where y is down; light axes have y up.
        xy = turn(normals[:, :2].flatten(2).transpose(1, 2), frame.roll)
        turned = xy.transpose(1, 2).unflatten(2, normals.shape[-2:])
        normals = torch.cat([turned, normals[:, 2:]], 1)
    if albedo is not None:
        albedo = _sampled(albedo, grid, nearest=True)
    return replace(
        truth,
        face=_reframed_face(truth.face, frame, grid),
        normals=normals,
        albedo=albedo,
        surface200=crop_points(truth.surface200, frame, size),
    )


def _reframed_face(
    face: ExplainedFace, frame: FaceFrame, grid: Float[Tensor, "N S S 2"]
) -> ExplainedFace:
    """Return the explained face of a frame; unknown depth is 0."""
    size, depth, landmarks = len(grid[0]), face.depth, face.landmarks
    if depth is not None:
        depth = _sampled(depth.unsqueeze(1), grid, nearest=True).squeeze(1)
    if landmarks is not None:
        enlarged = (size / frame.side)[:, None]
        landmarks = replace(
            landmarks,
            points=crop_points(landmarks.points, frame, size),
            sigma=landmarks.sigma * enlarged,
        )
    return replace(
        face,
        camera=crop_camera(face.camera, frame, size),
        light=crop_light(face.light, frame),
        depth=depth,
        landmarks=landmarks,
    )


def _grid(frame: FaceFrame, size: int, given: int) -> Float[Tensor, "N size size 2"]:
    """Return the positions of the frames' `size` pixels in crops of `given`, in units of half a side."""
    regions = square_regions(frame.centre, frame.side, frame.roll)
    steps = (torch.arange(size, dtype=regions.dtype, device=regions.device) + 0.5) / size
    unit = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).flatten(0, 1)
    points = to_photo(regions, unit.expand(len(regions), -1, -1))
    return (points * 2 / given - 1).unflatten(1, (size, size))


def _sampled(
    images: Float[Tensor, "N C H W"], grid: Float[Tensor, "N S S 2"], *, nearest: bool = False
) -> Float[Tensor, "N C S S"]:
    """Return images at the points of a grid, 0 outside; use `nearest` if values must not mix."""
    mode = "nearest" if nearest else "bilinear"
    return F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)


def _blurred(
    photo: Float[Tensor, "N 3 H W"], sigma: Float[Tensor, "N"]
) -> Float[Tensor, "N 3 H W"]:
    """Return photos blurred by Gaussians with standard deviations in pixels; 0 is no blur."""
    chosen = sigma > 0.2
    if not chosen.any():
        return photo
    radius = max(1, math.ceil(float(sigma.max()) * 2.5))
    offsets = torch.arange(-radius, radius + 1).to(photo)
    kernel = torch.exp(-0.5 * (offsets / sigma[chosen, None]) ** 2)
    kernel = (kernel / kernel.sum(-1, keepdim=True)).repeat_interleave(3, 0)[:, None]
    images = photo[chosen]
    rows = images.flatten(0, 1).unsqueeze(0)
    rows = F.pad(rows, (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(rows, kernel.unsqueeze(2), groups=len(kernel))
    rows = F.conv2d(rows, kernel.unsqueeze(3), groups=len(kernel))
    result = photo.clone()
    result[chosen] = rows.reshape(images.shape)
    return result
