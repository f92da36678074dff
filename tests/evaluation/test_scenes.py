"""Scenes show their people where their landmarks say, at the size that was asked for."""

import numpy as np
import pytest

from lifemask.evaluation.datasets import Aflw21Crop
from lifemask.evaluation.scenes import draw_scene, face_extent

POINTS = np.array([[40.0, 40.0], [80.0, 40.0], [60.0, 80.0]])
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])


def marked_crop(*, middle_grey: int = 128) -> Aflw21Crop:
    """Return a grey crop with a disc of another colour at each of three landmarks."""
    y, x = np.mgrid[:120, :120] + 0.5
    pixels = np.full((120, 120, 3), middle_grey, np.uint8)
    for (u, v), colour in zip(POINTS, COLOURS, strict=True):
        pixels[(x - u) ** 2 + (y - v) ** 2 < 8**2] = colour
    landmarks = np.full((21, 2), np.nan)
    landmarks[[0, 5, 20]] = POINTS
    return Aflw21Crop("marked", pixels, landmarks, 0.0)


@pytest.mark.parametrize("face_pixels", [25.0, 60.0, 150.0])
@pytest.mark.parametrize("turn", [0.0, 0.7, -2.5])
def test_the_pasted_points_are_where_the_landmarks_say(face_pixels: float, turn: float) -> None:
    crop = marked_crop()
    plain = Aflw21Crop("plain", np.full((120, 120, 3), 90, np.uint8), crop.landmarks, 0.0)
    scene = draw_scene(
        crop, [plain], np.random.default_rng(3), face_pixels=face_pixels, turn_radians=turn
    )
    for point, colour in zip(scene.landmarks[[0, 5, 20]], COLOURS, strict=True):
        column, row = point.astype(int)
        np.testing.assert_allclose(scene.pixels[row, column], colour, atol=60)
    # A rotation keeps the distances: those of the crop, 40 pixels, become face_pixels.
    distance = np.linalg.norm(scene.landmarks[0] - scene.landmarks[5])
    assert distance == pytest.approx(face_pixels)


def test_a_scene_depends_on_its_generator_alone() -> None:
    def pixels(seed: int) -> np.ndarray:
        crops = [marked_crop(), marked_crop(middle_grey=60)]
        generator = np.random.default_rng(seed)
        return draw_scene(crops[0], crops, generator, face_pixels=40.0, turn_radians=0.1).pixels

    np.testing.assert_array_equal(pixels(1), pixels(1))
    assert pixels(1).shape != pixels(2).shape


def test_neighbours_do_not_cover_the_person() -> None:
    crop = marked_crop()
    for seed in range(20):
        scene = draw_scene(
            crop, [crop], np.random.default_rng(seed), face_pixels=50.0, turn_radians=0.0
        )
        middle = np.nanmean(scene.landmarks, 0)
        for other in scene.neighbours:
            distance = np.abs(np.nanmean(other, 0) - middle).max()
            assert distance > 0.4 * 3 * (50.0 + face_extent(other)) - 10.0


def test_the_extent_is_the_larger_side() -> None:
    assert face_extent(marked_crop().landmarks) == pytest.approx(40.0)
    assert face_extent(marked_crop().landmarks * [1.0, 2.0]) == pytest.approx(80.0)
