"""The head's texture from its photo: unwrapped, freed of light, and completed."""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import max_pool2d

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.meshes import Mesh
from lifemask.io.colour import pixels_from_image
from lifemask.morphable.albedo import AlbedoModel
from lifemask.morphable.covered import covered_vertices
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.head_surface import opaque_mesh
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.rendering import texel_extent, unwrap_photo
from lifemask.rendering.filters import resized
from lifemask.rendering.heads import head_vertices
from lifemask.texture.atlas import ANALYSIS_SIZE, Atlas, head_atlas, uv_fragments
from lifemask.texture.completion import CompletedSkin, complete_skin
from lifemask.texture.eyes import (
    IrisReason,
    estimate_irises,
    eyes_hidden,
    paint_irises,
    socket_light,
)
from lifemask.texture.fine_texture import (
    SIZES,
    add_photo_detail,
    enlarged_texture,
    size_for_photo,
)
from lifemask.texture.grey_photo import is_grey, toned
from lifemask.texture.hair import HairEstimate, estimate_hair, hair_beside
from lifemask.texture.head_photo import HeadPhoto, cut_out_head, pixels_per_millimetre
from lifemask.texture.lids import lids_shown
from lifemask.texture.light_separation import (
    DARKEST,
    SkinColour,
    fitted_log_shading,
    hue_told,
    relief_log_shading,
    separate_light,
    whole_light,
    with_trusted_hue,
)
from lifemask.texture.mouth import mouth_shade, teeth_change, teeth_colour
from lifemask.texture.photo_skin import PhotoSkin, photo_skin
from lifemask.texture.relief import RELIEF_SIZE

_FACING = 0.3
"""Smallest cosine between normal and view of texels that count for the size of the texture."""


class TexelOrigin(IntEnum):
    """Where the colour of a texel comes from."""

    COMPLETED = 0
    """The albedo model, adapted to the skin that the photo shows."""
    MIRRORED = 1
    """The other half of the face."""
    OBSERVED = 2
    """The photo."""
    PREDICTED = 3
    """The albedo map of the face."""


@dataclass(frozen=True)
class FaceTexture:
    """Light-free appearance of one head."""

    albedo: Float[Tensor, "3 R R"]
    """Linear RGB in [0, 1], at most 2048 texels along each side."""
    origin: UInt8[Tensor, "R R"]
    """`TexelOrigin` of each texel."""
    hair: HairEstimate
    """The hair that is painted on the scalp."""
    fine: UInt8[np.ndarray, "F F 3"] | None = None
    """The same albedo with more texels, 8-bit sRGB; None where `albedo` is the full size."""
    irises: IrisReason = "photo"
    """Where the colour of the irises comes from."""
    light_map: UVMap | None = None
    """The light of the photo where its spherical harmonics are not enough: cast shadows, highlights,
    creases. On the skin that the photo shows, it times the albedo is the photo."""

    @property
    def size(self) -> int:
        """Texels along each side."""
        return self.albedo.shape[-1] if self.fine is None else len(self.fine)

    def pixels(self) -> UInt8[np.ndarray, "F F 3"]:
        """Return the albedo at its full size, 8-bit sRGB."""
        return pixels_from_image(self.albedo) if self.fine is None else self.fine


def check_resolution(resolution: int | None) -> None:
    """Raise unless a texture may have so many texels along each side; see `face_texture`.

    Raises:
        ValueError: the resolution is not allowed.
    """
    if resolution is not None and (resolution % ANALYSIS_SIZE or not 0 < resolution <= SIZES[-1]):
        raise ValueError(
            f"Got a texture resolution of {resolution}; it must be a multiple of {ANALYSIS_SIZE} "
            f"up to {SIZES[-1]}."
        )


def face_texture(
    pixels: UInt8[np.ndarray, "H W 3"],
    face: ExplainedFace,
    model: MorphableModel,
    observation: FaceObservation,
    *,
    resolution: int | None = 2048,
) -> FaceTexture:
    """Return the light-free texture of an explained face.

    Where the face has an albedo map that covers a texel, its colour counts. The photo, divided by the light
    (the light map where it covers), gives the others, and completion those that it does not show.

    Args:
        pixels: the photo that the face is fitted to, sRGB.
        face: the fitted face, in the photo's pixels.
        model: its head model, with albedo.
        observation: the photo's measurements; without a segmentation, all is taken for skin.
        resolution: texels along each side, a multiple of 512 up to 8192; None for the smallest of
            2048, 4096 and 8192 that is no coarser than the photo on the visible face, or 8192.

    Raises:
        ValueError: if the model has no albedo, or the resolution is not allowed.
    """
    if model.albedo is None:
        raise ValueError("This model has no albedo; use the default head to get a texture.")
    check_resolution(resolution)
    mesh = opaque_mesh(model, head_vertices(model, face))
    base = _base_texture(pixels, face, model, model.albedo, observation, mesh, wanted=resolution)
    if base.wanted == base.texture.size:
        return base.texture
    # The steps above have freed their memory; the large texture needs as much.
    fine = enlarged_texture(base.texture.pixels(), base.wanted)
    if base.photo is not None:
        add_photo_detail(
            fine, pixels, mesh, face.camera, coarse_photo=base.photo, share=base.photo_share
        )
    return replace(base.texture, fine=fine)


@dataclass(frozen=True)
class _BaseTexture:
    """A texture of at most 2048 texels along each side, and the data for a larger one."""

    texture: FaceTexture
    wanted: int
    """Texels along each side of the wanted texture."""
    photo: Float[Tensor, "3 R R"] | None
    """Linear RGB of the photo on the texture; None if a larger texture has no more detail."""
    photo_share: Float[Tensor, "R R"]
    """How much of each texel's colour comes from the photo, 0 to 1."""


def _base_texture(
    pixels: UInt8[np.ndarray, "H W 3"],
    face: ExplainedFace,
    model: MorphableModel,
    albedo_model: AlbedoModel,
    observation: FaceObservation,
    mesh: Mesh,
    *,
    wanted: int | None,
) -> _BaseTexture:
    """Return the texture at the wanted size or at 2048 texels along each side, if that is smaller.

    Light, residuals and completion are computed at the analysis size. Details are added later.
    """
    size = min(wanted or SIZES[0], SIZES[0])
    atlas = head_atlas(model, ANALYSIS_SIZE)
    photo = _head_photo(pixels, face.camera, mesh, atlas, size)
    coefficients = face.coefficients.albedo
    model_log = albedo_model.texture(coefficients).clamp(min=DARKEST).log()
    model_log = resized(model_log, atlas.size)

    skin = photo_skin(photo, mesh, observation, atlas, covered=covered_vertices(model, face))
    skin = replace(skin, weight=skin.weight * lids_shown(model, face.coefficients, atlas))
    log_shading = fitted_log_shading(face, model, skin.weight, atlas)
    plain = fitted_log_shading(replace(face, light_map=None), model, skin.weight, atlas)
    by_relief = relief_log_shading(face, model, head_atlas(model, RELIEF_SIZE))
    if by_relief is not None:
        relief = resized(by_relief, atlas.size)
        log_shading, plain = log_shading + relief, plain + relief
    seen = separate_light(skin, log_shading, model_log, atlas)
    completed = complete_skin(seen, atlas)

    detail = _detail_size(photo, mesh, atlas, size)
    wanted = wanted or _size_on_visible_face(skin, mesh, face.camera, atlas)
    # The images are large from here on; they change in place to save memory.
    on_texture = unwrap_photo(photo.image, mesh, photo.camera, uv_fragments(model, detail)).texture
    shown = on_texture.clone() if wanted > detail == size else None
    lips = resized(max_pool2d(atlas.regions["lips"][None], 9, 1, 4), detail)[0].clamp(0, 1)
    told = hue_told(on_texture, lips)
    observed_log = on_texture.clamp_(min=DARKEST).log_()
    observed_log -= resized(log_shading + seen.light_left, detail)
    if by_relief is not None:
        # What the analysis is too coarse to show.
        fine = by_relief - resized(resized(by_relief, atlas.size), RELIEF_SIZE)
        observed_log -= resized(fine, detail)
        del fine
    del by_relief
    observed_log = with_trusted_hue(
        observed_log, resized(seen.residual + model_log, detail), told, lips
    )
    observed_log = resized(observed_log, size)
    log_albedo = albedo_model.fine_texture(coefficients, size).clamp_(min=DARKEST).log_()
    log_albedo += resized(completed.residual, size)
    photo_share = resized(seen.weight[None], size)
    observed_log.clamp_(-6.5, 0).sub_(log_albedo).mul_(photo_share)
    log_albedo += observed_log
    del observed_log, on_texture

    landmarks = photo.points(observation.landmarks478[:, :2])
    towards_camera = face.light.shade(torch.tensor([[0.0, 0.0, 1.0]]))[0]
    teeth = teeth_colour(photo.image, landmarks, towards_camera)
    teeth = teeth_change(teeth, model_log, atlas.regions["teeth"], atlas.position[0].abs())
    tongue, bag = (atlas.regions.get(name, 0 * atlas.skin) for name in ("tongue", "mouth_bag"))
    shade = socket_light(model, atlas.fragments) * mouth_shade(
        atlas.position, torch.maximum(tongue, bag), tongue
    )
    log_albedo += resized(teeth + shade.log(), size)
    albedo = log_albedo.exp_().clamp_(0, 1)

    hair = _hair(pixels, observation, skin, log_shading, towards_camera, atlas)
    albedo, hairs = hair.paint(albedo, atlas.regions["scalp"])
    photo_share[0, : len(hairs)] *= 1 - hairs
    hidden = eyes_hidden(observation)
    irises = estimate_irises(photo.image, landmarks, towards_camera, hidden=hidden)
    albedo = paint_irises(albedo, irises.colour, model)
    if is_grey(skin.photo.texture, seen.weight):
        albedo = toned(albedo, -log_shading, seen.weight)
    origin = _origin(seen, completed, size)
    if face.albedo_map is not None:
        coverage = _resized_map(face.albedo_map.coverage[None], size).clamp_(0, 1)
        known = _resized_map(face.albedo_map.values, size).clamp_(0, 1)
        albedo = torch.lerp(albedo, known, coverage)
        origin[coverage[0] > 0.5] = int(TexelOrigin.PREDICTED)
        photo_share *= 1 - coverage
    # A predicted albedo goes with the light that was predicted with it.
    light = face.light_map
    if face.albedo_map is None:
        light = whole_light(plain, seen, atlas.skin, atlas.texels_per_millimetre)
    texture = FaceTexture(albedo, origin, hair, irises=irises.reason, light_map=light)
    return _BaseTexture(texture, wanted, shown, photo_share[0])


def _resized_map(image: Float[Tensor, "C S S"], size: int) -> Float[Tensor, "C R R"]:
    """Return a predicted map at the texture's size, without overshoot at the border of its cover."""
    if image.shape[-1] == size:
        return image.clone()
    return torch.nn.functional.interpolate(
        image[None], (size, size), mode="bilinear", antialias=True, align_corners=False
    )[0]


def _head_photo(
    pixels: UInt8[np.ndarray, "H W 3"],
    camera: PerspectiveCamera,
    mesh: Mesh,
    atlas: Atlas,
    resolution: int,
) -> HeadPhoto:
    """Cut out the head, with at least two pixels per texel if the photo is fine enough."""
    texels = atlas.texels_per_millimetre * resolution / atlas.size
    pixels_per_texel = pixels_per_millimetre(camera, mesh.vertices) / texels
    return cut_out_head(pixels, camera, mesh.vertices, reduced=pixels_per_texel / 2)


def _detail_size(photo: HeadPhoto, mesh: Mesh, atlas: Atlas, resolution: int) -> int:
    """Return the smallest texture size whose texels are finer than the photo's pixels on the face.

    Args:
        resolution: largest size allowed.
    """
    needed = 1.3 * pixels_per_millimetre(photo.camera, mesh.vertices)
    size = atlas.size
    while size < resolution and atlas.texels_per_millimetre * size / atlas.size < needed:
        size *= 2
    return min(size, resolution)


def _size_on_visible_face(
    skin: PhotoSkin, mesh: Mesh, camera: PerspectiveCamera, atlas: Atlas
) -> int:
    """Return the texture size that is as fine as the photo; see `size_for_photo`."""
    visible = (skin.photo.visibility > 0.5) & (skin.photo.cosine > _FACING)
    visible &= (atlas.regions["face"] > 0.5) & atlas.fragments.mask
    longer, _ = texel_extent(mesh, camera, resolution=1)
    return size_for_photo(longer.norm(dim=0)[atlas.fragments.triangle_index[visible]])


def _hair(
    pixels: UInt8[np.ndarray, "H W 3"],
    observation: FaceObservation,
    skin: PhotoSkin,
    log_shading: Float[Tensor, "3 R R"],
    towards_camera: Float[Tensor, "3"],
    atlas: Atlas,
) -> HairEstimate:
    beside, share = hair_beside(pixels, observation, towards_camera)
    clear = skin.weight > 0.5
    bare = (skin.photo.texture.clamp(min=DARKEST).log() - log_shading)[:, clear].exp()
    return estimate_hair(
        skin.photo.texture,
        skin.photo.visibility,
        skin.segments,
        atlas.regions["scalp"],
        log_shading,
        beside=beside,
        beside_share=share,
        face_colour=bare.median(dim=-1).values if bool(clear.any()) else None,
    )


def _origin(seen: SkinColour, completed: CompletedSkin, size: int) -> UInt8[Tensor, "R R"]:
    origin = torch.full(seen.weight.shape, int(TexelOrigin.COMPLETED), dtype=torch.uint8)
    origin[completed.mirrored_weight > 0.5] = int(TexelOrigin.MIRRORED)
    origin[seen.weight > 0.5] = int(TexelOrigin.OBSERVED)
    repeat = size // len(origin)
    return origin.repeat_interleave(repeat, 0).repeat_interleave(repeat, 1)
