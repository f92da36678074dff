"""Layers on the CPU: lists of fragments per pixel, one image per thread, as `_torch` defines them."""

# Numba infers the types of kernels from the arrays they are called with.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lifemask.data.wearables._torch import FAINTEST, OPAQUE, SUBPIXELS, snapped
from lifemask.rendering._backends._jit import kernel, run_in_threads, worker_count

if TYPE_CHECKING:
    from lifemask.data.wearables.drawing import Sheets

_SHIFT = SUBPIXELS.bit_length() - 1


def draw(
    colour: Tensor, depth: Tensor, sheets: "Sheets", layers: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return colour (N,3,H,W), opacity (N,H,W) and depth (N,H,W) with the sheets in front."""
    count = len(colour)
    result, opacity = colour.contiguous().clone(), torch.zeros_like(depth)
    front = depth.contiguous().clone()
    xy, usable = snapped(sheets.points)
    stops = torch.searchsorted(sheets.image, torch.arange(count), right=True).tolist()
    starts = [0, *stops[:-1]]
    stack = sheets.pyramids
    shared = [
        value.contiguous().numpy()
        for value in (
            sheets.points, xy, usable, sheets.triangles, sheets.one_sided, sheets.uv, sheets.colour, sheets.opacity,
            sheets.lift, sheets.page, stack.texels, stack.start, stack.height, stack.width,
        )
    ]  # fmt: skip
    outputs = [value.numpy() for value in (result, opacity, front)]
    workers = worker_count(count)

    def task(worker: int) -> None:
        for k in range(worker, count, workers):
            _draw_image(*shared, starts[k], stops[k], layers, *(array[k] for array in outputs))

    run_in_threads(task, workers)
    return result, opacity, front


@kernel()
def _draw_image(
    points, xy, usable, triangles, one_sided, uv, colour, opacity, lift, page, texels, start, heights, widths,
    first, last, layers, image, hidden, front,
):  # fmt: skip
    """Draw the triangles from `first` to `last` over one image; `front` comes as its depth."""
    rows, columns = front.shape
    head = np.full(rows * columns, -1, np.int32)
    # Per pixel: the depth behind which nothing shows any more; what the fragments so far let
    # through; the farthest of them. Triangles come roughly from front to back, so most of what is
    # hidden is never shaded.
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

        # Weights before division, relative to the first corner's pixel, change evenly.
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
        # Read once: the writes below might change them for all the compiler knows.
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
            # Lists run from the last fragment to the first, so equal depths move forward.
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

    There `value + step * column` is not negative. The quotients are exact enough: they are far
    smaller than the precision of float64 can tell apart.
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
