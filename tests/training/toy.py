"""A system that learns one colour, and faces of one colour, for training in milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from tiny_head import ALBEDO, IDENTITY, TEXTURE, tiny_camera, tiny_head
from torch import Tensor, nn

from lifemask.data.batch import FaceBatch
from lifemask.data.mixture import Mixture, generator_for
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace, UVMap
from lifemask.training.config import (
    MAIN,
    GuardLimits,
    Optimiser,
    Phase,
    Recipe,
    Schedule,
    SyntheticSource,
    SystemChoice,
)
from lifemask.training.loop import TrainingParts
from lifemask.training.passes import predict_batches
from lifemask.training.system import FramedFaces, Losses, System

SIZE = 8


class ToySystem(System):
    """Predicts the mean colour as light, through a batch norm and dropout."""

    name: ClassVar[str] = "toy"
    phases: ClassVar = {
        MAIN: Phase(
            weights={"colour": 1.0, "size": 0.01},
            optimiser=Optimiser(learning_rate=1e-2, average=0.9),
        )
    }

    def __init__(
        self, *, seed: int = 0, bad_from: float | None = None, collapse: str | None = None
    ) -> None:
        """`collapse` names the part of its predictions that is wrong: light, albedo or displacement."""
        super().__init__()
        self.crop_size = SIZE
        self.model = tiny_head()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(),
                nn.Linear(8 * 36, 27),
            )  # fmt: skip
            self.unused = nn.Linear(2, 2)
        self.bad_from = bad_from
        self.collapse = collapse

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        batch = faces.photo.shape[:-3]
        light = self.run_network(self.network, faces.photo.flatten(0, -4)).unflatten(-1, (9, 3))
        light = light.unflatten(0, batch)
        zeros = light.new_zeros
        face = ExplainedFace(
            FaceCoefficients(
                zeros(*batch, IDENTITY), zeros(*batch, 52), zeros(*batch, 2, 2),
                zeros(*batch, ALBEDO),
            ),
            tiny_camera(SIZE, batch),
            SphericalHarmonicsLight(light),
        )  # fmt: skip
        return face if self.collapse is None else self.collapsed(face, batch)

    def collapsed(self, face: ExplainedFace, batch: torch.Size) -> ExplainedFace:
        lamp = SphericalHarmonicsLight.from_direction(0.7, 0.3).coefficients
        lit = replace(face, light=SphericalHarmonicsLight(lamp.expand(*batch, 9, 3)))
        covered = torch.ones(*batch, TEXTURE, TEXTURE)
        match self.collapse:
            case "light":
                ambient = SphericalHarmonicsLight.ambient().coefficients
                return replace(face, light=SphericalHarmonicsLight(ambient.expand(*batch, 9, 3)))
            case "albedo":
                white = torch.full((*batch, 3, TEXTURE, TEXTURE), 0.95)
                return replace(lit, albedo_map=UVMap(white, covered))
            case "displacement":
                deep = torch.full((*batch, 1, TEXTURE, TEXTURE), 0.00195)
                return replace(lit, displacement_map=UVMap(deep, covered))
            case _:
                return lit

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        lights = (
            [
                self.run_network(self.network, batch.photo.flatten(0, -4)).unflatten(-1, (9, 3))
                for batch in batches
            ]
            if self.collapse
            else [f.light.coefficients for f in predict_batches(self, batches)]
        )
        return [self.colour_losses(b, light) for b, light in zip(batches, lights, strict=True)]

    def colour_losses(self, batch: FaceBatch, light: Tensor) -> Losses:
        colour = batch.photo.mean((-2, -1))
        error = (light[..., 0, :] - colour).square().mean(-1)
        if self.bad_from is not None and float(colour.max()) > self.bad_from:
            error = error / 0
        return {"colour": error, "size": light.square().mean((-2, -1))}


@dataclass(frozen=True)
class ToySource:
    """Returns plain colours with noise; on request, every batch is brighter."""

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
    """Return photos without truth."""
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


def toy_phase(**changes: object) -> dict[str, Phase]:
    """Return the toy's one phase with changes."""
    return {MAIN: replace(ToySystem.phases[MAIN], **changes)}  # type: ignore[arg-type]


def toy_recipe(**changes: object) -> Recipe:
    """Return a recipe of twelve steps."""
    values = {
        "name": "toy",
        "description": "Learns a colour.",
        "system": SystemChoice("toy"),
        "sources": {"one": SyntheticSource(3), "two": SyntheticSource(1)},
        "phases": ToySystem.phases,
        "batch_size": 8,
        "schedule": Schedule(steps=12, warmup_steps=2),
        "validation_images": 4,
        "guards": GuardLimits(from_progress=2.0),
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


class TwoPhaseSystem(ToySystem):
    """The toy with a critic of its lights: a second phase, with an optimiser of its own."""

    name: ClassVar[str] = "toy_critic"
    phases: ClassVar = {
        "network": Phase(
            weights={"colour": 1.0, "realism": 0.01, "off": 0.0},
            learns=("network.", "unused."),
            optimiser=Optimiser(learning_rate=1e-2, average=0.9),
        ),
        "critic": Phase(
            weights={"true": 1.0, "predicted": 1.0},
            learns=("critic.",),
            optimiser=Optimiser(learning_rate=1e-3, average=0.0),
            start=0.25,
        ),
    }
    training_only: ClassVar = ("critic.",)

    def __init__(
        self, *, seed: int = 0, critic_fails: bool = False, released_critic: bool = False
    ) -> None:
        super().__init__(seed=seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.critic = nn.Linear(27, 1)
        self.critic_fails = critic_fails
        if released_critic:
            self.training_only = ()  # type: ignore[misc]

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        lights = [f.light.coefficients for f in predict_batches(self, batches)]
        found: list[Losses] = []
        for batch, light in zip(batches, lights, strict=True):
            if phase == "network":
                realism = -self.critic(light.flatten(-2)).squeeze(-1)
                # Weight 0: only this loss reaches `unused`.
                off = self.unused(light[..., 0, :2]).square().mean(-1)
                colour = self.colour_losses(batch, light)["colour"]
                found.append({"colour": colour, "realism": realism, "off": off})
            else:
                given = light.detach().flatten(-2)
                predicted = self.critic(given).squeeze(-1).square()
                if self.critic_fails:
                    predicted = predicted / 0
                found.append(
                    {
                        "true": self.critic(given * 0 + 1).squeeze(-1).square(),
                        "predicted": predicted,
                    }
                )
        return found


def two_phase_recipe(**changes: object) -> Recipe:
    """Return a recipe of twelve steps, in which the critic takes nine."""
    return toy_recipe(
        name="toy_critic",
        system=SystemChoice("toy_critic"),
        phases=TwoPhaseSystem.phases,
        **changes,
    )
