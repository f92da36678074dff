"""Skin is covered where landmarks that face the camera are predicted hidden."""

import math
from dataclasses import replace

import pytest
import torch

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.morphable.covered import covered_share, covered_vertices, predicted_embedding
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks
from lifemask.morphable.model import MorphableModel


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained()


def face_of(model: MorphableModel, *, yaw_degrees: float = 0.0) -> ExplainedFace:
    """The mean face with all landmarks predicted visible."""
    c, s = math.cos(math.radians(yaw_degrees)), math.sin(math.radians(yaw_degrees))
    turn = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    camera = PerspectiveCamera(
        torch.tensor(600.0),
        torch.tensor([100.0, 100.0]),
        rigid_transform(torch.tensor(FRONTAL_HEAD_TO_CAMERA) @ turn, torch.tensor([0.0, 0.0, 0.9])),
        (200, 200),
    )
    points = predicted_embedding(model).points(model.mean, model.triangles)
    landmarks = PredictedLandmarks(
        camera.project(points)[:, :2], torch.ones(678), visible=torch.ones(678)
    )
    neutral = model.neutral()
    return ExplainedFace(neutral, camera, SphericalHarmonicsLight.ambient(), landmarks=landmarks)


def hidden_where(face: ExplainedFace, rows: torch.Tensor) -> ExplainedFace:
    assert face.landmarks is not None
    return replace(face, landmarks=replace(face.landmarks, visible=1 - rows.float()))


def test_nothing_is_covered_where_all_points_are_seen(model: MorphableModel) -> None:
    covered = covered_vertices(model, face_of(model))
    assert covered is not None
    assert covered.max().item() == 0


def test_skin_around_hidden_points_is_covered(model: MorphableModel) -> None:
    face = face_of(model)
    points = predicted_embedding(model).points(model.mean, model.triangles)
    covered = covered_vertices(model, hidden_where(face, points[:, 1] < -0.03))
    assert covered is not None
    skin = (model.regions["face"] > 0.5) & (model.mean[:, 2] > 0.02)
    assert covered[skin & (model.mean[:, 1] < -0.045)].mean().item() > 0.9
    assert covered[skin & (model.mean[:, 1] > 0.0)].max().item() < 0.1
    assert covered_share(model, face) == 0
    assert 0.2 < covered_share(model, hidden_where(face, points[:, 1] < -0.03)) < 0.7


def test_what_the_face_itself_hides_is_not_covered(model: MorphableModel) -> None:
    face = face_of(model, yaw_degrees=80.0)
    points = predicted_embedding(model).points(model.mean, model.triangles)
    away = face.camera.to_camera(points)[:, 2] > face.camera.to_camera(points)[:, 2].median()
    covered = covered_vertices(model, hidden_where(face, away))
    assert covered is not None
    far = model.mean[:, 0] * (1 if points[away, 0].mean() > 0 else -1) > 0.06
    assert covered[far].max().item() < 0.05


def test_without_predicted_visibility_nothing_is_known(model: MorphableModel) -> None:
    face = face_of(model)
    assert face.landmarks is not None
    plain = replace(face, landmarks=replace(face.landmarks, visible=None))
    assert covered_vertices(model, plain) is None
    assert covered_vertices(model, replace(face, landmarks=None)) is None
