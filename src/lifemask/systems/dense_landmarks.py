"""Dense landmarks with uncertainty, and the face that they belong to, in one pass.

As in Wood et al., "3D face reconstruction with dense landmarks" (ECCV 2022), a network that has seen
only faces with exact truth predicts many points of the head, hidden ones too, each with a standard
deviation. Differences: points correct themselves from the features around them; visibility and the
coefficients, pose and light of the face are predicted too; the convolutions start from FaceMesh-V2.

Losses: the likelihood of the points, the distance of their first estimate, and visibility; for the
face those of `lifemask.systems.face_losses`.
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
from lifemask.geometry.viewpoints import camera_of
from lifemask.losses.landmarks import landmark_loss
from lifemask.losses.likelihood import point_likelihood_loss
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks
from lifemask.morphable.model import MorphableModel
from lifemask.networks.inputs import network_input
from lifemask.networks.landmark_network import INPUT_SIZE, LandmarkNetwork, LandmarkOutput
from lifemask.networks.parameters import ParameterDecoder, framed_mean_face
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

CROP_SIZE = 192
"""Pixels on a side of the crops of the recipes below."""

_PERCENT = 4.605170185988092
"""Logarithm of 100: standard deviations of the likelihood are in percent of the frame's side."""

_POINT_SCALE = 10.0
"""Factor on the corrected points where the face is read from them."""


@final
class DenseLandmarks(System):
    """Photo to 678 points with their uncertainty, coefficients, camera and light."""

    name: ClassVar[str] = "dense_landmarks"
    phases: ClassVar = {
        MAIN: Phase(
            weights={
                "points": 0.2,
                "first_points": 5.0,
                "visible": 0.1,
                **{name: weight / 2 for name, weight in FACE_LOSS_WEIGHTS.items()},
            },
            optimiser=Optimiser(
                learning_rate=1e-3,
                learning_rate_factors={
                    "network.st": 0.3,  # stem and stages
                    "network.frontal": 0.3,
                    "network.profile": 0.3,
                },
            ),
        )
    }
    first_weights: ClassVar = ("perception/face_mesh", "perception/face_mesh_profile")

    def __init__(
        self,
        model: MorphableModel,
        network: LandmarkNetwork,
        *,
        crop_size: int = CROP_SIZE,
        hidden: int = 384,
        from_points: int = 128,
    ) -> None:
        """Assemble the untrained system, which predicts the framed mean face.

        Args:
            model: the head, with 68, 478, 21 and 200 landmarks.
            network: predicts the 478 dense and the 200 surface points.
            crop_size: pixels on a side of the crops.
            hidden: features of the whole face that `network` summarises it in.
            from_points: features that are read from the positions of the points.
        """
        super().__init__()
        self.crop_size = crop_size
        self.model = model
        self.face_losses = FaceLosses(model, crop_size=crop_size)
        self.network = network
        self.decoder = ParameterDecoder.for_model(model, crop_size=crop_size)
        self.point_features = nn.Sequential(
            nn.Linear(2 * len(network.layout), from_points), nn.PReLU(from_points)
        )
        self.head = nn.Linear(hidden + from_points, self.decoder.outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def build(
        cls,
        *,
        crop_size: int = CROP_SIZE,
        hidden: int = 384,
        frozen_stages: int = 2,
        pretrained: bool = True,
    ) -> "DenseLandmarks":
        """Assemble the untrained system on the default head.

        Args:
            crop_size: pixels on a side of the crops.
            hidden: features of the whole face.
            frozen_stages: first stages of FaceMesh's convolutions that keep their weights, 0 to 2.
            pretrained: start from FaceMesh's weights; else from random ones, which a file replaces.
        """
        model = MorphableModel.from_pretrained()
        network = LandmarkNetwork(point_layout(model), hidden=hidden, frozen_stages=frozen_stages)
        if pretrained:
            network.start_from_face_mesh()
        return cls(model, network, crop_size=crop_size, hidden=hidden)

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Explain faces in one pass; see `System.forward`."""
        batch = faces.photo.shape[:-3]
        found = self._explained(self._points(faces.photo.flatten(0, -4)))
        return map_tensors(lambda t: t.unflatten(0, batch), found)

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch; without truth, only those of known landmarks."""
        flat = [
            map_tensors(lambda t, n=batch.photo.ndim - 3: t.flatten(0, n - 1), batch)
            for batch in batches
        ]
        output = self._points(torch.cat([batch.photo for batch in flat]))
        face = self._explained(output)
        counts = [len(batch.photo) for batch in flat]
        starts = [sum(counts[:index]) for index in range(len(counts))]
        results: list[Losses] = []
        for batch, own, start in zip(batches, flat, starts, strict=True):
            rows = slice(start, start + len(own.photo))
            part = LandmarkOutput(*(value[rows] for value in output))
            found = {**self._point_losses(own, part), **self.face_losses(own, face[rows])}
            shape = batch.photo.shape[:-3]
            results.append({name: value.unflatten(0, shape) for name, value in found.items()})
        return results

    def _points(self, photo: Float[Tensor, "N 3 S S"]) -> LandmarkOutput:
        return self.run_network(self.network, network_input(photo, INPUT_SIZE))

    def _explained(self, output: LandmarkOutput) -> ExplainedFace:
        # The points need not help the face: they keep to what the photo shows.
        offsets = (output.points - self.network.layout).detach() * _POINT_SCALE
        told = torch.cat([output.summary, self.point_features(offsets.flatten(1))], -1)
        face = self.decoder(self.head(told))
        side = float(self.crop_size)
        landmarks = PredictedLandmarks(
            output.points * side, output.log_sigma.exp() * side, output.visible_logit.sigmoid()
        )
        return replace(face, landmarks=landmarks)

    def _point_losses(self, batch: FaceBatch, output: LandmarkOutput) -> Losses:
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
                output.visible_logit, visible, reduction="none"
            ).mean(-1)
        side = float(self.crop_size)
        return {
            "points": point_likelihood_loss(
                output.points * 100, output.log_sigma + _PERCENT, points * (100 / side), weight
            ),
            "first_points": landmark_loss(output.first * side, points, weight, frame_side=side),
            "visible": visible_loss,
        }


def point_layout(model: MorphableModel) -> Float[Tensor, "678 2"]:
    """Return where a frame shows the 478 dense and 200 surface points of the mean face.

    Units are the frame's side.

    Raises:
        ValueError: the model lacks these points.
    """
    if model.dense478 is None or model.surface200 is None:
        raise ValueError("This head has no dense and surface points. Use the default head.")
    points = torch.cat(
        [e.points(model.mean, model.triangles) for e in (model.dense478, model.surface200)]
    )
    middle = points.new_full((2,), CROP_SIZE / 2)
    camera = camera_of(framed_mean_face(model, CROP_SIZE), middle, (CROP_SIZE, CROP_SIZE))
    return camera.project(points)[:, :2] / CROP_SIZE


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
    )


RECIPES = (dense_landmarks,)
"""What `lifemask train` lists for this system, by the names of the functions."""
