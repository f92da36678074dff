"""Rays that leave the head where hair can lie, in a grid.

Above the middle of the skull the rays start there, below it they are horizontal and start at the
axis under it, so the grid also reaches hair that hangs down. Rows go down from the crown by equal
lengths, columns go around: the face is in the middle, the back at both ends, the subject's left is
on the right.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.meshes import Mesh
from lifemask.rendering import interpolate, rasterize

MIDDLE = (0.0, 0.02, -0.078)
"""Middle of the skull, head space, metres."""
_REACH = 0.1
"""Radius on which rows are equally far apart, metres."""
ABOVE = 0.5 * math.pi * _REACH
"""Length of a column above the middle of the skull."""
LENGTH = ABOVE + 0.22
"""Length of a column, metres."""
_FAR = 10.0
"""Larger than all radii: the rasteriser keeps the smallest of `_FAR` - radius."""


def rays(
    u: Float[Tensor, "*shape"], v: Float[Tensor, "*shape"]
) -> tuple[Float[Tensor, "*shape 3"], Float[Tensor, "*shape 3"]]:
    """Return origins (head space, metres) and unit directions of rays.

    Args:
        u: place around the head in [0, 1]; 0.5 is the face.
        v: place down from the crown in [0, 1].
    """
    azimuth, down = (u - 0.5) * (2 * math.pi), v * LENGTH
    elevation = ((ABOVE - down) / _REACH).clamp(min=0)
    flat = elevation.cos()
    direction = torch.stack([flat * azimuth.sin(), elevation.sin(), flat * azimuth.cos()], dim=-1)
    origin = direction.new_tensor(MIDDLE).expand_as(direction).clone()
    origin[..., 1] -= (down - ABOVE).clamp(min=0)
    return origin, direction


def grid_rays(
    rows: int, columns: int
) -> tuple[Float[Tensor, "rows columns 3"], Float[Tensor, "rows columns 3"]]:
    """Return origins and directions of the rays through the middles of the cells of a grid."""
    v, u = torch.meshgrid(
        (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij"
    )
    return rays(u, v)


def place(points: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
    """Return the ray (u, v) through each point, and its distance along the ray in metres."""
    x, y, z = (points - points.new_tensor(MIDDLE)).unbind(-1)
    around = torch.hypot(x, z)
    elevation = torch.atan2(y.clamp(min=0), around)
    down = ABOVE - elevation * _REACH + (-y).clamp(min=0)
    radius = torch.hypot(around, y.clamp(min=0))
    return torch.stack([torch.atan2(x, z) / (2 * math.pi) + 0.5, down / LENGTH, radius], dim=-1)


def unwrapped(
    mesh: Mesh, attributes: Float[Tensor, "V C"], rows: int, columns: int
) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "C rows columns"]]:
    """Return where rays leave a mesh for the last time, metres (0: never), and attributes there."""
    u, v, radius = place(mesh.vertices).unbind(-1)
    corners = torch.stack([u * columns, v * rows, _FAR - radius], dim=-1)[mesh.triangles]
    # Triangles that cross the back get a copy at either end.
    across = corners[..., 0].amax(-1) - corners[..., 0].amin(-1) > columns / 2
    right = torch.where(corners[across][..., :1] < columns / 2, columns, 0.0)
    right = corners[across] + right * corners.new_tensor([1.0, 0.0, 0.0])
    left = right - right.new_tensor([columns, 0.0, 0.0])
    corners = torch.cat([corners[~across], left, right])
    source = torch.cat([mesh.triangles[~across], mesh.triangles[across], mesh.triangles[across]])
    own = torch.arange(3 * len(corners)).view(-1, 3)
    fragments = rasterize(corners.flatten(0, 1), own, (rows, columns), cull="none")
    hit = fragments.mask
    found = torch.where(hit, _FAR - fragments.depth, 0)
    return found, interpolate(attributes, source, fragments)


def facing(
    points: Float[Tensor, "*shape 3"],
    direction: Float[Tensor, "*shape 3"],
    camera: PerspectiveCamera,
) -> Float[Tensor, "*shape"]:
    """Return the cosine between directions at points and the way from there to the camera."""
    rotation, translation = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    sight = torch.nn.functional.normalize(-rotation.T @ translation - points, dim=-1)
    return (sight * direction).sum(-1)
