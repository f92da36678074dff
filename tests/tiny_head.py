"""A head of a hundred points for fast tests: a dome without eyes, mouth or skin regions."""

import torch

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.morphable.albedo import AlbedoModel
from lifemask.morphable.arkit import ARKIT_EXPRESSIONS
from lifemask.morphable.model import MorphableModel

IDENTITY, ALBEDO, TEXTURE = 4, 3, 8
SIDE = 11


def tiny_head() -> MorphableModel:
    """Return a dome of 16 cm; all of it is face, and its texture is square."""
    steps = torch.linspace(-1, 1, SIDE)
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    z = 0.6 * (1 - 0.5 * x**2 - 0.5 * y**2)
    mean = torch.stack([x, y, z], -1).reshape(-1, 3) * 0.08
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(IDENTITY + len(ARKIT_EXPRESSIONS), SIDE**2, 3, generator=generator) * 1e-3
    triangles = grid_triangles(SIDE)
    uv = torch.stack([(x + 1) / 2, (1 - y) / 2], -1).reshape(-1, 2)
    return MorphableModel(
        mean=mean,
        identity_basis=noise[:IDENTITY],
        expression_basis=noise[IDENTITY:],
        expression_names=ARKIT_EXPRESSIONS,
        triangles=triangles,
        uv=uv,
        uv_triangles=triangles,
        regions={"face": torch.ones(SIDE**2)},
        albedo=AlbedoModel(
            torch.full((3, TEXTURE, TEXTURE), -1.0),
            torch.ones(ALBEDO, 3, TEXTURE, TEXTURE) * 0.2,
        ),
    )


def grid_triangles(side: int) -> torch.Tensor:
    """Return the triangles of a square grid of points, (T, 3), counter-clockwise seen from +z."""
    rows, columns = torch.meshgrid(torch.arange(side - 1), torch.arange(side - 1), indexing="ij")
    corner = (rows * side + columns).flatten()
    first = torch.stack([corner, corner + side, corner + 1], -1)
    second = torch.stack([corner + 1, corner + side, corner + side + 1], -1)
    return torch.cat([first, second])


def tiny_camera(size: int, batch: tuple[int, ...] = ()) -> PerspectiveCamera:
    """Return cameras in front of the tiny head, which fills most of the picture."""
    pose = rigid_transform(torch.tensor(FRONTAL_HEAD_TO_CAMERA), torch.tensor([0.0, 0.0, 1.0]))
    return PerspectiveCamera(
        torch.full(batch, 5.0 * size),
        torch.full((*batch, 2), size / 2),
        pose.expand(*batch, 4, 4),
        (size, size),
    )
