"""The surroundings of a test face in its photo: hair, shoulders and a blurred background."""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter

from lifemask.evaluation.ict_faces.head import SKIN, IctHead
from lifemask.evaluation.ict_faces.shots import Person
from lifemask.geometry.meshes import vertex_normals

Array = np.ndarray

_RINGS, _SPOKES = 12, 24
TORSO_VERTICES = _RINGS * _SPOKES


def hair_shell(
    head: IctHead, person: Person, vertices: Float[Array, "V 3"]
) -> tuple[Float[Array, "H 3"], Int[Array, "T 3"]]:
    """Return a copy of the scalp, moved outwards as hair; empty for people without hair."""
    if person.appearance.hair_metres == 0:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    triangles = head.skin_triangles[(head.hairline[head.skin_triangles] > -0.003).all(1)]
    used, inverse = np.unique(triangles, return_inverse=True)
    normals = vertex_normals(
        torch.from_numpy(vertices), torch.from_numpy(head.skin_triangles)
    ).numpy()[used]
    rise = np.clip(head.hair_margin[used] / 0.025, 0, 1)
    base = vertices[used]
    waves = 1 + 0.18 * np.sin(base @ [170.0, 60.0, 130.0]) * np.sin(base @ [-90.0, 40.0, 160.0])
    height = person.appearance.hair_metres * rise * (2 - rise) * waves
    return base + normals * height[:, None], inverse.reshape(-1, 3)


def torso(vertices: Float[Array, "V 3"]) -> tuple[Float[Array, "N 3"], Int[Array, "T 3"]]:
    """Return simple shoulders below the neck: vertices in metres, and triangles."""
    bottom = vertices[:SKIN].min(0)[1]
    angle, ring = np.meshgrid(
        np.linspace(0, 2 * np.pi, _SPOKES, endpoint=False),
        np.linspace(0.03, 0.98, _RINGS) * np.pi,
    )
    sphere = np.stack(
        [np.sin(ring) * np.sin(angle), np.cos(ring), np.sin(ring) * np.cos(angle)], axis=-1
    )
    points = sphere.reshape(-1, 3) * [0.21, 0.13, 0.11] + [0.0, bottom - 0.085, -0.075]
    index = np.arange(TORSO_VERTICES).reshape(_RINGS, _SPOKES)
    a, b = index[:-1], np.roll(index[:-1], -1, axis=1)
    c, d = index[1:], np.roll(index[1:], -1, axis=1)
    quads = np.stack([a, c, d, a, d, b], axis=-1)
    return points, quads.reshape(-1, 3)


def background(size: int, generator: np.random.Generator) -> Float[Array, "h w 3"]:
    """Return blurred bars on one colour, linear RGB.

    Args:
        size: pixels per side.
        generator: source of randomness.
    """
    image = np.tile(generator.uniform(0.02, 0.7) * generator.uniform(0.7, 1.3, 3), (size, size, 1))
    rows, columns = np.mgrid[:size, :size] / size
    for _ in range(int(generator.integers(0, 9))):
        x, y, angle = generator.uniform(0, 1), generator.uniform(0, 1), generator.uniform(0, np.pi)
        across = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        along = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        wide, long = generator.uniform(0.03, 0.35, 2)
        inside = (np.abs(across) < wide) & (np.abs(along) < long)
        image[inside] = generator.uniform(0.01, 0.9) * generator.uniform(0.6, 1.4, 3)
    blur = size * generator.uniform(0.012, 0.05)
    return gaussian_filter(image, (blur, blur, 0))
