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

from jaxtyping import Float
from torch import Tensor

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch, FaceTruth
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.losses.coefficients import (
    coefficient_loss,
    coefficient_prior,
    geometric_importance,
)
from lifemask.losses.face_points import FacePoints
from lifemask.losses.gaze import gaze_loss
from lifemask.losses.landmarks import landmark_loss
from lifemask.losses.light import light_loss
from lifemask.losses.pose import ratio_loss, rotation_loss, translation_loss
from lifemask.losses.vertices import vertex_loss
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.networks.face_mesh_backbone import FaceMeshBackbone
from lifemask.networks.inputs import network_input
from lifemask.networks.parameters import ParameterDecoder
from lifemask.networks.regression_head import RegressionHead
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

CROP_SIZE = 160
"""Pixels on a side of the crops of the recipes below."""


@final
class DirectRegression(System):
    """Photo to coefficients, camera and light in one pass."""

    name: ClassVar[str] = "direct_regression"
    phases: ClassVar = {
        MAIN: Phase(
            weights={
                "landmarks478": 10.0,
                "landmarks68": 5.0,
                "aflw21": 5.0,
                "shape": 5.0,
                "posed_shape": 5.0,
                "identity": 0.1,
                "expression": 2.0,
                "gaze": 0.3,
                "albedo": 0.1,
                "rotation": 1.0,
                "translation": 2.0,
                "scale": 1.0,
                "distance": 0.1,
                "light": 0.3,
                "prior": 0.01,
            },
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

    identity_importance: Float[Tensor, "I"]
    """How much each identity mode moves the face, relative to the first."""
    expression_importance: Float[Tensor, "E"]
    """The same of the expressions."""

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
        self.points = FacePoints(model)
        self.backbone = backbone
        self.decoder = ParameterDecoder.for_model(model, crop_size=crop_size)
        self.head = RegressionHead(backbone.features, self.decoder.outputs, hidden=hidden)
        modes = len(model.identity_basis)
        importances = (
            geometric_importance(part)
            for part in (self.points.surface_basis[:modes], self.points.surface_basis[modes:])
        )
        for name, importance in zip(("identity", "expression"), importances, strict=True):
            # Half of the weight is the same for all modes, because small modes matter for the likeness.
            self.register_buffer(
                f"{name}_importance", (importance + importance.mean()) / 2, persistent=False
            )

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

    def face_losses(self, batch: FaceBatch, face: ExplainedFace) -> Losses:
        """Return the losses of predictions for one batch."""
        points68, points478, points21, surface = self.points(face.coefficients)
        side, weights, camera = float(self.crop_size), self.points, face.camera

        def seen(points: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
            projected = camera.project(points)[..., :2]
            return landmark_loss(projected, truth, weight, frame_side=side)

        losses: Losses = {
            "landmarks478": seen(
                points478, batch.landmarks478, batch.landmarks478_weight * weights.weight478
            ),
            "landmarks68": seen(
                points68, batch.landmarks68, batch.landmarks68_weight * weights.weight68
            ),
            "aflw21": seen(points21, batch.aflw21, batch.aflw21_weight * weights.weight21),
        }
        if batch.truth is None:
            given = face.coefficients
            identity = coefficient_prior(given.identity)
            return {**losses, "prior": identity + coefficient_prior(given.albedo)}
        return {**losses, **self._supervised(batch.truth, face, surface)}

    def _supervised(
        self, truth: FaceTruth, face: ExplainedFace, surface: Float[Tensor, "*batch S 3"]
    ) -> Losses:
        *_, true_surface = self.points(truth.face.coefficients)
        given, true = face.coefficients, truth.face.coefficients
        view, true_view = viewpoint_of(face.camera), viewpoint_of(truth.face.camera)
        side = float(self.crop_size)

        def rotated(points: Tensor, rotation: Tensor) -> Tensor:
            return points @ rotation.transpose(-1, -2)

        return {
            "shape": vertex_loss(surface, true_surface),
            "posed_shape": vertex_loss(
                rotated(surface, view.rotation), rotated(true_surface, true_view.rotation)
            ),
            "identity": coefficient_loss(given.identity, true.identity, self.identity_importance),
            "expression": coefficient_loss(
                given.expression, true.expression, self.expression_importance
            ),
            "gaze": gaze_loss(given.gaze, true.gaze),
            "albedo": coefficient_loss(given.albedo, true.albedo),
            "rotation": rotation_loss(view.rotation, true_view.rotation),
            "translation": translation_loss(
                view.translation, true_view.translation, frame_side=side
            ),
            "scale": ratio_loss(view.pixels_per_metre, true_view.pixels_per_metre),
            "distance": ratio_loss(view.distance, true_view.distance),
            "light": light_loss(face.light, truth.face.light),
        }


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
