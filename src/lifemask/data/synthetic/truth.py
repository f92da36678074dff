"""The labelled batch of a drawn picture: photo, landmarks, truth and visibility."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifemask.data.batch import FaceBatch, FaceTruth
from lifemask.data.synthetic.scenes import HeadMaterial, LitHeads, Picture
from lifemask.data.wearables.drawing import Layers
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.landmarks import LandmarkEmbedding
from lifemask.morphable.model import MorphableModel

_ON_TOP = 0.004
"""Largest distance in metres of a visible point behind the surface drawn at its pixel."""
_ABOVE = 0.005
"""Wearables hide points that lie more metres behind them; brows and lashes lie closer."""


@dataclass(frozen=True)
class FacePoints:
    """Landmarks of heads in head space, metres."""

    landmarks68_outline: Float[Tensor, "N 68 3"]
    """The 68 iBUG points, the jaw at its places on a frontal face."""
    dense478: Float[Tensor, "N 478 3"]
    """The dense points."""
    aflw21: Float[Tensor, "N 21 3"]
    """AFLW's 21 points."""
    surface200: Float[Tensor, "N 200 3"]
    """The surface points."""


@dataclass(frozen=True)
class DrawnPeople:
    """The drawn people: the values that do not depend on light and camera."""

    coefficients: FaceCoefficients
    """Coefficients of the heads."""
    points: FacePoints
    """Landmarks, from `face_points`."""
    albedo: Float[Tensor, "N 3 R R"]
    """Linear RGB of the whole heads in UV."""
    displacement: Float[Tensor, "N R R"]
    """Metres along the surface normal in UV."""
    person: Int[Tensor, "N"]
    """Number of the person; equal numbers are the same person."""


def face_points(model: MorphableModel, vertices: Float[Tensor, "N V 3"]) -> FacePoints:
    """Return the landmarks of heads.

    Raises:
        ValueError: the model lacks some landmarks.
    """
    return FacePoints(
        **{
            name: _embedding(model, name).points(vertices, model.triangles)
            for name in ("landmarks68_outline", "dense478", "aflw21", "surface200")
        }
    )


def labelled(
    photo: Float[Tensor, "N 3 H W"],
    people: DrawnPeople,
    heads: LitHeads,
    picture: Picture,
    over: Layers,
    *,
    model: MorphableModel,
    material: HeadMaterial,
) -> FaceBatch:
    """Return photos with their landmarks, truth and visibility.

    Args:
        photo: linear RGB as the camera stored it.
        people: the drawn people.
        heads: the heads in front of their cameras.
        picture: of the bare heads.
        over: layers that hide them: hair, clothes, hands.
        model: of the heads.
        material: of the heads.
    """
    camera = heads.camera
    points68, points478, points21, points200 = (
        camera.project(getattr(people.points, name))
        for name in ("landmarks68_outline", "dense478", "aflw21", "surface200")
    )
    coverage = material.coverage.expand(len(people.albedo), -1, -1)
    face = ExplainedFace(
        people.coefficients,
        camera,
        heads.light.nearest_harmonics(),
        albedo_map=UVMap(people.albedo, coverage),
        displacement_map=UVMap(people.displacement.unsqueeze(1), coverage),
        depth=picture.depth,
    )
    truth = FaceTruth(
        face,
        picture.normals,
        picture.albedo,
        visible_points("landmarks68_outline", points68, heads, picture, over, model, material),
        visible_points("dense478", points478, heads, picture, over, model, material),
        points200[..., :2],
        visible_points("surface200", points200, heads, picture, over, model, material),
    )
    return FaceBatch(
        photo,
        points68[..., :2], torch.ones_like(points68[..., 0]),
        points478[..., :2], torch.ones_like(points478[..., 0]),
        points21[..., :2], torch.ones_like(points21[..., 0]),
        picture.skin * (1 - over.opacity),
        people.person,
        truth,
    )  # fmt: skip


def visible_points(
    name: str,
    points: Float[Tensor, "N K 3"],
    heads: LitHeads,
    picture: Picture,
    over: Layers,
    model: MorphableModel,
    material: HeadMaterial,
) -> Bool[Tensor, "N K"]:
    """Return which points face the camera and lie on the surface that the picture shows.

    Args:
        name: of the model's landmarks.
        points: x, y in pixels of the picture, depth in metres.
        heads: the heads in front of their cameras.
        picture: of the bare heads.
        over: layers that hide them.
        model: of the heads.
        material: of the heads.
    """
    embedding = _embedding(model, name)
    normal, position = (
        embedding.points(heads.attributes[..., k : k + 3], model.triangles) for k in (0, 4)
    )
    cosine = -F.cosine_similarity(normal, position, dim=-1)
    facing = cosine > 0.03
    height, width = heads.camera.image_size
    x, y = points[..., 0].floor().long(), points[..., 1].floor().long()
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    # Neighbouring pixels count too: beside an outline the point may be one pixel off.
    steps = torch.arange(-1, 2, device=x.device)
    rows = (y[..., None] + steps).clamp(0, height - 1)
    columns = (x[..., None] + steps).clamp(0, width - 1)
    place = (rows[..., :, None] * width + columns[..., None, :]).flatten(1)

    def around(image: Float[Tensor, "N H W"]) -> Float[Tensor, "N K"]:
        return image.flatten(1).gather(1, place).unflatten(1, (x.shape[1], 9)).amax(-1)

    on_top = points[..., 2] - around(picture.depth) < _ON_TOP
    # A lid is thinner than this tolerance; for points on eyeballs, the eyeball must be visible.
    on_eye = material.wet[model.triangles[embedding.triangle_index, 0]] > 0.5
    if on_eye.any():
        triangle = picture.triangle_index
        corner = material.triangles[triangle.clamp(min=0), 0]
        wet = material.wet[corner] * (triangle >= 0)
        on_top &= ~on_eye | (around(wet) > 0.5)
    pixel = place[:, 4::9]
    hidden = (over.opacity.flatten(1).gather(1, pixel) > 0.5) & (
        over.depth.flatten(1).gather(1, pixel) < points[..., 2] - _ABOVE
    )
    return facing & ((on_top & ~hidden) | ~inside)


def _embedding(model: MorphableModel, name: str) -> LandmarkEmbedding:
    found = getattr(model, name)
    if not isinstance(found, LandmarkEmbedding):
        raise ValueError(f"This head has no {name}. Use the default head.")
    return found
