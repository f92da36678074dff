"""Viewpoint, then shape, then reflectance, then light: each is estimated from the photo and all before it.

Wen, Liu, Raj and Singh, "Self-supervised 3D face reconstruction via conditional estimation" (CEST,
ICCV 2021, arXiv 2110.04800).

As published:

- The chain. The viewpoint comes from the frame. The frame is moved, turned and scaled by it, so that
  the face stands upright at a fixed place; the shape comes from this aligned image. Viewpoint and shape
  unwrap the frame to UV; a U-Net takes the light out of the unwrapped colours, which gives the
  reflectance. The light comes from the aligned image, the unwrapped colours and the reflectance.
- What the reflectance must explain. A frame is never compared with its own reflectance, but with that
  of another frame of its clip (`swap`), and with its own one mirrored (`flip`). So a shadow cannot hide
  in the reflectance: the other frame, or the other half of the face, does not have it. Of a still,
  only `flip` acts.
- The distance of key points, and the prior of the coefficients. The paper's ablations are options:
  `swap=False`, `flip=False`, both (then a frame is compared with its own reflectance), and
  `coupled=False` (each of the four networks sees only the frame).
- The preset `published`: ResNet-18 for viewpoint and shape, six strided convolutions for the light, a
  U-Net of five levels on a map of 256 texels. The paper does not state the widths; these are ours.

What differs, and why:

- The face is that of our head: a perspective camera in place of seven numbers, gaze, and 52 expressions.
  The albedo coefficients are the ridge regression of the predicted map on the head's albedo modes; so
  whatever needs coefficients has them, and losses of the coefficients reach the map.
- A reflectance starts as the mean albedo, and the network predicts its change before the sigmoid.
- The identity of a clip is the mean over its frames: it is one person.
- Light has three colours, 27 numbers. White light (`white_light=True`, as published, 9 numbers) puts the
  colour of a lamp into the reflectance, which is then wrong in any new light; relighting is what this
  package needs reflectance for. It also could not agree with the light of drawn faces.
- The network of light works in the axes of the aligned image; its light is turned back into the frame's.
- Hidden texels are marked by one more channel of the U-Net. Unwrapping passes gradients to shape and
  viewpoint, the visibility does not.
- The photometric distance is that of `colour_distance_loss`, because the paper's norm is not known; key
  points are compared by their distance, not along each axis, so that rolled faces count the same.
- Drawn faces have a truth, so the losses of `FaceLosses` act on them too. In `conditional_published`
  their weights are 0. Its gaze and distance then keep near those of the mean face, because neither the
  key points nor colours say much about them.
- The training starts without the photometric losses (`warm_up`): they need a face in about the right
  place. No schedule of the paper is known.

The preset `compact` reads what the direct regressor's frozen convolutions see, once in the frame and
once in the aligned image, with one trunk for both. It starts with the linear part of that regressor.
Nothing is encoded beforehand: the aligned image depends on the prediction, and the U-Net needs the
photo. Frozen convolutions pass no gradient from shape to viewpoint; the unwrapped colours do.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch, PhotoFeatures
from lifemask.geometry.tensors import map_tensors
from lifemask.geometry.viewpoints import Viewpoint, viewpoint_of
from lifemask.io.colour import srgb_from_linear
from lifemask.losses.albedo import albedo_loss
from lifemask.losses.coefficients import coefficient_prior
from lifemask.losses.rendered_photo import colour_distance_loss, rendered_photo
from lifemask.morphable.albedo import AlbedoModel
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.networks.encoder_decoder import EncoderDecoder, StridedEncoder
from lifemask.networks.frozen_maps import FrozenMaps
from lifemask.networks.inputs import network_input
from lifemask.networks.parameters import SCALES, ParameterDecoder, framed_mean_face
from lifemask.networks.residual_network import ResidualNetwork
from lifemask.perception.framing import FaceFrame, crop_photo, photo_light, viewpoint_frame
from lifemask.rendering.face_colours import FaceRenderer
from lifemask.rendering.fragments import Fragments
from lifemask.rendering.uv import rasterize_uv, unwrap_photo
from lifemask.systems.bank_recipe import SMOKE, STILLS
from lifemask.systems.direct_regression import copy_linear_part, released_maps
from lifemask.systems.face_losses import FACE_LOSS_WEIGHTS, FaceLosses
from lifemask.systems.photo_encoders import MapsEncoder, seen_by
from lifemask.training.config import (
    BankSource,
    Optimiser,
    Phase,
    PhotoSource,
    Recipe,
    Schedule,
    SyntheticClipSource,
    SystemChoice,
)
from lifemask.training.flat_batches import batch_rows, flat_batches, with_axes_of
from lifemask.training.system import FramedFaces, Losses, System

PRESETS = ("compact", "published")
"""Networks to choose from."""

CROP_SIZE, PUBLISHED_CROP_SIZE = 128, 224
"""Pixels on a side of the crops of the two recipes below."""

WARM_UP, PHOTOMETRIC = "warm_up", "photometric"
"""The phases: first without photometric losses, then with them."""

COLOUR_LOSSES = {"swap": 1.0, "flip": 1.0, "own": 1.0}
"""The photometric losses, with their weights: the reflectance is that of another frame, mirrored, or
the frame's own. The last one takes part only if neither of the others does."""

_RIDGE = 1.0
"""Weight of the prior of albedo coefficients against one texel of the map."""

_VIEWPOINT = ("rotation", "translation", "scale", "distance")
_SHAPE = ("identity", "expression", "gaze")
_LEAST_ALBEDO = 1e-3


class Unwrapped(NamedTuple):
    """A photo in UV."""

    texture: Float[Tensor, "batch 3 R R"]
    """Lit colours, linear RGB; 0 where hidden."""
    visibility: Float[Tensor, "batch R R"]
    """0 (hidden) to 1."""


@final
class Conditional(System):
    """Frames of a person to viewpoint, shape, reflectance and light, one after the other."""

    name: ClassVar[str] = "conditional"
    phases: ClassVar = {
        WARM_UP: Phase(
            weights={**FACE_LOSS_WEIGHTS, "reflectance": 0.0},
            optimiser=Optimiser(
                learning_rate=1e-3, betas=(0.9, 0.99), weight_decay=0.02, gradient_clip=5.0
            ),
            end=0.25,
        ),
        PHOTOMETRIC: Phase(
            weights={**FACE_LOSS_WEIGHTS, **COLOUR_LOSSES, "reflectance": 0.0},
            optimiser=Optimiser(
                learning_rate=5e-4, betas=(0.9, 0.99), weight_decay=0.02, gradient_clip=5.0
            ),
            start=0.25,
        ),
    }
    first_weights: ClassVar = ("systems/direct_regression",)
    uses_frames: ClassVar[bool] = True

    prior: Float[Tensor, "3 R R"]
    """Mean albedo before the sigmoid."""
    face_texels: Float[Tensor, "R R"]
    """1 where a texel lies on the face."""
    mean_log: Float[Tensor, "T"]
    """Logarithm of the mean albedo at these texels, all colours in one row."""
    projection: Float[Tensor, "A T"]
    """From the difference of a map's logarithm from it to albedo coefficients."""

    def __init__(
        self,
        model: MorphableModel,
        maps: FrozenMaps | None,
        *,
        crop_size: int,
        input_size: int,
        uv_size: int,
        width: int,
        levels: int,
        coupled: bool,
        swap: bool,
        flip: bool,
        white_light: bool,
    ) -> None:
        """Assemble the untrained system, which predicts the framed mean face with the mean albedo.

        Args:
            model: the head, with albedo and with 68, 478 and 21 landmarks.
            maps: the frozen convolutions under the compact networks; None for residual networks.
            crop_size: pixels on a side of the crops.
            input_size: pixels on a side of the images that encoders see.
            uv_size: texels on a side of the reflectance.
            width: channels of the U-Net at full resolution; residual networks have twice as many.
            levels: how often the U-Net halves the resolution.
            coupled: each network sees what the ones before it found; else only the frame.
            swap: explain frames by the reflectance of another frame.
            flip: explain frames by their own reflectance mirrored.
            white_light: the light has one colour.

        Raises:
            ValueError: the model has no albedo, or the map has a size that the U-Net cannot halve.
        """
        super().__init__()
        if uv_size % 2**levels:
            raise ValueError(
                f"Got uv_size={uv_size} with a U-Net of {levels} levels; allowed are multiples of "
                f"{2**levels}."
            )
        if model.albedo is None:
            raise ValueError("This model has no albedo to start from. Use the default head.")
        self.model = model
        self.crop_size = crop_size
        self.input_size = input_size
        self.coupled, self.swap, self.flip = coupled, swap, flip
        self.face_losses = FaceLosses(model, crop_size=crop_size)
        self.decoder = ParameterDecoder.for_model(model, crop_size=crop_size)
        self.standard: Viewpoint = framed_mean_face(model, crop_size)
        self.renderer = FaceRenderer(model)
        self.light_colours = 1 if white_light else 3

        # On frozen maps, one trunk looks first at the frame and then at the aligned image.
        self.maps = maps
        self.shape = _encoder(maps, width)
        self.viewpoint = None if maps is not None else _encoder(maps, width)
        counts = self.decoder.counts
        self.viewpoint_head = _zero_linear(self.shape.features, sum(counts[n] for n in _VIEWPOINT))
        self.shape_head = _zero_linear(self.shape.features, sum(counts[n] for n in _SHAPE))
        self.reflectance = EncoderDecoder(4 if coupled else 3, 3, levels=levels, width=width)
        self.light = StridedEncoder(10 if coupled else 3, size=uv_size, width=width)
        plain = 0 if maps is None else maps.features
        self.light_head = _zero_linear(self.light.features + plain, 9 * self.light_colours)

        region = self.renderer.region
        self._uv_fragments = rasterize_uv(region.uv, region.uv_triangles, uv_size)
        log_mean, log_basis = _reduced_albedo(model.albedo, uv_size)
        texels = self._uv_fragments.mask
        self.register_buffer("face_texels", texels.float(), persistent=False)
        mean = log_mean.exp().clamp(_LEAST_ALBEDO, 1 - _LEAST_ALBEDO)
        self.register_buffer("prior", torch.logit(mean), persistent=False)
        self.register_buffer("mean_log", log_mean[:, texels].flatten(), persistent=False)
        basis = log_basis[:, :, texels].flatten(1).double()
        ridge = basis @ basis.T + _RIDGE * torch.eye(len(basis), dtype=basis.dtype)
        self.register_buffer(
            "projection", torch.linalg.solve(ridge, basis).float(), persistent=False
        )

    @classmethod
    def build(
        cls,
        *,
        preset: str = "compact",
        crop_size: int | None = None,
        input_size: int | None = None,
        uv_size: int | None = None,
        width: int | None = None,
        coupled: bool = True,
        swap: bool = True,
        flip: bool = True,
        white_light: bool = False,
        pretrained: bool = True,
    ) -> "Conditional":
        """Assemble the untrained system on the default head.

        Args:
            preset: compact: trunks on the frozen maps of the direct regressor; published: networks of
                their own with random weights.
            crop_size: pixels on a side of the crops; by default 128 or 224.
            input_size: pixels on a side of the images that the encoders of viewpoint and shape see; by
                default 256 (for compact, a multiple of 64) or 224.
            uv_size: texels on a side of the reflectance; by default 64 or 256.
            width: channels of the U-Net at full resolution; by default 16 or 32. The residual networks
                of the preset published have twice as many.
            coupled: each network sees what the ones before it found; else only the frame.
            swap: explain frames by the reflectance of another frame of the clip.
            flip: explain frames by their own reflectance mirrored.
            white_light: the light has one colour, as published.
            pretrained: the preset compact starts from the direct regressor's weights, which needs 256
                pixels; else from random ones, which a file replaces.

        Raises:
            ValueError: an unknown preset, or an impossible size.
        """
        if preset not in PRESETS:
            raise ValueError(f"Unknown preset {preset!r}. Known: {', '.join(PRESETS)}.")
        compact = preset == "compact"
        if compact and (input_size or 256) % 64:
            raise ValueError(f"input_size is {input_size}; it must be a multiple of 64.")
        maps = released_maps(input_size or 256) if compact else None
        system = cls(
            MorphableModel.from_pretrained(),
            maps,
            crop_size=crop_size or (CROP_SIZE if compact else PUBLISHED_CROP_SIZE),
            input_size=input_size or (256 if compact else PUBLISHED_CROP_SIZE),
            uv_size=uv_size or (64 if compact else 256),
            width=width or (16 if compact else 32),
            levels=4 if compact else 5,
            coupled=coupled,
            swap=swap,
            flip=flip,
            white_light=white_light,
        )
        if pretrained and maps is not None:
            system._start_from_regressor(maps.features)
        return system

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Explain the frames of clips; all frames of a clip get the same identity."""
        batch = faces.photo.shape[:-3]
        frames = batch[-1] if batch else 1
        photo = faces.photo.reshape(-1, *faces.photo.shape[-3:])
        clip = torch.arange(len(photo), device=photo.device) // frames
        face = self.explain(photo, clip)
        return map_tensors(lambda t: t.reshape(*batch, *t.shape[1:]), face)

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch; without truth, those of landmarks, prior and colours."""
        flat = flat_batches(batches)
        frames = [batch.photo.shape[1] if batch.photo.ndim == 5 else 1 for batch in batches]
        clips: list[Tensor] = []
        for batch, length in zip(flat, frames, strict=True):
            own = torch.arange(len(batch.photo), device=batch.photo.device) // length
            clips.append(own + (int(clips[-1][-1]) + 1 if clips else 0))
        faces = self.explain(torch.cat([batch.photo for batch in flat]), torch.cat(clips))
        found: list[Losses] = []
        for batch, rows, length in zip(flat, batch_rows(flat), frames, strict=True):
            face = faces[rows]
            own = {
                **self.face_losses(batch, face),
                "prior": _prior(face.coefficients),
                **self._reflectance_loss(batch, face),
            }
            if phase == PHOTOMETRIC:
                own |= self.colour_losses(batch, face, frames=length)
            found.append(own)
        return with_axes_of(batches, found)

    def explain(
        self, photo: Float[Tensor, "batch 3 S S"], clip: Int[Tensor, "batch"]
    ) -> ExplainedFace:
        """Return the faces of crops, estimated one part after the other.

        Args:
            photo: linear RGB in [0, 1].
            clip: number of the clip of each crop, from 0 up.
        """
        seen = self._look(photo)
        looks = self.shape if self.viewpoint is None else self.viewpoint
        view = self.viewpoint_head(self.run_network(looks, seen))
        camera = self._decoded(viewpoint=view).camera
        frame = self.aligning_frame(viewpoint_of(camera))
        aligned = photo
        if self.coupled:
            aligned = crop_photo(photo, frame, self.crop_size, samples=2).clamp(0, 1)
            seen = self._look(aligned)
        shape = self.shape_head(self.run_network(self.shape, seen))
        identity = self.decoder.counts["identity"]
        shared = _mean_of_clips(shape[:, :identity], clip)
        shape = torch.cat([shared, shape[:, identity:]], 1)
        face = self._decoded(viewpoint=view, shape=shape)
        unwrapped = self.unwrapped(photo, face) if self.coupled else None
        reflectance = self._reflected(photo, unwrapped)
        lit = self._lit(aligned, seen, unwrapped, reflectance)
        face = self._decoded(viewpoint=view, shape=shape, light=lit)
        light = photo_light(face.light, frame) if self.coupled else face.light
        albedo = self.albedo_coefficients(reflectance)
        return ExplainedFace(
            replace(face.coefficients, albedo=albedo),
            face.camera,
            light,
            albedo_map=UVMap(reflectance, self.face_texels.expand(len(photo), -1, -1)),
        )

    def aligning_frame(self, view: Viewpoint) -> FaceFrame:
        """Return the frame in which a face stands upright where the mean face does in a crop."""
        standard = map_tensors(lambda t: t.to(view.translation), self.standard)
        return viewpoint_frame(view, standard, self.crop_size)

    def unwrapped(self, photo: Float[Tensor, "batch 3 S S"], face: ExplainedFace) -> Unwrapped:
        """Return photos in UV; differentiable in the photos, the shape and the camera."""
        fragments = map_tensors(lambda t: t.to(photo.device), self._uv_fragments)
        assert isinstance(fragments, Fragments)
        mesh = self.renderer.region(face.coefficients)
        found = unwrap_photo(photo, mesh, face.camera, fragments, magnification="bilinear")
        return Unwrapped(found.texture, found.visibility)

    def albedo_coefficients(
        self, reflectance: Float[Tensor, "batch 3 R R"]
    ) -> Float[Tensor, "batch A"]:
        """Return the albedo coefficients nearest to maps: ridge regression of their logarithms."""
        texels = self.face_texels.bool()
        log = reflectance.clamp(min=_LEAST_ALBEDO).log()[:, :, texels].flatten(1)
        return (log - self.mean_log) @ self.projection.T

    def colour_losses(self, batch: FaceBatch, face: ExplainedFace, *, frames: int) -> Losses:
        """Return how far photos are from faces with reflectances that are not their own.

        Args:
            batch: with one batch axis.
            face: what explains it; `albedo_map` holds the reflectances.
            frames: images of each clip, which lie beside each other; 1 for stills, whose `swap` is 0.
        """
        assert face.albedo_map is not None
        own, coverage = face.albedo_map.values, face.albedo_map.coverage

        def distance(reflectance: Tensor) -> Tensor:
            given = replace(face, albedo_map=UVMap(reflectance, coverage))
            seen = rendered_photo(
                self.renderer, given, batch.photo, batch.skin, size=self.crop_size
            )
            return colour_distance_loss(seen.rendered, seen.photo, seen.compared)

        losses: Losses = {}
        if self.swap:
            if frames > 1:
                losses = {**losses, "swap": distance(_of_other_frames(own, frames, self.training))}
            else:
                losses = {**losses, "swap": own.new_zeros(len(own))}
        if self.flip:
            losses = {**losses, "flip": distance(own.flip(-1))}
        return losses or {"own": distance(own)}

    def _reflectance_loss(self, batch: FaceBatch, face: ExplainedFace) -> Losses:
        """Return the error of the reflectance on faces whose true map is known."""
        if batch.truth is None or batch.truth.face.albedo_map is None:
            return {}
        assert face.albedo_map is not None
        true = batch.truth.face.albedo_map
        size = face.albedo_map.values.shape[-2:]
        small = F.interpolate(true.values, size, mode="area")
        known = F.interpolate(true.coverage[:, None], size, mode="area")[:, 0] > 0.99
        return {"reflectance": albedo_loss(face.albedo_map.values, small, self.face_texels * known)}

    def _look(self, photo: Float[Tensor, "batch 3 S S"]) -> "PhotoFeatures | Tensor":
        """Return what encoders read: images, or what the frozen convolutions see in them."""
        images = network_input(photo, self.input_size)
        if self.maps is None:
            return images * 2 - 1
        return self.run_network(partial(seen_by, self.maps), images)

    def _reflected(
        self, photo: Float[Tensor, "batch 3 S S"], unwrapped: Unwrapped | None
    ) -> Float[Tensor, "batch 3 R R"]:
        size = self.prior.shape[-1]
        if unwrapped is None:
            inputs = network_input(photo, size) * 2 - 1
        else:
            inputs = _seen_texels(unwrapped)
        return torch.sigmoid(self.prior + self.run_network(self.reflectance, inputs))

    def _lit(
        self,
        aligned: Float[Tensor, "batch 3 S S"],
        seen: "PhotoFeatures | Tensor",
        unwrapped: Unwrapped | None,
        reflectance: Float[Tensor, "batch 3 R R"],
    ) -> Float[Tensor, "batch 27"]:
        """Return raw numbers of the light, in the axes of the aligned image."""
        maps = [network_input(aligned, self.prior.shape[-1]) * 2 - 1]
        if unwrapped is not None:
            maps += [_seen_texels(unwrapped), srgb_from_linear(reflectance) * 2 - 1]
        features = self.run_network(self.light, torch.cat(maps, 1))
        if isinstance(seen, PhotoFeatures):
            assert isinstance(self.shape, MapsEncoder)
            features = torch.cat([self.shape.level(seen.last), features], 1)
        light = self.light_head(features).unflatten(1, (9, self.light_colours))
        return light.expand(-1, -1, 3).flatten(1)

    def _decoded(
        self,
        *,
        viewpoint: Float[Tensor, "batch v"],
        shape: Float[Tensor, "batch s"] | None = None,
        light: Float[Tensor, "batch l"] | None = None,
    ) -> ExplainedFace:
        """Return faces of raw numbers; parts that are not given are those of the mean face."""
        counts = self.decoder.counts
        given: dict[str, Tensor] = {}
        for names, part in ((_VIEWPOINT, viewpoint), (_SHAPE, shape), (("light",), light)):
            if part is not None:
                sizes = [counts[name] for name in names]
                given |= dict(zip(names, part.split(sizes, dim=1), strict=True))
        zeros = {name: viewpoint.new_zeros(len(viewpoint), counts[name]) for name in SCALES}
        return self.decoder(torch.cat([given.get(name, zeros[name]) for name in SCALES], 1))

    def _start_from_regressor(self, features: int) -> None:
        """Copy the part of the direct regressor that is linear in its features."""
        assert isinstance(self.shape, MapsEncoder)
        whole = nn.Linear(features, self.decoder.outputs)
        copy_linear_part(self.shape.level, whole)
        counts = [self.decoder.counts[name] for name in SCALES]
        weights = dict(zip(SCALES, whole.weight.detach().split(counts), strict=True))
        biases = dict(zip(SCALES, whole.bias.detach().split(counts), strict=True))
        light = weights["light"].unflatten(0, (9, 3)), biases["light"].unflatten(0, (9, 3))
        if self.light_colours == 1:
            light = light[0].mean(1, keepdim=True), light[1].mean(1, keepdim=True)
        with torch.no_grad():
            for head, names in ((self.viewpoint_head, _VIEWPOINT), (self.shape_head, _SHAPE)):
                head.weight[:, :features] = torch.cat([weights[n] for n in names])
                head.bias.copy_(torch.cat([biases[n] for n in names]))
            self.light_head.weight[:, :features] = light[0].flatten(0, 1)
            self.light_head.bias.copy_(light[1].flatten())


def _encoder(maps: FrozenMaps | None, width: int) -> MapsEncoder | ResidualNetwork:
    return ResidualNetwork(width=2 * width, layers=18) if maps is None else MapsEncoder(maps)


def _zero_linear(given: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(given, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _reduced_albedo(
    albedo: AlbedoModel, size: int
) -> tuple[Float[Tensor, "3 R R"], Float[Tensor, "A 3 R R"]]:
    """Return mean and modes of the log albedo at another size."""
    textures = torch.cat([albedo.mean_log[None], albedo.basis_log])
    reduced = F.interpolate(textures, (size, size), mode="bilinear", antialias=True)
    return reduced[0], reduced[1:]


def _seen_texels(unwrapped: Unwrapped) -> Float[Tensor, "batch 4 R R"]:
    """Return unwrapped colours for a network, 0 where hidden, and the visibility."""
    visible = unwrapped.visibility.unsqueeze(1)
    colours = (srgb_from_linear(unwrapped.texture) * 2 - 1) * (visible > 0)
    return torch.cat([colours, visible], 1)


def _prior(given: FaceCoefficients) -> Float[Tensor, "batch"]:
    parts = (given.identity, given.expression, given.albedo)
    return torch.stack([coefficient_prior(part) for part in parts]).sum(0)


def _mean_of_clips(
    values: Float[Tensor, "batch n"], clip: Int[Tensor, "batch"]
) -> Float[Tensor, "batch n"]:
    """Return for each image the mean of the values of its clip."""
    count = int(clip.max()) + 1
    sums = values.new_zeros(count, values.shape[1]).index_add(0, clip, values)
    sizes = torch.bincount(clip, minlength=count).to(values)
    return (sums / sizes[:, None])[clip]


def _of_other_frames(
    values: Float[Tensor, "batch *map"], frames: int, random: bool
) -> Float[Tensor, "batch *map"]:
    """Return for each frame the values of another frame of its clip: a random one, or the next."""
    step = int(torch.randint(1, frames, ())) if random else 1
    return values.unflatten(0, (-1, frames)).roll(step, 1).flatten(0, 1)


def conditional() -> Recipe:
    """The compact preset: a third of the images each frames of drawn clips, drawn stills, and photos."""
    return Recipe(
        name="conditional",
        description="Viewpoint, shape, reflectance, light in a chain (CEST); banks, and photos.",
        system=SystemChoice("conditional", {"preset": "compact", "crop_size": CROP_SIZE}),
        # A clip counts as one image of the batch, and has four frames.
        sources={
            "clips": BankSource(1.0, folder="banks/clips", augmentation=STILLS.augmentation),
            "stills": replace(STILLS, share=4.0),
            "photos": PhotoSource(4.0, augmentation=STILLS.augmentation),
        },
        phases=Conditional.phases,
        batch_size=20,
        schedule=Schedule(steps=24_000, warmup_steps=200),
        smoke=(
            *SMOKE,
            "system.options.uv_size=32",
            "system.options.width=4",
            "sources.photos.limit=16",
            "sources.photos.held_out=0.3",
        ),
    )


def conditional_published() -> Recipe:
    """The published preset without truth: clips of drawn people, and open photos.

    The paper learns from clips of VoxCeleb and photos of 300W-LP. There are no open videos of people that
    may be used here; a recipe with a `ClipSource` can learn from them.
    """
    alone = dict.fromkeys(FACE_LOSS_WEIGHTS, 0.0)
    unsupervised = {**alone, "landmarks478": 10.0, "landmarks68": 5.0, "prior": 0.01}
    slow = Optimiser(learning_rate=1e-4)
    plain = Conditional.phases
    return Recipe(
        name="conditional_published",
        description="As conditional, with the paper's networks, on drawn clips and photos, without truth.",
        system=SystemChoice(
            "conditional",
            {"preset": "published", "crop_size": PUBLISHED_CROP_SIZE, "white_light": True},
        ),
        sources={
            "drawn": SyntheticClipSource(1.0, frames=4),
            "photos": PhotoSource(3.0, augmentation=Augmentation()),
        },
        phases={
            name: replace(phase, weights={**phase.weights, **unsupervised}, optimiser=slow)
            for name, phase in plain.items()
        },
        batch_size=8,
        schedule=Schedule(steps=100_000),
        smoke=(
            "system.options.crop_size=64",
            "system.options.input_size=64",
            "system.options.uv_size=32",
            "system.options.width=4",
            "sources.drawn.frames=2",
            "sources.drawn.options.samples=1",
            "sources.drawn.options.texture_size=64",
            "sources.photos.limit=16",
            "sources.photos.held_out=0.3",
        ),
    )


RECIPES = (conditional, conditional_published)
"""What `lifemask train` lists for this system, by the names of the functions."""
