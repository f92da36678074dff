"""The drawing of `scenes` as numba kernels for the CPU, one image at a time.

Each gives the numbers of its plain PyTorch twin up to rounding.
"""

# Numba infers the types of kernels from the arrays they are called with.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false

import numpy as np

from lifemask.rendering._backends._jit import kernel
from lifemask.rendering._backends._kernels import (
    _C0,
    _C1,
    _fill_basis,
    _normalized,
    _run_end,
    _span,
    _start,
    _texel,
    cover,
    snap,
)

_NORMAL, _LIT, _POSITION, _OPENNESS, _GLOSS, _WET, _COVER = 0, 3, 4, 7, 8, 9, 10
ATTRIBUTES = 11
"""Columns of the vertices' attributes: normal, lit, position, openness, gloss, wet, cover."""

TEXTURES = 6
"""Channels of the textures: albedo, slopes of the relief along u and v, skin."""

SMOOTH = 0.008
"""Metres of depth within a pixel up to which it shows one stretch of skin."""

# See `scenes.shade`.
_HOLLOW, _SHADOW, _WRAP = (0.25, 0.0, -0.07), (0.3, 0.0, -0.12), (0.22, 0.10, 0.07)


@kernel()
def light_vertices(lifted, depth, spread, lit):
    """Write how much of the lamp each vertex sees, from a shadow map."""
    size = depth.shape[0]
    for i in range(lifted.shape[0]):
        total = 0.0
        z = lifted[i, 2]
        for dy in range(-1, 2):
            y = min(max(np.int64(lifted[i, 1] + dy * spread), 0), size - 1)
            for dx in range(-1, 2):
                x = min(max(np.int64(lifted[i, 0] + dx * spread), 0), size - 1)
                blocker = depth[y, x]
                share = (blocker - z + 0.0045) / 0.003 if blocker > 0 else 1.0
                total += min(max(share, 0.0), 1.0)
        lit[i] = total / 9


@kernel()
def nearest(points, triangles, index):
    """Write the nearest triangle that faces the camera at each pixel, -1 where there is none."""
    count = points.shape[0]
    x, y, q = np.empty(count, np.int64), np.zeros(count, np.int64), np.zeros(count)
    snap(points, x, y, q)
    near = np.empty(index.shape, np.float32)
    cover(x, y, q, triangles, False, True, 0, index.shape[0], near, index)


@kernel()
def _gradients(attributes, i0, i1, i2, uv, j0, j1, j2, along):
    """Write the surface gradients of u (0 to 2) and v (3 to 5) on a triangle, per metre."""
    p = _POSITION
    ax = np.float64(attributes[i1, p]) - attributes[i0, p]
    ay = np.float64(attributes[i1, p + 1]) - attributes[i0, p + 1]
    az = np.float64(attributes[i1, p + 2]) - attributes[i0, p + 2]
    bx = np.float64(attributes[i2, p]) - attributes[i0, p]
    by = np.float64(attributes[i2, p + 1]) - attributes[i0, p + 1]
    bz = np.float64(attributes[i2, p + 2]) - attributes[i0, p + 2]
    cx, cy, cz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    inverse = 1.0 / max(cx * cx + cy * cy + cz * cz, 1e-18)
    u1, v1 = uv[j1, 0] - uv[j0, 0], uv[j1, 1] - uv[j0, 1]
    u2, v2 = uv[j2, 0] - uv[j0, 0], uv[j2, 1] - uv[j0, 1]
    # Reciprocal basis of the two edges within the triangle's plane.
    fx, fy, fz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
    gx, gy, gz = cy * az - cz * ay, cz * ax - cx * az, cx * ay - cy * ax
    along[0] = (fx * u1 + gx * u2) * inverse
    along[1] = (fy * u1 + gy * u2) * inverse
    along[2] = (fz * u1 + gz * u2) * inverse
    along[3] = (fx * v1 + gx * v2) * inverse
    along[4] = (fy * v1 + gy * v2) * inverse
    along[5] = (fz * v1 + gz * v2) * inverse


@kernel()
def _surface(
    attributes, i0, i1, i2, u, v, w, uv, j0, j1, j2, along, textures, values, painted, normal
):
    """Write attributes, texture and displaced normal of one surface point."""
    for k in range(ATTRIBUTES):
        values[k] = u * attributes[i0, k] + v * attributes[i1, k] + w * attributes[i2, k]
    tu = u * uv[j0, 0] + v * uv[j1, 0] + w * uv[j2, 0]
    tv = u * uv[j0, 1] + v * uv[j1, 1] + w * uv[j2, 1]
    x0, x1, fx, _ = _texel(tu, textures.shape[1])
    y0, y1, fy, _ = _texel(tv, textures.shape[0])
    a, b, c, d = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    for k in range(TEXTURES):
        painted[k] = (
            a * textures[y0, x0, k] + b * textures[y0, x1, k]
            + c * textures[y1, x0, k] + d * textures[y1, x1, k]
        )  # fmt: skip
    nx, ny, nz = values[_NORMAL], values[_NORMAL + 1], values[_NORMAL + 2]
    inverse = 1.0 / np.sqrt(max(nx * nx + ny * ny + nz * nz, 1e-18))
    nx, ny, nz = nx * inverse, ny * inverse, nz * inverse
    dry = 1 - values[_WET]
    if dry > 0:
        du, dv = painted[3], painted[4]
        gx = du * along[0] + dv * along[3]
        gy = du * along[1] + dv * along[4]
        gz = du * along[2] + dv * along[5]
        out = gx * nx + gy * ny + gz * nz
        nx -= (gx - out * nx) * dry
        ny -= (gy - out * ny) * dry
        nz -= (gz - out * nz) * dry
        inverse = 1.0 / np.sqrt(max(nx * nx + ny * ny + nz * nz, 1e-18))
        nx, ny, nz = nx * inverse, ny * inverse, nz * inverse
    normal[0], normal[1], normal[2] = nx, ny, nz


@kernel()
def _power(base, exponent):
    """Return a number to a whole power, at least 1."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@kernel()
def _light(values, painted, normal, soft, direction, lamp, lamp_size, shine, cover_colour, basis,
           colour):  # fmt: skip
    """Add the colour of one surface point to (3,)."""
    nx, ny, nz = normal[0], normal[1], normal[2]
    lit, openness, wet, covered = values[_LIT], values[_OPENNESS], values[_WET], values[_COVER]
    px, py, pz = values[_POSITION], values[_POSITION + 1], values[_POSITION + 2]
    inverse = -1.0 / np.sqrt(max(px * px + py * py + pz * pz, 1e-18))
    vx, vy, vz = px * inverse, py * inverse, pz * inverse
    lx, ly, lz = direction[0], direction[1], direction[2]
    facing = min(max(vx * nx + vy * ny + vz * nz, 0.02), 1.0)
    strength = values[_GLOSS] * (1.0 if wet > 0.5 else 0.9 * shine) * (1 - covered)
    fresnel = 0.028 + 0.972 * _power(1 - facing, 5)
    sheen = min(fresnel, 0.05) * strength * openness * 0.45
    toward = lx * nx + ly * ny + lz * nz
    mirror = 0.0
    if toward > 0 and lit > 0:
        hx, hy, hz = vx + lx, vy + ly, vz + lz
        inverse = 1.0 / np.sqrt(max(hx * hx + hy * hy + hz * hz, 1e-18))
        peak = max((hx * nx + hy * ny + hz * nz) * inverse, 0.0)
        slant = min(max((hx * vx + hy * vy + hz * vz) * inverse, 0.0), 1.0)
        grazing = 0.028 + 0.972 * _power(1 - slant, 5)
        if wet > 0.5:
            lobes = _power(peak, 600) * (602 / 8)
        else:
            lobes = 0.65 * (20 / 8) * _power(peak, 18) + 0.35 * (72 / 8) * _power(peak, 70)
        mirror = lobes * grazing * strength * lit
    _fill_basis(nx, ny, nz, basis)
    rx, ry, rz = 2 * facing * nx - vx, 2 * facing * ny - vy, 2 * facing * nz - vz
    for k in range(3):
        around = 0.0
        for m in range(9):
            around += basis[m] * soft[m, k]
        # The mirror shows the surroundings' broad shape only: harmonics up to degree one.
        reflected = _C0 * soft[0, k] + _C1 * (ry * soft[1, k] + rz * soft[2, k] + rx * soft[3, k])
        hollow = openness * (1 + _HOLLOW[k] * (1 - openness))
        wrap = (_WRAP[k] + 0.3 * lamp_size) * (1 - wet)
        lambert = max((toward + wrap) / (1 + wrap), 0.0)
        shadow = lit * (1 + _SHADOW[k] * (1 - lit))
        diffuse = max(around, 0.02) * hollow + lamp[k] * lambert * shadow
        own = painted[k] + (cover_colour[k] - painted[k]) * covered
        colour[k] += own * diffuse + lamp[k] * mirror + max(reflected, 0.0) * sheen


@kernel()
def draw(
    points, fine_points, triangles, smooth_parts, attributes, uv, uv_triangles, textures, soft, direction, lamp, lamp_size, shine, cover_colour, colour, alpha, fine_depth, index, depth,
    normals, own_albedo, skin,
):  # fmt: skip
    """Write all pictures of one head; those but `index` must be zero before.

    Where all samples of a pixel see the same stretch of skin it is lit once, at its centre.

    Args:
        points, fine_points: in pixels of the photo and of the samples.
        smooth_parts: per triangle, 0 on eyes and in the mouth, where all samples are lit.
        colour: (3,H,W) with what is not covered black, alpha: (H,W), both averaged over samples.
        fine_depth: (H S,W S).
        index, depth, normals, own_albedo, skin: what is true of the pixels' centres.
    """
    height, width = index.shape
    samples = fine_depth.shape[0] // height
    fine_index = np.empty(fine_depth.shape, np.int64)
    nearest(fine_points, triangles, fine_index)
    _write_depth(fine_points, triangles, fine_index, fine_depth)
    if samples == 1:
        index[:] = fine_index
    else:
        nearest(points, triangles, index)
    values, painted, normal = np.empty(ATTRIBUTES), np.empty(TEXTURES), np.empty(3)
    along, basis, sum_ = np.empty(6), np.empty(9), np.empty(3)
    soft, lamp = soft.astype(np.float64), lamp.astype(np.float64)
    direction, hair = direction.astype(np.float64), cover_colour.astype(np.float64)
    area = samples * samples
    for row in range(height):
        for column in range(width):
            covered, nearest_z, farthest_z, wet = 0, 1e9, 0.0, False
            for y in range(row * samples, (row + 1) * samples):
                for x in range(column * samples, (column + 1) * samples):
                    t = fine_index[y, x]
                    if t >= 0:
                        covered += 1
                        z = fine_depth[y, x]
                        nearest_z, farthest_z = min(nearest_z, z), max(farthest_z, z)
                        wet = wet or smooth_parts[t] == 0
            t = index[row, column]
            if covered == 0 and t < 0:
                continue
            smooth = covered == area and t >= 0 and not wet and farthest_z - nearest_z < SMOOTH
            sum_[:] = 0
            if t >= 0:
                i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                j0, j1, j2 = uv_triangles[t, 0], uv_triangles[t, 1], uv_triangles[t, 2]
                _gradients(attributes, i0, i1, i2, uv, j0, j1, j2, along)
                u0, _, v0, _, w0, _ = _start(points, i0, i1, i2, column + 0.5, row + 0.5)
                u, v, w, _, _ = _normalized(u0, v0, w0)
                _surface(
                    attributes, i0, i1, i2, u, v, w, uv, j0, j1, j2, along, textures, values,
                    painted, normal,
                )  # fmt: skip
                for k in range(3):
                    normals[k, row, column] = normal[k]
                    own_albedo[k, row, column] = painted[k]
                skin[row, column] = painted[5]
                depth[row, column] = u * points[i0, 2] + v * points[i1, 2] + w * points[i2, 2]
                if smooth:
                    _light(values, painted, normal, soft, direction, lamp, lamp_size, shine, hair,
                           basis, sum_)  # fmt: skip
            if smooth:
                for k in range(3):
                    colour[k, row, column] = sum_[k]
                alpha[row, column] = 1
                continue
            for y in range(row * samples, (row + 1) * samples):
                for x in range(column * samples, (column + 1) * samples):
                    t = fine_index[y, x]
                    if t < 0:
                        continue
                    i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                    j0, j1, j2 = uv_triangles[t, 0], uv_triangles[t, 1], uv_triangles[t, 2]
                    _gradients(attributes, i0, i1, i2, uv, j0, j1, j2, along)
                    u0, _, v0, _, w0, _ = _start(fine_points, i0, i1, i2, x + 0.5, y + 0.5)
                    u, v, w, _, _ = _normalized(u0, v0, w0)
                    _surface(
                        attributes, i0, i1, i2, u, v, w, uv, j0, j1, j2, along, textures, values,
                        painted, normal,
                    )  # fmt: skip
                    _light(values, painted, normal, soft, direction, lamp, lamp_size, shine, hair,
                           basis, sum_)  # fmt: skip
            for k in range(3):
                colour[k, row, column] = sum_[k] / area
            alpha[row, column] = covered / area


@kernel()
def _write_depth(points, triangles, index, depth):
    """Write the depth of each pixel; the image must be zero before."""
    for row in range(index.shape[0]):
        first, last = _span(index[row])
        while first < last:
            t = index[row, first]
            if t < 0:
                first += 1
                continue
            end = _run_end(index[row], first, last)
            i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u0, ux, v0, vx, w0, wx = _start(points, i0, i1, i2, first + 0.5, row + 0.5)
            za, zb, zc = points[i0, 2], points[i1, 2], points[i2, 2]
            for column in range(first, end):
                step = np.float64(column - first)
                u, v, w, _, _ = _normalized(u0 + ux * step, v0 + vx * step, w0 + wx * step)
                depth[row, column] = u * za + v * zb + w * zc
            first = end
