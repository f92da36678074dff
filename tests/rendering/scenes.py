"""Small scenes and a slow, simple ray caster for the tests of the renderer."""

import math

import torch
from torch import Tensor

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.meshes import Mesh
from lifemask.geometry.rotations import matrix_from_yaw_pitch_roll


def head(rows: int = 14, *, dtype: torch.dtype = torch.float32) -> Mesh:
    """Return a closed, bumpy ball of 0.1 m with a nose; its uv has a seam at the back."""
    columns = 2 * rows
    latitude = torch.linspace(0, math.pi, rows + 1, dtype=torch.float64)
    longitude = torch.linspace(-math.pi, math.pi, columns + 1, dtype=torch.float64)[:-1]
    lat, lon = torch.meshgrid(latitude[1:-1], longitude, indexing="ij")
    direction = torch.stack([lat.sin() * lon.sin(), lat.cos(), lat.sin() * lon.cos()], dim=-1)
    nose = 0.35 * torch.exp(
        -(direction - direction.new_tensor([0, -0.1, 1])).square().sum(-1) / 0.06
    )
    radius = 0.1 * (1 + nose + 0.05 * (5 * lon).sin() * lat.sin() ** 2 * (4 * lat).sin())
    ring = (direction * radius[..., None]).reshape(-1, 3)
    poles = ring.new_tensor([[0, 0.1, 0], [0, -0.1, 0]])
    vertices = torch.cat([ring, poles])
    top, bottom = len(ring), len(ring) + 1
    triangles, uv_triangles = [], []
    for j in range(columns):
        k = (j + 1) % columns
        triangles.append((top, j, k))
        uv_triangles.append((0, 0, 0))
        last = (rows - 2) * columns
        triangles.append((bottom, last + k, last + j))
        uv_triangles.append((0, 0, 0))
        for i in range(rows - 2):
            a, b, c, d = (r * columns + s for r in (i, i + 1) for s in (j, k))
            e, f, g, h = (r * (columns + 1) + s for r in (i, i + 1) for s in (j, j + 1))
            triangles += [(a, c, b), (b, c, d)]
            uv_triangles += [(e, g, f), (f, g, h)]
    v, u = torch.meshgrid(
        latitude[1:-1] / math.pi,
        torch.linspace(0, 1, columns + 1, dtype=torch.float64),
        indexing="ij",
    )
    uv = torch.stack([u, v], dim=-1).reshape(-1, 2)
    return Mesh(
        vertices.to(dtype), torch.tensor(triangles), uv.to(dtype), torch.tensor(uv_triangles)
    )


def camera(
    size: int | tuple[int, int] = 64,
    *,
    yaw: float = 0.3,
    distance: float = 0.6,
    dtype: torch.dtype = torch.float32,
) -> PerspectiveCamera:
    """Return a camera that shows the whole head, slightly rotated."""
    height, width = (size, size) if isinstance(size, int) else size
    angles = torch.tensor([yaw, 0.1, 0.05], dtype=dtype)
    rotation = torch.tensor(FRONTAL_HEAD_TO_CAMERA, dtype=dtype) @ matrix_from_yaw_pitch_roll(
        *angles.unbind()
    )
    return PerspectiveCamera(
        torch.tensor(2.3 * min(height, width), dtype=dtype),
        torch.tensor([width * 0.51, height * 0.49], dtype=dtype),
        rigid_transform(rotation, torch.tensor([0.004, -0.002, distance], dtype=dtype)),
        (height, width),
    )


def soup(seed: int, *, count: int = 80, size: tuple[int, int] = (40, 56)) -> tuple[Tensor, Tensor]:
    """Return image points (V, 3) and triangles of all difficult kinds.

    Large, tiny and needle-shaped triangles, shared and repeated ones, corners on pixel centres, and
    corners behind the camera, far outside, infinite and NaN.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    extent = 10 ** (uniform(count, 1, 1) * 3 - 1.5)
    centre = uniform(count, 1, 2) * torch.tensor([width, height]) * 1.2 - 4
    xy = centre + (uniform(count, 3, 2) - 0.5) * extent
    needles = uniform(count) < 0.15
    xy[needles, 2] = xy[needles, 0] * 0.4 + xy[needles, 1] * 0.6 + 0.002
    on_grid = uniform(count) < 0.2
    xy[on_grid] = xy[on_grid].floor() + 0.5
    depth = 0.3 + uniform(count, 3, 1)
    points = torch.cat([xy, depth], dim=-1).reshape(-1, 3)
    strange = torch.randperm(len(points), generator=generator)[:8]
    points[strange[0], 2] = -0.1
    points[strange[1], 2] = 0.0
    points[strange[2], 0] = torch.nan
    points[strange[3], 2] = torch.nan
    points[strange[4], 1] = torch.inf
    points[strange[5], 0] = 1e6
    points[strange[6], 0] = -3e4
    points[strange[7], 2] = torch.inf
    triangles = torch.arange(3 * count).view(-1, 3)
    shared = torch.randint(3 * count, (count, 3), generator=generator)
    some = torch.randint(count, (10,), generator=generator)
    again = triangles[some][:, [1, 2, 0]]
    return points, torch.cat([triangles, shared, again, triangles[some][:, [0, 2, 1]]])


def cast_rays(
    vertices: Tensor, triangles: Tensor, origin: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """Return for each ray the nearest triangle (-1: none) and the ray's length to it.

    Möller and Trumbore, "Fast, minimum storage ray/triangle intersection", 1997: every ray against
    every triangle.
    """
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    ab, ac = b - a, c - a
    p = torch.linalg.cross(directions[:, None], ac[None])
    determinant = (p * ab).sum(-1)
    offset = origin - a
    u = (p * offset).sum(-1) / determinant
    q = torch.linalg.cross(offset, ab)
    v = (directions[:, None] * q).sum(-1) / determinant
    length = ((ac * q).sum(-1) / determinant).expand_as(u)
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (length > 1e-9)
    length = torch.where(hit, length, torch.inf)
    best, index = length.min(-1)
    return torch.where(best.isinf(), -1, index), best


def distance_to_edges(points: Tensor, triangles: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (H,W) how far in pixels each pixel centre is from the nearest edge of any triangle."""
    height, width = size
    y, x = torch.meshgrid(
        torch.arange(height, dtype=points.dtype) + 0.5,
        torch.arange(width, dtype=points.dtype) + 0.5,
        indexing="ij",
    )
    centre = torch.stack([x, y], dim=-1).reshape(-1, 1, 2)
    nearest = torch.full((height * width,), torch.inf, dtype=points.dtype)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        a, b = points[triangles[:, i], :2], points[triangles[:, j], :2]
        edge = b - a
        along = ((centre - a) * edge).sum(-1) / edge.square().sum(-1).clamp(min=1e-12)
        foot = a + along.clamp(0, 1)[..., None] * edge
        nearest = torch.minimum(nearest, (centre - foot).norm(dim=-1).amin(-1))
    return nearest.view(height, width)


def moved(camera: PerspectiveCamera, **changes: Tensor) -> PerspectiveCamera:
    """Return the camera with some tensors replaced."""
    return PerspectiveCamera(
        changes.get("focal_pixels", camera.focal_pixels),
        changes.get("principal_point", camera.principal_point),
        changes.get("world_to_camera", camera.world_to_camera),
        camera.image_size,
    )
