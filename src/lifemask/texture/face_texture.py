"""The photo's own skin as the head's texture: unwrapped, freed of light, completed where unseen.

Everything happens in the logarithm of linear light, relative to the fitted albedo of the morphable
model: that residual is small, so it can be blurred, mirrored and extended without inventing
features. Its slow part is mostly light that nine spherical harmonics could not express (cast
shadows, gloss) and is mostly removed; its fast part is the person.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import light_axes_from_camera
from lifemask.geometry.meshes import Mesh, vertex_normals
from lifemask.io.colour import image_from_pixels, pixels_from_image
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.head_surface import opaque_mesh
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.perception.photo_segments import segmentation_at
from lifemask.rendering import (
    Fragments,
    UnwrappedPhoto,
    interpolate,
    rasterize_uv,
    texel_extent,
    unwrap_photo,
)
from lifemask.rendering.filters import (
    blur_weighted,
    eroded,
    fill_unknown,
    gaussian_blur,
    resized,
)
from lifemask.texture.eyes import (
    eyes_hidden,
    iris_colour,
    paint_irises,
    socket_light,
)
from lifemask.texture.fine_texture import (
    SIZES,
    add_photo_detail,
    enlarged_texture,
    size_for_photo,
)
from lifemask.texture.hair import HairEstimate, estimate_hair
from lifemask.texture.mouth import teeth_change, teeth_colour
from lifemask.texture.seen_skin import (
    FaceZones,
    face_zones,
    free_of_occluders,
    has_beard,
    skin_tone,
)

_ANALYSIS_SIZE = 512
"""Texels a side at which light, residuals and completion are computed; detail comes after."""
_SLOW_MILLIMETRES = 12.0
"""Residuals wider than this are taken for light rather than skin."""
_SLOW_SHARE = 0.85
"""How much of them, where they are weak."""
_FOLD_MILLIMETRES = 2.5
"""Width of folds and hollows, where brightness is shadow as well as skin."""
_FOLD_SHARE = 0.35
"""How much of it is taken for shadow."""
_GLOSS_FROM = 0.18
"""Log brightness above the skin around it from which skin is taken for glossy."""
_GLOSS_SHARE = 0.75
"""How much of what is above that is removed."""
_HUE_MILLIMETRES = 6.0
"""Width over which the hue of texels whose channels are clipped is taken from others."""
_HUE_LIMIT = 0.45
"""Root mean square of the log chroma beyond which no skin differs from the person's tone."""
_TINTED = 0.3
"""Root mean square of the log chroma of light in which hues are half as sure."""
_CLIPPED = (0.012, 0.85)
"""Linear light below or above which a channel has lost its value."""
_GREY = 0.02
"""Spread of the log chroma of a face below which its photo has no colours."""
_BORDER_MILLIMETRES = 2.5
"""Skin this near to hair, background or anything unseen is not trusted."""
_FACING = 0.3
"""Cosine between normal and view from which the face decides on the size of its texture."""
_DARKEST = 1e-3
"""Linear albedo or intensity below which logarithms are cut off."""
_PADDING = 3
"""Empty texels of the analysis around each part of the atlas that are coloured like the part."""
_BLOCKS_A_STRIP = 32
"""Rows of a reduced photo that are made at a time."""


class TexelOrigin(IntEnum):
    """Where the colour of a texel comes from."""

    IMAGINED = 0
    """The albedo model, carried along with the skin that was seen."""
    MIRRORED = 1
    """The other half of the face."""
    OBSERVED = 2
    """The photo."""


@dataclass(frozen=True)
class FaceTexture:
    """Light-free appearance of one head."""

    albedo: Float[Tensor, "3 R R"]
    """Linear RGB in [0, 1], of at most 2048 texels a side: enough for analysis and small pictures."""
    origin: UInt8[Tensor, "R R"]
    """`TexelOrigin` of each texel."""
    hair: HairEstimate
    """What the scalp was painted with."""
    fine: UInt8[np.ndarray, "F F 3"] | None = None
    """The same albedo with more texels, 8-bit sRGB; None where `albedo` is all there is."""

    @property
    def size(self) -> int:
        """Texels along each side."""
        return self.albedo.shape[-1] if self.fine is None else len(self.fine)

    def pixels(self) -> UInt8[np.ndarray, "F F 3"]:
        """Return the albedo at its full size, 8-bit sRGB."""
        return pixels_from_image(self.albedo) if self.fine is None else self.fine


def face_texture(
    pixels: UInt8[np.ndarray, "H W 3"],
    face: ExplainedFace,
    model: MorphableModel,
    observation: FaceObservation,
    *,
    resolution: int | None = 2048,
) -> FaceTexture:
    """Return the light-free texture of a fitted face.

    Args:
        pixels: the photo the face was fitted to, sRGB.
        face: the face as it was fitted, in the photo's pixels.
        resolution: texels a side, a multiple of 512 up to 8192; None for the smallest of 2048, 4096
            and 8192 that is no coarser than the photo on the visible face, or 8192.

    Raises:
        ValueError: if the model has no albedo, or the resolution is not allowed.
    """
    if model.albedo is None:
        raise ValueError("This model has no albedo; use the default head to get a texture.")
    if resolution is not None and (resolution % _ANALYSIS_SIZE or not 0 < resolution <= SIZES[-1]):
        raise ValueError(
            f"Got a texture resolution of {resolution}; it must be a multiple of {_ANALYSIS_SIZE} "
            f"up to {SIZES[-1]}."
        )
    # What is larger is made from the photo and this moderate size.
    wanted, resolution = resolution, min(resolution or SIZES[0], SIZES[0])
    size = _ANALYSIS_SIZE
    vertices = model.vertices(face.coefficients)
    mesh = opaque_mesh(model, vertices)
    fragments = uv_fragments(model, size)
    scale = texels_per_millimetre(model, fragments, size)
    pixels_per_texel = _pixels_per_millimetre(face.camera, vertices) / (scale * resolution / size)
    photo, camera = _photo_around(pixels, face.camera, vertices, reduced=pixels_per_texel / 2)
    regions = {name: _baked(weight, model, fragments) for name, weight in model.regions.items()}
    skin_region = outer_skin(regions)

    coarse = unwrap_photo(photo, mesh, camera, fragments)
    image_points = interpolate(face.camera.project(vertices)[:, :2], model.triangles, fragments)
    segments = segmentation_at(observation, image_points.flatten(1).T).T.view(-1, size, size)
    facing = ((coarse.cosine - 0.15) / 0.35).clamp(0, 1)
    skin = (((segments[2] + segments[3]) - 0.5) * 3).clamp(0, 1)
    # Segmentation borders are uncertain by millimetres, and hair shades the skin beside it.
    weight = eroded(coarse.visibility * skin, _BORDER_MILLIMETRES * scale) * facing * skin_region
    # Barycentric weights may leave [0, 1] by the rasteriser's snap, and regions with them.
    weight = torch.minimum(weight, gaussian_blur(weight[None], 2.5)[0]).clamp(0, 1) ** 1.5

    normals = vertex_normals(face.camera.to_camera(vertices), model.triangles)
    shading = face.light.shade(light_axes_from_camera(normals))
    shading = interpolate(shading, model.triangles, fragments)
    brightest = float(shading.mean(0)[weight > 0.5].max()) if (weight > 0.5).any() else 1.0
    log_shading = shading.clamp(min=0.08 * brightest).log()

    model_log = resized(
        model.albedo.texture(face.coefficients.albedo).clamp(min=_DARKEST).log(), size
    )
    residual = coarse.texture.clamp(min=_DARKEST).log() - log_shading - model_log
    residual = residual.clamp(-1.5, 0.9)
    position = interpolate(model.mean, model.triangles, fragments)
    zones = face_zones(position, regions)
    bearded = has_beard(residual, weight, zones)
    foreign = (1 - segments[2] - segments[3]) * (coarse.visibility > 0.5) * skin_region
    bare = free_of_occluders(residual, weight, foreign, zones, scale, bearded=bearded)
    weight = weight * bare
    tint = (log_shading - log_shading.mean(0))[:, weight > 0.5]
    hue_lost = _hue_lost(residual, coarse.texture, weight, zones, tint, scale)
    light_left = hue_lost + _light_left(
        residual - hue_lost, weight, zones.beard if bearded else torch.zeros_like(weight), scale
    )
    corrected = residual - light_left
    mirrored, mirrored_weight = corrected.flip(-1), weight.flip(-1) * 0.95
    known = torch.maximum(weight, mirrored_weight)
    blend = weight / (weight + (1 - weight) * mirrored_weight).clamp(min=1e-4)
    seen = blend * corrected + (1 - blend) * mirrored
    extended = _extended(seen, known, scale)
    unseen = mirrored_weight * mirrored + (1 - mirrored_weight) * extended
    unseen = unseen * _with_padding(skin_region, fragments)

    if wanted is None:
        wanted = _size_on_visible_face(mesh, face.camera, coarse, fragments, regions["face"])
    # Detail: the same composition, with the photo sampled as finely as it is.
    detail = _detail_size(_pixels_per_millimetre(camera, vertices), scale, resolution)
    fine = unwrap_photo(photo, mesh, camera, uv_fragments(model, detail))
    shown = fine.texture.clone() if wanted > detail == resolution else None
    # Large images from here on: changed in place, as new memory costs more than the arithmetic.
    observed_log = fine.texture.clamp_(min=_DARKEST).log_()
    observed_log -= resized(log_shading + light_left, detail)
    observed_log = resized(observed_log, resolution)
    painted = model.albedo.fine_texture(face.coefficients.albedo, resolution)
    log_albedo = painted.clamp_(min=_DARKEST).log_()
    log_albedo += resized(unseen, resolution)
    from_photo = resized(weight[None], resolution)
    observed_log.clamp_(-6.5, 0).sub_(log_albedo).mul_(from_photo)
    log_albedo += observed_log

    reduction = camera.focal_pixels / face.camera.focal_pixels
    landmarks = observation.landmarks478[:, :2] - face.camera.principal_point
    landmarks = landmarks * reduction + camera.principal_point
    towards_camera = face.light.shade(torch.tensor([[0.0, 0.0, 1.0]]))[0]
    teeth = teeth_colour(photo, landmarks, towards_camera)
    inner = teeth_change(teeth, model_log, regions["teeth"], position[0].abs())
    log_albedo += resized(inner + socket_light(model, fragments).log(), resolution)
    albedo = log_albedo.exp_().clamp_(0, 1)
    beside, share = _hair_beside(pixels, observation, towards_camera)
    hair = estimate_hair(
        coarse.texture,
        coarse.visibility,
        segments,
        regions["scalp"],
        log_shading,
        beside=beside,
        beside_share=share,
    )
    albedo, hairs = hair.paint(albedo, regions["scalp"])
    colour = iris_colour(photo, landmarks, towards_camera, hidden=eyes_hidden(observation))
    albedo = paint_irises(albedo, colour, model)
    if _is_grey(coarse.texture, weight):
        albedo = _toned(albedo, -log_shading, weight)
    origin = torch.full((size, size), int(TexelOrigin.IMAGINED), dtype=torch.uint8)
    origin[mirrored_weight > 0.5] = int(TexelOrigin.MIRRORED)
    origin[weight > 0.5] = int(TexelOrigin.OBSERVED)
    repeat = resolution // size
    origin = origin.repeat_interleave(repeat, 0).repeat_interleave(repeat, 1)
    if wanted == resolution:
        return FaceTexture(albedo, origin, hair)
    # The large texture takes as much memory as all that is no longer needed.
    del photo, coarse, fine, observed_log, log_albedo
    larger = enlarged_texture(pixels_from_image(albedo), wanted)
    if shown is not None:
        from_photo[0, : len(hairs)] *= 1 - hairs
        add_photo_detail(larger, pixels, mesh, face.camera, coarse_photo=shown, share=from_photo[0])
    return FaceTexture(albedo, origin, hair, larger)


def _size_on_visible_face(
    mesh: Mesh,
    camera: PerspectiveCamera,
    seen: UnwrappedPhoto,
    fragments: Fragments,
    face: Float[Tensor, "R R"],
) -> int:
    """Return the size of texture that a photo needs; see `size_for_photo`."""
    visible = (seen.visibility > 0.5) & (seen.cosine > _FACING) & (face > 0.5) & fragments.mask
    longer, _ = texel_extent(mesh, camera, resolution=1)
    return size_for_photo(longer.norm(dim=0)[fragments.triangle_index[visible]])


def _pixels_per_millimetre(camera: PerspectiveCamera, vertices: Float[Tensor, "V 3"]) -> float:
    """Return how finely the camera sees what is nearest to it."""
    distance = camera.to_camera(vertices)[:, 2].amin()
    return float(camera.focal_pixels / distance) / 1000


def _detail_size(pixels_per_millimetre: float, scale: float, resolution: int) -> int:
    """Return the smallest texture size whose texels are finer than the photo's pixels on the face.

    Args:
        scale: texels per millimetre at the analysis size.
        resolution: largest size allowed.
    """
    size = _ANALYSIS_SIZE
    while size < resolution and scale * size / _ANALYSIS_SIZE < 1.3 * pixels_per_millimetre:
        size *= 2
    return min(size, resolution)


def outer_skin(regions: dict[str, Float[Tensor, "R R"]]) -> Float[Tensor, "R R"]:
    """Return where texels are skin that a photo can show: no eyeballs, mouth bag or teeth."""
    inner = sum(
        regions[name]
        for name in ("mouth_bag", "teeth", "tongue", "lashes", "eyeball_left", "eyeball_right")
    )
    return (regions["skin"] * (1 - inner)).clamp(0, 1)


def _with_padding(weight: Float[Tensor, "R R"], fragments: Fragments) -> Float[Tensor, "R R"]:
    """Carry a weight into the empty texels beside it, which filters mix into the surface's edge."""
    around = max_pool2d(weight[None], 2 * _PADDING + 1, stride=1, padding=_PADDING)[0]
    return torch.where(fragments.mask, weight, around)


def _light_left(
    residual: Float[Tensor, "3 R R"],
    weight: Float[Tensor, "R R"],
    dark: Float[Tensor, "R R"],
    scale: float,
) -> Float[Tensor, "3 R R"]:
    """Return the part of the residual that is taken for light.

    The skin's overall tone is not light. Slow deviations from it mostly are, unless they are dark
    where that is due to a beard (`dark`, 0 to 1). Of brightness at the scale of folds a share is shadow too. What stays much
    brighter than the skin around it is gloss, which also has the light's colour, not the skin's.
    """
    tone = (residual * weight).sum((-2, -1), keepdim=True) / weight.sum().clamp(min=1)
    slow = blur_weighted(residual - tone, weight, _SLOW_MILLIMETRES * scale)
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
    excess = (brightness - folds - _GLOSS_FROM).clamp(min=0)
    gloss = _GLOSS_SHARE * excess + (rest - brightness) * (excess / 0.25).clamp(max=1)
    return slow + folds + gloss


def _hue_lost(
    residual: Float[Tensor, "3 R R"],
    photo: Float[Tensor, "3 R R"],
    weight: Float[Tensor, "R R"],
    zones: FaceZones,
    tint: Float[Tensor, "3 N"],
    scale: float,
) -> Float[Tensor, "3 R R"]:
    """Return the change of hue that is no property of skin, but of clipped channels or stray light.

    Where a channel is clipped, hue comes from around; nowhere does it leave the person's by more
    than skin does, but on lips and brows. In strongly tinted light less can be known.

    Args:
        tint: log chroma of the light where the face is seen.
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
    strength = float(tint.square().mean().sqrt()) if tint.numel() else 0.0
    limit = _HUE_LIMIT / (1 + (strength / _TINTED) ** 2) * (1 + 2 * zones.features)
    kept = kept * torch.tanh(size / limit) * limit / size
    return difference - kept


def _is_grey(photo: Float[Tensor, "3 R R"], weight: Float[Tensor, "R R"]) -> bool:
    seen = weight > 0.5
    if int(seen.sum()) < 100:
        return False
    log = photo[:, seen].clamp(min=_DARKEST).log()
    return bool((log - log.mean(0)).square().mean().sqrt() < _GREY)


def _toned(
    albedo: Float[Tensor, "3 R R"], log_colour: Float[Tensor, "3 r r"], weight: Float[Tensor, "r r"]
) -> Float[Tensor, "3 R R"]:
    """Return the texture with its brightness kept and one hue everywhere: a grey photo shows none.

    Args:
        log_colour: what the hue of a texel must be for the photo to be grey.
    """
    hue = (log_colour - log_colour.mean(0))[:, weight > 0.5].mean(-1)
    return (albedo.mean(0) * hue.exp()[:, None, None]).clamp(0, 1)


def _hair_beside(
    pixels: UInt8[np.ndarray, "H W 3"], observation: FaceObservation, shading: Float[Tensor, "3"]
) -> tuple[Float[Tensor, "3 N"], float]:
    """Return light-free colours of the hair around the face, and its area against the face's."""
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


def _extended(
    residual: Float[Tensor, "3 R R"], known: Float[Tensor, "R R"], scale: float
) -> Float[Tensor, "3 R R"]:
    """Carry the residual into what was never seen, trusting typical skin more than its edges."""
    typical = blur_weighted(residual, known, 3 * _SLOW_MILLIMETRES * scale)
    unlike = ((residual - typical) ** 2).mean(0)
    trust = known * torch.exp(-unlike / 0.2**2)
    smooth = gaussian_blur(torch.cat([residual * trust, trust[None]]), 2 * scale)
    return fill_unknown(smooth[:-1], smooth[-1])


def _photo_around(
    pixels: UInt8[np.ndarray, "H W 3"],
    camera: PerspectiveCamera,
    vertices: Float[Tensor, "V 3"],
    *,
    reduced: float,
) -> tuple[Float[Tensor, "3 h w"], PerspectiveCamera]:
    """Cut the head out of the photo in linear light, so that huge photos cost little.

    Args:
        reduced: how much coarser the cutout may be; whole numbers count.
    """
    points = camera.project(vertices)[:, :2]
    height, width = camera.image_size
    low, high = points.amin(0).tolist(), points.amax(0).tolist()
    left, top = (int(min(max(low[k] - 8, 0), (width, height)[k] - 16)) for k in range(2))
    right, bottom = (
        int(max(min(high[k] + 8, (width, height)[k]), (left, top)[k] + 16)) for k in range(2)
    )
    block = max(1, int(reduced))
    right -= (right - left) % block
    bottom -= (bottom - top) % block
    part = _block_means(pixels[top:bottom, left:right], block)
    return part, camera.cropped(left, top, (part.shape[1], part.shape[2]), 1 / block)


def _block_means(pixels: UInt8[np.ndarray, "H W 3"], block: int) -> Float[Tensor, "3 h w"]:
    """Return the mean linear light of square blocks of pixels, a strip at a time."""
    if block == 1:
        return image_from_pixels(np.ascontiguousarray(pixels))
    rows = block * _BLOCKS_A_STRIP
    strips = (
        avg_pool2d(image_from_pixels(pixels[row : row + rows])[None], block)[0]
        for row in range(0, len(pixels), rows)
    )
    return torch.cat(list(strips), dim=-2)


@lru_cache(maxsize=4)
def _cached_fragments(key: tuple[int, int], model: MorphableModel) -> Fragments:
    solid = opaque_mesh(model, model.mean)
    assert solid.uv is not None
    assert solid.uv_triangles is not None
    return rasterize_uv(solid.uv, solid.uv_triangles, key[1])


def uv_fragments(model: MorphableModel, resolution: int) -> Fragments:
    """Return (and remember) which triangle each texel lies on; lashes have a texture of their own."""
    return _cached_fragments((id(model), resolution), model)


def _baked(
    per_vertex: Float[Tensor, "V"], model: MorphableModel, fragments: Fragments
) -> Float[Tensor, "R R"]:
    return interpolate(per_vertex[:, None], model.triangles, fragments)[0]


def texels_per_millimetre(model: MorphableModel, fragments: Fragments, size: int) -> float:
    """Return the texture's scale on the face, by the area of its texels."""
    face = model.regions["face"] > 0.5
    inside = face[model.triangles].all(-1)
    a, b, c = (model.mean[model.triangles[inside, k]] for k in range(3))
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1).sum() / 2
    texels = inside[fragments.triangle_index.clamp(min=0)] & fragments.mask
    return float((texels.sum() / (area * 1e6)).sqrt())
