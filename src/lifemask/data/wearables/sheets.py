"""All triangles of the wearables in some images, in pixels: the input of both drawing backends."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.data.wearables.dressing import Dressed
from lifemask.data.wearables.pictures import Levels, Pyramids, pyramids
from lifemask.geometry.cameras import PerspectiveCamera


@dataclass(frozen=True)
class Sheets:
    """Lit triangles of all images."""

    points: Float[Tensor, "V 3"]
    """x, y in pixels and depth in metres."""
    triangles: Tensor
    """(T, 3) int64: vertex indices."""
    image: Tensor
    """(T,) int64: the image of each triangle, ascending."""
    uv: Float[Tensor, "V 2"]
    """Texture coordinates."""
    colour: Float[Tensor, "V 3"]
    """Linear RGB light that leaves each vertex where the luminance is 1."""
    opacity: Float[Tensor, "V"]
    """Factor on the pictures' opacity."""
    lift: Float[Tensor, "T"]
    """Metres by which each triangle is moved towards the camera."""
    one_sided: Tensor
    """(T,) bool: whether the inside is not drawn."""
    page: Tensor
    """(T,) int64: row of `pyramids` for the level that fits the triangle's size."""
    pyramids: Pyramids
    """All pictures."""


def gather(
    dressed: Sequence[Dressed], cameras: Sequence[PerspectiveCamera], lit: Sequence[Tensor]
) -> Sheets:
    """Return the wearables of all images as one set of triangles."""
    points, triangles, lift, sides, image, pages = [], [], [], [], [], []
    pictures: list[Levels] = []
    start = 0
    for k, (one, camera) in enumerate(zip(dressed, cameras, strict=True)):
        projected = camera.project(one.vertices)
        # Order roughly from front to back, so that hidden surfaces can be skipped early.
        order = projected[:, 2][one.triangles].amin(1).argsort(stable=True)
        points.append(projected)
        triangles.append(one.triangles[order] + start)
        lift.append(one.lift[order])
        sides.append(one.one_sided[order])
        image.append(torch.full_like(one.picture, k))
        pages.append(one.picture[order] + len(pictures))
        pictures += one.pictures
        start += len(one.vertices)
    all_points, corners = torch.cat(points), torch.cat(triangles)
    uv = torch.cat([one.uv for one in dressed])
    stack = pyramids(pictures, all_points.device)
    return Sheets(
        all_points,
        corners,
        torch.cat(image),
        uv,
        torch.cat(list(lit)),
        torch.cat([one.opacity for one in dressed]),
        torch.cat(lift),
        torch.cat(sides),
        stack.pages(torch.cat(pages), uv[corners], all_points[corners]),
        stack,
    )
