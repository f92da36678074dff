"""Heads under light: geometry, shadows, skin's shine and relief, drawn into linear pictures."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.data.synthetic.lights import LightRig
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import light_axes_from_camera, spherical_harmonics
from lifemask.geometry.meshes import vertex_normals
from lifemask.rendering.backends import BackendName
from lifemask.rendering.fragments import Fragments
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize

_SHADOW_PIXELS = 160
# Far enough that rays through the shadow map are parallel to float precision.
_SHADOW_DISTANCE = 20.0
_SHADOW_RADIUS = 0.19


@dataclass(frozen=True)
class HeadMaterial:
    """What all heads share, per vertex or per texel."""

    triangles: Int[Tensor, "T 3"]
    """Those that are drawn."""
    uv: Float[Tensor, "U 2"]
    """Texture coordinates."""
    uv_triangles: Int[Tensor, "T 3"]
    """Row for row with `triangles`."""
    openness: Float[Tensor, "V"]
    """How much of the surrounding light reaches a vertex of the resting head, 0 to 1."""
    gloss: Float[Tensor, "V"]
    """Strength of the mirror-like reflection, 1 on skin."""
    wet: Float[Tensor, "V"]
    """1 on eyeballs, teeth and tongue, which are smooth and let no light through, else 0."""
    skin: Float[Tensor, "D D"]
    """Where the texture is skin of the face."""
    middle: Float[Tensor, "3"]
    """Of the head's box, head space, metres: every head lies within a sphere around it."""


@dataclass(frozen=True)
class Scene:
    """One picture of each head before background, hair and camera faults, and what made it."""

    colour: Float[Tensor, "N 3 H W"]
    """Linear RGB of the head; 0 beside it."""
    fragments: Fragments
    """Which triangle of the material each pixel shows, and its depth in metres."""
    normals: Float[Tensor, "N 3 H W"]
    """Unit normals of the displaced head in light axes; 0 beside it."""
    albedo: Float[Tensor, "N 3 H W"]
    """Linear RGB; 0 beside the head."""
    skin: Float[Tensor, "N H W"]
    """Where the head's own skin of the face is seen."""
    vertices: Float[Tensor, "N V 3"]
    """Of the heads, head space, metres."""
    camera: PerspectiveCamera
    """Of these pictures."""
    light: LightRig
    """On these heads."""


def light_on_vertices(
    vertices: Float[Tensor, "N V 3"],
    normals: Float[Tensor, "N V 3"],
    triangles: Int[Tensor, "T 3"],
    light: LightRig,
    *,
    backend: BackendName,
) -> Float[Tensor, "N V"]:
    """Return how much of the lamp each vertex sees past the head, 0 to 1.

    From a shadow map in the lamp's direction (Williams 1978), averaged over as many texels as the
    lamp is wide (Reeves et al. 1987).

    Args:
        vertices: light axes, relative to the head's middle, metres.
        normals: unit, light axes.
        triangles: that cast shadows.
        light: the lamps.
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
    axes = torch.stack([right, down, forward], dim=1)
    scale = _SHADOW_PIXELS / (2 * _SHADOW_RADIUS)
    offset = vertices.new_tensor([_SHADOW_PIXELS / 2, _SHADOW_PIXELS / 2, _SHADOW_DISTANCE])
    unit = vertices.new_tensor([scale, scale, 1.0])
    seen = (vertices @ axes.transpose(1, 2)) * unit + offset
    size = (_SHADOW_PIXELS, _SHADOW_PIXELS)
    depth = rasterize(seen, triangles, size, cull="none", backend=backend).depth
    depth = torch.where(depth > 0, depth, 1e3)

    # Off the surface along the normal, so that it does not shade itself.
    lifted = ((vertices + 0.002 * normals) @ axes.transpose(1, 2)) * unit + offset
    spread = (1.0 + light.size * 12).clamp(max=6)[:, None]
    lit = torch.zeros_like(lifted[..., 0])
    steps = (-1.0, 0.0, 1.0)
    flat = depth.flatten(1)
    for dy in steps:
        for dx in steps:
            x = (lifted[..., 0] + dx * spread).long().clamp(0, _SHADOW_PIXELS - 1)
            y = (lifted[..., 1] + dy * spread).long().clamp(0, _SHADOW_PIXELS - 1)
            blocker = flat.gather(1, y * _SHADOW_PIXELS + x)
            # Soft over 3 mm: hides the steps of the map.
            lit += ((blocker - lifted[..., 2] + 0.0045) / 0.003).clamp(0, 1)
    return lit / len(steps) ** 2


def draw_heads(
    material: HeadMaterial,
    vertices: Float[Tensor, "N V 3"],
    camera: PerspectiveCamera,
    light: LightRig,
    albedo: Float[Tensor, "N 3 D D"],
    relief: Float[Tensor, "N D D"],
    shine: Float[Tensor, "N"],
    *,
    backend: BackendName = "auto",
) -> Scene:
    """Return pictures of heads.

    Soft light falls by nine harmonics of the displaced normal, dimmed where the head is hollow. The
    lamp's light wraps a little around skin, more so red, as it does under the surface; its mirror
    reflection has two lobes.

    Args:
        material: of the head.
        vertices: head space, metres.
        camera: of the pictures.
        light: on the heads.
        albedo: linear RGB textures.
        relief: metres along the normal.
        shine: factor on the mirror-like reflection.
        backend: of the rasteriser.
    """
    in_camera = camera.to_camera(vertices)
    points = camera.project_from_camera(in_camera)
    fragments = rasterize(
        points, material.triangles, camera.image_size, cull="back", backend=backend
    )
    in_light = light_axes_from_camera(in_camera)
    normals = vertex_normals(in_light, material.triangles)
    middle = light_axes_from_camera(camera.to_camera(material.middle.expand(len(vertices), 1, 3)))
    lit = light_on_vertices(in_light - middle, normals, material.triangles, light, backend=backend)
    along_u, along_v = _tangents(in_light, material)
    shared = torch.stack([material.openness, material.gloss, material.wet], -1)
    attributes = torch.cat(
        [normals, lit.unsqueeze(-1), in_light, shared.expand(len(vertices), -1, -1)], -1
    )
    image = interpolate(attributes, material.triangles, fragments, backend=backend)
    uv = interpolate(material.uv, material.uv_triangles, fragments, backend=backend)
    slopes = _slopes(relief)
    textures = torch.cat([albedo, slopes], 1)
    static = material.skin

    size = camera.image_size
    count = len(vertices)
    colour = vertices.new_zeros(count, 3, size[0] * size[1])
    normal_image, albedo_image = torch.zeros_like(colour), torch.zeros_like(colour)
    skin_image = vertices.new_zeros(count, size[0] * size[1])
    for k in range(count):
        place = fragments.triangle_index[k].flatten()
        pixels = (place >= 0).nonzero()[:, 0]
        triangle = place[pixels]
        values = image[k].flatten(1)[:, pixels]
        at = uv[k].flatten(1)[:, pixels]
        painted = _sample(textures[k], at)
        surface = _unit(values[:3])
        gradient = painted[3] * along_u[k][:, triangle] + painted[4] * along_v[k][:, triangle]
        dry = 1 - values[9]
        tilted = surface - (gradient - (gradient * surface).sum(0) * surface) * dry
        normal = _unit(tilted)
        lamp_light = LightRig(light.soft[k], light.direction[k], light.lamp[k], light.size[k])
        colour[k][:, pixels] = shade(
            painted[:3], normal, values[3], values[4:7], values[7], values[8], values[9],
            lamp_light, shine[k],
        )  # fmt: skip
        normal_image[k][:, pixels] = normal
        albedo_image[k][:, pixels] = painted[:3]
        skin_image[k][pixels] = _sample(static[None], at)[0]
    return Scene(
        colour.view(count, 3, *size),
        fragments,
        normal_image.view(count, 3, *size),
        albedo_image.view(count, 3, *size),
        skin_image.view(count, *size),
        vertices,
        camera,
        light,
    )


def shade(
    albedo: Float[Tensor, "3 P"],
    normal: Float[Tensor, "3 P"],
    lit: Float[Tensor, "P"],
    position: Float[Tensor, "3 P"],
    openness: Float[Tensor, "P"],
    gloss: Float[Tensor, "P"],
    wet: Float[Tensor, "P"],
    light: LightRig,
    shine: Float[Tensor, ""],
) -> Float[Tensor, "3 P"]:
    """Return the colour of some surface points of one head.

    Args:
        albedo: linear RGB.
        normal: unit, light axes.
        lit: how much of the lamp reaches the point.
        position: light axes, the camera at the origin, metres.
        openness: how much of the surrounding light reaches the point.
        gloss: strength of the mirror reflection.
        wet: 1 where the surface is wet and smooth.
        light: without batch axes.
        shine: factor on the mirror reflection of dry skin.
    """
    basis = spherical_harmonics(normal.T)
    soft = (basis @ light.soft).T.clamp(min=0.02)
    # Light that bounces between skin in hollows comes out redder.
    hollow = openness ** openness.new_tensor([0.8, 1.0, 1.08])[:, None]
    toward = (light.direction[:, None] * normal).sum(0)
    wrap = (toward.new_tensor([0.22, 0.10, 0.07])[:, None] + 0.3 * light.size) * (1 - wet)
    lambert = ((toward + wrap) / (1 + wrap)).clamp(min=0)
    shadow = lit.clamp(0, 1) ** lit.new_tensor([0.75, 1.05, 1.15])[:, None]
    diffuse = soft * hollow + light.lamp[:, None] * lambert * shadow

    view = -_unit(position)
    facing = (view * normal).sum(0).clamp(min=0.02, max=1)
    fresnel = 0.028 + 0.972 * (1 - facing) ** 5
    half = _unit(view + light.direction[:, None])
    peak = (half * normal).sum(0).clamp(min=0)
    grazing = 0.028 + 0.972 * (1 - (half * view).sum(0).clamp(0, 1)) ** 5
    # Blinn-Phong lobes as tall as their width asks (Kelemen and Szirmay-Kalos for skin).
    broad, tight = peak**18 * (20 / 8), peak**70 * (72 / 8)
    glass = peak**600 * (602 / 8)
    lobes = torch.where(wet > 0.5, glass, 0.65 * broad + 0.35 * tight)
    strength = gloss * torch.where(wet > 0.5, torch.ones_like(gloss), shine * 0.9)
    mirror = lobes * grazing * strength * lit * (toward > 0)
    reflected = 2 * facing * normal - view
    around = (spherical_harmonics(reflected.T) @ light.soft).T.clamp(min=0)
    sheen = fresnel.clamp(max=0.35) * strength * openness * 0.45
    return albedo * diffuse + light.lamp[:, None] * mirror + around * sheen


def _unit(vectors: Float[Tensor, "3 P"]) -> Float[Tensor, "3 P"]:
    return vectors * (vectors * vectors).sum(0).clamp(min=1e-18).rsqrt()


def _tangents(
    vertices: Float[Tensor, "N V 3"], material: HeadMaterial
) -> tuple[Float[Tensor, "N 3 T"], Float[Tensor, "N 3 T"]]:
    """Return the surface gradients of u and v on each triangle, per metre."""
    a, b, c = (vertices[:, material.triangles[:, k]] for k in range(3))
    first, second = b - a, c - a
    pa, pb, pc = (material.uv[material.uv_triangles[:, k]] for k in range(3))
    uv1, uv2 = pb - pa, pc - pa
    cross = torch.linalg.cross(first, second)
    squared = (cross * cross).sum(-1, keepdim=True).clamp(min=1e-18)
    # Reciprocal basis of the two edges within the triangle's plane.
    dual1 = torch.linalg.cross(second, cross) / squared
    dual2 = torch.linalg.cross(cross, first) / squared
    along_u = dual1 * uv1[:, :1] + dual2 * uv2[:, :1]
    along_v = dual1 * uv1[:, 1:] + dual2 * uv2[:, 1:]
    return along_u.transpose(1, 2), along_v.transpose(1, 2)


def _slopes(relief: Float[Tensor, "N D D"]) -> Float[Tensor, "N 2 D D"]:
    """Return the derivatives of the relief by u and v, metres per texture width."""
    padded = F.pad(relief[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    scale = relief.shape[-1] / 2
    return torch.stack(
        [
            (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * scale,
            (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * scale,
        ],
        1,
    )


def _sample(texture: Float[Tensor, "C D D"], uv: Float[Tensor, "2 P"]) -> Float[Tensor, "C P"]:
    """Return a texture at some places, bilinear."""
    grid = (uv.T * 2 - 1)[None, None]
    return F.grid_sample(texture[None], grid, padding_mode="border", align_corners=False)[0, :, 0]


def openness(
    vertices: Float[Tensor, "V 3"], triangles: Int[Tensor, "T 3"], *, directions: int = 64
) -> Float[Tensor, "V"]:
    """Return how much of an even sky each vertex sees past the mesh, weighted by the cosine."""
    normals = vertex_normals(vertices, triangles)
    index = torch.arange(directions, dtype=torch.float32, device=vertices.device) + 0.5
    # A spiral of Fibonacci covers the sphere evenly.
    z = 1 - 2 * index / directions
    angle = index * 2.399963
    flat = (1 - z * z).sqrt()
    rays = torch.stack([angle.cos() * flat, z, angle.sin() * flat], -1)
    seen, total = torch.zeros_like(vertices[:, 0]), torch.zeros_like(vertices[:, 0])
    middle = (vertices.amin(0) + vertices.amax(0)) / 2
    for ray in rays:
        light = LightRig(
            vertices.new_zeros(1, 9, 3), ray[None], vertices.new_zeros(1, 3), ray.new_zeros(1)
        )
        lit = light_on_vertices(
            (vertices - middle)[None], normals[None], triangles, light, backend="auto"
        )[0]
        cosine = (normals @ ray).clamp(min=0)
        seen += lit * cosine
        total += cosine
    return seen / total.clamp(min=1e-6)
