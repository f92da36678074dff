"""The plain regressor: one look at the framed face, all of its numbers at once.

Blocks (of `methods`' table): a direct regressor, trained on synthetic truth; no feedback, no
refinement. Features come from FaceMesh-V2's convolutions, one hidden layer reads them.

Losses: on faces with truth, dense landmarks, the face's surface before and after the pose, and all
coefficients, pose and light themselves; on photos, whatever landmarks are known, and the prior of
the coefficients. It is the ground from which the other systems start, not a published method.
"""

from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from lifemask.data.batch import FaceBatch, FaceTruth
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.losses.coefficients import (
    coefficient_loss,
    coefficient_prior,
    geometric_importance,
)
from lifemask.losses.gaze import gaze_loss
from lifemask.losses.landmarks import landmark_loss
from lifemask.losses.light import light_loss
from lifemask.losses.pose import ratio_loss, rotation_loss, translation_loss
from lifemask.losses.vertices import vertex_loss
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.networks.face_mesh_trunk import FaceMeshFeatures
from lifemask.networks.regressor import FaceRegressor
from lifemask.systems.face_points import FacePoints
from lifemask.systems.pictures import draw_estimate
from lifemask.systems.system import System


@final
class DirectRegression(System):
    """Photo to coefficients, camera and light in one pass."""

    name: ClassVar[str] = "direct_regression"
    loss_names: ClassVar[tuple[str, ...]] = (
        *("landmarks478", "landmarks68", "aflw21"),
        *("shape", "posed_shape", "identity", "expression", "gaze", "albedo"),
        *("rotation", "place", "size", "distance", "light", "prior"),
    )

    identity_importance: Float[Tensor, "I"]
    """How much each identity mode moves the face, relative to the first."""
    expression_importance: Float[Tensor, "E"]
    """The same of the expressions."""

    def __init__(
        self,
        model: MorphableModel,
        features: FaceMeshFeatures,
        *,
        crop_size: int = 160,
        hidden: int = 512,
    ) -> None:
        """Assemble the untrained system: it answers with the framed mean face.

        Args:
            model: the head, with 68, 478 and 21 landmarks.
            features: the convolutions.
            crop_size: pixels on a side of the crops.
            hidden: width of the regressor's hidden layer.
        """
        super().__init__()
        self.crop_size = crop_size
        self.model = model
        self.points = FacePoints(model)
        self.regressor = FaceRegressor.untrained(
            model, features, crop_size=crop_size, hidden=hidden
        )
        modes = len(model.identity_basis)
        importances = (
            geometric_importance(part)
            for part in (self.points.surface_basis[:modes], self.points.surface_basis[modes:])
        )
        for name, importance in zip(("identity", "expression"), importances, strict=True):
            # Half of the weight goes evenly to all modes: the small ones make the likeness.
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
            hidden: width of the regressor's hidden layer.
            pretrained: start from FaceMesh's weights; else from random ones, to be overwritten.
        """
        features = (FaceMeshFeatures.from_pretrained if pretrained else FaceMeshFeatures)(
            input_size=input_size, frozen_stages=frozen_stages
        )
        model = MorphableModel.from_pretrained()
        return cls(model, features, crop_size=crop_size, hidden=hidden)

    def forward(self, photo: Float[Tensor, "*batch 3 S S"]) -> ExplainedFace:
        """Explain faces in one pass; see `System.forward`."""
        return self.regressor(photo)

    def losses(
        self, batch: FaceBatch, estimate: ExplainedFace
    ) -> dict[str, Float[Tensor, "*batch"]]:
        """Return what the batch allows: landmarks always, the rest by its truth or by the prior."""
        points68, points478, points21, surface = self.points(estimate.coefficients)
        side, weights, camera = float(self.crop_size), self.points, estimate.camera

        def seen(points: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
            projected = camera.project(points)[..., :2]
            return landmark_loss(projected, truth, weight, frame_side=side)

        losses = {
            "landmarks478": seen(
                points478, batch.landmarks478, batch.landmarks478_weight * weights.weight478
            ),
            "landmarks68": seen(
                points68, batch.landmarks68, batch.landmarks68_weight * weights.weight68
            ),
            "aflw21": seen(points21, batch.aflw21, batch.aflw21_weight * weights.weight21),
        }
        if batch.truth is None:
            given = estimate.coefficients
            identity = coefficient_prior(given.identity)
            return losses | {"prior": identity + coefficient_prior(given.albedo)}
        return losses | self._supervised(batch.truth, estimate, surface)

    def draw(
        self, batch: FaceBatch, estimate: ExplainedFace
    ) -> Float[Tensor, "*batch panels 3 S S"]:
        """Return photo, overlay, clay, albedo and relit face; see `System.draw`."""
        return draw_estimate(self.model, batch.photo, estimate)

    def _supervised(
        self, truth: FaceTruth, estimate: ExplainedFace, surface: Float[Tensor, "*batch S 3"]
    ) -> dict[str, Float[Tensor, "*batch"]]:
        *_, true_surface = self.points(truth.face.coefficients)
        given, true = estimate.coefficients, truth.face.coefficients
        view, true_view = viewpoint_of(estimate.camera), viewpoint_of(truth.face.camera)

        def turned(points: Tensor, rotation: Tensor) -> Tensor:
            return points @ rotation.transpose(-1, -2)

        return {
            "shape": vertex_loss(surface, true_surface),
            "posed_shape": vertex_loss(
                turned(surface, view.rotation), turned(true_surface, true_view.rotation)
            ),
            "identity": coefficient_loss(given.identity, true.identity, self.identity_importance),
            "expression": coefficient_loss(
                given.expression, true.expression, self.expression_importance
            ),
            "gaze": gaze_loss(given.gaze, true.gaze),
            "albedo": coefficient_loss(given.albedo, true.albedo),
            "rotation": rotation_loss(view.rotation, true_view.rotation),
            "place": translation_loss(
                view.translation, true_view.translation, frame_side=float(self.crop_size)
            ),
            "size": ratio_loss(view.pixels_per_metre, true_view.pixels_per_metre),
            "distance": ratio_loss(view.distance, true_view.distance),
            "light": light_loss(estimate.light, truth.face.light),
        }
