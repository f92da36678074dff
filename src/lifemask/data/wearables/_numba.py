"""Layers on the CPU (reference: `_torch`): lists of fragments per pixel, one image per thread."""

# Numba infers the types of kernels from the arrays that they get.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lifemask.data.wearables._torch import FAINTEST, OPAQUE, SUBPIXELS, snapped
from lifemask.data.wearables.dressing import GLASS, HAIR, Dressed
from lifemask.data.wearables.shading import FIBRE, MIDDLE, PASSED, SOFTNESS, WRAP
from lifemask.data.wearables.sheets import Sheets
from lifemask.rendering.harmonics_kernels import C0, C1, C2, C20, C22
from lifemask.rendering.jit import for_each, kernel
from lifemask.rendering.triangle_kernels import vertex_normals

_SHIFT = SUBPIXELS.bit_length() - 1


def draw(
    colour: Tensor, depth: Tensor, sheets: Sheets, layers: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return colour (N,3,H,W), opacity (N,H,W) and depth (N,H,W) with the sheets in front."""
    result, opacity = colour.contiguous().clone(), torch.zeros_like(depth)
    front = depth.contiguous().clone()
    outputs = [value.numpy() for value in (result, opacity, front)]
    shared, starts = _shared(sheets, len(colour))

    def task(k: int) -> None:
        _draw_image(*shared, *starts[k : k + 2], layers, *(array[k] for array in outputs))

    for_each(task, len(colour))
    return result, opacity, front


def draw_averaged(
    depth: Tensor, sheets: Sheets, layers: int, samples: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the result of `_torch.averaged` for `draw` over black."""
    count, height, width = len(depth), depth.shape[1] // samples, depth.shape[2] // samples
    colour = depth.new_zeros(count, 3, height, width)
    opacity, both = (depth.new_zeros(count, height, width) for _ in range(2))
    front = depth.new_full((count, height, width), torch.inf)
    arrays = [value.numpy() for value in (depth.contiguous(), colour, opacity, front, both)]
    shared, starts = _shared(sheets, count)

    def task(k: int) -> None:
        if starts[k] < starts[k + 1]:
            own = (array[k] for array in arrays)
            _draw_averaged(*shared, *starts[k : k + 2], layers, samples, *own)

    for_each(task, count)
    return colour, opacity, front, both


def vertex_colours(
    dressed: Dressed, world_to_camera: Tensor, soft: Tensor, direction: Tensor, lamp: Tensor
) -> Tensor:
    """Return the same as `shading.vertex_colours`."""
    colours = torch.empty_like(dressed.vertices)
    arrays = (
        value.contiguous().numpy()
        for value in (
            dressed.vertices, dressed.triangles, dressed.surface, dressed.colour, dressed.ambient_visibility,
            dressed.specular, world_to_camera, soft, direction, lamp, colours,
        )
    )  # fmt: skip
    _shade(*arrays)
    return colours


def _shared(sheets: Sheets, count: int) -> tuple[list[Any], list[int]]:
    """Return the arrays of all images, and the first triangle of each image (then their number)."""
    xy, usable = snapped(sheets.points)
    stack = sheets.pyramids
    shared = [
        value.contiguous().numpy()
        for value in (
            sheets.points, xy, usable, sheets.triangles, sheets.one_sided, sheets.uv, sheets.colour, sheets.opacity,
            sheets.lift, sheets.page, stack.texels, stack.start, stack.height, stack.width,
        )
    ]  # fmt: skip
    return shared, torch.searchsorted(sheets.image, torch.arange(count + 1)).tolist()


@kernel()
def _draw_averaged(
    points, xy, usable, triangles, one_sided, uv, colours, opacities, lift, page, texels, start, heights, widths,
    first, last, layers, samples, depth, colour, opacity, front, both,
):  # fmt: skip
    """Draw the triangles from `first` to `last` over black, averaged over a pixel's samples."""
    image = np.zeros((3, *depth.shape), np.float32)
    hidden, nearest = np.zeros(depth.shape, np.float32), depth.copy()
    _draw_image(
        points, xy, usable, triangles, one_sided, uv, colours, opacities, lift, page, texels, start, heights, widths,
        first, last, layers, image, hidden, nearest,
    )  # fmt: skip
    share = np.float32(1 / (samples * samples))
    for row in range(opacity.shape[0]):
        for column in range(opacity.shape[1]):
            for y in range(row * samples, (row + 1) * samples):
                for x in range(column * samples, (column + 1) * samples):
                    covered = hidden[y, x]
                    if covered == 0:
                        continue
                    opacity[row, column] += share * covered
                    for k in range(3):
                        colour[k, row, column] += share * image[k, y, x]
                    if depth[y, x] > 0:
                        both[row, column] += share * covered
                    if covered > 0.5:
                        front[row, column] = min(front[row, column], nearest[y, x])


@kernel()
def _draw_image(
    points, xy, usable, triangles, one_sided, uv, colour, opacity, lift, page, texels, start, heights, widths,
    first, last, layers, image, hidden, front,
):  # fmt: skip
    """Draw the triangles from `first` to `last` over one image; `front` starts as its depth."""
    rows, columns = front.shape
    head = np.full(rows * columns, -1, np.int32)
    # Per pixel: the depth behind which nothing is visible; the light that the fragments so far let
    # through; the farthest of them. Triangles come roughly from front to back; therefore most
    # hidden surfaces are never shaded.
    state = np.empty((rows * columns, 3), np.float32)
    for row in range(rows):
        for column in range(columns):
            metres = front[row, column]
            state[row * columns + column, 0] = metres if metres > 0 else np.inf
            state[row * columns + column, 1] = 1
            state[row * columns + column, 2] = 0
    capacity = 1 << 17
    count = 0
    following = np.empty(capacity, np.int32)
    depths = np.empty(capacity, np.float32)
    values = np.empty((capacity, 4), np.float32)
    for t in range(first, last):
        i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if not (usable[i0] and usable[i1] and usable[i2]):
            continue
        y0, y1, y2 = xy[i0, 1], xy[i1, 1], xy[i2, 1]
        top = (max(min(y0, y1, y2), 0) + 255) >> _SHIFT
        bottom = min(max(y0, y1, y2), (rows - 1) << _SHIFT) >> _SHIFT
        if top > bottom:
            continue
        x0, x1, x2 = xy[i0, 0], xy[i1, 0], xy[i2, 0]
        left = (max(min(x0, x1, x2), 0) + 255) >> _SHIFT
        right = min(max(x0, x1, x2), (columns - 1) << _SHIFT) >> _SHIFT
        if left > right:
            continue
        area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
        if area == 0 or (area > 0 and one_sided[t]):
            continue
        if area < 0:
            i1, i2 = i2, i1
            x1, x2 = x2, x1
            y1, y2 = y2, y1
        ax, ay = x2 - x1, y2 - y1
        bx, by = x0 - x2, y0 - y2
        cx, cy = x1 - x0, y1 - y0
        # Pixel centres on an edge belong to the triangle on its right or below it.
        tie_a = 0 if ay < 0 or (ay == 0 and ax > 0) else 1
        tie_b = 0 if by < 0 or (by == 0 and bx > 0) else 1
        tie_c = 0 if cy < 0 or (cy == 0 and cx > 0) else 1
        line, begin = top << _SHIFT, left << _SHIFT
        row_a = ax * (line - y1) - ay * (begin - x1) - tie_a
        row_b = bx * (line - y2) - by * (begin - x2) - tie_b
        row_c = cx * (line - y0) - cy * (begin - x0) - tie_c

        # Weights before division, relative to the first corner's pixel, change linearly.
        px, py, pz = np.float64(points[i0, 0]), np.float64(points[i0, 1]), np.float64(points[i0, 2])
        qx, qy, qz = np.float64(points[i1, 0]), np.float64(points[i1, 1]), np.float64(points[i1, 2])
        rx, ry, rz = np.float64(points[i2, 0]), np.float64(points[i2, 1]), np.float64(points[i2, 2])
        double_area = (qx - px) * (ry - py) - (qy - py) * (rx - px)
        ux, uy = (qy - ry) / pz, (rx - qx) / pz
        vx, vy = (ry - py) / qz, (px - rx) / qz
        wx, wy = (py - qy) / rz, (qx - px) / rz
        fx, fy = left + 0.5, top + 0.5
        u_row = ((qx - fx) * (ry - fy) - (qy - fy) * (rx - fx)) / pz
        v_row = ((rx - fx) * (py - fy) - (ry - fy) * (px - fx)) / qz
        w_row = ((px - fx) * (qy - fy) - (py - fy) * (qx - fx)) / rz
        level = page[t]
        base, height, width = start[level], heights[level], widths[level]
        widest, highest = np.float64(width - 1), np.float64(height - 1)
        su, sv = np.float64(width), np.float64(height)
        raised = np.float64(lift[t])
        # Read once: the compiler cannot exclude that the writes below change these values.
        s0, s1, s2 = uv[i0, 0] * su, uv[i1, 0] * su, uv[i2, 0] * su
        t0, t1, t2 = uv[i0, 1] * sv, uv[i1, 1] * sv, uv[i2, 1] * sv
        f0, f1, f2 = opacity[i0], opacity[i1], opacity[i2]
        r0, r1, r2 = colour[i0, 0], colour[i1, 0], colour[i2, 0]
        g0, g1, g2 = colour[i0, 1], colour[i1, 1], colour[i2, 1]
        b0, b1, b2 = colour[i0, 2], colour[i1, 2], colour[i2, 2]
        for row in range(top, bottom + 1):
            low, high = _span(row_a, -ay << _SHIFT, 0, right - left)
            low, high = _span(row_b, -by << _SHIFT, low, high)
            low, high = _span(row_c, -cy << _SHIFT, low, high)
            u, v, w = u_row + ux * low, v_row + vx * low, w_row + wx * low
            for column in range(left + low, left + high + 1):
                total = u + v + w
                place = row * columns + column
                metres = np.float32(np.inf)
                if total * double_area > 0:
                    metres = np.float32(double_area / total - raised)
                if metres < state[place, 0]:
                    inverse = 1.0 / total
                    a, b, c = u * inverse, v * inverse, w * inverse
                    if a < 0 or b < 0 or c < 0:
                        a, b, c = max(a, 0.0), max(b, 0.0), max(c, 0.0)
                        inverse = 1.0 / (a + b + c)
                        a, b, c = a * inverse, b * inverse, c * inverse
                    x = min(max(a * s0 + b * s1 + c * s2 - 0.5, 0.0), widest)
                    y = min(max(a * t0 + b * t1 + c * t2 - 0.5, 0.0), highest)
                    x_low, y_low = np.int64(x), np.int64(y)
                    upper = base + y_low * width + x_low
                    lower = upper + (width if y_low < height - 1 else 0)
                    step = 1 if x_low < width - 1 else 0
                    across, down = x - x_low, y - y_low
                    k00, k01 = (1 - across) * (1 - down), across * (1 - down)
                    k10, k11 = (1 - across) * down, across * down
                    factor = a * f0 + b * f1 + c * f2
                    alpha = factor * (
                        k00 * texels[upper, 1]
                        + k01 * texels[upper + step, 1]
                        + k10 * texels[lower, 1]
                        + k11 * texels[lower + step, 1]
                    )
                    alpha = min(max(alpha, 0.0), 1.0)
                    if alpha >= FAINTEST:
                        bright = factor * (
                            k00 * texels[upper, 0]
                            + k01 * texels[upper + step, 0]
                            + k10 * texels[lower, 0]
                            + k11 * texels[lower + step, 0]
                        )
                        if count == capacity:
                            following = _doubled(following)
                            depths = _doubled(depths)
                            values = _doubled_rows(values)
                            capacity *= 2
                        values[count, 0] = bright * (a * r0 + b * r1 + c * r2)
                        values[count, 1] = bright * (a * g0 + b * g1 + c * g2)
                        values[count, 2] = bright * (a * b0 + b * b1 + c * b2)
                        values[count, 3] = alpha
                        depths[count] = metres
                        following[count] = head[place]
                        head[place] = count
                        count += 1
                        left_over = state[place, 1] * (1 - alpha)
                        state[place, 1] = left_over
                        state[place, 2] = max(state[place, 2], metres)
                        if alpha >= OPAQUE:
                            state[place, 0] = metres
                        elif left_over < FAINTEST:
                            state[place, 0] = min(state[place, 0], state[place, 2])
                u += ux
                v += vx
                w += wx
            row_a += ax << _SHIFT
            row_b += bx << _SHIFT
            row_c += cx << _SHIFT
            u_row += uy
            v_row += vy
            w_row += wy

    nearest = np.empty(layers, np.int32)
    for row in range(rows):
        for column in range(columns):
            fragment = head[row * columns + column]
            if fragment < 0:
                continue
            kept = 0
            # Lists go from the last fragment to the first; equal depths are moved forward.
            while fragment >= 0:
                metres = depths[fragment]
                place = kept
                while place > 0 and depths[nearest[place - 1]] >= metres:
                    place -= 1
                if place < layers:
                    kept = min(kept + 1, layers)
                    for k in range(kept - 1, place, -1):
                        nearest[k] = nearest[k - 1]
                    nearest[place] = fragment
                fragment = following[fragment]
            through = 1.0
            red = green = blue = 0.0
            for k in range(kept):
                fragment = nearest[k]
                red += through * values[fragment, 0]
                green += through * values[fragment, 1]
                blue += through * values[fragment, 2]
                alpha = np.float64(values[fragment, 3])
                after = 0.0 if alpha >= OPAQUE else through * (1 - alpha)
                if through > 0.5 and after <= 0.5:
                    front[row, column] = depths[fragment]
                through = after
                if through == 0:
                    break
            image[0, row, column] = image[0, row, column] * through + red
            image[1, row, column] = image[1, row, column] * through + green
            image[2, row, column] = image[2, row, column] * through + blue
            hidden[row, column] = 1 - through


@kernel()
def _span(value, step, low, high):
    """Return which columns from `low` to `high` lie on the inner side of an edge.

    There `value + step * column` is not negative. The quotients are exact enough, because they are
    far below the limit of float64's precision.
    """
    if step > 0:
        if value < 0:
            low = max(low, np.int64(np.ceil(np.float64(-value) / np.float64(step))))
    elif value < 0:
        high = -1
    elif step < 0:
        high = min(high, np.int64(np.float64(value) / np.float64(-step)))
    return low, high


@kernel()
def _doubled(values):
    result = np.empty(2 * len(values), values.dtype)
    result[: len(values)] = values
    return result


@kernel()
def _doubled_rows(values):
    result = np.empty((2 * len(values), values.shape[1]), values.dtype)
    result[: len(values)] = values
    return result


@kernel()
def _unit(x, y, z):
    """Return a vector of length 1."""
    inverse = 1.0 / max(np.sqrt(x * x + y * y + z * z), 1e-12)
    return x * inverse, y * inverse, z * inverse


@kernel()
def _irradiance(soft, k, x, y, z):
    """Return the shading of one colour by nine harmonics."""
    low = C0 * soft[0, k] + C1 * (soft[1, k] * y + soft[2, k] * z + soft[3, k] * x)
    mixed = C2 * (soft[4, k] * x * y + soft[5, k] * y * z + soft[7, k] * x * z)
    return low + mixed + C20 * soft[6, k] * (3 * z * z - 1) + C22 * soft[8, k] * (x * x - y * y)


@kernel()
def _shade(
    vertices,
    triangles,
    surface,
    colour,
    ambient_visibility,
    specular,
    motion,
    soft,
    direction,
    lamp,
    colours,
):
    """Write the light that leaves each vertex, linear RGB."""
    normals = np.empty(vertices.shape, np.float32)
    vertex_normals(vertices, triangles, np.empty(vertices.shape), normals)
    # Rotation from head space to light axes.
    turn = motion[:3].astype(np.float64)
    turn[1:] *= -1
    dx = FIBRE[0] * turn[0, 0] + FIBRE[1] * turn[0, 1] + FIBRE[2] * turn[0, 2]
    dy = FIBRE[0] * turn[1, 0] + FIBRE[1] * turn[1, 1] + FIBRE[2] * turn[1, 2]
    dz = FIBRE[0] * turn[2, 0] + FIBRE[1] * turn[2, 1] + FIBRE[2] * turn[2, 2]
    lx, ly, lz = np.float64(direction[0]), np.float64(direction[1]), np.float64(direction[2])
    for i in range(len(vertices)):
        kind = surface[i]
        px, py, pz = (
            np.float64(vertices[i, 0]),
            np.float64(vertices[i, 1]),
            np.float64(vertices[i, 2]),
        )
        nx, ny, nz = np.float64(normals[i, 0]), np.float64(normals[i, 1]), np.float64(normals[i, 2])
        passed = 0.0
        if kind == HAIR:
            passed = PASSED
            ax, ay, az = _unit(px - MIDDLE[0], py - MIDDLE[1], pz - MIDDLE[2])
            side = (1 - SOFTNESS) * (-1.0 if nx * ax + ny * ay + nz * az < 0 else 1.0)
            nx, ny, nz = (
                side * nx + SOFTNESS * ax,
                side * ny + SOFTNESS * ay,
                side * nz + SOFTNESS * az,
            )
            nx, ny, nz = _unit(nx, ny, nz)
        nx, ny, nz = (
            turn[0, 0] * nx + turn[0, 1] * ny + turn[0, 2] * nz,
            turn[1, 0] * nx + turn[1, 1] * ny + turn[1, 2] * nz,
            turn[2, 0] * nx + turn[2, 1] * ny + turn[2, 2] * nz,
        )
        vx, vy, vz = _unit(
            -(turn[0, 0] * px + turn[0, 1] * py + turn[0, 2] * pz + turn[0, 3]),
            -(turn[1, 0] * px + turn[1, 1] * py + turn[1, 2] * pz + turn[1, 3]),
            -(turn[2, 0] * px + turn[2, 1] * py + turn[2, 2] * pz + turn[2, 3]),
        )
        wrap = WRAP[kind]
        lambert = max((nx * lx + ny * ly + nz * lz + wrap) / (1 + wrap), 0.0)
        open_sky = passed + (1 - passed) * ambient_visibility[i]
        lit = min(max((open_sky - 0.08) / 0.45, 0.0), 1.0)
        hx, hy, hz = _unit(vx + lx, vy + ly, vz + lz)
        facing = min(max(nx * hx + ny * hy + nz * hz, 0.0), 1.0)
        lamp_part = sky_part = tint = 0.0
        rx = ry = rz = 0.0
        if kind == HAIR:
            along = dx * nx + dy * ny + dz * nz
            fx, fy, fz = _unit(dx - along * nx, dy - along * ny, dz - along * nz)
            along = fx * hx + fy * hy + fz * hz
            across = np.sqrt(max(1 - along * along, 0.0))
            broad = across**14
            highlights = across**60 * 0.35 + broad * 0.12
            lamp_part = highlights * lit * (0.25 + 0.75 * facing) * specular[i] * 0.35
            sky_part = open_sky * 0.03 * broad * specular[i] * 0.35
            tint = 0.65 / max(colour[i, 0], colour[i, 1], colour[i, 2], 1e-4)
        elif kind == GLASS:
            cosine = nx * vx + ny * vy + nz * vz
            rx, ry, rz = 2 * cosine * nx - vx, 2 * cosine * ny - vy, 2 * cosine * nz - vz
            grazing = (0.05 + 0.95 * max(1 - abs(cosine), 0.0) ** 5) * specular[i]
            lamp_part, sky_part = facing**80 * 6 * lit * grazing, 0.9 * grazing
        for k in range(3):
            around = max(_irradiance(soft, k, nx, ny, nz), 0.02)
            mirror = 0.0
            if kind == HAIR:
                mirror = lamp[k] * lamp_part * (0.35 + tint * colour[i, k]) + around * sky_part
            elif kind == GLASS:
                mirror = lamp[k] * lamp_part + max(_irradiance(soft, k, rx, ry, rz), 0.0) * sky_part
            colours[i, k] = colour[i, k] * (around * open_sky + lamp[k] * lambert * lit) + mirror
