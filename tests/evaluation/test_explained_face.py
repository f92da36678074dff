"""Mesh, points, normals and colours of an explained face agree with each other."""

import numpy as np
import pytest
import torch

from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.systems.explained_face import POINTS, face_prediction
from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_pretrained(identity_modes=2)


def predict(model: MorphableModel, fields: tuple[str, ...] | None = None) -> Prediction:
    camera = PerspectiveCamera(
        torch.tensor(300.0),
        torch.tensor([48.0, 40.0]),
        rigid_transform(torch.tensor(FRONTAL_HEAD_TO_CAMERA), torch.tensor([0.0, 0.0, 0.9])),
        (80, 96),
    )
    face = ExplainedFace(model.neutral(), camera, SphericalHarmonicsLight.ambient(0.7))
    return face_prediction(model, face, fields=fields)


def test_landmarks_lie_where_the_drawn_surface_is(model: MorphableModel) -> None:
    found = predict(model)
    assert found.landmarks68 is not None
    assert found.landmarks68_camera is not None
    assert found.depth is not None
    inner = slice(27, 36)
    column, row = found.landmarks68[inner].astype(int).T
    np.testing.assert_allclose(
        found.depth[row, column], found.landmarks68_camera[inner, 2], atol=0.01
    )


def test_normals_of_a_frontal_head_face_the_viewer_and_have_unit_length(
    model: MorphableModel,
) -> None:
    found = predict(model)
    assert found.normals is not None
    assert found.mask is not None
    np.testing.assert_allclose(np.linalg.norm(found.normals[found.mask], axis=-1), 1, atol=1e-5)
    assert (found.normals[~found.mask] == 0).all()
    assert found.normals[..., 2][found.mask].mean() > 0.5


def test_where_points_are_enough_nothing_is_drawn(model: MorphableModel) -> None:
    full, points = predict(model).arrays(), predict(model, POINTS).arrays()
    assert set(points) == set(POINTS)
    for name, value in points.items():
        np.testing.assert_array_equal(value, full[name])


def test_constant_light_shades_every_pixel_alike_and_the_rest_is_empty(
    model: MorphableModel,
) -> None:
    found = predict(model)
    assert found.shading is not None
    assert found.albedo is not None
    assert found.mask is not None
    np.testing.assert_allclose(found.shading[found.mask], 0.7, atol=1e-4)
    assert (found.albedo[~found.mask] == 0).all()
    assert found.albedo[found.mask].mean() > 0.05
