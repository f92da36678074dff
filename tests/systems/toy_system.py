"""A toy system that uses every part of the contract: feedback, a UV output, clips and a critic.

It predicts faces of a few pixels with a network of two layers. Its predictions are poor, but it shows
how to write a system, and the tests train, kill, resume, release and evaluate it.
"""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.data.batch import FaceBatch
from lifemask.losses.face_points import FacePoints
from lifemask.losses.landmarks import landmark_loss
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.networks.inputs import network_input
from lifemask.networks.parameters import ParameterDecoder
from lifemask.networks.regression_head import RegressionHead
from lifemask.rendering.heads import head_surface, render_head
from lifemask.training.config import (
    GuardLimits,
    Optimiser,
    Phase,
    Recipe,
    Schedule,
    SyntheticClipSource,
    SyntheticSource,
    SystemChoice,
)
from lifemask.training.passes import predict_batches
from lifemask.training.system import FramedFaces, Losses, System

TEXTURE_SIZE = 16
"""Texels on a side of the predicted albedo."""


@final
class ToySystem(System):
    """Predicts one identity and its UV albedo for frames of a person; the second pass gets feedback."""

    name: ClassVar[str] = "toy"
    phases: ClassVar = {
        # The network learns from the truth, and from what the critic says of its identities.
        "network": Phase(
            weights={"landmarks": 1.0, "albedo": 1.0, "realism": 0.01},
            learns=("network.", "head.", "texture."),
            optimiser=Optimiser(learning_rate=1e-2),
        ),
        # The critic learns to tell true identities from predicted ones, after a quarter of the run.
        "critic": Phase(
            weights={"true": 1.0, "predicted": 1.0},
            learns=("critic.",),
            optimiser=Optimiser(learning_rate=1e-3),
            start=0.25,
        ),
    }
    training_only: ClassVar = ("critic.",)
    uses_landmarks: ClassVar[bool] = True
    uses_frames: ClassVar[bool] = True

    def __init__(self, model: MorphableModel, *, crop_size: int, width: int) -> None:
        super().__init__()
        self.model = model
        self.crop_size = crop_size
        self.passes = 2
        self.points = FacePoints(model)
        self.decoder = ParameterDecoder.for_model(model, crop_size=crop_size)
        # Photo, a map of the landmarks, and the normals of the pass before.
        self.network = nn.Sequential(nn.Conv2d(7, width, 4, stride=4), nn.ReLU(), nn.Flatten())
        features = width * (crop_size // 4) ** 2
        self.head = RegressionHead(features, self.decoder.outputs, hidden=width)
        self.texture = nn.Linear(features, 3 * TEXTURE_SIZE**2)
        self.critic = nn.Linear(len(model.identity_basis), 1)

    @classmethod
    def build(cls, *, crop_size: int = 32, width: int = 8) -> "ToySystem":
        """Assemble the untrained system on the default head."""
        model = MorphableModel.from_pretrained()
        return cls(model, crop_size=crop_size, width=width)

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Predict faces of clips, (clips, frames, 3, S, S); all frames of a clip have one identity."""
        clips, frames = faces.photo.shape[:2]
        images = network_input(
            faces.photo.flatten(0, 1), self.crop_size, beside=self.channels_beside(faces)
        )
        features = self.run_network(self.network, images)
        prediction = self.decoder(self.head(features).unflatten(0, (clips, frames)))
        shared = prediction.coefficients.identity.mean(1, keepdim=True).expand(-1, frames, -1)
        texture = torch.sigmoid(self.texture(features).unflatten(-1, (3, TEXTURE_SIZE, -1)))
        texture = texture.unflatten(0, (clips, frames))
        coefficients = type(prediction.coefficients)(
            shared,
            prediction.coefficients.expression,
            prediction.coefficients.gaze,
            prediction.coefficients.albedo,
        )
        return ExplainedFace(
            coefficients,
            prediction.camera,
            prediction.light,
            albedo_map=UVMap(texture, torch.ones_like(texture[..., 0, :, :])),
        )

    def channels_beside(self, faces: FramedFaces) -> Float[Tensor, "images 4 S S"]:
        """Return a map of the landmarks and the normals of the previous prediction."""
        size, images = self.crop_size, faces.photo.flatten(0, 1)
        landmarks = images.new_zeros(len(images), 1, size * size)
        if faces.landmarks is not None and faces.landmark_weight is not None:
            x, y = faces.landmarks.flatten(0, 1).long().clamp(0, size - 1).unbind(-1)
            landmarks.scatter_(
                2, (y * size + x)[:, None], faces.landmark_weight.flatten(0, 1)[:, None]
            )
        normals = torch.zeros_like(images)
        if faces.previous is not None:
            surface = head_surface(self.model, faces.previous)
            drawn = render_head(surface, faces.previous.camera, faces.previous.light)
            normals = drawn.fine.normals.flatten(0, 1).detach()
        return torch.cat([landmarks.unflatten(2, (size, size)), normals], 1)

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of one phase for each batch."""
        predictions = predict_batches(self, batches)
        of_phase = self.network_losses if phase == "network" else self.critic_losses
        return [of_phase(b, p) for b, p in zip(batches, predictions, strict=True)]

    def network_losses(self, batch: FaceBatch, face: ExplainedFace) -> Losses:
        """Return the losses that change the predictor."""
        _, points, _, _ = self.points(face.coefficients)
        assert batch.truth is not None
        assert batch.truth.face.albedo_map is not None
        assert face.albedo_map is not None
        true = batch.truth.face.albedo_map.values
        small = F.interpolate(true.flatten(0, -4), (TEXTURE_SIZE, TEXTURE_SIZE), mode="area")
        predicted = face.albedo_map.values.flatten(0, -4)
        return {
            "landmarks": landmark_loss(
                face.camera.project(points)[..., :2],
                batch.landmarks478,
                batch.landmarks478_weight * self.points.weight478,
                frame_side=float(self.crop_size),
            ),
            "albedo": (predicted - small).abs().mean((-3, -2, -1)),
            "realism": F.softplus(-self.critic(face.coefficients.identity)).squeeze(-1),
        }

    def critic_losses(self, batch: FaceBatch, face: ExplainedFace) -> Losses:
        """Return the losses that change the critic."""
        assert batch.truth is not None
        true = self.critic(batch.truth.face.coefficients.identity).squeeze(-1)
        predicted = self.critic(face.coefficients.identity.detach()).squeeze(-1)
        return {"true": F.softplus(-true), "predicted": F.softplus(predicted)}


def toy() -> Recipe:
    """Return a recipe of eight steps on drawn clips and stills."""
    small = {"samples": 1, "texture_size": 64}
    return Recipe(
        name="toy",
        description="A toy system: feedback, a UV output, clips and a critic.",
        system=SystemChoice("toy"),
        sources={
            "clips": SyntheticClipSource(1.0, frames=2, options=small),
            "stills": SyntheticSource(1.0, options=small),
        },
        phases=ToySystem.phases,
        batch_size=4,
        schedule=Schedule(steps=8, warmup_steps=1),
        guards=GuardLimits(from_progress=2.0),
        validation_images=2,
    )


RECIPES = (toy,)
