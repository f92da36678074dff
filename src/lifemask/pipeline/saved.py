"""Heads that were written to GLB files, read back and drawn in another light."""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.meshes import Mesh
from lifemask.io.colour import image_from_pixels, pixels_from_image
from lifemask.io.gltf import read_glb
from lifemask.io.images import decode_photo
from lifemask.io.scenes import Scene, Surface, SurfaceMaterial
from lifemask.pipeline.views import face_camera
from lifemask.rendering import render

_SUPERSAMPLING = 2
_TEXTURE_SIZE = 4096
"""Textures with more texels a side are reduced: no picture shows more."""
_BACKGROUND = 0.85
"""Linear grey behind opaque pictures."""


class SavedHeadError(ValueError):
    """A file was not written by `FaceReconstruction.save`; the message says what is missing."""


@dataclass(frozen=True)
class SavedHead:
    """A reconstructed head as a GLB file holds it."""

    scene: Scene
    """Surfaces with their textures, and the expression of the photo."""
    camera: PerspectiveCamera
    """Camera of the whole photo."""

    def draw(
        self, light: SphericalHarmonicsLight, *, size: int = 1024, opaque: bool = False
    ) -> UInt8[np.ndarray, "size size channels"]:
        """Return a square sRGB picture of the head as in the photo, in another light.

        The normal map is not used, as spherical harmonics of the second degree hardly show it.

        Args:
            light: in the camera's axes.
            size: pixels a side.
            opaque: RGB on grey instead of RGBA.
        """
        surfaces = [surface for _, surface in self.scene.at_rest()]
        # Transparent surfaces are drawn last, over those behind them.
        surfaces.sort(key=_is_transparent)
        points = torch.from_numpy(np.concatenate([s.positions for s in surfaces])).float()
        camera, _ = face_camera(self.camera, points, size, margin=0.04)
        large_size = size * _SUPERSAMPLING
        large = camera.cropped(0, 0, (large_size, large_size), _SUPERSAMPLING)
        colour, mask = torch.zeros(3, *large.image_size), torch.zeros(large.image_size)
        nearest = torch.full(large.image_size, torch.inf)
        for surface in surfaces:
            mesh, texture = _welded(surface), _texture(surface.material)
            cull = "none" if surface.material and surface.material.double_sided else "back"
            drawn = render(mesh, large, texture=texture[:3], light=light, cull=cull)
            wins = (drawn.mask > 0) & (drawn.depth < nearest)
            cover = torch.where(wins, drawn.mask, 0)
            if _is_transparent(surface):
                opacity = texture[3:].expand(3, -1, -1)
                cover = cover * render(mesh, large, texture=opacity, cull=cull).albedo[0]
            else:
                nearest = torch.where(wins, drawn.depth, nearest)
            # Colour is premultiplied by opacity.
            colour = cover * drawn.colour.clamp(0, 1) + (1 - cover) * colour
            mask = cover + (1 - cover) * mask
        pooled = torch.nn.functional.avg_pool2d(torch.cat([colour, mask[None]])[None], 2)[0]
        colour, opacity = pooled[:3], pooled[3:]
        if opaque:
            return pixels_from_image(colour + (1 - opacity) * _BACKGROUND)
        straight = pixels_from_image(colour / opacity.clamp(min=1e-6))
        alpha = (opacity[0] * 255).round().to(torch.uint8).numpy()
        return np.dstack([straight, alpha])


def read_head(path: str | os.PathLike[str]) -> SavedHead:
    """Read a head from NAME.glb, or from NAME.json with NAME.glb beside it.

    Raises:
        SavedHeadError: there is no such file, or it was not written by this package.
        GltfError: the GLB is damaged.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        path = path.with_suffix(".glb")
    try:
        scene = read_glb(path)
    except OSError as error:
        raise SavedHeadError(
            f"Cannot read {str(path)!r}: {error.strerror}. Heads are written by "
            "`lifemask reconstruct`, as GLB unless --format says otherwise."
        ) from error
    try:
        return SavedHead(scene, _camera(scene.extras["camera"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SavedHeadError(
            f"{str(path)!r} holds no camera ({error!r}); only heads written by "
            "`lifemask reconstruct` do."
        ) from error


def _camera(values: Mapping[str, Any]) -> PerspectiveCamera:
    height, width = values["image_size"]
    return PerspectiveCamera(
        torch.tensor(float(values["focal_pixels"])),
        torch.tensor(values["principal_point"]).float(),
        torch.tensor(values["head_to_camera"]).float(),
        (int(height), int(width)),
    )


def _welded(surface: Surface) -> Mesh:
    """Join vertices that are repeated at texture seams, so that the shading shows no seam.

    Points that touch but are not joined, such as closed lips, differ in their normals.
    """
    key = surface.positions
    if surface.normals is not None:
        key = np.concatenate([key, surface.normals.round(3)], axis=-1)
    _, first, index = np.unique(key, axis=0, return_index=True, return_inverse=True)
    uv, uv_triangles = surface.uv, surface.uv_triangles
    if uv is None:
        uv, uv_triangles = np.zeros((1, 2), np.float32), np.zeros_like(surface.triangles)
    elif uv_triangles is None:
        uv_triangles = surface.triangles
    return Mesh(
        torch.from_numpy(surface.positions[first]),
        torch.from_numpy(index.reshape(-1)[surface.triangles]).long(),
        torch.from_numpy(np.array(uv)),
        torch.from_numpy(np.array(uv_triangles)).long(),
    )


def _is_transparent(surface: Surface) -> bool:
    return surface.material is not None and surface.material.alpha_mode != "OPAQUE"


def _texture(material: SurfaceMaterial | None) -> Float[Tensor, "4 R S"]:
    """Return base colour (linear) and opacity; one texel if there is no texture."""
    factor = torch.tensor((1.0, 1.0, 1.0, 1.0) if material is None else material.base_colour)
    if material is None or material.base_colour_image is None:
        return factor.view(4, 1, 1)
    file = io.BytesIO(material.base_colour_image)
    pixels = decode_photo(file, name="texture").pixels
    reduction = -(-max(pixels.shape[:2]) // _TEXTURE_SIZE)
    if reduction > 1:
        pixels = np.array(Image.fromarray(pixels).reduce(reduction))
    opacity = torch.ones(1, *pixels.shape[:2])
    if material.alpha_mode != "OPAQUE":
        # Transparent parts of a photo become white; a texture keeps its colours there.
        file.seek(0)
        with Image.open(file) as image:
            layers = np.array(image.convert("RGBA").reduce(reduction))
        pixels, opacity[0] = layers[..., :3].copy(), torch.from_numpy(layers[..., 3] / 255.0)
    return torch.cat([image_from_pixels(pixels), opacity]) * factor.view(4, 1, 1)
