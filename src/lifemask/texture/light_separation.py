"""Separates skin and light in the unwrapped photo.

All values are logarithms of linear light, relative to the fitted albedo of the morphable model.
This residual is small; blurring, mirroring and extending it adds no new features. Its slow part is
mostly light that nine spherical harmonics cannot express (cast shadows, specular light), and most
of it is removed. Its fast part is the person's skin.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from lifemask.geometry.lighting import light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.io.colour import LUMINANCE
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.rendering import interpolate
from lifemask.rendering.displacement import (
    displaced_normals,
    displacement_slopes,
    groove_visibility,
    texture_gradients,
)
from lifemask.rendering.filters import blur_weighted, fill_unknown, gaussian_blur, resized
from lifemask.rendering.heads import known_displacement
from lifemask.texture.atlas import Atlas
from lifemask.texture.creases import crease_shadow
from lifemask.texture.photo_skin import PhotoSkin
from lifemask.texture.seen_skin import (
    FaceZones,
    face_zones,
    free_of_occluders,
    has_beard,
    skin_tone,
)

DARKEST = 1e-3
"""Smallest linear albedo or intensity in logarithms; smaller values are replaced by it."""
_SLOW_SHARE = 0.85
"""Share of the slow residual that is removed where it is weak."""
SLOW_MILLIMETRES = 12.0
"""Residuals wider than this are taken for light rather than skin."""
_FOLD_MILLIMETRES = 2.5
"""Width of folds and hollows; their brightness is partly shadow."""
_FOLD_SHARE = 0.35
"""Share of the brightness at this scale that is taken for shadow."""
_STEP_MILLIMETRES = 14.0
"""Structures narrower than half of this are skin, however dark."""
_LEAST_STEP = 0.25
"""Log brightness from which a step is the border of a shadow; twice as much is so wholly."""
_SPECULAR_FROM = 0.18
"""Light is taken for specular if its log brightness exceeds that of the skin around by this."""
_SPECULAR_SHARE = 0.75
"""Share of the excess that is removed."""
_HUE_MILLIMETRES = 6.0
"""Texels with clipped channels get the hue of texels within this width."""
_HUE_LIMIT = 0.3
"""Largest difference of skin from the person's tone: root mean square of the log chroma."""
_FINE_HUE_LIMIT = 0.12
"""The same for the difference of fine detail from the skin around."""
_LIPS_HUE_LIMIT = 1.5
"""By how much it is larger on lips: lipstick ends at a sharp border."""
_TINTED = 0.3
"""Root mean square of the log chroma of light that halves this limit."""
_DARKEST_SHARE = 0.08
"""Least light, in units of the brightest."""
_MOST_RELIEF = 0.5
"""Largest change of the log light by the relief of the skin."""
_TELLS_HUE = (0.006, 0.03)
"""Linear light of the darkest channel from which a pixel tells a hue, in part and wholly. Below, noise
and JPEG change the logarithm by more than skins differ."""
_BRIGHT = 0.85
"""Linear light from which a channel is nearly clipped."""
_BLACK = (0.03, 0.07)
"""Brightness, over the median of the visible face, below which a texel tells nothing about skin, wholly
and in part: not even black beards are so dark."""
_BLACK_ONE_SIDED = (0.08, 0.16)
"""The same where the other half of the face is far brighter."""
_ONE_SIDED = 0.7
"""A texel is far darker than its mirror image by this log brightness."""
_CARRIED_MILLIMETRES = 10.0
"""Distance over which light goes on beside the skin that the photo shows."""
_BLACK_MILLIMETRES = 1.5
"""Scale at which blackness is measured."""


@dataclass(frozen=True)
class SkinColour:
    """The skin that the photo shows, without light, per texel."""

    residual: Float[Tensor, "3 R R"]
    """Log albedo relative to the model's."""
    weight: Float[Tensor, "R R"]
    """How far each texel shows bare skin, 0 to 1."""
    log_shading: Float[Tensor, "3 R R"]
    """Logarithm of the fitted light on each texel."""
    light_left: Float[Tensor, "3 R R"]
    """Logarithm of the light that the fit does not explain."""
    hue_lost: Float[Tensor, "3 R R"]
    """The part of it that is a wrong hue, which the light does not have either."""


def separate_light(
    skin: PhotoSkin,
    log_shading: Float[Tensor, "3 R R"],
    model_log: Float[Tensor, "3 R R"],
    atlas: Atlas,
) -> SkinColour:
    """Return the visible skin without light and without occluders.

    Args:
        skin: the visible skin.
        log_shading: logarithm of the fitted light.
        model_log: log albedo of the fitted model.
        atlas: of the analysis size.
    """
    weight, scale = skin.weight, atlas.texels_per_millimetre
    log_albedo = skin.photo.texture.clamp(min=DARKEST).log() - log_shading
    residual = (log_albedo - model_log).clamp(-1.5, 0.9)
    zones = face_zones(atlas.position, atlas.regions)
    bearded = has_beard(residual, weight, zones)
    bare = free_of_occluders(residual, weight, skin.not_skin, zones, scale, bearded=bearded)
    lit = torch.maximum(_lit(skin.photo.texture, weight, scale), zones.features)
    weight = weight * bare * lit
    tint = (log_shading - log_shading.mean(0))[:, weight > 0.5]
    strength = float(tint.square().mean().sqrt()) if tint.numel() else 0.0
    limit = _HUE_LIMIT / (1 + (strength / _TINTED) ** 2)
    lips = atlas.regions["lips"]
    hue_lost = _hue_lost(residual, skin.photo.texture, weight, zones, lips, limit, scale)
    hue_lost = log_albedo - _at_luminance_of(log_albedo, log_albedo - hue_lost)
    beard = zones.beard if bearded else torch.zeros_like(weight)
    plain = (1 - torch.maximum(zones.features, beard)).clamp(0, 1)
    light_left = hue_lost + _light_left(residual - hue_lost, weight, plain, lips, beard, scale)
    light_left += crease_shadow((residual - light_left).mean(0), weight, plain, scale)
    return SkinColour(residual - light_left, weight, log_shading, light_left, hue_lost)


def hue_told(photo: Float[Tensor, "3 R R"], lips: Float[Tensor, "R R"]) -> Float[Tensor, "R R"]:
    """Return how far each texel tells a hue, 0 to 1: with a dark or clipped channel, not.

    Args:
        photo: unwrapped, linear RGB.
        lips: how far each texel is lip: red lips have dark channels of their own.
    """
    none, all_of_it = _TELLS_HUE
    told = ((photo.amin(0) - none) / (all_of_it - none)).clamp(0, 1)
    told = told * ((1 - photo.amax(0)) / (1 - _BRIGHT)).clamp(0, 1)
    return torch.maximum(told, lips.clamp(0, 1))


def with_trusted_hue(
    fine: Float[Tensor, "3 R R"],
    coarse: Float[Tensor, "3 R R"],
    told: Float[Tensor, "R R"],
    lips: Float[Tensor, "R R"],
) -> Float[Tensor, "3 R R"]:
    """Return the log albedo `fine` with hues near those of `coarse`, which has no false ones.

    Args:
        fine: with all detail of the photo.
        coarse: the same skin, analysed and smooth.
        told: how far each texel of the photo tells a hue, 0 to 1.
        lips: how far each texel is lip; there, and at their border, hues may differ.
    """
    limit = _FINE_HUE_LIMIT + _LIPS_HUE_LIMIT * lips
    hue = coarse - coarse.mean(0)
    kept = _softly_limited((fine - fine.mean(0) - hue) * told, limit)
    return _at_luminance_of(fine, hue + kept)


def _at_luminance_of(
    like: Float[Tensor, "3 R R"], hue: Float[Tensor, "3 R R"]
) -> Float[Tensor, "3 R R"]:
    """Return log colours with the hue of one image and the luminance of another.

    The mean of logarithms is no measure of brightness: a channel near 0 would decide it alone.
    """
    return hue + (_log_luminance(like) - _log_luminance(hue))


def _log_luminance(log: Float[Tensor, "3 R R"]) -> Float[Tensor, "R R"]:
    """Return the logarithm of the luminance of log colours, one channel at a time to save memory."""
    total = torch.zeros_like(log[0])
    for channel, weight in zip(log, LUMINANCE, strict=True):
        total.add_(channel.exp(), alpha=weight)
    return total.log_()


def _softly_limited(
    hue: Float[Tensor, "3 R R"], limit: float | Float[Tensor, "R R"]
) -> Float[Tensor, "3 R R"]:
    """Return log chroma whose root mean square stays below a limit."""
    size = hue.square().mean(0).sqrt().clamp(min=1e-4)
    return hue * (torch.tanh(size / limit) * limit / size)


def _lit(
    photo: Float[Tensor, "3 R R"], weight: Float[Tensor, "R R"], scale: float
) -> Float[Tensor, "R R"]:
    """Return how far each texel of an unwrapped photo is bright enough to tell about skin, 0 to 1."""
    seen = weight > 0.5
    if not bool(seen.any()):
        return torch.ones_like(weight)
    smooth = blur_weighted(photo.mean(0, keepdim=True), weight, _BLACK_MILLIMETRES * scale)[0]
    share = smooth / smooth[seen].median().clamp(min=DARKEST)
    lit = ((share - _BLACK[0]) / (_BLACK[1] - _BLACK[0])).clamp(0, 1)
    mirrored = share.flip(-1) * (weight.flip(-1) > 0.5)
    darker = mirrored > share * torch.exp(share.new_tensor(_ONE_SIDED))
    low, high = _BLACK_ONE_SIDED
    return torch.where(darker, torch.minimum(lit, ((share - low) / (high - low)).clamp(0, 1)), lit)


def fitted_log_shading(
    face: ExplainedFace,
    model: MorphableModel,
    weight: Float[Tensor, "R R"],
    atlas: Atlas,
) -> Float[Tensor, "3 R R"]:
    """Return the logarithm of the light, of the light map where it covers, else fitted; cut off far below its maximum on visible skin.

    Args:
        weight: how far each texel shows skin, 0 to 1.
    """
    vertices = face.camera.to_camera(model.vertices(face.coefficients))
    shading = face.light.shade(light_axes_from_camera(vertex_normals(vertices, model.triangles)))
    shading = interpolate(shading, model.triangles, atlas.fragments)
    if face.light_map is not None:
        coverage = resized(face.light_map.coverage[None], atlas.size).clamp(0, 1)
        shading = torch.lerp(shading, resized(face.light_map.values, atlas.size), coverage)
    brightest = float(shading.mean(0)[weight > 0.5].max()) if (weight > 0.5).any() else 1.0
    return shading.clamp(min=_DARKEST_SHARE * brightest).log()


def whole_light(
    plain: Float[Tensor, "3 R R"], seen: SkinColour, covered: Float[Tensor, "R R"], scale: float
) -> UVMap:
    """Return the light map of a photo: with the skin that it shows, it gives the photo.

    Beside that skin, light that the harmonics do not explain goes on for a few millimetres.

    Args:
        plain: logarithm of the light without any light map.
        seen: the skin without light.
        covered: texels that the map covers, 0 to 1.
        scale: texels per millimetre.
    """
    left = seen.log_shading + seen.light_left - seen.hue_lost - plain
    carried = fill_unknown(left * seen.weight, seen.weight)
    near = gaussian_blur((seen.weight > 0.3).float()[None], _CARRIED_MILLIMETRES * scale)
    left = torch.lerp(carried * (2 * near).clamp(max=1), left, seen.weight)
    return UVMap((plain + left).exp(), covered)


def relief_log_shading(
    face: ExplainedFace, model: MorphableModel, atlas: Atlas
) -> Float[Tensor, "3 R R"] | None:
    """Return by how much the relief of the skin changes the logarithm of the fitted light.

    None for a face without displacement.
    """
    if face.displacement_map is None:
        return None
    placed = light_axes_from_camera(face.camera.to_camera(model.vertices(face.coefficients)))
    normals = interpolate(vertex_normals(placed, model.triangles), model.triangles, atlas.fragments)
    normals = F.normalize(normals, dim=0, eps=1e-9)
    height = resized(known_displacement(face.displacement_map)[None], atlas.size)[0]
    gradients = texture_gradients(placed, model.triangles, model.uv, model.uv_triangles)
    triangle = atlas.fragments.triangle_index.clamp(min=0)
    along = (gradient[triangle].movedim(-1, 0) for gradient in gradients)
    fine = displaced_normals(normals, displacement_slopes(height), *along)
    shading = [face.light.shade(image.movedim(0, -1)).movedim(-1, 0) for image in (normals, fine)]
    darkest = _DARKEST_SHARE * float(shading[0].mean(0)[atlas.fragments.mask].max())
    smooth, rough = (image.clamp(min=darkest).log() for image in shading)
    change = rough - smooth + groove_visibility(height).log()
    return change.clamp(-_MOST_RELIEF, _MOST_RELIEF) * atlas.fragments.mask


def _light_left(
    residual: Float[Tensor, "3 R R"],
    weight: Float[Tensor, "R R"],
    plain: Float[Tensor, "R R"],
    lips: Float[Tensor, "R R"],
    dark: Float[Tensor, "R R"],
    scale: float,
) -> Float[Tensor, "3 R R"]:
    """Return the part of the residual that is taken for light.

    The skin's overall tone is not light. Slow deviations from it are mostly light, except the
    darkness of a beard; so are large steps, the borders of cast shadows. A share of the brightness at
    the scale of folds is shadow too. Texels that remain much brighter than the skin around them are
    specular and have the light's colour.

    Args:
        residual: log albedo relative to the model's.
        weight: how far each texel shows bare skin, 0 to 1.
        plain: how far each texel is skin without features and beard, 0 to 1.
        lips: how far each texel is lip.
        dark: where the person has a beard, 0 to 1.
        scale: texels per millimetre.
    """
    tone = (residual * weight).sum((-2, -1), keepdim=True) / weight.sum().clamp(min=1)
    # The colour of lips says nothing about the light around them.
    skin = weight * (1 - F.max_pool2d(lips[None], 9, 1, 4)[0].clamp(0, 1))
    slow = blur_weighted(residual - tone, skin, SLOW_MILLIMETRES * scale)
    darkness = (-slow.mean(0, keepdim=True)).clamp(min=0)
    slow = (
        slow
        * _SLOW_SHARE
        * torch.lerp(torch.ones_like(darkness), torch.exp(-((darkness / 0.6) ** 2)), dark)
    )
    steps = _steps_of_light(residual - tone - slow, weight * plain, scale)
    slow = slow + steps * (1 - torch.maximum(lips, dark)).clamp(0, 1)
    rest = residual - tone - slow
    brightness = rest.mean(0, keepdim=True)
    folds = blur_weighted(brightness, weight, _FOLD_MILLIMETRES * scale)
    folds = _FOLD_SHARE * folds * torch.exp(-((folds / 0.6) ** 2))
    excess = (brightness - folds - _SPECULAR_FROM).clamp(min=0)
    specular = _SPECULAR_SHARE * excess + (rest - brightness) * (excess / 0.25).clamp(max=1)
    return slow + folds + specular


def _steps_of_light(
    rest: Float[Tensor, "3 R R"], plain: Float[Tensor, "R R"], scale: float
) -> Float[Tensor, "3 R R"]:
    """Return the sharp borders of cast shadows, which slow light cannot follow.

    A median keeps such borders and drops what is small: moles, freckles, creases.

    Args:
        rest: log colour without slow light.
        plain: how far each texel shows skin without features and beard, 0 to 1.
    """
    size, small = len(plain), len(plain) // 2
    known = resized(plain[None], small)[0].clamp(0, 1)
    filled = fill_unknown(resized(rest * plain, small), known)
    window = 2 * round(_STEP_MILLIMETRES * scale / 4) + 1
    medians = [ndimage.median_filter(channel, size=window) for channel in filled.numpy()]
    step = gaussian_blur(torch.from_numpy(np.stack(medians)), 0.5 * scale)
    height = step.mean(0).abs()
    step = step * ((height - _LEAST_STEP) / _LEAST_STEP).clamp(0, 1)
    return resized(step, size)


def _hue_lost(
    residual: Float[Tensor, "3 R R"],
    photo: Float[Tensor, "3 R R"],
    weight: Float[Tensor, "R R"],
    zones: FaceZones,
    lips: Float[Tensor, "R R"],
    limit: float,
    scale: float,
) -> Float[Tensor, "3 R R"]:
    """Return the change of hue that comes from clipped channels or scattered light, not from skin.

    Texels with a clipped channel get the hue of the texels around. Except on lips and brows, hues
    are limited to a distance from the person's tone that is usual for skin; the limit is lower in
    strongly tinted light, which hides hues.

    Args:
        limit: on skin that is no feature.
    """
    channels = hue_told(photo, lips)
    hue = residual - residual.mean(0)
    tone = skin_tone(hue, weight * channels)
    difference = hue - tone
    around = blur_weighted(difference, weight * channels, _HUE_MILLIMETRES * scale)
    # Where hardly any skin around tells a hue either, it is the person's tone.
    telling, seen = gaussian_blur(
        torch.stack([weight * channels, weight]), _HUE_MILLIMETRES * scale
    )
    around = around * (telling / (0.5 * seen).clamp(min=1e-3)).clamp(max=1)
    kept = around + channels * (difference - around)
    return difference - _softly_limited(kept, limit * (1 + 2 * zones.features + 2 * lips))
