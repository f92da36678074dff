"""Textures as fine as a large photo, made in tiles from a texture of moderate size and the photo.

A large photo adds only detail to the texture of 2048 texels: each texel is multiplied by the ratio
of the photo's colour there to its colour in the moderate texture. Light, hair, irises and completed
skin are enlarged.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.meshes import Mesh
from lifemask.io.colour import pixels_from_image
from lifemask.rendering import Fragments, interpolate, rasterize

SIZES = (2048, 4096, 8192)
"""Texels along each side to choose from; the last is 200 megabytes without compression."""
_TILE = 512
"""Texels along each side of a tile."""
_MARGIN = 4
"""Pixels of margin around a part of the photo, for interpolation."""
_OFFSET = 0.055
"""sRGB plus this is about a power of linear light; a change of light is then a factor."""
_MOST_CHANGE = 4.0
"""Largest factor or divisor of detail on sRGB values."""
_LARGEST_SHARE = 0.95
"""Share of the visible face's texels that must not be larger than a pixel."""


def size_for_photo(pixels_per_texel: Float[Tensor, "N"]) -> int:
    """Return the smallest size whose texels are no larger than a pixel on the visible face.

    If none is fine enough, it returns the largest size.

    Args:
        pixels_per_texel: longer extent in the photo of each texel of the visible face, for a
            texture with one texel along each side.
    """
    if not len(pixels_per_texel):
        return SIZES[0]
    needed = float(pixels_per_texel.quantile(_LARGEST_SHARE))
    return next((size for size in SIZES if size >= needed), SIZES[-1])


def enlarged_texture(
    texture: UInt8[np.ndarray, "r r 3"], resolution: int
) -> UInt8[np.ndarray, "R R 3"]:
    """Return an sRGB texture at a larger size, without more detail."""
    large = np.empty((resolution, resolution, 3), np.uint8)
    image, scale = Image.fromarray(texture), len(texture) / resolution
    for top in range(0, resolution, _TILE):
        rows = min(_TILE, resolution - top)
        large[top : top + rows] = _enlarged(image, (top, 0), (rows, resolution), scale)
    return large


def add_photo_detail(
    texture: UInt8[np.ndarray, "R R 3"],
    pixels: UInt8[np.ndarray, "H W 3"],
    mesh: Mesh,
    camera: PerspectiveCamera,
    *,
    coarse_photo: Float[Tensor, "3 r r"],
    share: Float[Tensor, "r r"],
) -> None:
    """Give an enlarged texture the detail of the photo, in place.

    Args:
        texture: sRGB.
        pixels: the photo, sRGB.
        mesh: the head as in the photo, with uv.
        camera: the photo's.
        coarse_photo: linear RGB of the photo, unwrapped at the size before enlargement.
        share: how much of each texel's colour comes from the photo, 0 to 1.
    """
    size = len(texture)
    scale = share.shape[-1] / size
    amounts = share.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    amount_image = Image.fromarray(amounts)
    photo_image = Image.fromarray(pixels_from_image(coarse_photo))
    atlas = _Atlas(mesh, camera, size)
    for top in range(0, size, _TILE):
        for left in range(0, size, _TILE):
            corner, extent = (top, left), (min(_TILE, size - top), min(_TILE, size - left))
            bottom, right = top + extent[0], left + extent[1]
            rows = slice(int(top * scale), int(bottom * scale) + 1)
            columns = slice(int(left * scale), int(right * scale) + 1)
            if not amounts[rows, columns].any():
                continue
            amount = torch.from_numpy(_enlarged(amount_image, corner, extent, scale)) / 255
            points, covered = atlas.in_photo(corner, extent)
            where = (amount > 0) & covered
            if not bool(where.any()):
                continue
            change = _photo_at(pixels, points, where).add_(_OFFSET)
            change /= _channels(_enlarged(photo_image, corner, extent, scale)).add_(_OFFSET)
            change.clamp_(1 / _MOST_CHANGE, _MOST_CHANGE).sub_(1).mul_(amount * where).add_(1)
            tile = texture[top:bottom, left:right]
            after = _channels(tile).add_(_OFFSET).mul_(change).sub_(_OFFSET).clamp_(0, 1)
            tile[...] = after.mul_(255).round_().to(torch.uint8).permute(1, 2, 0).numpy()


class _Atlas:
    """The positions of a texture's texels in a photo, one tile at a time."""

    def __init__(self, mesh: Mesh, camera: PerspectiveCamera, size: int) -> None:
        assert mesh.uv is not None, "A mesh without uv has no texture."
        assert mesh.uv_triangles is not None, "A mesh without uv has no texture."
        self._camera = camera
        self._in_camera = camera.to_camera(mesh.vertices)
        self._triangles, self._uv_triangles = mesh.triangles, mesh.uv_triangles
        self._texels = mesh.uv * size
        corners = self._texels[mesh.uv_triangles]
        self._low, self._high = corners.amin(1), corners.amax(1)

    def in_photo(
        self, corner: tuple[int, int], extent: tuple[int, int]
    ) -> tuple[Float[Tensor, "2 h w"], Tensor]:
        """Return image points of a tile's texels, and which of them lie on the mesh.

        Args:
            corner: row and column of the tile.
            extent: its height and width.
        """
        first = self._texels.new_tensor([corner[1], corner[0]])
        near = (self._high >= first).all(-1)
        near &= (self._low <= first + first.new_tensor([extent[1], extent[0]])).all(-1)
        points = torch.cat([self._texels - first, torch.ones_like(self._texels[:, :1])], dim=-1)
        fragments: Fragments = rasterize(points, self._uv_triangles[near], extent, cull="none")
        position = interpolate(self._in_camera, self._triangles[near], fragments)
        image_points = self._camera.project_from_camera(position.flatten(1).T)[:, :2]
        return image_points.T.reshape(2, *extent), fragments.mask


def _enlarged(
    image: Image.Image, corner: tuple[int, int], extent: tuple[int, int], scale: float
) -> UInt8[np.ndarray, "h w ..."]:
    """Return a tile of the enlarged image; neighbouring tiles have no seam.

    Args:
        corner: row and column of the tile.
        extent: its height and width.
        scale: the image's sides over the enlarged ones.
    """
    (top, left), (height, width) = corner, extent
    box = (left * scale, top * scale, (left + width) * scale, (top + height) * scale)
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def _channels(pixels: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "3 h w"]:
    """Return sRGB values in [0, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)


def _photo_at(
    pixels: UInt8[np.ndarray, "H W 3"], points: Float[Tensor, "2 h w"], where: Tensor
) -> Float[Tensor, "3 h w"]:
    """Return sRGB colours of the photo; only the part that is needed is read and reduced.

    Args:
        points: x and y in pixels.
        where: which points are needed.
    """
    wanted = points[:, where]
    low, high = (wanted.amin(-1) - _MARGIN).tolist(), (wanted.amax(-1) + _MARGIN).tolist()
    height, width = pixels.shape[:2]
    left, top = (min(max(int(low[k]), 0), (width, height)[k] - 1) for k in range(2))
    right = min(max(int(high[0]) + 1, left + 1), width)
    bottom = min(max(int(high[1]) + 1, top + 1), height)
    part = np.ascontiguousarray(pixels[top:bottom, left:right])
    steps = (points[:, :, 1:] - points[:, :, :-1]).norm(dim=0)[where[:, 1:] & where[:, :-1]]
    coarser = float(steps.median()) if len(steps) else 1.0
    if coarser > 1:
        # Texels larger than a pixel show the mean of several pixels.
        size = (max(1, round(part.shape[1] / coarser)), max(1, round(part.shape[0] / coarser)))
        part = np.array(Image.fromarray(part).resize(size, Image.Resampling.BICUBIC))
    corner, extent = points.new_tensor([left, top]), points.new_tensor([right - left, bottom - top])
    grid = ((points.permute(1, 2, 0) - corner) / extent * 2 - 1).clamp_(-2, 2)
    return torch.nn.functional.grid_sample(
        _channels(part)[None], grid[None], "bicubic", "border", align_corners=False
    )[0].clamp_(0, 1)
