"""The weighted distance of shape and pose parameters (WPDC).

Each parameter counts by how far its own error moves the points of the face (Zhu et al., "Face
alignment across large poses", 2016, equations 7 and 8).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.viewpoints import Viewpoint
from lifemask.morphable.coefficients import FaceCoefficients


def weighted_parameter_loss(
    predicted: Float[Tensor, "*batch P"],
    true: Float[Tensor, "*batch P"],
    reach: Float[Tensor, "*batch P"],
) -> Float[Tensor, "*batch"]:
    """Return the mean of the squared differences, weighted by the shift that each causes.

    A weight is the difference times the reach, divided by the largest of the same face. It has no
    gradient.

    Args:
        predicted: parameters in units of their spread.
        true: the same.
        reach: shift of the points per unit of each parameter.
    """
    difference = predicted - true
    # The least weight keeps a parameter that is nearly right from being forgotten.
    shift = (difference * reach).abs().detach() + 1e-6 * reach.amax(-1, keepdim=True)
    weight = shift / shift.amax(-1, keepdim=True).clamp(min=1e-30)
    return (weight * difference.square()).mean(-1)


def posed_parameters(
    coefficients: FaceCoefficients,
    view: Viewpoint,
    *,
    frame_side: float,
    spreads: Mapping[str, float],
) -> Float[Tensor, "*batch P"]:
    """Return what decides where the points of a face are seen, each in units of its spread.

    Args:
        coefficients: of the face.
        view: its pose in the crop.
        frame_side: pixels on a side of the crop.
        spreads: `identity` in standard deviations, `expression` in weights, `rotation` of the
            entries of the matrix, `translation` in sides of the frame, `scale` and `distance` in
            natural logarithms.

    Returns:
        Identity, expression, the nine entries of the rotation row by row, translation (2), scale and
        distance.
    """
    parts = {
        "identity": coefficients.identity,
        "expression": coefficients.expression,
        "rotation": view.rotation.flatten(-2),
        "translation": view.translation / frame_side,
        "scale": view.pixels_per_metre.log().unsqueeze(-1),
        "distance": view.distance.log().unsqueeze(-1),
    }
    return torch.cat([part / spreads[name] for name, part in parts.items()], -1)


def parameter_reach(
    view: Viewpoint,
    points: Float[Tensor, "*batch N 3"],
    basis: Float[Tensor, "S N 3"],
    *,
    identity_modes: int,
    frame_side: float,
    spreads: Mapping[str, float],
) -> Float[Tensor, "*batch P"]:
    """Return how far each of `posed_parameters` moves the points per unit, all others being true.

    It is the norm over all points, in metres at the head's origin, to first order.

    Args:
        view: the true pose.
        points: the true points in head space, metres.
        basis: their motion per unit of each identity mode, then of each expression, metres.
        identity_modes: how many of the motions are of the identity.
        frame_side: pixels on a side of the crop.
        spreads: as in `posed_parameters`.
    """
    batch = points.shape[:-2]
    posed = points @ view.rotation.transpose(-1, -2)
    aside = posed[..., :2].norm(dim=-1)
    along = points.norm(dim=-2)
    moved = basis.flatten(1).norm(dim=-1)
    metres = frame_side / view.pixels_per_metre * points.shape[-2] ** 0.5
    # Another distance at the same scale moves a point by its depth's share of the distance.
    nearer = (aside * posed[..., 2]).norm(dim=-1) / view.distance
    parts = {
        "identity": moved[:identity_modes].expand(*batch, -1),
        "expression": moved[identity_modes:].expand(*batch, -1),
        "rotation": along.repeat(*(1 for _ in batch), 3),
        "translation": metres.unsqueeze(-1).expand(*batch, 2),
        "scale": aside.norm(dim=-1).unsqueeze(-1),
        "distance": nearer.unsqueeze(-1),
    }
    return torch.cat([part * spreads[name] for name, part in parts.items()], -1)
