"""The fit of one photo explains its landmarks, and both qualities agree on the pose."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from fitting.toy import project

from lifemask.fitting.config import FitConfig, Quality
from lifemask.fitting.fit import FaceFit, FaceFitter, face_size, fit, landmark_targets
from lifemask.fitting.landmark_fit import ROBUST_SIGMAS
from lifemask.fitting.prediction import state_from_prediction
from lifemask.morphable import MorphableModel
from lifemask.perception.correspondences import FACE_OVAL
from lifemask.pipeline.reconstruction import FaceReconstruction


@pytest.fixture(scope="module")
def fitter(face: FaceReconstruction) -> FaceFitter:
    return FaceFitter(face.model, FitConfig(quality="fast"))


@pytest.fixture(scope="module")
def fast(face: FaceReconstruction, fitter: FaceFitter) -> FaceFit:
    return fitter(face.photo.pixels, face.observation)


def test_fast_and_full_agree_on_the_pose(face: FaceReconstruction, fast: FaceFit) -> None:
    a, b = (camera.world_to_camera[:3, :3] for camera in (face.camera, fast.face.camera))
    cosine = (float(torch.trace(a.T @ b)) - 1) / 2
    assert math.degrees(math.acos(min(cosine, 1.0))) < 4
    assert fast.colour_error is not None
    assert face.fit.colour_error is not None
    assert face.fit.colour_error < fast.colour_error


def test_light_is_fitted_without_changing_the_shape(
    face: FaceReconstruction, fitter: FaceFitter
) -> None:
    """In another light, the fast fit of the same landmarks gives the same head with another light."""
    pixels = face.photo.pixels
    ramp = (torch.linspace(0.3, 1.0, pixels.shape[1])[None, :, None]).numpy()
    lit = (pixels * ramp).astype(pixels.dtype)
    bright, dark = (fitter(photo, face.observation).face for photo in (pixels, lit))
    assert torch.equal(bright.coefficients.identity, dark.coefficients.identity)
    assert torch.equal(bright.camera.world_to_camera, dark.camera.world_to_camera)
    sideways = [
        found.light.coefficients[3].mean() / found.light.coefficients[0].mean()
        for found in (bright, dark)
    ]
    assert sideways[1] > sideways[0] + 0.05


def test_the_function_is_the_fitter_used_once(face: FaceReconstruction, fast: FaceFit) -> None:
    once = fit(face.photo.pixels, face.observation, face.model, FitConfig(quality="fast"))
    assert torch.equal(once.face.camera.world_to_camera, fast.face.camera.world_to_camera)
    assert torch.equal(once.face.coefficients.expression, fast.face.coefficients.expression)


def test_the_models_landmarks_lie_on_the_photos(face: FaceReconstruction, fast: FaceFit) -> None:
    model, seen = face.model, face.observation.landmarks478[:468, :2]
    embedding = model.dense478
    assert embedding is not None
    inner = (embedding.weight[:468] > 0.5) & ~torch.isin(torch.arange(468), torch.tensor(FACE_OVAL))
    size = face_size(face.observation.landmarks478.double())
    for found, allowed in ((fast, 0.015), (face.fit, 0.02)):
        points = embedding.points(model.vertices(found.face.coefficients), model.triangles)[:468]
        away = (found.face.camera.project(points)[:, :2] - seen).norm(dim=-1)[inner]
        assert away.mean() < allowed * size


def test_a_known_focal_length_is_kept(face: FaceReconstruction, fitter: FaceFitter) -> None:
    for focal in (900.0, 2500.0):
        found = fitter(face.photo.pixels, face.observation, focal_pixels=focal)
        assert abs(float(found.face.camera.focal_pixels) / focal - 1) < 0.1
        assert found.focal_dropped is None
        height, width = face.photo.pixels.shape[:2]
        assert found.face.camera.principal_point.tolist() == [width / 2, height / 2]


def test_a_face_is_the_same_wherever_it_lies_in_a_larger_photo(
    face: FaceReconstruction, fitter: FaceFitter, fast: FaceFit
) -> None:
    height, width = face.photo.pixels.shape[:2]
    left, top = 1900, 40
    canvas = np.full((height + 300, width + 2000, 3), 128, np.uint8)
    canvas[top : top + height, left : left + width] = face.photo.pixels
    seen, shift = face.observation, torch.tensor([left, top, 0.0])
    moved = dataclasses.replace(
        seen,
        landmarks478=seen.landmarks478 + shift,
        segmentation_to_photo=seen.segmentation_to_photo
        + torch.tensor([[0.0, 0.0, left], [0.0, 0.0, top]]),
    )
    found = fitter(canvas, moved).face
    expected = fast.face
    for name in ("identity", "expression", "gaze"):
        a, b = (getattr(other.coefficients, name) for other in (found, expected))
        torch.testing.assert_close(a, b, atol=0.01, rtol=0)
    a, b = (f.camera.project(face.model.vertices(f.coefficients)) for f in (found, expected))
    torch.testing.assert_close(a[:, :2] - shift[:2], b[:, :2], atol=0.2, rtol=0)
    torch.testing.assert_close(
        found.camera.principal_point - shift[:2],
        expected.camera.principal_point,
        atol=0.01,
        rtol=0,
    )


def test_a_focal_length_that_the_face_contradicts_is_dropped(
    face: FaceReconstruction, fitter: FaceFitter, fast: FaceFit
) -> None:
    """As on a photo that was cropped, but kept the focal length of the whole."""
    free = float(fast.face.camera.focal_pixels)
    assert fast.focal_dropped is None
    for factor, reason in (
        (0.27, "fits much better"),
        (0.15, "nearer than 20 cm"),
        (0.02, "nearer"),
    ):
        found = fitter(face.photo.pixels, face.observation, focal_pixels=factor * free)
        assert found.focal_dropped is not None
        assert reason in found.focal_dropped
        assert torch.equal(found.face.coefficients.identity, fast.face.coefficients.identity)
        assert torch.equal(found.face.camera.world_to_camera, fast.face.camera.world_to_camera)


def test_twice_the_photo_is_the_same_head(
    face: FaceReconstruction, fitter: FaceFitter, fast: FaceFit
) -> None:
    """With twice as many pixels, the focal length is double, and pose and shape are the same."""
    seen = face.observation
    twice = dataclasses.replace(
        seen, landmarks478=seen.landmarks478 * 2, landmark_sigma=seen.landmark_sigma * 2
    )
    found = fitter(face.photo.pixels.repeat(2, 0).repeat(2, 1), twice)
    torch.testing.assert_close(
        found.face.camera.world_to_camera, fast.face.camera.world_to_camera, atol=1e-3, rtol=0
    )
    shapes = (face.model.vertices(other.face.coefficients) for other in (found, fast))
    torch.testing.assert_close(*shapes, atol=1e-4, rtol=0)
    assert abs(float(found.face.camera.focal_pixels / fast.face.camera.focal_pixels) - 2) < 0.01


def test_the_outline_counts_only_across_itself(face: FaceReconstruction) -> None:
    seen = face.observation
    targets = landmark_targets(seen, torch.ones(478), sigma_pixels=2.0)
    ranks = torch.linalg.matrix_rank(targets.whitening)
    oval = torch.tensor(FACE_OVAL)
    assert (ranks[oval] == 1).all()
    assert (ranks[468:] == 0).all()
    inner = ~torch.isin(torch.arange(468), oval)
    assert (ranks[:468][inner] == 2).all()
    along = targets.points[oval].roll(-1, 0) - targets.points[oval].roll(1, 0)
    residual = (targets.whitening[oval] @ along[..., None]).squeeze(-1)
    torch.testing.assert_close(residual, torch.zeros_like(residual), atol=1e-9, rtol=0)


def test_models_without_dense_landmarks_are_refused() -> None:
    triangle = torch.tensor([[0, 1, 2]])
    bare = MorphableModel(
        mean=torch.eye(3),
        identity_basis=torch.zeros(1, 3, 3),
        expression_basis=torch.zeros(0, 3, 3),
        expression_names=(),
        triangles=triangle,
        uv=torch.zeros(3, 2),
        uv_triangles=triangle,
    )
    with pytest.raises(ValueError, match="no dense landmarks"):
        FaceFitter(bare)


@pytest.mark.parametrize("quality", ["fast", "full"])
def test_the_landmark_error_is_that_of_the_returned_face(
    face: FaceReconstruction, quality: Quality
) -> None:
    fitter = FaceFitter(face.model, FitConfig.preset(quality))
    found = fitter(face.photo.pixels, face.observation)
    principal_point = found.face.camera.principal_point.double()
    sigma = fitter.config.landmark_sigma
    size = face_size(face.observation.landmarks478.double())
    targets = landmark_targets(face.observation, fitter.point_weight, sigma * size)
    state = state_from_prediction(found.face, fitter.points, principal_point)
    away = targets.points - project(state, fitter.points, principal_point)
    squared = (targets.whitening @ away[..., None]).squeeze(-1).square().sum(-1)
    robust = (ROBUST_SIGMAS**2 / (ROBUST_SIGMAS**2 + squared)) ** 2  # Geman-McClure.
    expected = float((robust * squared).sum() / robust.sum()) ** 0.5 * sigma
    assert found.landmark_error == pytest.approx(expected, rel=1e-3)


def test_a_start_that_explains_its_points_keeps_its_shape(
    face: FaceReconstruction, fitter: FaceFitter, fast: FaceFit
) -> None:
    given = fast.face.coefficients
    start = dataclasses.replace(
        fast.face, coefficients=dataclasses.replace(given, identity=given.identity + 0.2)
    )
    modes = fitter.points.identity_modes
    kept, fitted = (
        fitter(face.photo.pixels, face.observation, start=start, solved=solved).face
        for solved in (True, False)
    )
    wanted = start.coefficients.identity[:modes]
    torch.testing.assert_close(kept.coefficients.identity[:modes], wanted, atol=1e-5, rtol=0)
    assert float((fitted.coefficients.identity[:modes] - wanted).abs().max()) > 0.1
