"""Coarse to fine: a network sees a drawing of its own estimate beside the photo and corrects it.

Richardson, Sela, Or-El and Kimmel, "Learning detailed face reconstruction from a single image" (CVPR
2017). This file holds its first stage, CoarseNet.

As published: each pass gets the photo and the drawing of the estimate before it (projected normalised
coordinate code, normals). All passes use the same weights. The first estimate is the mean face. In
training, most estimates are simulated: blends of the true face and a random one. The error of the
posed surface is the loss (geometry MSE), with losses of the pose. The preset `published` has the
paper's layers, its grey image of 200 pixels and its mask.

Different, and why:

- The head, its camera, skin and light are those of this package, so there are other numbers than the
  paper's 290, and losses of landmarks, gaze, skin and light too.
- A pass predicts a change of shape and pose, not new ones, so an untrained published network keeps
  them. The raw numbers of an estimate are found by inverting the decoder (`ParameterDecoder.raw`): a pass needs only
  the face before it, as the contract of systems has it. Gaze, skin and light are not in the drawing,
  so each pass predicts them anew.
- Some estimates are the network's own, as when it is used: blends alone have other errors.
- The preset `compact` is made of the layers of `dense_landmarks`, with whose face it starts. Its frozen
  maps see colours and the whole crop; only the trunk sees the drawing. So a bank can be encoded once.
  Its head reads the estimate's raw numbers too.
- No optimiser settings of the paper are known. Those below are ours.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.data.batch import FaceBatch, PhotoFeatures
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.losses.coefficients import coefficient_loss
from lifemask.losses.vertices import squared_vertex_loss
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.networks.coarse_net import CompactCoarseNet, PublishedCoarseNet
from lifemask.networks.frozen_maps import FrozenMaps
from lifemask.networks.inputs import network_input
from lifemask.networks.parameters import ParameterDecoder
from lifemask.rendering.feedback import FeedbackRenderer
from lifemask.systems.bank_recipe import BANKS, SCHEDULE, SMOKE
from lifemask.systems.dense_landmarks import copy_face_network
from lifemask.systems.direct_regression import released_maps
from lifemask.systems.face_losses import FACE_LOSS_WEIGHTS, FaceLosses
from lifemask.systems.photo_encoders import seen_by
from lifemask.training.config import (
    Optimiser,
    Phase,
    Recipe,
    Schedule,
    SyntheticSource,
    SystemChoice,
)
from lifemask.training.flat_batches import batch_rows, flat_batches, with_axes_of
from lifemask.training.system import FramedFaces, Losses, System

PRESETS = ("compact", "published")
"""Layers: those for a CPU and encoded banks, or those of the paper."""

FEEDBACK_CHANNELS = {"pncc": 3, "pncc_normals": 6}
"""What can be drawn of an estimate, and its channels."""

CROP_SIZE = 192
"""Pixels on a side of the crops of the compact recipe."""

PUBLISHED_SIZE = 200
"""Pixels on a side of the paper's images."""

POINT_STRIDE = 3
"""Every third of the dense and surface points of an estimate reads the maps."""

MOST_PASSES = 4
"""Passes at most: the later ones change little."""

BLENDED, UNROLLED = "blended", "unrolled"
"""The phases: first most estimates are simulated, later most are the network's own."""

_SLOWER = {"coarse.estimate": 0.3, "coarse.correction": 0.2}
"""Layers with thousands of inputs: a step of each weight adds up."""

_WEIGHTS = {
    **FACE_LOSS_WEIGHTS,
    # The geometry loss replaces them.
    **dict.fromkeys(("shape", "posed_shape", "identity", "expression"), 0.0),
    "geometry": 100.0,
    # In its place for the ablation: the plain error of the coefficients.
    "coefficients": 0.0,
}


@final
class CoarseFine(System):
    """Photo and estimate to a better estimate: coefficients, camera and light."""

    name: ClassVar[str] = "coarse_fine"
    phases: ClassVar = {
        BLENDED: Phase(
            weights=_WEIGHTS,
            optimiser=Optimiser(
                learning_rate=1e-3,
                learning_rate_factors=_SLOWER,
                betas=(0.9, 0.99),
                weight_decay=0.02,
                gradient_clip=5.0,
            ),
            end=0.7,
        ),
        UNROLLED: Phase(
            weights=_WEIGHTS,
            optimiser=Optimiser(
                learning_rate=3e-4,
                learning_rate_factors=_SLOWER,
                betas=(0.9, 0.99),
                weight_decay=0.02,
                gradient_clip=5.0,
            ),
            start=0.7,
        ),
    }
    first_weights: ClassVar = ("systems/dense_landmarks",)

    def __init__(
        self,
        model: MorphableModel,
        coarse: CompactCoarseNet | PublishedCoarseNet,
        *,
        maps: FrozenMaps | None,
        crop_size: int,
        passes: int,
        feedback: str,
        unrolled: float,
        unrolled_late: float,
    ) -> None:
        """Assemble the untrained system, which predicts the framed mean face.

        Args:
            model: the head, with 68, 478 and 21 landmarks.
            coarse: the network that corrects estimates.
            maps: the frozen layers under a compact network; None for the published one.
            crop_size: pixels on a side of the crops.
            passes: 1 to 4.
            feedback: what the network sees of an estimate.
            unrolled: share of the estimates in training that are the network's own.
            unrolled_late: the same in the second phase.

        Raises:
            ValueError: an unknown feedback, or an impossible number of passes or share.
        """
        super().__init__()
        if feedback not in FEEDBACK_CHANNELS:
            raise ValueError(f"Unknown feedback {feedback!r}. Known: {sorted(FEEDBACK_CHANNELS)}.")
        shares = (unrolled, unrolled_late)
        if not (1 <= passes <= MOST_PASSES and all(0 <= share <= 1 for share in shares)):
            raise ValueError(
                f"Got passes={passes}, unrolled={unrolled} and unrolled_late={unrolled_late}; "
                f"allowed are 1 to {MOST_PASSES} passes, and shares from 0 to 1."
            )
        self.model = model
        self.crop_size = crop_size
        self.passes = passes
        self.has_normals = feedback == "pncc_normals"
        self.shares = {BLENDED: unrolled, UNROLLED: unrolled_late}
        self.face_losses = FaceLosses(model, crop_size=crop_size)
        self.decoder = ParameterDecoder.for_model(model, crop_size=crop_size)
        self.renderer = FeedbackRenderer(model)
        self.maps = maps
        self.coarse = coarse

    @classmethod
    def build(
        cls,
        *,
        preset: str = "compact",
        crop_size: int = CROP_SIZE,
        input_size: int = 256,
        passes: int = 3,
        feedback: str = "pncc_normals",
        unrolled: float = 0.25,
        unrolled_late: float = 0.75,
        pretrained: bool = True,
    ) -> "CoarseFine":
        """Assemble the untrained system on the default head.

        Args:
            preset: the layers: `compact` on the direct regressor's frozen maps, or `published`.
            crop_size: pixels on a side of the crops; the published network takes them as they are.
            input_size: pixels on a side to which they are resized for `compact`, a multiple of 64.
            passes: 1 to 4.
            feedback: what the network sees of an estimate: `pncc` or `pncc_normals`.
            unrolled: share of the estimates in training that are the network's own; the others are
                blends of the truth and a random face.
            unrolled_late: the same in the second phase.
            pretrained: the compact network starts from the weights of `dense_landmarks`, which needs
                256 pixels; else from random ones, which a file replaces. The published network always starts from random ones.

        Raises:
            ValueError: an unknown name, or an impossible size, number of passes or share.
        """
        if preset not in PRESETS:
            raise ValueError(f"Unknown preset {preset!r}. Known: {sorted(PRESETS)}.")
        if preset == "compact" and input_size % 64:
            raise ValueError(f"input_size is {input_size}; it must be a multiple of 64.")
        model = MorphableModel.from_pretrained()
        outputs = ParameterDecoder.for_model(model, crop_size=crop_size).outputs
        # The constructor refuses an unknown feedback.
        channels = FEEDBACK_CHANNELS.get(feedback, 3)
        if preset == "published":
            maps, coarse = None, PublishedCoarseNet(1 + channels, outputs)
        else:
            maps = released_maps(input_size)
            coarse = CompactCoarseNet(
                channels,
                outputs,
                coarse_size=input_size // 8,
                last=maps.features,
                points=math.ceil((478 + 200) / POINT_STRIDE),
            )
            if pretrained:
                copy_face_network(coarse.level, coarse.trunk, coarse.estimate)
        return cls(
            model,
            coarse,
            maps=maps,
            crop_size=crop_size,
            passes=passes,
            feedback=feedback,
            unrolled=unrolled,
            unrolled_late=unrolled_late,
        )

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Correct the estimate of the pass before, or the mean face; see `System.forward`."""
        batch = faces.photo.shape[:-3]
        flat = map_tensors(lambda t: t.flatten(0, len(batch) - 1), faces)
        previous = self.mean_faces(len(flat.photo)) if flat.previous is None else flat.previous
        face = self.corrected(self._seen(flat.photo), previous)
        return map_tensors(lambda t: t.unflatten(0, batch), face)

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of one pass for each batch; without truth, only those of landmarks.

        In training, the estimates before the pass are simulated or the network's own. Else, all are
        its own after the passes before the last, so the losses are those of predictions.
        """
        flat = flat_batches(batches)
        seen = joined([batch.features or self._seen(batch.photo) for batch in flat])
        face = self.corrected(seen, self._estimates(seen, flat, self.shares[phase]))
        found: list[Losses] = []
        for batch, rows in zip(flat, batch_rows(flat), strict=True):
            part = face[rows]
            found.append({**self.face_losses(batch, part), **self._geometry_losses(batch, part)})
        return with_axes_of(batches, found)

    def frozen_features(self, photo: Float[Tensor, "batch 3 S S"]) -> PhotoFeatures | None:
        """Return the frozen maps of crops; None for the published network, which has none."""
        if self.maps is None:
            return None
        images = network_input(photo, self.maps.input_size)
        return self.run_network(partial(seen_by, self.maps), images)

    def corrected(
        self, seen: PhotoFeatures | Float[Tensor, "batch 3 S S"], previous: ExplainedFace
    ) -> ExplainedFace:
        """Return estimates after one pass; no gradient passes through the estimates before it.

        Args:
            seen: frozen features of the crops; the crops themselves for the published network.
            previous: the estimates before it.
        """
        raw = self.decoder.raw(self._shown(previous.detach()))
        size = seen.fine.shape[-1] if isinstance(seen, PhotoFeatures) else seen.shape[-1]
        drawn = self.renderer(previous, size)
        drawing = torch.cat([drawn.code, drawn.normals], 1) if self.has_normals else drawn.code
        if isinstance(seen, PhotoFeatures):
            inputs = (seen.fine, seen.coarse, seen.last, drawing, self._places(previous))
        else:
            grey = network_input(seen, size).mean(1, keepdim=True)
            inputs = (torch.cat([grey * drawn.mask, drawing], 1),)
        features = self.run_network(self.coarse, *inputs)
        # The last layers stay in float32: their outputs become pixels.
        return self.decoder(raw + self.coarse.change(features, raw))

    def mean_faces(self, count: int) -> ExplainedFace:
        """Return the first estimates: mean faces as frames show them."""
        return self.decoder(self.decoder.translation.new_zeros(count, self.decoder.outputs))

    def _places(self, face: ExplainedFace) -> Float[Tensor, "batch K 2"]:
        """Return where the points that read the maps are seen, in units of the crop."""
        points = self.face_losses.points.dense(face.coefficients)[:, ::POINT_STRIDE]
        return face.camera.project(points)[..., :2].detach() / self.crop_size

    def _seen(self, photo: Float[Tensor, "batch 3 S S"]) -> PhotoFeatures | Tensor:
        features = self.frozen_features(photo)
        return photo if features is None else features

    def _shown(self, face: ExplainedFace) -> ExplainedFace:
        """Return faces with what a drawing shows of them, and the mean of the rest."""
        mean, given = self.mean_faces(len(face.coefficients.identity)), face.coefficients
        coefficients = replace(
            mean.coefficients, identity=given.identity, expression=given.expression
        )
        return ExplainedFace(coefficients, face.camera, mean.light)

    @torch.no_grad()
    def _estimates(
        self, seen: PhotoFeatures | Tensor, batches: Sequence[FaceBatch], share: float
    ) -> ExplainedFace:
        """Return the estimates from which the pass of `losses` starts."""
        device = batches[0].photo.device
        true = torch.cat(
            [
                b.photo.new_zeros(len(b.photo), self.decoder.outputs)
                if b.truth is None
                else self.decoder.raw(b.truth.face)
                for b in batches
            ]
        )
        count = len(true)
        unknown = torch.cat(
            [torch.full((len(b.photo),), b.truth is None, device=device) for b in batches]
        )
        if not self.training or self.passes == 1:
            # A single pass always starts from the mean face.
            return self._unrolled(seen, torch.full((count,), self.passes - 1, device=device))
        blends = blended(true, torch.rand(count, device=device))
        own = unknown | (torch.rand(count, device=device) < share)
        passes = torch.randint(self.passes, (count,), device=device)
        estimates = self.decoder.raw(self._unrolled(seen, torch.where(own, passes, 0)))
        return self.decoder(torch.where(own[:, None], estimates, blends))

    def _unrolled(self, seen: PhotoFeatures | Tensor, passes: Tensor) -> ExplainedFace:
        """Return what the network predicts after so many passes of each face, in evaluation mode."""
        faces = self.mean_faces(len(passes))
        raw = self.decoder.raw(faces)
        was_training = self.training
        self.eval()
        try:
            for done in range(int(passes.max())):
                rows = torch.nonzero(passes > done).squeeze(-1)
                part = map_tensors(lambda t, rows=rows: t[rows], seen)
                raw[rows] = self.decoder.raw(self.corrected(part, self.decoder(raw[rows])))
        finally:
            self.train(was_training)
        return self.decoder(raw)

    def _geometry_losses(self, batch: FaceBatch, face: ExplainedFace) -> Losses:
        """Return the squared errors of the posed surface, and of the coefficients."""
        if batch.truth is None:
            return {}

        def posed(of: ExplainedFace) -> Tensor:
            surface = self.face_losses.points(of.coefficients)[-1]
            return surface @ viewpoint_of(of.camera).rotation.transpose(-1, -2)

        def shape(of: ExplainedFace) -> Tensor:
            return torch.cat([of.coefficients.identity, of.coefficients.expression], dim=-1)

        true = batch.truth.face
        return {
            "geometry": squared_vertex_loss(posed(face), posed(true)),
            "coefficients": coefficient_loss(shape(face), shape(true)),
        }


def blended(
    true: Float[Tensor, "batch N"], share: Float[Tensor, "batch"]
) -> Float[Tensor, "batch N"]:
    """Return raw outputs between those of true faces and of random ones.

    Random faces have standard normal raw outputs, which are about as spread as faces are.

    Args:
        true: raw outputs of the true faces (`ParameterDecoder.raw`).
        share: of the random face, 0 to 1.
    """
    return torch.lerp(true, torch.randn_like(true), share[:, None])


def coarse_fine() -> Recipe:
    """The compact preset, learned from a bank of drawn and re-rendered faces."""
    return Recipe(
        name="coarse_fine",
        description="Corrects a drawing of its own estimate; learned from a bank of faces.",
        system=SystemChoice("coarse_fine", {"preset": "compact", "crop_size": CROP_SIZE}),
        sources=BANKS,
        phases=CoarseFine.phases,
        batch_size=64,
        schedule=SCHEDULE,
        smoke=SMOKE,
    )


def coarse_fine_published() -> Recipe:
    """The paper's layers and image size, learned from faces that are drawn during training."""
    return replace(
        coarse_fine(),
        name="coarse_fine_published",
        description="As coarse_fine, with the paper's layers and image size, and drawn faces.",
        system=SystemChoice("coarse_fine", {"preset": "published", "crop_size": PUBLISHED_SIZE}),
        sources={"synthetic": SyntheticSource(1.0, repeats=3)},
        phases={
            name: replace(phase, optimiser=replace(phase.optimiser, learning_rate_factors={}))
            for name, phase in CoarseFine.phases.items()
        },
        batch_size=32,
        schedule=Schedule(steps=60_000, warmup_steps=200),
        smoke=(
            "system.options.crop_size=64",
            "sources.synthetic.options.samples=1",
            "sources.synthetic.options.texture_size=64",
        ),
    )


RECIPES = (coarse_fine, coarse_fine_published)
"""What `lifemask train` lists for this system, by the names of the functions."""
