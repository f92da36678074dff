"""Find the nearest triangle at each pixel, differentiably in the corners' positions."""

from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.rendering.backends import BackendName, Cull, check_indices, load_backend
from lifemask.rendering.fragments import Fragments


def rasterize(
    image_points: Float[Tensor, "*batch V 3"],
    triangles: Int[Tensor, "T 3"],
    image_size: tuple[int, int],
    *,
    cull: Cull = "back",
    backend: BackendName = "auto",
) -> Fragments:
    """Return the nearest triangle at each pixel centre.

    Gradients flow from the barycentric weights and the depth to x, y and depth of the image
    points; the triangle index has no gradient (see `silhouettes`). Coverage is decided with corners
    snapped to 1/256 pixel and a top-left rule; triangles that share an edge neither overlap nor
    leave gaps. Of equally near triangles the first is kept. A triangle is left out if a corner has
    depth zero or less, is not finite, or lies more than 65536 pixels outside the image.

    Args:
        image_points: x and y in pixels, pixel centres at +0.5, and depth in metres, as
            `PerspectiveCamera.project` returns them.
        triangles: vertex indices, counter-clockwise seen from outside.
        image_size: (height, width) in pixels.
        cull: "back" leaves out triangles that show their inside, "front" those that show their
            outside.
        backend: "torch" (any device; the reference), "numba" (CPU), or "auto".

    Raises:
        ValueError: an unknown option, a bad image size, or a backend that cannot use the device.
        IndexError: a triangle names a vertex that does not exist.
    """
    if cull not in get_args(Cull):
        raise ValueError(f"Unknown cull {cull!r}. Known: {sorted(get_args(Cull))}.")
    height, width = image_size
    if not (0 < height <= 32768 and 0 < width <= 32768):
        raise ValueError(
            f"Cannot rasterise an image of height {height} and width {width}: "
            "each must be from 1 to 32768 pixels."
        )
    batch = image_points.shape[:-2]
    points = image_points.reshape(batch.numel(), *image_points.shape[-2:])
    corners = triangles.to(torch.int64).contiguous()
    check_indices(corners, image_points.shape[-2])
    program = load_backend(backend, image_points.device)
    index, barycentric, depth = program.rasterize(points, corners, height, width, cull)
    return Fragments(
        index.view(*batch, height, width),
        barycentric.view(*batch, height, width, 3),
        depth.view(*batch, height, width),
    )
