"""Fitted photos re-rendered with other poses, expressions and lights, with known truth.

This is "face profiling" (Zhu et al., "Face alignment across large poses", 2016) with a full head:
the fitted head is drawn again with the photo's own light-free skin, and the photo becomes a surface
behind it. Hair rotates with the head; areas far from the head stay in place. Hair and hats that
cover the head in the photo are drawn over it again.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lifemask.data.batch import FaceBatch
from lifemask.data.stored_fits import FitStore, StoredFit
from lifemask.data.synthetic.backgrounds import outward
from lifemask.data.synthetic.cameras import (
    camera_positions,
    frame_camera,
    head_to_camera,
    sample_view,
)
from lifemask.data.synthetic.config import SyntheticConfig
from lifemask.data.synthetic.degradations import photo_degradations, photograph, sample_degradations
from lifemask.data.synthetic.expressions import follow_gaze, sample_expression, sample_gaze
from lifemask.data.synthetic.generator import SyntheticFaces
from lifemask.data.synthetic.lights import LightRig, sample_light
from lifemask.data.synthetic.scenes import Picture, draw_heads, light_heads
from lifemask.data.synthetic.truth import DrawnPeople, face_points, labelled
from lifemask.data.wearables.drawing import Layers
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize

_GRID = 56
"""Cells of the photo surface along each side of the stored square."""
_MARGIN = 28
"""Additional cells on every side; they mirror the square."""
_FAR_METRES = 0.6
"""Distance of the surroundings behind the head, metres."""
_OWN_EXPRESSION = 0.5
"""Probability that the face keeps the photo's expression and gaze."""
_OWN_LIGHT = 0.5
"""Probability that the photo's light is kept."""
_NECK_METRES = 0.035
"""Height over which the drawn neck fades into the photo's."""
_AXIS = (0.0, 0.02, -0.085)
"""The middle of the skull, about which it is as wide as deep, head space, metres."""
_STRETCHED = 12.0
"""Parts of a photo that are stretched by more than this factor are not shown."""
_FRONT_SLACK = 0.02
"""Depth in metres to which hair and hats are drawn although they lie inside the rotated head."""


@dataclass(frozen=True)
class PhotoSurface:
    """A stored photo as a surface, in the pixels of a new picture."""

    points: Float[Tensor, "G 3"]
    """x, y in pixels of the new picture and depth in metres."""
    source: Float[Tensor, "G 2"]
    """Position of each vertex in the stored square, in units of its side."""
    triangles: Int[Tensor, "T 3"]
    """Triangles of the grid, vertex indices."""
    facing: Float[Tensor, "G"]
    """0 where the photo is stretched much; else 1."""
    head: Float[Tensor, "S S"]
    """1 where the stored square shows the head above the chin, or hair or an ear near it."""


class RerenderedFaces:
    """Re-renders stored fits; each picture depends only on the seed and its number."""

    def __init__(self, fits: FitStore, faces: SyntheticFaces) -> None:
        """Set up with stored fits, and the generator that gives head and cameras.

        Raises:
            ValueError: there are no fits.
        """
        if len(fits) == 0:
            raise ValueError("The store of fits is empty. Make one with tools/fit_photos.py.")
        self.fits, self.faces = fits, faces

    @torch.no_grad()
    def batch(self, seed: int, index: int, size: int) -> FaceBatch:
        """Return photos index * size to index * size + size - 1 of a seed.

        Args:
            seed: of the endless stream of photos, 0 or more.
            index: number of the batch, from 0.
            size: number of photos in a batch.
        """
        singles = [self._single(seed, index * size + k) for k in range(size)]
        return joined(singles)

    def _single(self, seed: int, number: int) -> FaceBatch:
        faces, device = self.faces, self.faces.device
        config, model = faces.config, faces.model
        rng = np.random.default_rng([seed, number, 7])
        chosen = int(rng.integers(len(self.fits)))
        fit = self.fits[chosen]
        view = sample_view(rng, config)
        world_to_camera = head_to_camera([view])
        coefficients = _moved(fit, rng, world_to_camera, config)
        coefficients = map_tensors(lambda value: value.to(device), coefficients)
        vertices = model.vertices(coefficients)
        points = face_points(model, vertices)
        camera = frame_camera(
            [view], world_to_camera.to(device), points.dense478, config.size, config.margin
        )
        light, gain = _new_light(fit, rng, config)
        light = map_tensors(lambda value: value.to(device), light)
        skin = _resized(fit.albedo.to(device)[None], len(faces.material.skin))
        displacement = torch.zeros_like(skin[:, 0])
        skin_specular = torch.full((1,), float(rng.uniform(0.1, 0.6)), device=device)
        heads = light_heads(faces.material, vertices, camera, light, skin_specular)
        picture = draw_heads(heads, faces.material, skin, displacement, samples=config.samples)
        behind, over = self._surroundings(fit, picture, camera, gain.to(device))
        covers = picture.alpha * self._neck_fade(picture, camera)
        head = picture.colour / picture.alpha.clamp(min=1e-3).unsqueeze(1)
        composed = torch.lerp(behind, head, covers.unsqueeze(1))
        composed = composed * (1 - over.opacity.unsqueeze(1)) + over.colour
        degradations = photo_degradations(sample_degradations(rng, config))
        photo = photograph(composed[0], degradations, margin=config.margin)[None]
        drawn = DrawnPeople(
            coefficients,
            points,
            albedo=_resized(skin, config.texture_size),
            displacement=_resized(displacement[None], config.texture_size)[0],
            person=torch.tensor([-2 - chosen], device=device),
        )
        return labelled(photo, drawn, heads, picture, over, model=model, material=faces.material)

    def _neck_fade(self, picture: Picture, camera: PerspectiveCamera) -> Float[Tensor, "1 H W"]:
        """Return the opacity of the head over the photo: 1, but falling to 0 at the neck's end."""
        height, width = camera.image_size
        steps = torch.arange(max(height, width), device=picture.depth.device) + 0.5
        x = (steps[:width] - camera.principal_point[0, 0]) / camera.focal_pixels[0]
        y = (steps[:height] - camera.principal_point[0, 1]) / camera.focal_pixels[0]
        rays = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
        place = torch.cat([rays * picture.depth, picture.depth])
        motion = camera.world_to_camera[0]
        up = ((place - motion[:3, 3, None, None]) * motion[:3, 1, None, None]).sum(0)
        lowest = self.faces.model.mean[:, 1].min()
        return ((up - lowest) / _NECK_METRES).clamp(0, 1)[None]

    def _surroundings(
        self,
        fit: StoredFit,
        picture: Picture,
        camera: PerspectiveCamera,
        gain: Float[Tensor, "3"],
    ) -> tuple[Float[Tensor, "1 3 H W"], Layers]:
        """Return the surroundings behind the head, and the photo's hair and hats in front of it."""
        own = fit.face.coefficients.to(self.faces.device)
        vertices = self.faces.model.vertices(own)
        neck = self.faces.model.regions["neck"]
        surface = photo_surface(fit, vertices, self.faces.material.triangles, camera, neck)
        fragments = rasterize(surface.points, surface.triangles, camera.image_size, cull="none")
        attributes = torch.cat([surface.source, surface.facing[:, None]], -1)
        at = interpolate(attributes, surface.triangles, fragments)
        photo, front = fit.photo.to(at), fit.front.to(at)
        # The surroundings replace the photo's head and hair: only the new head is shown.
        behind = outward(photo, (surface.head < 0.05).to(photo))
        layers = torch.cat([behind, photo, front[None]])[None]
        grid = (at[:2] * 2 - 1).permute(1, 2, 0)[None]
        warped = F.grid_sample(layers, grid, padding_mode="reflection", align_corners=False)
        above = ((picture.depth + _FRONT_SLACK - fragments.depth) / _FRONT_SLACK).clamp(0, 1)
        above = torch.where(picture.depth > 0, above, 1.0)
        inside = (at[:2] - 0.5).abs().amax(0) < 0.5
        hair = ((warped[:, 6] - 0.35) * 2).clamp(0, 1) * at[2] * inside
        gain = gain[:, None, None]
        # Hair is also drawn behind the head: there is no gap between its edge and hair beside it.
        surroundings = torch.lerp(warped[:, :3], warped[:, 3:6], hair.unsqueeze(1)) * gain
        opacity = hair * above
        depth = torch.where(opacity > 0.5, fragments.depth - 2 * _FRONT_SLACK, torch.inf)
        over = Layers(warped[:, 3:6] * gain * opacity.unsqueeze(1), opacity, depth)
        return surroundings, over


def photo_surface(
    fit: StoredFit,
    vertices: Float[Tensor, "V 3"],
    triangles: Int[Tensor, "T 3"],
    camera: PerspectiveCamera,
    neck: Float[Tensor, "V"],
) -> PhotoSurface:
    """Return a fitted photo as a surface in the picture of another camera.

    On the head the surface has the head's depth; around it, it has the depth of the skull's axis,
    where the hair beside a face lies. The head and its hair move with the head. Areas farther away
    keep their position in the picture relative to the head, and scale with it.

    Args:
        fit: the fitted photo.
        vertices: of its head, head space, metres.
        triangles: of the head.
        camera: the new camera, with one batch axis of length 1.
        neck: how far each vertex of the head belongs to the neck, 0 to 1.
    """
    side = fit.face.camera.image_size[0]
    old = fit.face.camera.to(vertices.device)
    coarse = old.cropped(0, 0, (_GRID, _GRID), scale=_GRID / side)
    head = rasterize(coarse.project(vertices), triangles, (_GRID, _GRID))
    covered = (head.depth > 0).to(vertices.dtype)
    axis = old.to_camera(vertices.new_tensor([_AXIS]))[0, 2]
    depth = torch.where(covered > 0, head.depth, axis)
    front = F.interpolate(fit.front.to(vertices)[None, None], (_GRID, _GRID), mode="area")[0, 0]
    # Hair is near the head; dark areas far away are not hair.
    rigid = torch.maximum(covered, front * _spread(covered, 11))
    face = covered * (interpolate(neck[:, None], triangles, head)[0] < 0.5)
    # Remove a little more than the head, as outline and ears of the fit differ from the photo by
    # some pixels. Neck and collar, below the chin, stay.
    near = _spread(face, 13)
    person = (
        front
        if fit.person is None
        else F.interpolate(fit.person.to(vertices)[None, None], (_GRID, _GRID), mode="area")[0, 0]
    )
    rows = torch.arange(_GRID, device=vertices.device)[:, None]
    above = rows <= torch.where(face > 0, rows, 0).amax()
    hair = _spread((front > 0.2).to(face), 3) * _spread(face, 25)
    taken = torch.maximum(_spread(face, 3), torch.maximum(hair, near * (person > 0.15) * above))
    whole = F.interpolate(taken[None, None], (side, side), mode="bilinear")[0, 0].clamp(0, 1)
    rigid = F.avg_pool2d(_spread(rigid, 3)[None, None], 5, 1, 2, count_include_pad=False)[0, 0]

    steps = (torch.arange(-_MARGIN, _GRID + _MARGIN, device=vertices.device) + 0.5) / _GRID
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    source = torch.stack([x, y], -1).view(-1, 2).to(vertices)
    pad = (_MARGIN,) * 4
    depth = F.pad(depth[None, None], pad, mode="replicate").view(-1, 1)
    rigid = F.pad(rigid[None, None], pad).view(-1, 1)

    pixels = source * side
    rays = (pixels - old.principal_point) / old.focal_pixels
    in_old = torch.cat([rays * depth, depth], -1)
    rotation, translation = old.world_to_camera[:3, :3], old.world_to_camera[:3, 3]
    in_head = (in_old - translation) @ rotation
    turned = camera.project(in_head[None])[0]
    scale = _same_scale(old, camera)
    still = _same_place(pixels, old, camera, scale)
    far = camera.world_to_camera[0, 2, 3] + _FAR_METRES
    place = rigid * turned[:, :2] + (1 - rigid) * still
    points = torch.cat([place, rigid * turned[:, 2:] + (1 - rigid) * far], -1)
    stretch = _stretch(points[:, :2].view(len(steps), len(steps), 2)) * _GRID / (side * scale)
    facing = ((_STRETCHED - stretch.view(-1)) / (_STRETCHED / 2)).clamp(0, 1)
    grid = _grid_triangles(len(steps), vertices.device)
    return PhotoSurface(points.contiguous(), source, grid, facing, whole)


def _same_scale(old: PerspectiveCamera, new: PerspectiveCamera) -> Float[Tensor, ""]:
    """Return the size of the head in the new picture over that in the old one."""
    before, after = old.world_to_camera[2, 3], new.world_to_camera[0, 2, 3]
    return (new.focal_pixels[0] / after) / (old.focal_pixels / before)


def _same_place(
    pixels: Float[Tensor, "G 2"],
    old: PerspectiveCamera,
    new: PerspectiveCamera,
    scale: Float[Tensor, ""],
) -> Float[Tensor, "G 2"]:
    """Return old pixels in the new picture; they shift and scale with the head's origin."""
    origin = pixels.new_zeros(1, 3)
    before, after = old.project(origin)[0], new.project(origin[None])[0, 0]
    return (pixels - before[:2]) * scale + after[:2]


def _stretch(points: Float[Tensor, "G G 2"]) -> Float[Tensor, "G G"]:
    """Return the longest edge at each vertex of a grid."""
    longest = points.new_zeros(points.shape[:2])
    for axis in (0, 1):
        edges = points.diff(dim=axis).norm(dim=-1)
        first, last = (edges.narrow(axis, k, 1) for k in (0, edges.shape[axis] - 1))
        for padded in (torch.cat([first, edges], axis), torch.cat([edges, last], axis)):
            longest = torch.maximum(longest, padded)
    return longest


def _spread(mask: Float[Tensor, "G G"], cells: int) -> Float[Tensor, "G G"]:
    """Return the largest value within a square of cells."""
    return F.max_pool2d(mask[None], cells, 1, cells // 2)[0]


def _grid_triangles(edge: int, device: torch.device) -> Int[Tensor, "T 3"]:
    corner = (torch.arange(edge - 1)[:, None] * edge + torch.arange(edge - 1)).view(-1)
    right, below = corner + 1, corner + edge
    return torch.cat(
        [torch.stack([corner, below, right], -1), torch.stack([right, below, below + 1], -1)]
    ).to(device)


def _moved(
    fit: StoredFit,
    rng: np.random.Generator,
    world_to_camera: Float[Tensor, "1 4 4"],
    config: SyntheticConfig,
) -> FaceCoefficients:
    """Return the fit's coefficients with its own or a new expression and gaze, batch of one."""
    single = map_tensors(lambda value: value[None], fit.face.coefficients)
    if rng.random() < _OWN_EXPRESSION:
        return single
    camera = camera_positions(world_to_camera)[0].numpy()
    gaze = sample_gaze(rng, camera, camera_gaze=config.camera_gaze)
    expression = follow_gaze(sample_expression(rng, neutral=config.neutral), gaze)
    return replace(
        single,
        expression=torch.from_numpy(expression.astype(np.float32))[None],
        gaze=torch.from_numpy(gaze.astype(np.float32))[None],
    )


def _new_light(
    fit: StoredFit, rng: np.random.Generator, config: SyntheticConfig
) -> tuple[LightRig, Float[Tensor, "3"]]:
    """Return the light on the head, and the gain of the rest of the photo."""
    own = fit.face.light.coefficients
    change = torch.from_numpy(
        np.exp(
            config.exposure_spread * rng.standard_normal() + 0.05 * rng.standard_normal(3)
        ).astype(np.float32)
    )
    soft, direction, lamp, size = sample_light(rng, config)
    soft, direction, lamp = (
        torch.from_numpy(np.asarray(v, np.float32))[None] for v in (soft, direction, lamp)
    )
    rig = LightRig(soft, direction, lamp, torch.tensor([size]))
    if rng.random() < _OWN_LIGHT:
        rig = LightRig(own[None], rig.direction, torch.zeros_like(rig.lamp), rig.size)
        return rig.scaled(change[None]), change
    # The new light is as bright as the photo's.
    before, after = own[0].mean(), rig.nearest_harmonics().coefficients[0, 0].mean()
    rig = rig.scaled((change * (before / after.clamp(min=0.05)).clamp(0.2, 5))[None])
    ratio = rig.nearest_harmonics().coefficients[0, 0] / own[0].clamp(min=0.05)
    return rig, ratio.clamp(0.3, 2.5)


def _resized(texture: Float[Tensor, "1 C R R"], size: int) -> Float[Tensor, "1 C size size"]:
    return F.interpolate(texture, (size, size), mode="area")
