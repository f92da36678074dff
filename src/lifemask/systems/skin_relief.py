"""The second stage for skin: fine normals of a fitted head from its photo, and the relief in UV.

A network in image space compares photo and smooth head (`lifemask.networks.relief_network`); it has
learned from drawn faces with exact normals. As in FineNet of Richardson et al., "Learning detailed face
reconstruction from a single image" (CVPR 2017), it refines the rendered coarse face; differences: it
predicts normals instead of depth, from drawn faces with supervision, and the result becomes a
displacement on the head instead of a depth map.

It does not find faces: `forward` needs the face of another system or of a fit.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch
from lifemask.geometry.tensors import map_tensors
from lifemask.losses.relief import fine_normal_distance, log_albedo_distance, normal_distance
from lifemask.morphable.explained_face import ExplainedFace, ImageNormals, UVMap
from lifemask.morphable.model import MorphableModel
from lifemask.networks.relief_network import ReliefNetwork, log_luminance
from lifemask.systems.relief_patches import each_face, relief_patches
from lifemask.systems.smooth_heads import blurred, blurred_normals, drawn_regions
from lifemask.texture.atlas import head_atlas
from lifemask.texture.relief import RELIEF_SIZE, relief_map, with_deeper_grooves
from lifemask.training.config import (
    MAIN,
    BankSource,
    Optimiser,
    Phase,
    Recipe,
    Schedule,
    SystemChoice,
)
from lifemask.training.flat_batches import flat_batches, with_axes_of
from lifemask.training.system import FramedFaces, Losses, System

CROP_SIZE = 384
"""Pixels on a side of the crops of the recipe: about two pixels for each millimetre of the face."""

WINDOWS = 3
"""Windows of each face in a step."""

_HAIRS_DARKER = (0.4, 0.8)
"""Skin is darker than the person's tone by less than the first log albedo, hairs by more than the second."""
_HAIRS_PIXELS = 2.0

_GAIN = 1.4
"""Factor on the predicted change. A network that is unsure predicts less than there is: on held-out drawn
faces 1.15 has the least error, 2.7 the true amplitude."""

_DEEPER = 1.0
"""Share of its depth by which the displacement makes a groove deeper. The normals keep the least error."""

_BLUR = 3.0
"""Standard deviation of the blur of the smooth head's normals in pixels: its own finest ones are those
of its triangles, not of the person."""


@final
class SkinRelief(System):
    """Photo and smooth head to the relief of the skin."""

    name: ClassVar[str] = "skin_relief"
    phases: ClassVar = {
        MAIN: Phase(
            weights={"normals": 1.0, "fine_normals": 6.0, "log_albedo": 0.3},
            optimiser=Optimiser(
                learning_rate=2e-3,
                betas=(0.9, 0.99),
                weight_decay=1e-3,
                gradient_clip=1.0,
                average=0.995,
            ),
        )
    }
    refines: ClassVar[bool] = True

    def __init__(self, model: MorphableModel, *, crop_size: int, width: int) -> None:
        """Assemble the untrained system, which predicts no relief.

        Args:
            model: the head.
            crop_size: pixels on a side of the crops.
            width: channels of the network at the full resolution.
        """
        super().__init__()
        self.crop_size = crop_size
        self.model = model
        self.relief = ReliefNetwork(width)

    @classmethod
    def build(cls, *, crop_size: int = CROP_SIZE, width: int = 16) -> "SkinRelief":
        """Assemble the untrained system on the default head.

        Args:
            crop_size: pixels on a side of the crops, a multiple of 16.
            width: channels of the network at the full resolution.
        """
        return cls(MorphableModel.from_pretrained(), crop_size=crop_size, width=width)

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch; each is the mean over windows of the face."""
        found: list[Losses] = []
        for batch in flat_batches(batches):
            patches = relief_patches(batch, self.model, WINDOWS)
            normals, log_albedo = self.run_network(
                self.relief, patches.log_photo, patches.smooth, patches.light_skin
            )
            skin = patches.skin
            losses = {
                "normals": normal_distance(normals, patches.normals, skin),
                "fine_normals": fine_normal_distance(normals, patches.normals, skin),
                "log_albedo": log_albedo_distance(log_albedo, patches.log_albedo, skin),
            }
            found.append({name: each_face(value, WINDOWS) for name, value in losses.items()})
        return with_axes_of(batches, found)

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Return the faces with the relief of their skin; see `System.forward`.

        Args:
            faces: with `previous` and `skin`.

        Raises:
            ValueError: one of them is missing.
        """
        if faces.previous is None or faces.skin is None:
            raise ValueError("skin_relief refines faces: give it the face of another system.")
        batch = faces.photo.shape[:-3]
        given = map_tensors(lambda t: t.flatten(0, len(batch) - 1), faces)
        assert given.previous is not None
        assert given.skin is not None
        face = given.previous
        vertices = self.model.vertices(face.coefficients)
        drawn = drawn_regions(self.model, vertices, face.camera)
        fine, log_albedo = self.explained_skin(given.photo, given.skin, drawn)
        bare = given.skin * bare_share(log_albedo, given.skin)
        maps = [
            relief_map(fine[k], bare[k], face[k].camera, vertices[k], self.model)
            for k in range(len(fine))
        ]
        scale = head_atlas(self.model, RELIEF_SIZE).texels_per_millimetre
        heights = [with_deeper_grooves(found.values[0], _DEEPER, scale) for found in maps]
        relief = UVMap(
            torch.stack(heights)[:, None],
            torch.stack([found.coverage for found in maps]),
        )
        share = bare[:, None] * (1 - drawn[:, 5:]).clamp(0, 1)
        blended = F.normalize(torch.lerp(drawn[:, :3], fine, share), dim=1, eps=1e-6)
        count, side = len(fine), float(fine.shape[-1])
        normals = ImageNormals(
            blended * (share > 0.01), fine.new_zeros(count, 2), fine.new_full((count,), side)
        )
        found = replace(face, displacement_map=relief, normals=normals)
        return map_tensors(lambda t: t.unflatten(0, batch), found)

    def explained_skin(
        self,
        photo: Float[Tensor, "B 3 S S"],
        skin: Float[Tensor, "B S S"],
        drawn: Float[Tensor, "B 6 S S"],
    ) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B 1 S S"]]:
        """Return the fine normals of faces in light axes, 0 beside the head, and the log albedo.

        They are the means of what the network sees in the crops and in their mirror images.

        Args:
            photo: crops, linear RGB; their side is a multiple of 16.
            skin: how far each pixel shows bare skin, 0 to 1.
            drawn: the smooth heads, from `drawn_regions`.
        """
        smooth = blurred_normals(drawn[:, :3], _BLUR)
        known = ((skin[:, None] > 0.6) & (drawn[:, 3:4] > 0.5) & (drawn[:, 4:5] < 0.1)).to(photo)
        log_photo = log_luminance(photo)
        mirror = photo.new_tensor([-1.0, 1.0, 1.0])[:, None, None]
        straight, albedo = self.run_network(self.relief, log_photo, smooth, known)
        flipped, other_albedo = self.run_network(
            self.relief, log_photo.flip(-1), smooth.flip(-1) * mirror, known.flip(-1)
        )
        fine = F.normalize(straight + flipped.flip(-1) * mirror, dim=1, eps=1e-6)
        fine = F.normalize(smooth + _GAIN * (fine - smooth), dim=1, eps=1e-6)
        return fine, (albedo + other_albedo.flip(-1)) / 2


def bare_share(
    log_albedo: Float[Tensor, "B 1 S S"], skin: Float[Tensor, "B S S"]
) -> Float[Tensor, "B S S"]:
    """Return how far each pixel is skin without hairs: beards and brows are much darker than skin.

    Args:
        log_albedo: up to a constant.
        skin: how far each pixel shows skin or hairs on it, 0 to 1.
    """
    shares: list[Tensor] = []
    for image, known in zip(log_albedo[:, 0], skin > 0.5, strict=True):
        tone = image[known].median() if bool(known.any()) else image.new_zeros(())
        dark = blurred(image[None, None], _HAIRS_PIXELS)[0, 0] - tone
        low, high = _HAIRS_DARKER
        shares.append(((dark + high) / (high - low)).clamp(0, 1))
    return torch.stack(shares)


def skin_relief() -> Recipe:
    """The relief of skin, learned from drawn faces that are seen from near."""
    return Recipe(
        name="skin_relief",
        description="Fine normals of skin beside a smooth head, learned from drawn faces.",
        system=SystemChoice("skin_relief", {"crop_size": CROP_SIZE}),
        sources={"near": BankSource(1.0, folder="banks/near", augmentation=Augmentation.none())},
        phases=SkinRelief.phases,
        batch_size=8,
        schedule=Schedule(steps=6_000, warmup_steps=50),
        smoke=("system.options.crop_size=64", "system.options.width=4"),
    )


RECIPES = (skin_relief,)
"""What `lifemask train` lists for this system, by the names of the functions."""
