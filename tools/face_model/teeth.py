"""Two arches of teeth with gums, with the sizes and places of MakeHuman's teeth."""

import numpy as np
from numpy.typing import NDArray

# The outer arch of the upper jaw at the borders between teeth, from the middle to the last molar:
# (x, z) in millimetres from the point between the eyes, on the base mesh.
_ARCH = np.array(
    [
        (0.0, 25.4),
        (8.4, 24.2),
        (15.0, 20.8),
        (20.2, 15.6),
        (23.2, 9.0),
        (25.2, 2.0),
        (27.0, -7.5),
        (27.8, -17.5),
        (28.2, -27.0),
    ]
)
_COLUMNS_PER_TOOTH = 4
# Rows from the top of the upper gum down the outside, around the edge and up the inside:
# (height above the edge, distance inwards) in millimetres.
_ROWS = np.array(
    [(14.0, 2.5), (11.5, 0.8), (9.0, 0.0), (5.0, -0.5), (0.6, 0.1), (0.4, 2.0), (10.0, 6.0)]
)
_SLOPE = -0.25
"""Rise of the biting plane towards the front, millimetres per millimetre."""


def tooth_arch(jaw: str) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Return vertices (V, 3), quads and uv of one arch ("upper" or "lower").

    Vertices are in metres from the point between the eyes of the base mesh; uv in [0, 1] go along
    the arch and from gum to edge. Columns go from the subject's right to the left and are symmetric
    about the middle.
    """
    border = np.concatenate([_ARCH[:0:-1] * [-1, 1], _ARCH])
    teeth = len(border) - 1
    position = np.linspace(0, teeth, teeth * _COLUMNS_PER_TOOTH + 1)
    x, z = (np.interp(position, np.arange(teeth + 1), border[:, k]) for k in (0, 1))
    # Teeth are rounded: the middle of a tooth lies farther out than its borders.
    phase = position % 1
    bulge = 0.55 * np.sin(np.pi * phase) ** 0.7 - 0.25
    tangent = np.stack([np.gradient(x), np.gradient(z)], -1)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    outward = np.stack([-tangent[:, 1], tangent[:, 0]], -1)
    outward = (outward + outward[::-1] * [-1, 1]) / 2
    setback = 0.0 if jaw == "upper" else 2.6
    sign = 1.0 if jaw == "upper" else -1.0
    edge = (-74.6 if jaw == "upper" else -73.2) + _SLOPE * (z - 25.4)
    rows = []
    for k, (height, inward) in enumerate(_ROWS):
        out = bulge * (1.0 if k in (2, 3, 4) else 0.3 if k == 1 else 0.0)
        amount = out - inward - setback
        notch = (0.7 * (1 - np.sin(np.pi * phase)) ** 3) * (1.0 if k in (4, 5) else 0.0)
        scallop = -1.2 * (1 - np.sin(np.pi * phase)) * (1.0 if k == 2 else 0.0)
        y = edge + sign * (height + notch + scallop)
        rows.append(np.stack([x + outward[:, 0] * amount, y, z + outward[:, 1] * amount], -1))
    vertices = np.stack(rows)
    count = vertices.shape[1]
    vertices = (vertices + vertices[:, ::-1] * [-1, 1, 1]) / 2
    quads = []
    for k in range(len(_ROWS) - 1):
        for j in range(count - 1):
            a, b = k * count + j, (k + 1) * count + j
            quad = [a, b, b + 1, a + 1] if jaw == "upper" else [a, a + 1, b + 1, b]
            quads.append(quad)
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
    across = np.array([0.0, 0.28, 0.4, 0.6, 0.82, 0.88, 1.0])
    uv = np.stack(np.broadcast_arrays((along / along[-1])[None], across[:, None]), -1)
    if jaw == "lower":
        uv = uv * [1, -1] + [0, 1]
    return vertices.reshape(-1, 3) / 1000, np.array(quads), uv.reshape(-1, 2)
