"""A toy system that builds on another one, frozen: the smallest second stage."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, final

import torch
from training.toy import ToySystem

from lifemask.data.batch import FaceBatch
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.networks.frozen import Frozen
from lifemask.training.passes import predict_batches
from lifemask.training.system import FramedFaces, Losses

FIRST_SEED = 5
"""Decides the weights of the first stage."""


@final
class TwoStages(ToySystem):
    """Predicts the difference from what the first stage predicts."""

    name: ClassVar[str] = "two_stages"

    def __init__(self) -> None:
        super().__init__()
        self.before = Frozen(ToySystem(seed=FIRST_SEED))

    @classmethod
    def build(cls) -> "TwoStages":
        """Assemble the untrained second stage on its first."""
        return cls()

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Explain faces in one pass."""
        first, own = self.before(faces), super().forward(faces)
        light = first.light.coefficients + own.light.coefficients
        return replace(own, light=SphericalHarmonicsLight(light))

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch."""
        lights = [face.light.coefficients for face in predict_batches(self, batches)]
        assert all(bool(torch.isfinite(light).all()) for light in lights)
        return [self.colour_losses(b, light) for b, light in zip(batches, lights, strict=True)]


RECIPES = ()
