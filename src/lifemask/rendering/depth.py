"""Normals of the surface that a depth image shows."""

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.rendering.shading import normalize_image


def depth_normals(
    depth: Float[Tensor, "*batch H W"], camera: PerspectiveCamera
) -> Float[Tensor, "*batch 3 H W"]:
    """Return unit normals in light axes (+x right, +y up, +z to the viewer); differentiable.

    They are computed by central differences of the pixels' surface points. A pixel has the normal 0
    if it or one of its neighbours has no depth.

    Args:
        depth: metres along the optical axis; 0 where there is no surface.
        camera: the image's.
    """
    height, width = depth.shape[-2:]
    columns = torch.arange(width, device=depth.device) + 0.5
    rows = torch.arange(height, device=depth.device) + 0.5
    x, y = camera.principal_point[..., None, None].unbind(-3)
    focal = camera.focal_pixels[..., None, None]
    points = torch.stack(
        torch.broadcast_tensors(
            (columns - x) / focal * depth, (rows[:, None] - y) / focal * depth, depth
        ),
        dim=-3,
    )
    by_column = points[..., 1:-1, 2:] - points[..., 1:-1, :-2]
    by_row = points[..., 2:, 1:-1] - points[..., :-2, 1:-1]
    # Normals point to the camera; camera axes (y down, z away) become light axes.
    outward = (
        torch.linalg.cross(by_row, by_column, dim=-3)
        * depth.new_tensor([1.0, -1.0, -1.0])[:, None, None]
    )
    known = depth > 0
    around = known[..., 1:-1, 1:-1] & known[..., 1:-1, 2:] & known[..., 1:-1, :-2]
    around = around & known[..., 2:, 1:-1] & known[..., :-2, 1:-1]
    inner = normalize_image(outward * around.unsqueeze(-3))
    return torch.nn.functional.pad(inner, (1, 1, 1, 1))
