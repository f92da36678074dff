"""Textures come from the photo's skin, and do not depend on its brightness."""

import dataclasses

import numpy as np
import pytest
import torch

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.io.colour import image_from_pixels, pixels_from_image
from lifemask.morphable.head_surface import opaque_mesh
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.rendering import unwrap_photo
from lifemask.texture.atlas import texels_per_millimetre, uv_fragments
from lifemask.texture.face_texture import (
    FaceTexture,
    TexelOrigin,
    face_texture,
)


def again(face: FaceReconstruction, pixels: np.ndarray, light: torch.Tensor) -> FaceTexture:
    """Return the texture of the same face under other conditions."""
    known = face.fit.face.light_map
    if known is not None:
        brighter = float(light[0].mean() / face.light.coefficients[0].mean())
        known = dataclasses.replace(known, values=known.values * brighter)
    fit = dataclasses.replace(face.fit.face, light=SphericalHarmonicsLight(light), light_map=known)
    return face_texture(pixels, fit, face.model, face.observation, resolution=512)


def test_texels_are_observed_mirrored_or_completed(face: FaceReconstruction) -> None:
    origin = face.texture.origin
    # No system predicts this face an albedo map.
    assert set(origin.unique().tolist()) == {int(kind) for kind in TexelOrigin} - {
        int(TexelOrigin.PREDICTED)
    }
    mirrored = origin == TexelOrigin.MIRRORED
    assert (origin.flip(-1)[mirrored] == TexelOrigin.OBSERVED).all()


def test_observed_texels_are_seen_in_the_photo(face: FaceReconstruction) -> None:
    photo = image_from_pixels(face.photo.pixels)
    fragments = uv_fragments(face.model, 512)
    seen = unwrap_photo(photo, face.mesh, face.camera, fragments)
    observed = face.texture.origin == TexelOrigin.OBSERVED
    assert observed.sum() > 10_000
    assert seen.visibility[observed].min() > 0.5
    assert seen.cosine[observed].min() > 0.15


def test_albedo_can_be_reflectance(face: FaceReconstruction) -> None:
    albedo = face.texture.albedo
    assert albedo.min() >= 0
    assert albedo.max() <= 1
    skin = albedo[:, face.texture.origin == TexelOrigin.OBSERVED].mean(-1)
    # Skin of every tone reflects most red and least blue.
    assert skin[0] > skin[1] > skin[2]


def test_half_the_light_in_the_photo_leaves_the_texture(face: FaceReconstruction) -> None:
    dark = pixels_from_image(image_from_pixels(face.photo.pixels) / 2)
    texture = again(face, dark, face.light.coefficients / 2)
    observed = face.texture.origin == TexelOrigin.OBSERVED
    difference = (texture.albedo - face.texture.albedo)[:, observed].abs()
    assert difference.mean() < 0.005
    assert (texture.origin == face.texture.origin).float().mean() > 0.999


def test_what_the_fit_does_not_explain_is_in_the_texture(face: FaceReconstruction) -> None:
    """A mark on the cheek in the photo is at the same point of the texture, and only there."""
    pixels = face.photo.pixels.copy()
    x, y = face.camera.project(face.mesh.vertices)[:, :2].T
    cheek = int((face.mesh.vertices - torch.tensor([0.035, -0.03, 0.03])).norm(dim=-1).argmin())
    row, column = int(y[cheek]), int(x[cheek])
    pixels[row - 6 : row + 7, column - 6 : column + 7] //= 2
    marked = again(face, pixels, face.light.coefficients)
    darker = (face.texture.albedo / marked.albedo.clamp(min=1e-3)).mean(0)
    fragments = uv_fragments(face.model, 512)
    mesh = opaque_mesh(face.model, face.mesh.vertices)
    mark = torch.zeros(1, *face.photo.pixels.shape[:2])
    mark[0, row - 4 : row + 5, column - 4 : column + 5] = 1
    texels = unwrap_photo(mark, mesh, face.camera, fragments).texture[0] > 0.9
    assert texels.sum() > 4
    # Half of an sRGB value is less than a quarter of the light.
    assert darker[texels].median() > 2.5
    assert abs(float(darker[face.texture.origin == TexelOrigin.OBSERVED].median()) - 1) < 0.01


def test_sizes_that_do_not_divide_are_refused(face: FaceReconstruction) -> None:
    with pytest.raises(ValueError, match="multiple of 512"):
        face_texture(face.photo.pixels, face.fit.face, face.model, face.observation, resolution=700)


def test_a_texel_is_half_as_large_in_twice_the_texture(face: FaceReconstruction) -> None:
    coarse, fine = (
        texels_per_millimetre(face.model, uv_fragments(face.model, size), size)
        for size in (256, 512)
    )
    assert abs(fine / coarse - 2) < 0.01


def test_a_grey_photo_gives_one_hue(face: FaceReconstruction) -> None:
    grey = np.repeat(face.photo.pixels.mean(-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    albedo = again(face, grey, face.light.coefficients).albedo.flatten(1)
    albedo = albedo[:, albedo.amax(0) < 0.99]
    hue = albedo / albedo.sum(0)
    assert (hue - hue.mean(-1, keepdim=True)).abs().max() < 1e-4


def test_a_strand_of_hair_is_not_observed(face: FaceReconstruction) -> None:
    """A dark line from the hair down the forehead is not skin; the texture does not show it."""
    pixels = face.photo.pixels.copy()
    x, y = face.camera.project(face.mesh.vertices)[:, :2].T
    brow = face.mesh.vertices - torch.tensor([0.03, 0.03, 0.03])
    low = int(brow.norm(dim=-1).argmin())
    row, column = int(y[low]), int(x[low])
    top = max(0, row - 120)
    pixels[top : row + 1, column - 1 : column + 2] = 12
    stained = again(face, pixels, face.light.coefficients)
    fragments = uv_fragments(face.model, 512)
    strand = torch.zeros(1, *pixels.shape[:2])
    strand[0, row - 25 : row - 2, column] = 1
    texels = unwrap_photo(strand, face.mesh, face.camera, fragments).texture[0] > 0.5
    texels &= face.texture.origin == TexelOrigin.OBSERVED
    assert texels.sum() > 4
    assert (stained.origin[texels] != TexelOrigin.OBSERVED).float().mean() > 0.9
    ratio = (stained.albedo.mean(0) / face.texture.albedo.mean(0).clamp(min=1e-3))[texels]
    assert ratio.median() > 0.7


def test_a_photo_that_is_finer_than_the_texture_gives_the_same_texture(
    face: FaceReconstruction,
) -> None:
    """The photo and the positions of its irises are reduced first."""
    seen = face.observation
    fine = face.photo.pixels.repeat(4, axis=0).repeat(4, axis=1)
    camera = face.camera.cropped(0, 0, fine.shape[:2], 4.0)
    observation = dataclasses.replace(
        seen,
        landmarks478=seen.landmarks478 * 4,
        segmentation_to_photo=seen.segmentation_to_photo * 4,
    )
    fit = dataclasses.replace(face.fit.face, camera=camera)
    texture = face_texture(fine, fit, face.model, observation, resolution=512)
    difference = (texture.albedo - face.texture.albedo).abs().mean(0)
    fragments = uv_fragments(face.model, 512)
    eyes = face.model.regions["eyeball_left"][face.model.triangles].amin(-1) > 0.5
    irises = eyes[fragments.triangle_index.clamp(min=0)] & fragments.mask
    assert difference.mean() < 0.005
    assert difference[irises].mean() < 0.005


def test_the_skin_continues_beyond_the_edge_of_its_part_of_the_atlas(
    face: FaceReconstruction,
) -> None:
    """Filters mix these texels with the edge, so another colour would appear as streaks."""
    fragments = uv_fragments(face.model, 512)
    skin = face.model.regions["neck"][face.model.triangles].amin(-1) > 0.5
    skin = skin[fragments.triangle_index.clamp(min=0)] & fragments.mask
    below = ~fragments.mask[1:] & skin[:-1]
    change = (face.texture.albedo[:, 1:] - face.texture.albedo[:, :-1]).abs().mean(0)
    assert below.any()
    assert change[below].mean() < 0.01
