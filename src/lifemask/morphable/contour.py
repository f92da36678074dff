"""The 68 landmarks in two conventions: fixed on the surface, or with the jaw on the outline."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.morphable.model import MorphableModel

_CHIN = 8


def fixed_landmarks68(
    model: MorphableModel, vertices: Float[Tensor, "*batch V 3"]
) -> Float[Tensor, "*batch 68 3"]:
    """Return the 68 points that stay at their places on the surface, in the vertices' space and unit.

    This is the convention of AFLW2000-3D (Zhu et al., "Face alignment across large poses", 2016):
    points that the photo hides count too.

    Raises:
        ValueError: if the model has no 68 landmarks.
    """
    if model.landmarks68 is None:
        raise ValueError("This model has no 68 landmarks. Use the default head.")
    return model.landmarks68.points(vertices, model.triangles)


def outline_landmarks68(
    model: MorphableModel, vertices: Float[Tensor, "V 3"], camera: PerspectiveCamera
) -> Float[Tensor, "68 3"]:
    """Return iBUG's 68 points in head space (metres); jaw points lie on the outline in the image.

    This is the convention of annotated photos (300-W). Each jaw point slides along its line of candidate vertices to the one that lies outermost across
    the face (Zhu et al., "Face alignment across large poses", 2016, section 3.2, "landmark
    marching").

    Raises:
        ValueError: if the model has no 68 landmarks.
    """
    embedding = model.landmarks68_outline
    if embedding is None:
        raise ValueError("This model has no 68 landmarks. Use the default head.")
    points = embedding.points(vertices, model.triangles)
    if model.contours is None:
        return points
    image_points = camera.project(vertices)[:, :2]
    upright = image_points[model.contours[_CHIN, 0]] - camera.project(points[27:28])[0, :2]
    chosen = jaw_vertices(model, image_points, upright)
    points = points.clone()
    sliding = torch.arange(len(chosen)) != _CHIN
    points[: len(chosen)][sliding] = vertices[chosen[sliding]]
    return points


def jaw_vertices(
    model: MorphableModel, image_points: Float[Tensor, "V 2"], upright: Float[Tensor, "2"]
) -> Int[Tensor, "17"]:
    """Return the vertices to which the jaw points slide; the chin's stays at its place.

    Args:
        model: a head with `contours`.
        image_points: its vertices in the image, pixels.
        upright: the direction from the bridge of the nose to the chin in the image.

    Raises:
        ValueError: if the model has no lines along which the jaw slides.
    """
    candidates = model.contours
    if candidates is None:
        raise ValueError("This model has no contours. Use the default head.")
    # The direction across the face in the image, from its right side to its left side.
    across = torch.nn.functional.normalize(torch.stack([upright[1], -upright[0]]), dim=0)
    position = (image_points[candidates.clamp(min=0)] * across).sum(-1)
    outward = torch.linspace(-1, 1, len(candidates)).sign()
    score = torch.where(candidates >= 0, position * outward[:, None], -torch.inf)
    return candidates.gather(1, score.argmax(-1, keepdim=True)).squeeze(-1)
