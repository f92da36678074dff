"""Which directions of distant light reach the points of a mesh, and what share of a light is left.

Each direction sees the mesh from infinity; a point farther away than the depth that it sees is in the
shadow (Williams, "Casting curved shadows on curved surfaces", SIGGRAPH 1978).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.geometry.environments import Environment, environment_directions
from lifemask.geometry.meshes import vertex_normals
from lifemask.rendering.rasterization import rasterize

_PIXELS = 256
_BORDER = 4
_CLEARANCE = 0.006
"""How far points are lifted off the surface, as a share of the mesh's extent: 1.5 mm on a head."""
_FAR = 500.0
"""Distance to the viewpoints in extents. The rasteriser interpolates in perspective, which must not show."""
_NO_LIGHT = 1e-6


def visible_directions(
    points: Float[Tensor, "N 3"],
    normals: Float[Tensor, "N 3"],
    directions: Float[Tensor, "K 3"],
    vertices: Float[Tensor, "V 3"],
    triangles: Int[Tensor, "T 3"],
) -> Float[Tensor, "N K"]:
    """Return how far each direction sees each point, 0 to 1; not differentiable.

    Args:
        points: on the mesh, metres.
        normals: their unit normals.
        directions: unit vectors to the lights, in the same axes.
        vertices: of all that can be in the way.
        triangles: vertex indices; both sides hide.
    """
    low, high = vertices.amin(0), vertices.amax(0)
    middle, extent = (low + high) / 2, float((high - low).norm())
    scale = (_PIXELS - 2 * _BORDER) / extent
    lifted = points + normals * (_CLEARANCE * extent)
    seen = [
        _seen_from(direction, lifted, vertices, triangles, middle, scale, extent)
        for direction in directions
    ]
    return torch.stack(seen, -1)


def unhidden_share(
    visible: Float[Tensor, "N K"],
    normals: Float[Tensor, "N 3"],
    directions: Float[Tensor, "K 3"],
    radiance: Float[Tensor, "K 3"],
) -> Float[Tensor, "N 3"]:
    """Return the share of a light that reaches each point, 0 to 1 for each colour; 1 without light.

    Args:
        visible: as `visible_directions` returns it.
        normals: unit normals of the points.
        directions: unit vectors to the lights, in the axes of the normals.
        radiance: linear RGB of each direction, not negative.
    """
    facing = (normals @ directions.T).clamp(min=0)
    whole, left = facing @ radiance, (facing * visible) @ radiance
    return torch.where(whole > _NO_LIGHT, left / whole.clamp(min=_NO_LIGHT), 1).clamp(0, 1)


def shares_at(
    points: Float[Tensor, "N 3"],
    normals: Float[Tensor, "N 3"],
    vertices: Float[Tensor, "V 3"],
    triangles: Int[Tensor, "T 3"],
    environments: Sequence[Environment],
) -> list[Float[Tensor, "N 3"]]:
    """Return which share of each environment a mesh lets through to points on it.

    It takes some seconds for a head. All places are in light axes, metres.

    Args:
        points: on the mesh.
        normals: their unit normals.
        vertices: of all that can be in the way.
        triangles: vertex indices.
        environments: each gives one result.
    """
    directions = environment_directions()
    visible = visible_directions(points, normals, directions, vertices, triangles)
    return [unhidden_share(visible, normals, directions, light.radiance) for light in environments]


def vertex_shares(
    vertices: Float[Tensor, "V 3"],
    triangles: Int[Tensor, "T 3"],
    environments: Sequence[Environment],
) -> list[Float[Tensor, "V 3"]]:
    """Return what `shares_at` returns for the vertices of a mesh that hides itself."""
    normals = vertex_normals(vertices, triangles)
    return shares_at(vertices, normals, vertices, triangles, environments)


def _seen_from(
    direction: Float[Tensor, "3"],
    points: Float[Tensor, "N 3"],
    vertices: Float[Tensor, "V 3"],
    triangles: Int[Tensor, "T 3"],
    middle: Float[Tensor, "3"],
    scale: float,
    extent: float,
) -> Float[Tensor, "N"]:
    """Return how far one direction sees each point; the four nearest pixels are compared, then mixed."""
    other = torch.eye(3).to(direction)[int(direction.abs().argmin())]
    right = F.normalize(torch.linalg.cross(other, direction, dim=0), dim=0)
    axes = torch.stack([right, torch.linalg.cross(right, direction, dim=0), -direction])

    def placed(positions: Tensor) -> Tensor:
        turned = (positions - middle) @ axes.T
        pixels = turned[:, :2] * scale + _PIXELS / 2
        return torch.cat([pixels, turned[:, 2:] + _FAR * extent], -1).contiguous()

    drawn = rasterize(placed(vertices), triangles, (_PIXELS, _PIXELS), cull="none")
    nearest = torch.where(drawn.triangle_index >= 0, drawn.depth, torch.inf)
    at = placed(points)
    corner = (at[:, :2] - 0.5).floor()
    share = at[:, :2] - 0.5 - corner
    column, row = corner.long().unbind(-1)
    seen = points.new_zeros(len(points))
    for down in (0, 1):
        for across in (0, 1):
            depth = nearest[
                (row + down).clamp(0, _PIXELS - 1), (column + across).clamp(0, _PIXELS - 1)
            ]
            weight = (share[:, 0] if across else 1 - share[:, 0]) * (
                share[:, 1] if down else 1 - share[:, 1]
            )
            seen += weight * (at[:, 2] <= depth)
    return seen
