"""The mean of several estimates of one face."""

from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.viewpoints import Viewpoint, camera_of, viewpoint_of
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace


def mean_estimate(estimates: ExplainedFace, weights: Float[Tensor, "N"]) -> ExplainedFace:
    """Return the mean of several estimates of one face.

    Heads are averaged as they are seen: rotation, translation, scale, distance (the latter two as
    logarithms), so that the mean lies where its parts do.

    Args:
        estimates: with one batch axis of length N, in the same picture.
        weights: of each; any scale, not all 0.
    """
    weights = weights / weights.sum()

    def mean(values: Float[Tensor, "N *shape"]) -> Float[Tensor, "*shape"]:
        return torch.tensordot(weights.to(values), values, dims=1)

    view = viewpoint_of(estimates.camera)
    left, _, right = torch.linalg.svd(mean(view.rotation))
    # The nearest rotation, never a reflection.
    sign = torch.linalg.det(left @ right)
    rotation = left * torch.stack([torch.ones_like(sign)] * 2 + [sign]) @ right
    seen = Viewpoint(
        rotation,
        mean(view.translation),
        mean(view.pixels_per_metre.log()).exp(),
        mean(view.distance.log()).exp(),
    )
    middle = mean(estimates.camera.principal_point)
    given = estimates.coefficients
    return ExplainedFace(
        FaceCoefficients(**{f.name: mean(getattr(given, f.name)) for f in fields(given)}),
        camera_of(seen, middle, estimates.camera.image_size),
        SphericalHarmonicsLight(mean(estimates.light.coefficients)),
    )
