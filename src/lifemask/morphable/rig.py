"""A small skeleton for a head: neck, head, jaw and both eyes, and how vertices follow them.

The jaw turns about the axis about which the expression `jawOpen` turns the lower teeth, and the
vertices follow it as far as that expression moves them. So joint and expression open the same mouth.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.geometry.alignment import align_points
from lifemask.morphable.model import MorphableModel

JOINTS = ("neck", "head", "jaw", "eye_left", "eye_right")
"""Names of the joints; parents come first."""
PARENTS = (None, 0, 1, 1, 1)
"""Index of the parent of each joint."""
_ATLAS = (0.0, -0.045, -0.075)
"""Joint of skull and neck in the mean head, metres: a little below and behind the ear canals."""
_JAW_SIDE = 0.05
"""Distance of the jaw's joints from the middle, metres."""
_BEND_BEGINS, _BEND_ENDS = 0.0, 0.6
"""Where the neck bends, as a share of the way from the neck's joint to the skull's."""
_LEAST_SWING_METRES = 0.004
"""Near the jaw's axis a rotation moves little, so the share of a vertex is damped there."""
_ANCHORS = 48
"""Number of skin vertices whose mean a joint follows from person to person."""


@dataclass(frozen=True)
class HeadRig:
    """Joints of one person's head, in the order of `JOINTS`, with the weights of the vertices."""

    positions: Float[Tensor, "5 3"]
    """Head space, metres, for the neutral head. All joints have the axes of head space."""
    weights: Float[Tensor, "V 5"]
    """Share of each joint in the motion of each vertex; rows sum to 1."""


def head_rig(model: MorphableModel, identity: Float[Tensor, "I"]) -> HeadRig | None:
    """Return the skeleton of a person, or None for a model without eyeballs, lower teeth and neck.

    Args:
        model: the head.
        identity: coefficients of the person.
    """
    known = model.vertex_parts
    rim = _neck_rim(model)
    if model.eyeballs is None or not {"skin", "teeth_lower"} <= set(known) or not len(rim):
        return None
    mean = model.mean
    moved = torch.tensordot(identity, model.identity_basis, dims=1)
    turn, axis = _jaw_swing(model)
    atlas = mean.new_tensor(_ATLAS)
    sides = mean.new_tensor([[_JAW_SIDE, 0, 0], [-_JAW_SIDE, 0, 0]])
    positions = torch.cat(
        [
            _in_middle(mean[rim].mean(0) + moved[rim].mean(0)),
            _in_middle(atlas + moved[_anchors(model, atlas + sides)].mean(0)),
            _in_middle(axis + moved[_anchors(model, axis + sides)].mean(0)),
            model.eyeball_centres(identity),
        ]
    )
    return HeadRig(positions, _weights(model, mean[rim].mean(0), atlas, turn, axis))


def _in_middle(point: Float[Tensor, "3"]) -> Float[Tensor, "1 3"]:
    return torch.cat([torch.zeros_like(point[:1]), point[1:]])[None]


def _neck_rim(model: MorphableModel) -> Int[Tensor, "N"]:
    """Return the vertices at the lower end of the neck: those of edges with one triangle only."""
    if "skin" not in model.triangle_parts:
        return model.triangles[:0, 0]
    skin = model.triangles[slice(*model.triangle_parts["skin"])]
    edges = torch.cat([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]]).sort(-1).values
    pairs, count = edges.unique(dim=0, return_counts=True)
    return pairs[count == 1].unique()


def _anchors(model: MorphableModel, places: Float[Tensor, "2 3"]) -> Int[Tensor, "N"]:
    """Return the skin vertices that are nearest to either of two places."""
    skin = model.mean[slice(*model.vertex_parts["skin"])]
    return torch.cdist(places, skin).topk(_ANCHORS, largest=False).indices.flatten()


def _jaw_swing(model: MorphableModel) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """Return the rotation of `jawOpen`, and the point in the middle about which it turns."""
    teeth = slice(*model.vertex_parts["teeth_lower"])
    before = model.mean[teeth]
    after = before + model.expression_basis[model.expression_names.index("jawOpen"), teeth]
    _, rotation, translation = align_points(before, after)
    # The axis is parallel to x, so its point solves the other two rows of c = R c + t.
    rest = (torch.eye(3).to(rotation) - rotation)[1:, 1:]
    centre = torch.linalg.solve(rest, translation[1:])
    return rotation, torch.cat([centre.new_zeros(1), centre])


def _weights(
    model: MorphableModel,
    neck: Float[Tensor, "3"],
    atlas: Float[Tensor, "3"],
    turn: Float[Tensor, "3 3"],
    axis: Float[Tensor, "3"],
) -> Float[Tensor, "V 5"]:
    vertices = model.mean
    along = atlas - neck
    height = (vertices - neck) @ along / along.square().sum()
    bend = ((height - _BEND_BEGINS) / (_BEND_ENDS - _BEND_BEGINS)).clamp(0, 1)
    upper = bend * bend * (3 - 2 * bend)
    upper[model.vertex_parts["skin"][1] :] = 1

    swing = (vertices - axis) @ turn.T - (vertices - axis)
    opened = model.expression_basis[model.expression_names.index("jawOpen")]
    damping = _LEAST_SWING_METRES**2
    jaw = (opened * swing).sum(-1) / (swing.square().sum(-1) + damping)
    jaw = jaw.clamp(0, 1)
    jaw[slice(*model.vertex_parts["teeth_lower"])] = 1

    weights = torch.stack(
        [1 - upper, upper * (1 - jaw), upper * jaw, torch.zeros_like(jaw), torch.zeros_like(jaw)],
        -1,
    )
    eyeballs = model.eyeballs
    assert eyeballs is not None
    for side in (0, 1):
        weights[eyeballs.vertices[side]] = torch.eye(5).to(weights)[3 + side]
    return weights
