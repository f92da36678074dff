"""Draws heads under light: geometry, shadows, specular skin and displacement, in linear pictures.

Plain PyTorch is the reference, on any device; on a CPU `kernels` draws the same with numba.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifemask.data.synthetic import kernels
from lifemask.data.synthetic.lights import LightRig
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import light_axes_from_camera, spherical_harmonics
from lifemask.geometry.meshes import vertex_normals
from lifemask.rendering.backends import BackendName, available_backends, load_backend
from lifemask.rendering.displacement import (
    displaced_normals,
    displacement_slopes,
    groove_visibility,
    texture_gradients,
)
from lifemask.rendering.fragments import Fragments
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.jit import for_each
from lifemask.rendering.rasterization import rasterize


@dataclass(frozen=True)
class HeadMaterial:
    """Constants of all heads, per vertex or per texel."""

    triangles: Int[Tensor, "T 3"]
    """The drawn triangles, vertex indices."""
    uv: Float[Tensor, "U 2"]
    """Texture coordinates."""
    uv_triangles: Int[Tensor, "T 3"]
    """Indices into `uv`, row for row with `triangles`."""
    uv_vertex: Int[Tensor, "U"]
    """The vertex of each texture coordinate."""
    ambient_visibility: Float[Tensor, "V"]
    """Share of the surrounding light that reaches a vertex of the neutral head, 0 to 1."""
    specular: Float[Tensor, "V"]
    """Strength of the specular reflection, 1 on skin."""
    wet: Float[Tensor, "V"]
    """1 on eyeballs, teeth and tongue, which are smooth and opaque, else 0."""
    skin: Float[Tensor, "D D"]
    """1 where the texture shows skin of the face, else 0."""
    coverage: Float[Tensor, "D D"]
    """1 where the texture has surface, else 0."""
    middle: Float[Tensor, "3"]
    """Middle of the mean head's box, head space, metres; every head lies in a sphere around it."""


@dataclass(frozen=True)
class LitHeads:
    """Heads in front of their cameras, with the light that reaches them."""

    vertices: Float[Tensor, "N V 3"]
    """Head space, metres."""
    camera: PerspectiveCamera
    """Cameras of the photos."""
    light: LightRig
    """Light on these heads."""
    attributes: Float[Tensor, "N V 11"]
    """In light axes: normal (3), visibility of the lamp, position from the camera in metres (3),
    ambient visibility, specular, wet, and the share of hair that covers the vertex."""
    skin_specular: Float[Tensor, "N"]
    """Factor on the specular reflection of skin."""
    cover_colour: Float[Tensor, "N 3"]
    """Linear RGB of the hair that covers vertices."""


@dataclass(frozen=True)
class Picture:
    """Heads without background, hair and camera degradations, and the truth of each pixel."""

    colour: Float[Tensor, "N 3 H W"]
    """Linear RGB over black, averaged over the pixel's samples."""
    alpha: Float[Tensor, "N H W"]
    """Share of the pixel's samples that show the head."""
    sample_depth: Float[Tensor, "N HS WS"]
    """Metres along the optical axis at each sample; 0 beside the head."""
    triangle_index: Int[Tensor, "N H W"]
    """Row of the material's triangles at the pixel's centre; -1 beside the head."""
    depth: Float[Tensor, "N H W"]
    """Metres along the optical axis at the pixel's centre; 0 beside the head."""
    normals: Float[Tensor, "N 3 H W"]
    """Unit normals of the displaced head in light axes; 0 beside it."""
    albedo: Float[Tensor, "N 3 H W"]
    """Linear RGB; 0 beside the head."""
    skin: Float[Tensor, "N H W"]
    """1 on the skin of the face."""


@dataclass(frozen=True)
class Caster:
    """A mesh that casts shadows."""

    vertices: Float[Tensor, "W 3"]
    """Metres; head space for `light_heads`, light axes around the head's middle for
    `light_on_vertices`."""
    triangles: Int[Tensor, "S 3"]
    """Vertex indices; both sides cast shadows."""


@dataclass(frozen=True)
class HeadCovers:
    """Covers of heads that reduce the light on them: hair, hats, glasses, hands."""

    ambient_visibility: Float[Tensor, "N V"]
    """Share of the surrounding light that passes the covers and reaches a vertex, 0 to 1."""
    cover: Float[Tensor, "N V"]
    """How far hair hides a vertex, 0 to 1; hidden skin gets the hair's colour."""
    cover_colour: Float[Tensor, "N 3"]
    """Linear RGB of this hair."""
    casters: Sequence[Caster]
    """For each head, a mesh that casts the lamp's shadow on it; head space."""


def light_heads(
    material: HeadMaterial,
    vertices: Float[Tensor, "N V 3"],
    camera: PerspectiveCamera,
    light: LightRig,
    skin_specular: Float[Tensor, "N"],
    *,
    covers: HeadCovers | None = None,
    backend: BackendName = "auto",
) -> LitHeads:
    """Return heads with the lamp's shadows on them.

    Args:
        material: of the head.
        vertices: head space, metres.
        camera: of the photos.
        light: on the heads.
        skin_specular: factor on the specular reflection of skin.
        covers: hair and other covers of the heads; without them heads are bare.
        backend: of the rasteriser.
    """
    count = len(vertices)
    in_light = light_axes_from_camera(camera.to_camera(vertices))
    compiled = is_compiled(backend, vertices.device)
    normals = fast_normals(in_light, material.triangles, compiled=compiled)
    middle = light_axes_from_camera(camera.to_camera(material.middle.expand(count, 1, 3)))
    sky = material.ambient_visibility.expand(count, -1)
    cover, colour = vertices.new_zeros(vertices.shape[:2]), vertices.new_zeros(count, 3)
    casters: list[Caster] | None = None
    if covers is not None:
        sky = sky * covers.ambient_visibility
        cover, colour = covers.cover, covers.cover_colour
        rotation = camera.world_to_camera[..., :3, :3].expand(count, 3, 3)
        casters = [
            Caster(light_axes_from_camera((one.vertices - material.middle) @ turn.T), one.triangles)
            for one, turn in zip(covers.casters, rotation, strict=True)
        ]
    lit = light_on_vertices(
        in_light - middle, normals, material.triangles, light, casters=casters, backend=backend
    )
    attributes = torch.cat(
        [
            normals,
            lit.unsqueeze(-1),
            in_light,
            sky.unsqueeze(-1),
            torch.stack([material.specular, material.wet], -1).expand(count, -1, -1),
            cover.unsqueeze(-1),
        ],
        -1,
    )
    return LitHeads(vertices, camera, light, attributes, skin_specular, colour)


def draw_heads(
    heads: LitHeads,
    material: HeadMaterial,
    albedo: Float[Tensor, "N 3 D D"],
    displacement: Float[Tensor, "N D D"],
    *,
    samples: int = 1,
    backend: BackendName = "auto",
) -> Picture:
    """Return pictures of heads.

    Soft light is computed from nine harmonics at the displaced normal and is reduced in hollows.
    In grooves of the displacement, both soft light and the lamp's are reduced.
    The lamp's light extends a little around skin, most of all red light, because of scattering
    under the surface; its specular reflection has two lobes. If all samples of a pixel show
    continuous skin, it is lit once, at its centre.

    Args:
        heads: from `light_heads`.
        material: of the head.
        albedo: linear RGB textures.
        displacement: metres along the normal.
        samples: per pixel along each axis.
        backend: of the rasteriser.
    """
    points = heads.camera.project_from_camera(light_axes_from_camera(heads.attributes[..., 4:7]))
    if is_compiled(backend, points.device):
        return _draw_compiled(points, heads, material, albedo, displacement, samples)
    return _draw_plain(points, heads, material, albedo, displacement, samples, backend)


def _draw_compiled(
    points: Float[Tensor, "N V 3"],
    heads: LitHeads,
    material: HeadMaterial,
    albedo: Float[Tensor, "N 3 D D"],
    displacement: Float[Tensor, "N D D"],
    samples: int,
) -> Picture:
    """Return the result of `_draw_plain` up to rounding, by numba kernels."""
    count, (height, width), light = len(points), heads.camera.image_size, heads.light
    colour, normals, own = (points.new_zeros(count, 3, height, width) for _ in range(3))
    alpha, depth, skin = (points.new_zeros(count, height, width) for _ in range(3))
    fine_depth = points.new_empty(count, height * samples, width * samples)
    index = torch.empty(count, height, width, dtype=torch.int64)
    shared = [
        value.contiguous().numpy()
        for value in (
            material.triangles.int(), _wet_triangles(material).to(torch.uint8),
            material.uv_triangles.int(), material.uv_vertex.int(), material.uv, material.skin,
        )
    ]  # fmt: skip
    for_each_image(
        partial(kernels.draw, *shared, samples),
        points, heads.attributes, albedo, displacement, groove_visibility(displacement),
        light.soft, light.direction, light.lamp, light.size,
        heads.skin_specular, heads.cover_colour,
        colour, alpha, fine_depth, index, depth, normals, own, skin,
    )  # fmt: skip
    return Picture(colour, alpha, fine_depth, index, depth, normals, own, skin)


def _draw_plain(
    points: Float[Tensor, "N V 3"],
    heads: LitHeads,
    material: HeadMaterial,
    albedo: Float[Tensor, "N 3 D D"],
    displacement: Float[Tensor, "N D D"],
    samples: int,
    backend: BackendName,
) -> Picture:
    """Return pictures of heads by plain PyTorch and the rasteriser.

    Args:
        points: image points of the vertices, x and y in pixels, depth in metres.
        heads, material, albedo, displacement, samples, backend: as in `draw_heads`.
    """
    count, (height, width), light = len(points), heads.camera.image_size, heads.light
    colour, normals, own = (points.new_zeros(count, 3, height, width) for _ in range(3))
    alpha, skin = (points.new_zeros(count, height, width) for _ in range(2))
    layers = [
        albedo,
        displacement_slopes(displacement),
        material.skin.expand(count, 1, -1, -1),
        groove_visibility(displacement)[:, None],
    ]
    textures = torch.cat(layers, 1)
    gradients = texture_gradients(
        heads.attributes[..., 4:7], material.triangles, material.uv, material.uv_triangles
    )
    along_u, along_v = (each.transpose(1, 2) for each in gradients)
    fragments = rasterize(points, material.triangles, (height, width), backend=backend)
    fine = rasterize(
        points * points.new_tensor([samples, samples, 1]), material.triangles,
        (height * samples, width * samples), backend=backend,
    )  # fmt: skip
    wet = _wet_triangles(material)
    for k in range(count):
        gradients = (along_u[k], along_v[k])
        one = (heads.attributes[k], textures[k], gradients, material, backend)
        centre, edge = _surface(_only(fragments, k), *one), _surface(_only(fine, k), *one)
        own[k].flatten(1)[:, centre.pixels] = centre.albedo
        normals[k].flatten(1)[:, centre.pixels] = centre.normal
        skin[k].flatten()[centre.pixels] = centre.skin
        rig = LightRig(light.soft[k], light.direction[k], light.lamp[k], light.size[k])
        paint = (rig, heads.skin_specular[k], heads.cover_colour[k])
        smooth = _smooth(_only(fine, k), samples, wet)
        smooth &= fragments.triangle_index[k].flatten() >= 0
        colour[k] = _antialiased(
            centre, _lit(centre, *paint), edge, _lit(edge, *paint), smooth, samples, (height, width)
        )
        seen = _blocks(fine.triangle_index[k], samples) >= 0
        alpha[k] = seen.float().mean(-1).view(height, width)
    return Picture(
        colour, alpha, fine.depth, fragments.triangle_index, fragments.depth, normals, own, skin
    )


def _wet_triangles(material: HeadMaterial) -> Bool[Tensor, "T"]:
    return material.wet[material.triangles[:, 0]] > 0.5


def _smooth(fine: Fragments, samples: int, wet: Bool[Tensor, "T"]) -> Bool[Tensor, "P"]:
    """Return which pixels of one image show continuous skin in all samples."""
    index, depth = _blocks(fine.triangle_index, samples), _blocks(fine.depth, samples)
    seen = index >= 0
    spread = depth.amax(-1) - depth.amin(-1)
    return seen.all(-1) & (spread < kernels.SMOOTH) & ~(wet[index.clamp(min=0)] & seen).any(-1)


def _antialiased(
    centre: "_Surface",
    centre_colour: Float[Tensor, "3 C"],
    edge: "_Surface",
    edge_colour: Float[Tensor, "3 E"],
    smooth: Bool[Tensor, "P"],
    samples: int,
    size: tuple[int, int],
) -> Float[Tensor, "3 H W"]:
    """Return one image: smooth pixels from their centre, others as the mean of their samples."""
    height, width = size
    result = centre_colour.new_zeros(3, height * width)
    once = smooth[centre.pixels]
    result[:, centre.pixels[once]] = centre_colour[:, once]
    row, column = edge.pixels // (width * samples), edge.pixels % (width * samples)
    pixel = row // samples * width + column // samples
    often = ~smooth[pixel]
    result.index_add_(1, pixel[often], edge_colour[:, often] / samples**2)
    return result.view(3, height, width)


def is_compiled(backend: BackendName, device: torch.device) -> bool:
    """Return whether numba draws on this device; then the other steps are compiled too."""
    if device.type != "cpu":
        return False
    return backend == "numba" or (backend == "auto" and available_backends(device)[0] == "numba")


def fast_normals(
    vertices: Float[Tensor, "N V 3"], triangles: Int[Tensor, "T 3"], *, compiled: bool
) -> Float[Tensor, "N V 3"]:
    """Return `vertex_normals`, by the numba backend if it is in use."""
    if compiled:
        return load_backend("numba", vertices.device).vertex_normals(vertices, triangles)
    return vertex_normals(vertices, triangles)


def for_each_image(task: Callable[..., None], *tensors: Tensor | Sequence[Tensor]) -> None:
    """Call a compiled function with the arrays of every image, spread over the threads."""
    count = len(tensors[0])
    arrays = [
        value.contiguous().numpy()
        if isinstance(value, Tensor)
        else [one.contiguous().numpy() for one in value]
        for value in tensors
    ]
    for_each(lambda k: task(*(array[k] for array in arrays)), count)


def _blocks(image: Tensor, samples: int) -> Tensor:
    """Return (H W, samples²) from (H samples, W samples)."""
    height, width = (edge // samples for edge in image.shape)
    blocks = image.view(height, samples, width, samples).transpose(1, 2)
    return blocks.reshape(height * width, samples * samples)


def _only(fragments: Fragments, k: int) -> Fragments:
    return Fragments(fragments.triangle_index[k], fragments.barycentric[k], fragments.depth[k])


@dataclass(frozen=True)
class _Surface:
    """The surface in the covered pixels of one image, before light."""

    pixels: Int[Tensor, "P"]
    values: Float[Tensor, "11 P"]
    albedo: Float[Tensor, "3 P"]
    skin: Float[Tensor, "P"]
    normal: Float[Tensor, "3 P"]
    groove_visibility: Float[Tensor, "P"]


def _surface(
    fragments: Fragments,
    attributes: Float[Tensor, "V 11"],
    textures: Float[Tensor, "7 D D"],
    gradients: tuple[Float[Tensor, "3 T"], Float[Tensor, "3 T"]],
    material: HeadMaterial,
    backend: BackendName,
) -> _Surface:
    """Return the surface of one image with its albedo and displaced normals."""
    index = fragments.triangle_index.flatten()
    pixels = (index >= 0).nonzero()[:, 0]
    triangle = index[pixels]
    image = interpolate(attributes, material.triangles, fragments, backend=backend)
    uv = interpolate(material.uv, material.uv_triangles, fragments, backend=backend)
    values, at = image.flatten(1)[:, pixels], uv.flatten(1)[:, pixels]
    painted = _sample(textures, at)
    along_u, along_v = (gradient[:, triangle] for gradient in gradients)
    normals = displaced_normals(
        _unit(values[:3]), painted[3:5], along_u, along_v, share=1 - values[9]
    )
    return _Surface(pixels, values, painted[:3], painted[5], normals, painted[6])


def _lit(
    surface: _Surface, light: LightRig, skin_specular: Tensor, hair: Float[Tensor, "3"]
) -> Float[Tensor, "3 P"]:
    """Return the colours of a surface under light, with hair's colour where hair covers it."""
    values, cover = surface.values, surface.values[10]
    own = surface.albedo + (hair[:, None] - surface.albedo) * cover
    passed = surface.groove_visibility
    return shade(
        own, surface.normal, values[3] * passed, values[4:7], values[7] * passed,
        values[8] * (1 - cover), values[9], light, skin_specular,
    )  # fmt: skip


_WORN_SHADOW = 0.85
"""Share of the lamp's light that wearables stop; the rest passes between strands of hair."""


def light_on_vertices(
    vertices: Float[Tensor, "N V 3"],
    normals: Float[Tensor, "N V 3"],
    triangles: Int[Tensor, "T 3"],
    light: LightRig,
    *,
    casters: Sequence[Caster] | None = None,
    backend: BackendName,
) -> Float[Tensor, "N V"]:
    """Return the visibility of the lamp from each vertex, 0 to 1; heads and wearables can hide it.

    Without a lamp it is 1. It is computed from shadow maps in the lamp's direction (Williams 1978),
    averaged over a radius that grows with the lamp's size (Reeves et al. 1987).

    Args:
        vertices: light axes, relative to the head's middle, metres.
        normals: unit, light axes.
        triangles: of the head, which cast shadows.
        light: the lamps.
        casters: another mesh that casts shadows on each head, in the axes of the vertices.
        backend: of the rasteriser.
    """
    forward = -light.direction
    helper = torch.where(
        forward[:, 1:2].abs() > 0.9,
        forward.new_tensor([1.0, 0.0, 0.0]),
        forward.new_tensor([0.0, 1.0, 0.0]),
    )
    right = F.normalize(torch.linalg.cross(helper, forward), dim=-1)
    down = torch.linalg.cross(forward, right)
    axes = torch.stack([right, down, forward], dim=1).transpose(1, 2)
    spread = (1.0 + light.size * 12).clamp(max=6)
    if is_compiled(backend, vertices.device):
        lit = torch.empty_like(vertices[..., 0])
        task = partial(kernels.light_vertices, triangles.int().numpy(), _WORN_SHADOW)
        worn = casters or [Caster(vertices[0, :0], triangles[:0])] * len(vertices)
        for_each_image(
            task, vertices, normals, light.lamp, axes, spread, [one.vertices for one in worn],
            [one.triangles.int() for one in worn], lit,
        )  # fmt: skip
        return lit

    size, radius = kernels.SHADOW_PIXELS, kernels.SHADOW_RADIUS
    scale = size / (2 * radius)
    offset = vertices.new_tensor([size / 2, size / 2, kernels.SHADOW_DISTANCE])
    unit = vertices.new_tensor([scale, scale, 1.0])

    def map_of(points: Tensor, corners: Tensor) -> Tensor:
        place = points * unit + offset
        return rasterize(place, corners, (size, size), cull="none", backend=backend).depth

    # Points are moved along the normal, so that the surface does not shade itself.
    lifted = ((vertices + 0.002 * normals) @ axes) * unit + offset
    lit = _past(lifted, map_of(vertices @ axes, triangles), spread)
    if casters is not None:
        others = [map_of(one.vertices @ axes[k], one.triangles) for k, one in enumerate(casters)]
        lit = lit * (1 - _WORN_SHADOW * (1 - _past(lifted, torch.stack(others), spread)))
    return torch.where(light.lamp.amax(-1, keepdim=True) > 0, lit, 1.0)


def _past(
    lifted: Float[Tensor, "N V 3"], depth: Float[Tensor, "N S S"], spread: Float[Tensor, "N"]
) -> Float[Tensor, "N V"]:
    """Return the share of the light that reaches points (x, y in texels), from shadow maps."""
    size = depth.shape[-1]
    depth = torch.where(depth > 0, depth, 1e3)
    spread = spread[:, None]
    lit = torch.zeros_like(lifted[..., 0])
    steps = (-1.0, 0.0, 1.0)
    flat = depth.flatten(1)
    for dy in steps:
        for dx in steps:
            x = (lifted[..., 0] + dx * spread).long().clamp(0, size - 1)
            y = (lifted[..., 1] + dy * spread).long().clamp(0, size - 1)
            blocker = flat.gather(1, y * size + x)
            # The edge is soft over 3 mm, which hides the steps of the map.
            lit += ((blocker - lifted[..., 2] + 0.0045) / 0.003).clamp(0, 1)
    return lit / len(steps) ** 2


def shade(
    albedo: Float[Tensor, "3 P"],
    normal: Float[Tensor, "3 P"],
    lit: Float[Tensor, "P"],
    position: Float[Tensor, "3 P"],
    ambient_visibility: Float[Tensor, "P"],
    specular: Float[Tensor, "P"],
    wet: Float[Tensor, "P"],
    light: LightRig,
    skin_specular: Float[Tensor, ""],
) -> Float[Tensor, "3 P"]:
    """Return the colour of some surface points of one head, linear RGB.

    Args:
        albedo: linear RGB.
        normal: unit, light axes.
        lit: visibility of the lamp from the point, 0 to 1.
        position: light axes, the camera at the origin, metres.
        ambient_visibility: share of the surrounding light that reaches the point.
        specular: strength of the specular reflection.
        wet: 1 where the surface is wet and smooth.
        light: without batch axes.
        skin_specular: factor on the specular reflection of dry skin.
    """
    basis = spherical_harmonics(normal.T)
    soft = (basis @ light.soft).T.clamp(min=0.02)
    # In hollows, skin reflects light several times, which makes it redder.
    hollow = _tinted(ambient_visibility, (0.25, 0.0, -0.07))
    toward = (light.direction[:, None] * normal).sum(0)
    wrap = (toward.new_tensor([0.22, 0.10, 0.07])[:, None] + 0.3 * light.size) * (1 - wet)
    lambert = ((toward + wrap) / (1 + wrap)).clamp(min=0)
    shadow = _tinted(lit, (0.3, 0.0, -0.12))
    diffuse = soft * hollow + light.lamp[:, None] * lambert * shadow

    view = -_unit(position)
    facing = (view * normal).sum(0).clamp(min=0.02, max=1)
    fresnel = 0.028 + 0.972 * (1 - facing) ** 5
    half = _unit(view + light.direction[:, None])
    peak = (half * normal).sum(0).clamp(min=0)
    grazing = 0.028 + 0.972 * (1 - (half * view).sum(0).clamp(0, 1)) ** 5
    # Normalised Blinn-Phong lobes (Kelemen and Szirmay-Kalos for skin).
    broad, tight = peak**18 * (20 / 8), peak**70 * (72 / 8)
    glass = peak**600 * (602 / 8)
    lobes = torch.where(wet > 0.5, glass, 0.65 * broad + 0.35 * tight)
    strength = specular * torch.where(wet > 0.5, torch.ones_like(specular), skin_specular * 0.9)
    mirror = lobes * grazing * strength * lit * (toward > 0)
    reflected = 2 * facing * normal - view
    # Reflections show the surroundings only coarsely, by harmonics up to degree one.
    around = (spherical_harmonics(reflected.T)[:, :4] @ light.soft[:4]).T.clamp(min=0)
    # The limit is because skin is rough: its rim is less bright than a mirror's by Fresnel's law.
    sheen = fresnel.clamp(max=0.05) * strength * ambient_visibility * 0.45
    return albedo * diffuse + light.lamp[:, None] * mirror + around * sheen


def _tinted(share: Float[Tensor, "P"], excess: tuple[float, float, float]) -> Float[Tensor, "3 P"]:
    """Return a share of light in [0, 1] for red, green and blue; 0 and 1 do not change."""
    return share * (1 + share.new_tensor(excess)[:, None] * (1 - share))


def _unit(vectors: Float[Tensor, "3 P"]) -> Float[Tensor, "3 P"]:
    return vectors * (vectors * vectors).sum(0).clamp(min=1e-18).rsqrt()


def _sample(texture: Float[Tensor, "C D D"], uv: Float[Tensor, "2 P"]) -> Float[Tensor, "C P"]:
    """Return a texture at some points, bilinear."""
    grid = (uv.T * 2 - 1)[None, None]
    return F.grid_sample(texture[None], grid, padding_mode="border", align_corners=False)[0, :, 0]


def ambient_visibility(
    vertices: Float[Tensor, "V 3"], triangles: Int[Tensor, "T 3"], *, directions: int = 64
) -> Float[Tensor, "V"]:
    """Return one minus the mesh's ambient occlusion: the visible sky, weighted by the cosine."""
    normals = vertex_normals(vertices, triangles)
    index = torch.arange(directions, dtype=torch.float32, device=vertices.device) + 0.5
    # A Fibonacci spiral covers the sphere evenly.
    z = 1 - 2 * index / directions
    angle = index * 2.399963
    flat = (1 - z * z).sqrt()
    rays = torch.stack([angle.cos() * flat, z, angle.sin() * flat], -1)
    seen, total = torch.zeros_like(vertices[:, 0]), torch.zeros_like(vertices[:, 0])
    middle = (vertices.amin(0) + vertices.amax(0)) / 2
    for ray in rays:
        light = LightRig(
            vertices.new_zeros(1, 9, 3), ray[None], vertices.new_ones(1, 3), ray.new_zeros(1)
        )
        lit = light_on_vertices(
            (vertices - middle)[None], normals[None], triangles, light, backend="auto"
        )[0]
        cosine = (normals @ ray).clamp(min=0)
        seen += lit * cosine
        total += cosine
    return seen / total.clamp(min=1e-6)
