"""Interpolate attributes of vertices over the pixels that show them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.rendering.backends import BackendName, check_indices, load_backend
from lifemask.rendering.fragments import Fragments


def interpolate(
    attributes: Float[Tensor, "*batch V C"],
    triangles: Int[Tensor, "T 3"],
    fragments: Fragments,
    *,
    backend: BackendName = "auto",
) -> Float[Tensor, "*image_batch C H W"]:
    """Return attributes at each pixel, perspective-correct; zero where there is no triangle.

    Gradients flow to the attributes and, through the fragments, to the image points.

    Args:
        attributes: any quantity per vertex; its batch axes broadcast against the fragments'.
        triangles: indices into `attributes`. Each row belongs to the same row of the rasterised
            triangles; the indices may differ, as in `Mesh.uv_triangles` for texture coordinates.
        fragments: from `rasterize` or `rasterize_uv`.
        backend: as for `rasterize`.

    Raises:
        IndexError: a triangle names a vertex, or a fragment a triangle, that does not exist.
    """
    batch = fragments.triangle_index.shape[:-2]
    size = fragments.triangle_index.shape[-2:]
    if attributes.shape[:-2].numel() == 1:
        attributes = attributes.reshape(1, *attributes.shape[-2:])
    else:
        attributes = attributes.expand(*batch, *attributes.shape[-2:])
        attributes = attributes.reshape(batch.numel(), *attributes.shape[-2:])
    corners = triangles.to(torch.int64).contiguous()
    check_indices(corners, attributes.shape[-2])
    program = load_backend(backend, attributes.device)
    image = program.interpolate(
        attributes,
        corners,
        fragments.triangle_index.reshape(batch.numel(), *size),
        fragments.barycentric.reshape(batch.numel(), *size, 3).to(attributes.dtype),
    )
    return image.reshape(*batch, attributes.shape[-1], *size)
