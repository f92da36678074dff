"""Pose, camera, identity and expression from landmarks alone, by Gauss-Newton.

The model restricted to its landmark points is linear in identity and expression, so every
derivative is written out and a fit takes milliseconds. What landmarks leave open (distance
against focal length, identity against expression) is settled by Gaussian priors; expression
weights stay between their bounds by an active set.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.fitting.normal_equations import NormalEquations, ParameterLayout, geman_mcclure
from lifemask.geometry.alignment import align_points
from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA
from lifemask.geometry.rotations import cross_product_matrix, matrix_from_rotation_vector
from lifemask.morphable.landmarks import LandmarkEmbedding
from lifemask.morphable.model import MorphableModel


@dataclass(frozen=True)
class LinearPoints:
    """Points of a morphable model, linear in its coefficients; head space, metres."""

    mean: Float[Tensor, "N 3"]
    """Positions of the neutral mean head."""
    basis: Float[Tensor, "N 3 P"]
    """Displacement per standard deviation of each identity mode, then per unit of expression."""
    identity_modes: int
    """How many of the P are identity modes."""

    def positions(self, coefficients: Float[Tensor, "P"]) -> Float[Tensor, "N 3"]:
        """Return the points for one person's coefficients, identity then expression."""
        return self.mean + self.basis @ coefficients

    def selected(self, keep: Tensor) -> "LinearPoints":
        """Return the points at the given indices or mask."""
        return replace(self, mean=self.mean[keep], basis=self.basis[keep])

    @property
    def layout(self) -> ParameterLayout:
        """Parameters of a fit of these points."""
        return ParameterLayout(self.identity_modes, self.basis.shape[-1] - self.identity_modes)


def linear_points(
    model: MorphableModel, embedding: LandmarkEmbedding, *, identity_modes: int | None = None
) -> LinearPoints:
    """Restrict `model` to the embedded points, in double precision."""

    def gather(per_vertex: Float[Tensor, "*batch V 3"]) -> Float[Tensor, "*batch N 3"]:
        return embedding.points(per_vertex, model.triangles).double()

    identity = gather(model.identity_basis[:identity_modes])
    basis = torch.cat([identity, gather(model.expression_basis)])
    return LinearPoints(gather(model.mean), basis.permute(1, 2, 0).contiguous(), len(identity))


@dataclass(frozen=True)
class LandmarkTargets:
    """Where the points were seen in a photo, and how far each can be trusted."""

    points: Float[Tensor, "N 2"]
    """Image coordinates in pixels."""
    whitening: Float[Tensor, "N 2 2"]
    """Turns a residual in pixels into standard deviations; a row of zeros ignores a direction."""


@dataclass(frozen=True)
class FittingPriors:
    """What is believed about camera and expression before the photo is looked at."""

    expression_mean: Float[Tensor, "E"]
    """Expected expression weights, for example from blendshape scores."""
    expression_sigma: Float[Tensor, "E"]
    """Standard deviation around them."""
    identity_precision: float = 1.0
    """Weight of the unit Gaussian prior on identity coefficients."""
    distance_metres: float = 0.9
    """Expected distance from camera to head; ignored when the focal length is known."""
    distance_log_sigma: float = 0.35
    """Standard deviation of the logarithm of the distance."""
    focal_pixels: float | None = None
    """Focal length where the photo tells it."""
    focal_log_sigma: float = 0.03
    """Standard deviation of the logarithm of a known focal length."""


@dataclass(frozen=True)
class PoseAndShape:
    """Geometry of one face in front of one camera, in double precision."""

    rotation: Float[Tensor, "3 3"]
    """Head to camera axes."""
    translation: Float[Tensor, "3"]
    """Head origin in camera axes, metres."""
    focal_pixels: float
    """Focal length."""
    coefficients: Float[Tensor, "P"]
    """Identity in standard deviations, then expression weights in [0, 1]."""


@dataclass(frozen=True)
class LandmarkFit:
    """The result of `fit_landmarks`."""

    state: PoseAndShape
    """Pose, focal length, identity and expression."""
    robust_weights: Float[Tensor, "N"]
    """What the robust loss left of each point's weight, 0 to 1."""
    residual_sigmas: float
    """Weighted root mean square of the whitened residuals."""


def initial_state(
    points: LinearPoints,
    landmarks: Float[Tensor, "N 3"],
    weights: Float[Tensor, "N"],
    priors: FittingPriors,
    principal_point: Float[Tensor, "2"],
) -> PoseAndShape:
    """Pose the mean face by a scaled orthographic alignment to landmarks with relative depth.

    Args:
        landmarks: x, y in pixels and relative depth in pixels, smaller is nearer.
    """
    coefficients = _neutral(points, priors)
    scale, rotation, translation = align_points(
        points.positions(coefficients), landmarks, weights, with_scale=True
    )
    centre = translation[:2] - principal_point
    return _state_at(rotation, centre, float(scale), priors, coefficients)


def frontal_state(
    points: LinearPoints,
    centre: Float[Tensor, "2"],
    pixels_per_metre: float,
    priors: FittingPriors,
    principal_point: Float[Tensor, "2"],
) -> PoseAndShape:
    """Return the mean face looking into the camera, its origin at `centre` pixels."""
    rotation = centre.new_tensor(FRONTAL_HEAD_TO_CAMERA)
    coefficients = _neutral(points, priors)
    return _state_at(rotation, centre - principal_point, pixels_per_metre, priors, coefficients)


def _neutral(points: LinearPoints, priors: FittingPriors) -> Float[Tensor, "P"]:
    identity = points.mean.new_zeros(points.identity_modes)
    return torch.cat([identity, priors.expression_mean.to(identity)])


def _state_at(
    rotation: Tensor,
    centre: Tensor,
    pixels_per_metre: float,
    priors: FittingPriors,
    coefficients: Tensor,
) -> PoseAndShape:
    focal = priors.focal_pixels or pixels_per_metre * priors.distance_metres
    depth = centre.new_tensor([focal / pixels_per_metre])
    translation = torch.cat([centre / pixels_per_metre, depth])
    return PoseAndShape(rotation, translation, focal, coefficients)


def project(
    state: PoseAndShape, points: LinearPoints, principal_point: Float[Tensor, "2"]
) -> Float[Tensor, "N 2"]:
    """Return the image points of a state, pixels."""
    posed = points.positions(state.coefficients) @ state.rotation.T + state.translation
    return posed[:, :2] / posed[:, 2:] * state.focal_pixels + principal_point


def fit_landmarks(
    points: LinearPoints,
    targets: LandmarkTargets,
    priors: FittingPriors,
    start: PoseAndShape,
    principal_point: Float[Tensor, "2"],
    *,
    iterations: int = 12,
    robust_sigmas: float = 3.0,
) -> LandmarkFit:
    """Minimise robust landmark residuals plus priors over pose, focal length and coefficients.

    Args:
        robust_sigmas: residuals beyond this many standard deviations lose weight (Geman-McClure).
    """
    layout = points.layout
    state = start
    robust, rms = torch.ones_like(targets.points[:, 0]), math.inf
    for _ in range(iterations):
        equations = NormalEquations(layout.size)
        robust, rms = add_landmark_term(
            equations, state, points, targets, principal_point, robust_sigmas=robust_sigmas
        )
        add_geometry_priors(equations, layout, state, priors)
        state = moved(state, layout, solve_bounded(equations, layout, state))
    return LandmarkFit(state, robust, rms)


def add_landmark_term(
    equations: NormalEquations,
    state: PoseAndShape,
    points: LinearPoints,
    targets: LandmarkTargets,
    principal_point: Float[Tensor, "2"],
    *,
    robust_sigmas: float,
) -> tuple[Float[Tensor, "N"], float]:
    """Add the landmarks' residuals; return their robust weights and root mean square."""
    posed, by_geometry = posed_points(state, points)
    projected, by_point = projected_points(posed, state.focal_pixels)
    jacobian = torch.cat(
        [
            (by_point @ by_geometry)[..., :6],
            projected[..., None],
            (by_point @ by_geometry)[..., 6:],
        ],
        dim=-1,
    )
    residual = targets.points - principal_point - projected
    white = (targets.whitening @ residual.unsqueeze(-1)).squeeze(-1)
    squared = (white**2).sum(-1)
    robust = geman_mcclure(squared, robust_sigmas)
    equations.add_residuals(
        points.layout.geometry_block,
        white,
        targets.whitening @ jacobian,
        robust[:, None].expand_as(white),
    )
    return robust, float((robust * squared).sum() / robust.sum()) ** 0.5


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
    equations.add_prior(layout.identity_block, identity, 0.0, priors.identity_precision)
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
