"""Which vertices of a mesh are visible from some views."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from lifemask.registration.surface_landmarks import head_camera
from lifemask.rendering import rasterize

Array = np.ndarray


def visible_vertices(
    vertices: Float[Array, "V 3"],
    triangles: Int[Array, "T 3"],
    views_degrees: tuple[tuple[float, float], ...],
) -> Bool[Array, "V"]:
    """Return which vertices are visible from at least one view.

    Args:
        vertices: head space, metres.
        triangles: counter-clockwise from outside.
        views_degrees: (yaw, pitch) of each view, in any direction around the head.
    """
    points = torch.from_numpy(vertices).float()
    corners = torch.from_numpy(triangles)
    seen = torch.zeros(len(points), dtype=torch.bool)
    for yaw, pitch in views_degrees:
        camera = head_camera(
            torch.tensor([0.0, -0.03, 0.0]),
            yaw_radians=np.radians(yaw),
            pitch_radians=np.radians(pitch),
            image_size=800,
            width_metres=0.45,
        )
        projected = camera.project(points)
        depth = rasterize(projected, corners, camera.image_size).depth
        column = projected[:, 0].long().clamp(0, 799)
        row = projected[:, 1].long().clamp(0, 799)
        front = depth[row, column]
        seen |= (front > 0) & (projected[:, 2] < front + 0.0012)
    return seen.numpy()
