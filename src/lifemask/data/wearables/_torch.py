"""Layers in plain PyTorch, on any device: all fragments are listed, sorted and blended.

This is the reference. Coverage is decided on corners snapped to 1/256 pixel with a top-left rule,
as in `rendering.rasterize`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lifemask.data.wearables.sheets import Sheets

SUBPIXELS = 256
NEAREST_METRES = 0.05
GUARD_PIXELS = 16384.0
FAINTEST, OPAQUE = 1 / 255, 0.996
_CHUNK = 4_000_000


def draw(
    colour: Tensor, depth: Tensor, sheets: Sheets, layers: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return colour (N,3,H,W), opacity (N,H,W) and depth (N,H,W) with the sheets in front."""
    count, _, height, width = colour.shape
    pixels = count * height * width
    behind = torch.where(depth > 0, depth, torch.inf).reshape(-1)
    found = [
        _shaded(*chunk, behind, sheets, height, width) for chunk in _covered(sheets, height, width)
    ]
    if not found:
        return colour, torch.zeros_like(depth), depth
    pixel, metres, alpha, light = (torch.cat(parts) for parts in zip(*found, strict=True))
    # Triangles come in order and both sorts are stable: of equally near ones the first is kept.
    order = metres.argsort(stable=True)
    order = order[pixel[order].argsort(stable=True)]
    pixel, metres, alpha, light = pixel[order], metres[order], alpha[order], light[order]
    first = torch.ones_like(pixel, dtype=torch.bool)
    first[1:] = pixel[1:] != pixel[:-1]
    place = torch.arange(len(pixel), device=pixel.device)
    rank = place - torch.where(first, place, 0).cummax(0).values

    through = colour.new_ones(pixels)
    added = colour.new_zeros(pixels, 3)
    front = depth.reshape(-1).clone()
    for layer in range(layers):
        now = (rank == layer).nonzero()[:, 0]
        if len(now) == 0:
            break
        at = pixel[now]
        left = through[at]
        added[at] += left[:, None] * light[now]
        after = left * (1 - torch.where(alpha[now] >= OPAQUE, 1.0, alpha[now]))
        crossed = (left > 0.5) & (after <= 0.5)
        front[at[crossed]] = metres[now[crossed]].to(front)
        through[at] = after
    result = colour.permute(0, 2, 3, 1).reshape(-1, 3) * through[:, None] + added
    return (
        result.view(count, height, width, 3).permute(0, 3, 1, 2).contiguous(),
        (1 - through).view(depth.shape),
        front.view(depth.shape),
    )


def averaged(
    colour: Tensor, opacity: Tensor, front: Tensor, depth: Tensor, samples: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the results of `draw`, averaged over the samples of a pixel.

    Colour and opacity are means. The third result is the nearest front, infinite if no sample is
    half hidden; the fourth is the mean opacity where there is a depth.
    """
    nearest = torch.where(opacity > 0.5, front, torch.inf)
    parts = (colour, opacity, opacity * (depth > 0))
    colour, opacity, both = (F.avg_pool2d(part, samples) for part in parts)
    return colour, opacity, -F.max_pool2d(-nearest, samples), both


def snapped(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return x, y in whole 1/256 pixels from the first pixel centre, and which points are usable."""
    usable = (points[:, 2] > NEAREST_METRES) & (points[:, :2].abs() < GUARD_PIXELS).all(-1)
    usable &= points.isfinite().all(-1)
    xy = torch.where(usable[:, None], points[:, :2].double(), 0.0)
    return ((xy - 0.5) * SUBPIXELS).round().long(), usable


def _covered(sheets: Sheets, height: int, width: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return triangle, column and row of every covered pixel, in order and in several parts."""
    xy, usable = snapped(sheets.points)
    corners = xy[sheets.triangles]
    low = (corners.amin(1) + SUBPIXELS - 1).div(SUBPIXELS, rounding_mode="floor").clamp(min=0)
    high = corners.amax(1).div(SUBPIXELS, rounding_mode="floor")
    high = torch.minimum(high, high.new_tensor([width - 1, height - 1]))
    size = (high - low + 1).clamp(min=0)
    boxes = size[:, 0] * size[:, 1] * usable[sheets.triangles].all(1)
    total = boxes.cumsum(0)
    result: list[tuple[Tensor, Tensor, Tensor]] = []
    begin, count = 0, len(boxes)
    while begin < count:
        base = int(total[begin - 1]) if begin else 0
        end = max(int(torch.searchsorted(total, base + _CHUNK)), begin + 1)
        some = torch.arange(begin, min(end, count), device=boxes.device)
        triangle = torch.repeat_interleave(some, boxes[some])
        step = torch.arange(len(triangle), device=boxes.device) - (total - boxes - base)[triangle]
        column = low[triangle, 0] + step % size[triangle, 0].clamp(min=1)
        row = low[triangle, 1] + step.div(size[triangle, 0].clamp(min=1), rounding_mode="floor")
        inside = _inside(corners[triangle], column * SUBPIXELS, row * SUBPIXELS)
        inside &= ~(sheets.one_sided & (_double_area(corners) > 0))[triangle]
        result.append((triangle[inside], column[inside], row[inside]))
        begin = end
    return [chunk for chunk in result if len(chunk[0])]


def _inside(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return whether points lie in triangles; right and lower edges do not count."""
    a, b, c = corners.unbind(1)
    area = _double_area(corners)
    flip = (area < 0)[:, None]
    b, c = torch.where(flip, c, b), torch.where(flip, b, c)
    inside = area != 0
    for p, q in ((b, c), (c, a), (a, b)):
        dx, dy = q[:, 0] - p[:, 0], q[:, 1] - p[:, 1]
        own = (dy < 0) | ((dy == 0) & (dx > 0))
        side = dx * (y - p[:, 1]) - dy * (x - p[:, 0])
        inside &= (side > 0) | ((side == 0) & own)
    return inside


def _double_area(corners: Tensor) -> Tensor:
    """Return twice the area of triangles (F, 3, 2): negative if they show their outside."""
    a, b, c = corners.unbind(1)
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])


def _shaded(
    triangle: Tensor,
    column: Tensor,
    row: Tensor,
    behind: Tensor,
    sheets: Sheets,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return pixel, depth, opacity and premultiplied colour of fragments in front of the head."""
    corners = sheets.triangles[triangle]
    points = sheets.points[corners].double()
    x, y = column + 0.5, row + 0.5
    ax, ay = points[:, 0, 0] - x, points[:, 0, 1] - y
    bx, by = points[:, 1, 0] - x, points[:, 1, 1] - y
    cx, cy = points[:, 2, 0] - x, points[:, 2, 1] - y
    weight = torch.stack([bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx], -1)
    weight = weight / points[..., 2]
    total = weight.sum(-1)
    # The sum is the double area over the depth. It is in single precision, so that coinciding
    # sheets have equal depths.
    area = _double_area(points[..., :2])
    metres = (area / total - sheets.lift[triangle].double()).float()
    # A sliver has no depth if its exact and snapped corners have different orientations.
    metres = torch.where(total * area > 0, metres, torch.inf)
    weight = (weight / total[:, None]).clamp(0, 1)
    weight = weight / weight.sum(-1, keepdim=True)
    pixel = (sheets.image[triangle] * height + row) * width + column

    uv = (weight[..., None] * sheets.uv[corners].double()).sum(1)
    texel = _sampled(sheets, sheets.page[triangle], uv)
    opacity = (weight * sheets.opacity[corners].double()).sum(-1)
    light = (weight[..., None] * sheets.colour[corners].double()).sum(1)
    alpha = (texel[:, 1] * opacity).clamp(0, 1)
    light = light * (texel[:, :1] * opacity[:, None])
    kept = (metres < behind[pixel]) & (alpha >= FAINTEST)
    dtype = sheets.points.dtype
    return pixel[kept], metres[kept], alpha[kept].to(dtype), light[kept].to(dtype)


def _sampled(sheets: Sheets, page: Tensor, uv: Tensor) -> Tensor:
    """Return texels (F, 2) of pages at coordinates (F, 2), bilinear, clamped at the border."""
    stack = sheets.pyramids
    width, height, start = stack.width[page], stack.height[page], stack.start[page]
    x = (uv[:, 0] * width - 0.5).clamp(min=0).minimum((width - 1).double())
    y = (uv[:, 1] * height - 0.5).clamp(min=0).minimum((height - 1).double())
    left, top = x.long(), y.long()
    right, bottom = torch.minimum(left + 1, width - 1), torch.minimum(top + 1, height - 1)
    across, down = (x - left)[:, None], (y - top)[:, None]

    def texel(rows: Tensor, columns: Tensor) -> Tensor:
        return stack.texels[start + rows * width + columns].double()

    upper = texel(top, left) * (1 - across) + texel(top, right) * across
    lower = texel(bottom, left) * (1 - across) + texel(bottom, right) * across
    return upper * (1 - down) + lower * down
