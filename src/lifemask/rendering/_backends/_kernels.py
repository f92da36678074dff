"""Numba kernels over rows of one image; `numba.py` calls them and makes them differentiable.

Arithmetic is in float64 whatever the arrays hold; only the reading and writing is float32.
"""

# Numba infers the types of kernels from the arrays they are called with.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

import numpy as np

from lifemask.rendering._backends._jit import kernel
from lifemask.rendering._backends.torch import DEPTH_RANGE, GUARD_BAND_PIXELS, SLIVER

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
    """Write the nearest triangle of each pixel in some rows; `near` is scratch for inverse depth."""
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
def _start(points, i0, i1, i2, x, y):
    """Return the weights at a point of the image before they are divided by their sum.

    Each is followed by its change for one pixel to the right, which is constant on a triangle.
    """
    ax, ay = np.float64(points[i0, 0]) - x, np.float64(points[i0, 1]) - y
    bx, by = np.float64(points[i1, 0]) - x, np.float64(points[i1, 1]) - y
    cx, cy = np.float64(points[i2, 0]) - x, np.float64(points[i2, 1]) - y
    qa, qb, qc = (
        1.0 / np.float64(points[i0, 2]),
        1.0 / np.float64(points[i1, 2]),
        1.0 / np.float64(points[i2, 2]),
    )
    return (
        (bx * cy - by * cx) * qa,
        (by - cy) * qa,
        (cx * ay - cy * ax) * qb,
        (cy - ay) * qb,
        (ax * by - ay * bx) * qc,
        (ay - by) * qc,
    )


@kernel()
def _normalized(u, v, w):
    """Return the weights divided by their sum, one over the sum, and False for a sliver."""
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
def _add_run(points, i0, i1, i2, x, y, start, sums, grad_points):
    """Add the gradients of a run of pixels on one triangle and row to its three corners.

    Args:
        x, y: centre of the first pixel, where `start` was computed.
        sums: for each undivided weight the sum of its gradients, and of its gradients times the
            pixel's distance from the first.
    """
    u0, ux, v0, vx, w0, wx = start
    ga, gas, gb, gbs, gc, gcs = sums
    ax, ay = np.float64(points[i0, 0]) - x, np.float64(points[i0, 1]) - y
    bx, by = np.float64(points[i1, 0]) - x, np.float64(points[i1, 1]) - y
    cx, cy = np.float64(points[i2, 0]) - x, np.float64(points[i2, 1]) - y
    qa, qb, qc = (
        1.0 / np.float64(points[i0, 2]),
        1.0 / np.float64(points[i1, 2]),
        1.0 / np.float64(points[i2, 2]),
    )
    a, a_s, b, b_s, c, c_s = ga * qa, gas * qa, gb * qb, gbs * qb, gc * qc, gcs * qc
    grad_points[i0, 0] += c * by - b * cy
    grad_points[i0, 1] += (b * cx - b_s) - (c * bx - c_s)
    grad_points[i0, 2] -= a * u0 + a_s * ux
    grad_points[i1, 0] += a * cy - c * ay
    grad_points[i1, 1] += (c * ax - c_s) - (a * cx - a_s)
    grad_points[i1, 2] -= b * v0 + b_s * vx
    grad_points[i2, 0] += b * ay - a * by
    grad_points[i2, 1] += (a * bx - a_s) - (b * ax - b_s)
    grad_points[i2, 2] -= c * w0 + c_s * wx


@kernel()
def _span(row_index):
    """Return the first covered column and one past the last; equal in an empty row."""
    first, last = 0, row_index.shape[0]
    while first < last and row_index[first] < 0:
        first += 1
    while last > first and row_index[last - 1] < 0:
        last -= 1
    return first, last


@kernel()
def _run_end(row_index, column, last):
    """Return one past the last column that shows the same triangle as `column`."""
    t = row_index[column]
    column += 1
    while column < last and row_index[column] == t:
        column += 1
    return column


@kernel()
def weigh(points, triangles, index, first_row, last_row, barycentric, depth):
    """Write the perspective-correct weights and the depth of each pixel in some rows."""
    for row in range(first_row, last_row):
        first, last = _span(index[row])
        barycentric[row, :first] = 0
        barycentric[row, last:] = 0
        depth[row, :first] = 0
        depth[row, last:] = 0
        while first < last:
            t = index[row, first]
            if t < 0:
                barycentric[row, first] = 0
                depth[row, first] = 0
                first += 1
                continue
            end = _run_end(index[row], first, last)
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u0, ux, v0, vx, w0, wx = _start(points, i0, i1, i2, first + 0.5, row + 0.5)
            za, zb, zc = points[i0, 2], points[i1, 2], points[i2, 2]
            for column in range(first, end):
                step = np.float64(column - first)
                u, v, w, _, _ = _normalized(u0 + ux * step, v0 + vx * step, w0 + wx * step)
                barycentric[row, column, 0] = u
                barycentric[row, column, 1] = v
                barycentric[row, column, 2] = w
                depth[row, column] = u * za + v * zb + w * zc
            first = end


@kernel()
def weigh_backward(
    points, triangles, index, grad_barycentric, grad_depth, first_row, last_row, grad_points
):
    """Add the gradients of some rows' weights and depths; an empty gradient array means zero."""
    has_barycentric = grad_barycentric.shape[0] > 0
    has_depth = grad_depth.shape[0] > 0
    for row in range(first_row, last_row):
        first, last = _span(index[row])
        while first < last:
            t = index[row, first]
            if t < 0:
                first += 1
                continue
            end = _run_end(index[row], first, last)
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            x, y = first + 0.5, row + 0.5
            start = _start(points, i0, i1, i2, x, y)
            u0, ux, v0, vx, w0, wx = start
            za, zb, zc = points[i0, 2], points[i1, 2], points[i2, 2]
            ga = gas = gb = gbs = gc = gcs = gza = gzb = gzc = 0.0
            for column in range(first, end):
                step = np.float64(column - first)
                u, v, w, inverse, exact = _normalized(
                    u0 + ux * step, v0 + vx * step, w0 + wx * step
                )
                gu = gv = gw = 0.0
                if has_barycentric:
                    gu = np.float64(grad_barycentric[row, column, 0])
                    gv = np.float64(grad_barycentric[row, column, 1])
                    gw = np.float64(grad_barycentric[row, column, 2])
                if has_depth:
                    along = np.float64(grad_depth[row, column])
                    gu += along * za
                    gv += along * zb
                    gw += along * zc
                    gza += along * u
                    gzb += along * v
                    gzc += along * w
                if exact:
                    mean = gu * u + gv * v + gw * w
                    a, b, c = (gu - mean) * inverse, (gv - mean) * inverse, (gw - mean) * inverse
                    ga += a
                    gas += a * step
                    gb += b
                    gbs += b * step
                    gc += c
                    gcs += c * step
            _add_run(points, i0, i1, i2, x, y, start, (ga, gas, gb, gbs, gc, gcs), grad_points)
            if has_depth:
                grad_points[i0, 2] += gza
                grad_points[i1, 2] += gzb
                grad_points[i2, 2] += gzc
            first = end


@kernel()
def interpolate(attributes, triangles, index, barycentric, first_row, last_row, image):
    """Write image (C,H,W); return False if a triangle index is out of range."""
    channels = attributes.shape[1]
    count = triangles.shape[0]
    # Pixel by pixel with the channels together, then turned into planes row by row: writing to
    # many planes at once would evict one plane's cache lines with another's.
    pixels = np.zeros((index.shape[1], channels), attributes.dtype)
    for row in range(first_row, last_row):
        first, last = _span(index[row])
        for column in range(first, last):
            t = index[row, column]
            if t >= count:
                return False
            if t < 0:
                pixels[column] = 0
                continue
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u = barycentric[row, column, 0]
            v = barycentric[row, column, 1]
            w = barycentric[row, column, 2]
            for k in range(channels):
                pixels[column, k] = (
                    u * attributes[i0, k] + v * attributes[i1, k] + w * attributes[i2, k]
                )
        for k in range(channels):
            image[k, row, :first] = 0
            image[k, row, last:] = 0
            for column in range(first, last):
                image[k, row, column] = pixels[column, k]
    return True


@kernel()
def interpolate_backward(
    attributes,
    triangles,
    index,
    barycentric,
    grad_image,
    first_row,
    last_row,
    want_attributes,
    want_barycentric,
    grad_attributes,
    grad_barycentric,
):
    """Add to the attributes' gradient and write the weights' gradient of some rows."""
    channels = attributes.shape[1]
    pixels = np.zeros((index.shape[1], channels), attributes.dtype)
    for row in range(first_row, last_row):
        first, last = _span(index[row])
        for k in range(channels):
            for column in range(first, last):
                pixels[column, k] = grad_image[k, row, column]
        if want_barycentric:
            grad_barycentric[row, :first] = 0
            grad_barycentric[row, last:] = 0
        for column in range(first, last):
            t = index[row, column]
            if t < 0:
                if want_barycentric:
                    grad_barycentric[row, column] = 0
                continue
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            if want_attributes:
                u = barycentric[row, column, 0]
                v = barycentric[row, column, 1]
                w = barycentric[row, column, 2]
                for k in range(channels):
                    grad_attributes[i0, k] += u * pixels[column, k]
                for k in range(channels):
                    grad_attributes[i1, k] += v * pixels[column, k]
                for k in range(channels):
                    grad_attributes[i2, k] += w * pixels[column, k]
            if want_barycentric:
                gu = gv = gw = attributes.dtype.type(0)
                for k in range(channels):
                    gu += pixels[column, k] * attributes[i0, k]
                    gv += pixels[column, k] * attributes[i1, k]
                    gw += pixels[column, k] * attributes[i2, k]
                grad_barycentric[row, column, 0] = gu
                grad_barycentric[row, column, 1] = gv
                grad_barycentric[row, column, 2] = gw


# Real orthonormal spherical harmonics in the order of `geometry.lighting`.
_C0 = 0.5 / np.sqrt(np.pi)
_C1 = np.sqrt(3 / (4 * np.pi))
_C2 = np.sqrt(15 / (4 * np.pi))
_C20 = np.sqrt(5 / (16 * np.pi))
_C22 = np.sqrt(15 / (16 * np.pi))


@kernel()
def _fill_basis(x, y, z, basis):
    basis[0] = _C0
    basis[1] = _C1 * y
    basis[2] = _C1 * z
    basis[3] = _C1 * x
    basis[4] = _C2 * x * y
    basis[5] = _C2 * y * z
    basis[6] = _C20 * (3 * z * z - 1)
    basis[7] = _C2 * x * z
    basis[8] = _C22 * (x * x - y * y)


@kernel()
def _texel(coordinate, size):
    """Return the two neighbouring texels, the weight of the second, and whether it can move."""
    position = coordinate * size - 0.5
    inside = position > 0 and position < size - 1
    position = min(max(position, 0.0), size - 1.0)
    first = min(int(position), max(size - 2, 0))
    return first, min(first + 1, size - 1), position - first, inside


@kernel()
def _fill_normal(normals, i0, i1, i2, u, v, w, normal):
    """Write the interpolated unit normal and return one over its length before."""
    for c in range(3):
        normal[c] = u * normals[i0, c] + v * normals[i1, c] + w * normals[i2, c]
    length = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    inverse = 1.0 / max(length, 1e-12)
    for c in range(3):
        normal[c] *= inverse
    return inverse


@kernel()
def shade(
    points, triangles, index, normals, colours, uv, uv_triangles, texture, light,
    first_row, last_row, everything, colour, albedo, shading, normal, depth,
):  # fmt: skip
    """Write the images of some rows: weights, texture or vertex colours, and light in one pass.

    With an empty `texture` the albedo comes from `colours`. Without `everything` only `colour` is
    written. The images must be zero before.
    """
    textured = texture.shape[0] > 0
    basis, n, a = np.empty(9), np.empty(3), np.empty(3)
    light = light.astype(np.float64)
    for row in range(first_row, last_row):
        first, last = _span(index[row])
        while first < last:
            t = index[row, first]
            if t < 0:
                first += 1
                continue
            end = _run_end(index[row], first, last)
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u0, ux, v0, vx, w0, wx = _start(points, i0, i1, i2, first + 0.5, row + 0.5)
            for column in range(first, end):
                step = np.float64(column - first)
                u, v, w, _, _ = _normalized(u0 + ux * step, v0 + vx * step, w0 + wx * step)
                _fill_normal(normals, i0, i1, i2, u, v, w, n)
                _fill_basis(n[0], n[1], n[2], basis)
                if textured:
                    j0, j1, j2 = uv_triangles[t, 0], uv_triangles[t, 1], uv_triangles[t, 2]
                    tu = u * uv[j0, 0] + v * uv[j1, 0] + w * uv[j2, 0]
                    tv = u * uv[j0, 1] + v * uv[j1, 1] + w * uv[j2, 1]
                    x0, x1, fx, _ = _texel(tu, texture.shape[2])
                    y0, y1, fy, _ = _texel(tv, texture.shape[1])
                    for c in range(3):
                        over = (1 - fx) * texture[c, y0, x0] + fx * texture[c, y0, x1]
                        under = (1 - fx) * texture[c, y1, x0] + fx * texture[c, y1, x1]
                        a[c] = (1 - fy) * over + fy * under
                else:
                    for c in range(3):
                        a[c] = u * colours[i0, c] + v * colours[i1, c] + w * colours[i2, c]
                for c in range(3):
                    s = 0.0
                    for k in range(9):
                        s += basis[k] * light[k, c]
                    colour[c, row, column] = a[c] * s
                    if everything:
                        albedo[c, row, column] = a[c]
                        shading[c, row, column] = s
                        normal[c, row, column] = n[c]
                if everything:
                    z = u * points[i0, 2] + v * points[i1, 2] + w * points[i2, 2]
                    depth[row, column] = z
            first = end


@kernel()
def shade_backward(
    points, triangles, index, normals, colours, uv, uv_triangles, texture, light,
    first_row, last_row, grad_colour, grad_albedo, grad_shading, grad_normal, grad_depth,
    want_texture, grad_points, grad_normals, grad_colours, grad_texture, grad_light,
):  # fmt: skip
    """Add the gradients of some rows of `shade`; an empty image gradient means zero."""
    textured = texture.shape[0] > 0
    has_colour, has_albedo = grad_colour.shape[0] > 0, grad_albedo.shape[0] > 0
    has_shading, has_normal = grad_shading.shape[0] > 0, grad_normal.shape[0] > 0
    has_depth = grad_depth.shape[0] > 0
    basis, n, a = np.empty(9), np.empty(3), np.empty(3)
    to_albedo, to_shading = np.empty(3), np.empty(3)
    to_normal, to_basis = np.empty(3), np.empty(9)
    to_light = np.zeros((9, 3))
    light = light.astype(np.float64)
    for row in range(first_row, last_row):
        first, last = _span(index[row])
        while first < last:
            t = index[row, first]
            if t < 0:
                first += 1
                continue
            end = _run_end(index[row], first, last)
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            px, py = first + 0.5, row + 0.5
            start = _start(points, i0, i1, i2, px, py)
            u0, ux, v0, vx, w0, wx = start
            ga = gas = gb = gbs = gc = gcs = gza = gzb = gzc = 0.0
            for column in range(first, end):
                step = np.float64(column - first)
                u, v, w, total_inverse, exact = _normalized(
                    u0 + ux * step, v0 + vx * step, w0 + wx * step
                )
                length_inverse = _fill_normal(normals, i0, i1, i2, u, v, w, n)
                x, y, z = n[0], n[1], n[2]
                _fill_basis(x, y, z, basis)
                j0 = j1 = j2 = x0 = x1 = y0 = y1 = np.int64(0)
                fx = fy = 0.0
                move_x = move_y = False
                if textured:
                    j0, j1, j2 = uv_triangles[t, 0], uv_triangles[t, 1], uv_triangles[t, 2]
                    tu = u * uv[j0, 0] + v * uv[j1, 0] + w * uv[j2, 0]
                    tv = u * uv[j0, 1] + v * uv[j1, 1] + w * uv[j2, 1]
                    x0, x1, fx, move_x = _texel(tu, texture.shape[2])
                    y0, y1, fy, move_y = _texel(tv, texture.shape[1])
                    for c in range(3):
                        over = (1 - fx) * texture[c, y0, x0] + fx * texture[c, y0, x1]
                        under = (1 - fx) * texture[c, y1, x0] + fx * texture[c, y1, x1]
                        a[c] = (1 - fy) * over + fy * under
                else:
                    for c in range(3):
                        a[c] = u * colours[i0, c] + v * colours[i1, c] + w * colours[i2, c]
                for c in range(3):
                    to_albedo[c] = to_shading[c] = to_normal[c] = 0.0
                    if has_colour:
                        g = np.float64(grad_colour[c, row, column])
                        s = 0.0
                        for k in range(9):
                            s += basis[k] * light[k, c]
                        to_albedo[c] = g * s
                        to_shading[c] = g * a[c]
                    if has_albedo:
                        to_albedo[c] += grad_albedo[c, row, column]
                    if has_shading:
                        to_shading[c] += grad_shading[c, row, column]
                    if has_normal:
                        to_normal[c] = grad_normal[c, row, column]

                # Light and normal.
                for k in range(9):
                    to_basis[k] = (
                        to_shading[0] * light[k, 0]
                        + to_shading[1] * light[k, 1]
                        + to_shading[2] * light[k, 2]
                    )
                    for c in range(3):
                        to_light[k, c] += to_shading[c] * basis[k]
                to_normal[0] += (
                    _C1 * to_basis[3]
                    + _C2 * (y * to_basis[4] + z * to_basis[7])
                    + 2 * _C22 * x * to_basis[8]
                )
                to_normal[1] += (
                    _C1 * to_basis[1]
                    + _C2 * (x * to_basis[4] + z * to_basis[5])
                    - 2 * _C22 * y * to_basis[8]
                )
                to_normal[2] += (
                    _C1 * to_basis[2]
                    + _C2 * (y * to_basis[5] + x * to_basis[7])
                    + 6 * _C20 * z * to_basis[6]
                )
                radial = to_normal[0] * x + to_normal[1] * y + to_normal[2] * z
                gu = gv = gw = 0.0
                for c in range(3):
                    g = (to_normal[c] - radial * n[c]) * length_inverse
                    gu += g * normals[i0, c]
                    gv += g * normals[i1, c]
                    gw += g * normals[i2, c]
                    grad_normals[i0, c] += u * g
                    grad_normals[i1, c] += v * g
                    grad_normals[i2, c] += w * g

                # Albedo.
                if textured:
                    gtu = gtv = 0.0
                    for c in range(3):
                        g = to_albedo[c]
                        t00, t01 = np.float64(texture[c, y0, x0]), np.float64(texture[c, y0, x1])
                        t10, t11 = np.float64(texture[c, y1, x0]), np.float64(texture[c, y1, x1])
                        gtu += g * ((1 - fy) * (t01 - t00) + fy * (t11 - t10))
                        gtv += g * ((1 - fx) * (t10 - t00) + fx * (t11 - t01))
                        if want_texture:
                            grad_texture[c, y0, x0] += (1 - fx) * (1 - fy) * g
                            grad_texture[c, y0, x1] += fx * (1 - fy) * g
                            grad_texture[c, y1, x0] += (1 - fx) * fy * g
                            grad_texture[c, y1, x1] += fx * fy * g
                    gtu = gtu * texture.shape[2] if move_x else 0.0
                    gtv = gtv * texture.shape[1] if move_y else 0.0
                    gu += gtu * uv[j0, 0] + gtv * uv[j0, 1]
                    gv += gtu * uv[j1, 0] + gtv * uv[j1, 1]
                    gw += gtu * uv[j2, 0] + gtv * uv[j2, 1]
                else:
                    for c in range(3):
                        g = to_albedo[c]
                        gu += g * colours[i0, c]
                        gv += g * colours[i1, c]
                        gw += g * colours[i2, c]
                        grad_colours[i0, c] += u * g
                        grad_colours[i1, c] += v * g
                        grad_colours[i2, c] += w * g

                if has_depth:
                    along = np.float64(grad_depth[row, column])
                    gu += along * points[i0, 2]
                    gv += along * points[i1, 2]
                    gw += along * points[i2, 2]
                    gza += along * u
                    gzb += along * v
                    gzc += along * w
                if exact:
                    mean = gu * u + gv * v + gw * w
                    ra = (gu - mean) * total_inverse
                    rb = (gv - mean) * total_inverse
                    rc = (gw - mean) * total_inverse
                    ga += ra
                    gas += ra * step
                    gb += rb
                    gbs += rb * step
                    gc += rc
                    gcs += rc * step
            _add_run(points, i0, i1, i2, px, py, start, (ga, gas, gb, gbs, gc, gcs), grad_points)
            if has_depth:
                grad_points[i0, 2] += gza
                grad_points[i1, 2] += gzb
                grad_points[i2, 2] += gzc
            first = end
    for k in range(9):
        for c in range(3):
            grad_light[k, c] += to_light[k, c]


@kernel()
def _difference(points, i, j):
    return (
        np.float64(points[i, 0]) - points[j, 0],
        np.float64(points[i, 1]) - points[j, 1],
        np.float64(points[i, 2]) - points[j, 2],
    )


@kernel()
def vertex_normals(points, triangles, sums, normals):
    """Write unit vertex normals, zero for degenerate ones; `sums` keeps them before scaling."""
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
    """Add the gradients of unit vertex normals to their points; `to_sums` is scratch."""
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
