"""The albedo modes explain the colours of a mesh with these modes, but not light in them."""

import numpy as np
import pytest
import torch

from lifemask.evaluation.metrics.plausibility import unexplained_log_albedo
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.surface_maps import albedo_on_photo, camera_of_prediction
from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.meshes import Mesh
from lifemask.morphable.model import MorphableModel
from lifemask.rendering import render

SIZE = (360, 300)


@pytest.fixture(scope="module")
def head() -> MorphableModel:
    return MorphableModel.from_pretrained()


def seen_with(head: MorphableModel, albedo: torch.Tensor) -> Prediction:
    """Return the mean head in front of a camera, with these albedo coefficients."""
    assert head.albedo is not None
    assert head.landmarks68 is not None
    camera = PerspectiveCamera(
        torch.tensor(900.0),
        torch.tensor([140.0, 190.0]),
        rigid_transform(torch.tensor(FRONTAL_HEAD_TO_CAMERA), torch.tensor([0.0, 0.0, 0.7])),
        SIZE,
    )
    mesh = Mesh(head.mean, head.triangles, head.uv, head.uv_triangles)
    drawn = render(mesh, camera, texture=head.albedo.texture(albedo))
    points = head.landmarks68.points(head.mean, head.triangles)
    return Prediction(
        vertices_camera=camera.to_camera(head.mean).numpy(),
        landmarks68=camera.project(points)[:, :2].numpy(),
        landmarks68_camera=camera.to_camera(points).numpy(),
        mask=(drawn.mask > 0).numpy(),
        albedo=drawn.albedo.permute(1, 2, 0).numpy(),
    )


def test_the_camera_follows_from_the_landmarks(head: MorphableModel) -> None:
    camera = camera_of_prediction(seen_with(head, head.neutral().albedo), SIZE)
    assert camera is not None
    assert float(camera.focal_pixels) == pytest.approx(900, abs=0.5)
    np.testing.assert_allclose(camera.principal_point, [140, 190], atol=0.1)


def test_albedo_of_the_model_is_explained_and_light_in_it_is_not(head: MorphableModel) -> None:
    torch.manual_seed(0)
    coefficients = 0.5 * torch.randn_like(head.neutral().albedo)
    prediction = seen_with(head, coefficients)
    assert prediction.albedo is not None
    on_photo = albedo_on_photo(prediction, head, SIZE)
    assert on_photo is not None
    # At 70 cm and 900 pixels of focal length a pixel of the photo is about 0.75 mm wide.
    assert on_photo.millimetres_per_pixel / on_photo.step == pytest.approx(0.75, abs=0.06)
    y, x = np.mgrid[: on_photo.covered.shape[0], : on_photo.covered.shape[1]]
    low, high = prediction.landmarks68.min(0), prediction.landmarks68.max(0)
    centre = ((low + high) / 2 - on_photo.corner) / on_photo.step
    cheeks = np.hypot(x - centre[0], y - centre[1]) < 0.35 * (high - low)[0] / on_photo.step
    sigma = 4 / on_photo.millimetres_per_pixel

    def unexplained(albedo: np.ndarray) -> float:
        reduced = on_photo.reduced(albedo.astype(np.float64))
        return unexplained_log_albedo(
            reduced, on_photo.mean_log, on_photo.basis_log, cheeks, sigma_pixels=sigma
        )

    light = np.linspace(0.3, 1, SIZE[1])[None, :, None] ** np.array([1.0, 2.0, 0.5])
    assert unexplained(prediction.albedo) < 0.03
    assert unexplained(prediction.albedo * light) > 3 * unexplained(prediction.albedo)


def test_a_foreign_mesh_has_no_albedo_basis(head: MorphableModel) -> None:
    prediction = seen_with(head, head.neutral().albedo)
    assert prediction.vertices_camera is not None
    foreign = Prediction(**(prediction.arrays() | {"vertices_camera": np.zeros((5, 3))}))
    assert albedo_on_photo(foreign, head, SIZE) is None
    assert albedo_on_photo(Prediction(mask=prediction.mask), head, SIZE) is None
