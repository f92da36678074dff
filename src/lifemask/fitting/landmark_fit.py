"""Pose, camera, identity and expression from landmarks alone, by Gauss-Newton.

The model restricted to its landmark points is linear in identity and expression, so all derivatives
are explicit formulas and a fit takes milliseconds. Landmarks alone do not separate distance from
focal length, or identity from expression; Gaussian priors do. An active set keeps expression
weights between their bounds.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.fitting.normal_equations import NormalEquations, ParameterLayout, geman_mcclure
from lifemask.geometry.alignment import align_points
from lifemask.geometry.rotations import cross_product_matrix, matrix_from_rotation_vector
from lifemask.morphable.landmarks import LandmarkEmbedding
from lifemask.morphable.model import MorphableModel

ROBUST_SIGMAS = 3.0
"""Residuals beyond this many standard deviations lose weight (Geman-McClure)."""


@dataclass(frozen=True)
class LinearPoints:
    """Points of a morphable model, linear in its coefficients; head space, metres."""

    mean: Float[Tensor, "N 3"]
    """Positions of the neutral mean head."""
    basis: Float[Tensor, "N 3 P"]
    """Displacement per standard deviation of each identity mode, then per unit of expression."""
    identity_modes: int
    """Number of identity modes among the P coefficients."""

    def positions(self, coefficients: Float[Tensor, "P"]) -> Float[Tensor, "N 3"]:
        """Return the points for one person's coefficients, identity then expression."""
        return self.mean + self.basis @ coefficients

    @property
    def layout(self) -> ParameterLayout:
        """The parameters of a fit of these points."""
        return ParameterLayout(self.identity_modes, self.basis.shape[-1] - self.identity_modes)


def linear_points(
    model: MorphableModel, embedding: LandmarkEmbedding, *, identity_modes: int | None = None
) -> LinearPoints:
    """Restrict `model` to the embedded points, in double precision.

    Args:
        model: the head.
        embedding: the points.
        identity_modes: number of identity modes to keep; None: all.
    """

    def gather(per_vertex: Float[Tensor, "*batch V 3"]) -> Float[Tensor, "*batch N 3"]:
        return embedding.points(per_vertex, model.triangles).double()

    identity = gather(model.identity_basis[:identity_modes])
    basis = torch.cat([identity, gather(model.expression_basis)])
    return LinearPoints(gather(model.mean), basis.permute(1, 2, 0).contiguous(), len(identity))


@dataclass(frozen=True)
class LandmarkTargets:
    """The measured points in a photo, with their precision."""

    points: Float[Tensor, "N 2"]
    """Image coordinates in pixels."""
    whitening: Float[Tensor, "N 2 2"]
    """Converts a residual from pixels to standard deviations; a row of zeros ignores a direction."""


@dataclass(frozen=True)
class FittingPriors:
    """Gaussian priors on camera, identity and expression."""

    expression_mean: Float[Tensor, "E"]
    """Expected expression weights, for example from blendshape scores."""
    expression_sigma: Float[Tensor, "E"]
    """Standard deviation around the expected weights."""
    identity_precision: float = 1.0
    """Precision of the Gaussian prior on identity coefficients."""
    identity_mean: Float[Tensor, "I"] | None = None
    """Expected identity coefficients, for example predicted ones; None: the mean person's, 0."""
    distance_metres: float = 0.9
    """Expected distance from camera to head; ignored if the focal length is known."""
    distance_log_sigma: float = 0.35
    """Standard deviation of the logarithm of the distance."""
    focal_pixels: float | None = None
    """Focal length if it is known."""
    focal_log_sigma: float = 0.03
    """Standard deviation of the logarithm of a known focal length."""


@dataclass(frozen=True)
class PoseAndShape:
    """Geometry of one face in front of one camera, in double precision."""

    rotation: Float[Tensor, "3 3"]
    """From head axes to camera axes."""
    translation: Float[Tensor, "3"]
    """Head origin in camera axes, metres."""
    focal_pixels: float
    """Focal length in pixels."""
    coefficients: Float[Tensor, "P"]
    """Identity in standard deviations, then expression weights in [0, 1]."""


@dataclass(frozen=True)
class LandmarkResiduals:
    """Differences between the points of a state and their targets."""

    whitened: Float[Tensor, "N 2"]
    """Target minus point, in standard deviations."""
    robust_weights: Float[Tensor, "N"]
    """Weight of each point in the robust loss, 0 to 1."""

    @property
    def root_mean_square(self) -> float:
        """Robust root mean square over the points, in standard deviations."""
        squared = (self.whitened**2).sum(-1)
        weights = self.robust_weights
        return float((weights * squared).sum() / weights.sum()) ** 0.5


def initial_state(
    points: LinearPoints,
    landmarks: Float[Tensor, "N 3"],
    weights: Float[Tensor, "N"],
    priors: FittingPriors,
    principal_point: Float[Tensor, "2"],
) -> PoseAndShape:
    """Pose the mean face by a scaled orthographic alignment to landmarks with relative depth.

    Args:
        points: the model's points.
        landmarks: x, y in pixels and relative depth in pixels, smaller is nearer.
        weights: weight of each landmark, at least 0.
        priors: give the focal length or the expected distance, and the expected expression.
        principal_point: that of the photo's camera, pixels.
    """
    identity = points.mean.new_zeros(points.identity_modes)
    coefficients = torch.cat([identity, priors.expression_mean.to(identity)])
    scale, rotation, centre = align_points(
        points.positions(coefficients), landmarks, weights, with_scale=True
    )
    pixels_per_metre = float(scale)
    focal = priors.focal_pixels or pixels_per_metre * priors.distance_metres
    beside = (centre[:2] - principal_point) / pixels_per_metre
    depth = beside.new_tensor([focal / pixels_per_metre])
    return PoseAndShape(rotation, torch.cat([beside, depth]), focal, coefficients)


def fit_landmarks(
    points: LinearPoints,
    targets: LandmarkTargets,
    priors: FittingPriors,
    start: PoseAndShape,
    principal_point: Float[Tensor, "2"],
    *,
    iterations: int = 12,
) -> PoseAndShape:
    """Minimise robust landmark residuals plus priors over pose, focal length and coefficients."""
    layout = points.layout
    state = start
    for _ in range(iterations):
        equations = NormalEquations(layout.size)
        add_landmark_term(equations, state, points, targets, principal_point)
        add_geometry_priors(equations, layout, state, priors)
        state = moved(state, layout, solve_bounded(equations, layout, state))
    return state


def landmark_residuals(
    state: PoseAndShape,
    points: LinearPoints,
    targets: LandmarkTargets,
    principal_point: Float[Tensor, "2"],
) -> LandmarkResiduals:
    """Return the residuals of a state, with the same robust weights as in a fit."""
    posed, _ = posed_points(state, points)
    projected, _ = projected_points(posed, state.focal_pixels)
    return _residuals(projected, targets, principal_point)


def shape_cost(
    state: PoseAndShape,
    points: LinearPoints,
    targets: LandmarkTargets,
    priors: FittingPriors,
    principal_point: Float[Tensor, "2"],
) -> float:
    """Return how unlikely the landmarks and the person are, without the priors on the camera.

    It is the robust sum of the squared residuals, plus the squared deviations of identity and
    expression from their priors, all in standard deviations.
    """
    squared = (landmark_residuals(state, points, targets, principal_point).whitened ** 2).sum(-1)
    robust = squared / (1 + squared / ROBUST_SIGMAS**2)  # The loss of Geman-McClure's weights.
    identity = state.coefficients[: points.identity_modes] - _identity_mean(priors, state)
    expression = state.coefficients[points.identity_modes :]
    away = (expression - priors.expression_mean) / priors.expression_sigma
    return float(robust.sum() + priors.identity_precision * identity.square().sum()) + float(
        away.square().sum()
    )


def add_landmark_term(
    equations: NormalEquations,
    state: PoseAndShape,
    points: LinearPoints,
    targets: LandmarkTargets,
    principal_point: Float[Tensor, "2"],
) -> None:
    """Add the landmarks' residuals, robustly weighted."""
    posed, by_geometry = posed_points(state, points)
    projected, by_point = projected_points(posed, state.focal_pixels)
    chain = by_point @ by_geometry
    jacobian = torch.cat([chain[..., :6], projected[..., None], chain[..., 6:]], dim=-1)
    residuals = _residuals(projected, targets, principal_point)
    equations.add_residuals(
        points.layout.geometry_block,
        residuals.whitened,
        targets.whitening @ jacobian,
        residuals.robust_weights[:, None].expand_as(residuals.whitened),
    )


def _residuals(
    projected: Float[Tensor, "N 2"], targets: LandmarkTargets, principal_point: Float[Tensor, "2"]
) -> LandmarkResiduals:
    """Compare image points, relative to the principal point, with their targets."""
    residual = targets.points - principal_point - projected
    whitened = (targets.whitening @ residual.unsqueeze(-1)).squeeze(-1)
    return LandmarkResiduals(whitened, geman_mcclure((whitened**2).sum(-1), ROBUST_SIGMAS))


def posed_points(
    state: PoseAndShape, points: LinearPoints
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3 Q"]]:
    """Return points in camera axes and their derivative by rotation, translation, coefficients."""
    rotation = state.rotation.to(points.mean)
    turned = points.positions(state.coefficients.to(points.mean)) @ rotation.T
    eye = torch.eye(3, dtype=turned.dtype).expand(len(turned), 3, 3)
    derivative = torch.cat([-cross_product_matrix(turned), eye, rotation @ points.basis], dim=-1)
    return turned + state.translation.to(turned), derivative


def projected_points(
    posed: Float[Tensor, "N 3"], focal_pixels: float
) -> tuple[Float[Tensor, "N 2"], Float[Tensor, "N 2 3"]]:
    """Return image points relative to the principal point, and their derivative by the points."""
    x, y, z = posed.unbind(-1)
    zero, scale = torch.zeros_like(x), focal_pixels / z
    rows = [scale, zero, -scale * x / z, zero, scale, -scale * y / z]
    return torch.stack([scale * x, scale * y], dim=-1), torch.stack(rows, -1).reshape(-1, 2, 3)


def add_geometry_priors(
    equations: NormalEquations, layout: ParameterLayout, state: PoseAndShape, priors: FittingPriors
) -> None:
    """Add the priors on identity, expression and either focal length or distance."""
    identity = state.coefficients[: layout.identity]
    expression = state.coefficients[layout.identity :]
    equations.add_prior(
        layout.identity_block, identity, _identity_mean(priors, state), priors.identity_precision
    )
    equations.add_prior(
        layout.expression_block,
        expression,
        priors.expression_mean.double(),
        priors.expression_sigma.double() ** -2,
    )
    if priors.focal_pixels is not None:
        error = math.log(state.focal_pixels / priors.focal_pixels)
        equations.add_prior(layout.LOG_FOCAL, error, 0.0, priors.focal_log_sigma**-2)
    else:
        depth = float(state.translation[2])
        error = depth * math.log(depth / priors.distance_metres)
        precision = (priors.distance_log_sigma * depth) ** -2
        equations.add_prior(layout.TRANSLATION.stop - 1, error, 0.0, precision)


def _identity_mean(priors: FittingPriors, state: PoseAndShape) -> Tensor:
    mean = priors.identity_mean
    return state.coefficients.new_zeros(()) if mean is None else mean.to(state.coefficients)


def solve_bounded(
    equations: NormalEquations,
    layout: ParameterLayout,
    state: PoseAndShape,
    *,
    free: Tensor | None = None,
) -> Tensor:
    """Return the step that keeps expression weights in [0, 1]."""
    expression = state.coefficients[layout.identity :]
    return equations.solve(
        bounded=layout.expression_block, lower=-expression, upper=1 - expression, free=free
    )


def moved(state: PoseAndShape, layout: ParameterLayout, step: Tensor) -> PoseAndShape:
    """Apply a step; depth and focal length change by at most a factor of two."""
    rotation = matrix_from_rotation_vector(step[layout.ROTATION]) @ state.rotation
    translation = state.translation + step[layout.TRANSLATION]
    depth = translation[2:].clamp(float(state.translation[2]) / 2, float(state.translation[2]) * 2)
    factor = math.exp(max(-0.7, min(0.7, float(step[layout.LOG_FOCAL]))))
    coefficients = state.coefficients + torch.cat(
        [step[layout.identity_block], step[layout.expression_block]]
    )
    return PoseAndShape(
        rotation,
        torch.cat([translation[:2], depth]),
        state.focal_pixels * factor,
        coefficients,
    )
