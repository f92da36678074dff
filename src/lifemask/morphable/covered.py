"""What lies before a face: vertices that face the camera, but whose landmarks are predicted hidden."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.landmarks import LandmarkEmbedding
from lifemask.morphable.model import MorphableModel

_FACING = 0.4
"""Points with a smaller cosine between normal and view may be hidden by the face itself."""
_REACH_METRES = 0.006
"""Scale of the distance to which a landmark speaks for the skin around it."""
_IRISES = slice(468, 478)
"""Dense points on the irises, which lids hide."""


def predicted_embedding(model: MorphableModel) -> LandmarkEmbedding:
    """Return the 478 dense and 200 surface points of a model as one set.

    Raises:
        ValueError: the model lacks these points.
    """
    sets = [points for points in (model.dense478, model.surface200) if points is not None]
    if len(sets) < 2:
        raise ValueError(
            "This head has no dense and surface points, so predicted landmarks cannot be fitted. "
            "Use the default head, or a system without landmarks."
        )
    return LandmarkEmbedding(
        torch.cat([points.triangle_index for points in sets]),
        torch.cat([points.barycentric for points in sets]),
        torch.cat([points.weight for points in sets]),
    )


def covered_vertices(model: MorphableModel, face: ExplainedFace) -> Float[Tensor, "V"] | None:
    """Return the probability that something hides each vertex; None if visibility is not predicted.

    Only points that turn towards the camera count: the others may be hidden by the face itself. Far
    from all points the result is 0.

    Args:
        model: the head of the face.
        face: one face whose landmarks have a predicted visibility.
    """
    landmarks = face.landmarks
    if landmarks is None or landmarks.visible is None:
        return None
    near = _neighbours(id(model), model)
    vertices = model.vertices(face.coefficients)
    normals = vertex_normals(vertices, model.triangles)
    places = near.embedding.points(torch.stack([vertices, normals]), model.triangles)
    counts = (_cosine(face, places[0], places[1]) > _FACING).to(vertices)
    counts[_IRISES] = 0
    counts[len(landmarks.visible) :] = 0
    hidden = torch.zeros_like(counts)
    hidden[: len(landmarks.visible)] = 1 - landmarks.visible
    share = near.share * counts[near.index]
    total = share.sum(-1)
    return (share * hidden[near.index]).sum(-1) / total.clamp(min=1e-6) * total.clamp(max=1)


def covered_share(model: MorphableModel, face: ExplainedFace) -> float:
    """Return which share of the face that turns towards the camera is covered; 0 if unknown.

    Args:
        model: the head of the face.
        face: one face.
    """
    covered = covered_vertices(model, face)
    if covered is None:
        return 0.0
    vertices = model.vertices(face.coefficients)
    shown = _cosine(face, vertices, vertex_normals(vertices, model.triangles)) > _FACING
    shown &= model.regions["face"] > 0.5
    return float(covered[shown].mean()) if bool(shown.any()) else 0.0


@dataclass(frozen=True)
class _Neighbours:
    """The landmarks near each vertex of the mean head."""

    embedding: LandmarkEmbedding
    index: Int[Tensor, "V 8"]
    share: Float[Tensor, "V 8"]


@lru_cache(maxsize=4)
def _neighbours(key: int, model: MorphableModel) -> _Neighbours:
    embedding = predicted_embedding(model)
    places = embedding.points(model.mean, model.triangles).numpy()
    distance, index = KDTree(places).query(model.mean.numpy(), k=8)
    share = torch.from_numpy(distance).float() / _REACH_METRES
    return _Neighbours(embedding, torch.from_numpy(index), torch.exp(-0.5 * share.square()))


def _cosine(
    face: ExplainedFace, points: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"]
) -> Float[Tensor, "N"]:
    """Return the cosines between normals and the view, both in head space."""
    view = -torch.nn.functional.normalize(face.camera.to_camera(points), dim=-1)
    return ((normals @ face.camera.world_to_camera[:3, :3].T) * view).sum(-1)
