"""The fast path on the CPU: numba kernels, one image or band of rows per thread, differentiable.

Gives the triangle indices of the plain PyTorch version exactly and its numbers up to rounding.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lifemask.rendering._backends import _kernels
from lifemask.rendering._backends._jit import run_in_threads, worker_count


def rasterize(
    points: Tensor, triangles: Tensor, height: int, width: int, cull: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return triangle index (B,H,W), barycentric (B,H,W,3) and depth (B,H,W)."""
    _check_indices(triangles, points.shape[1])
    return _Rasterize.apply(points, triangles, height, width, cull)


def interpolate(
    attributes: Tensor, triangles: Tensor, index: Tensor, barycentric: Tensor
) -> Tensor:
    """Return (B,C,H,W) from attributes (B or 1,V,C); zero where there is no triangle."""
    _check_indices(triangles, attributes.shape[1])
    return _Interpolate.apply(attributes, triangles, index, barycentric)


def _check_indices(triangles: Tensor, vertex_count: int) -> None:
    """Stop before compiled code reads outside an array."""
    if triangles.numel() == 0:
        return
    low, high = (int(v) for v in triangles.aminmax())
    if low < 0 or high >= vertex_count:
        raise IndexError(
            f"Triangles index vertices {low} to {high}, but there are {vertex_count} (0 to "
            f"{vertex_count - 1})."
        )


class _Plan:
    """Which worker does which rows of which image, and how many partial sums that makes.

    With as many images as threads each worker takes whole images, so what belongs to an image is
    summed in one place; otherwise every worker takes a band of rows of every image.
    """

    def __init__(self, batch: int, height: int) -> None:
        self.batch, self.height = batch, height
        self.workers = worker_count(max(batch, height))
        self.by_image = batch >= self.workers
        self.parts = 1 if self.by_image else self.workers

    def run(self, task: Callable[[int, int, int, int], None]) -> None:
        """Call task(image, first row, last row, part) for everything."""

        def work(worker: int) -> None:
            if self.by_image:
                for image in range(worker, self.batch, self.workers):
                    task(image, 0, self.height, 0)
                return
            first = self.height * worker // self.workers
            last = self.height * (worker + 1) // self.workers
            for image in range(self.batch):
                task(image, first, last, worker)

        run_in_threads(work, self.workers)


def _nearest_triangle(
    points: Tensor, triangles: Tensor, height: int, width: int, cull: str, plan: _Plan
) -> Tensor:
    """Return the index (B,H,W) of the nearest triangle at each pixel, -1 where none."""
    batch, vertex_count, _ = points.shape
    x = torch.empty(batch, vertex_count, dtype=torch.int64).numpy()
    y = torch.zeros(batch, vertex_count, dtype=torch.int64).numpy()
    q = torch.zeros(batch, vertex_count, dtype=torch.float64).numpy()
    index = torch.empty(batch, height, width, dtype=torch.int64)
    near = torch.empty(batch, height, width, dtype=torch.float32).numpy()
    for image in range(batch):
        _kernels.snap(points[image].numpy(), x[image], y[image], q[image])
    keep = (cull != "front", cull != "back")
    corners, out = triangles.numpy(), index.numpy()

    # y points down: counter-clockwise to the viewer is negative area, the "front".
    def task(image: int, first: int, last: int, _: int) -> None:
        _kernels.cover(
            x[image],
            y[image],
            q[image],
            corners,
            keep[1],
            keep[0],
            first,
            last,
            near[image],
            out[image],
        )

    plan.run(task)
    return index


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, triangles: Tensor, height: int, width: int, cull: str
    ) -> tuple[Tensor, Tensor, Tensor]:
        points = points.detach().contiguous()
        plan = _Plan(points.shape[0], height)
        index = _nearest_triangle(points, triangles, height, width, cull, plan)
        barycentric = points.new_empty(*index.shape, 3)
        depth = points.new_empty(index.shape)
        arrays = (points.numpy(), index.numpy(), barycentric.numpy(), depth.numpy())
        corners = triangles.numpy()

        def task(image: int, first: int, last: int, _: int) -> None:
            p, i, b, d = (array[image] for array in arrays)
            _kernels.weigh(p, corners, i, first, last, b, d)

        plan.run(task)
        ctx.save_for_backward(points, triangles, index)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(index)
        return index, barycentric, depth

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, _: Tensor | None, grad_barycentric: Tensor | None, grad_depth: Tensor | None
    ) -> tuple[Tensor | None, None, None, None, None]:
        points, triangles, index = ctx.saved_tensors
        plan = _Plan(index.shape[0], index.shape[1])
        grad = points.new_zeros(plan.parts, *points.shape)
        gb = _images_or_empty(grad_barycentric, points, 3)
        gd = _images_or_empty(grad_depth, points, 2)
        p, i, g, corners = points.numpy(), index.numpy(), grad.numpy(), triangles.numpy()

        def task(image: int, first: int, last: int, part: int) -> None:
            _kernels.weigh_backward(
                p[image], corners, i[image], gb(image), gd(image), first, last, g[part, image]
            )

        plan.run(task)
        return _sum_parts(grad), None, None, None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, attributes: Tensor, triangles: Tensor, index: Tensor, barycentric: Tensor
    ) -> Tensor:
        attributes, barycentric = (
            attributes.detach().contiguous(),
            barycentric.detach().contiguous(),
        )
        index = index.contiguous()
        batch, height, width = index.shape
        plan = _Plan(batch, height)
        image_out = attributes.new_empty(batch, attributes.shape[2], height, width)
        a, i, b, o = (v.numpy() for v in (attributes, index, barycentric, image_out))
        corners, shared = triangles.numpy(), attributes.shape[0] == 1
        valid: list[bool] = []

        def task(image: int, first: int, last: int, _: int) -> None:
            own = a[0 if shared else image]
            valid.append(
                _kernels.interpolate(own, corners, i[image], b[image], first, last, o[image])
            )

        plan.run(task)
        if not all(valid):
            raise IndexError(
                f"The fragments name triangle {int(index.max())}, but there are only "
                f"{triangles.shape[0]}. Pass triangles with the rows of the rasterised ones."
            )
        ctx.save_for_backward(attributes, triangles, index, barycentric)
        return image_out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_image: Tensor) -> tuple[Tensor | None, None, None, Tensor | None]:
        attributes, triangles, index, barycentric = ctx.saved_tensors
        want_attributes, _, _, want_barycentric = ctx.needs_input_grad
        plan = _Plan(index.shape[0], index.shape[1])
        grad_image = grad_image.contiguous()
        shared = attributes.shape[0] == 1
        # Attributes of the whole batch are summed by each worker apart, then together.
        parts = plan.workers if shared else plan.parts
        grad_attributes = attributes.new_zeros(parts if want_attributes else 1, *attributes.shape)
        size = index.shape if want_barycentric else (index.shape[0], 0, 0)
        grad_barycentric = attributes.new_empty(*size, 3)
        a, i, b, g = (v.numpy() for v in (attributes, index, barycentric, grad_image))
        ga, gb, corners = grad_attributes.numpy(), grad_barycentric.numpy(), triangles.numpy()

        def task(image: int, first: int, last: int, part: int) -> None:
            if shared and plan.by_image:
                part = image % plan.workers
            own = 0 if shared else image
            _kernels.interpolate_backward(
                a[own], corners, i[image], b[image], g[image], first, last,
                want_attributes, want_barycentric, ga[part if want_attributes else 0, own], gb[image],
            )  # fmt: skip

        plan.run(task)
        return (
            _sum_parts(grad_attributes) if want_attributes else None,
            None,
            None,
            grad_barycentric if want_barycentric else None,
        )


def _images_or_empty(gradient: Tensor | None, like: Tensor, axes: int) -> Callable[[int], Any]:
    """Return a function from image number to its gradient array, an empty one if there is none."""
    if gradient is None:
        empty = like.new_empty((0,) * axes).numpy()
        return lambda _: empty
    array = gradient.contiguous().numpy()
    return lambda image: array[image]


def _sum_parts(partial: Tensor) -> Tensor:
    return partial[0] if partial.shape[0] == 1 else partial.sum(0)


def shade(
    points: Tensor,
    triangles: Tensor,
    normals: Tensor,
    colours: Tensor | None,
    uv: Tensor | None,
    uv_triangles: Tensor | None,
    texture: Tensor | None,
    light: Tensor,
    image_size: tuple[int, int],
    *,
    cull: str,
    everything: bool,
) -> tuple[Tensor, ...]:
    """Rasterise, interpolate, texture and light in one pass each way.

    Args:
        points: (B,V,3) image points.
        normals: (B,V,3) vertex normals in light axes.
        colours: (B or 1,V,3), or none with a texture.
        uv, uv_triangles: (U,2), (T,3) with a texture; no gradient flows to them.
        texture: (B or 1,3,Ht,Wt).
        light: (B or 1,9,3).
        everything: also return albedo, shading, normals and depth.

    Returns:
        index (B,H,W) and colour (B,3,H,W); with `everything` also albedo, shading, normals
        (B,3,H,W each) and depth (B,H,W).
    """
    _check_indices(triangles, points.shape[1])
    if uv is not None and uv_triangles is not None:
        _check_indices(uv_triangles, uv.shape[0])
    if colours is None:
        colours = points.new_empty(1, 0, 3)
    if texture is None or uv is None or uv_triangles is None:
        texture = points.new_empty(1, 0, 1, 1)
        uv, uv_triangles = points.new_empty(0, 2), triangles
    return _Shade.apply(
        points, normals, colours, texture, light, triangles, uv.detach(), uv_triangles, image_size,
        cull, everything,
    )  # fmt: skip


class _Shade(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        normals: Tensor,
        colours: Tensor,
        texture: Tensor,
        light: Tensor,
        triangles: Tensor,
        uv: Tensor,
        uv_triangles: Tensor,
        image_size: tuple[int, int],
        cull: str,
        everything: bool,
    ) -> tuple[Tensor, ...]:
        inputs = tuple(v.detach().contiguous() for v in (points, normals, colours, texture, light))
        uv, uv_triangles = uv.contiguous(), uv_triangles.contiguous()
        batch, (height, width) = points.shape[0], image_size
        plan = _Plan(batch, height)
        index = _nearest_triangle(inputs[0], triangles, height, width, cull, plan)
        size = (batch, 3, height, width)
        images = [
            points.new_zeros(size if k == 0 or everything else (batch, 3, 0, 0)) for k in range(4)
        ]
        depth = points.new_zeros((batch, height, width) if everything else (batch, 0, 0))
        corners, i = triangles.numpy(), index.numpy()
        flat_uv, uv_corners = uv.numpy(), uv_triangles.numpy()
        own = _selectors(inputs)
        outputs = [v.numpy() for v in (*images, depth)]

        def task(image: int, first: int, last: int, _: int) -> None:
            p, n, c, t, sh = (select(image) for select in own)
            _kernels.shade(
                p, corners, i[image], n, c, flat_uv, uv_corners, t, sh,
                first, last, everything, *(v[image] for v in outputs),
            )  # fmt: skip

        plan.run(task)
        ctx.save_for_backward(*inputs, triangles, index, uv, uv_triangles)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(index)
        return (index, *images, depth) if everything else (index, images[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor | None, *grad_images: Tensor | None) -> tuple[Any, ...]:
        *inputs, triangles, index, uv, uv_triangles = ctx.saved_tensors
        points = inputs[0]
        plan = _Plan(index.shape[0], index.shape[1])
        want_texture = ctx.needs_input_grad[3]
        images = [
            _images_or_empty(grad_images[k] if k < len(grad_images) else None, points, axes)
            for k, axes in enumerate((3, 3, 3, 3, 2))
        ]
        # What the whole batch shares is summed by each worker apart, then together.
        gradients: list[Tensor] = []
        for k, value in enumerate(inputs):
            parts = plan.workers if value.shape[0] == 1 else plan.parts
            empty = k == 3 and not want_texture
            gradients.append(value.new_zeros(0 if empty else parts, *value.shape))
        corners, i = triangles.numpy(), index.numpy()
        flat_uv, uv_corners = uv.numpy(), uv_triangles.numpy()
        own, sums = _selectors(inputs), [g.numpy() for g in gradients]

        def task(image: int, first: int, last: int, part: int) -> None:
            p, n, c, t, sh = (select(image) for select in own)
            targets = [
                target[image % plan.workers if plan.by_image else part, 0]
                if target.shape[1] == 1
                else target[part, image]
                for target in (s if s.shape[0] else s.reshape(1, 1, *s.shape[2:]) for s in sums)
            ]
            _kernels.shade_backward(
                p, corners, i[image], n, c, flat_uv, uv_corners, t, sh,
                first, last, *(image_of(image) for image_of in images), want_texture, *targets,
            )  # fmt: skip

        plan.run(task)
        result = [
            _sum_parts(g) if needed else None
            for g, needed in zip(gradients, ctx.needs_input_grad[:5], strict=True)
        ]
        return (*result, None, None, None, None, None, None)


def _selectors(values: tuple[Tensor, ...] | list[Tensor]) -> list[Callable[[int], Any]]:
    """Return for each tensor a function from image number to its array, shared or its own."""

    def selector(array: Any) -> Callable[[int], Any]:
        return (lambda _: array[0]) if array.shape[0] == 1 else (lambda image: array[image])

    return [selector(value.numpy()) for value in values]


def vertex_normals(points: Tensor, triangles: Tensor) -> Tensor:
    """Return unit vertex normals (B,V,3) as `geometry.meshes.vertex_normals` does."""
    _check_indices(triangles, points.shape[1])
    return _VertexNormals.apply(points, triangles)


class _VertexNormals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, triangles: Tensor) -> Tensor:
        points = points.detach().contiguous()
        sums = torch.empty(points.shape, dtype=torch.float64)
        normals = torch.empty_like(points)
        p, s, n, corners = points.numpy(), sums.numpy(), normals.numpy(), triangles.numpy()
        workers = worker_count(points.shape[0])

        def work(worker: int) -> None:
            for image in range(worker, p.shape[0], workers):
                _kernels.vertex_normals(p[image], corners, s[image], n[image])

        run_in_threads(work, workers)
        ctx.save_for_backward(points, triangles, sums)
        return normals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_normals: Tensor) -> tuple[Tensor, None]:
        points, triangles, sums = ctx.saved_tensors
        grad = torch.zeros_like(points)
        scratch = torch.empty_like(sums).numpy()
        p, s, corners, g = points.numpy(), sums.numpy(), triangles.numpy(), grad.numpy()
        gn = grad_normals.contiguous().numpy()
        workers = worker_count(points.shape[0])

        def work(worker: int) -> None:
            for image in range(worker, p.shape[0], workers):
                _kernels.vertex_normals_backward(
                    p[image], corners, s[image], gn[image], scratch[image], g[image]
                )

        run_in_threads(work, workers)
        return grad, None
