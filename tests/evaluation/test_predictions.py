"""Predictions of any program are read without pickle, and wrong ones are refused with a reason."""

from pathlib import Path

import numpy as np
import pytest

from lifemask.evaluation.config import EvaluationError
from lifemask.evaluation.predictions import (
    Prediction,
    prediction_from_arrays,
    read_prediction,
)
from lifemask.evaluation.systems.registry import load_system
from lifemask.evaluation.systems.stored import PredictionFolder


def test_written_arrays_come_back(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "landmarks68": generator.normal(size=(68, 2)),
        "normals": generator.normal(size=(5, 7, 3)).astype(np.float16),
        "mask": np.ones((5, 7), np.uint8),
        "albedo": generator.random((5, 7)),
        "triangles": np.array([[0, 1, 2]], np.int32),
        "something_else": np.zeros(4),
    }
    np.savez(tmp_path / "face.npz", **arrays)
    prediction = read_prediction(tmp_path / "face.npz")
    np.testing.assert_array_equal(prediction.landmarks68, arrays["landmarks68"])
    assert prediction.mask is not None
    assert prediction.mask.dtype == bool
    assert prediction.albedo is not None
    np.testing.assert_array_equal(prediction.albedo, np.repeat(arrays["albedo"][..., None], 3, -1))
    assert prediction.vertices_head is None


def test_a_crop_is_put_in_its_place() -> None:
    mask = np.ones((2, 3), bool)
    prediction = Prediction(mask=mask, offset=np.array([4.0, 1.0]))
    whole = prediction.map("mask", (6, 8))
    assert whole is not None
    assert whole.sum() == 6
    assert whole[1:3, 4:7].all()
    with pytest.raises(EvaluationError, match="outside the photo"):
        prediction.map("mask", (6, 6))


def test_only_named_fields_are_kept() -> None:
    prediction = Prediction(
        landmarks68=np.zeros((68, 2)), mask=np.ones((2, 2), bool), offset=np.zeros(2)
    )
    assert set(prediction.keep(("mask",)).arrays()) == {"mask", "offset"}


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(
        EvaluationError, match=r"'landmarks68' has shape \(67, 2\); expected 68 x 2"
    ):
        prediction_from_arrays({"landmarks68": np.zeros((67, 2))}, source="x.npz")


def test_a_file_without_known_arrays_lists_what_is_known(tmp_path: Path) -> None:
    np.savez(tmp_path / "face.npz", points=np.zeros((68, 2)))
    with pytest.raises(EvaluationError, match=r"Known: vertices_camera.*found: points"):
        read_prediction(tmp_path / "face.npz")


def test_pickled_content_and_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickled.npz", landmarks68=np.array([{"a": 1}], dtype=object))
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("pickled", "text", "empty", "missing"):
        with pytest.raises(EvaluationError, match="Cannot read"):
            read_prediction(tmp_path / f"{name}.npz")


def test_a_folder_is_read_by_benchmark_and_then_by_name(tmp_path: Path) -> None:
    (tmp_path / "aflw21").mkdir()
    np.savez(tmp_path / "aflw21" / "one.npz", landmarks68=np.full((68, 2), 1.0))
    np.savez(tmp_path / "one.npz", landmarks68=np.full((68, 2), 2.0))
    folder = load_system(str(tmp_path), tmp_path)
    assert isinstance(folder, PredictionFolder)
    for benchmark, value in (("aflw21", 1), ("photos", 2)):
        prediction = folder.stored(benchmark, "one")
        assert prediction is not None
        assert prediction.landmarks68 is not None
        assert (prediction.landmarks68 == value).all()
    assert folder.stored("aflw21", "two") is None


def test_a_folder_is_read_by_the_former_name_of_a_benchmark(tmp_path: Path) -> None:
    (tmp_path / "steadiness").mkdir()
    np.savez(tmp_path / "steadiness" / "one__0.npz", landmarks68=np.full((68, 2), 1.0))
    assert PredictionFolder(tmp_path).stored("jitter", "one__0") is not None
    assert PredictionFolder(tmp_path).stored("photos", "one__0") is None


def test_unknown_systems_and_empty_folders_say_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"Known: .*or a folder of predictions") as error:
        load_system("deca", tmp_path)
    for name in ("3ddfa_v2", "fit", "landmarks", "mean_face"):
        assert name in str(error.value)
    with pytest.raises(EvaluationError, match=r"holds no .npz"):
        load_system(str(tmp_path), tmp_path)


def test_arrays_before_schema_2_have_the_outline(tmp_path: Path) -> None:
    names = {"landmarks68": (68, 2), "landmarks68_camera": (68, 3), "vertices_neutral": (4, 3)}
    names |= {"vertices_albedo": (4, 3), "light_sh": (9, 3), "offset": (2,)}
    arrays = {name: np.ones(shape) for name, shape in names.items()}
    np.savez(tmp_path / "first.npz", **arrays)
    first = read_prediction(tmp_path / "first.npz")
    assert first.landmarks68 is None
    assert first.landmarks68_camera is None
    assert first.landmarks68_outline is not None
    assert first.landmarks68_outline_camera is not None
    np.savez(tmp_path / "second.npz", **arrays, schema=np.array(2))
    assert read_prediction(tmp_path / "second.npz").landmarks68 is not None
    # Other programs give fewer arrays, and their points are what they say.
    np.savez(tmp_path / "other.npz", landmarks68=np.ones((68, 2)))
    assert read_prediction(tmp_path / "other.npz").landmarks68 is not None


def test_points_nearest_to_annotations_are_those_on_the_outline() -> None:
    fixed, outline = np.zeros((68, 2)), np.ones((68, 2))
    assert Prediction().ibug_points() is None
    assert Prediction(landmarks68=fixed).ibug_points() is fixed
    assert Prediction(landmarks68=fixed, landmarks68_outline=outline).ibug_points() is outline
