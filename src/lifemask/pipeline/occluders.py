"""Finds hands, shoulders and clothes before a face: the segmentation sees them where the face should be."""

from dataclasses import replace
from functools import lru_cache

import torch
from jaxtyping import Bool
from scipy.spatial import KDTree
from torch import Tensor

from lifemask.morphable.covered import predicted_embedding
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.perception.correspondences import FACE_OVAL
from lifemask.perception.observation import FaceObservation
from lifemask.perception.photo_segments import segmentation_at

_INSIDE_METRES = 0.008
"""Only points so far from the oval of the face, neck, ears and scalp are judged: there face and body run
together."""
_SURE, _CERTAIN = 0.5, 0.8
"""Probabilities of body and clothes from which on a point is hidden, in part and wholly."""


def with_occluders(
    face: ExplainedFace, observation: FaceObservation, model: MorphableModel
) -> ExplainedFace:
    """Return a face whose predicted points are hidden too where the photo shows a body or clothes.

    A network often takes a hand that touches a cheek for the cheek; the segmentation tells skin of the
    body from that of the face.

    Args:
        face: a predicted face in the photo's pixels; without predicted visibility it stays as it is.
        observation: the measurements on this face; without a segmentation nothing changes.
        model: the head.
    """
    landmarks = face.landmarks
    if landmarks is None or landmarks.visible is None or observation.segmentation is None:
        return face
    inside = _inside_points(id(model), model)
    segments = segmentation_at(observation, landmarks.points)
    before = ((segments[:, 2] + segments[:, 4] - _SURE) / (_CERTAIN - _SURE)).clamp(0, 1)
    visible = landmarks.visible * (1 - before * inside)
    return replace(face, landmarks=replace(landmarks, visible=visible))


@lru_cache(maxsize=4)
def _inside_points(key: int, model: MorphableModel) -> Bool[Tensor, "678"]:
    points = predicted_embedding(model).points(model.mean, model.triangles)
    outside = torch.stack([model.regions[name] for name in ("neck", "ears", "scalp")]).amax(0) > 0.5
    border = torch.cat([points[list(FACE_OVAL)], model.mean[outside]])
    distance, _ = KDTree(border.numpy()).query(points.numpy())
    return torch.from_numpy(distance > _INSIDE_METRES)
