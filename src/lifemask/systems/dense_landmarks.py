"""Dense landmarks with uncertainty, and the face that they belong to, in one pass.

As in Wood et al., "3D face reconstruction with dense landmarks" (ECCV 2022), a network that has seen
only faces with exact truth predicts many points of the head, hidden ones too, each with a standard
deviation. Differences: the points start on a predicted head, that of the direct regressor, whose
weights this system starts from; each point corrects itself from the features around it; visibility
is predicted too; and the corrections of the points correct the head.

Losses: the likelihood of the points, and visibility; for the face those of
`lifemask.systems.face_losses`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch
from lifemask.geometry.tensors import map_tensors
from lifemask.losses.likelihood import point_likelihood_loss
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks
from lifemask.morphable.model import MorphableModel
from lifemask.networks.face_mesh_backbone import FaceMeshBackbone
from lifemask.networks.inputs import network_input
from lifemask.networks.parameters import ParameterDecoder
from lifemask.networks.point_refiner import PointRefiner, RefinedPoints
from lifemask.networks.regression_head import RegressionHead
from lifemask.networks.released import read_released
from lifemask.systems.direct_regression import DirectRegression
from lifemask.systems.face_losses import FACE_LOSS_WEIGHTS, FaceLosses
from lifemask.training.config import (
    MAIN,
    BankSource,
    Optimiser,
    Phase,
    Recipe,
    Schedule,
    SystemChoice,
)
from lifemask.training.system import FramedFaces, Losses, System
from lifemask.training.weights import present_name

CROP_SIZE = 192
"""Pixels on a side of the crops of the recipes below."""

_LOG_PERCENT = 4.605170185988092
"""Logarithm of 100: standard deviations of the likelihood are in percent of the frame's side."""

_OFFSET_SCALE = 50.0
"""Factor on the corrections of points where the head is corrected by them: they are about 0.02."""


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
                learning_rate=1e-3, learning_rate_factors={"backbone": 0.1, "head": 0.1}
            ),
        )
    }
    first_weights: ClassVar = ("systems/direct_regression",)

    def __init__(
        self,
        model: MorphableModel,
        backbone: FaceMeshBackbone,
        *,
        crop_size: int = CROP_SIZE,
        hidden: int = 512,
        from_points: int = 128,
    ) -> None:
        """Assemble the untrained system, which predicts the framed mean face.

        Args:
            model: the head, with 68, 478, 21 and 200 landmarks.
            backbone: the convolutions; it reads three channels.
            crop_size: pixels on a side of the crops.
            hidden: width of the head's hidden layer, as in the direct regressor.
            from_points: features that are read from the corrections of the points.

        Raises:
            ValueError: the model lacks landmarks.
        """
        super().__init__()
        if model.surface200 is None:
            raise ValueError("This head has no surface points. Use the default head.")
        self.crop_size = crop_size
        self.model = model
        self.face_losses = FaceLosses(model, crop_size=crop_size)
        self.backbone = backbone
        self.decoder = ParameterDecoder.for_model(model, crop_size=crop_size)
        self.head = RegressionHead(backbone.features, self.decoder.outputs, hidden=hidden)
        count = 478 + 200
        self.refiner = PointRefiner(
            count, fine_channels=32, coarse_channels=64, features=backbone.features
        )
        self.corrections = nn.Sequential(
            nn.Linear(2 * count, from_points),
            nn.PReLU(from_points),
            nn.Linear(from_points, self.decoder.outputs),
        )
        last = self.corrections[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    @classmethod
    def build(
        cls,
        *,
        crop_size: int = CROP_SIZE,
        input_size: int = 256,
        frozen_stages: int = 3,
        hidden: int = 512,
        pretrained: bool = True,
    ) -> "DenseLandmarks":
        """Assemble the untrained system on the default head.

        Args:
            crop_size: pixels on a side of the crops.
            input_size: pixels on a side to which the network resizes them.
            frozen_stages: first stages of FaceMesh's convolutions that keep their weights, 0 to 7.
            hidden: width of the head's hidden layer; 512 for the direct regressor's weights.
            pretrained: start from the direct regressor's weights; else from random ones, which a
                file replaces.
        """
        backbone = FaceMeshBackbone(input_size=input_size, frozen_stages=frozen_stages)
        system = cls(MorphableModel.from_pretrained(), backbone, crop_size=crop_size, hidden=hidden)
        if pretrained:
            given = read_released("direct_regression").tensors
            known = {present_name(DirectRegression, name): value for name, value in given.items()}
            kept = {k: v for k, v in system.state_dict().items() if k not in known}
            system.load_state_dict({**kept, **{k: v.float() for k, v in known.items()}})
        return system

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Explain faces in one pass; see `System.forward`."""
        batch = faces.photo.shape[:-3]
        found = self._explained(*self._refined(faces.photo.flatten(0, -4))[:3])
        return map_tensors(lambda t: t.unflatten(0, batch), found)

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch; without truth, only those of known landmarks."""
        flat = [
            map_tensors(lambda t, n=batch.photo.ndim - 3: t.flatten(0, n - 1), batch)
            for batch in batches
        ]
        raw, first, refined = self._refined(torch.cat([batch.photo for batch in flat]))
        face = self._explained(raw, first, refined)
        counts = [len(batch.photo) for batch in flat]
        starts = [sum(counts[:index]) for index in range(len(counts))]
        results: list[Losses] = []
        for batch, own, start in zip(batches, flat, starts, strict=True):
            rows = slice(start, start + len(own.photo))
            part = RefinedPoints(*(value[rows] for value in refined))
            found = {**self._point_losses(own, part), **self.face_losses(own, face[rows])}
            shape = batch.photo.shape[:-3]
            results.append({name: value.unflatten(0, shape) for name, value in found.items()})
        return results

    def _refined(
        self, photo: Float[Tensor, "N 3 S S"]
    ) -> tuple[Float[Tensor, "N R"], Float[Tensor, "N K 2"], RefinedPoints]:
        """Return the raw outputs of the regressor, the points of its head, and their refinement."""
        images = network_input(photo, self.backbone.input_size)
        fine, coarse, last = self.run_network(self.backbone.maps, images)
        raw = self.head(last)
        face = self.decoder(raw)
        side = float(self.crop_size)
        first = (
            face.camera.project(self.face_losses.points.dense(face.coefficients))[..., :2] / side
        )
        features = self.head.level(last.flatten(1))
        return raw, first, self.refiner(first, fine, coarse, features)

    def _explained(
        self, raw: Float[Tensor, "N R"], first: Float[Tensor, "N K 2"], refined: RefinedPoints
    ) -> ExplainedFace:
        # The points need not help the head: they keep to what the photo shows.
        offsets = (refined.points - first).detach() * _OFFSET_SCALE
        face = self.decoder(raw + self.corrections(offsets.flatten(1)))
        side = float(self.crop_size)
        landmarks = PredictedLandmarks(
            refined.points * side, refined.log_sigma.exp() * side, refined.visible_logit.sigmoid()
        )
        return replace(face, landmarks=landmarks)

    def _point_losses(self, batch: FaceBatch, refined: RefinedPoints) -> Losses:
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


def dense_landmarks() -> Recipe:
    """Dense landmarks and the face, learned from a bank of drawn and re-rendered faces."""
    return Recipe(
        name="dense_landmarks",
        description="Dense landmarks and the face, learned from a bank of faces.",
        system=SystemChoice("dense_landmarks", {"crop_size": CROP_SIZE}),
        sources={
            "bank": BankSource(
                1.0,
                folder="banks/stills",
                repeats=2,
                augmentation=Augmentation(
                    shift=0.05, scale=0.1, tint=0.1, gamma=0.2, grey=0.08, noise=0.02, cut=0.2
                ),
            )
        },
        phases=DenseLandmarks.phases,
        batch_size=32,
        schedule=Schedule(steps=40_000, warmup_steps=300),
        smoke=(
            "system.options.crop_size=64",
            "system.options.input_size=128",
            "system.options.hidden=32",
            "system.options.pretrained=false",
        ),
    )


RECIPES = (dense_landmarks,)
"""What `lifemask train` lists for this system, by the names of the functions."""
