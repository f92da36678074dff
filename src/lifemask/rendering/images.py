"""Draw images of a lit, textured mesh from a camera."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight, light_axes_from_camera
from lifemask.geometry.meshes import Mesh, vertex_normals
from lifemask.rendering.backends import (
    BackendName,
    Cull,
    available_backends,
    check_indices,
    load_backend,
)
from lifemask.rendering.fragments import Fragments
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize
from lifemask.rendering.shading import normalize_image, shade_normals
from lifemask.rendering.texture import sample_texture


@dataclass(frozen=True)
class Rendering:
    """Images of a mesh from one camera; all are zero in pixels without the mesh."""

    colour: Float[Tensor, "*batch 3 H W"]
    """Linear RGB: albedo times shading; not clamped."""
    mask: Float[Tensor, "*batch H W"]
    """1 where the mesh covers the pixel centre, else 0."""
    albedo: Float[Tensor, "*batch 3 H W"]
    """Linear RGB reflectance from the texture or the vertex colours."""
    shading: Float[Tensor, "*batch 3 H W"]
    """Linear RGB irradiance over pi."""
    normals: Float[Tensor, "*batch 3 H W"]
    """Unit normals: +x right in the image, +y up, +z to the viewer."""
    depth: Float[Tensor, "*batch H W"]
    """Distance along the optical axis in metres."""


def render(
    mesh: Mesh,
    camera: PerspectiveCamera,
    *,
    texture: Float[Tensor, "*texture_batch 3 Ht Wt"] | None = None,
    vertex_colours: Float[Tensor, "*colour_batch V 3"] | None = None,
    light: SphericalHarmonicsLight | None = None,
    cull: Cull = "back",
    backend: BackendName = "auto",
) -> Rendering:
    """Return all images of a mesh under distant light, without shadows.

    Gradients flow from every image to the vertices, the camera, the texture or colours and the
    light; the mask has none (see `add_silhouette_gradients`). Batch axes of mesh, camera, texture,
    colours and light broadcast against each other.

    Args:
        mesh: needs `uv` and `uv_triangles` if a texture is given; they get no gradient.
        camera: its `image_size` is the size of the images.
        texture: linear RGB, origin at the top left. Give this or `vertex_colours`; without either
            the albedo is white.
        vertex_colours: linear RGB per vertex.
        light: default white light whose shading is 1 everywhere.
        cull: "back" leaves out triangles that show their inside.
        backend: as for `rasterize`; the numba backend does everything in one pass.

    Raises:
        ValueError: texture and colours both given, or a texture for a mesh without uv.
    """
    scene = _Scene.build(mesh, camera, texture, vertex_colours, light)
    index, colour, albedo, shading, normals, depth = scene.draw(cull, backend, everything=True)
    return Rendering(colour, (index >= 0).to(colour.dtype), albedo, shading, normals, depth)


def render_colour(
    mesh: Mesh,
    camera: PerspectiveCamera,
    *,
    texture: Float[Tensor, "*texture_batch 3 Ht Wt"] | None = None,
    vertex_colours: Float[Tensor, "*colour_batch V 3"] | None = None,
    light: SphericalHarmonicsLight | None = None,
    cull: Cull = "back",
    backend: BackendName = "auto",
) -> tuple[Float[Tensor, "*image_batch 3 H W"], Float[Tensor, "*image_batch H W"]]:
    """Return only the colour and the mask of `render`; it is faster, for photometric losses."""
    scene = _Scene.build(mesh, camera, texture, vertex_colours, light)
    index, colour = scene.draw(cull, backend, everything=False)
    return colour, (index >= 0).to(colour.dtype)


@dataclass(frozen=True)
class _Scene:
    """Checked inputs with the batch axes of the result."""

    mesh: Mesh
    camera: PerspectiveCamera
    texture: Tensor | None
    colours: Tensor | None
    light: Tensor
    batch: torch.Size

    @staticmethod
    def build(
        mesh: Mesh,
        camera: PerspectiveCamera,
        texture: Tensor | None,
        colours: Tensor | None,
        light: SphericalHarmonicsLight | None,
    ) -> "_Scene":
        if texture is not None and colours is not None:
            raise ValueError("Got a texture and vertex colours; give one of them.")
        if texture is not None and (mesh.uv is None or mesh.uv_triangles is None):
            raise ValueError(
                "Got a texture but the mesh has no uv; give it uv and uv_triangles, or use "
                "vertex_colours."
            )
        vertices = mesh.vertices
        light = SphericalHarmonicsLight.ambient() if light is None else light
        if texture is None and colours is None:
            colours = vertices.new_ones(vertices.shape[-2], 3)
        # Torch's function of the same name imports sympy, which takes half a second.
        shape = np.broadcast_shapes(
            vertices.shape[:-2],
            camera.focal_pixels.shape,
            camera.principal_point.shape[:-1],
            camera.world_to_camera.shape[:-2],
            light.coefficients.shape[:-2],
            () if texture is None else texture.shape[:-3],
            () if colours is None else colours.shape[:-2],
        )
        batch = torch.Size(shape)
        mesh = Mesh(
            vertices.expand(*batch, *vertices.shape[-2:]),
            mesh.triangles,
            mesh.uv,
            mesh.uv_triangles,
        )
        return _Scene(mesh, camera, texture, colours, light.coefficients.to(vertices), batch)

    def draw(self, cull: Cull, backend: BackendName, *, everything: bool) -> tuple[Tensor, ...]:
        """Return index, colour and, with `everything`, albedo, shading, normals and depth."""
        in_camera = self.camera.to_camera(self.mesh.vertices)
        points = self.camera.project_from_camera(in_camera)
        best = available_backends(points.device)[0]
        if backend == "numba" or (backend == "auto" and best == "numba"):
            return self._draw_fused(in_camera, points, cull, everything=everything)
        normals = light_axes_from_camera(vertex_normals(in_camera, self.mesh.triangles))
        fragments = rasterize(
            points, self.mesh.triangles, self.camera.image_size, cull=cull, backend=backend
        )
        normals = normalize_image(
            interpolate(normals, self.mesh.triangles, fragments, backend=backend)
        )
        albedo = self._albedo(fragments, backend)
        shading = shade_normals(normals, SphericalHarmonicsLight(self.light))
        colour = albedo * shading
        index = fragments.triangle_index
        return (
            (index, colour, albedo, shading, normals, fragments.depth)
            if everything
            else (index, colour)
        )

    def _albedo(self, fragments: Fragments, backend: BackendName) -> Tensor:
        if self.colours is not None:
            return interpolate(self.colours, self.mesh.triangles, fragments, backend=backend)
        assert self.texture is not None
        assert self.mesh.uv is not None
        assert self.mesh.uv_triangles is not None
        uv = interpolate(
            self.mesh.uv.detach().to(self.mesh.vertices),
            self.mesh.uv_triangles,
            fragments,
            backend=backend,
        )
        return sample_texture(self.texture, uv) * fragments.mask.unsqueeze(-3)

    def _draw_fused(
        self, in_camera: Tensor, points: Tensor, cull: str, *, everything: bool
    ) -> tuple[Tensor, ...]:
        mesh, count = self.mesh, self.batch.numel()
        check_indices(mesh.triangles, points.shape[-2])
        if mesh.uv is not None and mesh.uv_triangles is not None:
            check_indices(mesh.uv_triangles, mesh.uv.shape[0])
        program = load_backend("numba", points.device)
        triangles = mesh.triangles.to(torch.int64).contiguous()
        normals = light_axes_from_camera(
            program.vertex_normals(in_camera.reshape(count, *in_camera.shape[-2:]), triangles)
        )
        images = program.shade(
            points.reshape(count, *points.shape[-2:]),
            triangles,
            normals,
            self._flat(self.colours, 2),
            None if mesh.uv is None else mesh.uv.to(points.dtype),
            None if mesh.uv_triangles is None else mesh.uv_triangles.to(torch.int64),
            self._flat(self.texture, 3),
            self._flat(self.light, 2),
            self.camera.image_size,
            cull=cull,
            everything=everything,
        )
        return tuple(image.view(*self.batch, *image.shape[1:]) for image in images)

    def _flat(self, value: Tensor | None, axes: int) -> Tensor | None:
        """Return the value with one batch axis, of size one if all images share it."""
        if value is None:
            return None
        own = value.shape[-axes:]
        if value.shape[:-axes].numel() == 1:
            return value.reshape(1, *own)
        return value.expand(*self.batch, *own).reshape(self.batch.numel(), *own)
