"""Grows a shell from the scalp until its outline meets the hair in the photo.

Along every ray of `lifemask.hair.rays` the photo's segmentation is read. Rays across the line of
sight say how thick the hair is; the others take their thickness from them, and are cut back where
they would leave the outline.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt, label
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.hair import rays
from lifemask.hair.skull import Skull
from lifemask.perception.observation import FaceObservation
from lifemask.perception.photo_segments import segmentation_at
from lifemask.rendering.filters import fill_unknown, gaussian_blur

_STEP = 0.004
"""Metres between samples along a ray."""
_SAMPLES = 31
"""Samples along a ray: no hair is thicker than these reach."""
_USUAL = 0.018
"""Thickness in metres where nothing is known."""
_UNSURE = 1e-5
"""Weight of that thickness against those that the photo shows."""
_RAMP = 0.022
"""Distance in metres from bare skin over which hair reaches its thickness."""
_LOWEST = -0.165
"""Height in head space at which all hair ends, as the neck does, metres."""
_CHIN, _MOST_BELOW = -0.08, 0.04
"""Height in head space below which hair is no thicker than this, metres."""
_CONTINUED = 0.06
"""Metres over which hair goes on below the edge of the photo."""
_EAR_METRES = 0.065
"""Height of an ear, metres: hair goes on below it."""
_TEMPLE, _EAR_END = 0.042, -0.05
"""How far below the scalp's border hair grows on a temple, and the height at which ears end, metres."""
_FEWEST_ON_EAR, _LEAST_OVER = 12, 0.36
"""Fewest rays to an ear which tell whether hair lies on it, and the share of hair from which it may;
hair behind ears has up to 0.34 (on six photos), because a fitted ear is not quite that of the photo."""
_BEHIND_EAR, _EAR_RIM = 0.005, -0.3
"""Most thickness of hair between an ear and the head, metres, and z of the direction where that begins."""
_LEAST = 0.0025
"""Thickness of hair beside bare skin, metres."""


@dataclass(frozen=True)
class Growth:
    """Hair along the rays of a grid."""

    radius: Float[Tensor, "rows columns"]
    """Metres from the origin of each ray to the surface of the hair."""
    thickness: Float[Tensor, "rows columns"]
    """Metres from the head to the surface of the hair."""
    cover: Float[Tensor, "rows columns"]
    """Probability of hair, 0 to 1."""
    outline: Float[Tensor, "rows columns"]
    """How far the photo shows the thickness here, 0 to 1."""
    reach: Float[Tensor, "rows columns"]
    """Metres over which hair in the photo covers the ray outside the head; it is the thickness on
    the outline."""


def grow(skull: Skull, camera: PerspectiveCamera, observation: FaceObservation) -> Growth:
    """Return the hair that explains the hair in the photo.

    Args:
        skull: where rays leave the head.
        camera: the photo's.
        observation: the photo's measurements, with a segmentation.
    """
    rows, columns = skull.bare.shape
    origin, direction = rays.grid_rays(rows, columns)
    steps = torch.arange(_SAMPLES) * _STEP

    def seen_along(base: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        points = origin[:, :, None] + direction[:, :, None] * (
            base[..., None, None] + lengths[..., None]
        )
        return segments_at(points, camera, observation)

    # Hair that lies on the ear must not be cut by it.
    on_ears = skull.hung[..., None]
    ears = (skull.ears > 0.5) & (rays.facing(origin + direction * on_ears, direction, camera) > 0.1)
    on_them, shown = seen_along(skull.hung, steps[:1])
    hanging = _hangs(on_them[..., 0, 1], ears & shown[..., 0])
    base = torch.lerp(skull.bare, skull.hung, hanging)
    segments, inside = seen_along(base, steps)
    facing = rays.facing(origin + direction * base[..., None], direction, camera)
    reach, known, bound = _extents(segments, inside)
    outline = torch.exp(-((facing / 0.22) ** 2)) * known
    outline = torch.where(facing > -0.3, outline, 0)
    measured = _measured(outline, reach, direction[..., 1])
    thickness = torch.minimum(measured, torch.where(facing.abs() < 0.9, bound, torch.inf))
    thickness = _around(lambda image, _: gaussian_blur(image, 2.0), thickness, outline)

    height = origin[..., 1] + direction[..., 1] * base
    # Hair that spreads over shoulders would stand off a head that ends at the neck.
    low = ((_CHIN - height) / 0.03).clamp(0, 1)
    thickness = torch.lerp(thickness, thickness.clamp(max=_MOST_BELOW), low)

    surface = torch.stack([0.45 * thickness, 0.85 * thickness], dim=-1)
    there, shown = seen_along(base, surface)
    hair = torch.where(shown, there[..., 1], 0).amax(-1)
    seen = ((facing + 0.02) / 0.2).clamp(0, 1) * shown.any(-1)
    behind = _behind(skull, reach > 0.004, outline)
    ahead = direction[..., 2] > 0.35
    behind = torch.where(ahead, torch.maximum(skull.scalp, _carried(hair, seen)), behind)
    behind_ears = (
        (1 - hanging) * (1 - (direction[..., 2] - _EAR_RIM) / 0.1).clamp(0, 1) * skull.ears
    )
    behind_ears = _around(lambda image, _: gaussian_blur(image, 1.0), behind_ears, behind_ears)
    thickness = torch.lerp(thickness, thickness.clamp(max=_BEHIND_EAR), behind_ears.clamp(0, 1))
    skin = torch.where(inside[..., 0], segments[:, :, 0, 2:4].sum(-1), 0)
    tucked = (1 - hanging) * _off_tucked_hair(skull, skin, facing, direction, height)
    cover = torch.lerp(behind, hair, seen) * (1 - skull.beard) * (1 - tucked)
    cover = _rooted(cover * ((height - _LOWEST) / 0.02).clamp(0, 1), skull)
    thickness = _LEAST + (thickness - _LEAST).clamp(min=0) * _rise(cover, height)
    return Growth(base + thickness, thickness, cover, outline, reach)


def segments_at(
    points: Float[Tensor, "*shape 3"], camera: PerspectiveCamera, observation: FaceObservation
) -> tuple[Float[Tensor, "*shape 6"], Bool[Tensor, "*shape"]]:
    """Return class probabilities at points in head space, and whether the photo shows them."""
    pixels = camera.project(points.reshape(-1, 3))[:, :2]
    height, width = camera.image_size
    margin = 0.01 * max(height, width)
    inside = ((pixels > margin) & (pixels < pixels.new_tensor([width, height]) - margin)).all(-1)
    segments = segmentation_at(observation, pixels)
    return segments.view(*points.shape[:-1], 6), inside.view(points.shape[:-1])


def _hangs(hair: Float[Tensor, "r c"], ears: Bool[Tensor, "r c"]) -> Float[Tensor, "r c"]:
    """Return where hair hangs over ears and neck, 0 to 1; a side that is not shown is like the other.

    Args:
        hair: probability of hair on the surface of the ears.
        ears: where the photo shows that surface.
    """
    half = ears.shape[1] // 2
    sides = (slice(0, half), slice(half, 2 * half))
    counts = [int(ears[:, side].sum()) for side in sides]
    over = torch.zeros_like(hair)
    for side, own, other in zip(sides, counts, counts[::-1], strict=True):
        enough = own >= min(_FEWEST_ON_EAR, other)
        at = ears & _columns_within(ears, side) if enough else ears
        share = float(hair[at].mean()) if bool(at.any()) else 0.0
        over[:, side] = min(max((share - _LEAST_OVER) / 0.08, 0.0), 1.0)
    return _around(lambda image, _: gaussian_blur(image, 6.0), over, over)


def _columns_within(image: Bool[Tensor, "r c"], columns: slice) -> Bool[Tensor, "r c"]:
    within = torch.zeros_like(image)
    within[:, columns] = True
    return within


def _off_tucked_hair(
    skull: Skull,
    skin: Float[Tensor, "r c"],
    facing: Float[Tensor, "r c"],
    direction: Float[Tensor, "r c 3"],
    height: Float[Tensor, "r c"],
) -> Float[Tensor, "r c"]:
    """Return where hair behind an ear leaves the head bare, 0 to 1: on the ear and far below the temple.

    The photo sees these places from the side, where it cannot tell hair on them from hair behind.

    Args:
        skin: probability of skin in the photo at the head.
        facing: cosine of the angle at which the photo sees it.
        direction: of the rays.
        height: of the head, head space, metres.
    """
    away = ((_distance(skull.scalp > 0.5) - _TEMPLE) / 0.012).clamp(0, 1)
    aside = ((0.6 - facing) / 0.25).clamp(0, 1)
    ahead = ((direction[..., 2] + 0.15) / 0.2).clamp(0, 1)
    above = ((height - _EAR_END) / 0.015).clamp(0, 1)
    ears = _around(lambda image, _: gaussian_blur(image, 0.7), skull.ears, skull.ears)
    ears = ((ears - 0.55) / 0.3).clamp(0, 1) * ((direction[..., 2] - _EAR_RIM) / 0.1).clamp(0, 1)
    bare = torch.maximum(away * aside * ahead * above, ears)
    return torch.maximum(
        bare, ((skin - 0.5) / 0.3).clamp(0, 1) * ((facing - 0.1) / 0.15).clamp(0, 1)
    )


def _extents(
    segments: Float[Tensor, "r c K 6"], inside: Bool[Tensor, "r c K"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far hair reaches along rays (metres), whether that is known, and its limit."""
    steps = torch.arange(segments.shape[2]) * _STEP
    hair = (segments[..., 1] > 0.5) & inside
    begun = hair.long().cummax(-1).values > 0
    begun &= begun[..., :7].any(-1, keepdim=True)
    # What lies outside the photo breaks nothing.
    unbroken = (~begun | ~inside | (segments[..., 1] > 0.3)).long().cumprod(-1) > 0
    reach = torch.where(hair & unbroken & begun, steps, 0).amax(-1)
    # Where the photo ends within the hair, it may reach further.
    cut = ~inside & unbroken & begun
    known = inside[..., 0] & ~cut.any(-1)
    someone = (1 - segments[..., 0]) > 0.5
    bound = torch.where((someone | ~inside).long().cumprod(-1) > 0, steps, 0).amax(-1)
    return reach, known.float(), bound


def _behind(
    skull: Skull, hairy: Bool[Tensor, "r c"], outline: Float[Tensor, "r c"]
) -> Float[Tensor, "r c"]:
    """Return the hair that the photo does not show: on the scalp, and as far down as at the sides."""
    columns = hairy.shape[1]
    half = columns // 2
    right, left = _side(outline, hairy, slice(0, half)), _side(outline, hairy, slice(half, columns))
    # Of a side that the photo does not show, the other one tells.
    at_right, at_left = right.share_beside(left), left.share_beside(right)
    u = (torch.arange(columns) + 0.5) / columns
    across = 0.5 - 0.5 * torch.cos(2 * torch.pi * (u + 0.25))
    carried = torch.lerp(at_left[:, None], at_right[:, None], across)
    return torch.maximum(
        skull.scalp, ((gaussian_blur(carried[None], 1.5)[0] - 0.3) / 0.4).clamp(0, 1)
    )


@dataclass(frozen=True)
class _Side:
    """The outline on one side of the head, row by row."""

    share: Float[Tensor, "r"]
    """Share of hair on the outline, 0 to 1."""
    known: Float[Tensor, "r"]
    """How far the photo shows the outline, 0 to 1."""

    def share_beside(self, other: "_Side") -> Float[Tensor, "r"]:
        """Return the share of hair on this side, or that on the other one where it is not known."""
        mixed = self.known / (self.known + 0.3 * other.known).clamp(min=1e-3)
        known = (self.known + other.known).clamp(max=1)
        return torch.lerp(other.share, self.share, mixed) * known


def _side(outline: Float[Tensor, "r c"], hairy: Bool[Tensor, "r c"], columns: slice) -> _Side:
    total = outline[:, columns].sum(1)
    share = (outline * hairy)[:, columns].sum(1) / total.clamp(min=1e-3)
    # Rows that the photo does not show end no hair that goes on below them.
    known = total > 0.3
    share = torch.where(known, share, known.flip(0).cummax(0).values.flip(0).float())
    # Hair on the neck belongs to the back only if it comes down past the ears.
    level = round(rays.ABOVE / rays.LENGTH * len(outline))
    whole = _without_gaps(share, round(_EAR_METRES / rays.LENGTH * len(outline)))
    share = torch.cat([share[:level], whole[level:].cummin(0).values])
    return _Side(share, (total / 2).clamp(max=1))


def _without_gaps(share: Float[Tensor, "r"], longest: int) -> Float[Tensor, "r"]:
    """Return shares where gaps of up to `longest` rows are filled: an ear that looks out of the hair."""
    reach = max(1, round(longest / 2))
    grown = torch.nn.functional.max_pool1d(share[None, None], 2 * reach + 1, 1, reach)
    return -torch.nn.functional.max_pool1d(-grown, 2 * reach + 1, 1, reach)[0, 0]


def _measured(
    outline: Float[Tensor, "r c"], reach: Float[Tensor, "r c"], up: Float[Tensor, "r c"]
) -> Float[Tensor, "r c"]:
    """Return the thickness of hair everywhere from that on the outline, metres.

    A crown that the photo does not show is no higher than usual, however wide the hair is below.
    """
    weight = outline + _UNSURE
    measured = _around(fill_unknown, outline * reach + _UNSURE * _USUAL, weight)
    shown = _around(lambda image, _: gaussian_blur(image, 4.0), outline, outline)
    unknown = (1 - shown / 0.1).clamp(0, 1) * ((up - 0.2) / 0.5).clamp(0, 1)
    usual = torch.minimum(measured, _USUAL + 0.35 * (measured - _USUAL).clamp(min=0))
    return torch.lerp(measured, usual, unknown)


def _carried(hair: Float[Tensor, "r c"], seen: Float[Tensor, "r c"]) -> Float[Tensor, "r c"]:
    """Return the hair at the photo's upper and lower edge for places beyond these edges.

    Above, hair goes on to the scalp; below, it ends soon.
    """
    rows = torch.arange(len(hair))[:, None].expand_as(hair)
    last = torch.where(seen > 0.5, rows, -1).cummax(0).values
    first = torch.where(seen > 0.5, rows, len(hair)).flip(0).cummin(0).values.flip(0)
    above = hair.gather(0, last.clamp(min=0)) * (last >= 0)
    fading = 1 - (rows - last) * (rays.LENGTH / len(hair)) / _CONTINUED
    below = hair.gather(0, first.clamp(max=len(hair) - 1)) * (first < len(hair))
    return torch.maximum(above * fading.clamp(0, 1), below * (last < 0))


def _rooted(cover: Float[Tensor, "r c"], skull: Skull) -> Float[Tensor, "r c"]:
    """Return the cover without islands that do not reach the scalp."""
    columns = cover.shape[1]
    wide = torch.cat([cover, cover], dim=1).numpy() > 0.3
    found = np.zeros(wide.shape, np.int32)
    label(wide, output=found)
    roots = np.unique(found[torch.cat([skull.scalp, skull.scalp], dim=1).numpy() > 0.5])
    kept = np.isin(found, roots[roots > 0])
    return cover * torch.from_numpy(kept[:, :columns] | kept[:, columns:])


def _rise(cover: Float[Tensor, "r c"], height: Float[Tensor, "r c"]) -> Float[Tensor, "r c"]:
    """Return the share of its thickness that hair has reached; it rises from its border.

    The lower end of long hair is no such border.
    """
    bare = (cover < 0.5) & (height > _LOWEST)
    share = (_distance(bare) / _RAMP).clamp(0, 1)
    share = (1 - (1 - share) ** 2).sqrt()
    return _around(lambda image, _: gaussian_blur(image, 1.0), share, share)


def _distance(places: Bool[Tensor, "r c"]) -> Float[Tensor, "r c"]:
    """Return the distance along the head to the nearest of some places, metres."""
    rows, columns = places.shape
    half = columns // 2
    wide = torch.cat([places[:, half:], places, places[:, :half]], dim=1).numpy()
    if not wide.any():
        return torch.full(places.shape, torch.inf)
    size = (rays.LENGTH / rows, 0.55 / columns)
    distance = np.asarray(distance_transform_edt(~wide, sampling=size))
    return torch.from_numpy(distance[:, half : half + columns]).float()


def _around(
    work: Callable[[Tensor, Tensor], Tensor],
    values: Float[Tensor, "r c"],
    weight: Float[Tensor, "r c"],
) -> Float[Tensor, "r c"]:
    """Return what a filter of values and weights makes of a grid whose first and last columns touch."""
    columns = values.shape[1]
    half = columns // 2

    def wide(image: Tensor) -> Tensor:
        return torch.cat([image[:, half:], image, image[:, :half]], dim=1)

    return work(wide(values)[None], wide(weight))[0, :, half : half + columns]
