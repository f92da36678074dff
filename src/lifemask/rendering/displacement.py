"""Converts displacement in UV to normals, for drawn faces, losses, detail and export alike.

Points move by h along the unit normal n. The displaced surface has, to first order in h, the normal
n - grad h, where grad h is the gradient of h along the surface (Blinn, "Simulation of wrinkled
surfaces", SIGGRAPH 1978). Everything here is differentiable.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.geometry.meshes import Mesh

_TEXTURE_METRES = 0.27
"""Width of the texture on the face of a person, about."""
_NARROWEST_GROOVE, _WIDEST_GROOVE = 0.001, 0.01
"""Width of grooves that hide light, metres."""

_SHORTEST = 0.01
"""Metres per width of a texture; triangles that are smaller in space have no direction."""


def displacement_slopes(displacement: Float[Tensor, "*batch R R"]) -> Float[Tensor, "*batch 2 R R"]:
    """Return the derivatives by u and by v (down), in metres per width of the texture.

    They are central differences; texels at the border are repeated.

    Args:
        displacement: metres along the normal.
    """
    images = displacement.reshape(-1, 1, *displacement.shape[-2:])
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")[:, 0]
    scale = displacement.shape[-1] / 2
    by_u = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * scale
    by_v = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * scale
    return torch.stack([by_u, by_v], 1).reshape(
        *displacement.shape[:-2], 2, *displacement.shape[-2:]
    )


def groove_visibility(
    displacement: Float[Tensor, "*batch R R"], texel: float | None = None
) -> Float[Tensor, "*batch R R"]:
    """Return the share of the light around that reaches the bottom of each texel's groove, 0 to 1.

    A point that lies lower than its surroundings by half of a V's depth sees the cosine of the
    walls' angle of the sky (Langer and Zucker, "Shape-from-shading on a cloudy day", 1994: dark is
    deep). The V's widths are powers of two of the texels; the darkest width counts.

    Args:
        displacement: metres along the normal.
        texel: side of a texel in metres; None for about that of the texture of a face.
    """
    size = displacement.shape[-1]
    height = displacement.reshape(-1, 1, size, size)
    if texel is None:
        texel = _TEXTURE_METRES / size
    steepest = torch.zeros_like(height)
    mean, width = height, 1
    while 2 * width * texel <= _WIDEST_GROOVE and mean.shape[-1] >= 4:
        mean, width = F.avg_pool2d(mean, 2, ceil_mode=True), 2 * width
        if width * texel < _NARROWEST_GROOVE:
            continue
        around = F.interpolate(mean, (size, size), mode="bilinear", align_corners=False)
        steepest = torch.maximum(steepest, (around - height) * (4 / (width * texel)))
    return (1 + steepest.square()).rsqrt().reshape(displacement.shape)


def texture_gradients(
    vertices: Float[Tensor, "*batch V 3"],
    triangles: Int[Tensor, "T 3"],
    uv: Float[Tensor, "U 2"],
    uv_triangles: Int[Tensor, "T 3"],
) -> tuple[Float[Tensor, "*batch T 3"], Float[Tensor, "*batch T 3"]]:
    """Return the gradients of u and of v along each triangle, widths of the texture per metre.

    Args:
        vertices: metres, in any axes; the gradients are in the same axes.
        triangles: vertex indices.
        uv: texture coordinates in [0, 1].
        uv_triangles: indices into `uv` of the triangles' corners.
    """
    a, b, c = (vertices[..., triangles[:, k], :] for k in range(3))
    first, second = b - a, c - a
    pa, pb, pc = (uv[uv_triangles[:, k]] for k in range(3))
    uv1, uv2 = pb - pa, pc - pa
    cross = torch.linalg.cross(first, second)
    squared = (cross * cross).sum(-1, keepdim=True).clamp(min=1e-18)
    # Reciprocal basis of the triangle's two edges, in its plane.
    dual1 = torch.linalg.cross(second, cross) / squared
    dual2 = torch.linalg.cross(cross, first) / squared
    along_u = dual1 * uv1[:, :1] + dual2 * uv2[:, :1]
    along_v = dual1 * uv1[:, 1:] + dual2 * uv2[:, 1:]
    return along_u, along_v


def displaced_normals(
    normals: Float[Tensor, "3 *image"],
    slopes: Float[Tensor, "2 *image"],
    gradient_u: Float[Tensor, "3 *image"],
    gradient_v: Float[Tensor, "3 *image"],
    *,
    share: Float[Tensor, "*image"] | float = 1.0,
) -> Float[Tensor, "3 *image"]:
    """Return the unit normals of the displaced surface.

    Args:
        normals: unit normals of the smooth surface.
        slopes: as `displacement_slopes` returns them.
        gradient_u: gradient of u along the surface, in the axes of the normals.
        gradient_v: the same of v.
        share: part of the displacement that counts, 0 to 1; it is less on wet surfaces.
    """
    gradient = slopes[0] * gradient_u + slopes[1] * gradient_v
    tilted = normals - (gradient - (gradient * normals).sum(0) * normals) * share
    return tilted * (tilted * tilted).sum(0).clamp(min=1e-18).rsqrt()


def vertex_tangents(mesh: Mesh) -> tuple[Float[Tensor, "V 3"], Float[Tensor, "V 3"]]:
    """Return the derivatives of the position by u and by v (down) at vertices, metres per width.

    They are means over the triangles around each vertex, weighted by area in the texture.

    Args:
        mesh: with uv, no batch.

    Raises:
        ValueError: the mesh has no uv.
    """
    if mesh.uv is None or mesh.uv_triangles is None:
        raise ValueError("The mesh has no uv; give it uv and uv_triangles.")
    a, b, c = (mesh.vertices[mesh.triangles[:, k]] for k in range(3))
    pa, pb, pc = (mesh.uv[mesh.uv_triangles[:, k]] for k in range(3))
    (u1, v1), (u2, v2) = (pb - pa).T, (pc - pa).T
    area = (u1 * v2 - u2 * v1)[:, None]
    by_u = (b - a) * v2[:, None] - (c - a) * v1[:, None]
    by_v = (c - a) * u1[:, None] - (b - a) * u2[:, None]
    rows = torch.cat([by_u, by_v, area], 1) * area.sign()
    total = mesh.vertices.new_zeros(len(mesh.vertices), 7)
    for k in range(3):
        total.index_add_(0, mesh.triangles[:, k], rows)
    mean = total[:, :6] / total[:, 6:].clamp(min=1e-12)
    return mean[:, :3], mean[:, 3:]


def tangent_normals(
    displacement: Float[Tensor, "R R"],
    along_u: Float[Tensor, "3 #R #R"],
    along_v: Float[Tensor, "3 #R #R"],
    *,
    steepest: float | None = None,
) -> Float[Tensor, "3 R R"]:
    """Return a normal map in the tangent space of MikkTSpace, as glTF wants it.

    x is the direction of u, z the normal, and y completes them, near the direction of -v.

    Args:
        displacement: metres along the normal.
        along_u: derivative of the position by u, metres per width of the texture, in any axes.
        along_v: the same by v.
        steepest: largest slope along either axis; None for no limit.
    """
    by_u, by_v = displacement_slopes(displacement).unbind(-3)
    normal = F.normalize(torch.linalg.cross(along_v, along_u, dim=0), dim=0, eps=1e-12)
    tangent = F.normalize(along_u, dim=0, eps=1e-12)
    across = torch.linalg.cross(normal, tangent, dim=0)
    right = by_u / along_u.norm(dim=0).clamp(min=_SHORTEST)
    downwards = (along_v * across).sum(0).clamp(max=-_SHORTEST)
    up = (by_v - right * (along_v * tangent).sum(0)) / downwards
    if steepest is not None:
        right, up = right.clamp(-steepest, steepest), up.clamp(-steepest, steepest)
    return F.normalize(torch.stack([-right, -up, torch.ones_like(up)]), dim=0)
