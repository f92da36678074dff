"""Textures from photos: rasterise in texture space and sample the photo at each texel."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.meshes import Mesh, vertex_normals
from lifemask.rendering.backends import BackendName
from lifemask.rendering.fragments import Fragments
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize

# Samples along the longer axis of the ellipse that a texel covers.
_SAMPLES = 4
# Texels that are processed at once, so that memory does not grow with the texture.
_TEXELS_AT_ONCE = 500_000
# Longer side of the depth image that decides which texels are hidden.
_DEPTH_PIXELS = 2048


@dataclass(frozen=True)
class UnwrappedPhoto:
    """A photo in texture space; zero in texels without a triangle."""

    texture: Float[Tensor, "*batch C R R"]
    """The photo's value at each texel; zero where the texel is not visible."""
    visibility: Float[Tensor, "*batch R R"]
    """From 0 (hidden, facing away, or outside the photo) to 1 (visible)."""
    cosine: Float[Tensor, "*batch R R"]
    """Cosine between the normal and the direction to the camera, at least 0."""


def texel_extent(
    mesh: Mesh, camera: PerspectiveCamera, *, resolution: int
) -> tuple[Float[Tensor, "2 T"], Float[Tensor, "T"]]:
    """Return the ellipse that texels of each triangle cover in a camera's photo.

    Args:
        mesh: with uv, no batch.
        camera: the photo's.
        resolution: texels along each side.

    Returns:
        Its longer axis as a vector and the length of its shorter one, pixels.
    """
    assert mesh.uv is not None, "A mesh without uv has no texels."
    assert mesh.uv_triangles is not None, "A mesh without uv has no texels."
    image_points = camera.project(mesh.vertices)
    return _footprint(image_points, mesh.triangles, mesh.uv * resolution, mesh.uv_triangles)


def rasterize_uv(
    uv: Float[Tensor, "U 2"],
    uv_triangles: Int[Tensor, "T 3"],
    resolution: int,
    *,
    backend: BackendName = "auto",
) -> Fragments:
    """Return the fragments of a square texture: the triangle on which each texel centre lies.

    They depend only on the topology: compute them once. Vertex attributes interpolated over these
    fragments become a texture.

    Args:
        uv: texture coordinates in [0, 1], origin at the top left.
        uv_triangles: indices into `uv`.
        resolution: texels along each side.
        backend: as for `rasterize`.
    """
    points = torch.cat([uv * resolution, torch.ones_like(uv[:, :1])], dim=-1)
    return rasterize(points, uv_triangles, (resolution, resolution), cull="none", backend=backend)


def unwrap_photo(
    photo: Float[Tensor, "*batch C H W"],
    mesh: Mesh,
    camera: PerspectiveCamera,
    uv_fragments: Fragments,
    *,
    margin_metres: float = 0.003,
    magnification: str = "bicubic",
    backend: BackendName = "auto",
) -> UnwrappedPhoto:
    """Return the photo as a texture of the mesh, and the visibility of each texel.

    A texel is hidden if the surface drawn at its image point is nearer than the texel by more than
    the margin: visibility falls from 1 to 0 while this distance grows from one to two margins. It
    is averaged over the four nearest pixels of a depth image of at most 2048 pixels along each
    side; a pixel beside the mesh counts as hiding. On sloped surfaces, the margin grows by the
    change of depth within a pixel. If a texel covers several pixels, the photo is averaged over
    them, and over more along the direction in which the surface is foreshortened less (several
    trilinear samples in a pyramid of halved photos). Gradients flow from `texture` to the photo's
    colours, the vertices and the camera; visibility and cosine have none.

    Args:
        photo: any number of channels; the batch axes are also those of mesh and camera, which
            broadcast.
        mesh: needs `uv` and `uv_triangles`; vertices in head space.
        camera: the photo's; `image_size` is (H, W).
        uv_fragments: `rasterize_uv` of the mesh's uv at the texture's resolution.
        margin_metres: errors of geometry up to this size do not hide texels.
        magnification: "bicubic" or "bilinear"; how to interpolate if a pixel covers several texels.

    Raises:
        ValueError: the mesh has no uv, or photo and camera differ in size.
    """
    height, width = photo.shape[-2:]
    if camera.image_size != (height, width):
        raise ValueError(
            f"The photo has height and width {(height, width)}, the camera {camera.image_size}; "
            "crop the camera with `camera.cropped` as the photo was."
        )
    if magnification not in ("bicubic", "bilinear"):
        raise ValueError(
            f"Unknown magnification {magnification!r}. Known: ['bicubic', 'bilinear']."
        )
    if mesh.uv is None or mesh.uv_triangles is None:
        raise ValueError("The mesh has no uv; give it uv and uv_triangles to unwrap a photo.")
    view = _view(
        photo, mesh, camera, uv_fragments.depth.shape[-1], margin_metres, magnification, backend
    )
    bands = [_unwrapped_rows(view, part) for part in _bands(uv_fragments)]
    return UnwrappedPhoto(*(torch.cat(parts, dim=-2) for parts in zip(*bands, strict=True)))


@dataclass(frozen=True)
class _View:
    """A mesh before the camera of a photo: the values that all rows of its texture share."""

    camera: PerspectiveCamera
    triangles: Tensor
    in_camera: Tensor
    """(*batch,V,3) vertices in camera axes, metres."""
    normals: Tensor
    """(*batch,V,3) unit, camera axes."""
    faces_camera: Tensor
    """(*batch,T) whether a triangle shows its outside."""
    depth: Tensor
    """(*batch,h,w) depth of the drawn mesh, metres; its pixels are the photo's times `scale`."""
    scale: float
    longer: Tensor
    """(*batch,2,T) and `shorter` (*batch,T): see `_footprint`."""
    shorter: Tensor
    pyramid: list[Tensor]
    """From `_pyramid` of the photo."""
    margin_metres: float
    magnification: str
    backend: BackendName


def _view(
    photo: Tensor,
    mesh: Mesh,
    camera: PerspectiveCamera,
    resolution: int,
    margin_metres: float,
    magnification: str,
    backend: BackendName,
) -> _View:
    assert mesh.uv is not None, "A mesh without uv has no texels."
    assert mesh.uv_triangles is not None, "A mesh without uv has no texels."
    batch, (height, width) = photo.shape[:-3], photo.shape[-2:]
    in_camera = camera.to_camera(mesh.vertices.expand(*batch, *mesh.vertices.shape[-2:]))
    # Which pixels a texel averages has no gradient, only where it lies.
    drawn_points = camera.project_from_camera(in_camera).detach()
    with torch.no_grad():
        normals = vertex_normals(in_camera, mesh.triangles)
        faces_camera = _faces_camera(in_camera, mesh.triangles)
        # Depth needs no more pixels than this; a large photo has 40 million.
        scale = min(1.0, _DEPTH_PIXELS / max(height, width))
        size = (math.ceil(height * scale), math.ceil(width * scale))
        reduced = drawn_points * drawn_points.new_tensor([scale, scale, 1])
        drawn = rasterize(reduced, mesh.triangles, size, cull="none", backend=backend)
    longer, shorter = _footprint(
        drawn_points, mesh.triangles, mesh.uv.to(photo) * resolution, mesh.uv_triangles
    )
    return _View(
        camera, mesh.triangles, in_camera, normals, faces_camera, drawn.depth, scale,
        longer, shorter, _pyramid(photo), margin_metres, magnification, backend,
    )  # fmt: skip


def _unwrapped_rows(view: _View, fragments: Fragments) -> tuple[Tensor, Tensor, Tensor]:
    """Return texture (*batch,C,r,R), visibility and cosine (*batch,r,R) of some rows of texels."""
    # Lists of texels: those that a triangle covers, then those that are visible.
    covered = fragments.mask.flatten().nonzero()[:, 0]
    triangle = fragments.triangle_index.flatten()[covered]
    position = _over_texture(view.in_camera, view.triangles, fragments, view.backend)[..., covered]
    points = view.camera.project_from_camera(position.transpose(-1, -2)).transpose(-1, -2)
    with torch.no_grad():
        normal = _over_texture(view.normals, view.triangles, fragments, view.backend)[..., covered]
        cosine = -(normal * position).sum(-2) / (_length(normal) * _length(position)).clamp(
            min=1e-12
        )
        visibility = _visibility(view, points, cosine, triangle)
    batch = visibility.shape[:-1]
    seen = (visibility > 0).reshape(batch.numel(), len(covered)).any(0).nonzero()[:, 0]
    xy = torch.where((visibility > 0).unsqueeze(-2), points[..., :2, :], points.new_zeros(()))[
        ..., seen
    ]
    colours = _sample_pyramid(
        view.pyramid, xy, view.longer[..., triangle[seen]], view.shorter[..., triangle[seen]],
        view.magnification,
    )  # fmt: skip
    colours = colours * (visibility[..., seen] > 0).unsqueeze(-2)
    rows, resolution = fragments.depth.shape[-2:]

    def texture(values: Tensor, where: Tensor) -> Tensor:
        empty = values.new_zeros(*values.shape[:-1], rows * resolution)
        return empty.index_copy(-1, where, values).unflatten(-1, (rows, resolution))

    return (
        texture(colours, covered[seen]),
        texture(visibility, covered),
        texture(cosine.clamp(min=0), covered),
    )


def _visibility(view: _View, points: Tensor, cosine: Tensor, triangle: Tensor) -> Tensor:
    """Return the visibility in the photo of points (*batch,3,P) of some triangles, 0 to 1."""
    x, y, depth = points.unbind(-2)
    height, width = view.camera.image_size
    usable = (depth > 0) & (cosine > 0)
    usable &= (x >= 0) & (y >= 0) & (x <= width) & (y <= height)
    usable &= view.faces_camera[..., triangle]
    # Change of the surface's depth within a pixel; the slope is limited to 80 degrees.
    tangent = (1 / cosine.clamp(min=math.cos(math.radians(80))) ** 2 - 1).sqrt()
    slope = depth / (view.camera.focal_pixels[..., None] * view.scale) * tangent
    margin = view.margin_metres + slope
    return _seen(view.depth, x * view.scale, y * view.scale, depth, margin) * usable


def _bands(fragments: Fragments) -> Iterator[Fragments]:
    """Cut a texture's fragments into bands of rows."""
    rows = max(1, _TEXELS_AT_ONCE // fragments.depth.shape[-1])
    for row in range(0, fragments.depth.shape[-2], rows):
        own = slice(row, row + rows)
        yield Fragments(
            fragments.triangle_index[own], fragments.barycentric[own], fragments.depth[own]
        )


def _over_texture(
    attributes: Tensor, triangles: Tensor, uv_fragments: Fragments, backend: BackendName
) -> Tensor:
    """Interpolate (*batch,V,C) over one texture's fragments: (*batch,C,R*R)."""
    batch, (count, channels) = attributes.shape[:-2], attributes.shape[-2:]
    # The batch becomes channels, as all images share the texture's fragments.
    flat = attributes.reshape(-1, count, channels).transpose(0, 1).reshape(count, -1)
    image = interpolate(flat, triangles, uv_fragments, backend=backend)
    return image.view(*batch, channels, -1)


def _footprint(
    image_points: Tensor,
    triangles: Tensor,
    texel_points: Tensor,
    uv_triangles: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the area that a texel covers in the photo, as an ellipse for each triangle.

    Returns:
        Its longer axis (*batch,2,T) as a vector, and the length of its shorter one (*batch,T), both
        in pixels; a round texel as large as a pixel has axes of length one.
    """
    edges = _edges(image_points[..., :2], triangles)
    texel_edges = _edges(texel_points, uv_triangles)
    # The derivative of the image point by the texel, constant on a triangle; zero if degenerate.
    (a, b), (c, d) = (row.unbind(-1) for row in texel_edges.unbind(-2))
    determinant = (a * d - b * c)[..., None, None]
    adjugate = torch.stack([d, -b, -c, a], dim=-1).unflatten(-1, (2, 2))
    inverse = adjugate / torch.where(determinant.abs() > 1e-9, determinant, torch.inf)
    derivative = (edges @ inverse).nan_to_num(0.0)
    squared = derivative.transpose(-1, -2) @ derivative
    mean = (squared[..., 0, 0] + squared[..., 1, 1]) / 2
    difference = (squared[..., 0, 0] - squared[..., 1, 1]) / 2
    radius = torch.hypot(difference, squared[..., 0, 1])
    angle = torch.atan2(squared[..., 0, 1], difference) / 2
    longer = derivative @ torch.stack([angle.cos(), angle.sin()], dim=-1)[..., None]
    return longer[..., 0].transpose(-1, -2), (mean - radius).clamp(min=0).sqrt()


def _edges(points: Tensor, triangles: Tensor) -> Tensor:
    """Return two edges of each triangle in the plane as the columns of (*batch,T,2,2)."""
    a, b, c = (points[..., triangles[:, k], :] for k in range(3))
    return torch.stack([b - a, c - a], dim=-1)


def _faces_camera(in_camera: Tensor, triangles: Tensor) -> Tensor:
    """Return whether each triangle shows its outside to the camera: (*batch,T)."""
    a, b, c = (in_camera[..., triangles[:, k], :] for k in range(3))
    return (torch.linalg.cross(b - a, c - a) * a).sum(-1) < 0


def _length(vectors: Tensor) -> Tensor:
    """Return the length along the second last axis, where torch's norm is slow."""
    return vectors.square().sum(-2).sqrt()


def _seen(drawn: Tensor, x: Tensor, y: Tensor, depth: Tensor, margin: Tensor) -> Tensor:
    """Return the weighted share of the four pixels around each image point that do not hide it."""
    height, width = drawn.shape[-2:]
    x, y = x - 0.5, y - 0.5
    left, top = x.floor(), y.floor()
    seen = torch.zeros_like(depth)
    flat = drawn.flatten(-2)
    for column, across in ((left, left + 1 - x), (left + 1, x - left)):
        for row, down in ((top, top + 1 - y), (top + 1, y - top)):
            i = row.nan_to_num(0.0).clamp(0, height - 1).long()
            j = column.nan_to_num(0.0).clamp(0, width - 1).long()
            surface = flat.gather(-1, i * width + j)
            clear = (2 - (depth - surface) / margin).clamp(0, 1)
            # A pixel beside the mesh shows something else and must not colour a texel.
            seen += across * down * clear * (surface > 0)
    # A texel on a degenerate triangle has no position in the photo and is not visible.
    return seen.nan_to_num(0.0)


def _pyramid(photo: Tensor) -> list[Tensor]:
    """Return the photos (N,C,H,W), each half as large as the one before, down to one pixel."""
    levels = [photo.reshape(-1, *photo.shape[-3:])]
    while max(levels[-1].shape[-2:]) > 1:
        levels.append(
            torch.nn.functional.avg_pool2d(levels[-1], 2, ceil_mode=True, count_include_pad=False)
        )
    return levels


def _sample_pyramid(
    pyramid: list[Tensor], xy: Tensor, longer: Tensor, shorter: Tensor, magnification: str
) -> Tensor:
    """Return photos (*batch,C,P) at image points, averaged over ellipses with these axes.

    The shorter axis chooses the pyramid's level; several samples cover the longer axis.
    """
    batch, count = xy.shape[:-2], xy.shape[-1]
    images, channels = pyramid[0].shape[:2]
    xy, longer = xy.reshape(images, 2, count), longer.reshape(images, 2, count)
    length = _length(longer)
    size = torch.maximum(shorter.reshape(images, count), length / _SAMPLES).clamp(min=1)
    beyond = (length**2 - size**2).clamp(min=0).sqrt() / length.clamp(min=1e-9)
    spread = longer * beyond.unsqueeze(-2)
    level = size.log2().clamp(max=len(pyramid) - 1)
    result = xy.new_zeros(images, channels, count)
    steps = (torch.arange(_SAMPLES, device=xy.device) + 0.5) / _SAMPLES - 0.5
    for k, image in enumerate(pyramid):
        weight = (1 - (level - k).abs()).clamp(min=0)
        # Texels that cover no more than a pixel need only one sample.
        long = (spread != 0).any(1).any(0)
        for own, offsets in ((weight.any(0) & long, steps), (weight.any(0) & ~long, steps[:1])):
            own = own.nonzero()[:, 0]
            if not own.numel():
                continue
            extent = xy.new_tensor([image.shape[-1], image.shape[-2]]) * 2**k
            points = xy[..., own, None] + spread[..., own, None] * offsets
            sampled = torch.nn.functional.grid_sample(
                image,
                points.permute(0, 2, 3, 1) / extent * 2 - 1,
                mode=magnification if k == 0 else "bilinear",
                padding_mode="border",
                align_corners=False,
            )
            result = result.index_add(-1, own, weight[:, None, own] * sampled.mean(-1))
    return result.view(*batch, channels, count)
