"""A dome of a sphere as a head: its surface, its texture space and its displacement are known."""

import torch
from jaxtyping import Float
from tiny_head import ALBEDO, IDENTITY, TEXTURE, grid_triangles
from torch import Tensor

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.meshes import Mesh
from lifemask.morphable.albedo import AlbedoModel
from lifemask.morphable.arkit import ARKIT_EXPRESSIONS
from lifemask.morphable.model import MorphableModel

RADIUS = 0.1
"""Metres."""
WIDEST = 0.9
"""Angle in radians of the dome's border along each axis of its texture."""


def dome_points(uv: Float[Tensor, "*any 2"], height: Tensor | float = 0.0) -> Tensor:
    """Return the point of the sphere at a texture coordinate, moved outwards by a height, metres."""
    longitude, latitude = ((uv - 0.5) * 2 * WIDEST).unbind(-1)
    outwards = torch.stack(
        [longitude.sin() * latitude.cos(), -latitude.sin(), longitude.cos() * latitude.cos()], -1
    )
    return outwards * (RADIUS + torch.as_tensor(height)).unsqueeze(-1)


def grid(side: int) -> tuple[Float[Tensor, "V 2"], Tensor]:
    """Return texture coordinates and triangles of a grid of points."""
    steps = torch.linspace(0, 1, side)
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([u, v], -1).reshape(-1, 2), grid_triangles(side)


def dome_head(side: int = 31) -> MorphableModel:
    """Return the dome as a head model; its coefficients change nothing."""
    uv, triangles = grid(side)
    flat = torch.zeros(IDENTITY + len(ARKIT_EXPRESSIONS), side**2, 3)
    return MorphableModel(
        mean=dome_points(uv),
        identity_basis=flat[:IDENTITY],
        expression_basis=flat[IDENTITY:],
        expression_names=ARKIT_EXPRESSIONS,
        triangles=triangles,
        uv=uv,
        uv_triangles=triangles,
        regions={"face": torch.ones(side**2)},
        albedo=AlbedoModel(
            torch.full((3, TEXTURE, TEXTURE), -1.0),
            torch.ones(ALBEDO, 3, TEXTURE, TEXTURE) * 0.2,
        ),
    )


def ripples(uv: Float[Tensor, "*any 2"]) -> Tensor:
    """Return a displacement in metres: waves of half a millimetre."""
    return 5e-4 * (15 * uv[..., 0]).sin() * (12 * uv[..., 1]).cos()


def texels(size: int) -> Float[Tensor, "R R 2"]:
    """Return the texture coordinates of the texels' centres."""
    steps = (torch.arange(size) + 0.5) / size
    return torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)


def rippled_mesh(side: int) -> Mesh:
    """Return the dome really displaced by the ripples, with as many vertices as asked for."""
    uv, triangles = grid(side)
    return Mesh(dome_points(uv, ripples(uv)), triangles, uv, triangles)


def dome_camera(size: int = 96) -> PerspectiveCamera:
    """Return a camera in front of the dome, a little to the side."""
    turn = torch.tensor(FRONTAL_HEAD_TO_CAMERA)
    pose = rigid_transform(turn, torch.tensor([0.01, 0.0, 1.0]))
    return PerspectiveCamera(
        torch.tensor(5.0 * size), torch.full((2,), size / 2), pose, (size, size)
    )
