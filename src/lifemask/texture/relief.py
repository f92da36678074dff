"""From the fine normals of a photo to a displacement of the head in UV.

The displacement h whose surface has these normals satisfies h_u = -(n . X_u) / (n . N) and the same for
v, with the smooth surface's tangents X_u, X_v and normal N (Blinn, "Simulation of wrinkled surfaces",
SIGGRAPH 1978). Both slopes together are met best by a Poisson equation, here with a term that keeps h
near zero (Frankot and Chellappa, "A method for enforcing integrability", PAMI 1988).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import fft
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.explained_face import UVMap
from lifemask.morphable.head_surface import opaque_mesh
from lifemask.morphable.model import MorphableModel
from lifemask.rendering import interpolate, unwrap_photo
from lifemask.rendering.displacement import vertex_tangents
from lifemask.rendering.filters import eroded, gaussian_blur
from lifemask.texture.atlas import head_atlas
from lifemask.texture.creases import line_share

RELIEF_SIZE = 1024
"""Texels along each side of the displacement: about two for each pixel of the network's images."""

MOST_METRES = 0.002
"""Largest displacement to either side."""

_WIDEST_MILLIMETRES = 20.0
"""Displacement much wider than this is left out: the shape of the head is the fit's."""
_STEEPEST = 1.0
"""Largest slope along either axis."""
_FACING = (0.25, 0.55)
"""Cosines between normal and view from which the relief counts, and from which it counts fully."""
_GROOVES_MILLIMETRES = (0.8, 2.2)
"""Standard deviations of the surroundings of grooves that become deeper."""
_BORDER_MILLIMETRES = 1.0
"""Skin this near to brows, hair or hidden places keeps the normals of the head."""


def relief_map(
    normals: Float[Tensor, "3 H W"],
    skin: Float[Tensor, "H W"],
    camera: PerspectiveCamera,
    vertices: Float[Tensor, "V 3"],
    model: MorphableModel,
    *,
    size: int = RELIEF_SIZE,
) -> UVMap:
    """Return the displacement whose normals are those of an image, where it shows skin.

    Args:
        normals: unit, light axes; 0 where unknown.
        skin: how far each pixel shows bare skin, 0 to 1.
        camera: of the image.
        vertices: of the smooth head as in the image, head space, metres.
        model: of the head.
        size: texels along each side.
    """
    atlas = head_atlas(model, size)
    mesh = opaque_mesh(model, vertices)
    seen = unwrap_photo(
        torch.cat([normals, skin[None]]), mesh, camera, atlas.fragments, magnification="bilinear"
    )
    wanted = F.normalize(seen.texture[:3], dim=0, eps=1e-6)
    low, high = _FACING
    facing = ((seen.cosine - low) / (high - low)).clamp(0, 1)
    scale = atlas.texels_per_millimetre
    plain = atlas.skin * (1 - torch.maximum(atlas.regions["brows"], atlas.regions["neck"]))
    known = (seen.texture[:3].square().sum(0) > 0.25).to(facing)
    # The rasteriser's snap can move regions outside [0, 1].
    shown = seen.visibility * known * (seen.texture[3] * plain).clamp(0, 1)
    shown = eroded(shown, _BORDER_MILLIMETRES * scale)
    weight = gaussian_blur((shown * facing)[None], _BORDER_MILLIMETRES * scale)[0] * shown
    placed = light_axes_from_camera(camera.to_camera(vertices))
    on_vertices = torch.cat(
        [vertex_normals(placed, model.triangles), *vertex_tangents(opaque_mesh(model, placed))], -1
    )
    on_texels = interpolate(on_vertices, model.triangles, atlas.fragments)
    smooth, along_u, along_v = on_texels.split(3)
    smooth = F.normalize(smooth, dim=0, eps=1e-6)
    upright = (wanted * smooth).sum(0).clamp(min=0.2)
    slopes = [
        (-(wanted * _across(along, smooth)).sum(0) / upright).clamp(
            -_STEEPEST * length, _STEEPEST * length
        )
        * weight
        for along, length in ((along_u, along_u.norm(dim=0)), (along_v, along_v.norm(dim=0)))
    ]
    height = integrated(slopes[0] / size, slopes[1] / size, _WIDEST_MILLIMETRES * scale)
    height = (height * weight.sqrt()).clamp(-MOST_METRES, MOST_METRES)
    return UVMap(height[None], atlas.fragments.mask.to(height))


def with_deeper_grooves(
    height: Float[Tensor, "R R"], share: float, scale: float
) -> Float[Tensor, "R R"]:
    """Return a relief whose grooves are deeper; bumps, and low places that are round, stay.

    Args:
        height: metres.
        share: of its depth below the surroundings by which a groove becomes deeper.
        scale: texels per millimetre.
    """
    widths = [width * scale for width in _GROOVES_MILLIMETRES]
    depth = sum((gaussian_blur(height[None], width)[0] - height).clamp(min=0) for width in widths)
    line = torch.stack([line_share(height, width / 2) for width in widths]).amin(0)
    # Beside the relief there is no groove.
    depth = depth * (height != 0)
    return (height - share * depth * line).clamp(-MOST_METRES, MOST_METRES)


def integrated(
    by_column: Float[Tensor, "R R"], by_row: Float[Tensor, "R R"], widest: float
) -> Float[Tensor, "R R"]:
    """Return the height whose derivatives are nearest to the given ones (least squares).

    Args:
        by_column: change from one column to the next.
        by_row: change from one row to the next.
        widest: heights much wider than this many texels are left out.
    """
    rows, columns = by_column.shape
    # Derivatives between neighbours, so that their adjoint is exact; the border has none.
    right = ((by_column[:, 1:] + by_column[:, :-1]) / 2).double().numpy()
    down = ((by_row[1:] + by_row[:-1]) / 2).double().numpy()
    divergence = np.zeros((rows, columns))
    divergence[:, :-1] += right
    divergence[:, 1:] -= right
    divergence[:-1] += down
    divergence[1:] -= down
    by_frequency = np.asarray(fft.dctn(divergence, norm="ortho"))
    wave = [2 - 2 * np.cos(math.pi * np.arange(count) / count) for count in (rows, columns)]
    stiffness = wave[0][:, None] + wave[1][None] + 1 / widest**2
    height = np.asarray(fft.idctn(-by_frequency / stiffness, norm="ortho"))
    return torch.from_numpy(height).to(by_column)


def _across(vectors: Float[Tensor, "3 R R"], normals: Float[Tensor, "3 R R"]) -> Tensor:
    """Return vectors without their part along the normals."""
    return vectors - (vectors * normals).sum(0) * normals
