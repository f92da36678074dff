"""Textures have the resolution of their photo."""

import dataclasses

import numpy as np
import pytest
import torch

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.meshes import Mesh
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.perception import FaceObservation
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.rendering import interpolate, rasterize_uv
from lifemask.texture.atlas import uv_fragments
from lifemask.texture.face_texture import FaceTexture, TexelOrigin, face_texture
from lifemask.texture.fine_texture import add_photo_detail, enlarged_texture, size_for_photo

SQUARE = Mesh(
    torch.tensor([[-0.1, 0.1, 0.0], [-0.1, -0.1, 0.0], [0.1, -0.1, 0.0], [0.1, 0.1, 0.0]]),
    torch.tensor([[0, 1, 2], [0, 2, 3]]),
    torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]),
    torch.tensor([[0, 1, 2], [0, 2, 3]]),
)
"""20 cm wide, and as large as its texture."""


def facing_camera(size: int) -> PerspectiveCamera:
    """Return a camera with a photo that the square fills exactly."""
    pose = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1.0], [0, 0, 0, 1]])
    middle = torch.tensor([size / 2, size / 2])
    return PerspectiveCamera(torch.tensor(5.0 * size), middle, pose, (size, size))


def larger(
    face: FaceReconstruction, factor: int
) -> tuple[ExplainedFace, FaceObservation, np.ndarray]:
    """Return the same face in a photo with several pixels for each pixel."""
    seen = face.observation
    pixels = face.photo.pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    camera = face.camera.cropped(0, 0, pixels.shape[:2], float(factor))
    observation = dataclasses.replace(
        seen,
        landmarks478=seen.landmarks478 * factor,
        segmentation_to_photo=seen.segmentation_to_photo * factor,
    )
    return dataclasses.replace(face.fit.face, camera=camera), observation, pixels


@pytest.mark.parametrize(
    ("needed", "size"), [(100, 2048), (2040, 2048), (2100, 4096), (4200, 8192), (20_000, 8192)]
)
def test_the_smallest_size_is_chosen_that_is_as_fine_as_the_photo(needed: int, size: int) -> None:
    assert size_for_photo(torch.full((100,), float(needed))) == size


def test_a_hidden_face_gets_the_smallest_texture() -> None:
    assert size_for_photo(torch.zeros(0)) == 2048


def test_a_close_up_has_a_texel_for_each_pixel_of_the_visible_face(
    face: FaceReconstruction,
) -> None:
    """The distance of neighbouring texels, projected into the photo, is at most one pixel."""
    fit, observation, pixels = larger(face, 3)
    texture = face_texture(pixels, fit, face.model, observation, resolution=None)
    assert texture.size == 4096
    size = 1024
    fragments = uv_fragments(face.model, size)
    points = fit.camera.project(face.mesh.vertices)[:, :2]
    x, y = interpolate(points, face.model.triangles, fragments) * size / texture.size
    apart = torch.hypot(x[:, 1:] - x[:, :-1], y[:, 1:] - y[:, :-1])
    below = torch.hypot(x[1:] - x[:-1], y[1:] - y[:-1])
    regions = face.model.regions["face"][face.model.triangles].amin(-1) > 0.5
    origin = texture.origin[::2, ::2] == TexelOrigin.OBSERVED
    shown = regions[fragments.triangle_index.clamp(min=0)] & fragments.mask & origin
    pixels_apart = torch.cat([apart[shown[:, 1:] & shown[:, :-1]], below[shown[1:] & shown[:-1]]])
    assert len(pixels_apart) > 100_000
    assert (pixels_apart <= 1).float().mean() > 0.95
    texels_a_pixel = 1 / (apart[:-1] * below[:, :-1])[(shown[:-1, :-1])]
    assert (texels_a_pixel >= 1).float().mean() > 0.97


def test_a_fine_texture_agrees_with_a_moderate_one(face: FaceReconstruction) -> None:
    """There are no seams between tiles: the reduced large texture is the moderate one."""
    fit, observation, pixels = larger(face, 3)
    texture = face_texture(pixels, fit, face.model, observation, resolution=4096)
    assert texture.fine is not None
    moderate = dataclasses.replace(texture, fine=None).pixels().astype(np.float32)
    reduced = texture.fine.reshape(2048, 2, 2048, 2, 3).astype(np.float32).mean((1, 3))
    difference = np.abs(reduced - moderate)
    assert difference.mean() < 1
    edges = np.arange(256, 2048, 256)
    for along in (difference, difference.swapaxes(0, 1)):
        beside = np.concatenate([along[edges - 1], along[edges]])
        assert beside.mean() < 1.3 * along.mean() + 0.05


def test_a_checker_pattern_of_the_photo_survives() -> None:
    """The squares have two pixels; a texture of half the size would be grey."""
    size = 1024
    steps = np.arange(size) // 2
    board = np.where((steps[:, None] + steps) % 2 == 0, 180, 90).astype(np.uint8)
    pixels = np.repeat(board[..., None], 3, axis=-1)
    texture = enlarged_texture(np.full((256, 256, 3), 120, np.uint8), size)
    grey = torch.full((3, 256, 256), 0.25)
    add_photo_detail(
        texture,
        pixels,
        SQUARE,
        facing_camera(size),
        coarse_photo=grey,
        share=torch.ones(256, 256),
    )
    inside = np.s_[8:-8, 8:-8]
    light, dark = board[inside] == 180, board[inside] == 90
    shown = texture[..., 1][inside].astype(np.float32)
    assert shown[light].mean() / shown[dark].mean() > 1.6
    assert (shown[light] > 120).mean() > 0.99
    assert (shown[dark] < 120).mean() > 0.99


def test_texels_that_the_photo_does_not_show_get_no_detail() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (640, 640, 3), np.uint8)
    texture = enlarged_texture(np.full((256, 256, 3), 120, np.uint8), 1024)
    share = torch.zeros(256, 256)
    share[:, :128] = 1
    camera = facing_camera(640)
    add_photo_detail(
        texture, pixels, SQUARE, camera, coarse_photo=torch.full((3, 256, 256), 0.2), share=share
    )
    assert (texture[:, 520:] == 120).all()
    assert texture[:, :500].std() > 10


def test_the_square_of_these_tests_fills_its_photo() -> None:
    assert SQUARE.uv is not None
    assert SQUARE.uv_triangles is not None
    assert rasterize_uv(SQUARE.uv, SQUARE.uv_triangles, 8).mask.all()
    low = facing_camera(100).project(SQUARE.vertices)[:, :2].amin()
    assert abs(float(low)) < 1e-3


@pytest.mark.parametrize("resolution", [0, 700, 16384])
def test_other_sizes_are_refused(face: FaceReconstruction, resolution: int) -> None:
    with pytest.raises(ValueError, match="up to 8192"):
        face_texture(
            face.photo.pixels, face.fit.face, face.model, face.observation, resolution=resolution
        )


def test_a_texture_is_as_large_as_its_finest_pixels(face: FaceReconstruction) -> None:
    fine = np.zeros((1024, 1024, 3), np.uint8)
    texture: FaceTexture = dataclasses.replace(face.texture, fine=fine)
    assert texture.size == 1024
    assert texture.pixels() is fine
    assert face.texture.size == len(face.texture.pixels()) == 512
