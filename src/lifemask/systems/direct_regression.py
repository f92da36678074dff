"""The direct regressor: one pass over the framed face predicts all of its numbers.

Networks: the convolutions of FaceMesh-V2 as backbone, and a head with one hidden layer. There is no
feedback.

Losses: on faces with truth, dense landmarks, the surface of the face before and after the pose, and
coefficients, pose and light; on photos, the known landmarks and the prior of the coefficients. It is
not a published method.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.networks.face_mesh_backbone import STAGES, FaceMeshBackbone
from lifemask.networks.frozen_maps import FrozenMaps
from lifemask.networks.inputs import network_input
from lifemask.networks.parameters import ParameterDecoder
from lifemask.networks.regression_head import RegressionHead
from lifemask.networks.released import read_released
from lifemask.systems.face_losses import FACE_LOSS_WEIGHTS, FaceLosses
from lifemask.training.config import (
    MAIN,
    Optimiser,
    Phase,
    PhotoSource,
    Recipe,
    RerenderedSource,
    Schedule,
    SyntheticSource,
    SystemChoice,
)
from lifemask.training.passes import predict_batches
from lifemask.training.system import FramedFaces, Losses, System
from lifemask.training.weights import present_name

CROP_SIZE = 160
"""Pixels on a side of the crops of the recipes below."""


@final
class DirectRegression(System):
    """Photo to coefficients, camera and light in one pass."""

    name: ClassVar[str] = "direct_regression"
    phases: ClassVar = {
        MAIN: Phase(
            weights=FACE_LOSS_WEIGHTS,
            optimiser=Optimiser(learning_rate=1e-3, learning_rate_factors={"backbone": 0.3}),
        )
    }
    first_weights: ClassVar = ("perception/face_mesh", "perception/face_mesh_profile")
    former_names: ClassVar = {
        "regressor.features.": "backbone.",
        "regressor.level.": "head.level.",
        "regressor.hidden.": "head.hidden.",
        "regressor.heads.": "head.outputs.",
        "regressor.place": "decoder.translation",
        "regressor.size_per_metre": "decoder.scale_per_metre",
    }

    def __init__(
        self,
        model: MorphableModel,
        backbone: FaceMeshBackbone,
        *,
        crop_size: int = 160,
        hidden: int = 512,
    ) -> None:
        """Assemble the untrained system, which predicts the framed mean face.

        Args:
            model: the head, with 68, 478 and 21 landmarks.
            backbone: the convolutions; it reads three channels.
            crop_size: pixels on a side of the crops.
            hidden: width of the head's hidden layer.
        """
        super().__init__()
        self.crop_size = crop_size
        self.model = model
        self.face_losses = FaceLosses(model, crop_size=crop_size)
        self.backbone = backbone
        self.decoder = ParameterDecoder.for_model(model, crop_size=crop_size)
        self.head = RegressionHead(backbone.features, self.decoder.outputs, hidden=hidden)

    @classmethod
    def build(
        cls,
        *,
        crop_size: int = 160,
        input_size: int = 256,
        frozen_stages: int = 3,
        hidden: int = 512,
        pretrained: bool = True,
    ) -> "DirectRegression":
        """Assemble the untrained system on the default head.

        Args:
            crop_size: pixels on a side of the crops.
            input_size: pixels on a side to which the network resizes them.
            frozen_stages: first stages of FaceMesh's convolutions that keep their weights, 0 to 7.
            hidden: width of the head's hidden layer.
            pretrained: start from FaceMesh's weights; else from random ones, which a file replaces.
        """
        backbone = (FaceMeshBackbone.from_pretrained if pretrained else FaceMeshBackbone)(
            input_size=input_size, frozen_stages=frozen_stages
        )
        model = MorphableModel.from_pretrained()
        return cls(model, backbone, crop_size=crop_size, hidden=hidden)

    def forward(self, faces: FramedFaces) -> ExplainedFace:
        """Explain faces in one pass; see `System.forward`."""
        batch = faces.photo.shape[:-3]
        images = network_input(faces.photo.flatten(0, -4), self.backbone.input_size)
        features = self.run_network(self.backbone, images)
        # The last layer stays in float32: its outputs become pixels.
        return self.decoder(self.head(features).unflatten(0, batch))

    def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
        """Return the losses of each batch: landmarks always; others with truth; the prior without."""
        faces = predict_batches(self, batches)
        return [self.face_losses(b, face) for b, face in zip(batches, faces, strict=True)]


def released_maps(input_size: int) -> FrozenMaps:
    """Return the released convolutions, which other systems read.

    Args:
        input_size: pixels on a side of the images; the weights were made for 256.
    """
    backbone = FaceMeshBackbone(input_size=input_size, frozen_stages=STAGES)
    backbone.load_state_dict(_released_part("backbone."))
    return FrozenMaps(backbone)


def copy_linear_part(level: nn.LayerNorm, outputs: nn.Linear) -> None:
    """Copy the part of the released head that is linear in the features of its convolutions.

    The hidden layer adds little: without it the points of held-out drawn faces err by 1.52 % of the
    frame instead of 1.49 %.

    Args:
        level: gets the norm of these features, from images of 256 pixels.
        outputs: its first inputs are these features; what it does with others stays.
    """
    given = _released_part("head.")
    features = len(given["level.weight"])
    with torch.no_grad():
        level.weight.copy_(given["level.weight"])
        level.bias.copy_(given["level.bias"])
        outputs.weight[:, :features] = given["outputs.weight"][:, :features]
        outputs.bias.copy_(given["outputs.bias"])


def _released_part(start: str) -> dict[str, Tensor]:
    """Return the released weights whose names start so, without this start."""
    given = {
        present_name(DirectRegression, name): value.float()
        for name, value in read_released(DirectRegression.name).tensors.items()
    }
    return {name.removeprefix(start): v for name, v in given.items() if name.startswith(start)}


def direct_regression() -> Recipe:
    """Photo to coefficients, pose and light, learned from synthetic faces alone."""
    return Recipe(
        name="direct_regression",
        description="Photo to coefficients, pose and light, learned from synthetic faces alone.",
        system=SystemChoice("direct_regression", {"crop_size": CROP_SIZE}),
        sources={"synthetic": SyntheticSource(1.0)},
        phases=DirectRegression.phases,
        batch_size=32,
        schedule=Schedule(steps=60_000, warmup_steps=200),
        smoke=(
            "system.options.crop_size=96",
            "system.options.input_size=128",
            "system.options.hidden=32",
            "sources.synthetic.options.samples=1",
            "sources.synthetic.options.texture_size=64",
        ),
    )


def direct_regression_rerendered() -> Recipe:
    """As `direct_regression`, with re-rendered fits: the recipe of the shipped weights.

    More faces are turned (`uniform_yaw`), because these are harder. They are drawn with fewer samples
    and texels, because more faces help more than finer ones. Each face is used three times, with other
    frames, colours and cuts.
    """
    plain = direct_regression()
    fits = ("fits/open-*.tar",)
    drawing = {"uniform_yaw": 0.7, "samples": 1, "texture_size": 64}
    varied = replace(
        Augmentation.patches(),
        mirror=0.5,
        shift=0.05,
        scale=0.1,
        turn_degrees=12.0,
        exposure=0.35,
        tint=0.1,
        gamma=0.25,
        grey=0.12,
        cut=0.25,
    )
    return replace(
        plain,
        name="direct_regression_rerendered",
        description="As direct_regression; two fifths of each batch are re-rendered fits.",
        sources={
            "synthetic": SyntheticSource(
                3.0, options=drawing, stores=fits, augmentation=varied, repeats=3
            ),
            "rerendered": RerenderedSource(
                2.0, stores=fits, options=drawing, augmentation=varied, repeats=3
            ),
        },
        batch_size=45,
        smoke=(
            *plain.smoke,
            "sources.rerendered.options.samples=1",
            "sources.rerendered.options.texture_size=64",
        ),
    )


def direct_regression_photos() -> Recipe:
    """As `direct_regression`, with open photos, of which only landmarks are known."""
    plain = direct_regression()
    return replace(
        plain,
        name="direct_regression_photos",
        description="As direct_regression, with a quarter of each batch open photos.",
        sources={**plain.sources, "photos": PhotoSource(0.33, augmentation=Augmentation())},
        smoke=(*plain.smoke, "sources.photos.limit=16", "sources.photos.held_out=0.3"),
    )


RECIPES = (direct_regression, direct_regression_rerendered, direct_regression_photos)
"""What `lifemask train` lists for this system, by the names of the functions."""
