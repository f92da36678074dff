"""The arrays of a registered system agree with its prediction."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lifemask.evaluation.config import EvaluationError
from lifemask.evaluation.systems.explained_face import POINTS, face_prediction
from lifemask.evaluation.systems.fit import FitSystem
from lifemask.evaluation.systems.registered import RegisteredSystem
from lifemask.evaluation.systems.registry import load_system, system_names
from lifemask.io.images import read_photo
from lifemask.perception.face_perception import FacePerception
from lifemask.pipeline.predictor import SystemPredictor
from lifemask.systems.direct_regression import DirectRegression
from lifemask.training.system import FramedFaces


@pytest.fixture(scope="module")
def predictor() -> SystemPredictor:
    system = DirectRegression.build(crop_size=96, input_size=128, hidden=16, pretrained=False)
    return SystemPredictor(system, system.model)


@pytest.fixture(scope="module")
def system(predictor: SystemPredictor) -> RegisteredSystem:
    return RegisteredSystem(
        "direct_regression", FacePerception.from_pretrained(), predictor, "test"
    )


def test_the_arrays_show_the_prediction(
    system: RegisteredSystem, predictor: SystemPredictor, samples: Path
):
    pixels = np.ascontiguousarray(read_photo(samples / "portrait_1.jpg").pixels[::6, ::6])
    prediction = system.predict(pixels, crop=False, quality="fast")
    observation = system.observe(pixels, crop=False)
    assert prediction is not None
    assert observation is not None
    face = predictor(pixels, observation)
    model = predictor.model
    assert model.aflw21 is not None
    points = model.aflw21.points(model.vertices(face.coefficients), model.triangles)
    expected = face.camera.project(points)[:, :2]
    assert prediction.aflw21 is not None
    np.testing.assert_allclose(prediction.aflw21, expected.numpy(), atol=1e-2)
    assert prediction.normals is not None
    assert prediction.mask is not None
    assert prediction.depth is not None
    length = np.linalg.norm(prediction.normals, axis=-1)
    np.testing.assert_allclose(length[prediction.mask], 1.0, atol=1e-4)
    assert prediction.mask.shape == pixels.shape[:2]
    distance = float(face.camera.world_to_camera[2, 3])
    assert abs(np.median(prediction.depth[prediction.mask]) - distance) < 0.15
    # The untrained prediction is the mean face: neutral, and the same with the expression taken away.
    assert prediction.vertices_neutral is not None
    np.testing.assert_allclose(prediction.vertices_neutral, prediction.vertices_head, atol=1e-6)


def test_where_points_are_enough_nothing_is_drawn(predictor: SystemPredictor):
    photo = torch.zeros(1, 3, 96, 96)
    prediction = face_prediction(
        predictor.model, predictor.system(FramedFaces(photo))[0].detach(), fields=POINTS
    )
    assert set(prediction.arrays()) == set(POINTS)


def test_a_photo_without_a_face_has_no_prediction_but_a_crop_always_has(
    system: RegisteredSystem,
):
    grey = np.full((80, 80, 3), 128, np.uint8)
    assert system.predict(grey, crop=False, quality="fast") is None
    assert system.predict(grey, crop=True, quality="fast", fields=("aflw21",)) is not None


def test_the_fit_starts_from_its_prediction(predictor: SystemPredictor, samples: Path):
    asked: list[int] = []

    class Counting(SystemPredictor):
        def __call__(self, pixels, observation):  # type: ignore[no-untyped-def]
            asked.append(1)
            return super().__call__(pixels, observation)

    counting = Counting(predictor.system, predictor.model)
    fit = FitSystem(
        "direct_regression_fit", FacePerception.from_pretrained(), predictor.model, counting, "test"
    )
    pixels = np.ascontiguousarray(read_photo(samples / "portrait_1.jpg").pixels[::6, ::6])
    prediction = fit.predict(pixels, crop=False, quality="fast", fields=("aflw21",))
    assert prediction is not None
    assert prediction.aflw21 is not None
    assert asked == [1]


@pytest.mark.parametrize("name", ["direct_regression", "direct_regression_fit"])
def test_without_weights_the_evaluation_says_what_to_do(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def missing(name: str, *, weights: Path | None) -> None:
        from lifemask.morphable.assets import AssetError

        raise AssetError(f"There is no asset {name!r}.")

    assert name in system_names()
    monkeypatch.setattr("lifemask.evaluation.systems.registered.load_system", missing)
    load_system.cache_clear()
    with pytest.raises(EvaluationError, match=r"direct_regression=weights\.safetensors"):
        load_system(name, tmp_path)
    load_system.cache_clear()
