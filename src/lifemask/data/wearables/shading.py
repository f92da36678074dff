"""Computes the light on hair, cloth, skin and glass at the vertices of wearables."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.data.wearables.dressing import CLOTH, GLASS, HAIR, SKIN, Dressed
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import light_axes_from_camera, spherical_harmonics
from lifemask.geometry.meshes import vertex_normals

MIDDLE = (0.0, 0.01, -0.07)
"""Middle of a head of hair, head space, metres."""
SOFTNESS = 0.6
"""Weight in hair's normals of those of a sphere around `MIDDLE`, 0 to 1."""
PASSED = 0.2
"""Share of the light that passes through hair."""
FIBRE = (0.0, -1.0, -0.25)
"""Direction of hair fibres, head space."""
# Hair scatters light forward.
_WRAP = {HAIR: 0.25, CLOTH: 0.05, SKIN: 0.12, GLASS: 0.0}
WRAP = tuple(_WRAP[kind] for kind in sorted(_WRAP))
"""How far light reaches around each kind of surface; 0 is Lambert's law."""


def vertex_colours(
    dressed: Dressed,
    camera: PerspectiveCamera,
    *,
    soft: Float[Tensor, "9 3"],
    direction: Float[Tensor, "3"],
    lamp: Float[Tensor, "3"],
) -> Float[Tensor, "V 3"]:
    """Return the linear RGB light from each vertex to the camera where the luminance is 1.

    Hair reflects light like fibres (Kajiya and Kay, "Rendering fur with three dimensional
    textures", 1989) that go down from the crown. Glass mirrors the surrounding light.

    Args:
        dressed: the wearables.
        camera: of the image, without batch axes.
        soft: harmonics of the surrounding light's irradiance over pi, light axes.
        direction: unit vector to the lamp, light axes.
        lamp: linear RGB shading that the lamp gives a surface facing it.
    """
    vertices = dressed.vertices
    middle = vertices.new_tensor(MIDDLE)
    hairy = (dressed.surface == HAIR)[:, None]
    own = vertex_normals(vertices, dressed.triangles)
    # Hair cards are flat and two-sided; therefore they are lit like the whole hair.
    away = F.normalize(vertices - middle, dim=-1)
    outward = torch.where((own * away).sum(-1, keepdim=True) < 0, -own, own)
    blended = F.normalize((1 - SOFTNESS) * outward + SOFTNESS * away, dim=-1)
    own = torch.where(hairy, blended, own)
    rotation = camera.world_to_camera[:3, :3]
    normals = light_axes_from_camera(own @ rotation.T)
    position = light_axes_from_camera(camera.to_camera(vertices))
    view = -F.normalize(position, dim=-1)
    wrap = vertices.new_tensor(WRAP)[dressed.surface][:, None]

    surrounding = (spherical_harmonics(normals) @ soft).clamp(min=0.02)
    toward = (normals * direction).sum(-1, keepdim=True)
    lambert = ((toward + wrap) / (1 + wrap)).clamp(min=0)
    passed = hairy.to(vertices) * PASSED
    open_sky = passed + (1 - passed) * dressed.ambient_visibility[:, None]
    lit = ((open_sky - 0.08) / 0.45).clamp(0, 1)
    diffuse = surrounding * open_sky + lamp * lambert * lit

    down = light_axes_from_camera(vertices.new_tensor(FIBRE) @ rotation.T)
    fibre = F.normalize(down - (down * normals).sum(-1, keepdim=True) * normals, dim=-1)
    half = F.normalize(view + direction, dim=-1)
    along = (fibre * half).sum(-1, keepdim=True)
    across = (1 - along * along).clamp(min=0).sqrt()
    highlights = across**60 * 0.35 + across**14 * 0.12
    facing = ((normals * half).sum(-1, keepdim=True)).clamp(0, 1)
    # The first highlight has the light's colour, the broad one the hair's.
    tint = dressed.colour / dressed.colour.amax(-1, keepdim=True).clamp(min=1e-4)
    fibre_light = lamp * highlights * lit * (0.25 + 0.75 * facing) * (0.35 + 0.65 * tint)
    sheen = surrounding * open_sky * 0.03 * across**14
    hair = (fibre_light + sheen) * dressed.specular[:, None] * 0.35

    mirrored = 2 * (normals * view).sum(-1, keepdim=True) * normals - view
    around = (spherical_harmonics(mirrored) @ soft).clamp(min=0)
    grazing = 0.05 + 0.95 * (1 - (normals * view).sum(-1, keepdim=True).abs()).clamp(0, 1) ** 5
    glint = (facing**80) * 6 * lit
    glass = (around * 0.9 + lamp * glint) * grazing * dressed.specular[:, None]

    kind = dressed.surface[:, None]
    mirror = torch.where(kind == HAIR, hair, torch.where(kind == GLASS, glass, 0.0))
    return dressed.colour * diffuse + mirror
