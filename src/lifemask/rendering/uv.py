"""Textures from photos: rasterise in texture space and look up what each texel shows."""

import math
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

# Samples along the longer axis of what a texel covers.
_SAMPLES = 4


@dataclass(frozen=True)
class UnwrappedPhoto:
    """A photo in texture space; zero in texels without a triangle."""

    texture: Float[Tensor, "*batch C R R"]
    """What the photo shows where the texel lies, seen or not; zero outside the photo."""
    visibility: Float[Tensor, "*batch R R"]
    """From 0 (hidden, facing away, or outside the photo) to 1 (seen)."""
    cosine: Float[Tensor, "*batch R R"]
    """Cosine between the normal and the direction to the camera, at least 0."""


def rasterize_uv(
    uv: Float[Tensor, "U 2"],
    uv_triangles: Int[Tensor, "T 3"],
    resolution: int,
    *,
    backend: BackendName = "auto",
) -> Fragments:
    """Return the fragments of a square texture: which triangle each texel centre lies on.

    Depends only on the topology, so compute it once. Interpolating vertex attributes over these
    fragments bakes them into a texture.

    Args:
        uv: texture coordinates in [0, 1], origin at the top left.
        resolution: texels along each side.
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
    """Return the photo as a texture of the mesh, and how well each texel is seen.

    A texel is hidden if the surface drawn at its image point is nearer than the texel by more than
    the margin; visibility falls from 1 to 0 while that distance goes from one to two margins,
    and is averaged over the four nearest pixels. The margin grows with the slope of the surface by
    what the depth changes within a pixel. Where a texel covers several pixels the photo is averaged
    over as many, and over more along the direction in which the surface is foreshortened less
    (several trilinear samples in a pyramid of halved photos). Gradients flow to the photo's colours
    and to the vertices and the camera through `texture`; visibility and cosine have none.

    Args:
        photo: any number of channels; the batch axes are also those of mesh and camera, which
            broadcast.
        mesh: needs `uv` and `uv_triangles`; vertices in head space.
        camera: of the photo; `image_size` is (H, W).
        uv_fragments: `rasterize_uv` of the mesh's uv at the texture's resolution.
        margin_metres: errors of geometry that must not count as hidden.
        magnification: "bicubic" or "bilinear" where a pixel covers several texels.

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
    batch = photo.shape[:-3]
    vertices = mesh.vertices.expand(*batch, *mesh.vertices.shape[-2:])
    in_camera = camera.to_camera(vertices)
    covered = uv_fragments.mask
    maps = _over_texture(
        torch.cat([in_camera, vertex_normals(in_camera, mesh.triangles)], dim=-1),
        mesh.triangles,
        uv_fragments,
        backend,
    )
    position, normal = maps[..., :3, :, :], maps[..., 3:, :, :].detach()
    resolution = covered.shape[-1]
    texels = position.flatten(-2).transpose(-1, -2)
    image_points = camera.project_from_camera(texels).transpose(-1, -2)
    image_points = image_points.unflatten(-1, (resolution, resolution))
    depth = image_points[..., 2, :, :].detach()
    drawable = covered & (depth > 0)
    xy = torch.where(drawable.unsqueeze(-3), image_points[..., :2, :, :], -1.0)

    drawn_points = camera.project_from_camera(in_camera.detach())
    longer, shorter = _footprint(drawn_points, mesh, uv_fragments)
    texture = _sample_pyramid(photo, xy, longer, shorter, magnification) * drawable.unsqueeze(-3)

    with torch.no_grad():
        towards = -torch.nn.functional.normalize(position, dim=-3)
        cosine = (torch.nn.functional.normalize(normal, dim=-3) * towards).sum(-3)
        cosine = cosine.clamp(min=0) * drawable
        # How much the depth of the surface changes within a pixel, at most as at 80 degrees.
        tangent = (1 / cosine.clamp(min=math.cos(math.radians(80))) ** 2 - 1).sqrt()
        slope = depth / camera.focal_pixels[..., None, None] * tangent
        drawn = rasterize(
            drawn_points,
            mesh.triangles,
            camera.image_size,
            cull="none",
            backend=backend,
        )
        seen = _seen(drawn.depth, xy, depth, margin_metres + slope)
        inside = ((xy >= 0) & (xy <= xy.new_tensor([width, height])[:, None, None])).all(-3)
        facing = _faces_camera(in_camera, mesh.triangles, uv_fragments)
        visibility = seen * (inside & drawable & facing & (cosine > 0))
    return UnwrappedPhoto(texture, visibility, cosine)


def _over_texture(
    attributes: Tensor, triangles: Tensor, uv_fragments: Fragments, backend: BackendName
) -> Tensor:
    """Interpolate (*batch,V,C) over one texture's fragments: (*batch,C,R,R)."""
    batch, (count, channels) = attributes.shape[:-2], attributes.shape[-2:]
    # The batch becomes channels, because all images share the texture's fragments.
    flat = attributes.reshape(-1, count, channels).transpose(0, 1).reshape(count, -1)
    image = interpolate(flat, triangles, uv_fragments, backend=backend)
    return image.view(*batch, channels, *image.shape[-2:])


def _per_texel(values: Tensor, uv_fragments: Fragments) -> Tensor:
    """Return a value of each triangle (*batch,T) at the texels it covers: (*batch,R,R)."""
    return values[..., uv_fragments.triangle_index.clamp(min=0)]


def _footprint(image_points: Tensor, mesh: Mesh, uv_fragments: Fragments) -> tuple[Tensor, Tensor]:
    """Return what a texel covers in the photo, as an ellipse.

    Returns:
        its longer axis (*batch,2,R,R) as a vector, and the length of its shorter one (*batch,R,R),
        both in pixels; a round texel as large as a pixel has axes of length one.
    """
    if mesh.uv is None or mesh.uv_triangles is None:
        raise ValueError("The mesh has no uv; give it uv and uv_triangles to unwrap a photo.")
    resolution = uv_fragments.depth.shape[-1]
    edges = _edges(image_points[..., :2], mesh.triangles)
    texel_edges = _edges(mesh.uv.to(image_points) * resolution, mesh.uv_triangles)
    # The derivative of the image point by the texel, constant on a triangle; zero if degenerate.
    determinant = torch.linalg.det(texel_edges)[..., None, None]
    usable = determinant.abs() > 1e-9
    (a, b), (c, d) = (row.unbind(-1) for row in texel_edges.unbind(-2))
    adjugate = torch.stack([d, -b, -c, a], dim=-1).unflatten(-1, (2, 2))
    inverse = adjugate / torch.where(usable, determinant, torch.inf)
    derivative = (edges @ inverse).nan_to_num(0.0)
    squared = derivative.transpose(-1, -2) @ derivative
    mean = (squared[..., 0, 0] + squared[..., 1, 1]) / 2
    difference = (squared[..., 0, 0] - squared[..., 1, 1]) / 2
    radius = torch.hypot(difference, squared[..., 0, 1])
    angle = torch.atan2(squared[..., 0, 1], difference) / 2
    longer = derivative @ torch.stack([angle.cos(), angle.sin()], dim=-1)[..., None]
    shorter = (mean - radius).clamp(min=0).sqrt()
    along = [_per_texel(longer[..., k, 0], uv_fragments) for k in range(2)]
    return torch.stack(along, dim=-3), _per_texel(shorter, uv_fragments)


def _edges(points: Tensor, triangles: Tensor) -> Tensor:
    """Return two edges of each triangle in the plane as the columns of (*batch,T,2,2)."""
    a, b, c = (points[..., triangles[:, k], :] for k in range(3))
    return torch.stack([b - a, c - a], dim=-1)


def _faces_camera(in_camera: Tensor, triangles: Tensor, uv_fragments: Fragments) -> Tensor:
    """Return whether each texel's triangle shows its outside to the camera."""
    a, b, c = (in_camera[..., triangles[:, k], :] for k in range(3))
    towards = -(torch.linalg.cross(b - a, c - a) * a).sum(-1)
    return _per_texel(towards, uv_fragments) > 0


def _seen(drawn: Tensor, xy: Tensor, depth: Tensor, margin: Tensor) -> Tensor:
    """Return how much of the four pixels around each texel's image point lets it be seen."""
    height, width = drawn.shape[-2:]
    x, y = (xy - 0.5).unbind(-3)
    left, top = x.floor(), y.floor()
    seen = torch.zeros_like(depth)
    flat = drawn.flatten(-2)
    for column, across in ((left, left + 1 - x), (left + 1, x - left)):
        for row, down in ((top, top + 1 - y), (top + 1, y - top)):
            pixel = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            surface = flat.gather(-1, pixel.long().flatten(-2)).view_as(depth)
            clear = (2 - (depth - surface) / margin).clamp(0, 1)
            # A pixel beside the mesh shows something else, which spoils a texel that reaches into it.
            seen += across * down * clear * (surface > 0)
    return seen


def _sample_pyramid(
    photo: Tensor, xy: Tensor, longer: Tensor, shorter: Tensor, magnification: str
) -> Tensor:
    """Return the photo at image points, averaged over the ellipse with these axes.

    A level of a pyramid of halved photos covers the shorter axis and some samples the longer one.
    """
    batch, channels = photo.shape[:-3], photo.shape[-3]
    level_image = photo.reshape(-1, *photo.shape[-3:])
    length = longer.norm(dim=-3)
    size = torch.maximum(shorter, length / _SAMPLES).clamp(min=1)
    beyond = (length**2 - size**2).clamp(min=0).sqrt() / length.clamp(min=1e-9)
    spread = longer * beyond.unsqueeze(-3)
    level = size.log2().reshape(-1, 1, *size.shape[-2:])
    result = level.new_zeros(level.shape[0], channels, *level.shape[-2:])
    highest = min(math.ceil(float(level.max())), int(math.log2(max(photo.shape[-2:]))))
    level = level.clamp(max=highest)
    samples = _SAMPLES if float(beyond.max()) > 0.1 else 1
    for k in range(highest + 1):
        weight = (1 - (level - k).abs()).clamp(min=0) / samples
        extent = level_image.new_tensor([level_image.shape[-1], level_image.shape[-2]]) * 2**k
        for sample in range(samples):
            points = xy + spread * ((sample + 0.5) / samples - 0.5)
            points = points.reshape(-1, *points.shape[-3:]).permute(0, 2, 3, 1)
            result = result + weight * torch.nn.functional.grid_sample(
                level_image,
                points / extent * 2 - 1,
                mode=magnification if k == 0 else "bilinear",
                padding_mode="border",
                align_corners=False,
            )
        if k < highest:
            level_image = torch.nn.functional.avg_pool2d(
                level_image, 2, ceil_mode=True, count_include_pad=False
            )
    return result.view(*batch, *result.shape[-3:])
