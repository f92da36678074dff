"""The fast path on the CPU: numba kernels, one image or band of rows per thread, differentiable.

Its triangle indices equal those of the plain PyTorch version; its numbers agree up to rounding.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lifemask.rendering import triangle_kernels
from lifemask.rendering._backends import _kernels
from lifemask.rendering.jit import for_each, run_in_threads, worker_count


def rasterize(
    points: Tensor, triangles: Tensor, height: int, width: int, cull: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return triangle index (B,H,W), barycentric (B,H,W,3) and depth (B,H,W)."""
    return _Rasterize.apply(points, triangles, height, width, cull)


def interpolate(
    attributes: Tensor, triangles: Tensor, index: Tensor, barycentric: Tensor
) -> Tensor:
    """Return (B,C,H,W) from attributes (B or 1,V,C); zero where there is no triangle."""
    return _Interpolate.apply(attributes, triangles, index, barycentric)


class _Plan:
    """The division of images and rows among workers.

    If there are as many images as threads, each worker takes whole images; otherwise each takes a
    band of rows of every image.
    """

    def __init__(self, batch: int, height: int) -> None:
        self.batch, self.height = batch, height
        self.workers = worker_count(max(batch, height))
        self.by_image = batch >= self.workers

    def run(self, task: Callable[[int, int, int, int], None]) -> None:
        """Call task(image, first row, last row, worker) for all rows of all images."""

        def work(worker: int) -> None:
            if self.by_image:
                for image in range(worker, self.batch, self.workers):
                    task(image, 0, self.height, worker)
                return
            first = self.height * worker // self.workers
            last = self.height * (worker + 1) // self.workers
            for image in range(self.batch):
                task(image, first, last, worker)

        run_in_threads(work, self.workers)


class _Sum:
    """The gradient of one input of shape (B or 1, ...); no two workers add to the same array."""

    def __init__(self, value: Tensor, plan: _Plan, *, wanted: bool = True) -> None:
        self.shared = value.shape[0] == 1
        self.apart = self.shared or not plan.by_image
        shape = value.shape if wanted else (value.shape[0], *(0 for _ in value.shape[1:]))
        self.partial = value.new_zeros(plan.workers if self.apart else 1, *shape)
        self._arrays = self.partial.numpy()

    def array(self, image: int, worker: int) -> Any:
        """Return the array to which this worker adds the gradient of this image."""
        return self._arrays[worker if self.apart else 0, 0 if self.shared else image]

    def total(self) -> Tensor:
        """Return the gradient."""
        return self.partial[0] if self.partial.shape[0] == 1 else self.partial.sum(0)


def _nearest_triangle(
    points: Tensor, triangles: Tensor, height: int, width: int, cull: str, plan: _Plan
) -> Tensor:
    """Return the index (B,H,W) of the nearest triangle at each pixel, -1 without a triangle."""
    batch, vertex_count, _ = points.shape
    x = torch.empty(batch, vertex_count, dtype=torch.int64).numpy()
    y = torch.zeros(batch, vertex_count, dtype=torch.int64).numpy()
    q = torch.zeros(batch, vertex_count, dtype=torch.float64).numpy()
    index = torch.empty(batch, height, width, dtype=torch.int64)
    near = torch.empty(batch, height, width, dtype=torch.float32).numpy()
    for image in range(batch):
        triangle_kernels.snap(points[image].numpy(), x[image], y[image], q[image])
    keep = (cull != "front", cull != "back")
    corners, out = triangles.numpy(), index.numpy()

    # y points down: the "front" is counter-clockwise to the viewer and has negative area.
    def task(image: int, first: int, last: int, _: int) -> None:
        triangle_kernels.cover(
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
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch's own pattern
        ctx: Any, _: Tensor | None, grad_barycentric: Tensor | None, grad_depth: Tensor | None
    ) -> tuple[Tensor, None, None, None, None]:
        points, triangles, index = ctx.saved_tensors
        plan = _Plan(index.shape[0], index.shape[1])
        to_points = _Sum(points, plan)
        p, i, corners = points.numpy(), index.numpy(), triangles.numpy()
        gb, gd = _of_images(grad_barycentric, points, 3), _of_images(grad_depth, points, 2)

        def task(image: int, first: int, last: int, worker: int) -> None:
            target = to_points.array(image, worker)
            _kernels.weigh_backward(
                p[image], corners, i[image], gb(image), gd(image), first, last, target
            )

        plan.run(task)
        return to_points.total(), None, None, None, None


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
        images = attributes.new_empty(batch, attributes.shape[2], height, width)
        own = _of_images(attributes)
        i, b, out = index.numpy(), barycentric.numpy(), images.numpy()
        corners = triangles.numpy()
        valid: list[bool] = []

        def task(image: int, first: int, last: int, _: int) -> None:
            done = _kernels.interpolate(
                own(image), corners, i[image], b[image], first, last, out[image]
            )
            valid.append(done)

        plan.run(task)
        if not all(valid):
            raise IndexError(
                f"The fragments name triangle {int(index.max())}, but there are only "
                f"{triangles.shape[0]}. Pass triangles with the rows of the rasterised ones."
            )
        ctx.save_for_backward(attributes, triangles, index, barycentric)
        return images

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch's own pattern
        ctx: Any, grad_images: Tensor
    ) -> tuple[Tensor | None, None, None, Tensor | None]:
        attributes, triangles, index, barycentric = ctx.saved_tensors
        want_attributes, _, _, want_barycentric = ctx.needs_input_grad
        plan = _Plan(index.shape[0], index.shape[1])
        to_attributes = _Sum(attributes, plan, wanted=want_attributes)
        size = index.shape if want_barycentric else (index.shape[0], 0, 0)
        to_barycentric = attributes.new_empty(*size, 3)
        own, corners = _of_images(attributes), triangles.numpy()
        i, b, g = index.numpy(), barycentric.numpy(), grad_images.contiguous().numpy()
        gb = to_barycentric.numpy()

        def task(image: int, first: int, last: int, worker: int) -> None:
            _kernels.interpolate_backward(
                own(image), corners, i[image], b[image], g[image], first, last,
                want_attributes, want_barycentric, to_attributes.array(image, worker), gb[image],
            )  # fmt: skip

        plan.run(task)
        return (
            to_attributes.total() if want_attributes else None,
            None,
            None,
            to_barycentric if want_barycentric else None,
        )


def _of_images(
    values: Tensor | None, like: Tensor | None = None, axes: int = 0
) -> Callable[[int], Any]:
    """Return a function from image number to its array; all images share a single one.

    Without values it returns an empty array with `axes` axes, which means "none" to kernels.
    """
    if values is None:
        assert like is not None
        empty = like.new_empty((0,) * axes).numpy()
        return lambda _: empty
    array = values.contiguous().numpy()
    return (lambda _: array[0]) if array.shape[0] == 1 else (lambda image: array[image])


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
    """Rasterise, interpolate, texture and light in one pass forward and one backward.

    Args:
        points: (B,V,3) image points.
        normals: (B,V,3) vertex normals in light axes.
        colours: (B or 1,V,3), or None with a texture.
        uv, uv_triangles: (U,2), (T,3) with a texture; no gradient flows to them.
        texture: (B or 1,3,Ht,Wt).
        light: (B or 1,9,3).
        everything: also return albedo, shading, normals and depth.

    Returns:
        index (B,H,W) and colour (B,3,H,W); with `everything` also albedo, shading, normals
        (B,3,H,W each) and depth (B,H,W).
    """
    if colours is None:
        colours = points.new_empty(1, 0, 3)
    if texture is None or uv is None or uv_triangles is None:
        texture = points.new_empty(1, 0, 1, 1)
        uv, uv_triangles = points.new_empty(0, 2), triangles
    inputs = (points, *(v.to(points.dtype) for v in (normals, colours, texture, light)))
    uv = uv.detach().to(points.dtype).contiguous()
    return _Shade.apply(
        *inputs, triangles, uv, uv_triangles.contiguous(), image_size, cull, everything
    )


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
        inputs = [v.detach().contiguous() for v in (points, normals, colours, texture, light)]
        batch, (height, width) = points.shape[0], image_size
        plan = _Plan(batch, height)
        index = _nearest_triangle(inputs[0], triangles, height, width, cull, plan)
        others = (height, width) if everything else (0, 0)
        outputs = [
            points.new_zeros(batch, 3, height, width),
            *(points.new_zeros(batch, 3, *others) for _ in range(3)),
            points.new_zeros(batch, *others),
        ]
        own, out = [_of_images(v) for v in inputs], [v.numpy() for v in outputs]
        i, corners = index.numpy(), triangles.numpy()
        flat_uv, uv_corners = uv.numpy(), uv_triangles.numpy()

        def task(image: int, first: int, last: int, _: int) -> None:
            p, n, c, t, sh = (select(image) for select in own)
            _kernels.shade(
                p, corners, i[image], n, c, flat_uv, uv_corners, t, sh,
                first, last, everything, *(array[image] for array in out),
            )  # fmt: skip

        plan.run(task)
        ctx.save_for_backward(*inputs, triangles, index, uv, uv_triangles)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(index)
        return (index, *outputs) if everything else (index, outputs[0])

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch's own pattern
        ctx: Any, _: Tensor | None, *grad_outputs: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        *inputs, triangles, index, uv, uv_triangles = ctx.saved_tensors
        wanted: list[bool] = list(ctx.needs_input_grad[:5])
        plan = _Plan(index.shape[0], index.shape[1])
        # Only the texture's gradient is left out if not needed, because it is large.
        to_inputs = [
            _Sum(value, plan, wanted=wanted[k] or k != 3) for k, value in enumerate(inputs)
        ]
        grads = [*grad_outputs, *(None for _ in range(5 - len(grad_outputs)))]
        given = [_of_images(g, inputs[0], n) for g, n in zip(grads, (3, 3, 3, 3, 2), strict=True)]
        own, i, corners = [_of_images(v) for v in inputs], index.numpy(), triangles.numpy()
        flat_uv, uv_corners = uv.numpy(), uv_triangles.numpy()

        def task(image: int, first: int, last: int, worker: int) -> None:
            p, n, c, t, sh = (select(image) for select in own)
            _kernels.shade_backward(
                p, corners, i[image], n, c, flat_uv, uv_corners, t, sh,
                first, last, *(select(image) for select in given), wanted[3],
                *(target.array(image, worker) for target in to_inputs),
            )  # fmt: skip

        plan.run(task)
        totals = [
            target.total() if want else None for target, want in zip(to_inputs, wanted, strict=True)
        ]
        return (*totals, None, None, None, None, None, None)


def vertex_normals(points: Tensor, triangles: Tensor) -> Tensor:
    """Return unit vertex normals (B,V,3) as `geometry.meshes.vertex_normals` does."""
    return _VertexNormals.apply(points, triangles)


class _VertexNormals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, triangles: Tensor) -> Tensor:
        points = points.detach().contiguous()
        sums = torch.empty(points.shape, dtype=torch.float64)
        normals = torch.empty_like(points)
        p, s, n, corners = points.numpy(), sums.numpy(), normals.numpy(), triangles.numpy()

        def task(image: int) -> None:
            triangle_kernels.vertex_normals(p[image], corners, s[image], n[image])

        for_each(task, points.shape[0])
        ctx.save_for_backward(points, triangles, sums)
        return normals

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch's own pattern
        ctx: Any, grad_normals: Tensor
    ) -> tuple[Tensor, None]:
        points, triangles, sums = ctx.saved_tensors
        to_points = torch.zeros_like(points)
        scratch = torch.empty_like(sums).numpy()
        p, s, corners, gp = points.numpy(), sums.numpy(), triangles.numpy(), to_points.numpy()
        gn = grad_normals.contiguous().numpy()

        def task(image: int) -> None:
            triangle_kernels.vertex_normals_backward(
                p[image], corners, s[image], gn[image], scratch[image], gp[image]
            )

        for_each(task, points.shape[0])
        return to_points, None
