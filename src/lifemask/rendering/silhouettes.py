"""Gradients of outlines: how an image changes when a boundary between surfaces moves.

Rasterisation decides for each pixel centre which surface it shows. This decision has no gradient: a
loss on a mask would not move the mesh. The estimator here finds neighbouring pixels that show
different surfaces and computes how the image changes if the nearer one's boundary moves between
them, as in Pidhorskyi et al., "Rasterized Edge Gradients: Handling Discontinuities Differentiably",
ECCV 2024.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from lifemask.rendering.backends import BackendName
from lifemask.rendering.fragments import Fragments
from lifemask.rendering.interpolation import interpolate

# Neighbours belong to different surfaces if their depths differ by more than this factor times the
# slope beside them, plus this factor times the size of a pixel at that depth.
_SLOPE_RATIO = 3.0
_STEP_PIXELS = 4.0


def add_silhouette_gradients(
    image: Float[Tensor, "*image_batch C H W"],
    image_points: Float[Tensor, "*batch V 3"],
    triangles: Int[Tensor, "T 3"],
    fragments: Fragments,
    *,
    focal_pixels: float = 1000.0,
    without: Bool[Tensor, "T"] | None = None,
    backend: BackendName = "auto",
) -> Float[Tensor, "*image_batch C H W"]:
    """Return the same image with a gradient that includes the movement of outlines.

    Use it on the final image with its background: `mask[:, None]`, or colour composed over the
    photo. The added gradient goes to x and y of the image points.

    Args:
        image: drawn from these fragments.
        image_points: x and y in pixels and depth in metres, as they were rasterised.
        triangles: those that were rasterised.
        focal_pixels: relates steps in depth to steps in the image; its order of magnitude suffices.
        without: triangles whose boundary is not an outline, such as the ring at the cut of the
            neck.
        backend: as for `rasterize`.
    """
    fixed = Fragments(
        fragments.triangle_index, fragments.barycentric.detach(), fragments.depth.detach()
    )
    depth = image_points[..., 2:].detach()
    # Image position of each pixel's surface point; it moves with the corners.
    weighted = interpolate(
        torch.cat([image_points[..., :2] * depth, depth], dim=-1), triangles, fixed, backend=backend
    )
    covered = fragments.mask
    place = weighted[..., :2, :, :] / torch.where(covered.unsqueeze(-3), weighted[..., 2:, :, :], 1)
    movable = covered
    if without is not None:
        movable = covered & ~without[fragments.triangle_index.clamp(min=0)]
    result = _Edges.apply(image, place, fixed.depth, covered, movable, focal_pixels)
    assert isinstance(result, Tensor)
    return result


class _Edges(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        place: Tensor,
        depth: Tensor,
        covered: Tensor,
        movable: Tensor,
        focal_pixels: float,
    ) -> Tensor:
        del place
        ctx.save_for_backward(image, depth, covered, movable)
        ctx.focal_pixels = focal_pixels
        return image.view_as(image)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch's own pattern
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        image, depth, covered, movable = ctx.saved_tensors
        grad_place = grad.new_zeros(*grad.shape[:-3], 2, *grad.shape[-2:])
        behind_all = torch.where(covered, depth, torch.inf)
        for axis, dim in ((0, -1), (1, -2)):
            count = image.shape[dim] - 1
            if count < 1:
                continue

            def here(values: Tensor, dim: int = dim, count: int = count) -> Tensor:
                return values.narrow(dim, 0, count)

            def there(values: Tensor, dim: int = dim, count: int = count) -> Tensor:
                return values.narrow(dim, 1, count)

            step = (there(behind_all) - here(behind_all)).abs()
            step = torch.where(here(covered) & there(covered), step, 0)
            slope = torch.zeros_like(step)
            if count > 1:
                ahead, back = step.narrow(dim, 1, count - 1), step.narrow(dim, 0, count - 1)
                slope.narrow(dim, 1, count - 1).copy_(back)
                head = slope.narrow(dim, 0, count - 1)
                head.copy_(torch.maximum(head, ahead))
            pixel = torch.maximum(here(depth), there(depth)) / ctx.focal_pixels
            occluding = step > _SLOPE_RATIO * slope + _STEP_PIXELS * pixel
            boundary = (here(covered) != there(covered)) | occluding
            # The image changes by (here - there) where the boundary moves across the pair; half of
            # the pair's loss gradient stands for the gradient at the boundary.
            change = ((here(image) - there(image)) * (here(grad) + there(grad))).sum(-3) / 2
            change = change * boundary
            nearer = here(behind_all) < there(behind_all)
            target = grad_place.select(-3, axis)
            here(target).add_(change * (nearer & here(movable)))
            there(target).add_(change * (~nearer & there(movable)))
        return grad, grad_place, None, None, None, None
