"""A face from real photos that explain themselves: its drawing must look like the photo.

Chen, Wu, Wang, Song, Ling and Bao, "Self-supervised learning of detailed 3D face reconstruction" (IEEE
TIP 2020, arXiv 1910.11791). This file holds its first stage, the coarse face. The second one, which
displaces this face in UV, starts from it.

As published: one pass over the photo predicts shape, skin, pose and nine harmonics of light for each
colour. The losses need no truth: the distance of colours between photo and drawing over skin
(`photometric`), points with a weight each (`key_points`), an identity embedding of the photo and of the
drawing pasted on it (`likeness`), and mean squares of the coefficients. Their weights are the paper's,
in our units: colours from 0 to 1 instead of 255, points in a frame of 120 pixels instead of 300.

What differs, and why:

- The face is that of our head, with gaze, under a perspective camera. Expressions are weights from 0 to
  1; their prior is in units of their usual spread. Light starts at a shading of 1: the paper's first
  drawings are dark.
- The points are the 68 of iBUG, not 86. The paper's second loss lets the jaw slide along the outline;
  here the jaw of the 68 points has no weight, and the dense points of `FaceLosses` hold the outline.
  The compact recipe gives `key_points` a quarter of their weight: it has points with robust losses too.
- Half of the compact recipe's faces are drawn, with truth, and have all of `FaceLosses` too. They keep
  the geometry honest: colours alone mistake light for skin and skin for shape.
- The embedding is dlib's (public domain), which ships with the package, not VGG-Face's, whose licence
  does not allow that. SFace judges the results, so it never takes part in a training. The weight of
  `likeness` is ours, because the embeddings have other units; 0 switches it off.
- The network of the preset `published` is a ResNet-50 from random weights, not VGG-Face with its
  weights, so the learning rate is higher. The heads share one layer.
- The preset `compact` has the layers of `dense_landmarks`, with whose face it starts: a trunk on frozen
  maps, so banks can be encoded (`lifemask encode` with a recipe of the same frozen layers).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch, PhotoFeatures
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.losses.coefficients import coefficient_prior
from lifemask.losses.framed_points import FRAME_PIXELS, squared_point_loss
from lifemask.losses.likeness import likeness_loss
from lifemask.losses.rendered_photo import colour_distance_loss, rendered_photo
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.networks.frozen import Frozen
from lifemask.networks.inputs import network_input
from lifemask.networks.parameters import SCALES, ParameterDecoder
from lifemask.perception.identity import IdentityNetwork
from lifemask.perception.weights import load_network
from lifemask.rendering.face_colours import FaceRenderer
from lifemask.systems.bank_recipe import SCHEDULE, SMOKE, STILLS
from lifemask.systems.dense_landmarks import copy_face_network
from lifemask.systems.direct_regression import released_maps
from lifemask.systems.face_losses import FACE_LOSS_WEIGHTS, FaceLosses
from lifemask.systems.photo_encoders import ResidualEncoder, TrunkEncoder
from lifemask.training.config import (
    Optimiser,
    Phase,
    PhotoSource,
    Recipe,
    Schedule,
    SystemChoice,
)
from lifemask.training.flat_batches import batch_rows, flat_batches, with_axes_of
from lifemask.training.system import FramedFaces, Losses, System

PRESETS = ("compact", "published")
"""Networks to choose from."""

COARSE = "coarse"
"""The phase that learns the coarse face."""

CROP_SIZE, PUBLISHED_CROP_SIZE = 192, 224
"""Pixels on a side of the crops of the two recipes below."""

DRAWN_SIZE = 112
"""Pixels on a side of the drawings that the compact recipe compares with photos."""

_IMPORTANT = {
    15.0: (37, 38, 40, 41, 43, 44, 46, 47),
    10.0: (51, 57, 62, 66),
    5.0: (*range(27, 36), 36, 39, 42, 45, 48, 54, 60, 64),
    2.0: (0, 4, 8, 12, 16),
}
KEY_POINT_WEIGHTS = tuple(
    next((weight for weight, points in _IMPORTANT.items() if point in points), 1.0)
    for point in range(68)
)
"""How much each iBUG point counts: lids, middles of the lips, nose and corners, anchors of the jaw."""

_PUBLISHED_WEIGHTS = {
    "photometric": 1.0,
    "key_points": 0.13,
    "likeness": 0.2,
    "identity_prior": 0.012,
    "expression_prior": 0.04,
    "albedo_prior": 0.004,
}
_FACE_WEIGHTS = {name: weight for name, weight in FACE_LOSS_WEIGHTS.items() if name != "prior"}
_COMPACT_WEIGHTS = {
    **_PUBLISHED_WEIGHTS,
    **_FACE_WEIGHTS,
    # Squares of a few hard faces of the bank would outweigh all else; `landmarks68` is robust.
    "key_points": 0.03,
}


@final
class UVDisplacement(System):
    """Photo to coefficients, camera and light, learned from the look of photos."""

    name: ClassVar[str] = "uv_displacement"
    phases: ClassVar = {
        COARSE: Phase(
            weights=_COMPACT_WEIGHTS,
            learns=("encoder.", "head."),
            optimiser=Optimiser(
                learning_rate=5e-4,
                learning_rate_factors={"head": 0.3},
                betas=(0.9, 0.99),
                weight_decay=0.02,
                gradient_clip=5.0,
            ),
        )
    }
    first_weights: ClassVar = ("systems/dense_landmarks",)

    key_point_weights: Float[Tensor, "68"]
    """How much each iBUG point counts."""

    def __init__(
        self,
        model: MorphableModel,
        encoder: TrunkEncoder | ResidualEncoder,
        identity: IdentityNetwork,
        *,
        crop_size: int,
        drawn_size: int,
    ) -> None:
        """Assemble the untrained system, which predicts the framed mean face.

        Args:
            model: the head, with 68, 478 and 21 landmarks, and albedo.
            encoder: the network.
            identity: the trained embedding of the loss `likeness`.
            crop_size: pixels on a side of the crops.
            drawn_size: pixels on a side of the drawings that are compared with them.
        """
        super().__init__()
        self.model = model
        self.crop_size = crop_size
        self.drawn_size = drawn_size
        self.face_losses = FaceLosses(model, crop_size=crop_size)
        self.renderer = FaceRenderer(model)
        self.identity = Frozen(identity)
        self.register_buffer("key_point_weights", torch.tensor(KEY_POINT_WEIGHTS), persistent=False)
        self.decoder = ParameterDecoder.for_model(model, crop_size=crop_size)
        self.encoder = encoder
        self.head = nn.Linear(encoder.features, self.decoder.outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def build(
        cls,
        *,
        preset: str = "compact",
        crop_size: int | None = None,
        input_size: int | None = None,
        drawn_size: int = DRAWN_SIZE,
        width: int = 64,
        pretrained: bool = True,
    ) -> "UVDisplacement":
        """Assemble the untrained system on the default head.

        Args:
            preset: compact: the layers of `dense_landmarks`; published: a ResNet-50 with random weights.
            crop_size: pixels on a side of the crops; by default 192 or 224.
            input_size: pixels on a side to which the network resizes them; by default 256 (for compact,
                a multiple of 64) or 224.
            drawn_size: pixels on a side of the drawings that are compared with them.
            width: channels inside the first blocks of the preset published; 64 is ResNet-50.
            pretrained: the preset compact starts from the weights of `dense_landmarks`, which needs 256
                pixels; else from random ones, which a file replaces.

        Raises:
            ValueError: an unknown preset.
        """
        if preset not in PRESETS:
            raise ValueError(f"Unknown preset {preset!r}. Known: {', '.join(PRESETS)}.")
        compact = preset == "compact"
        encoder = (
            TrunkEncoder(released_maps(input_size or 256))
            if compact
            else ResidualEncoder(input_size=input_size or PUBLISHED_CROP_SIZE, width=width)
        )
        system = cls(
            MorphableModel.from_pretrained(),
            encoder,
            load_network(IdentityNetwork(), "identity"),
            crop_size=crop_size or (CROP_SIZE if compact else PUBLISHED_CROP_SIZE),
            drawn_size=drawn_size,
        )
        if pretrained and isinstance(encoder, TrunkEncoder):
            copy_face_network(encoder.level, encoder.trunk, system.head)
        return system

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Explain faces in one pass; see `System.forward`."""
        batch = faces.photo.shape[:-3]
        face = self._explained(self._seen(faces.photo.flatten(0, -4)))
        return map_tensors(lambda t: t.unflatten(0, batch), face)

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch: the paper's always, those of `FaceLosses` beside them."""
        flat = flat_batches(batches)
        face = self._explained(
            joined([batch.features or self._seen(batch.photo) for batch in flat])
        )
        own = {
            **self._appearance_losses(flat, face),
            "key_points": self._key_points(flat, face),
            **self._priors(face),
        }
        found: list[Losses] = []
        for batch, rows in zip(flat, batch_rows(flat), strict=True):
            known = dict(self.face_losses(batch, face[rows]))
            # The priors above, one for each kind of coefficient, replace it.
            known.pop("prior", None)
            found.append({**known, **{name: value[rows] for name, value in own.items()}})
        return with_axes_of(batches, found)

    def frozen_features(self, photo: Float[Tensor, "batch 3 S S"]) -> PhotoFeatures | None:
        """Return what the frozen convolutions see in crops; None for `published`."""
        seen = self._seen(photo)
        return seen if isinstance(seen, PhotoFeatures) else None

    def _seen(self, photo: Float[Tensor, "batch 3 S S"]) -> PhotoFeatures | Tensor:
        return self.run_network(self.encoder.look, network_input(photo, self.encoder.input_size))

    def _explained(self, seen: PhotoFeatures | Tensor) -> ExplainedFace:
        features = self.run_network(self.encoder, seen)
        # The last layer stays in float32: its outputs become pixels.
        return self.decoder(self.head(features))

    def _appearance_losses(
        self, batches: Sequence[FaceBatch], face: ExplainedFace
    ) -> dict[str, Tensor]:
        """Compare the photos with the drawings of their faces."""
        seen = rendered_photo(
            self.renderer,
            face,
            torch.cat([batch.photo for batch in batches]),
            torch.cat([batch.skin for batch in batches]),
            size=self.drawn_size,
        )
        landmarks = torch.cat([batch.landmarks478 for batch in batches])
        return {
            "photometric": colour_distance_loss(seen.rendered, seen.photo, seen.compared),
            "likeness": likeness_loss(
                lambda chips: self.run_network(self.identity, chips),
                seen.pasted,
                seen.photo,
                landmarks * (self.drawn_size / self.crop_size),
                torch.cat([batch.landmarks478_weight for batch in batches]),
            ),
        }

    def _key_points(
        self, batches: Sequence[FaceBatch], face: ExplainedFace
    ) -> Float[Tensor, "batch"]:
        """Return the weighted mean squared error of the iBUG points, as in a frame of 120 pixels."""
        unit = FRAME_PIXELS / self.crop_size
        points = self.face_losses.points(face.coefficients)[0]
        weight = self.face_losses.points.weight68 * self.key_point_weights
        return squared_point_loss(
            face.camera.project(points)[..., :2] * unit,
            torch.cat([batch.landmarks68 for batch in batches]) * unit,
            torch.cat([batch.landmarks68_weight for batch in batches]) * weight,
        )

    def _priors(self, face: ExplainedFace) -> dict[str, Tensor]:
        given = face.coefficients
        return {
            "identity_prior": coefficient_prior(given.identity),
            "expression_prior": coefficient_prior(given.expression / SCALES["expression"]),
            "albedo_prior": coefficient_prior(given.albedo),
        }


def uv_displacement() -> Recipe:
    """The compact preset: half of each batch open photos, half a bank of faces with truth."""
    return Recipe(
        name="uv_displacement",
        description="Photos explain themselves: drawn faces must look like them; half a bank.",
        system=SystemChoice("uv_displacement", {"preset": "compact", "crop_size": CROP_SIZE}),
        sources={
            "photos": PhotoSource(1.0, augmentation=_varied()),
            "bank": STILLS,
        },
        phases=UVDisplacement.phases,
        batch_size=32,
        schedule=SCHEDULE,
        smoke=(
            *SMOKE,
            "system.options.drawn_size=48",
            "sources.photos.limit=16",
            "sources.photos.held_out=0.3",
        ),
    )


def uv_displacement_published() -> Recipe:
    """The published preset, from photos only; batch, steps, zoom and gains as published."""
    plain = UVDisplacement.phases[COARSE]
    return Recipe(
        name="uv_displacement_published",
        description="As uv_displacement, with a large network, and photos only.",
        system=SystemChoice(
            "uv_displacement",
            {
                "preset": "published",
                "crop_size": PUBLISHED_CROP_SIZE,
                "drawn_size": PUBLISHED_CROP_SIZE,
            },
        ),
        sources={"photos": PhotoSource(1.0, augmentation=_varied())},
        phases={
            COARSE: replace(
                plain,
                # Instead of `landmarks68` it has `key_points`.
                weights={**_FACE_WEIGHTS, **_PUBLISHED_WEIGHTS, "landmarks68": 0.0},
                optimiser=Optimiser(learning_rate=1e-4, weight_decay=0.0),
            )
        },
        batch_size=16,
        schedule=Schedule(steps=100_000, final_factor=0.1),
        smoke=(
            "system.options.width=8",
            "system.options.crop_size=64",
            "system.options.input_size=64",
            "system.options.drawn_size=48",
            "sources.photos.limit=16",
            "sources.photos.held_out=0.3",
        ),
    )


def _varied() -> Augmentation:
    """Return variations as published: mirror, zoom and gains; no noise, which a face cannot explain."""
    return replace(
        Augmentation.none(), mirror=0.5, shift=0.04, scale=0.1, exposure=0.2, tint=0.08, cut=0.1
    )


RECIPES = (uv_displacement, uv_displacement_published)
"""What `lifemask train` lists for this system, by the names of the functions."""
