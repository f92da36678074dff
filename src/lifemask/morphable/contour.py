"""Landmarks of the jaw lie on the face's outline in the image, not at fixed vertices."""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.morphable.model import MorphableModel

_CHIN = 8


def visible_landmarks68(
    model: MorphableModel, vertices: Float[Tensor, "V 3"], camera: PerspectiveCamera
) -> Float[Tensor, "68 3"]:
    """Return the iBUG points in head space (metres); jaw points lie on the outline in the image.

    Each jaw point slides along its line of candidate vertices to the one that lies outermost across
    the face (Zhu et al., "Face alignment across large poses", 2016, section 3.2, "landmark
    marching").

    Raises:
        ValueError: if the model has no 68 landmarks.
    """
    embedding = model.landmarks68
    if embedding is None:
        raise ValueError("This model has no 68 landmarks. Use the default head.")
    points = embedding.points(vertices, model.triangles)
    if model.contours is None:
        return points
    candidates = model.contours
    image_points = camera.project(vertices)[:, :2]
    # The direction across the face in the image, from its right side to its left side.
    upright = image_points[candidates[_CHIN, 0]] - camera.project(points[27:28])[0, :2]
    across = torch.nn.functional.normalize(torch.stack([upright[1], -upright[0]]), dim=0)
    position = (image_points[candidates.clamp(min=0)] * across).sum(-1)
    outward = torch.linspace(-1, 1, len(candidates)).sign()
    score = torch.where(candidates >= 0, position * outward[:, None], -torch.inf)
    chosen = candidates.gather(1, score.argmax(-1, keepdim=True)).squeeze(-1)
    points = points.clone()
    sliding = torch.arange(len(candidates)) != _CHIN
    points[: len(candidates)][sliding] = vertices[chosen[sliding]]
    return points
