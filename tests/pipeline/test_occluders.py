"""A hand before a face hides the predicted points behind it."""

from dataclasses import replace

import torch

from lifemask.morphable.covered import covered_share, predicted_embedding
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks
from lifemask.pipeline.occluders import with_occluders
from lifemask.pipeline.reconstruction import FaceReconstruction

FACE_SKIN, BODY = 3, 2
CHEEK, JAW = 50, 172


def predicted(face: FaceReconstruction) -> ExplainedFace:
    model, found = face.model, face.fit.face
    points = predicted_embedding(model).points(model.vertices(found.coefficients), model.triangles)
    points = found.camera.project(points)[:, :2]
    sure = torch.ones(len(points))
    return replace(found, landmarks=PredictedLandmarks(points, sure, sure))


def test_a_hand_hides_the_points_behind_it(face: FaceReconstruction) -> None:
    prediction = predicted(face)
    assert prediction.landmarks is not None
    points, size = prediction.landmarks.points, 64
    height, width = face.photo.pixels.shape[:2]
    affine = torch.tensor([[width / size, 0.0, 0.0], [0.0, height / size, 0.0]])
    segments = torch.zeros(6, size, size)
    segments[FACE_SKIN] = 1
    observed = replace(face.observation, segmentation=segments, segmentation_to_photo=affine)
    untouched = with_occluders(prediction, observed, face.model)
    assert untouched.landmarks is not None
    assert bool((untouched.landmarks.visible == 1).all())

    # The left half of the photo, from the middle of the face on, is a hand.
    middle = int(points[4, 0] / width * size)
    segments[BODY, :, :middle], segments[FACE_SKIN, :, :middle] = 1, 0
    covered = with_occluders(prediction, observed, face.model)
    assert covered.landmarks is not None
    visible = covered.landmarks.visible
    assert visible is not None
    assert bool((points[CHEEK] < points[4])[0])
    assert visible[CHEEK] == 0
    # At the border of the face, the segmentation may take its skin for that of the neck.
    assert visible[JAW] == 1
    assert bool((visible[points[:, 0] > points[4, 0] + 0.05 * width] == 1).all())
    shares = [covered_share(face.model, found) for found in (untouched, covered)]
    assert shares[0] < 0.01
    assert 0.2 < shares[1] < 0.6


def test_without_a_segmentation_or_visibility_nothing_changes(face: FaceReconstruction) -> None:
    prediction = predicted(face)
    blind = replace(face.observation, segmentation=None)
    assert with_occluders(prediction, blind, face.model) is prediction
    bare = replace(prediction, landmarks=None)
    assert with_occluders(bare, face.observation, face.model) is bare
