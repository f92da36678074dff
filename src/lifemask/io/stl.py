"""Binary STL for 3D printers: closed bodies in millimetres, +Z up.

The format has no colours and no units; slicers take its numbers for millimetres. Bodies may overlap,
as eyeballs do with the head; slicers print their union.
"""

import os

import numpy as np

import lifemask
from lifemask.io.closing import closed
from lifemask.io.files import write_bytes
from lifemask.io.scenes import Scene, Surface

_MILLIMETRES = 1000.0
_HEADER_BYTES = 80


def write_stl(path: str | os.PathLike[str], scene: Scene) -> None:
    """Write the opaque surfaces of a scene at rest, each closed where it has holes.

    Raises:
        ValueError: a surface cannot be closed.
        OutputError: the file cannot be written.
    """
    bodies = [
        surface
        for _, surface in scene.at_rest()
        if surface.material is None or surface.material.alpha_mode == "OPAQUE"
    ]
    corners = np.concatenate([_corners(body) for body in bodies])
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True).clip(1e-12)
    fields = [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")]
    triangles = np.zeros(len(corners), fields)
    triangles["normal"], triangles["corners"] = normals, corners
    # A header that begins with "solid" would be taken for a text file.
    header = f"lifemask {lifemask.__version__}".encode().ljust(_HEADER_BYTES)[:_HEADER_BYTES]
    count = np.array(len(triangles), "<u4").tobytes()
    write_bytes(path, header + count + triangles.tobytes())


def _corners(surface: Surface) -> np.ndarray:
    """Return the corners of each triangle of a closed body, (T, 3, 3), millimetres, +Z up."""
    x, y, z = (surface.positions * _MILLIMETRES).T
    upright = np.stack([x, -z, y], axis=-1)
    return upright[closed(surface.positions, surface.triangles)]
