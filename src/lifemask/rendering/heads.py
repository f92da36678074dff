"""From an explained face to a head: its mesh, its texture and its images from a camera.

This module makes every head, for files, figures and pictures: from predictions, from fits and from
the truth of drawn faces.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight, light_axes_from_camera
from lifemask.geometry.meshes import Mesh, vertex_normals
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.head_surface import opaque_triangles, vertex_uv
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.depth import depth_normals
from lifemask.rendering.displacement import (
    displaced_normals,
    displacement_slopes,
    groove_visibility,
    texture_gradients,
)
from lifemask.rendering.images import Rendering, render
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize
from lifemask.rendering.shading import shade_normals
from lifemask.rendering.texture import sample_texture


@dataclass(frozen=True)
class HeadSurface:
    """A head with the face's expression and detail, in head space."""

    coarse: Mesh
    """The morphable model's surface, without lashes."""
    mesh: Mesh
    """The same surface moved by the displacement; equal to `coarse` without one."""
    texture: Float[Tensor, "*batch 3 R R"] | None
    """Linear RGB albedo; None for a model without albedo and a face without a map."""
    displacement: Float[Tensor, "*batch D D"] | None
    """Metres along the normal, 0 where the map does not cover; None without a map."""
    light_map: UVMap | None
    """Shading in UV, linear RGB, that replaces that of the photo's light where it covers; None
    without."""

    def without_light_map(self) -> "HeadSurface":
        """Return the same head for another light than the photo's."""
        return replace(self, light_map=None)


@dataclass(frozen=True)
class HeadImages:
    """Images of a head from a camera."""

    fine: Rendering
    """All images, with the normals of the detailed surface."""
    coarse_normals: Float[Tensor, "*batch 3 H W"]
    """Unit normals of the morphable model's surface without detail at the same points, light
    axes."""


def head_surface(
    model: MorphableModel, face: ExplainedFace, *, triangles: Int[Tensor, "T"] | None = None
) -> HeadSurface:
    """Return the surface of explained faces; differentiable.

    Args:
        model: the head model of the faces.
        face: one face, or several with batch axes.
        triangles: indices of the triangles to keep; by default all but the lashes.
    """
    chosen = opaque_triangles(model) if triangles is None else triangles

    def mesh(vertices: Tensor) -> Mesh:
        return Mesh(vertices, model.triangles[chosen], model.uv, model.uv_triangles[chosen])

    vertices = model.vertices(face.coefficients)
    coarse = mesh(vertices)
    displacement, moved = None, coarse
    if face.displacement_map is not None:
        displacement = known_displacement(face.displacement_map)
        moved = mesh(displaced_vertices(model, vertices, displacement))
    return HeadSurface(coarse, moved, head_texture(model, face), displacement, face.light_map)


def head_vertices(
    model: MorphableModel, face: ExplainedFace, coefficients: FaceCoefficients | None = None
) -> Float[Tensor, "*batch V 3"]:
    """Return the vertices of a head in head space, moved by the face's displacement if it has one.

    Args:
        model: the head of the face.
        face: whose head.
        coefficients: replace those of the face, such as the same person with a neutral expression.
    """
    vertices = model.vertices(face.coefficients if coefficients is None else coefficients)
    if face.displacement_map is None:
        return vertices
    return displaced_vertices(model, vertices, known_displacement(face.displacement_map))


def known_displacement(known: UVMap) -> Float[Tensor, "*batch R R"]:
    """Return the displacement of a map in metres, 0 where it does not cover."""
    return known.values.squeeze(-3) * known.coverage


def displaced_vertices(
    model: MorphableModel,
    vertices: Float[Tensor, "*batch V 3"],
    displacement: Float[Tensor, "*batch R R"],
) -> Float[Tensor, "*batch V 3"]:
    """Return vertices moved along their normals by a displacement in UV, metres."""
    places = vertex_uv(model).T[:, None]
    image = displacement.unsqueeze(-3)
    places = places.expand(*image.shape[:-3], *places.shape)
    heights = sample_texture(image, places).squeeze(-2)
    normals = vertex_normals(vertices, model.triangles)
    shift = heights.transpose(-1, -2) * normals
    if model.eyeballs is not None:
        # Lashes go with the lids from which they grow.
        lashes, lids = model.eyeballs.lashes, model.eyeballs.lash_anchor
        shift = shift.index_copy(-2, lashes, shift[..., lids, :])
    return vertices + shift


def head_texture(
    model: MorphableModel, face: ExplainedFace
) -> Float[Tensor, "*batch 3 R R"] | None:
    """Return the albedo in UV: the face's map where it covers, else that of the coefficients."""
    known = face.albedo_map
    if known is not None and (model.albedo is None or bool((known.coverage == 1).all())):
        return known.values
    if model.albedo is None:
        return None
    texture = model.albedo.texture(face.coefficients.albedo)
    if known is None:
        return texture
    size = known.values.shape[-2:]
    if texture.shape[-2:] != size:
        batch = texture.shape[:-3]
        resized = F.interpolate(
            texture.reshape(-1, *texture.shape[-3:]), size, mode="bilinear", align_corners=False
        )
        texture = resized.reshape(*batch, 3, *size)
    return torch.lerp(texture, known.values, known.coverage.unsqueeze(-3))


def render_head(
    surface: HeadSurface,
    camera: PerspectiveCamera,
    light: SphericalHarmonicsLight | None = None,
    *,
    depth: Float[Tensor, "*batch H W"] | None = None,
    normals: Float[Tensor, "*batch 3 H W"] | None = None,
) -> HeadImages:
    """Return the images of a head from a camera; differentiable.

    Args:
        surface: the head.
        camera: its `image_size` is the size of the images.
        light: default white light whose shading is 1 everywhere; where the surface has a light map,
            the map replaces it. For another light than the photo's, use `without_light_map`.
        depth: a refined depth from the same camera, metres; its normals are used where it is above
            0.
        normals: refined normals from the same camera, light axes; used where they are not 0.
    """
    drawn = render(surface.mesh, camera, texture=surface.texture, light=light)
    given = (surface.displacement, surface.light_map, depth, normals)
    if all(part is None for part in given):
        return HeadImages(drawn, drawn.normals)
    # Normals of the smooth surface at the pixels that show its points after the displacement.
    coarse = surface.coarse
    points = camera.project(surface.mesh.vertices)
    fragments = rasterize(points, coarse.triangles, camera.image_size)
    assert coarse.uv is not None
    assert coarse.uv_triangles is not None
    in_light = light_axes_from_camera(camera.to_camera(coarse.vertices))
    smooth = interpolate(vertex_normals(in_light, coarse.triangles), coarse.triangles, fragments)
    smooth = F.normalize(smooth, dim=-3, eps=1e-12)
    uv = interpolate(
        coarse.uv.to(smooth).expand(*smooth.shape[:-3], *coarse.uv.shape),
        coarse.uv_triangles,
        fragments,
    )
    fine, passed = smooth, None
    if surface.displacement is not None:
        passed = sample_texture(groove_visibility(surface.displacement).unsqueeze(-3), uv)
        slopes = sample_texture(displacement_slopes(surface.displacement), uv)
        gradients = texture_gradients(in_light, coarse.triangles, coarse.uv, coarse.uv_triangles)
        along_u, along_v = (
            _at_pixels(gradient, fragments.triangle_index) for gradient in gradients
        )
        fine = displaced_normals(
            *(image.movedim(-3, 0) for image in (smooth, slopes, along_u, along_v))
        ).movedim(0, -3)
    seen_depth = drawn.depth
    if depth is not None:
        refined = depth_normals(depth, camera)
        fine = torch.where((refined != 0).any(-3, keepdim=True), refined, fine)
        seen_depth = torch.where(depth > 0, depth, seen_depth) * drawn.mask
    if normals is not None:
        fine = torch.where((normals != 0).any(-3, keepdim=True), normals, fine)
    fine = fine * drawn.mask.unsqueeze(-3)
    lamp = SphericalHarmonicsLight.ambient() if light is None else light
    shading = shade_normals(fine, SphericalHarmonicsLight(lamp.coefficients.to(fine)))
    if passed is not None:
        shading = shading * passed
    if surface.light_map is not None:
        share = sample_texture(surface.light_map.coverage.unsqueeze(-3), uv)
        shading = torch.lerp(shading, sample_texture(surface.light_map.values, uv), share)
        shading = shading * drawn.mask.unsqueeze(-3)
    detailed = Rendering(
        drawn.albedo * shading, drawn.mask, drawn.albedo, shading, fine, seen_depth
    )
    return HeadImages(detailed, smooth)


def _at_pixels(
    per_triangle: Float[Tensor, "*batch T 3"], index: Int[Tensor, "*batch H W"]
) -> Float[Tensor, "*batch 3 H W"]:
    """Return values of triangles at the pixels that show them, 0 elsewhere."""
    batch, (height, width) = index.shape[:-2], index.shape[-2:]
    rows = index.flatten(-2).clamp(min=0)[..., None].expand(*batch, height * width, 3)
    values = per_triangle.expand(*batch, *per_triangle.shape[-2:]).gather(-2, rows)
    image = values.transpose(-1, -2).unflatten(-1, (height, width))
    return image * (index >= 0).unsqueeze(-3)
