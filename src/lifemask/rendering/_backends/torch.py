"""Rasterisation and interpolation in plain PyTorch, on any device: the reference for all backends.

Corners are snapped to 1/256 pixel, and a top-left rule decides which of two triangles covers a
pixel centre on their common edge. All edge arithmetic is exact (whole numbers in float64). Every
backend computes the depth of a pixel with the same operations in the same order, and therefore all
backends agree on every triangle index.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Triangles with a corner farther outside are left out; nearer, edge functions are exact in float64.
GUARD_BAND_PIXELS = 65536.0
SUBPIXELS = 256.0
# Depths outside this range are outside the range of float32 inverse depth.
DEPTH_RANGE = (1e-30, 1e30)
# A triangle with a barycentric weight this far outside [0, 1] is as thin as the snap: its weights
# are clamped and have no gradient, because it would be huge and meaningless.
SLIVER = 1 / 16

_EMPTY = 2**63 - 1
# Pixels that are processed at once; this limits the memory.
_CHUNK = 4_000_000


def rasterize(
    points: Tensor, triangles: Tensor, height: int, width: int, cull: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return triangle index (B,H,W), barycentric (B,H,W,3) and depth (B,H,W)."""
    batch, vertex_count, _ = points.shape
    # Detached: the nearest triangle is a step function with gradient zero almost everywhere.
    index = _nearest_triangle(points.detach(), triangles, height, width, cull)
    pixel = (index >= 0).nonzero()[:, 0]
    image = torch.div(pixel, height * width, rounding_mode="floor")
    corners = triangles.index_select(0, index.index_select(0, pixel))
    corners = corners + (image * vertex_count)[:, None]
    within = pixel - image * (height * width)
    row = torch.div(within, width, rounding_mode="floor")
    centre_x, centre_y = (within - row * width).double() + 0.5, row.double() + 0.5

    flat = points.reshape(-1, 3)
    a, b, c = (flat.index_select(0, corners[:, k]).double() for k in range(3))
    ax, ay = a[:, 0] - centre_x, a[:, 1] - centre_y
    bx, by = b[:, 0] - centre_x, b[:, 1] - centre_y
    cx, cy = c[:, 0] - centre_x, c[:, 1] - centre_y
    weights = torch.stack(
        [
            (bx * cy - by * cx) / a[:, 2],
            (cx * ay - cy * ax) / b[:, 2],
            (ax * by - ay * bx) / c[:, 2],
        ],
        dim=-1,
    )
    total = weights.sum(-1, keepdim=True)
    weights = weights / torch.where(total == 0, torch.ones_like(total), total)
    sliver = (total[:, 0] == 0) | ((weights - 0.5).abs() > 0.5 + SLIVER).any(-1)
    weights = torch.where(sliver[:, None], _clamped(weights.detach()), weights)
    depth = weights[:, 0] * a[:, 2] + weights[:, 1] * b[:, 2] + weights[:, 2] * c[:, 2]

    size = batch * height * width
    barycentric = points.new_zeros(size, 3).index_copy(0, pixel, weights.to(points.dtype))
    depth = points.new_zeros(size).index_copy(0, pixel, depth.to(points.dtype))
    return (
        index.view(batch, height, width),
        barycentric.view(batch, height, width, 3),
        depth.view(batch, height, width),
    )


def interpolate(
    attributes: Tensor, triangles: Tensor, index: Tensor, barycentric: Tensor
) -> Tensor:
    """Return (B,C,H,W) from attributes (B or 1,V,C); zero where there is no triangle."""
    batch, height, width = index.shape
    attribute_batch, vertex_count, channels = attributes.shape
    pixel = (index.reshape(-1) >= 0).nonzero()[:, 0]
    corners = triangles.index_select(0, index.reshape(-1).index_select(0, pixel))
    if attribute_batch > 1:
        image = torch.div(pixel, height * width, rounding_mode="floor")
        corners = corners + (image * vertex_count)[:, None]
    weights = barycentric.reshape(-1, 3).index_select(0, pixel)
    values = _WeightedSum.apply(attributes.reshape(-1, channels), corners, weights)
    assert isinstance(values, Tensor)
    image = values.new_zeros(batch * height * width, channels).index_copy(0, pixel, values)
    return image.view(batch, height, width, channels).permute(0, 3, 1, 2)


class _WeightedSum(torch.autograd.Function):
    """The sum over k of weights[p, k] * values[rows[p, k]], ten times faster than by indexing.

    `embedding_bag` is fast forward but slow backward; therefore the backward is written here.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(values, rows, weights)
        return torch.nn.functional.embedding_bag(
            rows, values, mode="sum", per_sample_weights=weights
        )

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch's own pattern
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, None, Tensor | None]:
        values, rows, weights = ctx.saved_tensors
        grad_values = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_values = torch.zeros_like(values)
            for k in range(rows.shape[1]):
                grad_values.index_add_(0, rows[:, k], grad * weights[:, k, None])
        if ctx.needs_input_grad[2]:
            columns = [
                (grad * values.index_select(0, rows[:, k])).sum(-1) for k in range(rows.shape[1])
            ]
            grad_weights = torch.stack(columns, dim=-1)
        return grad_values, None, grad_weights


def _clamped(weights: Tensor) -> Tensor:
    """Return the weights moved into [0, 1] with sum one."""
    weights = weights.clamp(0, 1)
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / total.clamp(min=1e-30), torch.full_like(weights, 1 / 3))


@torch.no_grad()
def _nearest_triangle(
    points: Tensor, triangles: Tensor, height: int, width: int, cull: str
) -> Tensor:
    """Return the index of the nearest triangle at each pixel, (B*H*W), -1 without a triangle.

    Triangles are cut into rows and rows into pixels. Inverse depth and triangle index of each pixel
    are packed into one int64, and the minimum is kept. Of equally near triangles the first is kept.
    """
    batch, vertex_count, _ = points.shape
    device, count = points.device, triangles.shape[0]
    x, y, q = (values.reshape(-1) for values in _snap(points))
    buffer = torch.full((batch * height * width,), _EMPTY, dtype=torch.int64, device=device)
    images_at_once = max(1, 2_000_000 // max(count, 1))
    for first in range(0, batch, images_at_once):
        images = torch.arange(first, min(first + images_at_once, batch), device=device)
        corners = [
            (triangles[:, k] + (images * vertex_count)[:, None]).reshape(-1) for k in range(3)
        ]
        _draw(buffer, [(x[i], y[i], q[i]) for i in corners], first, count, height, width, cull)
    return torch.where(buffer == _EMPTY, -1, buffer & 0xFFFFFFFF)


def _snap(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, y in whole 1/256 pixels from the first pixel centre, and inverse depth, as float64.

    All are NaN for points that cannot be drawn.
    """
    x, y, depth = points.double().unbind(-1)
    usable = (depth > DEPTH_RANGE[0]) & (depth < DEPTH_RANGE[1])
    usable &= (x.abs() <= GUARD_BAND_PIXELS) & (y.abs() <= GUARD_BAND_PIXELS)
    x, y = ((v - 0.5).mul_(SUBPIXELS).round_() for v in (x, y))
    return x.masked_fill_(~usable, torch.nan), y, depth.reciprocal()


@dataclass(frozen=True)
class _Triangles:
    """Triangles that cover pixels, clockwise on the image; x and y in 1/256 pixels, float64."""

    x: tuple[Tensor, Tensor, Tensor]
    """(D,) x of each corner."""
    y: tuple[Tensor, Tensor, Tensor]
    """(D,) y of each corner."""
    closeness: Tensor
    """(D,) one over the depth of the first corner; `slope_x` and `slope_y` are its derivatives."""
    slope_x: Tensor
    slope_y: Tensor
    left: Tensor
    """(D,) first column of pixels; `right` the last, `top` and `bottom` the rows."""
    right: Tensor
    top: Tensor
    bottom: Tensor
    index: Tensor
    """(D,) row of the triangles."""
    origin: Tensor
    """(D,) position of the image's first pixel in the buffer."""


def _draw(
    buffer: Tensor,
    corners: list[tuple[Tensor, Tensor, Tensor]],
    first_image: int,
    count: int,
    height: int,
    width: int,
    cull: str,
) -> None:
    """Draw the triangles of some images into the buffer of keys."""
    triangles = _drawn(corners, first_image, count, height, width, cull)
    if triangles is not None:
        _fill(buffer, triangles, *_row_spans(triangles), width)


def _drawn(
    corners: list[tuple[Tensor, Tensor, Tensor]],
    first_image: int,
    count: int,
    height: int,
    width: int,
    cull: str,
) -> _Triangles | None:
    """Return the triangles that are not culled and have a pixel centre in their box."""
    (x0, y0, _), (x1, y1, _), (x2, y2, _) = corners
    left = torch.minimum(torch.minimum(x0, x1), x2).div_(SUBPIXELS).ceil_().clamp_(min=0)
    right = torch.maximum(torch.maximum(x0, x1), x2).div_(SUBPIXELS).floor_().clamp_(max=width - 1)
    top = torch.minimum(torch.minimum(y0, y1), y2).div_(SUBPIXELS).ceil_().clamp_(min=0)
    bottom = (
        torch.maximum(torch.maximum(y0, y1), y2).div_(SUBPIXELS).floor_().clamp_(max=height - 1)
    )
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    # y points down, so a triangle that is counter-clockwise to the viewer has negative area.
    wanted = {"back": area < 0, "front": area > 0, "none": area != 0}[cull]
    # With a NaN corner every comparison is false except `!=`; therefore the box is tested too.
    drawn = (wanted & (right >= left) & (bottom >= top)).nonzero()[:, 0]
    if drawn.numel() == 0:
        return None
    area, left, right, top, bottom = (v[drawn] for v in (area, left, right, top, bottom))
    (x0, y0, q0), (x1, y1, q1), (x2, y2, q2) = (
        tuple(v[drawn] for v in corner) for corner in corners
    )
    flip = area < 0
    x1, x2 = torch.where(flip, x2, x1), torch.where(flip, x1, x2)
    y1, y2 = torch.where(flip, y2, y1), torch.where(flip, y1, y2)
    q1, q2 = torch.where(flip, q2, q1), torch.where(flip, q1, q2)
    inverse_area = 1 / area.abs()
    slope_x = ((q1 - q0) * (y2 - y0) - (q2 - q0) * (y1 - y0)) * inverse_area
    slope_y = ((q2 - q0) * (x1 - x0) - (q1 - q0) * (x2 - x0)) * inverse_area
    image = torch.div(drawn, count, rounding_mode="floor")
    return _Triangles(
        (x0, x1, x2), (y0, y1, y2), q0, slope_x, slope_y, left, right, top, bottom,
        index=drawn - image * count, origin=(image + first_image) * (height * width),
    )  # fmt: skip


def _row_spans(triangles: _Triangles) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the spans of pixels that triangles cover, one for each row they touch.

    Returns:
        Number of pixels, row of the triangle in `triangles`, y and first x, in whole pixels.
    """
    device = triangles.index.device
    rows = (triangles.bottom - triangles.top).long() + 1
    owner = torch.repeat_interleave(torch.arange(len(rows), device=device), rows)
    start = rows.cumsum(0) - rows
    step = torch.arange(owner.numel(), device=device) - start.index_select(0, owner)
    y = triangles.top.index_select(0, owner) + step
    first = triangles.left.index_select(0, owner)
    last = triangles.right.index_select(0, owner)
    for a, b in ((1, 2), (2, 0), (0, 1)):
        xa, ya = triangles.x[a], triangles.y[a]
        dx, dy = triangles.x[b] - xa, triangles.y[b] - ya
        own_edge = (dy < 0) | ((dy == 0) & (dx > 0))
        # Inside, dx (256 y - ya) - dy (256 x - xa) is positive, or zero on an own edge.
        offset, steepness = (dy * xa - dx * ya).index_select(0, owner), dy.index_select(0, owner)
        reach = dx.index_select(0, owner) * (y * SUBPIXELS) + offset
        own = own_edge.index_select(0, owner)
        crossing = reach / (steepness * SUBPIXELS)
        below, above = crossing.floor(), crossing.ceil()
        last = torch.where(
            steepness > 0, torch.minimum(last, torch.where(own, below, above - 1)), last
        )
        first = torch.where(
            steepness < 0, torch.maximum(first, torch.where(own, above, below + 1)), first
        )
        outside = (steepness == 0) & ((reach < 0) | ((reach == 0) & ~own))
        last = torch.where(outside, -1.0, last)
    pixels = (last - first + 1).clamp_(min=0).long()
    kept = pixels.nonzero()[:, 0]
    pixels, owner, y, first = (v.index_select(0, kept) for v in (pixels, owner, y, first))
    return pixels, owner, y, first


def _fill(
    buffer: Tensor,
    triangles: _Triangles,
    pixels: Tensor,
    owner: Tensor,
    y: Tensor,
    first: Tensor,
    width: int,
) -> None:
    """Write the keys of spans into the buffer if they are smaller than the keys there."""
    q_row = triangles.closeness.index_select(0, owner) + triangles.slope_y.index_select(
        0, owner
    ) * (y * SUBPIXELS - triangles.y[0].index_select(0, owner))
    start_pixel = triangles.origin.index_select(0, owner) + (y * width + first).long()
    x_row = first * SUBPIXELS - triangles.x[0].index_select(0, owner)
    slope_row = triangles.slope_x.index_select(0, owner)
    triangle_row = triangles.index.index_select(0, owner)

    device, total = buffer.device, pixels.cumsum(0)
    chunks = -(-int(total[-1]) // _CHUNK) if total.numel() else 0
    cuts = torch.searchsorted(total, torch.arange(1, chunks, device=device) * _CHUNK).tolist()
    for begin, end in zip([0, *cuts], [*cuts, total.numel()], strict=True):
        lengths = pixels[begin:end]
        row = torch.repeat_interleave(torch.arange(begin, end, device=device), lengths)
        row_start = total[begin:end] - lengths - (total[begin] - pixels[begin])
        step = torch.arange(row.numel(), device=device) - row_start.index_select(0, row - begin)
        q = q_row.index_select(0, row) + slope_row.index_select(0, row) * (
            x_row.index_select(0, row) + step * SUBPIXELS
        )
        # The bits of positive floats have the order of the floats; the nearest has the largest q.
        bits = q.float().clamp_(min=1e-37).view(torch.int32).long()
        key = (0x7FFFFFFF - bits).bitwise_left_shift_(32).bitwise_or_(triangle_row[row])
        buffer.scatter_reduce_(0, start_pixel.index_select(0, row) + step, key, "amin")
