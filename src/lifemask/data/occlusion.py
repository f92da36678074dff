"""What comes between a face and the camera in training photos: patches and hands."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifemask.data.batch import FaceBatch, FaceTruth
from lifemask.perception.landmarks import turn

HANDS = 0.4
"""Share of hands among occluders."""

FINGERS = 4
"""Most fingers of a hand."""


def occluded(batch: FaceBatch, share: float, generator: torch.Generator) -> FaceBatch:
    """Return the batch with patches or hands in front of a share of faces; points behind are hidden.

    A patch shows a part of another photo of the batch, or one colour with uneven light. A hand has
    some fingers beside each other, in about the colour of the face's own skin. Landmarks keep their
    weights, because their position is still known.
    """
    photo = batch.photo
    count, _, height, width = photo.shape
    rows = random_rows(count, share, generator).to(photo.device)
    if not len(rows):
        return batch

    def even(*shape: int) -> Tensor:
        return torch.rand(len(rows), *shape, generator=generator).to(photo.device)

    hand = even() < HANDS
    centre, angle = even(2), even() * 2 * math.pi
    radius = torch.where(hand[:, None], 0.15 + 0.2 * even(1), 0.08 + 0.17 * even(2))
    steps_y, steps_x = (
        (torch.arange(side, device=photo.device) + 0.5) / side for side in (height, width)
    )
    grid = torch.stack(torch.meshgrid(steps_x, steps_y, indexing="xy"), -1).flatten(0, 1)
    local = turn(grid - centre[:, None], -angle) / radius[:, None]
    # Between an ellipse (2) and a rounded rectangle (8).
    power = 2 * 4 ** even()[:, None]
    distance = local.abs().pow(power[..., None]).sum(-1).pow(1 / power)
    patch = ((1.05 - distance) / 0.1).clamp(0, 1)
    fingers, relief = _fingers(local, 2 + (even() * (FINGERS - 1)).long(), even(FINGERS))
    cover = torch.where(hand[:, None], fingers, patch).unflatten(1, (height, width))
    uneven = F.interpolate(even(1, 3, 3), (height, width), mode="bicubic", align_corners=False)
    plain = even(3, 1, 1) * (0.5 + uneven).clamp(min=0.1)
    other = photo[(rows + 1) % count].flip(-2) if count > 1 else plain
    filling = torch.where((even() < 0.5)[:, None, None, None], plain, other)
    tone = _skin_colour(photo[rows], batch.skin[rows]) * torch.exp(0.25 * (even(3) - 0.5))
    shade = relief.unflatten(1, (height, width)).unsqueeze(1) * (0.7 + 0.6 * uneven)
    skin = tone[..., None, None] * shade * torch.exp(0.5 * (even(1, 1, 1) - 0.5))
    filling = torch.where(hand[:, None, None, None], skin, filling).clamp(0, 1)
    return replace(
        batch,
        photo=photo.index_copy(0, rows, torch.lerp(photo[rows], filling, cover.unsqueeze(1))),
        skin=batch.skin.index_copy(0, rows, batch.skin[rows] * (1 - cover)),
        truth=hidden_truth(batch, rows, cover),
    )


def _fingers(
    local: Float[Tensor, "R P 2"], count: Int[Tensor, "R"], lengths: Float[Tensor, "R K"]
) -> tuple[Float[Tensor, "R P"], Float[Tensor, "R P"]]:
    """Return where fingers beside each other cover, and how bright their rounded skin is.

    Args:
        local: places; the fingers lie along y, and all together are two units wide.
        count: fingers of each hand, at most K.
        lengths: 0 to 1 for each finger; the tips are at a height of about 1.
    """
    cover = torch.zeros_like(local[..., 0])
    bend = 2 * lengths[:, :1] - 1
    relief = torch.full_like(cover, 0.4)
    half = (1 / count)[:, None]
    for k in range(lengths.shape[1]):
        middle = (2 * k + 1) * half - 1
        tip = 1 - 0.5 * lengths[:, k, None] - half
        # Beyond the tip's middle the finger ends in a half circle; it begins below the frame of the hand.
        across = (local[..., 0] - middle - 0.1 * bend * local[..., 1].square()) / half
        along = (local[..., 1] - tip).clamp(min=0) / half
        away = (across.square() + along.square()).sqrt()
        # Neighbours touch in a dark crease.
        inside = ((1.15 - away) / 0.15).clamp(0, 1) * (local[..., 1] > -2).to(cover)
        inside = inside * (k < count)[:, None]
        cover = torch.maximum(cover, inside)
        round_ = 0.45 + 0.55 * (1 - away.clamp(max=1).square()).sqrt()
        relief = torch.where(inside > 0, round_, relief)
    return cover, relief


def _skin_colour(
    photo: Float[Tensor, "R 3 H W"], skin: Float[Tensor, "R H W"]
) -> Float[Tensor, "R 3"]:
    """Return the mean colour of the skin; a usual one where there is none."""
    weight = skin.unsqueeze(1)
    total = weight.sum((-2, -1))
    mean = (photo * weight).sum((-2, -1)) / total.clamp(min=1e-6)
    return torch.where(total > 1, mean, photo.new_tensor([0.45, 0.28, 0.2]))


def random_rows(count: int, share: float, generator: torch.Generator) -> Int[Tensor, "R"]:
    """Return the numbers of a random share of `count` rows."""
    return torch.nonzero(torch.rand(count, generator=generator) < share).squeeze(-1)


def hidden_truth(
    batch: FaceBatch, rows: Int[Tensor, "R"], cover: Float[Tensor, "R H W"]
) -> FaceTruth | None:
    """Return the truth of a batch after something covers parts of some rows.

    Args:
        batch: before.
        rows: their numbers.
        cover: 1 where the photo of a row is covered.
    """
    truth = batch.truth
    if truth is None:
        return None

    def seen(visible: Bool[Tensor, "N K"], points: Float[Tensor, "N K 2"]) -> Bool[Tensor, "N K"]:
        return visible.index_copy(0, rows, visible[rows] & ~_under(points[rows], cover))

    return replace(
        truth,
        visible68=seen(truth.visible68, batch.landmarks68),
        visible478=seen(truth.visible478, batch.landmarks478),
        visible200=seen(truth.visible200, truth.surface200),
    )


def _under(points: Float[Tensor, "N K 2"], cover: Float[Tensor, "N H W"]) -> Bool[Tensor, "N K"]:
    """Return which points lie behind a patch."""
    height, width = cover.shape[-2:]
    places = points.nan_to_num(-1).floor().long()
    x, y = places.unbind(-1)
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    return inside & (cover.flatten(1).gather(1, index) > 0.5)
