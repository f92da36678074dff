"""Photos of test people with their complete truth.

They are drawn at twice their size with the project's rasteriser, which is not evaluated. Shadows,
specular light, ambient occlusion and camera degradations are added, so the image model differs from
that of every evaluated method.
"""

import io
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from lifemask.evaluation.ict_faces.bumps import Relief, lamp_visibility, sky_visibility
from lifemask.evaluation.ict_faces.head import FACE, SKIN, IctHead, light_reaches
from lifemask.evaluation.ict_faces.light import TestLight, sphere_normals
from lifemask.evaluation.ict_faces.props import TORSO_VERTICES, background, hair_shell, torso
from lifemask.evaluation.ict_faces.shots import Person, Shot
from lifemask.evaluation.ict_faces.skin import Appearance
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import light_axes_from_camera
from lifemask.geometry.meshes import vertex_normals
from lifemask.io.colour import pixels_from_image
from lifemask.morphable.importers.ict import NARROW_FACE
from lifemask.rendering.fragments import Fragments
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize
from lifemask.rendering.texture import sample_texture

Array = np.ndarray

SUPERSAMPLING = 2
"""Pixels of a scene along each side of a pixel of its photo."""


@dataclass(frozen=True)
class FaceTruth:
    """The truth of one test photo. Maps are in its pixels, zero outside the face."""

    yaw_degrees: float
    """Absolute yaw of the head."""
    landmarks68: Float[Array, "68 2"]
    """ICT's own iBUG points, pixels, hidden ones too."""
    landmarks68_camera: Float[Array, "68 3"]
    """The same in camera axes, metres."""
    points: Float[Array, "F 2"]
    """The face's vertices, pixels."""
    vertices_camera: Float[Array, "F 3"]
    """The face's vertices in camera axes (+X right, +Y down, +Z forward), metres."""
    vertices_neutral: Float[Array, "F 3"]
    """The same person without expression, head axes, metres."""
    visible: Bool[Array, "F"]
    """Whether each face vertex is visible to the camera."""
    albedo_points: Float[Array, "F 3"]
    """Linear RGB reflectance of the face vertices."""
    skin: Bool[Array, "H W"]
    """True on visible skin of the face, without ears and neck; not on hair."""
    normals: Float[Array, "H W 3"]
    """Unit normals (+x image right, +y up, +z to the viewer)."""
    albedo: Float[Array, "H W 3"]
    """Linear RGB reflectance."""
    depth: Float[Array, "H W"]
    """Distance along the optical axis, metres."""
    shading: Float[Array, "H W 3"]
    """Linear RGB shading with its shadows, without specular light."""
    light_on_sphere: Float[Array, "N 3"]
    """Shading of a white sphere at `sphere_normals()`."""


def photograph(
    head: IctHead, person: Person, shot: Shot
) -> tuple[UInt8[Array, "H W 3"], FaceTruth]:
    """Return the photo, sRGB, and its truth."""
    scene = Scene.build(head, person, shot)
    return scene.photo(shot), scene.truth(shot)


def photograph_lit(
    head: IctHead, person: Person, shot: Shot, light: TestLight
) -> UInt8[Array, "H W 3"]:
    """Return the shot under another light, sRGB, without specular light and camera degradations."""
    colour = Scene.build(head, person, shot).colour(light, specular=False)
    return pixels_from_image(torch.from_numpy(colour.transpose(2, 0, 1)))


@dataclass(frozen=True)
class _Lit:
    """What of a light reaches the pixels of a scene."""

    normals: Float[Array, "h w 3"]
    """Unit normals, light axes, zero where nothing is drawn."""
    points: Float[Array, "N 3"]
    """Points of the pixels that are drawn on, light axes."""
    lamp: Float[Array, "h w"]
    """1 where the lamp reaches the surface."""
    sky: Float[Array, "h w"]
    """Part of the sky that the surface sees."""
    shading: Float[Array, "h w 3"]
    """Linear RGB shading; zero where nothing is drawn."""


@dataclass(frozen=True)
class Scene:
    """One shot, drawn at twice the photo's size, without light; maps are at that size."""

    head: IctHead
    person: Person
    camera: PerspectiveCamera
    in_camera: Float[Array, "A 3"]
    """Vertices of head, hair and torso, camera axes."""
    triangles: Array
    vertex_normals: Float[Array, "A 3"]
    """Unit normals of the vertices, light axes."""
    fragments: Fragments
    """The rasterised triangles."""
    normals: Float[Array, "h w 3"]
    """Unit normals of the surface, light axes; zero where nothing is drawn."""
    albedo: Float[Array, "h w 3"]
    """Linear RGB reflectance."""
    skin: Bool[Array, "h w"]
    """Skin of the face without ears and neck; not hair."""
    relief: Relief | None = None
    """Relief of the skin that the normals have and the mesh has not; it shadows itself."""

    @staticmethod
    def build(head: IctHead, person: Person, shot: Shot) -> "Scene":
        """Draw a shot of a person."""
        vertices = head.vertices(person.identity, shot.expression, shot.gaze)
        hair, hair_triangles = hair_shell(head, person, vertices)
        shoulders, shoulder_triangles = torso(vertices)
        everything = np.concatenate([vertices, hair, shoulders])
        parts = [
            head.triangles,
            hair_triangles + len(vertices),
            shoulder_triangles + len(vertices) + len(hair),
        ]
        triangles = np.concatenate(parts)
        height, width = (SUPERSAMPLING * n for n in shot.camera.image_size)
        camera = shot.camera.cropped(0, 0, (height, width), float(SUPERSAMPLING))
        points = torch.from_numpy(everything).float()
        corners = torch.from_numpy(triangles)
        in_camera = camera.to_camera(points)
        normals = light_axes_from_camera(vertex_normals(in_camera, corners))
        # The skin has normals of its own triangles only. Otherwise, the normals of lips and lids would
        # bend towards mouth cavity and sockets. Hair and torso share no vertex with the head.
        own = light_axes_from_camera(
            vertex_normals(in_camera, torch.from_numpy(head.skin_triangles))
        )
        normals[:SKIN] = own[:SKIN]
        fragments = rasterize(camera.project_from_camera(in_camera), corners, camera.image_size)
        surface = _image(normals.numpy(), triangles, fragments)
        surface /= np.maximum(np.linalg.norm(surface, axis=-1, keepdims=True), 1e-9)
        face = np.asarray((triangles < NARROW_FACE).all(1))
        index = fragments.triangle_index.numpy()
        bare = np.zeros((len(everything), 1))
        bare[:SKIN, 0] = head.hairline < 0
        skin = (index >= 0) & face[np.maximum(index, 0)]
        skin &= _image(bare, triangles, fragments)[..., 0] > 0.5
        return Scene(
            head, person, shot.camera, in_camera.numpy(), triangles, normals.numpy(), fragments,
            surface, _draw_albedo(head, person, everything, triangles, fragments), skin,
        )  # fmt: skip

    def image(self, values: Float[Array, "V C"]) -> Float[Array, "h w C"]:
        """Return values of the head's vertices where it is drawn, zero elsewhere."""
        everywhere = np.zeros((len(self.in_camera), values.shape[1]))
        everywhere[: len(values)] = values
        return _image(everywhere, self.triangles, self.fragments)

    def colour(self, light: TestLight, *, specular: bool = True) -> Float[Array, "H W 3"]:
        """Return linear RGB on black, before the camera degradations."""
        return halved(self._colour(light, specular=specular))

    def _lit(self, light: TestLight) -> _Lit:
        covered = self.fragments.mask.numpy()
        normals = self.normals
        in_light_axes = self.in_camera * [1.0, -1.0, -1.0]
        corner = self.triangles[self.fragments.triangle_index.numpy()[covered]]
        weight = self.fragments.barycentric.numpy()[covered][..., None]
        points = (in_light_axes[corner] * weight).sum(1)
        lamp = np.zeros(covered.shape)
        # The point is moved a little outwards, so that its surface does not shadow it in grazing light.
        outside = points + 0.0025 * normals[covered]
        lamp[covered] = light_reaches(in_light_axes, self.triangles, outside, light.direction)
        visibility = np.ones((len(self.in_camera), 1))
        visibility[: len(self.head.sky_visibility), 0] = self.head.sky_visibility
        sky = self.image(visibility)[..., 0]
        if self.relief is not None:
            pixel = self.fragments.depth.numpy() / self.focal_pixels
            lamp *= lamp_visibility(self.relief, pixel, light.direction)
            sky *= sky_visibility(self.relief.heights, pixel)
        shading = light.shading(normals, lit=lamp, open_sky=sky) * covered[..., None]
        return _Lit(normals, points, lamp, sky, shading)

    def _colour(self, light: TestLight, *, specular: bool) -> Float[Array, "h w 3"]:
        covered = self.fragments.mask.numpy()
        lit = self._lit(light)
        colour = self.albedo * lit.shading
        if not specular:
            return colour
        to_viewer = np.zeros_like(lit.normals)
        to_viewer[covered] = -lit.points / np.linalg.norm(lit.points, axis=1, keepdims=True)
        half = to_viewer + light.direction
        half /= np.maximum(np.linalg.norm(half, axis=-1, keepdims=True), 1e-9)
        lobe = np.maximum((lit.normals * half).sum(-1), 0) ** 22 * lit.lamp * 0.09
        facing = np.clip((lit.normals * to_viewer).sum(-1), 0, 1)
        grazing = (1 - facing) ** 4 * 0.06 * lit.sky
        ambient = light.environment[0] / (2 * np.sqrt(np.pi))
        reflected = lobe[..., None] * light.lamp + grazing[..., None] * ambient
        return colour + reflected * covered[..., None]

    def photo(self, shot: Shot) -> UInt8[Array, "H W 3"]:
        """Return the photo in the shot's light, sRGB, with the camera's degradations."""
        generator = np.random.default_rng(shot.camera_seed)
        colour = self._colour(shot.light, specular=True)
        covered = self.fragments.mask.numpy()
        colour = np.where(covered[..., None], colour, background(colour.shape[0], generator))
        image = halved(colour)
        blur = generator.uniform(0.0, 0.7)
        image = gaussian_filter(image, (blur, blur, 0))
        noise = generator.uniform(0.0, 0.012)
        image = image + generator.normal(0, noise, image.shape) * np.sqrt(image.clip(0) + 0.02)
        pixels = pixels_from_image(torch.from_numpy(image.transpose(2, 0, 1)))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=int(generator.integers(65, 96)))
        return np.array(Image.open(buffer).convert("RGB"))

    def truth(self, shot: Shot) -> FaceTruth:
        """Return the truth of the photo."""
        camera, head = self.camera, self.head
        face = torch.from_numpy(self.in_camera[:FACE])
        points = camera.project_from_camera(face)[:, :2].numpy()
        skin = self.skin_of_photo()
        neutral = head.vertices(self.person.identity, np.zeros_like(shot.expression), np.zeros(2))[
            :FACE
        ]
        marked = face[torch.from_numpy(head.landmarks)]
        depth = halved(self.fragments.depth.numpy()[..., None])[..., 0]
        shading = halved(self._lit(shot.light).shading)
        return FaceTruth(
            yaw_degrees=abs(shot.yaw_degrees),
            landmarks68=camera.project_from_camera(marked)[:, :2].numpy(),
            landmarks68_camera=marked.numpy(),
            points=points,
            vertices_camera=face.numpy(),
            vertices_neutral=neutral.astype(np.float32),
            visible=self._visible(points),
            albedo_points=_albedo_at_vertices(head, self.person.appearance),
            skin=skin,
            normals=self.of_photo(self.normals),
            albedo=(halved(self.albedo) * skin[..., None]).astype(np.float32),
            depth=(depth * skin).astype(np.float32),
            shading=(shading * skin[..., None]).astype(np.float32),
            light_on_sphere=shot.light.shading(sphere_normals()),
        )

    @property
    def focal_pixels(self) -> float:
        """The focal length in pixels of the maps."""
        return SUPERSAMPLING * float(self.camera.focal_pixels)

    def skin_of_photo(self) -> Bool[Array, "H W"]:
        """Return the photo's pixels that are only skin of the face."""
        return halved(self.skin[..., None].astype(np.float32))[..., 0] > 0.99

    def of_photo(self, normals: Float[Array, "h w 3"]) -> Float[Array, "H W 3"]:
        """Return unit normals of the scene at the photo's pixels, zero beside the skin."""
        small = halved(normals * self.skin[..., None])
        small /= np.maximum(np.linalg.norm(small, axis=-1, keepdims=True), 1e-9)
        return (small * self.skin_of_photo()[..., None]).astype(np.float32)

    def _visible(self, points: Float[Array, "F 2"]) -> Bool[Array, "F"]:
        size = self.fragments.depth.shape[-1]
        column, row = (points * SUPERSAMPLING).astype(np.int64).T
        inside = (column >= 0) & (row >= 0) & (column < size) & (row < size)
        depth = self.fragments.depth.numpy()[row.clip(0, size - 1), column.clip(0, size - 1)]
        near = self.in_camera[:FACE, 2] < depth + 0.002
        return inside & near & (depth > 0) & (self.vertex_normals[:FACE, 2] > 0)


def halved(image: Float[Array, "h w C"]) -> Float[Array, "H W C"]:
    """Return an image of a scene at the size of its photo: means of blocks."""
    height, width = (n // SUPERSAMPLING for n in image.shape[:2])
    blocks = image.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, image.shape[2])
    return blocks.mean((1, 3))


def _image(
    values: Float[Array, "A C"], triangles: Array, fragments: Fragments
) -> Float[Array, "h w C"]:
    drawn = interpolate(
        torch.from_numpy(values.astype(np.float32)), torch.from_numpy(triangles), fragments
    )
    return drawn.permute(1, 2, 0).numpy()


def _draw_albedo(
    head: IctHead, person: Person, vertices: Array, triangles: Array, fragments: Fragments
) -> Float[Array, "h w 3"]:
    appearance = person.appearance
    colours = np.zeros((len(vertices), 3))
    count = len(appearance.vertex_colours)
    colours[:count] = appearance.vertex_colours
    colours[count:] = appearance.hair_colour
    strands = np.sin(vertices[:, 0] * 900) * np.sin(vertices[:, 2] * 700 + vertices[:, 1] * 200)
    colours[count:] *= 1 + 0.35 * strands[count:, None]
    cloth = np.abs(np.sin(np.array([1.0, 2.0, 3.0]) * (person.identity[:3] + 1))) * 0.4 + 0.02
    colours[-TORSO_VERTICES:] = cloth
    drawn = interpolate(
        torch.from_numpy(colours.astype(np.float32)), torch.from_numpy(triangles), fragments
    )
    uv_triangles = np.zeros_like(triangles)
    uv_triangles[: len(head.uv_triangles)] = head.uv_triangles
    uv = interpolate(torch.from_numpy(head.uv).float(), torch.from_numpy(uv_triangles), fragments)
    skin = sample_texture(torch.from_numpy(appearance.texture), uv)
    textured = np.zeros(len(triangles), bool)
    textured[: len(head.textured)] = head.textured
    from_texture = (
        fragments.mask & torch.from_numpy(textured)[fragments.triangle_index.clamp(min=0)]
    )
    image = torch.where(from_texture, skin, drawn) * fragments.mask
    return image.permute(1, 2, 0).numpy()


def _albedo_at_vertices(head: IctHead, appearance: Appearance) -> Float[Array, "F 3"]:
    uv = np.zeros((len(head.model.mean), 2))
    kept = head.textured
    uv[head.triangles[kept].reshape(-1)] = head.uv[head.uv_triangles[kept].reshape(-1)]
    places = torch.from_numpy(uv[:FACE].T[:, None]).float()
    sampled = sample_texture(torch.from_numpy(appearance.texture), places)
    return sampled[:, 0].T.numpy()
