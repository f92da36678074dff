"""A fit starts from a prediction, which has more weight if the head faces away."""

import math
from dataclasses import replace

import pytest
import torch
from fitting.toy import project

from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.fitting.landmark_fit import FittingPriors
from lifemask.fitting.prediction import (
    IRISES,
    PERSPECTIVE_LAG,
    SHARES,
    blend_landmarks,
    identity_shares,
    predicted_targets,
    prediction_share,
    state_from_prediction,
    with_stated_perspective,
    without_hidden_eyes,
)
from lifemask.fitting.stated_focal import predicted_contradiction
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.rotations import matrix_from_yaw_pitch_roll
from lifemask.geometry.viewpoints import Viewpoint, camera_of, viewpoint_of
from lifemask.morphable.covered import predicted_embedding
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.pipeline.reconstruction import FaceReconstruction


def turned(face: FaceReconstruction, degrees: float) -> ExplainedFace:
    """Return the fitted face with this yaw relative to a frontal pose."""
    camera, image_size = face.fit.face.camera, face.fit.face.camera.image_size
    zero = torch.zeros(())
    yaw = matrix_from_yaw_pitch_roll(zero + math.radians(degrees), zero, zero)
    view = viewpoint_of(camera)
    view = Viewpoint(
        torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ yaw,
        view.translation, view.pixels_per_metre, view.distance,
    )  # fmt: skip
    camera = camera_of(view, camera.principal_point, image_size)
    return ExplainedFace(face.fit.face.coefficients, camera, SphericalHarmonicsLight.ambient())


@pytest.fixture(scope="module")
def fitter(face: FaceReconstruction) -> FaceFitter:
    return FaceFitter(face.model, FitConfig.preset("fast"))


def dense_points(model: MorphableModel, prediction: ExplainedFace) -> torch.Tensor:
    assert model.dense478 is not None
    vertices = model.vertices(prediction.coefficients)
    return prediction.camera.project(model.dense478.points(vertices, model.triangles))


def observed(face: FaceReconstruction) -> FaceObservation:
    assert face.observation is not None
    return face.observation


def test_the_share_grows_with_the_angle_on_both_sides(face: FaceReconstruction) -> None:
    shares = [prediction_share(turned(face, degrees)) for degrees in (0, 30, 60, 90)]
    assert shares == pytest.approx(list(SHARES), abs=0.02)
    assert prediction_share(turned(face, -60)) == pytest.approx(shares[2], abs=0.02)
    assert prediction_share(turned(face, 180)) == SHARES[-1]


def test_the_share_is_the_weight_of_the_predicted_points(face: FaceReconstruction) -> None:
    prediction = turned(face, 70)
    model, seen = face.model, observed(face)
    assert model.dense478 is not None
    own = blend_landmarks(seen, prediction, model, model.dense478, share=0.0)
    torch.testing.assert_close(own.landmarks478, seen.landmarks478)
    blended = blend_landmarks(seen, prediction, model, model.dense478, share=1.0)
    points = dense_points(model, prediction)
    torch.testing.assert_close(blended.landmarks478[:, :2], points[:, :2])
    torch.testing.assert_close(blended.blendshapes, prediction.coefficients.expression)
    # Relative depth is in pixels, and smaller is nearer, as perception has it.
    metres = (points[:, 2] - points[:, 2].mean()) * viewpoint_of(prediction.camera).pixels_per_metre
    torch.testing.assert_close(
        blended.landmarks478[:, 2] - blended.landmarks478[:, 2].mean(), metres, atol=0.1, rtol=1e-3
    )


def test_the_fit_starts_at_the_prediction(face: FaceReconstruction, fitter: FaceFitter) -> None:
    prediction = turned(face, 40)
    principal_point = prediction.camera.principal_point.double()
    state = state_from_prediction(prediction, fitter.points, principal_point)
    expected = dense_points(face.model, prediction)[:, :2]
    close = (project(state, fitter.points, principal_point) - expected).norm(dim=-1)
    # The fit's points leave out the eyes' corrections, and its modes are fewer.
    assert float(close.median()) < 0.01 * float(expected.std())


def test_a_known_focal_length_changes_the_distance_not_the_size(
    face: FaceReconstruction, fitter: FaceFitter
) -> None:
    prediction = turned(face, 20)
    middle = prediction.camera.principal_point.double()
    focal = 2 * float(prediction.camera.focal_pixels)
    state = state_from_prediction(prediction, fitter.points, middle, focal_pixels=focal)
    assert state.focal_pixels == pytest.approx(focal, rel=1e-5)
    plain = state_from_prediction(prediction, fitter.points, middle)
    assert float(state.translation[2]) == pytest.approx(2 * float(plain.translation[2]), rel=1e-4)


def test_predicted_points_move_towards_the_stated_perspective(face: FaceReconstruction) -> None:
    prediction = turned(face, 20)
    points = predicted_embedding(face.model).points(
        face.model.vertices(prediction.coefficients), face.model.triangles
    )
    view, camera = viewpoint_of(prediction.camera), prediction.camera
    nearer = replace(view, distance=0.9 * view.distance)
    here, there = (
        camera_of(v, camera.principal_point, camera.image_size).project(points)[:, :2]
        for v in (view, nearer)
    )
    seen = PredictedLandmarks(here, torch.ones(len(here)), torch.ones(len(here)))
    focal = float(camera.focal_pixels)
    same = with_stated_perspective(seen, prediction, focal, face.model)
    torch.testing.assert_close(same.points, here)
    moved = with_stated_perspective(seen, prediction, 0.9 * focal, face.model)
    most = float((there - here).norm(dim=-1).max())
    assert most > 1.0
    wanted = here + PERSPECTIVE_LAG * (there - here)
    assert float((moved.points - wanted).norm(dim=-1).max()) < 0.03 * most


def test_late_modes_of_a_prediction_count_less() -> None:
    shares = identity_shares(80, 25.0)
    assert shares[0] == 1
    assert float(shares[25]) == pytest.approx(math.exp(-1))
    assert bool((shares.diff() < 0).all())


def test_a_focal_length_that_the_prediction_contradicts_is_named(
    face: FaceReconstruction,
) -> None:
    prediction = turned(face, 0)
    metres = float(viewpoint_of(prediction.camera).distance)
    focal = float(prediction.camera.focal_pixels)
    assert predicted_contradiction(focal, prediction) is None
    assert predicted_contradiction(5 * focal, prediction) is None
    assert predicted_contradiction(0.6 * focal, prediction) is None
    reason = predicted_contradiction(0.19 * focal / metres, prediction)
    assert reason is not None
    assert "19 cm" in reason
    far = replace(
        prediction,
        camera=camera_of(
            replace(viewpoint_of(prediction.camera), distance=torch.tensor(1.5)),
            prediction.camera.principal_point,
            prediction.camera.image_size,
        ),
    )
    reason = predicted_contradiction(0.4 * float(far.camera.focal_pixels), far)
    assert reason == "the face looks 2.5 times as far away as the focal length says"


def test_a_good_prediction_corrects_a_fit_to_wrong_landmarks(
    face: FaceReconstruction, fitter: FaceFitter
) -> None:
    truth = turned(face, 75)
    points = dense_points(face.model, truth)
    size = float(points[:468, :2].amax(0).sub(points[:468, :2].amin(0)).max())
    # All points are off together, as they are on profiles.
    wrong = points + torch.tensor([0.08 * size, 0.03 * size, 0.0])
    seen = blend_landmarks(observed(face), truth, face.model, fitter.dense478, share=1.0)
    seen = type(seen)(**{**vars(seen), "landmarks478": wrong})
    pixels = face.photo.pixels

    def error(camera: PerspectiveCamera, fit_of: ExplainedFace) -> float:
        found = dense_points(face.model, ExplainedFace(fit_of.coefficients, camera, fit_of.light))
        return float((found - points)[:468, :2].norm(dim=-1).mean()) / size

    alone = fitter(pixels, seen)
    started = fitter(pixels, seen, start=truth)
    before, after = (error(found.face.camera, found.face) for found in (alone, started))
    assert after < 0.6 * before


def predicted(face: FaceReconstruction, truth: ExplainedFace) -> PredictedLandmarks:
    """Return all points of a face, each with a deviation of half a pixel."""
    vertices = face.model.vertices(truth.coefficients)
    points = predicted_embedding(face.model).points(vertices, face.model.triangles)
    seen = truth.camera.project(points)[:, :2]
    return PredictedLandmarks(seen, torch.full((len(seen),), 0.5))


def test_predicted_landmarks_count_by_their_own_certainty() -> None:
    landmarks = PredictedLandmarks(torch.rand(678, 2), torch.full((678,), 2.0))
    landmarks.sigma[:3] = torch.tensor([0.1, 1.0, 4.0])
    targets = predicted_targets(landmarks, factor=3.0, least_sigma=1.5)
    torch.testing.assert_close(targets.points, landmarks.points.double())
    certainty = torch.tensor([1 / 1.5, 1 / 3.0, 1 / 12.0], dtype=torch.float64)
    torch.testing.assert_close(targets.whitening[:3, 0, 0], certainty)
    torch.testing.assert_close(targets.whitening[:3, 1, 1], certainty)
    assert not targets.whitening[IRISES].any()


def test_a_fit_follows_predicted_landmarks_and_ignores_uncertain_ones(
    face: FaceReconstruction, fitter: FaceFitter
) -> None:
    truth = turned(face, 50)
    landmarks = predicted(face, truth)
    wrong = torch.zeros(678, dtype=torch.bool)
    wrong[torch.randperm(678, generator=torch.Generator().manual_seed(0))[:200]] = True
    size = float(landmarks.points.std())
    landmarks = replace(
        landmarks,
        points=landmarks.points + wrong[:, None] * 0.5 * size,
        sigma=torch.where(wrong, 0.5 * size, landmarks.sigma),
    )
    start = replace(turned(face, 30), landmarks=landmarks)
    found = fitter(face.photo.pixels, observed(face), start=start).face
    away = predicted(face, found).points - predicted(face, truth).points
    assert float(away.norm(dim=-1).median()) < 0.02 * size


def test_predicted_landmarks_need_a_head_that_has_them(face: FaceReconstruction) -> None:
    bare = MorphableModel.from_pretrained()
    bare._landmark_fields["surface200"] = False
    with pytest.raises(ValueError, match="surface points"):
        predicted_embedding(bare)


def test_the_lids_of_a_hidden_eye_are_not_guessed(face: FaceReconstruction) -> None:
    model = face.model
    landmarks = predicted(face, face.fit.face)
    targets = predicted_targets(landmarks, factor=1.0, least_sigma=0.1)
    names = list(model.expression_names)
    blinks = [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]
    expected = torch.full((len(names),), 0.7, dtype=torch.float64)
    priors = FittingPriors(expected, torch.full((len(names),), 0.2))
    covered = ((model.regions["eyes"] > 0.3) & (model.mean[:, 0] > 0)).float()
    fitted, known = without_hidden_eyes(targets, priors, covered, model)
    assert known.expression_mean[blinks].tolist() == [0.0, 0.7]
    lost = (targets.whitening != 0).any(-1).any(-1) & (fitted.whitening == 0).all(-1).all(-1)
    places = predicted_embedding(model).points(model.mean, model.triangles)[lost]
    assert 20 < len(places) < 60
    assert places[:, 0].min().item() > 0
    same, unchanged = without_hidden_eyes(targets, priors, torch.zeros_like(covered), model)
    assert torch.equal(same.whitening, targets.whitening)
    assert torch.equal(unchanged.expression_mean, expected)
