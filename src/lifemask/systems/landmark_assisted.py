"""A face from a photo and a map of 18 landmarks, which also learns from photos without truth.

Tu et al., "Joint 3D face reconstruction and dense face alignment from a single image with 2D-assisted
self-supervised learning" (2DASL, arXiv 1903.09359, 2019).

As published: the 18 points and how much each counts; a ResNet-50 with four input channels on crops of
120 pixels (preset `published`); weighted parameters (WPDC) in the first part of the training, then
distances of vertices; on photos with landmarks only: the projected points agree with the given ones
(`self_2d`), a second pass with a map of the projected points finds the same points in space
(`self_3d`) and in the image (`cycle`), and a critic takes the parameters for true ones
(`self_critic`). Any of the four is switched off by the weight 0.

What differs, and why:

- The face is that of our head: its coefficients, gaze, skin and light, under a perspective camera, not
  62 numbers with an affine camera. The weights of WPDC follow to first order. Gaze, skin and light have
  losses on faces with truth, so that the prediction is complete.
- The map is soft by default: Gaussians with the position to fractions of a pixel. The published one
  (`soft_map=False`) passes no gradient, so its cycle trains only the second pass.
- In training some faces have an empty map, so the system also works without landmarks.
- The critic sees the features of the regressor without gradient, not those of an encoder of its own. It
  learns on faces with truth only, and judges all. The published program trained another critic than
  the one in use.
- AdamW and a cosine, not SGD and exponential decay; first weights are random, not ImageNet's. So batch
  norms learn too.
- The weights of three losses are equal; that of the critic, which soon tells most predictions from
  true faces, is a tenth. The paper's own weight of the cycle is not certain; its
  program has that of `self_2d`.

The preset `compact` puts the same method on the layers of `dense_landmarks`, with whose face it
starts: a trunk on frozen maps. Convolutions of their own read the landmark map, and a hidden layer joins
the two. So it learns fast, and from encoded banks (`lifemask encode`). A map that entered the trunk beside
the frozen maps had no effect after 60,000 faces.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch, FaceTruth, PhotoFeatures
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.losses.coefficients import coefficient_loss
from lifemask.losses.face_points import FacePoints
from lifemask.losses.framed_points import FRAME_PIXELS, framed_points, squared_point_loss
from lifemask.losses.gaze import gaze_loss
from lifemask.losses.light import light_loss
from lifemask.losses.weighted_parameters import (
    parameter_reach,
    posed_parameters,
    weighted_parameter_loss,
)
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.networks.coefficient_critic import CoefficientCritic
from lifemask.networks.frozen_maps import FrozenMaps
from lifemask.networks.inputs import network_input
from lifemask.networks.landmark_map import (
    IMPORTANCE18,
    LandmarkMap,
    MapReader,
    points18,
    weights18,
)
from lifemask.networks.parameters import SCALES, ParameterDecoder
from lifemask.systems.bank_recipe import BANKS, SCHEDULE, SMOKE
from lifemask.systems.dense_landmarks import copy_face_network
from lifemask.systems.direct_regression import released_maps
from lifemask.systems.photo_encoders import WHOLE, ResidualEncoder, TrunkEncoder
from lifemask.training.config import (
    Optimiser,
    Phase,
    PhotoSource,
    Recipe,
    Schedule,
    SyntheticSource,
    SystemChoice,
)
from lifemask.training.flat_batches import batch_rows, flat_batches, with_axes_of
from lifemask.training.system import FramedFaces, Losses, System

CROP_SIZE, PUBLISHED_CROP_SIZE = 192, 120
"""Pixels on a side of the crops of the two recipes below."""

PRESETS = ("compact", "published")
"""Networks to choose from."""

PARAMETERS, VERTICES, CRITIC = "parameters", "vertices", "critic"
"""The phases: the first learns weighted parameters, the second, later in the training, vertices."""

CELL = 4
"""Pixels of the compact preset's landmark map along a side of a cell of the coarse map."""

_SELF = {"self_2d": 0.005, "self_3d": 0.005, "cycle": 0.005, "self_critic": 0.0005}
_LOOKS = {"gaze": 0.03, "albedo": 0.01, "light": 0.03}


class Pass(NamedTuple):
    """What one pass of the network says of images."""

    face: ExplainedFace
    """The face, in crop pixels."""
    features: Float[Tensor, "batch n"]
    """Features of the image and its landmark map."""
    points: Float[Tensor, "batch 18 3"]
    """The 18 points of the face; see `framed_points`."""


@final
class LandmarkAssisted(System):
    """Photo and landmark map to coefficients, camera and light."""

    name: ClassVar[str] = "landmark_assisted"
    phases: ClassVar = {
        PARAMETERS: Phase(
            weights={"weighted_parameters": 1.0, **_LOOKS, **_SELF},
            learns=("encoder.", "head."),
            optimiser=Optimiser(
                learning_rate=5e-4,
                betas=(0.9, 0.99),
                weight_decay=0.02,
                gradient_clip=5.0,
            ),
            end=0.5,
        ),
        VERTICES: Phase(
            weights={"vertices": 0.02, **_LOOKS, **_SELF},
            learns=("encoder.", "head."),
            optimiser=Optimiser(
                learning_rate=3e-4,
                betas=(0.9, 0.99),
                weight_decay=0.02,
                gradient_clip=5.0,
            ),
            start=0.5,
        ),
        CRITIC: Phase(
            weights={"true": 1.0, "predicted": 1.0},
            learns=("critic.",),
            optimiser=Optimiser(learning_rate=1e-4, betas=(0.5, 0.999)),
        ),
    }
    training_only: ClassVar = ("critic.",)
    first_weights: ClassVar = ("systems/dense_landmarks",)
    uses_landmarks: ClassVar[bool] = True

    importance: Float[Tensor, "18"]
    """How much each of the 18 points counts."""

    def __init__(
        self,
        model: MorphableModel,
        encoder: "MappedEncoder | ResidualEncoder",
        *,
        crop_size: int,
        soft_map: bool = True,
        dropped: float = 0.4,
        landmark_noise: float = 0.0,
    ) -> None:
        """Assemble the untrained system, which predicts the framed mean face.

        Args:
            model: the head, with 68, 478 and 21 landmarks.
            encoder: the network.
            crop_size: pixels on a side of the crops.
            soft_map: draw landmarks as Gaussians; else as single pixels.
            dropped: share of the faces that have an empty map in training, 0 to 1.
            landmark_noise: standard deviation of noise on the landmarks of the map in training, in
                sides of the frame.

        Raises:
            ValueError: a share or noise that cannot be.
        """
        super().__init__()
        if not 0 <= dropped <= 1 or landmark_noise < 0:
            raise ValueError(
                f"Got dropped={dropped} and landmark_noise={landmark_noise}; allowed are shares from "
                "0 to 1, and noise of 0 and more."
            )
        self.crop_size = crop_size
        self.model = model
        self.dropped = dropped
        self.landmark_noise = landmark_noise
        self.landmark_map = LandmarkMap(encoder.map_size, frame_side=crop_size, soft=soft_map)
        self.face_points = FacePoints(model)
        self.register_buffer("importance", torch.tensor(IMPORTANCE18), persistent=False)
        self.decoder = ParameterDecoder.for_model(model, crop_size=crop_size)
        self.encoder = encoder
        self.head = nn.Linear(encoder.features, self.decoder.outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        # Rotation, translation, scale and distance are 13 numbers.
        shape = len(model.identity_basis) + len(model.expression_basis)
        self.critic = CoefficientCritic(encoder.features, shape + 13)

    @classmethod
    def build(
        cls,
        *,
        preset: str = "compact",
        crop_size: int | None = None,
        input_size: int | None = None,
        width: int = 64,
        soft_map: bool = True,
        dropped: float = 0.4,
        landmark_noise: float = 0.0,
        pretrained: bool = True,
    ) -> "LandmarkAssisted":
        """Assemble the untrained system on the default head.

        Args:
            preset: compact: the layers of `dense_landmarks`; published: a ResNet-50 with random weights.
            crop_size: pixels on a side of the crops; by default 192 or 120.
            input_size: pixels on a side to which the network resizes them; by default 256 (for compact,
                a multiple of 64) or 120.
            width: channels inside the first blocks of the preset published; 64 is ResNet-50.
            soft_map: draw landmarks as Gaussians; else as single pixels.
            dropped: share of the faces that have an empty map in training, 0 to 1.
            landmark_noise: standard deviation of noise on the landmarks of the map in training, in
                sides of the frame.
            pretrained: the preset compact starts from the weights of `dense_landmarks`, which needs 256
                pixels; else from random ones, which a file replaces.

        Raises:
            ValueError: an unknown preset, or a share or noise that cannot be.
        """
        if preset not in PRESETS:
            raise ValueError(f"Unknown preset {preset!r}. Known: {', '.join(PRESETS)}.")
        compact = preset == "compact"
        encoder = (
            MappedEncoder(released_maps(input_size or 256))
            if compact
            else ResidualEncoder(
                input_size=input_size or PUBLISHED_CROP_SIZE,
                width=width,
                has_map=True,
                last_stride=1,
            )
        )
        system = cls(
            MorphableModel.from_pretrained(),
            encoder,
            crop_size=crop_size or (CROP_SIZE if compact else PUBLISHED_CROP_SIZE),
            soft_map=soft_map,
            dropped=dropped,
            landmark_noise=landmark_noise,
        )
        if pretrained and isinstance(encoder, MappedEncoder):
            photo = encoder.photo
            copy_face_network(photo.level, photo.trunk, system.head)
        return system

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Explain faces in one pass, with an empty map where no landmarks are given."""
        batch = faces.photo.shape[:-3]
        photo, dense, weight = map_tensors(
            lambda t: t.flatten(0, len(batch) - 1),
            (faces.photo, faces.landmarks, faces.landmark_weight),
        )
        if dense is None:
            points, known = photo.new_zeros(len(photo), 18, 2), photo.new_zeros(len(photo), 18)
        else:
            full = torch.ones_like(dense[..., 0]) if weight is None else weight
            points, known = points18(dense), weights18(full)
        alone = self.run_network(self.encoder.see, self._seen(photo))
        face = self._explained(alone, self.landmark_map(points, known)).face
        return map_tensors(lambda t: t.unflatten(0, batch), face)

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch; without truth, only those of the given landmarks.

        Batches without truth have no losses in the critic's phase.
        """
        flat = flat_batches(batches)
        seen = joined([batch.features or self._seen(batch.photo) for batch in flat])
        given = torch.cat([points18(batch.landmarks478) for batch in flat])
        known = torch.cat([weights18(batch.landmarks478_weight) for batch in flat])
        if phase == CRITIC:
            with torch.no_grad():
                alone = self.run_network(self.encoder.see, seen)
                first = self._explained(alone, self._first_map(given, known))
            found = self._critic_losses(flat, first)
        else:
            alone = self.run_network(self.encoder.see, seen)
            found = self._network_losses(phase, flat, alone, given, known)
        return with_axes_of(batches, found)

    def frozen_features(self, photo: Float[Tensor, "batch 3 S S"]) -> PhotoFeatures | None:
        """Return what the direct regressor's convolutions see in crops; None for `published`."""
        seen = self._seen(photo)
        return seen if isinstance(seen, PhotoFeatures) else None

    def _seen(self, photo: Float[Tensor, "batch 3 S S"]) -> "PhotoFeatures | Tensor":
        images = network_input(photo, self.encoder.input_size)
        return self.run_network(self.encoder.look, images)

    def _explained(
        self, alone: Float[Tensor, "batch *shape"], drawn: Float[Tensor, "batch 1 m m"]
    ) -> Pass:
        """Return what one pass says.

        Args:
            alone: what the encoder sees in the images alone; the same for all passes.
            drawn: landmark maps.
        """
        features = self.run_network(self.encoder, alone, drawn)
        # The last layer stays in float32: its outputs become pixels.
        face = self.decoder(self.head(features))
        dense = self.face_points(face.coefficients)[1]
        points = points18(framed_points(dense, face.camera, frame_side=float(self.crop_size)))
        return Pass(face, features, points)

    def _first_map(
        self, given: Float[Tensor, "batch 18 2"], known: Float[Tensor, "batch 18"]
    ) -> Float[Tensor, "batch 1 m m"]:
        """Return the maps of given points, in training with noise, and empty for some faces."""
        if self.training:
            given = given + torch.randn_like(given) * (self.landmark_noise * self.crop_size)
            known = known * (torch.rand_like(known[:, :1]) >= self.dropped)
        return self.landmark_map(given, known)

    def _network_losses(
        self,
        phase: str,
        batches: Sequence[FaceBatch],
        alone: Float[Tensor, "batch *shape"],
        given: Float[Tensor, "batch 18 2"],
        known: Float[Tensor, "batch 18"],
    ) -> list[Losses]:
        unit = FRAME_PIXELS / self.crop_size
        first = self._explained(alone, self._first_map(given, known))
        predicted = first.points[..., :2] / unit
        again = self._explained(alone, self.landmark_map(predicted, torch.ones_like(known)))
        counted, target = known * self.importance, given * unit
        importance = self.importance.expand_as(known)
        agreement = {
            "self_2d": squared_point_loss(first.points[..., :2], target, counted),
            "self_3d": squared_point_loss(again.points, first.points, importance),
            "cycle": squared_point_loss(again.points[..., :2], target, counted),
            "self_critic": F.softplus(
                -self.critic(first.features.detach(), self._posed(first.face))
            ),
        }
        results: list[Losses] = []
        for batch, rows in zip(batches, batch_rows(batches), strict=True):
            own = {name: value[rows] for name, value in agreement.items()}
            if batch.truth is not None:
                own |= self._supervised(phase, batch.truth, first.face[rows])
            results.append(own)
        return results

    def _supervised(self, phase: str, truth: FaceTruth, face: ExplainedFace) -> dict[str, Tensor]:
        side = float(self.crop_size)
        given, true = face.coefficients, truth.face.coefficients
        *_, surface = self.face_points(given)
        *_, true_surface = self.face_points(true)
        looks = {
            "gaze": gaze_loss(given.gaze, true.gaze),
            "albedo": coefficient_loss(given.albedo, true.albedo),
            "light": light_loss(face.light, truth.face.light),
        }
        if phase == VERTICES:
            seen = framed_points(surface, face.camera, frame_side=side)
            wanted = framed_points(true_surface, truth.face.camera, frame_side=side)
            return {"vertices": squared_point_loss(seen, wanted), **looks}
        reach = parameter_reach(
            viewpoint_of(truth.face.camera),
            true_surface,
            self.face_points.surface_basis,
            identity_modes=true.identity.shape[-1],
            frame_side=side,
            spreads=SCALES,
        )
        parameters, wanted = self._posed(face), self._posed(truth.face)
        return {"weighted_parameters": weighted_parameter_loss(parameters, wanted, reach), **looks}

    def _critic_losses(self, batches: Sequence[FaceBatch], first: Pass) -> list[Losses]:
        results: list[Losses] = []
        for batch, rows in zip(batches, batch_rows(batches), strict=True):
            if batch.truth is None:
                results.append({})
                continue
            features = first.features[rows]
            true = self.critic(features, self._posed(batch.truth.face))
            predicted = self.critic(features, self._posed(first.face[rows]))
            results.append({"true": F.softplus(-true), "predicted": F.softplus(predicted)})
        return results

    def _posed(self, face: ExplainedFace) -> Float[Tensor, "batch P"]:
        return posed_parameters(
            face.coefficients,
            viewpoint_of(face.camera),
            frame_side=float(self.crop_size),
            spreads=SCALES,
        )


class MappedEncoder(nn.Module):
    """A trunk on frozen convolutions, and a reader of the landmark map beside it."""

    def __init__(self, maps: FrozenMaps) -> None:
        """Start from random weights.

        Args:
            maps: the convolutions.
        """
        super().__init__()
        self.photo = TrunkEncoder(maps)
        self.input_size = maps.input_size
        self.map_size = CELL * maps.input_size // 8
        self.features = self.photo.features + WHOLE
        self.reader = MapReader(self.map_size, WHOLE)
        joint = nn.Linear(2 * WHOLE, WHOLE)
        nn.init.kaiming_normal_(joint.weight, nonlinearity="relu")
        nn.init.zeros_(joint.bias)
        self.both = nn.Sequential(joint, nn.PReLU(WHOLE))

    def look(self, images: Float[Tensor, "batch 3 s s"]) -> PhotoFeatures:
        """Return what the frozen convolutions see."""
        return self.photo.look(images)

    def see(self, seen: PhotoFeatures) -> Float[Tensor, "batch n"]:
        """Return the features of images alone."""
        return self.photo(seen)

    def forward(
        self, alone: Float[Tensor, "batch n"], drawn: Float[Tensor, "batch 1 m m"]
    ) -> Float[Tensor, "batch k"]:
        """Return the features of images, then those of images and their landmark maps."""
        both = self.both(torch.cat([alone[:, -WHOLE:], self.reader(drawn)], -1))
        return torch.cat([alone, both.float()], -1)


def landmark_assisted() -> Recipe:
    """The compact preset: banks of faces with truth, and open photos with measured landmarks only."""
    return Recipe(
        name="landmark_assisted",
        description="Photo and landmarks to a face (2DASL), learned from banks and photos.",
        system=_choice("compact", CROP_SIZE),
        sources={**BANKS, "photos": PhotoSource(0.4, augmentation=Augmentation())},
        phases=LandmarkAssisted.phases,
        batch_size=64,
        schedule=SCHEDULE,
        smoke=(*SMOKE, "sources.photos.limit=16", "sources.photos.held_out=0.3"),
    )


def landmark_assisted_published() -> Recipe:
    """The published preset: half of each batch drawn faces with truth, half open photos without.

    The learning rates are the published ones where AdamW allows it: the critic's, and the end of the
    schedule. In the second part of the training, in which only the fine agreement is left to learn,
    that of the network is a quarter.
    """
    plain = LandmarkAssisted.phases
    slow = Optimiser(learning_rate=4e-4, weight_decay=5e-4)
    return Recipe(
        name="landmark_assisted_published",
        description="As landmark_assisted, with the paper's network, and half of each batch photos.",
        system=_choice("published", PUBLISHED_CROP_SIZE),
        sources={
            "synthetic": SyntheticSource(1.0),
            "photos": PhotoSource(1.0, augmentation=Augmentation()),
        },
        phases={
            PARAMETERS: replace(plain[PARAMETERS], optimiser=slow),
            VERTICES: replace(plain[VERTICES], optimiser=replace(slow, learning_rate=1e-4)),
            CRITIC: replace(
                plain[CRITIC],
                optimiser=Optimiser(learning_rate=1e-5, betas=(0.5, 0.999), weight_decay=0.0),
            ),
        },
        batch_size=16,
        schedule=Schedule(steps=100_000, final_factor=0.001),
        smoke=(
            "system.options.width=8",
            "sources.synthetic.options.samples=1",
            "sources.synthetic.options.texture_size=64",
            "sources.photos.limit=16",
            "sources.photos.held_out=0.3",
        ),
    )


def _choice(preset: str, crop_size: int) -> SystemChoice:
    # Landmarks of drawn faces are exact; those that perception measures are not.
    noise = 0.01
    return SystemChoice(
        "landmark_assisted", {"preset": preset, "crop_size": crop_size, "landmark_noise": noise}
    )


RECIPES = (landmark_assisted, landmark_assisted_published)
"""What `lifemask train` lists for this system, by the names of the functions."""
