"""Start a fit from what a network saw, and lean on it where landmarks are known to be weak.

Errors of dense landmarks on one photo are alike: on a profile all points are off together, so more
points do not help, and neither does a prior that 468 of them outvote. What helps is a second
observer. The targets of the fit are therefore the mean of both observers' points, weighted by how
well each does at this angle of the head.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.fitting.landmark_fit import LinearPoints, PoseAndShape
from lifemask.geometry.viewpoints import Viewpoint, camera_of, viewpoint_of
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.landmarks import LandmarkEmbedding
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation

Guide = Callable[[UInt8[np.ndarray, "H W 3"], FaceObservation], ExplainedFace]
"""Looks at an observed face of a photo and says what it is, with the camera of the photo whose
principal point is the photo's middle."""

SHARE_ANGLES_DEGREES = (0.0, 30.0, 60.0, 90.0)
SHARES = (0.15, 0.4, 0.65, 0.9)
"""What the estimate's points count against the landmarks at these angles between head and line of
sight; in between, linear."""


def estimate_share(estimate: ExplainedFace) -> float:
    """Return how much of the targets should come from an estimate, by the angle of the head."""
    facing = -viewpoint_of(estimate.camera).rotation[2, 2]
    degrees = math.degrees(math.acos(max(-1.0, min(1.0, float(facing)))))
    return float(np.interp(degrees, SHARE_ANGLES_DEGREES, SHARES))


def led_observation(
    observation: FaceObservation,
    estimate: ExplainedFace,
    model: MorphableModel,
    dense478: LandmarkEmbedding,
    *,
    share: float | None = None,
) -> FaceObservation:
    """Return what was observed with landmarks and expression scores drawn towards an estimate.

    Args:
        observation: of the face.
        estimate: of the same face, in the photo's pixels.
        model: the head of the estimate.
        dense478: its dense landmarks.
        share: 0 leaves the observation, 1 replaces it; by default `estimate_share`.
    """
    if share is None:
        share = estimate_share(estimate)
    vertices = model.vertices(estimate.coefficients)
    projected = estimate.camera.project(dense478.points(vertices, model.triangles))
    view = viewpoint_of(estimate.camera)
    depth = (projected[:, 2:] - view.distance) * view.pixels_per_metre
    given = observation.landmarks478
    points = torch.cat([projected[:, :2], depth], dim=-1).to(given)
    scores = observation.blendshapes
    return replace(
        observation,
        landmarks478=torch.lerp(given, points, share),
        landmark_sigma=observation.landmark_sigma * (1 - share),
        blendshapes=torch.lerp(scores, estimate.coefficients.expression.to(scores), share),
        presence=max(observation.presence, share),
    )


def state_of(
    estimate: ExplainedFace,
    points: LinearPoints,
    principal_point: Float[Tensor, "2"],
    *,
    focal_pixels: float | None = None,
) -> PoseAndShape:
    """Return an estimate as the state that a fit moves.

    Args:
        estimate: of one face.
        points: what is fitted; it says how many identity modes there are.
        principal_point: of the photo's camera.
        focal_pixels: focal length if the photo tells it; the head keeps its size in the image.
    """
    view = viewpoint_of(estimate.camera)
    if focal_pixels is not None:
        distance = focal_pixels / view.pixels_per_metre
        view = Viewpoint(view.rotation, view.translation, view.pixels_per_metre, distance)
    camera = camera_of(view, principal_point.to(view.translation), estimate.camera.image_size)
    given = estimate.coefficients
    coefficients = torch.cat([given.identity[: points.identity_modes], given.expression])
    motion = camera.world_to_camera.double()
    return PoseAndShape(
        motion[:3, :3], motion[:3, 3], float(camera.focal_pixels), coefficients.double()
    )
