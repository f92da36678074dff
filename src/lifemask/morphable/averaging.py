"""The mean of several explanations of one face."""

from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.viewpoints import Viewpoint, camera_of, viewpoint_of
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks, UVMap


def average_faces(faces: ExplainedFace, weights: Float[Tensor, "N"]) -> ExplainedFace:
    """Return the weighted mean of several explanations of one face in one image.

    Poses are averaged as viewpoints: rotation, translation, and the logarithms of scale and
    distance. The mean head then lies at the mean place in the image. Maps and depth are averaged
    where they are known; the mean map covers each texel that one of the maps covers.

    Args:
        faces: explanations in the same image, with one batch axis of length N.
        weights: weight of each face; any scale, not all 0.
    """
    weights = weights / weights.sum()

    def mean(values: Float[Tensor, "N *shape"]) -> Float[Tensor, "*shape"]:
        return torch.tensordot(weights.to(values), values, dims=1)

    def mean_map(given: UVMap | None) -> UVMap | None:
        if given is None:
            return None
        share = mean(given.coverage).clamp(min=1e-6).unsqueeze(-3)
        values = mean(given.values * given.coverage.unsqueeze(-3))
        counts = (weights > 0).to(values)[:, None, None]
        return UVMap(values / share, (given.coverage * counts).amax(0))

    view = viewpoint_of(faces.camera)
    left, _, right = torch.linalg.svd(mean(view.rotation))
    # Take the nearest rotation, never a reflection.
    sign = torch.linalg.det(left @ right)
    rotation = left * torch.stack([torch.ones_like(sign)] * 2 + [sign]) @ right
    seen = Viewpoint(
        rotation,
        mean(view.translation),
        mean(view.pixels_per_metre.log()).exp(),
        mean(view.distance.log()).exp(),
    )
    middle = mean(faces.camera.principal_point)
    given = faces.coefficients
    return ExplainedFace(
        FaceCoefficients(**{f.name: mean(getattr(given, f.name)) for f in fields(given)}),
        camera_of(seen, middle, faces.camera.image_size),
        SphericalHarmonicsLight(mean(faces.light.coefficients)),
        albedo_map=mean_map(faces.albedo_map),
        displacement_map=mean_map(faces.displacement_map),
        light_map=mean_map(faces.light_map),
        depth=None
        if faces.depth is None
        else mean(faces.depth) / mean((faces.depth > 0).to(faces.depth)).clamp(min=1e-6),
        landmarks=None
        if faces.landmarks is None
        else PredictedLandmarks(
            mean(faces.landmarks.points),
            mean(faces.landmarks.sigma.square()).sqrt(),
            None if faces.landmarks.visible is None else mean(faces.landmarks.visible),
        ),
    )
