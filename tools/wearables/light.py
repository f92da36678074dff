"""Ambient visibility of points between hair, hat and head."""

import numpy as np
import torch
from numpy.typing import NDArray

from lifemask.rendering.rasterization import rasterize

_DIRECTIONS = 96
_PIXELS = 320
_WIDTH = 0.80


def ambient_visibility(
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    scene: NDArray[np.float64],
    triangles: NDArray[np.int64],
    *,
    bias: float,
    wrap: float,
) -> NDArray[np.float64]:
    """Return the cosine-weighted part of the sky (V,) that a scene does not hide, 0 to 1.

    Args:
        points: (V,3) metres.
        normals: (V,3) unit normals at the points.
        scene: vertices of the meshes that hide the sky, metres.
        triangles: the scene's triangles, all opaque and two-sided.
        bias: distance that a point may lie below the scene's surface, metres.
        wrap: how far light reaches around the normal; 0 for none.
    """
    k = np.arange(_DIRECTIONS) + 0.5
    up = 1 - 2 * k / _DIRECTIONS
    turn = k * np.pi * (3 - 5**0.5)
    flat = np.sqrt(1 - up * up)
    directions = np.stack([flat * np.cos(turn), up, flat * np.sin(turn)], 1)
    seen, total = np.zeros(len(points)), np.zeros(len(points))
    corners = torch.from_numpy(triangles)
    for direction in directions:
        side = np.cross(direction, [0.3, 1.0, 0.2])
        side /= np.linalg.norm(side)
        axes = np.stack([side, np.cross(direction, side), -direction], 1)
        scale = _PIXELS / _WIDTH
        flat_scene = scene @ axes * [scale, scale, 1] + [_PIXELS / 2, _PIXELS / 2, 10]
        fragments = rasterize(
            torch.from_numpy(flat_scene).float(), corners, (_PIXELS, _PIXELS), cull="none"
        )
        depth = fragments.depth.numpy()
        depth = np.where(depth > 0, depth, np.inf)
        own = points @ axes * [scale, scale, 1] + [_PIXELS / 2, _PIXELS / 2, 10]
        column = np.clip(own[:, 0].astype(int), 1, _PIXELS - 2)
        row = np.clip(own[:, 1].astype(int), 1, _PIXELS - 2)
        free = np.mean(
            [own[:, 2] < depth[row + i, column + j] + bias for i in (-1, 0, 1) for j in (-1, 0, 1)],
            axis=0,
        )
        weight = np.maximum(normals @ direction + wrap, 0)
        seen += weight * free
        total += weight
    return np.where(total > 0, seen / np.maximum(total, 1e-9), 1.0)
