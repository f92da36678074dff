"""Eyeballs in a head: their vertices, their rotation by gaze, and lids that stay outside."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.morphable.eyes import eyeball_radius, smooth_maximum

_LID_GAP = 0.00025
"""Distance between lid and eyeball, metres."""
_LID_BLEND = 0.0003
"""Width of the smooth transition to that distance, metres."""


@dataclass(frozen=True)
class Eyeballs:
    """Centres of the eyeballs and the vertices that depend on them."""

    centres: Float[Tensor, "2 3"]
    """Centres (left, right) of the mean head, metres."""
    centre_basis: Float[Tensor, "I 2 3"]
    """Their motion per standard deviation of identity, metres."""
    vertices: Int[Tensor, "2 E"]
    """Vertices of the two eyeballs."""
    lids: Int[Tensor, "2 L"]
    """Skin vertices around each eye that must stay outside its eyeball."""
    lid_weight: Float[Tensor, "L"]
    """How strictly each lid vertex must stay outside, 0 to 1."""
    lid_share: Float[Tensor, "L"]
    """The share of a change of the opening that each lid vertex follows; 1 on the upper margin."""
    margin: Int[Tensor, "2 M"]
    """Vertices along the border of each eye's opening."""
    opening: Float[Tensor, "L M"]
    """Weights of the margin vertices that give upper minus lower lid at each lid vertex."""
    lashes: Int[Tensor, "H"]
    """Lash vertices."""
    lash_anchor: Int[Tensor, "H"]
    """For each lash vertex, the lid vertex from which its column grows."""
    lash_root: Int[Tensor, "H"]
    """For each lash vertex, the first one of its column."""


def gaze_rotation(gaze: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 3 3"]:
    """Return rotations from +Z to the gaze (yaw towards +X, pitch up positive; radians)."""
    yaw, pitch = gaze.unbind(-1)
    zero = torch.zeros_like(yaw)
    about_y = matrix_from_rotation_vector(torch.stack([zero, yaw, zero], -1))
    about_x = matrix_from_rotation_vector(torch.stack([-pitch, zero, zero], -1))
    return about_y @ about_x


def gaze_of_expressions(
    names: Sequence[str], *, angle_radians: float = 0.5
) -> Float[Tensor, "E 2 2"]:
    """Return the (yaw, pitch) of left and right eye at weight 1 of each expression; 0 but for `eyeLook…`.

    Args:
        names: ARKit's, in any order. "In" is towards the nose, "out" towards the temple.
        angle_radians: how far `eyeLook…` turns an eye.
    """
    gaze = torch.zeros(len(names), 2, 2)
    turns = {"Up": (0, 1), "Down": (0, -1), "In": (-1, 0), "Out": (1, 0)}
    for side, name in enumerate(("Left", "Right")):
        for way, (outward, pitch) in turns.items():
            if (shape := f"eyeLook{way}{name}") in names:
                # For the left eye, out is +X.
                yaw = outward if side == 0 else -outward
                gaze[names.index(shape), side] = torch.tensor([yaw, pitch]) * angle_radians
    return gaze


def push_outside(
    offset: Float[Tensor, "*batch L 3"], axis: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch L 3"]:
    """Return smooth displacements that push points out of an eyeball, away from its centre.

    Args:
        offset: points minus the eyeball's centre, metres.
        axis: unit optical axis.
    """
    distance = offset.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    direction = offset / distance
    surface = eyeball_radius((direction * axis.unsqueeze(-2)).sum(-1, keepdim=True)) + _LID_GAP
    return direction * (smooth_maximum(distance, surface, _LID_BLEND) - distance)
