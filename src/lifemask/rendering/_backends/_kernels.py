"""Numba kernels over rows of one image; `numba.py` calls them and makes them differentiable.

Arithmetic is in float64 whatever the arrays hold; only the reading and writing is float32.
"""

import numpy as np

from lifemask.rendering._backends._jit import kernel
from lifemask.rendering._backends.torch import DEPTH_RANGE, GUARD_BAND_PIXELS, SLIVER

_NEAREST, _FARTHEST = DEPTH_RANGE
_UNUSABLE = np.int64(-(2**62))
_LOW, _HIGH = -SLIVER, 1 + SLIVER


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
def weigh(points, triangles, index, first_row, last_row, barycentric, depth):
    """Write the perspective-correct weights and the depth of each pixel in some rows."""
    for row in range(first_row, last_row):
        for column in range(index.shape[1]):
            t = index[row, column]
            if t < 0:
                barycentric[row, column, 0] = 0
                barycentric[row, column, 1] = 0
                barycentric[row, column, 2] = 0
                depth[row, column] = 0
                continue
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u, v, w, _ = _weights(points, i0, i1, i2, column + 0.5, row + 0.5)
            barycentric[row, column, 0] = u
            barycentric[row, column, 1] = v
            barycentric[row, column, 2] = w
            depth[row, column] = u * points[i0, 2] + v * points[i1, 2] + w * points[i2, 2]


@kernel()
def _weights(points, i0, i1, i2, centre_x, centre_y):
    """Return the three weights and whether they are exact (True) or a sliver's (False)."""
    ax, ay = points[i0, 0] - centre_x, points[i0, 1] - centre_y
    bx, by = points[i1, 0] - centre_x, points[i1, 1] - centre_y
    cx, cy = points[i2, 0] - centre_x, points[i2, 1] - centre_y
    u = (bx * cy - by * cx) / np.float64(points[i0, 2])
    v = (cx * ay - cy * ax) / np.float64(points[i1, 2])
    w = (ax * by - ay * bx) / np.float64(points[i2, 2])
    total = u + v + w
    if total == 0:
        total = 1.0
        exact = False
    else:
        exact = True
    inverse = 1.0 / total
    u *= inverse
    v *= inverse
    w *= inverse
    exact = exact and min(u, v, w) >= _LOW and max(u, v, w) <= _HIGH
    if not exact:
        u, v, w = min(max(u, 0.0), 1.0), min(max(v, 0.0), 1.0), min(max(w, 0.0), 1.0)
        total = u + v + w
        if total > 0:
            u, v, w = u / total, v / total, w / total
        else:
            u = v = w = 1 / 3
    return u, v, w, exact


@kernel()
def _weights_backward(points, i0, i1, i2, centre_x, centre_y, grad_u, grad_v, grad_w, grad_points):
    """Add what the gradients of exact weights give to the three image points."""
    ax, ay = points[i0, 0] - centre_x, points[i0, 1] - centre_y
    bx, by = points[i1, 0] - centre_x, points[i1, 1] - centre_y
    cx, cy = points[i2, 0] - centre_x, points[i2, 1] - centre_y
    qa, qb, qc = (
        1.0 / np.float64(points[i0, 2]),
        1.0 / np.float64(points[i1, 2]),
        1.0 / np.float64(points[i2, 2]),
    )
    u = (bx * cy - by * cx) * qa
    v = (cx * ay - cy * ax) * qb
    w = (ax * by - ay * bx) * qc
    inverse = 1.0 / (u + v + w)
    mean = (grad_u * u + grad_v * v + grad_w * w) * inverse
    a = (grad_u - mean) * inverse * qa
    b = (grad_v - mean) * inverse * qb
    c = (grad_w - mean) * inverse * qc
    grad_points[i0, 0] += c * by - b * cy
    grad_points[i0, 1] += b * cx - c * bx
    grad_points[i0, 2] -= a * u
    grad_points[i1, 0] += a * cy - c * ay
    grad_points[i1, 1] += c * ax - a * cx
    grad_points[i1, 2] -= b * v
    grad_points[i2, 0] += b * ay - a * by
    grad_points[i2, 1] += a * bx - b * ax
    grad_points[i2, 2] -= c * w


@kernel()
def weigh_backward(
    points, triangles, index, grad_barycentric, grad_depth, first_row, last_row, grad_points
):
    """Add the gradients of some rows' weights and depths; an empty gradient array means zero."""
    has_barycentric = grad_barycentric.shape[0] > 0
    has_depth = grad_depth.shape[0] > 0
    for row in range(first_row, last_row):
        for column in range(index.shape[1]):
            t = index[row, column]
            if t < 0:
                continue
            u = v = w = 0.0
            if has_barycentric:
                u = np.float64(grad_barycentric[row, column, 0])
                v = np.float64(grad_barycentric[row, column, 1])
                w = np.float64(grad_barycentric[row, column, 2])
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            along = np.float64(grad_depth[row, column]) if has_depth else 0.0
            if u == 0 and v == 0 and w == 0 and along == 0:
                continue
            x, y = column + 0.5, row + 0.5
            bu, bv, bw, exact = _weights(points, i0, i1, i2, x, y)
            if along != 0:
                u += along * points[i0, 2]
                v += along * points[i1, 2]
                w += along * points[i2, 2]
                grad_points[i0, 2] += along * bu
                grad_points[i1, 2] += along * bv
                grad_points[i2, 2] += along * bw
            if exact:
                _weights_backward(points, i0, i1, i2, x, y, u, v, w, grad_points)


@kernel()
def interpolate(attributes, triangles, index, barycentric, first_row, last_row, image):
    """Write image (C,H,W); return False if a triangle index is out of range."""
    channels = attributes.shape[1]
    count = triangles.shape[0]
    for row in range(first_row, last_row):
        for column in range(index.shape[1]):
            t = index[row, column]
            if t < 0:
                for k in range(channels):
                    image[k, row, column] = 0
                continue
            if t >= count:
                return False
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u = barycentric[row, column, 0]
            v = barycentric[row, column, 1]
            w = barycentric[row, column, 2]
            for k in range(channels):
                image[k, row, column] = (
                    u * attributes[i0, k] + v * attributes[i1, k] + w * attributes[i2, k]
                )
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
    for row in range(first_row, last_row):
        for column in range(index.shape[1]):
            t = index[row, column]
            if t < 0:
                if want_barycentric:
                    grad_barycentric[row, column, 0] = 0
                    grad_barycentric[row, column, 1] = 0
                    grad_barycentric[row, column, 2] = 0
                continue
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            if want_attributes:
                u = barycentric[row, column, 0]
                v = barycentric[row, column, 1]
                w = barycentric[row, column, 2]
                for k in range(channels):
                    g = grad_image[k, row, column]
                    grad_attributes[i0, k] += u * g
                    grad_attributes[i1, k] += v * g
                    grad_attributes[i2, k] += w * g
            if want_barycentric:
                gu = gv = gw = 0.0
                for k in range(channels):
                    g = grad_image[k, row, column]
                    gu += g * attributes[i0, k]
                    gv += g * attributes[i1, k]
                    gw += g * attributes[i2, k]
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
def shade(
    points, triangles, index, normals, colours, uv, uv_triangles, texture, light,
    first_row, last_row, everything, colour, albedo, shading, normal, depth,
):  # fmt: skip
    """Write the images of some rows: weights, texture or vertex colours, and light in one pass.

    With an empty `texture` the albedo comes from `colours`. Without `everything` only `colour` is
    written.
    """
    textured = texture.shape[0] > 0
    basis, n, a = np.empty(9), np.empty(3), np.empty(3)
    for row in range(first_row, last_row):
        for column in range(index.shape[1]):
            t = index[row, column]
            if t < 0:
                for c in range(3):
                    colour[c, row, column] = 0
                if everything:
                    for c in range(3):
                        albedo[c, row, column] = 0
                        shading[c, row, column] = 0
                        normal[c, row, column] = 0
                    depth[row, column] = 0
                continue
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u, v, w, _ = _weights(points, i0, i1, i2, column + 0.5, row + 0.5)
            for c in range(3):
                n[c] = u * normals[i0, c] + v * normals[i1, c] + w * normals[i2, c]
            inverse = 1.0 / max(np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]), 1e-12)
            for c in range(3):
                n[c] *= inverse
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
                depth[row, column] = u * points[i0, 2] + v * points[i1, 2] + w * points[i2, 2]


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
    basis, n, a, s = np.empty(9), np.empty(3), np.empty(3), np.empty(3)
    ga, gs, gn, gy = np.empty(3), np.empty(3), np.empty(3), np.empty(9)
    gl = np.zeros((9, 3))
    for row in range(first_row, last_row):
        for column in range(index.shape[1]):
            t = index[row, column]
            if t < 0:
                continue
            some = False
            if has_colour:
                for c in range(3):
                    some |= grad_colour[c, row, column] != 0
            along = 0.0
            if has_depth:
                along = np.float64(grad_depth[row, column])
            if not (some or has_albedo or has_shading or has_normal or along != 0):
                continue
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            px, py = column + 0.5, row + 0.5
            u, v, w, exact = _weights(points, i0, i1, i2, px, py)
            for c in range(3):
                n[c] = u * normals[i0, c] + v * normals[i1, c] + w * normals[i2, c]
            inverse = 1.0 / max(np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]), 1e-12)
            for c in range(3):
                n[c] *= inverse
            x, y, z = n[0], n[1], n[2]
            _fill_basis(x, y, z, basis)
            j0 = j1 = j2 = np.int64(0)
            x0 = x1 = y0 = y1 = np.int64(0)
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
                total = 0.0
                for k in range(9):
                    total += basis[k] * light[k, c]
                s[c] = total
                ga[c] = 0.0
                gs[c] = 0.0
                gn[c] = 0.0
                if has_colour:
                    g = np.float64(grad_colour[c, row, column])
                    ga[c] = g * total
                    gs[c] = g * a[c]
                if has_albedo:
                    ga[c] += grad_albedo[c, row, column]
                if has_shading:
                    gs[c] += grad_shading[c, row, column]
                if has_normal:
                    gn[c] = grad_normal[c, row, column]
            # Light and normal.
            for k in range(9):
                gy[k] = gs[0] * light[k, 0] + gs[1] * light[k, 1] + gs[2] * light[k, 2]
                for c in range(3):
                    gl[k, c] += gs[c] * basis[k]
            gn[0] += _C1 * gy[3] + _C2 * (y * gy[4] + z * gy[7]) + 2 * _C22 * x * gy[8]
            gn[1] += _C1 * gy[1] + _C2 * (x * gy[4] + z * gy[5]) - 2 * _C22 * y * gy[8]
            gn[2] += _C1 * gy[2] + _C2 * (y * gy[5] + x * gy[7]) + 6 * _C20 * z * gy[6]
            radial = gn[0] * x + gn[1] * y + gn[2] * z
            gu = gv = gw = 0.0
            for c in range(3):
                g = (gn[c] - radial * n[c]) * inverse
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
                    g = ga[c]
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
                    g = ga[c]
                    gu += g * colours[i0, c]
                    gv += g * colours[i1, c]
                    gw += g * colours[i2, c]
                    grad_colours[i0, c] += u * g
                    grad_colours[i1, c] += v * g
                    grad_colours[i2, c] += w * g
            if along != 0:
                gu += along * points[i0, 2]
                gv += along * points[i1, 2]
                gw += along * points[i2, 2]
                grad_points[i0, 2] += along * u
                grad_points[i1, 2] += along * v
                grad_points[i2, 2] += along * w
            if exact:
                _weights_backward(points, i0, i1, i2, px, py, gu, gv, gw, grad_points)
    for k in range(9):
        for c in range(3):
            grad_light[k, c] += gl[k, c]
