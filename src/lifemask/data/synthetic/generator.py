"""The generator of synthetic faces: photos of people who do not exist, with complete truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.data.batch import FaceBatch
from lifemask.data.stored_fits import FitStore
from lifemask.data.synthetic import kernels
from lifemask.data.synthetic.backgrounds import Surroundings, enlarge, sample_background
from lifemask.data.synthetic.cameras import (
    View,
    between_views,
    camera_positions,
    frame_camera,
    head_to_camera,
    sample_view,
)
from lifemask.data.synthetic.config import SyntheticConfig
from lifemask.data.synthetic.degradations import CameraDegradations, photograph, sample_degradations
from lifemask.data.synthetic.expressions import follow_gaze, sample_expression, sample_gaze
from lifemask.data.synthetic.lights import LightRig, sample_light
from lifemask.data.synthetic.people import Person, sample_person
from lifemask.data.synthetic.scenes import (
    Caster,
    HeadCovers,
    HeadMaterial,
    LitHeads,
    Picture,
    ambient_visibility,
    draw_heads,
    for_each_image,
    is_compiled,
    light_heads,
)
from lifemask.data.synthetic.skin import SkinPainter
from lifemask.data.synthetic.truth import DrawnPeople, face_points, labelled
from lifemask.data.synthetic.wrinkles import wrinkle_weights
from lifemask.data.wearables.drawing import Layers, draw_worn
from lifemask.data.wearables.dressing import Dressed, dress, neutral_vertices
from lifemask.data.wearables.occluders import (
    HeldThing,
    held_mesh,
    mask_mesh,
    random_hand,
    random_object,
    with_occluders,
)
from lifemask.data.wearables.wardrobe import Wardrobe
from lifemask.geometry.tensors import map_tensors
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.backends import BackendName


@dataclass(frozen=True)
class Moment:
    """The random values of one photo; they can differ between photos of one person."""

    expression: Float[np.ndarray, "52"]
    """ARKit weights."""
    gaze: Float[np.ndarray, "2 2"]
    """As in `FaceCoefficients`."""
    view: View
    """Position of the camera and errors of the frame."""
    soft: Float[np.ndarray, "9 3"]
    """Spherical harmonics of the soft light."""
    direction: Float[np.ndarray, "3"]
    """Unit vector to the lamp, light axes."""
    lamp: Float[np.ndarray, "3"]
    """Linear RGB of the lamp."""
    lamp_size: float
    """Tangent of the lamp's half angle."""
    exposure: Float[np.ndarray, "3"]
    """Gain of exposure and white balance, before the automatic gain."""
    background: Float[np.ndarray, "3 h w"]
    """Small linear RGB picture of the background."""
    degradations: CameraDegradations
    """Degradations by the camera."""
    held: tuple[HeldThing, ...]
    """Hands and things in front of the face."""


class SyntheticFaces:
    """Draws photos of faces; each photo depends only on the seed and its number.

    It contains the head and its painted layers, which do not change.
    """

    def __init__(
        self,
        config: SyntheticConfig | None = None,
        *,
        model: MorphableModel | None = None,
        surroundings: FitStore | None = None,
        device: torch.device | str = "cpu",
        backend: BackendName = "auto",
    ) -> None:
        """Prepare a head for drawing.

        Args:
            config: distribution of the faces; the default covers all people and cameras.
            model: head with albedo, regions, and 68, 478 and AFLW's landmarks; default: the default
                head.
            surroundings: photos that give blurred backgrounds for some of the faces; without them
                all backgrounds are synthetic.
            device: for drawing. Random numbers come from the CPU and are the same for all devices.
            backend: of the rasteriser.

        Raises:
            ValueError: the model lacks a part.
        """
        self.config = config or SyntheticConfig()
        self.device = torch.device(device)
        self._backend: BackendName = backend
        model = model or MorphableModel.from_pretrained()
        if None in (model.landmarks68_outline, model.dense478, model.aflw21, model.albedo):
            raise ValueError(
                "Synthetic faces need a head with albedo and with 68, 478 and AFLW's landmarks. "
                "Use the default head."
            )
        self.model = model.to(self.device)
        self._painter = SkinPainter(self.model, self.config.texture_size, self.device)
        self._surroundings = None if surroundings is None else Surroundings(surroundings, model)
        self._wardrobe = Wardrobe.from_pretrained(self.model)
        self.material = _head_material(self.model, self._painter)

    def batch(self, seed: int, index: int, size: int) -> FaceBatch:
        """Return photos index * size to index * size + size - 1 of a seed, one person each.

        Args:
            seed: of the endless stream of photos, 0 or more.
            index: number of the batch, from 0.
            size: number of photos in a batch.
        """
        clips = self.clips(seed, index, size, 1)
        return _without_frames(clips)

    def clips(self, seed: int, index: int, size: int, frames: int) -> FaceBatch:
        """Return clips with batch axes (size, frames): each shows one person.

        In half of the clips pose, expression and light change smoothly; in the others each frame
        is drawn independently. The first frame is the photo of `batch` with the same number.

        Args:
            seed: of the endless stream, 0 or more.
            index: number of the batch, from 0.
            size: number of clips in a batch.
            frames: number of frames in each clip.

        Raises:
            ValueError: an argument is too small.
        """
        if min(seed, index) < 0 or min(size, frames) < 1:
            raise ValueError(
                f"Got seed {seed}, index {index}, size {size} and frames {frames}. "
                "Seed and index start at 0, size and frames at 1."
            )
        numbers = [index * size + k for k in range(size)]
        people = [self._person(seed, number) for number in numbers]
        moments = [
            moment
            for number, person in zip(numbers, people, strict=True)
            for moment in self._moments(seed, number, person, frames)
        ]
        flat = self._draw(people, moments, frames)
        person = torch.tensor([seed * 2**32 + number for number in numbers], device=self.device)
        return _with_frames(flat, size, frames, person)

    def stream(self, seed: int, size: int, *, first: int = 0, step: int = 1) -> Iterator[FaceBatch]:
        """Yield batches of numbers first, first + step, first + 2 step, … without end.

        To share a stream, each worker sets `first` to its number and `step` to the number of
        workers.
        """
        index = first
        while True:
            yield self.batch(seed, index, size)
            index += step

    def _person(self, seed: int, number: int) -> Person:
        albedo = self.model.albedo
        assert albedo is not None
        return sample_person(
            np.random.default_rng([seed, number, 0]),
            self.config,
            identity_modes=len(self.model.identity_basis),
            albedo_modes=albedo.mode_names,
        )

    def _moments(self, seed: int, number: int, person: Person, frames: int) -> list[Moment]:
        occasions = [
            self._moment(np.random.default_rng([seed, number, 1, k]), person) for k in range(frames)
        ]
        smooth = np.random.default_rng([seed, number, 2]).random() < 0.5
        if not smooth or frames < 2:
            return occasions
        first, last = occasions[0], occasions[-1]
        return [
            _between(first, last, k / (frames - 1), occasions[k].degradations)
            for k in range(frames)
        ]

    def _moment(self, rng: np.random.Generator, person: Person) -> Moment:
        config = self.config
        view = sample_view(rng, config)
        expression = sample_expression(rng, neutral=config.neutral)
        camera = camera_positions(head_to_camera([view]))[0].numpy()
        gaze = sample_gaze(rng, camera, camera_gaze=config.camera_gaze)
        soft, direction, lamp, lamp_size = sample_light(rng, config)
        exposure = np.exp(
            config.exposure_spread * rng.standard_normal() + 0.06 * rng.standard_normal(3)
        )
        return Moment(
            follow_gaze(expression, gaze), gaze, view, soft, direction, lamp, lamp_size, exposure,
            self._background(rng), sample_degradations(rng, config), _sample_held(rng, config),
        )  # fmt: skip

    def _background(self, rng: np.random.Generator) -> Float[np.ndarray, "3 48 48"]:
        if self._surroundings is not None and rng.random() < self.config.photo_background:
            return self._surroundings.sample(rng)
        return sample_background(rng)

    def _tensor(self, arrays: list[np.ndarray] | list[float]) -> Tensor:
        return torch.from_numpy(np.asarray(arrays, np.float32)).to(self.device)

    @torch.no_grad()
    def _draw(self, people: list[Person], moments: list[Moment], frames: int) -> FaceBatch:
        config, model = self.config, self.model
        coefficients = self._coefficients(people, moments, frames)
        vertices = model.vertices(coefficients)
        albedo, displacement = self._skin(people, moments, frames)
        points = face_points(model, vertices)
        views = [m.view for m in moments]
        world_to_camera = head_to_camera(views).to(self.device)
        camera = frame_camera(views, world_to_camera, points.dense478, config.size, config.margin)
        light = self._light(moments, albedo)
        skin_specular = self._tensor([p.skin_specular for p in people for _ in range(frames)])
        dressed = self._dressed(
            people, moments, coefficients, vertices, points.dense478, albedo, frames
        )
        heads = light_heads(
            self.material,
            vertices,
            camera,
            light,
            skin_specular,
            covers=_covers(dressed),
            backend=self._backend,
        )
        picture = draw_heads(
            heads,
            self.material,
            albedo,
            displacement,
            samples=config.samples,
            backend=self._backend,
        )
        worn, both = self._worn(picture, heads, dressed)
        photo = self._photograph(picture, worn, both, moments)
        drawn = DrawnPeople(
            coefficients,
            points,
            albedo,
            displacement,
            person=torch.zeros(len(moments), dtype=torch.int64, device=self.device),
        )
        return labelled(photo, drawn, heads, picture, worn, model=model, material=self.material)

    def _coefficients(
        self, people: list[Person], moments: list[Moment], frames: int
    ) -> FaceCoefficients:
        def per_frame(name: str) -> Tensor:
            values = self._tensor([getattr(p, name) for p in people])
            return values.repeat_interleave(frames, 0)

        return FaceCoefficients(
            per_frame("identity"),
            self._tensor([m.expression for m in moments]),
            self._tensor([m.gaze for m in moments]),
            per_frame("albedo"),
        )

    def _skin(
        self, people: list[Person], moments: list[Moment], frames: int
    ) -> tuple[Tensor, Tensor]:
        """Return albedo (N,3,D,D) and displacement (N,D,D) of all frames."""
        painter, config = self._painter, self.config
        albedo = painter.albedo(people)
        displacements = []
        for k, person in enumerate(people):
            own = moments[k * frames : (k + 1) * frames]
            rest, _ = wrinkle_weights(own[0].expression, person.age_years)
            at_rest = painter.rest_displacement(
                person, rest * person.wrinkle_strengths * config.wrinkles
            )
            for moment in own:
                _, folded = wrinkle_weights(moment.expression, person.age_years)
                factor = config.wrinkles * config.expression_wrinkles * person.wrinkle_strengths
                displacements.append(painter.folded_displacement(at_rest, person, folded * factor))
        if frames > 1:
            albedo = albedo.repeat_interleave(frames, 0)
        return albedo, torch.stack(displacements)

    def _light(self, moments: list[Moment], albedo: Tensor) -> LightRig:
        """Return the light after each photo's exposure; darker skin gets more exposure."""
        rig = LightRig(
            self._tensor([m.soft for m in moments]),
            self._tensor([m.direction for m in moments]),
            self._tensor([m.lamp for m in moments]),
            self._tensor([m.lamp_size for m in moments]),
        )
        edge = albedo.shape[-1]
        face = albedo[:, :, edge // 5 : edge * 3 // 5 : 8, edge // 4 : edge * 3 // 4 : 8]
        middle = face.mean((1, 2, 3))
        # Shading of a surface between the directions to camera and lamp. Cameras compensate its
        # brightness and most of its colour.
        halfway = F.normalize(rig.direction + rig.direction.new_tensor([0, 0, 1.5]), dim=-1)
        front = rig.nearest_harmonics().shade(halfway[:, None])[:, 0].clamp(min=0.1)
        level = front.mean(-1, keepdim=True) ** 0.3 * front**0.7
        automatic = 1.8 * (0.21 / middle[:, None]) ** 0.42 / level
        return rig.scaled(automatic * self._tensor([m.exposure for m in moments]))

    def _dressed(
        self,
        people: list[Person],
        moments: list[Moment],
        coefficients: FaceCoefficients,
        vertices: Tensor,
        points478: Tensor,
        albedo: Tensor,
        frames: int,
    ) -> list[Dressed]:
        """Return each head's wearables, with the things in front of it."""
        neutral = neutral_vertices(self.model, coefficients)
        neck = self._painter.layers["neck"][::4, ::4]
        skin = (albedo[:, :, ::4, ::4] * neck).sum((2, 3)) / neck.sum()
        result: list[Dressed] = []
        for k, moment in enumerate(moments):
            person = people[k // frames]
            dressed = dress(
                person.outfit,
                self._wardrobe,
                self.model,
                vertices[k],
                neutral[k],
                skin_colour=skin[k],
                seed=person.cloth_seed,
            )
            meshes = [held_mesh(thing, points478[k], skin[k]) for thing in moment.held]
            if person.mask is not None:
                first, last = self.model.vertex_parts["skin"]
                meshes.append(mask_mesh(person.mask, vertices[k, first:last], points478[k]))
            result.append(with_occluders(dressed, meshes))
        return result

    def _worn(
        self, picture: Picture, heads: LitHeads, dressed: list[Dressed]
    ) -> tuple[Layers, Float[Tensor, "N H W"]]:
        """Return the wearables over black, averaged over the samples of a pixel.

        The second result is the part of each pixel where wearables cover the head.
        """
        if not any(len(one.triangles) for one in dressed):
            nothing = torch.zeros_like(picture.depth)
            return Layers(torch.zeros_like(picture.colour), nothing, nothing + torch.inf), nothing
        light = heads.light
        return draw_worn(
            picture.sample_depth, dressed, heads.camera, self.config.samples, soft=light.soft,
            direction=light.direction, lamp=light.lamp, backend=self._backend,
        )  # fmt: skip

    def _photograph(
        self, picture: Picture, worn: Layers, both: Float[Tensor, "N H W"], moments: list[Moment]
    ) -> Tensor:
        background = enlarge(self._tensor([m.background for m in moments]), self.config.size)
        composed = composite(picture, worn, both, background, backend=self._backend)
        return torch.stack(
            [
                photograph(c, m.degradations, margin=self.config.margin, backend=self._backend)
                for c, m in zip(composed, moments, strict=True)
            ]
        )


def composite(
    picture: Picture,
    worn: Layers,
    both: Float[Tensor, "N H W"],
    background: Float[Tensor, "N 3 H W"],
    *,
    backend: BackendName = "auto",
) -> Float[Tensor, "N 3 H W"]:
    """Return heads, wearables and background in one picture, linear RGB.

    If one sample of a pixel shows the head and its neighbour a collar, the background is not
    visible: opacities of a pixel may not simply be multiplied (Porter and Duff, "Compositing
    digital images", 1984, section 4.1).

    Args:
        picture: heads over black.
        worn: wearables over black.
        both: part of each pixel where wearables cover the head.
        background: linear RGB.
        backend: "numba" uses compiled kernels.
    """
    if is_compiled(backend, background.device):
        result = torch.empty_like(background)
        over = (worn.colour, worn.opacity, both)
        for_each_image(kernels.compose, picture.colour, picture.alpha, *over, background, result)
        return result
    bare = (1 - both / picture.alpha.clamp(min=1e-6)).clamp(0, 1)
    open_part = (1 - picture.alpha - worn.opacity + both).clamp(0, 1)
    composed = picture.colour * bare.unsqueeze(1) + background * open_part.unsqueeze(1)
    return composed + worn.colour


def _covers(dressed: Sequence[Dressed]) -> HeadCovers:
    """Return the wearables' effect on the light on the heads."""
    return HeadCovers(
        torch.stack([d.skin_ambient_visibility for d in dressed]),
        torch.stack([d.skin_cover for d in dressed]),
        torch.stack([d.hair_colour for d in dressed]),
        [Caster(d.vertices, d.triangles[d.casts]) for d in dressed],
    )


def _sample_held(rng: np.random.Generator, config: SyntheticConfig) -> tuple[HeldThing, ...]:
    hands = (random_hand(rng),) if rng.random() < config.hand else ()
    return (*hands, random_object(rng)) if rng.random() < config.held else hands


def _head_material(model: MorphableModel, painter: SkinPainter) -> HeadMaterial:
    """Return the material of a model, which all heads share."""
    parts, vertices = model.triangle_parts, model.vertex_parts
    drawn = parts["lashes"][0] if "lashes" in parts else len(model.triangles)
    triangles = model.triangles[:drawn].contiguous()
    # Light that skin reflects brightens hollows (Jiménez et al., "Practical real-time strategies
    # for accurate indirect occlusion", 2016); a power approximates their curves for skin.
    sky = ambient_visibility(model.mean, triangles) ** 0.7
    wet, specular = torch.zeros_like(sky), torch.ones_like(sky)
    for name in ("eyeball_left", "eyeball_right", "teeth_upper", "teeth_lower", "tongue"):
        if name in vertices:
            first, last = vertices[name]
            wet[first:last] = 1
            specular[first:last] = 1.0 if "eye" in name else 0.5
            # The mean head has closed lids and lips; open eyes and mouths get more light.
            least, most = (0.35, 0.7) if "eye" in name else (0.55, 1.0)
            sky[first:last] = sky[first:last].clamp(least, most)
    regions = model.regions
    specular = specular * (
        1 + 0.5 * regions["lips"] - 0.5 * regions["scalp"] - 0.4 * regions["neck"]
    )
    # On the neutral head lids are folded; closed lids get more light.
    sky = torch.maximum(sky, 0.6 * regions["eyes"] * (1 - wet))
    sky = sky.clamp(min=0.04) * (1 - 0.5 * regions["mouth_bag"])
    low, high = model.mean.amin(0), model.mean.amax(0)
    uv_triangles = model.uv_triangles[:drawn].contiguous()
    uv_vertex = triangles.new_zeros(len(model.uv))
    uv_vertex[uv_triangles.flatten()] = triangles.flatten()
    return HeadMaterial(
        triangles, model.uv, uv_triangles, uv_vertex, sky, specular, wet,
        painter.skin, painter.coverage, (low + high) / 2,
    )  # fmt: skip


def _between(first: Moment, last: Moment, share: float, degradations: CameraDegradations) -> Moment:
    """Return a moment between two others of one clip."""

    def mix(name: str) -> np.ndarray:
        a, b = getattr(first, name), getattr(last, name)
        return (a + (b - a) * share).astype(a.dtype)

    direction = mix("direction")
    return Moment(
        mix("expression"), mix("gaze"), between_views(first.view, last.view, share), mix("soft"),
        direction / max(float(np.linalg.norm(direction)), 1e-6), mix("lamp"),
        first.lamp_size, mix("exposure"), first.background, degradations, first.held,
    )  # fmt: skip


def _with_frames(flat: FaceBatch, size: int, frames: int, person: Tensor) -> FaceBatch:
    clips = map_tensors(lambda tensor: tensor.unflatten(0, (size, frames)), flat)
    return replace(clips, person=person[:, None].expand(size, frames).contiguous())


def _without_frames(clips: FaceBatch) -> FaceBatch:
    return map_tensors(lambda tensor: tensor.squeeze(1), clips)
