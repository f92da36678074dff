"""Losses of predicted coefficients, pose and light: with truth, or on photos with landmarks only."""

from jaxtyping import Float
from torch import Tensor, nn

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
from lifemask.training.system import Losses

FACE_LOSS_WEIGHTS = {
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
}
"""The losses by name, with the weights that a system usually gives them."""


class FaceLosses(nn.Module):
    """Compares predicted faces with batches. It has nothing that learns or is stored."""

    identity_importance: Float[Tensor, "I"]
    """How much each identity mode moves the face, relative to the first."""
    expression_importance: Float[Tensor, "E"]
    """The same of the expressions."""

    def __init__(self, model: MorphableModel, *, crop_size: int) -> None:
        """Prepare the points and coefficients of a model.

        Args:
            model: the head, with 68, 478 and 21 landmarks.
            crop_size: pixels on a side of the crops.
        """
        super().__init__()
        self.crop_size = crop_size
        self.points = FacePoints(model)
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

    def forward(self, batch: FaceBatch, face: ExplainedFace) -> Losses:
        """Return the losses for one batch: landmarks, and others with truth, or the prior without."""
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
