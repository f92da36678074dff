"""The best of the systems in one: dense landmarks, and the face that explains them best.

`dense_landmarks` predicts 678 points with uncertainty and a first face. Its points carry over to photos that
look different from the drawn ones it has learned from; its coefficients hardly do. So the face comes from
the points, by a solver whose idea of the network's errors is learned (`FaceSolver`): how much each point
and each predicted coefficient counts, and which errors the points have in common. The network learns
through the steps of the solver: its points err less where that matters for the face.

Losses: those of `dense_landmarks` for the points and for the solved face, and the face without
expression (`neutral`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.data.batch import FaceBatch, PhotoFeatures
from lifemask.fitting.prediction import IRISES
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.losses.vertices import vertex_loss
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.networks.face_solver import FaceSolver
from lifemask.networks.point_refiner import RefinedPoints
from lifemask.networks.released import read_released
from lifemask.systems.bank_recipe import BANKS, SMOKE
from lifemask.systems.dense_landmarks import CROP_SIZE, DenseLandmarks, SeenFace
from lifemask.systems.face_losses import FACE_LOSS_WEIGHTS, FaceLosses
from lifemask.training.config import MAIN, Optimiser, Phase, Recipe, Schedule, SystemChoice
from lifemask.training.flat_batches import batch_rows, flat_batches, with_axes_of
from lifemask.training.system import FramedFaces, Losses, System
from lifemask.training.weights import load_weights


@final
class Flagship(System):
    """Photo to points with uncertainty, and to the face that explains them."""

    name: ClassVar[str] = "flagship"
    phases: ClassVar = {
        MAIN: Phase(
            weights={
                "points": 0.2,
                "visible": 0.1,
                **FACE_LOSS_WEIGHTS,
                "neutral": 10.0,
                "identity": 0.5,
            },
            optimiser=Optimiser(
                learning_rate=0.01,
                learning_rate_factors={
                    "network": 0.03,
                    "solver.head_errors": 0.0015,
                    "solver.image_errors": 0.005,
                },
                betas=(0.9, 0.98),
                weight_decay=0.0,
                gradient_clip=5.0,
            ),
        )
    }
    first_weights: ClassVar = ("systems/dense_landmarks",)
    solves: ClassVar[bool] = True

    def __init__(self, dense: DenseLandmarks, *, crop_size: int) -> None:
        """Put an untrained solver behind a network.

        Args:
            dense: the network.
            crop_size: pixels on a side of the crops.
        """
        super().__init__()
        self.crop_size = crop_size
        self.model = dense.model
        self.network = dense
        self.face_losses = FaceLosses(dense.model, crop_size=crop_size)
        points = self.face_losses.points
        counts = torch.ones(len(points.mean[points.dense_rows]))
        counts[IRISES] = 0
        self.solver = FaceSolver(
            points.mean[points.dense_rows],
            points.basis[:, points.dense_rows],
            counts,
            identity_modes=len(dense.model.identity_basis),
        )

    @classmethod
    def build(
        cls, *, crop_size: int = CROP_SIZE, input_size: int = 256, pretrained: bool = True
    ) -> "Flagship":
        """Assemble the system with an untrained solver.

        Args:
            crop_size: pixels on a side of the crops.
            input_size: pixels on a side to which the network resizes them, a multiple of 64.
            pretrained: start from the released `dense_landmarks`, which needs 256 pixels; else from
                random weights, which a file replaces.
        """
        dense = DenseLandmarks.build(crop_size=crop_size, input_size=input_size, pretrained=False)
        if pretrained:
            load_weights(dense, read_released(DenseLandmarks.name))
        return cls(dense, crop_size=crop_size)

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Explain faces in one pass; see `System.forward`."""
        batch = faces.photo.shape[:-3]
        self.network.precision = self.precision
        face, _ = self._explained(self.network.seen(faces.photo.flatten(0, -4)))
        return map_tensors(lambda t: t.unflatten(0, batch), face)

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch; without truth, only those of known landmarks."""
        self.network.precision = self.precision
        flat = flat_batches(batches)
        features = [batch.features or self.frozen_features(batch.photo) for batch in flat]
        face, refined = self._explained(self.network.seen_in_features(joined(features)))
        found: list[Losses] = []
        for batch, rows in zip(flat, batch_rows(flat), strict=True):
            part = face[rows]
            points = RefinedPoints(*(value[rows] for value in refined))
            losses = {**self.network.point_losses(batch, points), **self.face_losses(batch, part)}
            if batch.truth is not None:
                wanted = self._neutral(batch.truth.face.coefficients)
                losses["neutral"] = vertex_loss(self._neutral(part.coefficients), wanted)
            found.append(losses)
        return with_axes_of(batches, found)

    def frozen_features(self, photo: Float[Tensor, "batch 3 S S"]) -> PhotoFeatures:
        """Return what the network's frozen convolutions see in crops."""
        self.network.precision = self.precision
        return self.network.frozen_features(photo)

    def use_onnx_runtime(self, weights: Sequence[str]) -> None:
        """See `System.use_onnx_runtime`; the solver stays in torch."""
        self.network.use_onnx_runtime([*weights, *DenseLandmarks.first_weights])

    def _explained(self, seen: SeenFace) -> tuple[ExplainedFace, RefinedPoints]:
        first, refined = self.network.explained(seen)
        assert first.landmarks is not None
        return self.solver(first, first.landmarks.points, first.landmarks.sigma), refined

    def _neutral(self, face: FaceCoefficients) -> Float[Tensor, "batch S 3"]:
        plain = replace(face, expression=torch.zeros_like(face.expression))
        return self.face_losses.points(plain)[-1]


def flagship() -> Recipe:
    """Points and solver, learned together from the banks of `dense_landmarks`."""
    return Recipe(
        name="flagship",
        description="Dense landmarks, and a solver for the face, learned together.",
        system=SystemChoice("flagship", {"crop_size": CROP_SIZE}),
        sources=BANKS,
        phases=Flagship.phases,
        batch_size=48,
        schedule=Schedule(steps=4_000, warmup_steps=20),
        smoke=SMOKE,
    )


RECIPES = (flagship,)
"""What `lifemask train` lists for this system, by the names of the functions."""
