"""Dense landmarks with uncertainty, and the face that they belong to, in one pass.

As in Wood et al., "3D face reconstruction with dense landmarks" (ECCV 2022), a network that has seen
only faces with exact truth predicts many points of the head, hidden ones too, each with a standard
deviation. Differences: the points start on a predicted head, each corrects itself from the features
around it, and visibility is predicted too.

The convolutions of the direct regressor do not change. A trunk of plain convolutions on their first
maps learns, and corrects the head that is linear in their last map. So what the frozen ones see can
be computed once for many trainings (`lifemask encode`).

Losses: the likelihood of the points, and visibility; for the face those of
`lifemask.systems.face_losses`.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.data.batch import FaceBatch, PhotoFeatures
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.losses.likelihood import point_likelihood_loss
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks
from lifemask.morphable.model import MorphableModel
from lifemask.networks.face_trunk import NEAR, FaceTrunk, TrunkStages
from lifemask.networks.frozen_maps import FrozenMaps
from lifemask.networks.inputs import network_input
from lifemask.networks.parameters import ParameterDecoder
from lifemask.networks.point_refiner import PointRefiner, RefinedPoints
from lifemask.networks.released import read_released
from lifemask.perception.onnx_runtime import OnnxNetwork
from lifemask.systems.bank_recipe import BANKS, SCHEDULE, SMOKE
from lifemask.systems.direct_regression import copy_linear_part, released_maps
from lifemask.systems.face_losses import FACE_LOSS_WEIGHTS, FaceLosses
from lifemask.systems.photo_encoders import seen_by
from lifemask.training.config import (
    MAIN,
    Optimiser,
    Phase,
    Recipe,
    SystemChoice,
)
from lifemask.training.flat_batches import batch_rows, flat_batches, with_axes_of
from lifemask.training.system import FramedFaces, Losses, System

CROP_SIZE = 192
"""Pixels on a side of the crops of the recipes below."""

WHOLE = 256
"""Features of the whole face that the trunk gives."""

_LOG_PERCENT = 4.605170185988092
"""Logarithm of 100: standard deviations of the likelihood are in percent of the frame's side."""


class SeenFace(NamedTuple):
    """What the convolutions see in crops."""

    last: Float[Tensor, "batch n"]
    """Features of the frozen ones, from which the face is linear."""
    near: Float[Tensor, "batch c h w"]
    """Map that the points read."""
    whole: Float[Tensor, "batch k"]
    """Features of the whole face."""


class _Convolutions(nn.Module):
    """All convolutions of a system in one module with one input, for an export."""

    def __init__(self, maps: FrozenMaps, trunk: FaceTrunk) -> None:
        super().__init__()
        self.maps, self.trunk = maps, trunk

    def forward(self, images: Float[Tensor, "batch 3 s s"]) -> SeenFace:
        seen = seen_by(self.maps, images)
        return SeenFace(seen.last, *self.trunk(seen.fine, seen.coarse))


@final
class DenseLandmarks(System):
    """Photo to 678 points with their uncertainty, coefficients, camera and light."""

    name: ClassVar[str] = "dense_landmarks"
    phases: ClassVar = {
        MAIN: Phase(
            weights={
                "points": 0.5,
                "visible": 0.3,
                **{name: weight / 2 for name, weight in FACE_LOSS_WEIGHTS.items()},
            },
            optimiser=Optimiser(
                learning_rate=1e-3,
                learning_rate_factors={"start": 0.3},
                betas=(0.9, 0.99),
                weight_decay=0.02,
                gradient_clip=5.0,
            ),
        )
    }
    first_weights: ClassVar = ("systems/direct_regression",)

    def __init__(
        self, model: MorphableModel, maps: FrozenMaps, *, crop_size: int = CROP_SIZE
    ) -> None:
        """Assemble the untrained system, which predicts the framed mean face.

        Args:
            model: the head, with 68, 478, 21 and 200 landmarks.
            maps: the convolutions.
            crop_size: pixels on a side of the crops.

        Raises:
            ValueError: the model lacks landmarks.
        """
        super().__init__()
        if model.surface200 is None:
            raise ValueError("This head has no surface points. Use the default head.")
        self.crop_size = crop_size
        self.model = model
        self.face_losses = FaceLosses(model, crop_size=crop_size)
        self.maps = maps
        self.decoder = ParameterDecoder.for_model(model, crop_size=crop_size)
        start = nn.Linear(maps.features, self.decoder.outputs)
        self.start = nn.Sequential(nn.LayerNorm(maps.features), start)
        self.trunk = FaceTrunk(coarse_size=maps.input_size // 8, whole=WHOLE)
        self.correction = nn.Linear(WHOLE, self.decoder.outputs)
        self.refiner = PointRefiner(478 + 200, near=NEAR, whole=WHOLE)
        self._exported: OnnxNetwork | None = None
        for layer in (start, self.correction):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @classmethod
    def build(
        cls, *, crop_size: int = CROP_SIZE, input_size: int = 256, pretrained: bool = True
    ) -> "DenseLandmarks":
        """Assemble the untrained system on the default head.

        Args:
            crop_size: pixels on a side of the crops.
            input_size: pixels on a side to which the network resizes them, a multiple of 64.
            pretrained: start from the direct regressor's head, which needs 256 pixels; else from
                random weights, which a file replaces.
        """
        maps = released_maps(input_size)
        system = cls(MorphableModel.from_pretrained(), maps, crop_size=crop_size)
        if pretrained:
            level, outputs = system.start
            assert isinstance(level, nn.LayerNorm)
            assert isinstance(outputs, nn.Linear)
            copy_linear_part(level, outputs)
        return system

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Explain faces in one pass; see `System.forward`."""
        batch = faces.photo.shape[:-3]
        face, _ = self.explained(self.seen(faces.photo.flatten(0, -4)))
        return map_tensors(lambda t: t.unflatten(0, batch), face)

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch; without truth, only those of known landmarks."""
        flat = flat_batches(batches)
        features = [batch.features or self.frozen_features(batch.photo) for batch in flat]
        face, refined = self.explained(self.seen_in_features(joined(features)))
        found: list[Losses] = []
        for batch, rows in zip(flat, batch_rows(flat), strict=True):
            part = RefinedPoints(*(value[rows] for value in refined))
            found.append({**self.point_losses(batch, part), **self.face_losses(batch, face[rows])})
        return with_axes_of(batches, found)

    def frozen_features(self, photo: Float[Tensor, "batch 3 S S"]) -> PhotoFeatures:
        """Return what the direct regressor's convolutions see in crops."""
        images = network_input(photo, self.maps.input_size)
        return self.run_network(partial(seen_by, self.maps), images)

    def use_onnx_runtime(self, weights: Sequence[str]) -> None:
        """See `System.use_onnx_runtime`; what is not a convolution stays in torch."""
        size = self.maps.input_size
        network = _Convolutions(self.maps, self.trunk).eval()
        self._exported = OnnxNetwork(network, weights, (2, 3, size, size))

    def seen(self, photo: Float[Tensor, "batch 3 S S"]) -> SeenFace:
        """Return what the convolutions see in crops."""
        if self._exported is None:
            return self.seen_in_features(self.frozen_features(photo))
        return SeenFace(*self._exported(network_input(photo, self.maps.input_size)))

    def seen_in_features(self, features: PhotoFeatures) -> SeenFace:
        """Return what the trunk sees in what `frozen_features` sees in crops."""
        near, whole = self.run_network(self.trunk, features.fine, features.coarse)
        return SeenFace(features.last.float(), near, whole)

    def explained(self, seen: SeenFace) -> tuple[ExplainedFace, RefinedPoints]:
        """Return the faces of crops with landmarks, and these as the losses need them.

        Args:
            seen: what the convolutions see in the crops.
        """
        last, near, whole = seen
        face = self.decoder(self.start(last) + self.correction(whole))
        side = float(self.crop_size)
        points = face.camera.project(self.face_losses.points.dense(face.coefficients))[..., :2]
        refined = self.refiner(points / side, near, whole)
        landmarks = PredictedLandmarks(
            refined.points * side, refined.log_sigma.exp() * side, refined.visible_logit.sigmoid()
        )
        return replace(face, landmarks=landmarks), refined

    def point_losses(self, batch: FaceBatch, refined: RefinedPoints) -> Losses:
        """Return the losses of points and of their visibility."""
        points, weight = batch.landmarks478, batch.landmarks478_weight
        truth = batch.truth
        if truth is None:
            nowhere = points.new_zeros(len(points), 200, 2)
            points = torch.cat([points, nowhere], 1)
            weight = torch.cat([weight, nowhere[..., 0]], 1)
            visible_loss = weight.new_zeros(len(weight))
        else:
            points = torch.cat([points, truth.surface200], 1)
            weight = torch.cat([weight, torch.ones_like(truth.surface200[..., 0])], 1)
            visible = torch.cat([truth.visible478, truth.visible200], 1).to(weight)
            visible_loss = F.binary_cross_entropy_with_logits(
                refined.visible_logit, visible, reduction="none"
            ).mean(-1)
        percent = points * (100 / self.crop_size)
        return {
            "points": point_likelihood_loss(
                refined.points * 100, refined.log_sigma + _LOG_PERCENT, percent, weight
            ),
            "visible": visible_loss,
        }


def copy_face_network(level: nn.LayerNorm, trunk: TrunkStages, face: nn.Linear) -> None:
    """Copy the released layers that lead to the face, so that another system starts with this face.

    Args:
        level: gets the norm of the last features of the frozen convolutions (`released_maps`).
        trunk: gets the layers on their first maps, of images of 256 pixels.
        face: its first inputs are these features, the next ones the trunk's of the whole face; what
            it does with others stays.
    """
    given = {
        name: value.float() for name, value in read_released(DenseLandmarks.name).tensors.items()
    }

    def part(start: str) -> dict[str, Tensor]:
        return {n.removeprefix(start): v for n, v in given.items() if n.startswith(start)}

    level.load_state_dict(part("start.0."))
    own = trunk.state_dict()
    trunk.load_state_dict(own | {n: v for n, v in part("trunk.").items() if n in own})
    weights = torch.cat([given["start.1.weight"], given["correction.weight"]], 1)
    with torch.no_grad():
        face.weight[:, : weights.shape[1]] = weights
        face.bias.copy_(given["start.1.bias"] + given["correction.bias"])


def dense_landmarks() -> Recipe:
    """Dense landmarks and the face, learned from a bank of drawn and re-rendered faces."""
    return Recipe(
        name="dense_landmarks",
        description="Dense landmarks and the face, learned from a bank of faces.",
        system=SystemChoice("dense_landmarks", {"crop_size": CROP_SIZE}),
        sources=BANKS,
        phases=DenseLandmarks.phases,
        batch_size=64,
        schedule=SCHEDULE,
        smoke=SMOKE,
    )


RECIPES = (dense_landmarks,)
"""What `lifemask train` lists for this system, by the names of the functions."""
