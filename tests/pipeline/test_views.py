"""Pictures of a head show the right square, and the preview has six of them."""

from dataclasses import replace

import numpy as np
import torch

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.io.colour import image_from_pixels
from lifemask.pipeline.preview import photo_square, preview_sheet
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.views import draw_smooth, face_camera


def test_the_square_holds_all_points_with_some_space(face: FaceReconstruction) -> None:
    points = face.mesh.vertices[face.model.regions["face"] > 0.5]
    camera, (left, top, side) = face_camera(face.camera, points, 200, margin=0.1)
    seen = camera.project(points)[:, :2]
    assert camera.image_size == (200, 200)
    low, high = float(seen.min()), float(seen.max())
    np.testing.assert_allclose([low, high], [200 / 12, 200 - 200 / 12], atol=0.1)
    in_photo = face.camera.project(points)[:, :2]
    expected = (in_photo - torch.tensor([left, top])) * 200 / side
    torch.testing.assert_close(seen, expected, atol=0.01, rtol=0)


def test_a_white_head_in_white_light_is_as_bright_as_opaque(face: FaceReconstruction) -> None:
    camera, _ = face_camera(face.camera, face.mesh.vertices, 96)
    light = SphericalHarmonicsLight.ambient()
    surface = face.surface.without_light_map()
    grooved, _ = draw_smooth(surface, camera, light, clay=1.0)
    colour, opacity = draw_smooth(replace(surface, displacement=None), camera, light, clay=1.0)
    assert (grooved <= colour + 1e-4).all(), "grooves of the skin only hide light"
    torch.testing.assert_close(colour, opacity.expand(3, -1, -1), atol=1e-4, rtol=0)
    assert set((opacity * 4).unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert ((opacity > 0) & (opacity < 1)).any()


def test_a_square_of_the_photos_size_is_the_photo(face: FaceReconstruction) -> None:
    pixels = np.ascontiguousarray(face.photo.pixels[100:164, 200:264])
    image = image_from_pixels(face.photo.pixels)
    square = photo_square(face.photo.pixels, (200.0, 100.0, 64.0), 64)
    torch.testing.assert_close(square, image_from_pixels(pixels), atol=1e-4, rtol=0)
    half = photo_square(face.photo.pixels, (200.0, 100.0, 128.0), 64)
    pooled = torch.nn.functional.avg_pool2d(image[:, 100:228, 200:328], 2)
    torch.testing.assert_close(half, pooled, atol=1e-3, rtol=0)


def test_outside_the_photo_is_grey(face: FaceReconstruction) -> None:
    square = photo_square(face.photo.pixels, (-1000.0, -1000.0, 1200.0), 120)
    background = square[:, :60, :60]
    torch.testing.assert_close(background, torch.full_like(background, 0.85))


def test_the_preview_is_six_pictures_in_a_row(face: FaceReconstruction) -> None:
    sheet = preview_sheet(face, size=64).astype(int)
    assert sheet.shape == (64, 6 * 64 + 5 * 6, 3)
    photo, overlay, clay, albedo, left, right = (
        sheet[:, start : start + 64] for start in range(0, 6 * 70, 70)
    )
    middle = (slice(16, 48), slice(16, 48))
    assert np.abs(photo - overlay)[middle].mean() < 20
    assert np.ptp(clay, axis=-1).max() <= 1
    assert albedo[middle].std() > 5
    assert left[16:48, :32].mean() > right[16:48, :32].mean()
    assert left[16:48, 32:].mean() < right[16:48, 32:].mean()
