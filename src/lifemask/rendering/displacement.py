"""Converts displacement in UV to normals, for drawn faces, losses, detail and export alike.

Points move by h along the unit normal n. The displaced surface has, to first order in h, the normal
n - grad h, where grad h is the gradient of h along the surface (Blinn, "Simulation of wrinkled
surfaces", SIGGRAPH 1978). Everything here is differentiable.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


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


def tangent_normals(
    displacement: Float[Tensor, "R R"], *, width_metres: float, steepest: float | None = None
) -> Float[Tensor, "3 R R"]:
    """Return a tangent-space normal map: x along u, y along -v, z out of the surface.

    Args:
        displacement: metres along the normal.
        width_metres: length on the surface that the whole width of the texture covers.
        steepest: largest slope along either axis; None for no limit.
    """
    slopes = displacement_slopes(displacement)
    if steepest is not None:
        slopes = slopes.clamp(-steepest * width_metres, steepest * width_metres)
    shape = (3, *displacement.shape)

    def along(axis: tuple[float, float, float]) -> Tensor:
        return displacement.new_tensor(axis)[:, None, None].expand(shape)

    along_u, along_v = (1 / width_metres, 0.0, 0.0), (0.0, -1 / width_metres, 0.0)
    return displaced_normals(along((0.0, 0.0, 1.0)), slopes, along(along_u), along(along_v))
