"""Relief of test heads: its size, its band, and that only heads with relief have other normals."""

from pathlib import Path

import numpy as np
import pytest

from lifemask.evaluation.config import EvaluationConfig
from lifemask.evaluation.ict_faces import detail_set
from lifemask.evaluation.ict_faces.bumps import (
    Relief,
    bumped_normals,
    lamp_visibility,
    sky_visibility,
)
from lifemask.evaluation.ict_faces.chart import cells, chart_landmarks, chart_places, sample_chart
from lifemask.evaluation.ict_faces.detail_photo import photograph_detail
from lifemask.evaluation.ict_faces.folds import Fold, fold_heights
from lifemask.evaluation.ict_faces.head import IctHead
from lifemask.evaluation.ict_faces.marks import MARKS, draw_marks
from lifemask.evaluation.ict_faces.people import random_person, random_shot
from lifemask.evaluation.ict_faces.relief import draw_relief
from lifemask.evaluation.run import evaluate, write_test_photos

FOCAL, DEPTH = 2000.0, 0.8
PIXEL = DEPTH / FOCAL


def wall(heights: np.ndarray, *, shortest_pixels: float) -> np.ndarray:
    """Return the normals of a wall that faces the camera from afar, with these heights."""
    normals = np.zeros((*heights.shape, 3))
    normals[..., 2] = 1
    return bumped_normals(
        Relief(heights, normals),
        np.full(heights.shape, DEPTH),
        np.ones(heights.shape, bool),
        focal_pixels=FOCAL,
        principal_point=(heights.shape[1] / 2, heights.shape[0] / 2),
        shortest_pixels=shortest_pixels,
    )


def waves(pixels: float, metres: float) -> np.ndarray:
    return metres * np.sin(2 * np.pi * np.arange(120) / pixels) * np.ones((120, 1))


def test_normals_turn_by_the_slope_of_the_heights() -> None:
    normals = wall(waves(30, 1e-4), shortest_pixels=8)
    slope = np.gradient(waves(30, 1e-4)[0], PIXEL)
    inside = slice(10, -10)
    tilt = normals[60, inside, 0] / normals[60, inside, 2]
    np.testing.assert_allclose(tilt, -slope[inside], atol=0.004)
    assert np.abs(normals[60, inside, 1]).max() < 0.004


def test_waves_shorter_than_the_limit_vanish() -> None:
    assert np.abs(wall(waves(6, 1e-4), shortest_pixels=8)[20:-20, 20:-20, 0]).max() < 0.01
    assert np.abs(wall(waves(12, 1e-4), shortest_pixels=8)[20:-20, 20:-20, 0]).max() > 0.1


def test_creases_are_darker_and_low_light_does_not_reach_into_them() -> None:
    heights = -3e-4 * np.exp(-(((np.arange(120) - 60) / 3) ** 2)) * np.ones((120, 1))
    size, flat = np.full(heights.shape, PIXEL), np.zeros((120, 120, 3))
    flat[..., 2] = 1
    sky = sky_visibility(heights, size)
    assert sky[60, 60] < 0.99
    assert sky[60, 20] == pytest.approx(1, abs=1e-3)
    low = lamp_visibility(Relief(heights, flat), size, np.array([0.995, 0.0, 0.1]))
    high = lamp_visibility(Relief(heights, flat), size, np.array([0.1, 0.0, 0.995]))
    # The wall on the lamp's side, which is the right one, hides the bottom.
    assert low[60, 61] < 0.6
    assert high[60, 61] == 1


def test_a_fold_has_its_depth_and_its_bulge_lies_to_the_left() -> None:
    path = np.array([[0.0, -0.02], [0.0, 0.0], [0.0, 0.02]])
    fold = Fold(path, 0.0005, 0.001, bulge_metres=0.0008)
    heights = fold_heights([fold], (1024, 1200), np.random.default_rng(0))
    assert heights.min() == pytest.approx(-0.0005, rel=0.15)
    row, column = cells(np.array([0.0, 0.0])).astype(int)
    # The path goes up, so its left is -x.
    left, right = heights[row, column - 15], heights[row, column + 15]
    assert left > 0.0002
    assert left > 3 * abs(right)


def test_relief_is_as_high_as_that_of_skin_and_spares_lips_and_eyes(ict_head: IctHead) -> None:
    marks = chart_landmarks(ict_head)
    expression = np.zeros(len(ict_head.model.expression_names))
    spans: list[float] = []
    for seed in range(3):
        heights = draw_relief(ict_head, expression, np.random.default_rng(seed))
        assert -0.0012 < heights.min() < -0.0002
        assert 0.0001 < heights.max() < 0.0012
        soft = np.stack([marks[[61, 67]].mean(0), marks[36:42].mean(0), marks[42:48].mean(0)])
        assert not sample_chart(heights, soft).any()
        cheek = chart_places(ict_head.model.mean[ict_head.landmarks][[2, 31, 36]].mean(0))
        row, column = cells(cheek).astype(int)
        spans.append(float(heights[row - 25 : row + 25, column - 25 : column + 25].std()))
    # Cheeks have pores and hatching of some hundredths of a millimetre.
    assert min(spans) > 0.000005
    assert max(spans) < 0.0002


def test_relief_changes_normals_and_marks_change_only_colours(ict_head: IctHead) -> None:
    generator = np.random.default_rng(4)
    person = random_person(ict_head, generator)
    shot = random_shot(
        ict_head, person, generator, yaw_range_degrees=(0, 20), size=192, lamp_share=0.5
    )
    heights = draw_relief(ict_head, shot.expression, generator)
    none = np.zeros((3, *heights.shape))
    marks = draw_marks(ict_head, MARKS, generator)
    assert marks.min() > -0.5
    _, plain = photograph_detail(ict_head, person, shot, heights=None, marks=none)
    _, marked = photograph_detail(ict_head, person, shot, heights=None, marks=marks)
    _, folded = photograph_detail(ict_head, person, shot, heights=heights, marks=none)
    seen = plain.measured
    assert 0.05 < seen.mean() < plain.skin.mean()
    assert not plain.has_relief
    np.testing.assert_array_equal(plain.normals, plain.normals_coarse)
    np.testing.assert_array_equal(marked.normals, plain.normals)
    assert (marked.albedo[seen] / plain.albedo[seen]).mean() < 0.97
    assert folded.has_relief
    np.testing.assert_array_equal(folded.normals_coarse, plain.normals)
    np.testing.assert_array_equal(folded.albedo, plain.albedo)
    cosine = (folded.normals * folded.normals_coarse).sum(-1)[seen]
    assert 0.3 < np.degrees(np.arccos(cosine.clip(-1, 1))).mean() < 6


def test_truth_has_no_error_and_smooth_truth_no_correlation(
    ict_path: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detail_set, "PHOTO_SIZE", 160)
    monkeypatch.setattr(detail_set, "_TEXELS", 256)
    config = EvaluationConfig(
        systems=(str(tmp_path / "theirs"),), data=shared_data, cache=tmp_path / "cache", limit=4
    )
    (tmp_path / "theirs").mkdir()
    written = write_test_photos("synthetic_detail", config, tmp_path)
    faces = detail_set.DetailFaces(ict_path, seed=0, cache=tmp_path / "cache").faces(4)
    assert [path.stem for path in written] == [face.key for face in faces]
    assert [face.truth().has_relief for face in faces] == [True, True, True, False]
    for face in faces:
        truth = face.truth()
        half = truth.normals + truth.normals_coarse
        np.savez(
            tmp_path / "theirs" / f"{face.key}.npz",
            normals=half / np.maximum(np.linalg.norm(half, axis=-1, keepdims=True), 1e-9),
        )
    (report,) = evaluate("synthetic_detail", config)
    table = report.table
    assert table.cell("theirs", "surface correlation").value == pytest.approx(1, abs=0.01)
    assert table.cell("theirs", "surface amplitude").value == pytest.approx(0.5, abs=0.02)
    assert table.cell("theirs", "detail correlation").value is None
    for row, correlation in (("truth", 1.0), ("smooth truth", 0.0)):
        for kind in ("detail", "surface"):
            assert table.cell(row, f"{kind} correlation").value == pytest.approx(correlation)
            assert table.cell(row, f"false {kind} mm").value == pytest.approx(0, abs=1e-4)
