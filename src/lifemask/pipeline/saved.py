"""Heads that were written to GLB files, read back and drawn in another light."""

import io
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.environments import Environment, checked_environment
from lifemask.geometry.lighting import (
    SphericalHarmonicsLight,
    checked_light,
    light_axes_from_camera,
)
from lifemask.geometry.meshes import Mesh, vertex_normals
from lifemask.geometry.precision import single_precision
from lifemask.io.colour import image_from_pixels, pixels_from_image
from lifemask.io.gltf_reader import read_glb
from lifemask.io.images import SMALLEST_SIDE, decode_photo
from lifemask.io.json_values import JsonError, JsonValue, read_json
from lifemask.io.scenes import Scene, Surface, SurfaceMaterial
from lifemask.pipeline.views import camera_around, face_camera
from lifemask.rendering import render
from lifemask.rendering.visibility import shares_at

_SUPERSAMPLING = 2
_TEXTURE_SIZE = 4096
"""Textures with more texels a side are reduced: no picture shows more."""
_BACKGROUND = 0.85
"""Linear grey behind opaque pictures."""
_MOST_TEXELS = 400_000_000
"""Most texels of all textures together."""
_MOST_PIXELS = 1e7
"""Largest coordinate of a principal point and largest focal length."""
_MOST_METRES = 1000.0
_BRIGHTEST = 1000.0
"""Largest coefficient of a light."""
_ROTATION_TOLERANCE = 0.01
_SAME_PIXELS, _SAME_POSE = 0.01, 1e-5
"""How far the rounded camera of NAME.json may differ from that of NAME.glb."""


class SavedHeadError(ValueError):
    """A file was not written by `FaceReconstruction.save`; the message says what is missing."""


@dataclass(frozen=True)
class SavedHead:
    """A reconstructed head as a GLB file holds it."""

    scene: Scene
    """Surfaces with their textures, and the expression of the photo."""
    camera: PerspectiveCamera
    """Camera of the whole photo."""

    @property
    def light(self) -> SphericalHarmonicsLight | None:
        """Light of the photo, in the axes of its camera; None if the file does not hold it."""
        try:
            rows = JsonValue(self.scene.extras, "scenes[0].extras")["light_sh"]
            coefficients = rows.numbers((9, 3), least=-_BRIGHTEST, most=_BRIGHTEST)
        except JsonError:
            return None
        return SphericalHarmonicsLight(torch.from_numpy(coefficients).float())

    @single_precision()
    def draw(
        self,
        light: SphericalHarmonicsLight | Environment,
        *,
        size: int = 1024,
        opaque: bool = False,
    ) -> UInt8[np.ndarray, "size size channels"]:
        """Return a square sRGB picture of the head as in the photo, in another light.

        The normal map is not used, as spherical harmonics of the second degree hardly show it.

        Args:
            light: in the camera's axes. In an environment, the head shades itself.
            size: pixels a side.
            opaque: RGB on grey instead of RGBA.

        Raises:
            SavedHeadError: nothing of the head is visible, or its textures are too large.
            PhotoError: a texture is damaged.
            ValueError: the light is not made of finite numbers, or they are too many or too few.
        """
        points = torch.from_numpy(np.concatenate([s.positions for _, s in self.scene.at_rest()]))
        camera, _ = face_camera(self.camera, points.float(), size, margin=0.04)
        return self.picture(camera, light, opaque=opaque)

    @single_precision()
    def draw_from(
        self,
        azimuth_degrees: float,
        elevation_degrees: float,
        light: SphericalHarmonicsLight | Environment,
        *,
        size: int = 1024,
        opaque: bool = False,
    ) -> UInt8[np.ndarray, "size size channels"]:
        """Return a square sRGB picture of the head from any side; the light belongs to the picture.

        Args:
            azimuth_degrees: 0 looks at the face; at 90, the viewer stands at the head's left.
            elevation_degrees: 90 looks from above.
            light: in the axes of this view.
            size: pixels a side.
            opaque: RGB on grey instead of RGBA.

        Raises:
            SavedHeadError, PhotoError, ValueError: as `draw`.
        """
        points = torch.from_numpy(np.concatenate([s.positions for _, s in self.scene.at_rest()]))
        camera = camera_around(points.float(), azimuth_degrees, elevation_degrees, size)
        return self.picture(camera, light, opaque=opaque)

    @single_precision()
    def picture(
        self,
        camera: PerspectiveCamera,
        light: SphericalHarmonicsLight | Environment,
        *,
        opaque: bool = False,
    ) -> UInt8[np.ndarray, "H W channels"]:
        """Return an sRGB picture of the head from any camera.

        Args:
            camera: its `image_size` is the size of the picture.
            light: in the camera's axes. In an environment, the head shades itself.
            opaque: RGB on grey instead of RGBA.

        Raises:
            SavedHeadError: nothing of the head is visible, or its textures are too large.
            PhotoError: a texture is damaged.
            ValueError: the light is not made of finite numbers, or they are too many or too few.
        """
        if isinstance(light, Environment):
            environment = checked_environment(light)
            light, shares = environment.light, self._shares(camera, environment)
        else:
            light, shares = checked_light(light), [None] * len(self._parts)
        height, width = camera.image_size
        large_size = height * _SUPERSAMPLING, width * _SUPERSAMPLING
        large = camera.cropped(0, 0, large_size, _SUPERSAMPLING)
        colour, mask = torch.zeros(3, *large.image_size), torch.zeros(large.image_size)
        nearest = torch.full(large.image_size, torch.inf)
        for part, share in zip(self._parts, shares, strict=True):
            cull = "none" if part.double_sided else "back"
            drawn = render(part.mesh, large, texture=part.texture[:3], light=light, cull=cull)
            wins = (drawn.mask > 0) & (drawn.depth < nearest)
            cover = torch.where(wins, drawn.mask, 0)
            if part.transparent:
                opacity = part.texture[3:].expand(3, -1, -1)
                cover = cover * render(part.mesh, large, texture=opacity, cull=cull).albedo[0]
            else:
                nearest = torch.where(wins, drawn.depth, nearest)
            lit = drawn.colour
            if share is not None:
                lit = lit * render(part.mesh, large, vertex_colours=share, cull=cull).albedo
            # Colour is premultiplied by opacity.
            colour = cover * lit.clamp(0, 1) + (1 - cover) * colour
            mask = cover + (1 - cover) * mask
        if not bool((mask > 0).any()):
            raise SavedHeadError("Nothing of the head is visible from the camera of its file.")
        pooled = torch.nn.functional.avg_pool2d(torch.cat([colour, mask[None]])[None], 2)[0]
        colour, opacity = pooled[:3], pooled[3:]
        if opaque:
            return pixels_from_image(colour + (1 - opacity) * _BACKGROUND)
        straight = pixels_from_image(colour / opacity.clamp(min=1e-6))
        alpha = (opacity[0] * 255).round().to(torch.uint8).numpy()
        return np.dstack([straight, alpha])

    def _shares(
        self, camera: PerspectiveCamera, environment: Environment
    ) -> list[Float[Tensor, "V 3"]]:
        """Return which share of an environment reaches each vertex of each part."""
        meshes = [part.mesh for part in self._parts]
        counts = [len(mesh.vertices) for mesh in meshes]
        first = np.cumsum([0, *counts[:-1]]).tolist()
        solid = [
            mesh.triangles + start
            for mesh, start, part in zip(meshes, first, self._parts, strict=True)
            if not part.transparent
        ]
        vertices = torch.cat([mesh.vertices for mesh in meshes])
        placed = light_axes_from_camera(camera.to_camera(vertices))
        normals = torch.cat([vertex_normals(mesh.vertices, mesh.triangles) for mesh in meshes])
        turned = light_axes_from_camera(normals @ camera.world_to_camera[:3, :3].T)
        triangles = torch.cat(solid) if solid else torch.zeros(0, 3, dtype=torch.long)
        (share,) = shares_at(placed, turned, placed, triangles, [environment])
        return list(share.split(counts))

    @cached_property
    def _parts(self) -> tuple["_Part", ...]:
        """The surfaces as they are drawn, with an image of several materials decoded once."""
        # Transparent surfaces are drawn last, over those behind them.
        surfaces = sorted((s for _, s in self.scene.at_rest()), key=_is_transparent)
        textures: dict[object, Float[Tensor, "4 R S"]] = {}
        texels = 0
        parts: list[_Part] = []
        for surface in surfaces:
            material, transparent = surface.material, _is_transparent(surface)
            key = material and (material.base_colour, material.base_colour_image, transparent)
            if key not in textures:
                textures[key], read = _texture(material)
                texels += read
            if texels > _MOST_TEXELS:
                raise SavedHeadError(
                    f"The textures of the head have more than {_MOST_TEXELS} texels together. "
                    "Reduce them."
                )
            double_sided = material is not None and material.double_sided
            parts.append(_Part(_welded(surface), textures[key], transparent, double_sided))
        return tuple(parts)


@dataclass(frozen=True)
class _Part:
    """A surface as it is drawn."""

    mesh: Mesh
    texture: Float[Tensor, "4 R S"]
    transparent: bool
    double_sided: bool


@single_precision()
def read_head(path: str | os.PathLike[str]) -> SavedHead:
    """Read a head from NAME.glb, or from NAME.json with NAME.glb beside it.

    If a JSON file is named, it must describe the head in the GLB file: both hold the same camera.

    Raises:
        SavedHeadError: there is no such file, it was not written by this package, or the JSON and
            the GLB are from different heads.
        GltfError: the GLB is damaged.
    """
    path = Path(path)
    described = _described_camera(path) if path.suffix.lower() == ".json" else None
    file = path if described is None else path.with_suffix(".glb")
    try:
        scene = read_glb(file)
    except OSError as error:
        raise SavedHeadError(
            f"Cannot read {str(file)!r}: {error.strerror}. Heads are written by "
            "`lifemask reconstruct`, as GLB unless --format says otherwise."
        ) from error
    try:
        camera = _camera(JsonValue(scene.extras, "scenes[0].extras")["camera"])
    except JsonError as error:
        raise SavedHeadError(
            f"{str(file)!r} holds no camera: {error} Heads that `lifemask reconstruct` writes do."
        ) from error
    if fault := _why_invisible(scene, camera):
        raise SavedHeadError(f"{str(file)!r} cannot be drawn: {fault}.")
    if described is not None and not _same_camera(camera, described):
        raise SavedHeadError(
            f"{str(path)!r} and {str(file)!r} are not from the same head: their cameras differ. "
            "Name the GLB file to draw it without the JSON file."
        )
    return SavedHead(scene, camera)


def _described_camera(path: Path) -> PerspectiveCamera:
    """Return the camera in NAME.json."""
    try:
        document = read_json(path)
        photo = document["photo"]
        sides = [photo[name].value for name in ("height", "width")]
        camera = document["camera"]
        whole = {**camera.members(), "image_size": sides}
        return _camera(JsonValue(whole, camera.place))
    except OSError as error:
        raise SavedHeadError(
            f"Cannot read {str(path)!r}: {error.strerror}. Heads are written by "
            "`lifemask reconstruct`."
        ) from error
    except JsonError as error:
        raise SavedHeadError(
            f"{str(path)!r} does not describe a head: {error} Name the GLB file to draw it alone."
        ) from error


def _camera(values: JsonValue) -> PerspectiveCamera:
    size = values["image_size"].items(most=2)
    if len(size) != 2:
        values["image_size"].refuse("a height and a width in pixels")
    height, width = (side.integer(SMALLEST_SIDE, 1_000_000) for side in size)
    centre = values["principal_point"].numbers((2,), least=-_MOST_PIXELS, most=_MOST_PIXELS)
    place = values["head_to_camera"]
    pose = place.numbers((4, 4), least=-_MOST_METRES, most=_MOST_METRES)
    rotation = pose[:3, :3]
    if (
        np.abs(rotation @ rotation.T - np.eye(3)).max() > _ROTATION_TOLERANCE
        or np.linalg.det(rotation) < 0
        or pose[3].tolist() != [0, 0, 0, 1]
    ):
        place.refuse("a rotation, a translation and the row 0, 0, 0, 1")
    return PerspectiveCamera(
        torch.tensor(values["focal_pixels"].number(1.0, _MOST_PIXELS), dtype=torch.float32),
        torch.from_numpy(centre).float(),
        torch.from_numpy(pose).float(),
        (height, width),
    )


def _why_invisible(scene: Scene, camera: PerspectiveCamera) -> str | None:
    """Return why the camera does not see the head, or None if all of it is in front of the camera."""
    surfaces = [surface for _, surface in scene.at_rest()]
    if not surfaces:
        return "it has no surfaces"
    points = torch.from_numpy(np.concatenate([s.positions for s in surfaces])).float()
    seen = camera.project(points)
    nearest = float(seen[:, 2].min())
    if not nearest > 0:
        return (
            "its camera is in the head or turned away from it; the depth of the nearest point is "
            f"{nearest:.3g} metres, and it must be more than 0"
        )
    extent = (seen[:, :2].amax(0) - seen[:, :2].amin(0)).tolist()
    if not all(0 < side < torch.inf for side in extent):
        return f"its camera sees a picture of {extent[0]:g} x {extent[1]:g} pixels"
    return None


def _same_camera(one: PerspectiveCamera, other: PerspectiveCamera) -> bool:
    apart = (
        ((one.focal_pixels - other.focal_pixels).abs(), _SAME_PIXELS),
        ((one.principal_point - other.principal_point).abs().max(), _SAME_PIXELS),
        ((one.world_to_camera - other.world_to_camera).abs().max(), _SAME_POSE),
    )
    return one.image_size == other.image_size and all(
        float(distance) <= most for distance, most in apart
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


def _texture(material: SurfaceMaterial | None) -> tuple[Float[Tensor, "4 R S"], int]:
    """Return base colour (linear) and opacity, and how many texels were read.

    If there is no texture, one texel is returned.
    """
    factor = torch.tensor((1.0, 1.0, 1.0, 1.0) if material is None else material.base_colour)
    if material is None or material.base_colour_image is None:
        return factor.view(4, 1, 1), 0
    file = io.BytesIO(material.base_colour_image)
    pixels = decode_photo(file, name="texture").pixels
    read = pixels.shape[0] * pixels.shape[1]
    reduction = -(-max(pixels.shape[:2]) // _TEXTURE_SIZE)
    if reduction > 1:
        pixels = np.array(Image.fromarray(pixels).reduce(reduction))
    opacity = torch.ones(1, *pixels.shape[:2])
    if material.alpha_mode != "OPAQUE":
        # Transparent parts of a photo become white; a texture keeps its colours there.
        file.seek(0)
        try:
            with Image.open(file) as image:
                layers = np.array(image.convert("RGBA").reduce(reduction))
        except (OSError, ValueError) as error:
            raise SavedHeadError(
                f"The texture of {material.name!r} cannot be used ({error}). Save it as 8-bit PNG."
            ) from error
        pixels, opacity[0] = layers[..., :3].copy(), torch.from_numpy(layers[..., 3] / 255.0)
    return torch.cat([image_from_pixels(pixels), opacity]) * factor.view(4, 1, 1), read
