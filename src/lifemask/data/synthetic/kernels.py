"""The drawing of `scenes` as numba kernels for the CPU, one image at a time.

Each kernel gives the same numbers as its plain PyTorch version up to rounding. Surface points wait
for their light in a queue with one column after another, so that vector instructions can light
them.
"""

# Numba infers the types of kernels from the arrays that they get.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

import numpy as np

from lifemask.rendering.harmonics_kernels import C0, C1, C2, C20, C22
from lifemask.rendering.jit import kernel
from lifemask.rendering.triangle_kernels import cover, normalized_weights, snap, texel_pair

ATTRIBUTES = 11
"""Columns of the vertices' attributes: normal, lit, position, ambient visibility,
specular, wet, cover."""

SMOOTH = 0.008
"""Largest range of depth in a pixel of continuous skin, metres."""

SHADOW_PIXELS = 160
"""Pixels along each side of the shadow map."""
SHADOW_RADIUS = 0.19
"""Distance from the middle of the shadow map to its border, metres."""
SHADOW_DISTANCE = 20.0
"""Distance to the lamp, metres; at this distance its rays are parallel within float precision."""

# Columns of a corner, which fill a cache line: the attributes of its vertex, then these.
_U, _V, _X, _Y, _CLOSENESS, _COLUMNS = 11, 12, 13, 14, 15, 16
_POSITION = 4
# Channels of a texel: albedo, slopes of the displacement along u and v, skin, visibility in grooves.
_TEXEL = 7
# Number of queued points, and the start of each column of the queue: attributes, texel, gradient of
# the displacement along the surface, the lamp's cosine and specular reflection, strength and
# direction of the surroundings' reflection, resulting colour.
_MANY = 128
_NORMAL_X, _NORMAL_Y, _NORMAL_Z, _LIT = 0, _MANY, 2 * _MANY, 3 * _MANY
_POSITION_X, _POSITION_Y, _POSITION_Z, _AMBIENT = 4 * _MANY, 5 * _MANY, 6 * _MANY, 7 * _MANY
_SPECULAR, _WETNESS, _COVER, _RED = 8 * _MANY, 9 * _MANY, 10 * _MANY, 11 * _MANY
_SKIN, _PASSED = 16 * _MANY, 17 * _MANY
_GRADIENT_X, _GRADIENT_Y, _GRADIENT_Z = 18 * _MANY, 19 * _MANY, 20 * _MANY
_TOWARD, _MIRROR, _SHEEN = 21 * _MANY, 22 * _MANY, 23 * _MANY
_MIRRORED_X, _MIRRORED_Y, _MIRRORED_Z = 24 * _MANY, 25 * _MANY, 26 * _MANY
_COLOUR, _QUEUE = 27 * _MANY, 28 * _MANY

# See `scenes.shade`.
_HOLLOW, _SHADOW, _WRAP = (0.25, 0.0, -0.07), (0.3, 0.0, -0.12), (0.22, 0.10, 0.07)


@kernel()
def light_vertices(
    triangles, worn_shadow, vertices, normals, lamp, axes, spread, worn, worn_triangles, lit
):
    """Write the visibility of the lamp from each vertex of one head; 1 if there is no lamp.

    Args:
        triangles: of the head.
        worn_shadow: share of the light that wearables stop.
        vertices, normals: (V,3), light axes, relative to the head's middle, metres.
        lamp: linear RGB.
        axes: (3,3), the columns are right, down and the direction of the lamp's light.
        spread: radius in texels over which shadows are averaged.
        worn, worn_triangles: (W,3) and (S,3), other meshes that cast shadows.
        lit: (V,), 0 to 1.
    """
    if max(lamp[0], lamp[1], lamp[2]) <= 0:
        lit[:] = 1
        return
    # Points are moved along the normal, so that the surface does not shade itself.
    lifted = _in_map(vertices + np.float32(0.002) * normals, axes)
    depth = _shadow_map(_in_map(vertices, axes), triangles)
    for i in range(len(lit)):
        lit[i] = _past(lifted, i, depth, spread)
    if len(worn_triangles) == 0:
        return
    depth = _shadow_map(_in_map(worn, axes), worn_triangles)
    for i in range(len(lit)):
        lit[i] *= 1 - worn_shadow * (1 - _past(lifted, i, depth, spread))


@kernel()
def _in_map(points, axes):
    """Return points in texels of the shadow map, and their distance along the light."""
    result = np.empty(points.shape, np.float32)
    scale = np.float32(SHADOW_PIXELS / (2 * SHADOW_RADIUS))
    middle, distance = np.float32(SHADOW_PIXELS / 2), np.float32(SHADOW_DISTANCE)
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        result[i, 0] = (x * axes[0, 0] + y * axes[1, 0] + z * axes[2, 0]) * scale + middle
        result[i, 1] = (x * axes[0, 1] + y * axes[1, 1] + z * axes[2, 1]) * scale + middle
        result[i, 2] = x * axes[0, 2] + y * axes[1, 2] + z * axes[2, 2] + distance
    return result


@kernel()
def _shadow_map(points, triangles):
    """Return the distance along the light of the nearest triangle, of either side; 0 for none."""
    x, y, q = _snapped(points)
    depth = np.empty((SHADOW_PIXELS, SHADOW_PIXELS), np.float32)
    index = np.empty(depth.shape, np.int32)
    cover(x, y, q, triangles, True, True, 0, SHADOW_PIXELS, depth, index)
    _invert(depth)
    return depth


@kernel()
def _past(lifted, i, depth, spread):
    """Return the share of the light that reaches a point, from a shadow map."""
    total, z = 0.0, lifted[i, 2]
    for dy in range(-1, 2):
        y = min(max(np.int64(lifted[i, 1] + dy * spread), 0), SHADOW_PIXELS - 1)
        for dx in range(-1, 2):
            x = min(max(np.int64(lifted[i, 0] + dx * spread), 0), SHADOW_PIXELS - 1)
            blocker = depth[y, x]
            # The edge is soft over 3 mm, which hides the steps of the map.
            share = (blocker - z + 0.0045) / 0.003 if blocker > 0 else 1.0
            total += min(max(share, 0.0), 1.0)
    return total / 9


@kernel()
def draw(
    triangles, wet, corner_triangles, corner_vertex, uv, skin_layer, samples, points, attributes, albedo, displacement, passed,
    soft, direction, lamp, lamp_size, skin_specular, cover_colour, colour, alpha, fine_depth, index, depth, normals, own_albedo,
    skin,
):  # fmt: skip
    """Write all pictures of one head; except `index` and `fine_depth`, they must be zero before.

    If all samples of a pixel show continuous skin, it is lit once, at its centre.

    Args:
        triangles, corner_triangles: (T,3) indices of vertices and of corners, which are vertices
            with texture coordinates.
        corner_vertex, uv: (U,) vertex of each corner, and (U,2) texture coordinates.
        wet: (T,), 1 on eyes and in the mouth, where all samples are lit.
        skin_layer: (D,D), 1 on skin of the face.
        samples: per pixel along each axis.
        points, attributes: (V,3) in pixels of the photo, and (V,11).
        albedo, displacement: (3,D,D) linear RGB and (D,D) metres.
        passed: (D,D), share of the light that reaches the bottom of grooves.
        colour: (3,H,W), black beside the head, alpha: (H,W), both averaged over samples.
        fine_depth: (H S,W S) metres.
        index, depth, normals, own_albedo, skin: truth at the pixels' centres.
    """
    height, width = index.shape
    fine_index = np.empty(fine_depth.shape, np.int32)
    nearest(points, samples, triangles, fine_depth, fine_index)
    if samples == 1:
        index[:] = fine_index
    else:
        nearest(points, 1, triangles, depth, index)
    corners = np.empty((len(corner_vertex), _COLUMNS), np.float32)
    _gather(points, attributes, corner_vertex, uv, corners)
    texels = np.empty((displacement.shape[0], displacement.shape[1], _TEXEL), np.float32)
    _interleave(albedo, displacement, skin_layer, passed, texels)
    even = np.empty((height, width), np.uint8)
    queue, place, weight = np.empty(_QUEUE), np.empty(_MANY, np.int64), np.empty(_MANY)
    soft, lamp = soft.astype(np.float64), lamp.astype(np.float64)
    direction, hair = direction.astype(np.float64), cover_colour.astype(np.float64)
    pixels = colour.reshape(3, -1)
    count = 0
    for row in range(height):
        for column in range(width):
            covered, alike = _seen(fine_index, fine_depth, wet, row, column, samples)
            t = index[row, column]
            even[row, column] = covered == 0 or (alike and t >= 0)
            alpha[row, column] = np.float64(covered) / (samples * samples)
            if t < 0:
                continue
            _enqueue(queue, count, corners, corner_triangles[t], column + 0.5, row + 0.5, texels)
            place[count] = row * width + column
            weight[count] = 1.0 if alike else 0.0
            count += 1
            if count == _MANY:
                _tilt(queue, count)
                _record(queue, count, place, normals, own_albedo, skin, depth)
                _light(queue, count, soft, direction, lamp, lamp_size, skin_specular, hair, place, weight,
                       pixels)  # fmt: skip
                count = 0
    _tilt(queue, count)
    _record(queue, count, place, normals, own_albedo, skin, depth)
    _light(
        queue, count, soft, direction, lamp, lamp_size, skin_specular, hair, place, weight, pixels
    )
    count = 0
    for row in range(height):
        for column in range(width):
            if even[row, column]:
                continue
            for y in range(row * samples, (row + 1) * samples):
                for x in range(column * samples, (column + 1) * samples):
                    t = fine_index[y, x]
                    if t < 0:
                        continue
                    at_x, at_y = (x + 0.5) / samples, (y + 0.5) / samples
                    _enqueue(queue, count, corners, corner_triangles[t], at_x, at_y, texels)
                    place[count] = row * width + column
                    weight[count] = 1.0 / (samples * samples)
                    count += 1
                    if count == _MANY:
                        _tilt(queue, count)
                        _light(queue, count, soft, direction, lamp, lamp_size, skin_specular, hair, place,
                               weight, pixels)  # fmt: skip
                        count = 0
    _tilt(queue, count)
    _light(
        queue, count, soft, direction, lamp, lamp_size, skin_specular, hair, place, weight, pixels
    )


@kernel()
def nearest(points, scale, triangles, depth, index):
    """Write the nearest triangle that faces the camera at each pixel, and its depth.

    Args:
        points: in pixels of an image that is `scale` times smaller.
        depth, index: 0 and -1 without a triangle.
    """
    if scale != 1:
        points = points.copy()
        points[:, :2] *= np.float32(scale)
    x, y, q = _snapped(points)
    cover(x, y, q, triangles, False, True, 0, index.shape[0], depth, index)
    _invert(depth)


@kernel()
def _snapped(points):
    """Return points in the form that `cover` needs."""
    count = len(points)
    x, y, q = np.empty(count, np.int64), np.zeros(count, np.int64), np.zeros(count)
    snap(points, x, y, q)
    return x, y, q


@kernel()
def _invert(depth):
    """Convert inverse depths from `cover` to depths in place; 0 stays 0."""
    flat = depth.reshape(-1)
    for i in range(len(flat)):
        flat[i] = 1 / flat[i] if flat[i] > 0 else 0


@kernel()
def _gather(points, attributes, corner_vertex, uv, corners):
    """Write the attributes of each corner into its row."""
    for i in range(len(corner_vertex)):
        vertex = corner_vertex[i]
        for k in range(ATTRIBUTES):
            corners[i, k] = attributes[vertex, k]
        corners[i, _U], corners[i, _V] = uv[i, 0], uv[i, 1]
        corners[i, _X], corners[i, _Y] = points[vertex, 0], points[vertex, 1]
        corners[i, _CLOSENESS] = 1 / points[vertex, 2]


@kernel()
def _interleave(albedo, displacement, skin_layer, passed, texels):
    """Write the channels of each texel side by side."""
    size = displacement.shape[0]
    scale = np.float32(size / 2)
    for row in range(size):
        above, below = displacement[max(row - 1, 0)], displacement[min(row + 1, size - 1)]
        for column in range(size):
            left, right = (
                displacement[row, max(column - 1, 0)],
                displacement[row, min(column + 1, size - 1)],
            )
            texels[row, column, 0] = albedo[0, row, column]
            texels[row, column, 1] = albedo[1, row, column]
            texels[row, column, 2] = albedo[2, row, column]
            texels[row, column, 3] = (right - left) * scale
            texels[row, column, 4] = (below[column] - above[column]) * scale
            texels[row, column, 5] = skin_layer[row, column]
            texels[row, column, 6] = passed[row, column]


@kernel()
def _seen(index, depth, wet, row, column, samples):
    """Return how many samples of a pixel show the head, and whether continuous skin fills it."""
    covered, wet_samples = 0, 0
    nearest_z, farthest_z = np.float32(np.inf), np.float32(0)
    for y in range(row * samples, (row + 1) * samples):
        for x in range(column * samples, (column + 1) * samples):
            t = index[y, x]
            if t >= 0:
                covered += 1
                wet_samples += wet[t]
                nearest_z, farthest_z = min(nearest_z, depth[y, x]), max(farthest_z, depth[y, x])
    alike = wet_samples == 0 and farthest_z - nearest_z < SMOOTH
    return covered, covered == samples * samples and (alike or samples == 1)


@kernel()
def _enqueue(queue, place, corners, triangle, x, y, texels):
    """Write attributes, texel and gradient of the displacement for a pixel of a triangle."""
    a, b, c = corners[triangle[0]], corners[triangle[1]], corners[triangle[2]]
    ax, ay = np.float64(a[_X]) - x, np.float64(a[_Y]) - y
    bx, by = np.float64(b[_X]) - x, np.float64(b[_Y]) - y
    cx, cy = np.float64(c[_X]) - x, np.float64(c[_Y]) - y
    u, v, w, _, _ = normalized_weights(
        (bx * cy - by * cx) * a[_CLOSENESS],
        (cx * ay - cy * ax) * b[_CLOSENESS],
        (ax * by - ay * bx) * c[_CLOSENESS],
    )
    for k in range(ATTRIBUTES):
        queue[k * _MANY + place] = u * a[k] + v * b[k] + w * c[k]
    x0, x1, across, _ = texel_pair(u * a[_U] + v * b[_U] + w * c[_U], texels.shape[1])
    y0, y1, down, _ = texel_pair(u * a[_V] + v * b[_V] + w * c[_V], texels.shape[0])
    k00, k01 = (1 - across) * (1 - down), across * (1 - down)
    k10, k11 = (1 - across) * down, across * down
    for k in range(_TEXEL):
        queue[_RED + k * _MANY + place] = (
            k00 * texels[y0, x0, k] + k01 * texels[y0, x1, k]
            + k10 * texels[y1, x0, k] + k11 * texels[y1, x1, k]
        )  # fmt: skip
    queue[_LIT + place] *= queue[_PASSED + place]
    queue[_AMBIENT + place] *= queue[_PASSED + place]
    along_u, along_v = queue[_RED + 3 * _MANY + place], queue[_RED + 4 * _MANY + place]
    first = along_u * (b[_U] - a[_U]) + along_v * (b[_V] - a[_V])
    second = along_u * (c[_U] - a[_U]) + along_v * (c[_V] - a[_V])
    # Reciprocal basis of the triangle's two edges, in its plane.
    p = _POSITION
    ax, ay, az = (
        np.float64(b[p]) - a[p],
        np.float64(b[p + 1]) - a[p + 1],
        np.float64(b[p + 2]) - a[p + 2],
    )
    bx, by, bz = (
        np.float64(c[p]) - a[p],
        np.float64(c[p + 1]) - a[p + 1],
        np.float64(c[p + 2]) - a[p + 2],
    )
    cx, cy, cz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    inverse = 1.0 / max(cx * cx + cy * cy + cz * cz, 1e-18)
    first, second = first * inverse, second * inverse
    queue[_GRADIENT_X + place] = (by * cz - bz * cy) * first + (cy * az - cz * ay) * second
    queue[_GRADIENT_Y + place] = (bz * cx - bx * cz) * first + (cz * ax - cx * az) * second
    queue[_GRADIENT_Z + place] = (bx * cy - by * cx) * first + (cx * ay - cy * ax) * second


@kernel()
def _tilt(queue, count):
    """Normalise the normals and tilt them by the displacement."""
    count = min(count, _MANY)
    for i in range(count):
        x, y, z = queue[_NORMAL_X + i], queue[_NORMAL_Y + i], queue[_NORMAL_Z + i]
        inverse = 1.0 / np.sqrt(max(x * x + y * y + z * z, 1e-18))
        x, y, z = x * inverse, y * inverse, z * inverse
        gx, gy, gz = queue[_GRADIENT_X + i], queue[_GRADIENT_Y + i], queue[_GRADIENT_Z + i]
        dry = 1 - queue[_WETNESS + i]
        out = gx * x + gy * y + gz * z
        x -= (gx - out * x) * dry
        y -= (gy - out * y) * dry
        z -= (gz - out * z) * dry
        inverse = 1.0 / np.sqrt(max(x * x + y * y + z * z, 1e-18))
        queue[_NORMAL_X + i] = x * inverse
        queue[_NORMAL_Y + i] = y * inverse
        queue[_NORMAL_Z + i] = z * inverse


@kernel()
def _record(queue, count, place, normals, albedo, skin, depth):
    """Write the results that do not depend on the light for the queued points."""
    normals, albedo = normals.reshape(3, -1), albedo.reshape(3, -1)
    skin, depth = skin.reshape(-1), depth.reshape(-1)
    for k in range(3):
        for i in range(count):
            normals[k, place[i]] = queue[_NORMAL_X + k * _MANY + i]
        for i in range(count):
            albedo[k, place[i]] = queue[_RED + k * _MANY + i]
    for i in range(count):
        skin[place[i]] = queue[_SKIN + i]
        # The camera points along -z of the light axes.
        depth[place[i]] = -queue[_POSITION_Z + i]


@kernel()
def _power(base, exponent):
    """Return a number to a power, a whole number of at least 1."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@kernel()
def _light(
    queue, count, soft, direction, lamp, lamp_size, skin_specular, hair, place, weight, pixels
):
    """Add the colours of the queued points, times their weights, to (3,pixels)."""
    count = min(count, _MANY)
    lx, ly, lz = direction[0], direction[1], direction[2]
    for i in range(count):
        nx, ny, nz = queue[_NORMAL_X + i], queue[_NORMAL_Y + i], queue[_NORMAL_Z + i]
        px, py, pz = queue[_POSITION_X + i], queue[_POSITION_Y + i], queue[_POSITION_Z + i]
        inverse = -1.0 / np.sqrt(max(px * px + py * py + pz * pz, 1e-18))
        vx, vy, vz = px * inverse, py * inverse, pz * inverse
        wet = queue[_WETNESS + i] > 0.5
        facing = min(max(vx * nx + vy * ny + vz * nz, 0.02), 1.0)
        strength = (
            queue[_SPECULAR + i] * (1.0 if wet else 0.9 * skin_specular) * (1 - queue[_COVER + i])
        )
        fresnel = min(0.028 + 0.972 * _power(1 - facing, 5), 0.05)
        queue[_SHEEN + i] = fresnel * strength * queue[_AMBIENT + i] * 0.45
        queue[_MIRRORED_X + i] = 2 * facing * nx - vx
        queue[_MIRRORED_Y + i] = 2 * facing * ny - vy
        queue[_MIRRORED_Z + i] = 2 * facing * nz - vz
        toward = lx * nx + ly * ny + lz * nz
        queue[_TOWARD + i] = toward
        hx, hy, hz = vx + lx, vy + ly, vz + lz
        inverse = 1.0 / np.sqrt(max(hx * hx + hy * hy + hz * hz, 1e-18))
        peak = max((hx * nx + hy * ny + hz * nz) * inverse, 0.0)
        slant = min(max((hx * vx + hy * vy + hz * vz) * inverse, 0.0), 1.0)
        grazing = 0.028 + 0.972 * _power(1 - slant, 5)
        dry = 0.65 * (20 / 8) * _power(peak, 18) + 0.35 * (72 / 8) * _power(peak, 70)
        lobes = _power(peak, 600) * (602 / 8) if wet else dry
        lit = queue[_LIT + i] if toward > 0 else 0.0
        queue[_MIRROR + i] = lobes * grazing * strength * lit
    for k in range(3):
        s0, s1, s2, s3 = C0 * soft[0, k], C1 * soft[1, k], C1 * soft[2, k], C1 * soft[3, k]
        s4, s5, s6 = C2 * soft[4, k], C2 * soft[5, k], C20 * soft[6, k]
        s7, s8 = C2 * soft[7, k], C22 * soft[8, k]
        lamp_k, hair_k, wrap_k = lamp[k], hair[k], _WRAP[k] + 0.3 * lamp_size
        hollow_k, shadow_k = _HOLLOW[k], _SHADOW[k]
        for i in range(count):
            x, y, z = queue[_NORMAL_X + i], queue[_NORMAL_Y + i], queue[_NORMAL_Z + i]
            around = s0 + s1 * y + s2 * z + s3 * x + s4 * x * y + s5 * y * z
            around += s6 * (3 * z * z - 1) + s7 * x * z + s8 * (x * x - y * y)
            x, y, z = queue[_MIRRORED_X + i], queue[_MIRRORED_Y + i], queue[_MIRRORED_Z + i]
            # Reflections show the surroundings only coarsely, by harmonics up to degree one.
            reflected = max(s0 + s1 * y + s2 * z + s3 * x, 0.0)
            visibility, lit = queue[_AMBIENT + i], queue[_LIT + i]
            hollow = visibility * (1 + hollow_k * (1 - visibility))
            wrap = wrap_k * (1 - queue[_WETNESS + i])
            lambert = max((queue[_TOWARD + i] + wrap) / (1 + wrap), 0.0)
            shadow = lit * (1 + shadow_k * (1 - lit))
            diffuse = max(around, 0.02) * hollow + lamp_k * lambert * shadow
            own = queue[_RED + k * _MANY + i]
            own += (hair_k - own) * queue[_COVER + i]
            mirror = lamp_k * queue[_MIRROR + i] + reflected * queue[_SHEEN + i]
            queue[_COLOUR + i] = own * diffuse + mirror
        for i in range(count):
            pixels[k, place[i]] += weight[i] * queue[_COLOUR + i]


@kernel()
def compose(colour, alpha, worn, opacity, both, background, result):
    """Write a head, its wearables and the background as one picture (3,H,W)."""
    for k in range(3):
        for row in range(alpha.shape[0]):
            for column in range(alpha.shape[1]):
                head, hidden = alpha[row, column], both[row, column]
                bare = min(max(1 - hidden / max(head, 1e-6), 0.0), 1.0)
                open_part = min(max(1 - head - opacity[row, column] + hidden, 0.0), 1.0)
                result[k, row, column] = (
                    colour[k, row, column] * bare + background[k, row, column] * open_part
                ) + worn[k, row, column]
