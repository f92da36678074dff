"""Numba kernels that draw triangles: coverage, weights, texels and vertex normals of one image.

The rasteriser's fast backend and the generator of drawn faces share them. Arithmetic is in float64
for arrays of any type; only reading and writing are in float32.
"""

# Numba infers the types of kernels from the arrays that they get.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

import numpy as np

from lifemask.rendering._backends.torch import DEPTH_RANGE, GUARD_BAND_PIXELS, SLIVER
from lifemask.rendering.jit import kernel

_NEAREST, _FARTHEST = DEPTH_RANGE
_UNUSABLE = np.int64(-(2**62))
_LOW, _HIGH = -SLIVER, 1 + SLIVER
# As in `geometry.meshes.vertex_normals`.
_SHORTEST = 1e-20


@kernel(exact=True)
def snap(points, x, y, q):
    """Write x, y in whole 1/256 pixels from the first pixel centre, and inverse depth."""
    for i in range(points.shape[0]):
        px, py, depth = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        if (
            depth > _NEAREST
            and depth < _FARTHEST
            and abs(px) <= GUARD_BAND_PIXELS
            and abs(py) <= GUARD_BAND_PIXELS
        ):
            x[i] = np.int64(np.rint((px - 0.5) * 256.0))
            y[i] = np.int64(np.rint((py - 0.5) * 256.0))
            q[i] = 1.0 / depth
        else:
            x[i] = _UNUSABLE


@kernel(exact=True)
def cover(
    x, y, q, triangles, keep_clockwise, keep_counter_clockwise, first_row, last_row, near, index
):
    """Write the nearest triangle of each pixel in some rows; `near` is memory for inverse depth."""
    width = index.shape[1]
    index[first_row:last_row] = -1
    near[first_row:last_row] = 0.0
    top_limit = first_row * 256
    bottom_limit = (last_row - 1) * 256
    right_limit = (width - 1) * 256
    for t in range(triangles.shape[0]):
        i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        y0, y1, y2 = y[i0], y[i1], y[i2]
        top = (max(min(y0, y1, y2), top_limit) + 255) >> 8
        bottom = min(max(y0, y1, y2), bottom_limit) >> 8
        if top > bottom:
            continue
        x0, x1, x2 = x[i0], x[i1], x[i2]
        lowest = min(x0, x1, x2)
        if lowest == _UNUSABLE:
            continue
        left = (max(lowest, 0) + 255) >> 8
        right = min(max(x0, x1, x2), right_limit) >> 8
        if left > right:
            continue
        area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
        if area == 0:
            continue
        q0, q1, q2 = q[i0], q[i1], q[i2]
        if area < 0:
            if not keep_counter_clockwise:
                continue
            x1, x2 = x2, x1
            y1, y2 = y2, y1
            q1, q2 = q2, q1
            area = -area
        elif not keep_clockwise:
            continue
        ax, ay = x2 - x1, y2 - y1
        bx, by = x0 - x2, y0 - y2
        cx, cy = x1 - x0, y1 - y0
        # Pixel centres on an edge belong to the triangle on its right or below it.
        tie_a = 0 if ay < 0 or (ay == 0 and ax > 0) else 1
        tie_b = 0 if by < 0 or (by == 0 and bx > 0) else 1
        tie_c = 0 if cy < 0 or (cy == 0 and cx > 0) else 1
        inverse_area = 1.0 / np.float64(area)
        dx1, dy1, dx2, dy2 = np.float64(cx), np.float64(cy), np.float64(-bx), np.float64(-by)
        slope_x = ((q1 - q0) * dy2 - (q2 - q0) * dy1) * inverse_area
        slope_y = ((q2 - q0) * dx1 - (q1 - q0) * dx2) * inverse_area
        start = left << 8
        line = top << 8
        row_a = ax * (line - y1) - ay * (start - x1) - tie_a
        row_b = bx * (line - y2) - by * (start - x2) - tie_b
        row_c = cx * (line - y0) - cy * (start - x0) - tie_c
        for row in range(top, bottom + 1):
            q_row = q0 + slope_y * np.float64((row << 8) - y0)
            inside_a, inside_b, inside_c = row_a, row_b, row_c
            for column in range(left, right + 1):
                if (inside_a | inside_b | inside_c) >= 0:
                    value = np.float32(q_row + slope_x * np.float64((column << 8) - x0))
                    value = max(value, np.float32(1e-37))
                    if value > near[row, column]:
                        near[row, column] = value
                        index[row, column] = t
                inside_a -= ay << 8
                inside_b -= by << 8
                inside_c -= cy << 8
            row_a += ax << 8
            row_b += bx << 8
            row_c += cx << 8


@kernel()
def normalized_weights(u, v, w):
    """Return the weights divided by their sum, one over the sum, and False for slivers."""
    total = u + v + w
    inverse = 1.0 / total if total != 0 else 1.0
    u *= inverse
    v *= inverse
    w *= inverse
    if total != 0 and min(u, v, w) >= _LOW and max(u, v, w) <= _HIGH:
        return u, v, w, inverse, True
    u, v, w = min(max(u, 0.0), 1.0), min(max(v, 0.0), 1.0), min(max(w, 0.0), 1.0)
    total = u + v + w
    if total > 0:
        return u / total, v / total, w / total, inverse, False
    return 1 / 3, 1 / 3, 1 / 3, inverse, False


@kernel()
def texel_pair(coordinate, size):
    """Return two neighbouring texels, the weight of the second, and whether it has a gradient."""
    position = coordinate * size - 0.5
    inside = position > 0 and position < size - 1
    position = min(max(position, 0.0), size - 1.0)
    first = min(int(position), max(size - 2, 0))
    return first, min(first + 1, size - 1), position - first, inside


@kernel()
def vertex_normals(points, triangles, sums, normals):
    """Write unit vertex normals, zero for degenerate ones; `sums` gets them before scaling."""
    sums[:] = 0
    for t in range(triangles.shape[0]):
        i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = _difference(points, i1, i0)
        bx, by, bz = _difference(points, i2, i0)
        x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for i in (i0, i1, i2):
            sums[i, 0] += x
            sums[i, 1] += y
            sums[i, 2] += z
    for i in range(sums.shape[0]):
        length = np.sqrt(sums[i, 0] ** 2 + sums[i, 1] ** 2 + sums[i, 2] ** 2)
        inverse = 1.0 / max(length, _SHORTEST)
        for c in range(3):
            normals[i, c] = sums[i, c] * inverse


@kernel()
def vertex_normals_backward(points, triangles, sums, grad_normals, to_sums, grad_points):
    """Add the gradients of unit vertex normals to their points; `to_sums` is temporary memory."""
    for i in range(sums.shape[0]):
        length = np.sqrt(sums[i, 0] ** 2 + sums[i, 1] ** 2 + sums[i, 2] ** 2)
        inverse = 1.0 / max(length, _SHORTEST)
        radial = 0.0
        for c in range(3):
            radial += grad_normals[i, c] * sums[i, c]
        radial *= inverse * inverse
        for c in range(3):
            to_sums[i, c] = (grad_normals[i, c] - radial * sums[i, c]) * inverse
    for t in range(triangles.shape[0]):
        i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = _difference(points, i1, i0)
        bx, by, bz = _difference(points, i2, i0)
        gx = to_sums[i0, 0] + to_sums[i1, 0] + to_sums[i2, 0]
        gy = to_sums[i0, 1] + to_sums[i1, 1] + to_sums[i2, 1]
        gz = to_sums[i0, 2] + to_sums[i1, 2] + to_sums[i2, 2]
        # The gradient of g . (a x b) is b x g to a, and g x a to b.
        to_a = (by * gz - bz * gy, bz * gx - bx * gz, bx * gy - by * gx)
        to_b = (gy * az - gz * ay, gz * ax - gx * az, gx * ay - gy * ax)
        for c in range(3):
            grad_points[i1, c] += to_a[c]
            grad_points[i2, c] += to_b[c]
            grad_points[i0, c] -= to_a[c] + to_b[c]


@kernel()
def _difference(points, i, j):
    return (
        np.float64(points[i, 0]) - points[j, 0],
        np.float64(points[i, 1]) - points[j, 1],
        np.float64(points[i, 2]) - points[j, 2],
    )
