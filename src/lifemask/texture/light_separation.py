"""Separates skin and light in the unwrapped photo.

All values are logarithms of linear light, relative to the fitted albedo of the morphable model.
This residual is small; blurring, mirroring and extending it adds no new features. Its slow part is
mostly light that nine spherical harmonics cannot express (cast shadows, specular light), and most
of it is removed. Its fast part is the person's skin.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.lighting import light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.rendering import interpolate
from lifemask.rendering.displacement import (
    displaced_normals,
    displacement_slopes,
    texture_gradients,
)
from lifemask.rendering.filters import blur_weighted, resized
from lifemask.rendering.heads import known_displacement
from lifemask.texture.atlas import Atlas
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
_SPECULAR_FROM = 0.18
"""Light is taken for specular if its log brightness exceeds that of the skin around by this."""
_SPECULAR_SHARE = 0.75
"""Share of the excess that is removed."""
_HUE_MILLIMETRES = 6.0
"""Texels with clipped channels get the hue of texels within this width."""
HUE_LIMIT, FINE_HUE_LIMIT = 0.45, 0.2
"""Largest difference of skin from the person's tone: root mean square of the log chroma; and from an
albedo map, which holds the differences that are wide."""
_TINTED = 0.3
"""Root mean square of the log chroma of light that halves this limit."""
_DARKEST_SHARE = 0.08
"""Least light, in units of the brightest."""
_MOST_RELIEF = 0.5
"""Largest change of the log light by the relief of the skin."""
_CLIPPED = (0.012, 0.85)
"""A channel counts as clipped if its linear light is below the first or above the second value."""


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


def separate_light(
    skin: PhotoSkin,
    log_shading: Float[Tensor, "3 R R"],
    model_log: Float[Tensor, "3 R R"],
    atlas: Atlas,
    *,
    hue_limit: float = HUE_LIMIT,
) -> SkinColour:
    """Return the visible skin without light and without occluders.

    Args:
        skin: the visible skin.
        log_shading: logarithm of the fitted light.
        model_log: log albedo of the fitted model.
        atlas: of the analysis size.
        hue_limit: largest difference of skin from the person's tone: root mean square of the log chroma.
    """
    weight, scale = skin.weight, atlas.texels_per_millimetre
    residual = skin.photo.texture.clamp(min=DARKEST).log() - log_shading - model_log
    residual = residual.clamp(-1.5, 0.9)
    zones = face_zones(atlas.position, atlas.regions)
    bearded = has_beard(residual, weight, zones)
    bare = free_of_occluders(residual, weight, skin.not_skin, zones, scale, bearded=bearded)
    weight = weight * bare
    tint = (log_shading - log_shading.mean(0))[:, weight > 0.5]
    strength = float(tint.square().mean().sqrt()) if tint.numel() else 0.0
    limit = hue_limit / (1 + (strength / _TINTED) ** 2)
    hue_lost = _hue_lost(residual, skin.photo.texture, weight, zones, limit, scale)
    beard = zones.beard if bearded else torch.zeros_like(weight)
    light_left = hue_lost + _light_left(residual - hue_lost, weight, beard, scale)
    return SkinColour(residual - light_left, weight, log_shading, light_left)


@dataclass(frozen=True)
class SeparatedPhoto:
    """What a network knows of skin and light of a photo, per texel."""

    log_shading: Float[Tensor, "3 R R"]
    """Logarithm of the light; of the fitted one where the network knows none."""
    albedo_change: Float[Tensor, "3 R R"]
    """Log albedo relative to the model's; 0 where the network knows none."""
    light_known: Float[Tensor, "1 R R"]
    """How far the light is the network's, 0 to 1."""
    light_texels: int
    """Texels along each side of the network's light."""

    def beyond_light(self, log_shading: Float[Tensor, "3 R R"]) -> Float[Tensor, "3 R R"]:
        """Return what of a shading the network's light does not hold: its fine part where there is one."""
        size = log_shading.shape[-1]
        return log_shading - self.light_known * resized(
            resized(log_shading, self.light_texels), size
        )


def separated_photo(
    face: ExplainedFace, model_log: Float[Tensor, "3 R R"], log_shading: Float[Tensor, "3 R R"]
) -> SeparatedPhoto | None:
    """Return a coarse albedo map and the light map of a face at the analysis size.

    None for a face without an albedo map, or with one that is as fine as the analysis: it is complete.

    Args:
        face: fitted.
        model_log: log albedo of the fitted model.
        log_shading: logarithm of the fitted light.
    """
    size = model_log.shape[-1]
    if face.albedo_map is None or face.albedo_map.values.shape[-1] >= size:
        return None

    def log_of(known: UVMap) -> tuple[Float[Tensor, "3 R R"], Float[Tensor, "1 R R"]]:
        values = resized(known.values.clamp(min=DARKEST).log(), size)
        return values, resized(known.coverage[None], size).clamp(0, 1)

    albedo, albedo_known = log_of(face.albedo_map)
    light_known, texels = torch.zeros_like(albedo_known), size
    if face.light_map is not None:
        light, light_known = log_of(face.light_map)
        texels = face.light_map.values.shape[-1]
        log_shading = torch.lerp(log_shading, light, light_known)
    return SeparatedPhoto(log_shading, (albedo - model_log) * albedo_known, light_known, texels)


def fitted_log_shading(
    face: ExplainedFace,
    model: MorphableModel,
    weight: Float[Tensor, "R R"],
    atlas: Atlas,
) -> Float[Tensor, "3 R R"]:
    """Return the logarithm of the fitted light, cut off far below its maximum on visible skin.

    Args:
        weight: how far each texel shows skin, 0 to 1.
    """
    vertices = face.camera.to_camera(model.vertices(face.coefficients))
    shading = face.light.shade(light_axes_from_camera(vertex_normals(vertices, model.triangles)))
    shading = interpolate(shading, model.triangles, atlas.fragments)
    brightest = float(shading.mean(0)[weight > 0.5].max()) if (weight > 0.5).any() else 1.0
    return shading.clamp(min=_DARKEST_SHARE * brightest).log()


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
    return (rough - smooth).clamp(-_MOST_RELIEF, _MOST_RELIEF) * atlas.fragments.mask


def _light_left(
    residual: Float[Tensor, "3 R R"],
    weight: Float[Tensor, "R R"],
    dark: Float[Tensor, "R R"],
    scale: float,
) -> Float[Tensor, "3 R R"]:
    """Return the part of the residual that is taken for light.

    The skin's overall tone is not light. Slow deviations from it are mostly light, except the
    darkness of a beard. A share of the brightness at the scale of folds is shadow too. Texels that
    remain much brighter than the skin around them are specular and have the light's colour.

    Args:
        residual: log albedo relative to the model's.
        weight: how far each texel shows bare skin, 0 to 1.
        dark: where the person has a beard, 0 to 1.
        scale: texels per millimetre.
    """
    tone = (residual * weight).sum((-2, -1), keepdim=True) / weight.sum().clamp(min=1)
    slow = blur_weighted(residual - tone, weight, SLOW_MILLIMETRES * scale)
    darkness = (-slow.mean(0, keepdim=True)).clamp(min=0)
    slow = (
        slow
        * _SLOW_SHARE
        * torch.lerp(torch.ones_like(darkness), torch.exp(-((darkness / 0.6) ** 2)), dark)
    )
    rest = residual - tone - slow
    brightness = rest.mean(0, keepdim=True)
    folds = blur_weighted(brightness, weight, _FOLD_MILLIMETRES * scale)
    folds = _FOLD_SHARE * folds * torch.exp(-((folds / 0.6) ** 2))
    excess = (brightness - folds - _SPECULAR_FROM).clamp(min=0)
    specular = _SPECULAR_SHARE * excess + (rest - brightness) * (excess / 0.25).clamp(max=1)
    return slow + folds + specular


def _hue_lost(
    residual: Float[Tensor, "3 R R"],
    photo: Float[Tensor, "3 R R"],
    weight: Float[Tensor, "R R"],
    zones: FaceZones,
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
    low, high = _CLIPPED
    channels = ((photo.amin(0) - low / 2) / (low / 2)).clamp(0, 1)
    channels = channels * ((1 - photo.amax(0)) / (1 - high)).clamp(0, 1)
    hue = residual - residual.mean(0)
    tone = skin_tone(hue, weight * channels)
    difference = hue - tone
    around = blur_weighted(difference, weight * channels, _HUE_MILLIMETRES * scale)
    kept = around + channels * (difference - around)
    size = kept.square().mean(0).sqrt().clamp(min=1e-4)
    local = limit * (1 + 2 * zones.features)
    kept = kept * torch.tanh(size / local) * local / size
    return difference - kept
