"""How a fit uses a predicted face: as its start, and by its landmarks or those of its mesh.

The errors of dense landmarks on one photo are correlated: on a profile all points are shifted in
the same direction. More points do not help, and a prior does not help, because 468 points outweigh
it. A second, independent source helps. Therefore, the targets of the fit are the weighted mean of
measured and predicted landmarks, and the weights depend on the angle of the head.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.fitting.landmark_fit import (
    FittingPriors,
    LandmarkTargets,
    LinearPoints,
    PoseAndShape,
)
from lifemask.geometry.viewpoints import Viewpoint, camera_of, viewpoint_of
from lifemask.morphable.covered import predicted_embedding
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks
from lifemask.morphable.landmarks import LandmarkEmbedding
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation

IRISES = slice(468, 478)
"""The points of the irises among the dense points."""

SHARE_ANGLES_DEGREES = (0.0, 30.0, 60.0, 90.0)
"""Angles between the head and the line of sight."""
SHARES = (0.15, 0.4, 0.65, 0.9)
"""Weight of the predicted landmarks at these angles; linear in between."""


HIDDEN_EYE = 0.5
"""An eye is hidden if something covers its lids with this probability on the mean."""


PERSPECTIVE_LAG = 0.25
"""How far predicted points stay behind the true perspective, as a part of the error of the predicted
distance. On drawn faces that no network was trained on it is 0.35 to 0.6; heads that are drawn at different
distances agree best with less."""

_STEP = 0.05
"""Change of the logarithm of a distance, from which the movement of points follows."""


def with_stated_perspective(
    landmarks: PredictedLandmarks,
    prediction: ExplainedFace,
    focal_pixels: float,
    model: MorphableModel,
) -> PredictedLandmarks:
    """Return predicted points, moved towards the perspective of a stated focal length.

    A network cannot know the distance of the camera, so it predicts points in a perspective between
    the true one and that of its own camera.

    Args:
        landmarks: the 678 points, in photo pixels.
        prediction: the face that they belong to, in the photo's pixels.
        focal_pixels: the stated focal length; the head keeps its size in the photo.
        model: the head.
    """
    camera = prediction.camera
    view = viewpoint_of(camera)
    points = predicted_embedding(model).points(
        model.vertices(prediction.coefficients), model.triangles
    )

    def seen_from(log_factor: float) -> Float[Tensor, "678 2"]:
        moved = replace(view, distance=view.distance * math.exp(log_factor))
        return camera_of(moved, camera.principal_point, camera.image_size).project(points)[:, :2]

    slope = (seen_from(_STEP) - seen_from(-_STEP)) / (2 * _STEP)
    change = math.log(focal_pixels / float(camera.focal_pixels))
    return replace(landmarks, points=landmarks.points + PERSPECTIVE_LAG * change * slope)


def identity_shares(count: int, modes: float) -> Float[Tensor, "count"]:
    """Return how far each of `count` predicted identity coefficients counts, 1 to 0.

    Args:
        modes: number of the mode that counts by 1/e.
    """
    return torch.exp(-torch.arange(count, dtype=torch.float64) / modes)


def prediction_share(prediction: ExplainedFace) -> float:
    """Return the weight of predicted landmarks in the targets, 0 to 1, by the head's angle."""
    facing = -viewpoint_of(prediction.camera).rotation[2, 2]
    degrees = math.degrees(math.acos(max(-1.0, min(1.0, float(facing)))))
    return float(np.interp(degrees, SHARE_ANGLES_DEGREES, SHARES))


def blend_landmarks(
    observation: FaceObservation,
    prediction: ExplainedFace,
    model: MorphableModel,
    dense478: LandmarkEmbedding,
    *,
    share: float | None = None,
) -> FaceObservation:
    """Return an observation with landmarks and expression scores blended with a prediction.

    Args:
        observation: the measurements on the face.
        prediction: the same face, in the photo's pixels.
        model: the head of the prediction.
        dense478: its dense landmarks.
        share: 0 keeps the observation, 1 replaces it; by default `prediction_share`.
    """
    if share is None:
        share = prediction_share(prediction)
    vertices = model.vertices(prediction.coefficients)
    projected = prediction.camera.project(dense478.points(vertices, model.triangles))
    view = viewpoint_of(prediction.camera)
    depth = (projected[:, 2:] - view.distance) * view.pixels_per_metre
    given = observation.landmarks478
    points = torch.cat([projected[:, :2], depth], dim=-1).to(given)
    scores = observation.blendshapes
    return replace(
        observation,
        landmarks478=torch.lerp(given, points, share),
        landmark_sigma=observation.landmark_sigma * (1 - share),
        blendshapes=torch.lerp(scores, prediction.coefficients.expression.to(scores), share),
        presence=max(observation.presence, share),
    )


def predicted_targets(
    landmarks: PredictedLandmarks, *, factor: float, least_sigma: float
) -> LandmarkTargets:
    """Return predicted landmarks as the targets of a fit, each with its own certainty.

    As in Wood et al., "3D face reconstruction with dense landmarks" (ECCV 2022), equation 5.

    Args:
        landmarks: in photo pixels.
        factor: on the predicted standard deviations.
        least_sigma: least standard deviation in pixels.
    """
    sigma = (landmarks.sigma.double() * factor).clamp(min=least_sigma)
    whitening = torch.eye(2, dtype=torch.float64) / sigma[:, None, None]
    whitening[IRISES] = 0  # Iris points determine the gaze, not the shape.
    return LandmarkTargets(landmarks.points.double(), whitening)


def without_hidden_eyes(
    targets: LandmarkTargets,
    priors: FittingPriors,
    covered: Float[Tensor, "V"],
    model: MorphableModel,
) -> tuple[LandmarkTargets, FittingPriors]:
    """Return targets and priors of a fit that does not guess the lids of eyes which something hides.

    What a network predicts behind dark lenses is often a half-closed eye. There the lids get no
    targets, and open, relaxed eyes are expected.

    Args:
        targets: the 678 predicted landmarks.
        priors: their expected expression changes.
        covered: probability that something hides each vertex.
        model: the head.
    """
    embedding = predicted_embedding(model)
    whitening, expected = targets.whitening.clone(), priors.expression_mean.clone()
    columns = torch.stack([covered, model.regions["eyes"], model.mean[:, 0]], -1)
    hidden, lids, x = embedding.points(columns, model.triangles).unbind(-1)
    for side, rows in (("Left", (lids > 0.5) & (x > 0)), ("Right", (lids > 0.5) & (x < 0))):
        if float(hidden[rows].mean()) > HIDDEN_EYE:
            whitening[rows] = 0
            names = [f"{start}{side}" for start in ("eyeBlink", "eyeSquint", "eyeWide")]
            expected[[model.expression_names.index(name) for name in names]] = 0
    return (
        LandmarkTargets(targets.points, whitening),
        replace(priors, expression_mean=expected),
    )


def with_predicted_landmarks(
    observation: FaceObservation,
    prediction: ExplainedFace,
    model: MorphableModel,
    dense478: LandmarkEmbedding,
) -> FaceObservation:
    """Return an observation with the predicted landmarks and expression instead of its own.

    Args:
        observation: the measurements on the face.
        prediction: the same face with landmarks, in the photo's pixels.
        model: the head of the prediction.
        dense478: its dense landmarks; they give the landmarks' depth.

    Raises:
        ValueError: the prediction has no landmarks.
    """
    landmarks = prediction.landmarks
    if landmarks is None:
        raise ValueError("This prediction has no landmarks. Blend those of its mesh instead.")
    mesh = blend_landmarks(observation, prediction, model, dense478, share=1.0)
    count = len(observation.landmarks478)
    depth = mesh.landmarks478[:, 2:]
    return replace(
        mesh,
        landmarks478=torch.cat([landmarks.points[:count], depth], -1).to(depth),
        landmark_sigma=landmarks.sigma[:count].to(depth),
        presence=observation.presence,
    )


def state_from_prediction(
    prediction: ExplainedFace,
    points: LinearPoints,
    principal_point: Float[Tensor, "2"],
    *,
    focal_pixels: float | None = None,
) -> PoseAndShape:
    """Return a predicted face as the state from which a fit starts.

    Args:
        prediction: one face.
        points: the points that are fitted; they define the number of identity modes.
        principal_point: principal point of the photo's camera, pixels.
        focal_pixels: focal length if it is known; the head keeps its scale in the image.
    """
    view = viewpoint_of(prediction.camera)
    if focal_pixels is not None:
        distance = focal_pixels / view.pixels_per_metre
        view = Viewpoint(view.rotation, view.translation, view.pixels_per_metre, distance)
    camera = camera_of(view, principal_point.to(view.translation), prediction.camera.image_size)
    given = prediction.coefficients
    coefficients = torch.cat([given.identity[: points.identity_modes], given.expression])
    motion = camera.world_to_camera.double()
    return PoseAndShape(
        motion[:3, :3], motion[:3, 3], float(camera.focal_pixels), coefficients.double()
    )
