"""Fit a morphable head to one observed face: landmarks first, then the photo's colours."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.fitting.appearance import (
    Appearance,
    AppearancePriors,
    add_appearance_priors,
    moved_appearance,
)
from lifemask.fitting.config import FitConfig
from lifemask.fitting.eye_whites import eye_whites
from lifemask.fitting.gaze import gaze_from_iris
from lifemask.fitting.landmark_fit import (
    FittingPriors,
    LandmarkTargets,
    LinearPoints,
    PoseAndShape,
    add_geometry_priors,
    add_landmark_term,
    fit_landmarks,
    initial_state,
    landmark_residuals,
    linear_points,
    moved,
    shape_cost,
    solve_bounded,
)
from lifemask.fitting.normal_equations import NormalEquations, ParameterLayout
from lifemask.fitting.photometric import (
    PatchInPhoto,
    PhotoPyramidLevel,
    SurfacePatch,
    add_photometric_term,
    initial_appearance,
    make_level,
)
from lifemask.fitting.prediction import (
    blend_landmarks,
    identity_shares,
    predicted_targets,
    state_from_prediction,
    with_predicted_landmarks,
    with_stated_perspective,
    without_hidden_eyes,
)
from lifemask.fitting.stated_focal import (
    NEAREST_METRES,
    focal_contradiction,
    predicted_contradiction,
    too_near,
)
from lifemask.fitting.surface import photo_crop, surface_patch, visibility
from lifemask.geometry.cameras import PerspectiveCamera, rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.precision import single_precision
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.covered import covered_vertices, predicted_embedding
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.landmarks import LandmarkEmbedding
from lifemask.morphable.model import MorphableModel
from lifemask.perception.correspondences import FACE_OVAL
from lifemask.perception.face_perception import single_thread
from lifemask.perception.framing import face_frame
from lifemask.perception.observation import FaceObservation

# Rims of the lids and the inner border of the lips, where landmarks are precise and small errors
# are most visible.
FINE_POINTS = (
    33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7,
    263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249,
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95,
)  # fmt: skip
FINE_SHARE = 0.35
"""Standard deviation of these points, as a share of that of the others."""

LIGHT_STEPS = 4
"""Steps for light and albedo in a fast fit, which has no other photometric steps. In tests, the
result was nearer to that of a full fit than with two steps."""

POOR_LANDMARK_ERROR = 0.02
"""Landmark error, as a share of the face's size, above which a fit is tried from another start too."""

COARSE_BLUR, FINE_BLUR = 3.0, 1.5
"""Standard deviation of the photo's blur in the first and in the last steps, millimetres on the
face."""


@dataclass(frozen=True)
class FaceFit:
    """A fitted face and its errors."""

    face: ExplainedFace
    """The face in the photo's pixels; its light is white ambient if the model has no albedo."""
    landmark_error: float
    """Robust root mean square of this face's landmark residuals, as a share of the face's size.

    If the fit started from a prediction, the targets are the blended landmarks."""
    colour_error: float | None
    """Robust root mean square of the log-colour residuals; None without an albedo."""
    focal_dropped: str | None = None
    """Why the focal length that the photo states was not used; None if it was, or if none is stated."""


class FaceFitter:
    """Fits a morphable model to faces; data that depend only on the model are prepared once."""

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
            dense478: replaces the model's own dense landmarks.

        Raises:
            ValueError: the model has no dense landmarks.
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
        self._predicted_points: LinearPoints | None = None
        self.point_weight = dense478.weight.double()
        self._patch: SurfacePatch | None = None

    @property
    def predicted_points(self) -> LinearPoints:
        """The 678 points that a network may predict, built on first use."""
        if self._predicted_points is None:
            self._predicted_points = linear_points(
                self.model,
                predicted_embedding(self.model),
                identity_modes=self.config.identity_modes,
            )
        return self._predicted_points

    @property
    def patch(self) -> SurfacePatch:
        """The face's surface samples, built on first use."""
        if self._patch is None:
            self._patch = surface_patch(self.model, self.points.identity_modes)
        return self._patch

    def __call__(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        observation: FaceObservation,
        *,
        start: ExplainedFace | None = None,
        solved: bool = False,
        focal_pixels: float | None = None,
    ) -> FaceFit:
        """Fit one observed face of a photo.

        Args:
            pixels: the photo, sRGB.
            observation: one of its faces, from `FacePerception`.
            start: a predictor's face in the photo's pixels. The fit starts there, and its landmarks
                are blended with the predicted ones. Without it, the fit starts from the mean face.
            solved: the start already explains its landmarks best. Only colours change its shape, or a
                known focal length.
            focal_pixels: the camera's focal length if the photo's EXIF data states it. It is used
                unless the face contradicts it.

        With a focal length, the principal point of the face's camera is the photo's middle. Without
        one, it is the middle of the face, so the face is the same wherever it lies in the photo.
        """
        with single_thread(self.model.mean.device):
            if start is not None:
                observation = self._with_prediction(observation, start)
            task, state, focal_dropped = self._fit_shape(
                pixels, observation, start, focal_pixels, solved
            )
            appearance, colour_error = None, None
            if self.config.quality == "full" or self.model.albedo is not None:
                state, appearance, colour_error = self._fit_colours(task, state)
            landmark_error = task.landmark_error(state)
            face = self._explained(task, state, appearance)
            return FaceFit(face, landmark_error, colour_error, focal_dropped)

    @torch.no_grad()
    def focal_contradiction(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        observation: FaceObservation,
        focal_pixels: float,
    ) -> str | None:
        """Return why the landmarks of a face contradict a focal length, or None; takes little time.

        Args:
            pixels: the photo, sRGB.
            observation: one of its faces, from `FacePerception`.
            focal_pixels: the focal length that the photo's EXIF data states.
        """
        with single_thread(self.model.mean.device):
            stated = self._task(pixels, observation, focal_pixels, None)
            free = self._task(pixels, observation, None, None)
            return self._contradiction(stated, self._fit_stated(stated, None), free)

    def unrefined(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        observation: FaceObservation,
        face: ExplainedFace,
    ) -> FaceFit:
        """Return a predicted face without change, with its landmark error.

        Args:
            pixels: the photo, sRGB.
            observation: one of its faces, from `FacePerception`.
            face: the predicted face, in the photo's pixels.
        """
        task = replace(
            self._task(pixels, observation, None, None),
            principal_point=face.camera.principal_point.double(),
        )
        return FaceFit(face, task.landmark_error(self._start(task, face)), None)

    def _with_prediction(
        self, observation: FaceObservation, start: ExplainedFace
    ) -> FaceObservation:
        """Return an observation that knows the prediction: its landmarks, or a blend with its mesh."""
        if start.landmarks is not None:
            return with_predicted_landmarks(observation, start, self.model, self.dense478)
        return blend_landmarks(observation, start, self.model, self.dense478)

    def _task(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        observation: FaceObservation,
        focal_pixels: float | None,
        start: ExplainedFace | None,
        *,
        solved: bool = False,
    ) -> "_FitTask":
        config = self.config
        height, width = pixels.shape[:2]
        middle = torch.tensor([width / 2, height / 2], dtype=torch.float64)
        if focal_pixels is None:
            middle = face_frame(torch.as_tensor(observation.landmarks478).double()).centre
        size = face_size(torch.as_tensor(observation.landmarks478).double())
        priors = FittingPriors(
            expression_mean=torch.as_tensor(observation.blendshapes).double(),
            expression_sigma=torch.full((self.points.layout.expression,), config.expression_sigma),
            identity_precision=config.identity_precision,
            distance_metres=config.distance_metres,
            distance_log_sigma=config.distance_log_sigma,
            focal_pixels=focal_pixels,
        )
        covered = None if start is None else covered_vertices(self.model, start)
        if start is not None and start.landmarks is not None:
            points = self.predicted_points
            landmarks = start.landmarks
            if focal_pixels is not None:
                landmarks = with_stated_perspective(landmarks, start, focal_pixels, self.model)
            identity = start.coefficients.identity[: points.identity_modes].double()
            priors = replace(
                priors,
                expression_sigma=torch.full_like(
                    priors.expression_sigma, config.predicted_expression_sigma
                ),
                identity_mean=identity
                if solved
                else identity * identity_shares(len(identity), config.predicted_identity_modes),
                identity_precision=config.solved_identity_precision
                if solved
                else config.predicted_identity_precision,
            )
            targets = predicted_targets(
                landmarks,
                factor=config.predicted_sigma_factor,
                least_sigma=size * config.predicted_least_sigma,
            )
            if covered is not None:
                targets, priors = without_hidden_eyes(targets, priors, covered, self.model)
            certainty = targets.whitening[:, 0, 0]
            sigma = 1 / (float(certainty[certainty > 0].median()) * size)
        else:
            points = self.points
            targets = landmark_targets(observation, self.point_weight, size * config.landmark_sigma)
            sigma = config.landmark_sigma
        return _FitTask(
            pixels=pixels,
            observation=observation,
            sigma=sigma,
            principal_point=middle,
            points=points,
            targets=targets,
            priors=priors,
            covered=covered,
        )

    def _fit_shape(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        observation: FaceObservation,
        start: ExplainedFace | None,
        focal_pixels: float | None,
        solved: bool,
    ) -> tuple["_FitTask", PoseAndShape, str | None]:
        """Return what was fitted to landmarks, the fit, and why a stated focal length was not used."""
        free = self._task(pixels, observation, None, start, solved=solved)

        def fitted_free() -> PoseAndShape:
            return self._start(free, start) if solved else self._fit_landmarks(free, start)

        if focal_pixels is None:
            return free, fitted_free(), None
        reason = None if start is None else predicted_contradiction(focal_pixels, start)
        if reason is None:
            stated = self._task(pixels, observation, focal_pixels, start, solved=solved)
            known = self._fit_stated(stated, start)
            if start is None:
                reason = self._contradiction(stated, known, free)
            else:
                reason = too_near(float(known.translation[2]))
            if reason is None:
                return stated, known, None
        return free, fitted_free(), reason

    def _fit_landmarks(self, task: "_FitTask", prediction: ExplainedFace | None) -> PoseAndShape:
        """Return the fit from the prediction; if it is poor, the best one of several starts."""

        def fitted(start: PoseAndShape) -> PoseAndShape:
            return fit_landmarks(
                task.points, task.targets, task.priors, start, task.principal_point
            )

        state = fitted(self._start(task, prediction))
        if prediction is None or task.landmark_error(state) < POOR_LANDMARK_ERROR:
            return state
        again = fitted(self._start(task, None))
        return min(state, again, key=lambda found: self._cost(task, found))

    def _fit_stated(self, task: "_FitTask", prediction: ExplainedFace | None) -> PoseAndShape:
        """Return the fit with a stated focal length, or its start if that is much too near."""
        start = self._start(task, prediction)
        # From there, a part of the head would lie behind the camera.
        too_near = float(start.translation[2]) < NEAREST_METRES / 2
        return start if too_near else self._fit_landmarks(task, prediction)

    def _contradiction(
        self, stated: "_FitTask", known: PoseAndShape, free: "_FitTask"
    ) -> str | None:
        """Compare a fit to measured landmarks with the stated focal length with one without."""
        found = self._fit_landmarks(free, None)
        cost, free_cost = self._cost(stated, known), self._cost(free, found)
        return focal_contradiction(known, cost=cost, free_cost=free_cost)

    def _cost(self, task: "_FitTask", state: PoseAndShape) -> float:
        """Return the `shape_cost` of a state."""
        return shape_cost(state, task.points, task.targets, task.priors, task.principal_point)

    def _start(self, task: "_FitTask", prediction: ExplainedFace | None) -> PoseAndShape:
        """Return the state of the prediction, or the mean face in the pose of the landmarks."""
        if prediction is None:
            return initial_state(
                self.points, task.landmarks, self.point_weight, task.priors, task.principal_point
            )
        return state_from_prediction(
            prediction, self.points, task.principal_point, focal_pixels=task.priors.focal_pixels
        )

    def _fit_colours(
        self, task: "_FitTask", state: PoseAndShape
    ) -> tuple[PoseAndShape, Appearance, float]:
        """Fit light and albedo, then everything if quality is full; also return the colour error."""
        shape_steps = self.config.photometric_iterations if self.config.quality == "full" else 0
        crop = photo_crop(task.pixels, state, self.patch, task.principal_point)

        def blurred(millimetres: float) -> PhotoPyramidLevel:
            blur_pixels = millimetres * crop.pixels_per_millimetre
            return make_level(crop.linear, blur_pixels, crop.corner, crop.scale)

        def visible(at: PoseAndShape) -> Float[Tensor, "S"]:
            return visibility(
                at, self.patch, self.model, task.observation, task.principal_point, task.covered
            )

        seen = PatchInPhoto(self.patch, blurred(COARSE_BLUR), task.principal_point, visible(state))
        appearance, colour_error = initial_appearance(state, seen), 0.0
        # Light and albedo are fitted first, before colours change the shape.
        for _ in range(2 if shape_steps else LIGHT_STEPS):
            state, appearance, colour_error = self._step(
                task, state, appearance, seen, moves_shape=False
            )
        for iteration in range(shape_steps):
            if iteration in (0, 3):  # Which samples are visible depends on pose and shape.
                seen = replace(seen, visible=visible(state))
            if iteration == shape_steps // 2:
                seen = replace(seen, level=blurred(FINE_BLUR))
            state, appearance, colour_error = self._step(
                task, state, appearance, seen, moves_shape=True
            )
        return state, appearance, colour_error

    def _step(
        self,
        task: "_FitTask",
        state: PoseAndShape,
        appearance: Appearance,
        seen: PatchInPhoto,
        *,
        moves_shape: bool,
    ) -> tuple[PoseAndShape, Appearance, float]:
        """Take one Gauss-Newton step on landmarks and colours; also return the colour error."""
        points = task.points
        layout = ParameterLayout(
            points.layout.identity, points.layout.expression, len(appearance.albedo)
        )
        free = torch.ones(layout.size, dtype=torch.bool)
        free[layout.geometry_block] = moves_shape
        equations = NormalEquations(layout.size)
        if moves_shape:
            add_landmark_term(equations, state, points, task.targets, task.principal_point)
            add_geometry_priors(equations, layout, state, task.priors)
        else:
            equations.hessian.diagonal()[layout.geometry_block] += 1.0
        add_appearance_priors(equations, layout, appearance, task.appearance)
        colour_error = add_photometric_term(
            equations,
            layout,
            state,
            appearance,
            seen,
            sigma=self.config.photometric_sigma,
            robust_sigmas=0.25,
            moves_shape=moves_shape,
        )
        step = solve_bounded(equations, layout, state, free=free)
        return moved(state, layout, step), moved_appearance(appearance, layout, step), colour_error

    def _explained(
        self, task: "_FitTask", state: PoseAndShape, appearance: Appearance | None
    ) -> ExplainedFace:
        """Return the fitted face; its gaze follows the iris landmarks."""
        model, modes = self.model, self.points.layout.identity
        neutral = model.neutral()
        identity = torch.zeros_like(neutral.identity)
        identity[:modes] = state.coefficients[:modes]
        expression = state.coefficients[modes:].float()
        albedo = torch.zeros_like(neutral.albedo)
        light = SphericalHarmonicsLight.ambient()
        if appearance is not None:
            albedo[: len(appearance.albedo)] = appearance.albedo
            light = SphericalHarmonicsLight(appearance.light)
        height, width = task.pixels.shape[:2]
        camera = PerspectiveCamera(
            torch.tensor(state.focal_pixels, dtype=torch.float32),
            task.principal_point.float(),
            rigid_transform(state.rotation, state.translation).float(),
            (height, width),
        )
        straight = FaceCoefficients(identity, expression, neutral.gaze, albedo)
        gaze = gaze_from_iris(model, straight, camera, task.landmarks[468:478, :2].float())
        return ExplainedFace(replace(straight, gaze=gaze), camera, light)


@dataclass(frozen=True)
class _FitTask:
    """The data of one fit: photo, observation, targets and priors."""

    pixels: UInt8[np.ndarray, "H W 3"]
    """The photo, sRGB."""
    observation: FaceObservation
    """The face, blended with its prediction if there is one."""
    sigma: float
    """The usual standard deviation of a target, as a share of the face's size."""
    principal_point: Float[Tensor, "2"]
    """Principal point of the camera, pixels."""
    points: LinearPoints
    """The points of the head that are fitted."""
    targets: LandmarkTargets
    """Image points that the dense landmarks should reach."""
    priors: FittingPriors
    """Priors on camera, identity and expression."""
    covered: Float[Tensor, "V"] | None
    """Probability that something hides each vertex; None if unknown."""

    @cached_property
    def appearance(self) -> AppearancePriors:
        """Priors on light and albedo."""
        return AppearancePriors(whites=eye_whites(self.pixels, self.observation))

    @property
    def landmarks(self) -> Float[Tensor, "478 3"]:
        """Dense landmarks in double precision."""
        return torch.as_tensor(self.observation.landmarks478).double()

    def landmark_error(self, state: PoseAndShape) -> float:
        """Return the robust root mean square distance to the targets, in units of the face's size."""
        residuals = landmark_residuals(state, self.points, self.targets, self.principal_point)
        return residuals.root_mean_square * self.sigma


@single_precision()
def fit(
    pixels: UInt8[np.ndarray, "H W 3"],
    observation: FaceObservation,
    model: MorphableModel,
    config: FitConfig | None = None,
    *,
    focal_pixels: float | None = None,
) -> FaceFit:
    """Fit `model` to one observed face; for many faces, a `FaceFitter` is faster.

    Args:
        pixels: the photo, sRGB.
        observation: one of its faces, from `FacePerception`.
        model: the default head or an imported one with dense landmarks.
        config: options; the released recipe by default.
        focal_pixels: the camera's focal length if it is known from the photo's EXIF data.
    """
    return FaceFitter(model, config)(pixels, observation, focal_pixels=focal_pixels)


def face_size(landmarks: Float[Tensor, "478 3"]) -> float:
    """Return the geometric mean of width and height of the landmarks' box in pixels."""
    spread = landmarks[:468, :2].amax(0) - landmarks[:468, :2].amin(0)
    return float((spread[0] * spread[1]).clamp(min=1.0) ** 0.5)


def landmark_targets(
    observation: FaceObservation, anchoring: Float[Tensor, "478"], sigma_pixels: float
) -> LandmarkTargets:
    """Return the targets of dense landmarks; outline points count only across the outline.

    Args:
        observation: one face.
        anchoring: how precisely each point is known on the model, 0 to 1.
        sigma_pixels: standard deviation of a precisely known point.
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
    whitening[468:] = 0  # Iris points determine the gaze, not the shape.
    return LandmarkTargets(landmarks[:, :2], whitening)
