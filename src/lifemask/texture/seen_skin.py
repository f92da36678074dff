"""Distinguishes texels of an unwrapped photo that show skin from those that show an occluder.

The segmentation finds a head of hair, but not single strands, thin frames of glasses or the edge
of a hat's shadow. These are darker than the skin around them, or of another hue, and they touch
areas that the segmentation finds. Beards, brows, lips and marks in the middle of a cheek are kept.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lifemask.rendering.filters import blur_weighted, eroded, gaussian_blur

_LIGHT_MILLIMETRES = 12.0
"""Changes of brightness wider than this are light, not occluders."""
_STRAND_MILLIMETRES = 5.0
"""Dark lines thinner than this can be hair or a frame."""
_DARK = 0.28
"""A texel may not be skin if it is darker than the skin around it by this log brightness."""
_STRAND = 0.20
"""The same for a thin line."""
_HUE = 0.24
"""A hue is not this person's skin if the root mean square of its log chroma exceeds this."""
_NEAR_MILLIMETRES = 10.0
"""Outliers this near to hair, hats or frames count even if they do not touch them."""
_TOUCHING_MILLIMETRES = 3.0
"""The same among folds of the cheeks, where strands are not followed either."""
_SHADE = 0.35
"""A texel near a hat, hair or frame is shadow if it is darker than the person's tone by this."""
_HIGHLIGHT = 0.35
"""A texel near hair is a highlight if it is brighter than the skin around by this."""
_REACH_MILLIMETRES = 32.0
"""Largest distance of strands from the hair that the segmentation finds."""
_MARGIN_MILLIMETRES = 1.0
"""Skin this near to an occluder is not used."""
_SMALLEST_MILLIMETRES = 9.0
"""Side of the smallest island of skin that is kept, and of the smallest cast shadow."""
_UNUSUAL = 2.2
"""Smallest deviation of an outlier, relative to the usual deviation of this skin."""
_BRIDGE_MILLIMETRES = 1.5
"""Gaps of up to this width do not interrupt a strand."""
_GLASSES = 0.1
"""A person wears glasses if more than this share of the bridge of the nose is not skin."""
_FRAME_HIGHLIGHT = 0.16
"""A thin line is a highlight on a frame if its log brightness exceeds the skin around by this."""
_ONE_SIDED = 0.55
"""A point is in a cast shadow if it is darker than its mirror image by this log brightness."""
_SHADOW_MILLIMETRES = 2.0
"""Scale of the search for cast shadows."""
_BEARD = -0.22
"""A person has a beard if chin and upper lip, relative to the face, are below this brightness."""


@dataclass(frozen=True)
class FaceZones:
    """Parts of the face where dark or strong colours are normal; 0 to 1 for each texel."""

    beard: Float[Tensor, "R R"]
    """Where beards grow."""
    chin: Float[Tensor, "R R"]
    """Where the darkness of a beard is measured."""
    features: Float[Tensor, "R R"]
    """Lips, brows, lids and nostrils."""
    bridge: Float[Tensor, "R R"]
    """Bridge of the nose, where glasses rest."""
    frame: Float[Tensor, "R R"]
    """Where rims and arms of glasses lie."""
    folds: Float[Tensor, "R R"]
    """Between the wings of the nose and the jaw, where cheeks fold."""


def face_zones(
    position: Float[Tensor, "3 R R"], regions: dict[str, Float[Tensor, "R R"]]
) -> FaceZones:
    """Return the zones for each texel.

    Args:
        position: of each texel on the mean head, metres.
        regions: how far each texel belongs to each region of the model, 0 to 1.
    """
    x, y = position[0].abs(), position[1]
    inner = regions["face"]
    lips = regions["lips"]
    beard = ((-0.028 - y) / 0.014).clamp(0, 1)
    side = ((x - 0.045) / 0.012).clamp(0, 1) * ((0.0 - y) / 0.02).clamp(0, 1)
    chin = ((0.030 - x) / 0.008).clamp(0, 1) * ((-0.046 - y) / 0.008).clamp(0, 1)
    chin = chin * inner * (1 - lips)
    nostrils = ((0.016 - x) / 0.004).clamp(0, 1) * ((y + 0.056) / 0.004).clamp(0, 1)
    nostrils = nostrils * ((-0.038 - y) / 0.004).clamp(0, 1)
    features = torch.maximum(torch.maximum(lips, regions["brows"]), regions["eyes"])
    features = torch.maximum(features, nostrils)
    front = (position[2] > 0).to(x)
    bridge = (x < 0.009).to(x) * (y.abs() < 0.009).to(x) * front
    frame = ((x - 0.006) / 0.004).clamp(0, 1) * ((0.016 - y) / 0.004).clamp(0, 1)
    frame = frame * ((y + 0.046) / 0.004).clamp(0, 1) * inner
    folds = ((x - 0.014) / 0.004).clamp(0, 1) * ((0.046 - x) / 0.004).clamp(0, 1) * inner
    folds = folds * ((-0.030 - y) / 0.004).clamp(0, 1)
    return FaceZones(torch.maximum(beard, side) * (1 - lips), chin, features, bridge, frame, folds)


def has_glasses(not_skin: Float[Tensor, "R R"], zones: FaceZones) -> bool:
    """Whether something other than skin lies across the bridge of the nose.

    Args:
        not_skin: probability of a class other than skin, 0 where hidden.
        zones: those of `face_zones`.
    """
    return bool((not_skin * zones.bridge).sum() > _GLASSES * zones.bridge.sum())


def has_beard(
    residual: Float[Tensor, "3 R R"], weight: Float[Tensor, "R R"], zones: FaceZones
) -> bool:
    """Whether chin and upper lip are darker than the face because of a beard.

    Args:
        residual: log colour that model and light do not explain.
        weight: how far each texel shows skin, 0 to 1.
    """
    brightness = residual.mean(0)
    chin = (weight > 0.5) & (zones.chin > 0.5)
    face = (weight > 0.5) & (zones.beard < 0.1) & (zones.features < 0.1)
    if int(chin.sum()) < 50 or int(face.sum()) < 50:
        return False
    return bool(brightness[chin].median() - brightness[face].median() < _BEARD)


def skin_tone(
    residual: Float[Tensor, "3 R R"], weight: Float[Tensor, "R R"]
) -> Float[Tensor, "3 1 1"]:
    """Return the median residual of clearly visible skin, zero if there is none."""
    clear = weight > 0.6
    if int(clear.sum()) < 50:
        return residual.new_zeros(3, 1, 1)
    return residual[:, clear].median(dim=-1).values[:, None, None]


def free_of_occluders(
    residual: Float[Tensor, "3 R R"],
    weight: Float[Tensor, "R R"],
    not_skin: Float[Tensor, "R R"],
    zones: FaceZones,
    scale: float,
    *,
    bearded: bool,
) -> Float[Tensor, "R R"]:
    """Return how far each visible texel is bare skin, 0 to 1, with soft borders.

    Args:
        residual: log colour that model and light do not explain.
        weight: how far each texel is visible and segmented as skin, 0 to 1.
        not_skin: probability of a class other than skin, 0 where hidden.
        scale: texels per millimetre.
        bearded: whether the person has a beard; its darkness is then no outlier.
    """
    difference = residual - skin_tone(residual, weight)
    brightness = difference.mean(0)
    hue = (difference - brightness).square().mean(0).sqrt()
    around = blur_weighted(
        brightness[None], weight * (1 - zones.features), _LIGHT_MILLIMETRES * scale
    )[0]
    seen = weight > 0.02
    smooth = gaussian_blur(torch.where(seen, brightness, around)[None], 0.25 * scale)[0]
    filled = closed(smooth, _STRAND_MILLIMETRES * scale)
    plain = (weight > 0.5) & (zones.features < 0.1) & (zones.beard < 0.5)
    dark = _beyond(around.clamp(max=0.1) - brightness, _DARK, plain)
    thin = _beyond(filled - smooth, _STRAND, plain)
    allowed = torch.maximum(zones.features, zones.beard if bearded else zones.chin)
    colourful = _beyond(hue, _HUE, plain) & (zones.features < 0.3)
    outlier = (((dark | thin) & (allowed < 0.3)) | colourful) & seen
    beside = _beyond(brightness - around, _HIGHLIGHT, plain) | (
        (brightness < -_SHADE) & (allowed < 0.3)
    )
    glasses = has_glasses(not_skin, zones)
    foreign = not_skin > 0.4
    if glasses:
        # What touches rims is a fold of the cheek, unless it lies where rims lie.
        foreign = foreign & (torch.maximum(zones.frame, zones.bridge) < 0.5)
    hidden = _attached(
        outlier, beside & seen & (zones.features < 0.3), foreign, zones.folds > 0.5, scale
    )
    if glasses:
        # The segmentation misses thin rims, and they do not touch other areas that it finds.
        highlight = _beyond(
            smooth + closed(-smooth, _STRAND_MILLIMETRES * scale), _FRAME_HIGHLIGHT, plain
        )
        hidden |= (outlier | highlight) & seen & (zones.frame > 0.5) & (zones.features < 0.3)
    shadow = _in_shadow(brightness, weight * (~hidden).float(), scale)
    hidden |= shadow & (zones.features < 0.3) & ~(bearded & (zones.beard > 0.3))
    kept = seen & ~hidden
    hidden |= kept & ~_large(kept, (_SMALLEST_MILLIMETRES * scale) ** 2)
    bare = eroded((~hidden).float(), _MARGIN_MILLIMETRES * scale)
    return 1 - gaussian_blur(1 - bare[None], 0.8 * scale)[0].mul(2).clamp(0, 1)


def _in_shadow(
    brightness: Float[Tensor, "R R"], weight: Float[Tensor, "R R"], scale: float
) -> Bool[Tensor, "R R"]:
    """Return the areas of skin, larger than a mark, that are far darker than their mirror image."""
    smooth = blur_weighted(brightness[None], weight, _SHADOW_MILLIMETRES * scale)[0]
    both = (weight > 0.3) & (weight.flip(-1) > 0.5)
    darker = both & (smooth < smooth.flip(-1) - _ONE_SIDED)
    return _large(darker, (_SMALLEST_MILLIMETRES * scale) ** 2)


def _beyond(
    image: Float[Tensor, "R R"], threshold: float, plain: Bool[Tensor, "R R"]
) -> Bool[Tensor, "R R"]:
    """Return where an image exceeds a threshold, which is higher if the plain skin varies more."""
    if bool(plain.any()):
        usual = float(image[plain].abs().quantile(0.6))
        threshold = min(max(threshold, _UNUSUAL * usual), 1.6 * threshold)
    return image > threshold


def _large(mask: Bool[Tensor, "R R"], area: float) -> Bool[Tensor, "R R"]:
    """Return the mask without its islands of fewer texels than `area`."""
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask.numpy(), output=labels)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return torch.from_numpy(sizes >= area)[torch.from_numpy(labels).long()] & mask


def _attached(
    outlier: Bool[Tensor, "R R"],
    beside: Bool[Tensor, "R R"],
    foreign: Bool[Tensor, "R R"],
    folds: Bool[Tensor, "R R"],
    scale: float,
) -> Bool[Tensor, "R R"]:
    """Return the outliers that touch, or nearly touch, areas that are not skin.

    A dark line among folds is a fold, even if it ends at hair: there, only what touches hair counts.

    Args:
        beside: highlights and shadows, which count only near such areas.
        foreign: areas that the segmentation does not class as skin.
        folds: where cheeks fold.
    """
    if not bool(foreign.any()):
        return torch.zeros_like(outlier)
    candidates = outlier.numpy()
    distance: NDArray[np.float64] = np.asarray(
        ndimage.distance_transform_edt(~foreign.numpy()), np.float64
    )
    steps = max(1, round(_BRIDGE_MILLIMETRES * scale / 2))
    bridged: NDArray[np.bool_] = np.asarray(
        ndimage.binary_dilation(candidates, iterations=steps), np.bool_
    )
    among_folds = folds.numpy()
    near = np.where(among_folds, _TOUCHING_MILLIMETRES, _NEAR_MILLIMETRES)
    reach = np.where(among_folds, _TOUCHING_MILLIMETRES, _REACH_MILLIMETRES)
    close = distance < near * scale
    bridged &= distance < reach * scale
    grown: NDArray[np.bool_] = np.asarray(
        ndimage.binary_propagation(candidates & close, mask=bridged), np.bool_
    )
    return torch.from_numpy(grown | (beside.numpy() & close))


def closed(image: Float[Tensor, "R R"], size: float) -> Float[Tensor, "R R"]:
    """Return the image with dark structures narrower than `size` pixels filled."""
    reach = max(1, round(size / 2))
    grown = torch.nn.functional.max_pool2d(image[None, None], 2 * reach + 1, 1, reach)
    return -torch.nn.functional.max_pool2d(-grown, 2 * reach + 1, 1, reach)[0, 0]
