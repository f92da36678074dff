"""Fit a morphable head to one observed face: landmarks first, then the photo's colours."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.fitting.config import FitConfig
from lifemask.fitting.gaze import gaze_from_iris
from lifemask.fitting.landmark_fit import (
    FittingPriors,
    LandmarkTargets,
    PoseAndShape,
    add_geometry_priors,
    add_landmark_term,
    fit_landmarks,
    initial_state,
    linear_points,
    moved,
    solve_bounded,
)
from lifemask.fitting.normal_equations import NormalEquations, ParameterLayout
from lifemask.fitting.photometric import (
    Appearance,
    AppearancePriors,
    SurfacePatch,
    add_appearance_priors,
    add_photometric_term,
    initial_appearance,
    make_level,
    moved_appearance,
)
from lifemask.fitting.prediction import blend_landmarks, state_from_prediction
from lifemask.fitting.surface import photo_crop, surface_patch, visibility
from lifemask.geometry.cameras import PerspectiveCamera, rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.landmarks import LandmarkEmbedding
from lifemask.morphable.model import MorphableModel
from lifemask.perception.face_perception import single_thread
from lifemask.perception.observation import FaceObservation

# The outline of the dense face mesh, in order: these points slide along the face's contour.
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip


# Rims of the lids and of the lips' inner border: seen sharply, and a small error there changes the
# look of a face most.
FINE_POINTS = (
    33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7,
    263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249,
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95,
)  # fmt: skip
FINE_SHARE = 0.35
"""Standard deviation of these points as a share of the others'."""

LIGHT_STEPS = 4
"""Steps for light and albedo in a fast fit, which has no others: nearer to a full fit's than two."""


@dataclass(frozen=True)
class FaceFit:
    """One face explained: shape, pose, camera, light and albedo."""

    face: ExplainedFace
    """The face in the photo's pixels; its light is white ambient if the model has no albedo."""
    landmark_error: float
    """Root mean square of the landmark residuals as a share of the face's size."""
    colour_error: float | None
    """Robust root mean square of the log-colour residuals; None without an albedo."""


class FaceFitter:
    """A morphable model prepared for fitting: what depends on the model alone is done once."""

    def __init__(
        self,
        model: MorphableModel,
        config: FitConfig | None = None,
        *,
        dense478: LandmarkEmbedding | None = None,
    ) -> None:
        """Prepare a model.

        Args:
            model: the head.
            config: options; the released recipe by default.
            dense478: stands in for the model's own dense landmarks.
        """
        dense478 = dense478 or model.dense478
        if dense478 is None:
            raise ValueError(
                "This model has no dense landmarks, so it cannot be fitted to photos. "
                "Use the default head or give the model a `dense478` embedding."
            )
        self.model = model
        self.dense478 = dense478
        self.config = config or FitConfig()
        self.points = linear_points(model, dense478, identity_modes=self.config.identity_modes)
        self.point_weight = dense478.weight.double()
        self._patch: SurfacePatch | None = None

    @property
    def patch(self) -> SurfacePatch:
        """The face's surface samples, built when first needed."""
        if self._patch is None:
            self._patch = surface_patch(self.model, self.points.identity_modes)
        return self._patch

    def __call__(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        observation: FaceObservation,
        *,
        start: ExplainedFace | None = None,
        focal_pixels: float | None = None,
    ) -> FaceFit:
        """Fit one observed face of a photo.

        Args:
            pixels: the photo, sRGB.
            observation: one of its faces, from `FacePerception`.
            start: a predictor's face in the photo's pixels. The fit starts there, and its landmarks
                are blended with the predicted ones. Without it, the fit starts from the mean face.
            focal_pixels: the camera's focal length if the photo tells it.
        """
        with single_thread(self.model.mean.device):
            if start is not None:
                observation = blend_landmarks(observation, start, self.model, self.dense478)
            return self._fit(pixels, observation, focal_pixels, start)

    def _fit(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        observation: FaceObservation,
        focal_pixels: float | None,
        prediction: ExplainedFace | None,
    ) -> FaceFit:
        config = self.config
        height, width = pixels.shape[:2]
        principal_point = torch.tensor([width / 2, height / 2], dtype=torch.float64)
        landmarks = torch.as_tensor(observation.landmarks478).double()
        size = face_size(landmarks)
        targets = landmark_targets(observation, self.point_weight, size * config.landmark_sigma)
        priors = FittingPriors(
            expression_mean=torch.as_tensor(observation.blendshapes).double(),
            expression_sigma=torch.full((self.points.layout.expression,), config.expression_sigma),
            identity_precision=config.identity_precision,
            distance_metres=config.distance_metres,
            distance_log_sigma=config.distance_log_sigma,
            focal_pixels=focal_pixels,
        )
        if prediction is None:
            start = initial_state(
                self.points, landmarks, self.point_weight, priors, principal_point
            )
        else:
            start = state_from_prediction(
                prediction, self.points, principal_point, focal_pixels=focal_pixels
            )
        coarse = fit_landmarks(self.points, targets, priors, start, principal_point)
        state, appearance, colour_error = coarse.state, None, None
        if config.quality == "full" or self.model.albedo is not None:
            state, appearance, colour_error = self._refine(
                pixels, observation, state, targets, priors, principal_point
            )
        error = coarse.residual_sigmas * config.landmark_sigma
        return self._result(
            state, appearance, landmarks, principal_point, (height, width), error, colour_error
        )

    def _refine(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        observation: FaceObservation,
        state: PoseAndShape,
        targets: LandmarkTargets,
        priors: FittingPriors,
        principal_point: Tensor,
    ) -> tuple[PoseAndShape, Appearance, float]:
        """Gauss-Newton on landmarks and colours together, from coarse to fine.

        Light and albedo come first, by themselves; for a fast fit that is all.
        """
        patch, config = self.patch, self.config
        iterations = config.photometric_iterations if config.quality == "full" else 0
        alone = 2 if iterations else LIGHT_STEPS
        n_albedo = patch.log_albedo_basis.shape[-1]
        layout = ParameterLayout(
            self.points.layout.identity, self.points.layout.expression, n_albedo
        )
        crop = photo_crop(pixels, state, patch, principal_point)
        widths = (3.0, 1.5) if iterations else (3.0,)
        levels = [
            make_level(
                crop.linear, millimetres * crop.pixels_per_millimetre, crop.corner, crop.scale
            )
            for millimetres in widths
        ]
        seen = visibility(state, patch, self.model, observation, principal_point)
        appearance = initial_appearance(state, patch, levels[0], principal_point, seen)
        colour_error = 0.0
        for iteration in range(alone + iterations):
            # First some steps for light and albedo alone, before colours may move the shape.
            moves_shape = iteration >= alone
            free = torch.ones(layout.size, dtype=torch.bool)
            free[layout.geometry_block] = moves_shape
            fine = moves_shape and iteration >= alone + iterations // 2
            equations = NormalEquations(layout.size)
            if moves_shape:
                add_landmark_term(
                    equations, state, self.points, targets, principal_point, robust_sigmas=3.0
                )
                add_geometry_priors(equations, layout, state, priors)
            else:
                equations.hessian.diagonal()[layout.geometry_block] += 1.0
            add_appearance_priors(equations, layout, appearance, AppearancePriors())
            colour_error = add_photometric_term(
                equations, layout, state, appearance, patch, levels[int(fine)], principal_point,
                seen, sigma=config.photometric_sigma, robust_sigmas=0.25, moves_shape=moves_shape,
            )  # fmt: skip
            step = solve_bounded(equations, layout, state, free=free)
            state = moved(state, layout, step)
            appearance = moved_appearance(appearance, layout, step)
            if iteration in (1, 4) and iterations:
                seen = visibility(state, patch, self.model, observation, principal_point)
        return state, appearance, colour_error

    def _result(
        self,
        state: PoseAndShape,
        appearance: Appearance | None,
        landmarks: Tensor,
        principal_point: Tensor,
        image_size: tuple[int, int],
        landmark_error: float,
        colour_error: float | None,
    ) -> FaceFit:
        model, layout = self.model, self.points.layout
        neutral = model.neutral()
        identity = torch.zeros_like(neutral.identity)
        identity[: layout.identity] = state.coefficients[: layout.identity]
        expression = state.coefficients[layout.identity :].float()
        albedo = torch.zeros_like(neutral.albedo)
        if appearance is not None:
            albedo[: len(appearance.albedo)] = appearance.albedo
        camera = PerspectiveCamera(
            torch.tensor(state.focal_pixels, dtype=torch.float32),
            principal_point.float(),
            rigid_transform(state.rotation, state.translation).float(),
            image_size,
        )
        coefficients = FaceCoefficients(identity, expression, neutral.gaze, albedo)
        gaze = gaze_from_iris(model, coefficients, camera, landmarks[468:478, :2].float())
        light = (
            SphericalHarmonicsLight.ambient()
            if appearance is None
            else SphericalHarmonicsLight(appearance.light)
        )
        found = FaceCoefficients(identity, expression, gaze, albedo)
        return FaceFit(ExplainedFace(found, camera, light), landmark_error, colour_error)


def fit(
    pixels: UInt8[np.ndarray, "H W 3"],
    observation: FaceObservation,
    model: MorphableModel,
    config: FitConfig | None = None,
    *,
    focal_pixels: float | None = None,
) -> FaceFit:
    """Fit `model` to one observed face; to fit many, keep a `FaceFitter` instead.

    Args:
        pixels: the photo, sRGB.
        observation: one of its faces, from `FacePerception`.
        model: the default head or an imported one with dense landmarks.
        config: options; the released recipe by default.
        focal_pixels: the camera's focal length if the photo tells it.
    """
    return FaceFitter(model, config)(pixels, observation, focal_pixels=focal_pixels)


def face_size(landmarks: Float[Tensor, "478 3"]) -> float:
    """Return the geometric mean of width and height of the landmarks' box in pixels."""
    spread = landmarks[:468, :2].amax(0) - landmarks[:468, :2].amin(0)
    return float((spread[0] * spread[1]).clamp(min=1.0) ** 0.5)


def landmark_targets(
    observation: FaceObservation, anchoring: Float[Tensor, "478"], sigma_pixels: float
) -> LandmarkTargets:
    """Turn dense landmarks into targets; the face's outline counts only across itself.

    Args:
        anchoring: how well each point is anchored on the model, 0 to 1.
        sigma_pixels: standard deviation of a well anchored point.
    """
    landmarks = torch.as_tensor(observation.landmarks478).double()
    spread = torch.as_tensor(observation.landmark_sigma).double()
    trust = anchoring.double() * max(float(observation.presence), 0.05)
    sigma = (sigma_pixels**2 + (3 * spread) ** 2).sqrt()
    sigma[torch.tensor(FINE_POINTS)] *= FINE_SHARE
    inverse = trust.sqrt() / sigma
    whitening = torch.eye(2, dtype=torch.float64) * inverse[:, None, None]
    oval = torch.tensor(FACE_OVAL)
    outline = landmarks[oval, :2]
    tangent = torch.roll(outline, -1, 0) - torch.roll(outline, 1, 0)
    tangent = torch.nn.functional.normalize(tangent, dim=-1)
    across = torch.stack([-tangent[:, 1], tangent[:, 0]], dim=-1)
    whitening[oval] = 0
    whitening[oval, 0] = across * inverse[oval, None]
    whitening[468:] = 0  # The iris tells the gaze, not the shape.
    return LandmarkTargets(landmarks[:, :2], whitening)
