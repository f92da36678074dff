"""Makes the mesh and the texture of a shell of hair from its growth."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from scipy.spatial import KDTree
from torch import Tensor

from lifemask.geometry.meshes import split_quads, vertex_normals
from lifemask.hair import rays
from lifemask.hair.colour import SPREAD_OF_STRANDS, continued, seen_hair, strands
from lifemask.hair.growth import Growth
from lifemask.hair.head_of_hair import HeadOfHair
from lifemask.io.colour import pixels_from_image
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.perception.observation import FaceObservation
from lifemask.rendering.filters import gaussian_blur
from lifemask.rendering.texture import sample_texture

_ROWS, _COLUMNS = 56, 84
"""Cells of the mesh of a layer."""
_TALL, _WIDE = 512, 1024
"""Texels of a layer."""
_APART, _LOOSE, _MOST_APART = 0.0008, 0.03, 0.0025
"""Metres between the layers: a part that is always there, a share of the thickness, and a limit."""
_BLOCK = 8
"""Texels a side of the blocks that are empty or not."""
_SOFT, _ALLOWED = 9.0, 0.7
"""Width in texels over which hair ends where the head has none, and the cover from which it is whole."""
_SMOOTH, _DEEP = 1.2, 0.05
"""Blur of the border in quarters of the texels, and the largest distance from it, metres."""
_ROOTS, _TIPS = 0.0016, 0.005
"""Spread of the places where strands end, metres: on the forehead, and of hair that hangs down."""
_EDGE = 0.0012
"""Metres along which a strand fades."""
_EMPTY = 0.3
"""Cells without a texel of this opacity are left out."""


def shell(
    growth: Growth,
    face: ExplainedFace,
    pixels: UInt8[np.ndarray, "H W 3"],
    observation: FaceObservation,
    *,
    colour: Float[Tensor, "3"],
    contrast: float,
) -> HeadOfHair:
    """Return a closed layer of hair and a layer of loose strands around it.

    Args:
        growth: where the hair is.
        face: the fitted face, in the photo's pixels.
        pixels: the photo, sRGB.
        observation: the photo's measurements, with a segmentation.
        colour: of the hair, linear RGB.
        contrast: spread of the logarithm of the brightness of strands.
    """
    cover = _upsampled(growth.cover[..., None])[..., 0]
    surface = _surface(growth.radius, _TALL // 4, _WIDE // 4)
    seen = seen_hair(
        pixels,
        face.camera,
        face.light,
        observation,
        _upsampled(surface),
        _upsampled(_grid_normals(surface)),
        cover > 0.02,
    )
    # In view the photo says where hair ends.
    soft = gaussian_blur(cover[None], _SOFT)[0]
    allowed = (soft / _ALLOWED).clamp(0, 1)
    hair = torch.lerp(gaussian_blur(cover[None], 3.0)[0], seen.hair * allowed, seen.shown)
    depth = _upsampled(border_distance(F.avg_pool2d(hair[None, None], 4)[0, 0], surface)[..., None])
    closed, loose = _locks(depth[..., 0])
    painted = continued(seen, colour, contrast)
    gap = (_APART + _LOOSE * growth.thickness).clamp(max=_MOST_APART)
    layers = [
        _layer(growth.radius, closed, painted, colour),
        _layer(growth.radius + gap, loose, painted, colour),
    ]
    return _stacked(layers)


def border_distance(
    hair: Float[Tensor, "r c"], surface: Float[Tensor, "r c 3"]
) -> Float[Tensor, "r c"]:
    """Return the distance of points of a surface from the border of the hair, metres; negative outside.

    Args:
        hair: probability of hair; the first and the last column touch.
        surface: points, head space, metres.
    """
    smooth = gaussian_blur(_closed_around(hair[None]), _SMOOTH)[0, :, 2:-2] - 0.5
    borders: list[Tensor] = []
    for own, other, here, there in (
        (smooth, smooth.roll(-1, 1), surface, surface.roll(-1, 1)),
        (smooth[:-1], smooth[1:], surface[:-1], surface[1:]),
    ):
        crossed = (own > 0) != (other > 0)
        share = (own / (own - other))[crossed]
        borders.append(torch.lerp(here[crossed], there[crossed], share[:, None]))
    points = torch.cat(borders)
    inside = torch.where(smooth > 0, 1.0, -1.0)
    if len(points) == 0:
        return inside * _DEEP
    distance, _ = KDTree(points.numpy()).query(surface.numpy(), distance_upper_bound=_DEEP)
    return inside * torch.from_numpy(distance).float().clamp(max=_DEEP)


def _locks(
    depth: Float[Tensor, "R C"],
) -> tuple[Float[Tensor, "R C"], Float[Tensor, "R C"]]:
    """Return the opacity of the closed and of the loose layer: strands end one by one at the border.

    Args:
        depth: distance from the border of the hair, metres; negative outside.
    """
    rows, columns = depth.shape
    noise = (strands(rows, columns) - 0.5) / SPREAD_OF_STRANDS
    down = ((torch.arange(rows) + 0.5) / rows * rays.LENGTH - rays.ABOVE) / (
        rays.LENGTH - rays.ABOVE
    )
    fringe = torch.lerp(torch.tensor(_ROOTS), torch.tensor(_TIPS), down.clamp(0, 1))[:, None]
    # Strands end across a border, and follow one that runs along them.
    slope = torch.gradient(depth, spacing=rays.LENGTH / rows, dim=0)[0].abs()
    fringe = fringe * (0.2 + 0.8 * gaussian_blur(slope[None], 3.0)[0]).clamp(max=1)
    closed = ((depth + fringe * noise) / _EDGE + 0.5).clamp(0, 1)
    # The loose strands are others than those below, and some of them are longer.
    noise = noise.roll(columns // 3, 1)
    longer = ((depth + 1.4 * fringe * noise) / _EDGE + 0.5).clamp(0, 1)
    return closed, longer * ((noise + 0.3) / 0.6).clamp(0, 1)


def _layer(
    radius: Float[Tensor, "r c"],
    opacity: Float[Tensor, "R C"],
    colour: Float[Tensor, "3 R C"],
    usual: Float[Tensor, "3"],
) -> HeadOfHair:
    """Return one layer; the cells without hair are left out."""
    v, u = torch.meshgrid(
        torch.arange(_ROWS + 1) / _ROWS, torch.arange(_COLUMNS + 1) / _COLUMNS, indexing="ij"
    )
    origin, direction = rays.rays(u, v)
    length = _sampled(radius, u, v)
    length[0] = length[0].mean()
    points = (origin + direction * length[..., None]).flatten(0, 1)
    i, j = torch.meshgrid(torch.arange(_ROWS), torch.arange(_COLUMNS), indexing="ij")
    first = (i * (_COLUMNS + 1) + j).flatten()
    quads = torch.stack([first, first + _COLUMNS + 1, first + _COLUMNS + 2, first + 1], dim=-1)
    normals = _corner_normals(points, split_quads(quads))
    # The mesh ends outside the visible border, never on it.
    wider = F.max_pool2d(opacity[None, None], 5, stride=1, padding=2)
    filled = F.adaptive_max_pool2d(wider, (_ROWS, _COLUMNS))[0, 0] > _EMPTY
    used, triangles = split_quads(quads[filled.flatten()]).unique(return_inverse=True)
    # Texels that nothing shows take no space in a file if they are all alike.
    blocks = F.max_pool2d(opacity[None, None], _BLOCK)
    blocks = F.max_pool2d(blocks, 3, stride=1, padding=1)[0, 0] > 0
    near = blocks.repeat_interleave(_BLOCK, 0).repeat_interleave(_BLOCK, 1)
    shown = torch.where(near, colour, usual[:, None, None])
    alpha = (opacity * 255).round().to(torch.uint8).numpy()
    return HeadOfHair(
        points[used],
        triangles,
        normals[used],
        torch.stack([u, v], dim=-1).flatten(0, 1)[used],
        (len(triangles),),
        np.dstack([pixels_from_image(shown), alpha]),
    )


def _stacked(layers: list[HeadOfHair]) -> HeadOfHair:
    """Return layers as one mesh, their pictures one below the other."""
    starts = [sum(len(layer.vertices) for layer in layers[:k]) for k in range(len(layers))]
    share = 1 / len(layers)
    return HeadOfHair(
        torch.cat([layer.vertices for layer in layers]),
        torch.cat([layer.triangles + start for layer, start in zip(layers, starts, strict=True)]),
        torch.cat([layer.normals for layer in layers]),
        torch.cat(
            [
                (layer.uv + layer.uv.new_tensor([0.0, k])) * layer.uv.new_tensor([1.0, share])
                for k, layer in enumerate(layers)
            ]
        ),
        tuple(count for layer in layers for count in layer.layers),
        np.concatenate([layer.picture for layer in layers]),
    )


def _closed_around(image: Float[Tensor, "D r c"]) -> Float[Tensor, "D r wide"]:
    """Return an image of the grid with two more columns from the other end on either side."""
    return torch.cat([image[..., -2:], image, image[..., :2]], dim=-1)


def _sampled(
    image: Float[Tensor, "r c"], u: Float[Tensor, "R C"], v: Float[Tensor, "R C"]
) -> Float[Tensor, "R C"]:
    """Return values of the grid at (u, v)."""
    columns = image.shape[1]
    places = torch.stack([(u * columns + 2) / (columns + 4), v])
    return sample_texture(_closed_around(image[None]), places)[0]


def _upsampled(image: Float[Tensor, "r c D"]) -> Float[Tensor, "R C D"]:
    """Return values of a grid at all texels of a layer."""
    columns = image.shape[1]
    wide = _closed_around(image.permute(2, 0, 1))
    width = round(_WIDE * (columns + 4) / columns)
    large = F.interpolate(wide[None], (_TALL, width), mode="bilinear", align_corners=False)[0]
    start = (width - _WIDE) // 2
    return large[..., start : start + _WIDE].permute(1, 2, 0)


def _surface(radius: Float[Tensor, "r c"], rows: int, columns: int) -> Float[Tensor, "R C 3"]:
    """Return the surface in the middles of the cells of a grid, head space, metres."""
    v, u = torch.meshgrid(
        (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij"
    )
    origin, direction = rays.rays(u, v)
    return origin + direction * _sampled(radius, u, v)[..., None]


def _grid_normals(points: Float[Tensor, "r c 3"]) -> Float[Tensor, "r c 3"]:
    """Return unit normals of a surface on a grid whose ends touch."""
    around = points.roll(-1, 1) - points.roll(1, 1)
    tall = torch.cat([points[:1], points, points[-1:]])
    return F.normalize(torch.linalg.cross(tall[2:] - tall[:-2], around), dim=-1)


def _corner_normals(
    points: Float[Tensor, "N 3"], triangles: Int[Tensor, "T 3"]
) -> Float[Tensor, "N 3"]:
    """Return unit normals of the corners of the cells: alike where corners coincide."""
    normals = vertex_normals(points, triangles).view(_ROWS + 1, _COLUMNS + 1, 3)
    seam = F.normalize(normals[:, :1] + normals[:, -1:], dim=-1)
    normals = torch.cat([seam, normals[:, 1:-1], seam], dim=1)
    normals[0] = F.normalize(normals[1].mean(0), dim=-1)
    return normals.flatten(0, 1)
