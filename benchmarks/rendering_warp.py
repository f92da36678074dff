"""The renderer's `rasterize` and `interpolate` written for NVIDIA Warp, to compare speeds.

Input, results and layout are the same. The z-buffer uses an atomic minimum; derivatives are written
by hand, because Warp's automatic ones are slower. Barycentric weights are in float32, which is
faster than the float64 of lifemask.
"""

from typing import Any

import torch
import warp as wp
from torch import Tensor

wp.config.quiet = True
wp.set_module_options({"enable_backward": False, "fast_math": False})
wp.init()

EMPTY = wp.constant(wp.int64(0x7FFFFFFFFFFFFFFF))


@wp.kernel
def snap(
    points: wp.array2d(dtype=wp.vec3),
    x: wp.array2d(dtype=wp.int64),
    y: wp.array2d(dtype=wp.int64),
    q: wp.array2d(dtype=wp.float64),
):
    b, i = wp.tid()
    p = points[b, i]
    usable = p[2] > 1.0e-30 and p[2] < 1.0e30
    if usable and wp.abs(p[0]) <= 65536.0 and wp.abs(p[1]) <= 65536.0:
        half, scale = wp.float64(0.5), wp.float64(256.0)
        x[b, i] = wp.int64(wp.rint((wp.float64(p[0]) - half) * scale))
        y[b, i] = wp.int64(wp.rint((wp.float64(p[1]) - half) * scale))
        q[b, i] = wp.float64(1.0) / wp.float64(p[2])
    else:
        q[b, i] = wp.float64(0.0)


@wp.func
def tie(dx: wp.int64, dy: wp.int64) -> wp.int64:
    zero = wp.int64(0)
    if dy < zero or (dy == zero and dx > zero):
        return zero
    return wp.int64(1)


@wp.kernel
def cover(
    x: wp.array2d(dtype=wp.int64),
    y: wp.array2d(dtype=wp.int64),
    q: wp.array2d(dtype=wp.float64),
    triangles: wp.array2d(dtype=wp.int64),
    height: int,
    width: int,
    key: wp.array3d(dtype=wp.int64),
):
    b, t = wp.tid()
    i0 = int(triangles[t, 0])
    i1 = int(triangles[t, 1])
    i2 = int(triangles[t, 2])
    zero, round_up, eight = wp.int64(0), wp.int64(255), wp.int64(8)
    y0 = y[b, i0]
    y1 = y[b, i1]
    y2 = y[b, i2]
    top = (wp.max(wp.min(y0, wp.min(y1, y2)), zero) + round_up) >> eight
    bottom = wp.min(wp.max(y0, wp.max(y1, y2)), wp.int64((height - 1) * 256)) >> eight
    if top > bottom:
        return
    x0 = x[b, i0]
    x1 = x[b, i1]
    x2 = x[b, i2]
    left = (wp.max(wp.min(x0, wp.min(x1, x2)), zero) + round_up) >> eight
    right = wp.min(wp.max(x0, wp.max(x1, x2)), wp.int64((width - 1) * 256)) >> eight
    if left > right:
        return
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    if area >= zero:
        return
    q0 = q[b, i0]
    q1 = q[b, i2]
    q2 = q[b, i1]
    if q0 == wp.float64(0.0) or q1 == wp.float64(0.0) or q2 == wp.float64(0.0):
        return
    swap_x = x1
    x1 = x2
    x2 = swap_x
    swap_y = y1
    y1 = y2
    y2 = swap_y
    ax = x2 - x1
    ay = y2 - y1
    bx = x0 - x2
    by = y0 - y2
    cx = x1 - x0
    cy = y1 - y0
    inverse = wp.float64(1.0) / wp.float64(-area)
    slope_x = ((q1 - q0) * wp.float64(-by) - (q2 - q0) * wp.float64(cy)) * inverse
    slope_y = ((q2 - q0) * wp.float64(cx) - (q1 - q0) * wp.float64(-bx)) * inverse
    start = left << eight
    line = top << eight
    row_a = ax * (line - y1) - ay * (start - x1) - tie(ax, ay)
    row_b = bx * (line - y2) - by * (start - x2) - tie(bx, by)
    row_c = cx * (line - y0) - cy * (start - x0) - tie(cx, cy)
    for row in range(int(top), int(bottom) + 1):
        q_row = q0 + slope_y * wp.float64((wp.int64(row) << eight) - y0)
        a = row_a
        c = row_b
        d = row_c
        for column in range(int(left), int(right) + 1):
            if (a | c | d) >= zero:
                depth = q_row + slope_x * wp.float64((wp.int64(column) << eight) - x0)
                bits = wp.int64(wp.cast(wp.float32(depth), int))
                value = ((wp.int64(0x7FFFFFFF) - bits) << wp.int64(32)) | wp.int64(t)
                wp.atomic_min(key, b, row, column, value)
            a -= ay << eight
            c -= by << eight
            d -= cy << eight
        row_a += ax << eight
        row_b += bx << eight
        row_c += cx << eight


@wp.kernel
def weigh(
    points: wp.array2d(dtype=wp.vec3),
    triangles: wp.array2d(dtype=wp.int64),
    key: wp.array3d(dtype=wp.int64),
    index: wp.array3d(dtype=wp.int64),
    barycentric: wp.array3d(dtype=wp.vec3),
    depth: wp.array3d(dtype=float),
):
    b, row, column = wp.tid()
    k = key[b, row, column]
    if k == EMPTY:
        index[b, row, column] = wp.int64(-1)
        barycentric[b, row, column] = wp.vec3(0.0, 0.0, 0.0)
        depth[b, row, column] = 0.0
        return
    t = k & wp.int64(0xFFFFFFFF)
    index[b, row, column] = t
    p0 = points[b, int(triangles[int(t), 0])]
    p1 = points[b, int(triangles[int(t), 1])]
    p2 = points[b, int(triangles[int(t), 2])]
    x, y = float(column) + 0.5, float(row) + 0.5
    u = ((p1[0] - x) * (p2[1] - y) - (p1[1] - y) * (p2[0] - x)) / p0[2]
    v = ((p2[0] - x) * (p0[1] - y) - (p2[1] - y) * (p0[0] - x)) / p1[2]
    w = ((p0[0] - x) * (p1[1] - y) - (p0[1] - y) * (p1[0] - x)) / p2[2]
    inverse = 1.0 / (u + v + w)
    barycentric[b, row, column] = wp.vec3(u * inverse, v * inverse, w * inverse)
    depth[b, row, column] = (u * p0[2] + v * p1[2] + w * p2[2]) * inverse


@wp.kernel
def weigh_backward(
    points: wp.array2d(dtype=wp.vec3),
    triangles: wp.array2d(dtype=wp.int64),
    index: wp.array3d(dtype=wp.int64),
    grad: wp.array3d(dtype=wp.vec3),
    grad_points: wp.array2d(dtype=wp.vec3),
):
    n, row, column = wp.tid()
    t = int(index[n, row, column])
    if t < 0:
        return
    i0 = int(triangles[t, 0])
    i1 = int(triangles[t, 1])
    i2 = int(triangles[t, 2])
    p0 = points[n, i0]
    p1 = points[n, i1]
    p2 = points[n, i2]
    x, y = float(column) + 0.5, float(row) + 0.5
    ax = p0[0] - x
    ay = p0[1] - y
    bx = p1[0] - x
    by = p1[1] - y
    cx = p2[0] - x
    cy = p2[1] - y
    u = (bx * cy - by * cx) / p0[2]
    v = (cx * ay - cy * ax) / p1[2]
    w = (ax * by - ay * bx) / p2[2]
    inverse = 1.0 / (u + v + w)
    g = grad[n, row, column]
    mean = (g[0] * u + g[1] * v + g[2] * w) * inverse
    a = (g[0] - mean) * inverse / p0[2]
    b = (g[1] - mean) * inverse / p1[2]
    c = (g[2] - mean) * inverse / p2[2]
    wp.atomic_add(grad_points, n, i0, wp.vec3(c * by - b * cy, b * cx - c * bx, -a * u))
    wp.atomic_add(grad_points, n, i1, wp.vec3(a * cy - c * ay, c * ax - a * cx, -b * v))
    wp.atomic_add(grad_points, n, i2, wp.vec3(b * ay - a * by, a * bx - b * ax, -c * w))


@wp.kernel
def blend(
    attributes: wp.array3d(dtype=float),
    triangles: wp.array2d(dtype=wp.int64),
    index: wp.array3d(dtype=wp.int64),
    barycentric: wp.array3d(dtype=wp.vec3),
    image: wp.array4d(dtype=float),
):
    n, row, column = wp.tid()
    t = int(index[n, row, column])
    channels = attributes.shape[2]
    if t < 0:
        for k in range(channels):
            image[n, k, row, column] = 0.0
        return
    i0 = int(triangles[t, 0])
    i1 = int(triangles[t, 1])
    i2 = int(triangles[t, 2])
    w = barycentric[n, row, column]
    for k in range(channels):
        image[n, k, row, column] = (
            w[0] * attributes[n, i0, k] + w[1] * attributes[n, i1, k] + w[2] * attributes[n, i2, k]
        )


@wp.kernel
def blend_backward(
    attributes: wp.array3d(dtype=float),
    triangles: wp.array2d(dtype=wp.int64),
    index: wp.array3d(dtype=wp.int64),
    barycentric: wp.array3d(dtype=wp.vec3),
    grad: wp.array4d(dtype=float),
    grad_attributes: wp.array3d(dtype=float),
    grad_barycentric: wp.array3d(dtype=wp.vec3),
):
    n, row, column = wp.tid()
    t = int(index[n, row, column])
    if t < 0:
        grad_barycentric[n, row, column] = wp.vec3(0.0, 0.0, 0.0)
        return
    i0 = int(triangles[t, 0])
    i1 = int(triangles[t, 1])
    i2 = int(triangles[t, 2])
    w = barycentric[n, row, column]
    u = wp.float32(0.0)
    v = wp.float32(0.0)
    s = wp.float32(0.0)
    for k in range(attributes.shape[2]):
        g = grad[n, k, row, column]
        u += g * attributes[n, i0, k]
        v += g * attributes[n, i1, k]
        s += g * attributes[n, i2, k]
        wp.atomic_add(grad_attributes, n, i0, k, w[0] * g)
        wp.atomic_add(grad_attributes, n, i1, k, w[1] * g)
        wp.atomic_add(grad_attributes, n, i2, k, w[2] * g)
    grad_barycentric[n, row, column] = wp.vec3(u, v, s)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, triangles: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        points = points.detach()
        batch, count, _ = points.shape
        x, y = (torch.empty(batch, count, dtype=torch.int64) for _ in range(2))
        q = torch.empty(batch, count, dtype=torch.float64)
        key = torch.full((batch, height, width), 2**63 - 1, dtype=torch.int64)
        index, depth = torch.empty_like(key), points.new_empty(key.shape)
        barycentric = points.new_empty(*key.shape, 3)
        vectors, corners = wp.from_torch(points, dtype=wp.vec3), wp.from_torch(triangles)
        wx, wy, wq, wk = (wp.from_torch(v) for v in (x, y, q, key))
        wp.launch(snap, (batch, count), [vectors, wx, wy, wq], device="cpu")
        size = (batch, len(triangles))
        wp.launch(cover, size, [wx, wy, wq, corners, height, width, wk], device="cpu")
        weights = wp.from_torch(barycentric, dtype=wp.vec3)
        outputs = [wp.from_torch(index), weights, wp.from_torch(depth)]
        wp.launch(weigh, tuple(key.shape), [vectors, corners, wk, *outputs], device="cpu")
        ctx.save_for_backward(points, triangles, index)
        ctx.mark_non_differentiable(index, depth)
        return index, barycentric, depth

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        points, triangles, index = ctx.saved_tensors
        result = torch.zeros_like(points)
        vectors, target = (wp.from_torch(v, dtype=wp.vec3) for v in (points, result))
        grad = wp.from_torch(grads[1].contiguous(), dtype=wp.vec3)
        inputs = [vectors, wp.from_torch(triangles), wp.from_torch(index), grad, target]
        wp.launch(weigh_backward, tuple(index.shape), inputs, device="cpu")
        return result, None, None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, attributes: Tensor, triangles: Tensor, index: Tensor, barycentric: Tensor
    ) -> Tensor:
        attributes, barycentric = attributes.detach(), barycentric.detach()
        image = attributes.new_empty(len(index), attributes.shape[2], *index.shape[1:])
        inputs = [wp.from_torch(v) for v in (attributes, triangles, index)]
        weights = wp.from_torch(barycentric, dtype=wp.vec3)
        wp.launch(blend, tuple(index.shape), [*inputs, weights, wp.from_torch(image)], device="cpu")
        ctx.save_for_backward(attributes, triangles, index, barycentric)
        return image

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        attributes, triangles, index, barycentric = ctx.saved_tensors
        to_attributes, to_weights = torch.zeros_like(attributes), torch.empty_like(barycentric)
        inputs = [wp.from_torch(v) for v in (attributes, triangles, index)]
        weights, target = (wp.from_torch(v, dtype=wp.vec3) for v in (barycentric, to_weights))
        grad = wp.from_torch(grads[0].contiguous())
        arguments = [*inputs, weights, grad, wp.from_torch(to_attributes), target]
        wp.launch(blend_backward, tuple(index.shape), arguments, device="cpu")
        return to_attributes, None, None, to_weights


def rasterize_and_interpolate(
    points: Tensor, triangles: Tensor, attributes: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return the triangle index (B,H,W) and the attributes (B,C,H,W) at each pixel."""
    index, barycentric, _ = _Rasterize.apply(points, triangles, *image_size)
    return index, _Interpolate.apply(attributes, triangles, index, barycentric)
