"""Full reconstructions take cast shadows for light: they leave the albedo."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lifemask.morphable.explained_face import UVMap
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.shadows import ShadowEstimator
from lifemask.rendering.heads import head_surface, render_head
from lifemask.systems.registry import load_system
from lifemask.systems.rerenderable_albedo import RerenderableAlbedo
from lifemask.texture.atlas import head_atlas
from lifemask.texture.face_texture import TexelOrigin, face_texture


@pytest.fixture(scope="module")
def estimator() -> ShadowEstimator:
    system = load_system("rerenderable_albedo")
    assert isinstance(system, RerenderableAlbedo)
    return ShadowEstimator(system)


@pytest.fixture(scope="module")
def bare(face: FaceReconstruction) -> FaceReconstruction:
    fitted = replace(face.fit.face, light_map=None, displacement_map=None, normals=None)
    return replace(face, fit=replace(face.fit, face=fitted))


def shaded_below(face: FaceReconstruction) -> np.ndarray:
    """Return the photo with a hard shadow on the lower third of its face."""
    images = render_head(head_surface(face.model, face.fit.face), face.camera).fine
    rows = images.mask.any(1).nonzero()[:, 0]
    start = int(rows[0] + 0.62 * (rows[-1] - rows[0]))
    pixels = face.photo.pixels.copy()
    pixels[start:] = (pixels[start:] * 0.45).astype(np.uint8)
    return pixels


def test_light_maps_only_darken(face: FaceReconstruction) -> None:
    found = face.fit.face.light_map
    assert found is not None
    assert found.values.isfinite().all()
    assert found.coverage.min() >= 0
    assert found.coverage.mean() < 0.3


def test_a_face_with_a_light_map_keeps_it(
    estimator: ShadowEstimator, face: FaceReconstruction
) -> None:
    assert estimator(face.photo.pixels, face.observation, face.fit.face) is face.fit.face


def test_a_shadow_is_found_and_leaves_the_albedo(
    estimator: ShadowEstimator, bare: FaceReconstruction
) -> None:
    pixels = shaded_below(bare)
    plain = bare.fit.face
    lit = estimator(bare.photo.pixels, bare.observation, plain).light_map
    found = estimator(pixels, bare.observation, plain)
    dark = found.light_map
    assert lit is not None
    assert dark is not None
    assert dark.coverage.mean() > 1.5 * lit.coverage.mean()

    def change(face_in_shadow: object) -> float:
        """Return how much the shadow changes the chin's albedo against the forehead's."""
        assert isinstance(face_in_shadow, type(plain))
        original, darkened = (
            face_texture(image, explained, bare.model, bare.observation, resolution=512)
            for image, explained in ((bare.photo.pixels, plain), (pixels, face_in_shadow))
        )
        atlas = head_atlas(bare.model, 512)
        seen = (original.origin == TexelOrigin.OBSERVED) & (atlas.regions["face"] > 0.9)
        below = seen & (atlas.position[1] < atlas.position[1][seen].quantile(0.25))
        above = seen & (atlas.position[1] > atlas.position[1][seen].quantile(0.7))
        ratio = (darkened.albedo.clamp(min=1e-3) / original.albedo.clamp(min=1e-3)).log().mean(0)
        return float((ratio[below].mean() - ratio[above].mean()).abs())

    assert change(found) < change(replace(plain, light_map=None))


def test_a_light_map_counts_as_light(bare: FaceReconstruction) -> None:
    plain = bare.fit.face
    size = 64
    tone = float(plain.light.shade(torch.tensor([[0.0, 0.0, 1.0]])).mean())
    textures = [
        face_texture(
            bare.photo.pixels,
            replace(plain, light_map=UVMap(torch.full((3, size, size), level), torch.ones(64, 64))),
            bare.model,
            bare.observation,
            resolution=512,
        )
        for level in (tone, 1.5 * tone)
    ]
    seen = textures[0].origin == TexelOrigin.OBSERVED
    ratio = (textures[0].albedo / textures[1].albedo.clamp(min=1e-3))[:, seen].median()
    assert 1.2 < ratio < 1.6
