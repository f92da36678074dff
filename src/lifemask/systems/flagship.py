"""The best of the systems in one: dense landmarks, and the face that explains them best.

`dense_landmarks` predicts 678 points with uncertainty and a first face. Its points carry over to photos that
look different from the drawn ones it has learned from; its coefficients hardly do. So the face comes from
the points, by a solver whose idea of the network's errors is learned (`FaceSolver`): how much each point
and each predicted coefficient counts, and which errors the points have in common. Only the solver learns;
gaze, skin and light are those of `dense_landmarks`.

Losses: those of `lifemask.systems.face_losses`, and the face without expression (`neutral`).
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
from lifemask.networks.frozen import Frozen
from lifemask.networks.released import read_released
from lifemask.systems.bank_recipe import BANKS
from lifemask.systems.dense_landmarks import CROP_SIZE, DenseLandmarks
from lifemask.systems.face_losses import FACE_LOSS_WEIGHTS, FaceLosses
from lifemask.training.config import MAIN, Optimiser, Phase, Recipe, Schedule, SystemChoice
from lifemask.training.flat_batches import batch_rows, flat_batches, with_axes_of
from lifemask.training.system import FramedFaces, Losses, System
from lifemask.training.weights import load_weights

RELEASED_SIZE = 256
"""Pixels of the images that the released layers of `dense_landmarks` see."""


@final
class Flagship(System):
    """Photo to points with uncertainty, and to the face that explains them."""

    name: ClassVar[str] = "flagship"
    phases: ClassVar = {
        MAIN: Phase(
            weights={
                **FACE_LOSS_WEIGHTS,
                "neutral": 10.0,
                "identity": 0.5,
                # The solver does not change them.
                **dict.fromkeys(("gaze", "albedo", "light", "prior"), 0.0),
            },
            optimiser=Optimiser(
                learning_rate=0.02,
                learning_rate_factors={
                    "solver.head_errors": 0.0015,
                    "solver.image_errors": 0.005,
                },
                betas=(0.9, 0.98),
                weight_decay=0.0,
                gradient_clip=5.0,
                average=0.98,
            ),
        )
    }
    first_weights: ClassVar = ("systems/dense_landmarks",)
    solves: ClassVar[bool] = True

    def __init__(self, dense: DenseLandmarks, *, crop_size: int) -> None:
        """Put an untrained solver behind a network.

        Args:
            dense: the network; it never learns here.
            crop_size: pixels on a side of the crops.
        """
        super().__init__()
        self.crop_size = crop_size
        self.model = dense.model
        self.dense = Frozen(dense)
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
    def build(cls, *, crop_size: int = CROP_SIZE, input_size: int = RELEASED_SIZE) -> "Flagship":
        """Assemble the untrained system on the released weights of `dense_landmarks`.

        Args:
            crop_size: pixels on a side of the crops.
            input_size: pixels on a side of the images of the network. The released weights see 256; any
                other size gives a network with random weights, for trials.
        """
        dense = DenseLandmarks.build(crop_size=crop_size, input_size=input_size, pretrained=False)
        if input_size == RELEASED_SIZE:
            load_weights(dense, read_released(DenseLandmarks.name))
        return cls(dense, crop_size=crop_size)

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Explain faces in one pass; see `System.forward`."""
        batch = faces.photo.shape[:-3]
        face = self._explained(self.network.frozen_features(faces.photo.flatten(0, -4)))
        return map_tensors(lambda t: t.unflatten(0, batch), face)

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch; without truth, only those of known landmarks."""
        flat = flat_batches(batches)
        face = self._explained(
            joined([batch.features or self.network.frozen_features(batch.photo) for batch in flat])
        )
        found: list[Losses] = []
        for batch, rows in zip(flat, batch_rows(flat), strict=True):
            part = face[rows]
            losses = dict(self.face_losses(batch, part))
            if batch.truth is not None:
                wanted = self._neutral(batch.truth.face.coefficients)
                losses["neutral"] = vertex_loss(self._neutral(part.coefficients), wanted)
            found.append(losses)
        return with_axes_of(batches, found)

    @property
    def network(self) -> DenseLandmarks:
        """The network before the solver."""
        assert isinstance(self.dense.inner, DenseLandmarks)
        return self.dense.inner

    def frozen_features(self, photo: Float[Tensor, "batch 3 S S"]) -> PhotoFeatures:
        """Return what the network's frozen convolutions see in crops."""
        return self.network.frozen_features(photo)

    def frozen_parameters(self) -> list[torch.nn.Parameter]:
        """Return the weights of these convolutions."""
        return list(self.network.backbone.parameters())

    def _explained(self, seen: PhotoFeatures) -> ExplainedFace:
        self.network.precision = self.precision
        with torch.no_grad():
            first = self.network.explained(seen)
        assert first.landmarks is not None
        return self.solver(first, first.landmarks.points, first.landmarks.sigma)

    def _neutral(self, face: FaceCoefficients) -> Float[Tensor, "batch S 3"]:
        plain = replace(face, expression=torch.zeros_like(face.expression))
        return self.face_losses.points(plain)[-1]


def flagship() -> Recipe:
    """The solver, learned from the banks of `dense_landmarks`."""
    return Recipe(
        name="flagship",
        description="Dense landmarks, and a solver for the face that has learned how they err.",
        system=SystemChoice("flagship", {"crop_size": CROP_SIZE}),
        sources=BANKS,
        phases=Flagship.phases,
        batch_size=48,
        schedule=Schedule(steps=4_000, warmup_steps=20),
        smoke=("system.options.crop_size=64", "system.options.input_size=128"),
    )


RECIPES = (flagship,)
"""What `lifemask train` lists for this system, by the names of the functions."""
