"""Numba kernels over rows of one image, which `numba.py` calls and makes differentiable.

Arithmetic is in float64 for arrays of any type; only reading and writing are in float32.
"""

# Numba infers the types of kernels from the arrays that they get.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

import numpy as np

from lifemask.rendering.harmonics_kernels import C1, C2, C20, C22, fill_harmonics
from lifemask.rendering.jit import kernel
from lifemask.rendering.triangle_kernels import normalized_weights, texel_pair


@kernel()
def _start(points, i0, i1, i2, x, y):
    """Return the weights at a point of the image before they are divided by their sum.

    After each comes its change for one pixel to the right, which is constant on a triangle.
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
                u, v, w, _, _ = normalized_weights(u0 + ux * step, v0 + vx * step, w0 + wx * step)
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
                u, v, w, inverse, exact = normalized_weights(
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
    # First pixel by pixel with the channels together, then row by row into planes: writing to many
    # planes at once would remove the planes' lines from the cache.
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


@kernel()
def _fill_normal(normals, i0, i1, i2, u, v, w, normal):
    """Write the interpolated unit normal; return one over its length before normalisation."""
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
    written. The images must contain zeros before the call.
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
                u, v, w, _, _ = normalized_weights(u0 + ux * step, v0 + vx * step, w0 + wx * step)
                _fill_normal(normals, i0, i1, i2, u, v, w, n)
                fill_harmonics(n[0], n[1], n[2], basis)
                if textured:
                    j0, j1, j2 = uv_triangles[t, 0], uv_triangles[t, 1], uv_triangles[t, 2]
                    tu = u * uv[j0, 0] + v * uv[j1, 0] + w * uv[j2, 0]
                    tv = u * uv[j0, 1] + v * uv[j1, 1] + w * uv[j2, 1]
                    x0, x1, fx, _ = texel_pair(tu, texture.shape[2])
                    y0, y1, fy, _ = texel_pair(tv, texture.shape[1])
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
                u, v, w, total_inverse, exact = normalized_weights(
                    u0 + ux * step, v0 + vx * step, w0 + wx * step
                )
                length_inverse = _fill_normal(normals, i0, i1, i2, u, v, w, n)
                x, y, z = n[0], n[1], n[2]
                fill_harmonics(x, y, z, basis)
                j0 = j1 = j2 = x0 = x1 = y0 = y1 = np.int64(0)
                fx = fy = 0.0
                move_x = move_y = False
                if textured:
                    j0, j1, j2 = uv_triangles[t, 0], uv_triangles[t, 1], uv_triangles[t, 2]
                    tu = u * uv[j0, 0] + v * uv[j1, 0] + w * uv[j2, 0]
                    tv = u * uv[j0, 1] + v * uv[j1, 1] + w * uv[j2, 1]
                    x0, x1, fx, move_x = texel_pair(tu, texture.shape[2])
                    y0, y1, fy, move_y = texel_pair(tv, texture.shape[1])
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
                    C1 * to_basis[3]
                    + C2 * (y * to_basis[4] + z * to_basis[7])
                    + 2 * C22 * x * to_basis[8]
                )
                to_normal[1] += (
                    C1 * to_basis[1]
                    + C2 * (x * to_basis[4] + z * to_basis[5])
                    - 2 * C22 * y * to_basis[8]
                )
                to_normal[2] += (
                    C1 * to_basis[2]
                    + C2 * (y * to_basis[5] + x * to_basis[7])
                    + 6 * C20 * z * to_basis[6]
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
