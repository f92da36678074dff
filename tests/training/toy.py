"""A system that learns one colour, and faces that are one colour: training in milliseconds."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.data.batch import FaceBatch
from lifemask.data.mixture import Mixture, generator_for
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.systems.system import PANELS, System
from lifemask.training.config import Optimiser, Recipe, Schedule, SyntheticSource, SystemChoice
from lifemask.training.loop import TrainingParts

SIZE = 8


class ToySystem(System):
    """Guesses the mean colour as light, through a batch norm and dropout."""

    name: ClassVar[str] = "toy"
    loss_names: ClassVar[tuple[str, ...]] = ("colour", "size")

    def __init__(self, *, seed: int = 0, bad_from: float | None = None) -> None:
        super().__init__()
        self.crop_size = SIZE
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.trunk = nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(),
                nn.Linear(8 * 36, 27),
            )  # fmt: skip
            self.unused = nn.Linear(2, 2)
        self.bad_from = bad_from

    def forward(self, photo: Float[Tensor, "*batch 3 S S"]) -> ExplainedFace:
        light = self.trunk(photo.flatten(0, -4)).unflatten(-1, (9, 3))
        light = light.unflatten(0, photo.shape[:-3])
        batch = photo.shape[:-3]
        zeros = light.new_zeros
        return ExplainedFace(
            FaceCoefficients(
                zeros(*batch, 4), zeros(*batch, 52), zeros(*batch, 2, 2), zeros(*batch, 3)
            ),
            PerspectiveCamera(
                torch.ones_like(light[..., 0, 0]) * SIZE,
                zeros(*batch, 2) + SIZE / 2,
                torch.eye(4).expand(*batch, 4, 4),
                (SIZE, SIZE),
            ),
            SphericalHarmonicsLight(light),
        )

    def losses(
        self, batch: FaceBatch, estimate: ExplainedFace
    ) -> dict[str, Float[Tensor, "*batch"]]:
        colour = batch.photo.mean((-2, -1))
        guess = estimate.light.coefficients[..., 0, :]
        error = (guess - colour).square().mean(-1)
        if self.bad_from is not None and float(colour.max()) > self.bad_from:
            error = error / 0
        return {"colour": error, "size": estimate.light.coefficients.square().mean((-2, -1))}

    def draw(
        self, batch: FaceBatch, estimate: ExplainedFace
    ) -> Float[Tensor, "*batch panels 3 S S"]:
        return torch.stack([batch.photo] * len(PANELS), -4)


@dataclass(frozen=True)
class ToySource:
    """Plain colours with noise; brighter with every batch if asked for."""

    name: str = "toy"
    brighter: float = 0.0
    fails_at: int | None = None

    def batch(self, index: int, size: int) -> FaceBatch:
        if index == self.fails_at:
            raise OSError(f"batch {index} cannot be read")
        generator = generator_for(self.name, index)
        colour = torch.rand(size, 3, 1, 1, generator=generator)
        noise = torch.rand(size, 3, SIZE, SIZE, generator=generator)
        return plain_batch(0.5 * colour + 0.5 * noise + index * self.brighter)


def plain_batch(photo: Tensor) -> FaceBatch:
    """Return photos of which nothing is known."""
    batch = photo.shape[:-3]

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(*batch, *shape)

    return FaceBatch(
        photo=photo,
        landmarks68=zeros(68, 2),
        landmarks68_weight=zeros(68),
        landmarks478=zeros(478, 2),
        landmarks478_weight=zeros(478),
        aflw21=zeros(21, 2),
        aflw21_weight=zeros(21),
        skin=zeros(*photo.shape[-2:]),
        person=torch.full(batch, -1),
        truth=None,
    )


def toy_recipe(**changes: object) -> Recipe:
    """Return a recipe of twelve steps."""
    values = {
        "name": "toy",
        "description": "Learns a colour.",
        "system": SystemChoice("toy"),
        "sources": {"one": SyntheticSource(3), "two": SyntheticSource(1)},
        "weights": {"colour": 1.0, "size": 0.01},
        "batch_size": 8,
        "optimiser": Optimiser(learning_rate=1e-2, average=0.9),
        "schedule": Schedule(steps=12, warmup_steps=2),
        "validation_images": 4,
    } | changes
    return Recipe(**values)  # type: ignore[arg-type]


def toy_parts(system: ToySystem | None = None, **source: object) -> TrainingParts:
    """Return the toy with two sources of six and two images."""
    mixture = Mixture(
        {"one": ToySource("one", **source), "two": ToySource("two")},  # type: ignore[arg-type]
        {"one": 6, "two": 2},
    )
    held_out = Mixture(mixture.sources, {"one": 4, "two": 4})
    return TrainingParts(system or ToySystem(), mixture, held_out)
