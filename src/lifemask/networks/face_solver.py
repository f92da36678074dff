"""The face that explains predicted points best, given how a network errs: a solver that learns.

A maximum a posteriori estimate by Gauss-Newton, as in Wood et al., "3D face reconstruction with dense
landmarks" (ECCV 2022), section 3.3. What is fixed there is learned here, through the steps of the
solver: how much each point and each predicted coefficient counts, and which errors the points have in
common. Neighbouring points err together, so many points say less than their number suggests; common
errors get unknowns of their own, which the estimate leaves out.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifemask.geometry.cameras import PerspectiveCamera, rigid_transform
from lifemask.geometry.rotations import cross_product_matrix, matrix_from_rotation_vector
from lifemask.morphable.explained_face import ExplainedFace

HEAD_ERRORS, IMAGE_ERRORS = 24, 8
"""Numbers of common errors that move with the head, and that lie in the image."""

ROBUST_SIGMAS = 3.0
"""Residuals beyond this many standard deviations lose weight (Geman-McClure)."""

# A step of 1 of each unknown changes a face about equally, so that the equations are well conditioned.
_RADIANS, _METRES = 0.1, 0.02
_POSE = 7
"""Rotation, translation, logarithm of the focal length."""
_POSE_PRECISION = 1e-4
_NEAREST_METRES = 0.1
_FIRST_SIGMA, _LEAST_SIGMA = 1.5, 0.0027
"""First factor on standard deviations, and their first least value in sides of the crop."""


@dataclass
class _State:
    """The unknowns of faces."""

    rotation: Float[Tensor, "B 3 3"]
    translation: Float[Tensor, "B 3"]
    log_focal: Float[Tensor, "B"]
    shape: Float[Tensor, "B Q"]
    """Identity and expression, then the common errors that move with the head."""
    image_errors: Float[Tensor, "B v"]


class FaceSolver(nn.Module):
    """Solves for identity, expression and camera of faces from K points with uncertainty."""

    mean: Float[Tensor, "K 3"]
    """The points of the mean face, head space, metres."""
    basis: Float[Tensor, "P K 3"]
    """Their motion per unit of each coefficient; identity first, then expression."""
    counts: Float[Tensor, "K"]
    """0 for points that say nothing about the shape."""

    def __init__(
        self,
        mean: Float[Tensor, "K 3"],
        basis: Float[Tensor, "P K 3"],
        counts: Float[Tensor, "K"],
        *,
        identity_modes: int,
        steps: int = 3,
    ) -> None:
        """Start from plausible priors, without common errors.

        Args:
            mean: see the class.
            basis: see the class.
            counts: see the class.
            identity_modes: how many of the coefficients are identity.
            steps: of Gauss-Newton.
        """
        super().__init__()
        for name, value in (("mean", mean), ("basis", basis), ("counts", counts)):
            self.register_buffer(name, value.clone(), persistent=False)
        self.identity_modes, self.steps = identity_modes, steps
        expressions, count = len(basis) - identity_modes, len(mean)
        modes = torch.arange(identity_modes)
        self.trust = nn.Parameter(torch.exp(-modes / 25.0))
        self.log_precision = nn.Parameter(torch.full((identity_modes,), math.log(4.0)))
        self.log_expression_sigma = nn.Parameter(torch.full((expressions,), math.log(0.2)))
        self.log_factor = nn.Parameter(torch.full((count,), math.log(_FIRST_SIGMA)))
        self.log_least_sigma = nn.Parameter(torch.tensor(math.log(_LEAST_SIGMA)))
        self.log_distance_sigma = nn.Parameter(torch.tensor(math.log(0.35)))
        self.head_errors = nn.Parameter(torch.randn(HEAD_ERRORS, count, 3) * 1e-4)
        self.image_errors = nn.Parameter(torch.randn(IMAGE_ERRORS, count, 2) * 1e-3)

    def forward(
        self,
        face: ExplainedFace,
        points: Float[Tensor, "B K 2"],
        sigma: Float[Tensor, "B K"],
    ) -> ExplainedFace:
        """Return the faces; all but identity, expression and camera stays.

        Args:
            face: predicted faces, where the solver starts, in crop pixels.
            points: where their points are seen, crop pixels.
            sigma: standard deviation of each point along each axis, crop pixels.
        """
        given, camera = face.coefficients, face.camera
        side = float(camera.image_size[1])
        motion = camera.world_to_camera
        expected = torch.cat([given.identity * self.trust, given.expression], -1)
        none = points.new_zeros(len(points), HEAD_ERRORS + IMAGE_ERRORS)
        state = _State(
            motion[:, :3, :3],
            motion[:, :3, 3],
            camera.focal_pixels.log(),
            torch.cat([expected, none[:, :HEAD_ERRORS]], -1),
            none[:, HEAD_ERRORS:],
        )
        variance = (sigma * self.log_factor.exp()).square()
        least = self.log_least_sigma.exp() * side
        certainty = self.counts * (variance + least.square()).rsqrt()
        target = points - camera.principal_point.unsqueeze(-2)
        log_depth = state.translation[:, 2].log()
        for _ in range(self.steps):
            state = self._moved(state, expected, target, certainty, log_depth, side)
        identity, expression = state.shape[:, : len(self.basis)].split(
            [self.identity_modes, len(self.basis) - self.identity_modes], -1
        )
        return replace(
            face,
            coefficients=replace(given, identity=identity, expression=expression),
            camera=PerspectiveCamera(
                state.log_focal.exp(),
                camera.principal_point,
                rigid_transform(state.rotation, state.translation),
                camera.image_size,
            ),
        )

    def _moved(
        self,
        state: _State,
        expected: Float[Tensor, "B P"],
        target: Float[Tensor, "B K 2"],
        certainty: Float[Tensor, "B K"],
        log_depth: Float[Tensor, "B"],
        side: float,
    ) -> _State:
        """Return the state after one step."""
        modes = torch.cat([self.basis, self.head_errors])
        in_image = self.image_errors * side
        turned = (self.mean + torch.tensordot(state.shape, modes, 1)) @ state.rotation.mT
        x, y, depth = (turned + state.translation.unsqueeze(1)).unbind(-1)
        depth = depth.clamp(min=_NEAREST_METRES / 2)
        scale, zero = state.log_focal.exp().unsqueeze(-1) / depth, torch.zeros_like(depth)
        seen = torch.stack([scale * x, scale * y], -1)
        residual = target - seen - torch.tensordot(state.image_errors, in_image, 1)
        by_point = torch.stack(
            [scale, zero, -scale * x / depth, zero, scale, -scale * y / depth], -1
        ).unflatten(-1, (2, 3))
        squared = (residual * certainty.unsqueeze(-1)).square().sum(-1).detach()
        # The root of each point's weight goes into its small factors, not into the large matrix.
        weight = (certainty / (1 + squared / ROBUST_SIGMAS**2)).unsqueeze(-1)
        by_point = by_point * weight.unsqueeze(-1)
        turning = by_point @ cross_product_matrix(turned) * -_RADIANS
        in_head = by_point @ state.rotation.unsqueeze(1)
        # One row for each unknown. Products of slices are faster than many matrices of 2 x 3.
        x, y, z = modes.unsqueeze(-1).unbind(-2)
        right, down, forth = in_head.unsqueeze(1).unbind(-1)
        by_shape = x * right + y * down + z * forth
        rows = torch.cat(
            [
                turning.movedim(-1, 1),
                by_point.movedim(-1, 1) * _METRES,
                (seen * weight).unsqueeze(1),
                by_shape,
                in_image * weight.unsqueeze(1),
            ],
            1,
        ).flatten(2)
        step = self._step(
            rows @ rows.mT,
            (rows @ (residual * weight).flatten(1).unsqueeze(-1)).squeeze(-1),
            state,
            expected,
            log_depth,
        )
        return self._after(state, step)

    def _step(
        self,
        matrix: Float[Tensor, "B N N"],
        side: Float[Tensor, "B N"],
        state: _State,
        expected: Float[Tensor, "B P"],
        log_depth: Float[Tensor, "B"],
    ) -> Float[Tensor, "B N"]:
        """Return the solution of the equations of the points, with the priors."""
        shape = state.shape
        away = shape - torch.cat([expected, shape.new_zeros(len(shape), HEAD_ERRORS)], -1)
        pose = shape.new_zeros(len(shape), _POSE)
        precision = torch.cat(
            [
                pose[0] + _POSE_PRECISION,
                self.log_precision.exp(),
                (-2 * self.log_expression_sigma).exp(),
                shape.new_ones(HEAD_ERRORS + IMAGE_ERRORS),
            ]
        )
        away = torch.cat([pose, away, state.image_errors], -1)
        depth = state.translation[:, 2]
        # The logarithm of the depth stays near the predicted one's.
        slope = torch.zeros_like(away)
        slope[:, 5] = (-self.log_distance_sigma).exp() * _METRES / depth.detach()
        error = (-self.log_distance_sigma).exp() * (depth.log() - log_depth)
        matrix = matrix + torch.diag(precision) + slope.unsqueeze(-1) * slope.unsqueeze(-2)
        side = side - precision * away - slope * error.unsqueeze(-1)
        factor = torch.linalg.cholesky(matrix.double())
        return torch.cholesky_solve(side.double().unsqueeze(-1), factor).squeeze(-1).to(side)

    def _after(self, state: _State, step: Float[Tensor, "B N"]) -> _State:
        turn, shift, focal, change, image_errors = step.split(
            [3, 3, 1, state.shape.shape[1], IMAGE_ERRORS], -1
        )
        translation = state.translation + shift * _METRES
        depth = translation[:, 2:].clamp(min=_NEAREST_METRES)
        shape = state.shape + change
        rows = slice(self.identity_modes, len(self.basis))
        # Weights of expressions stay from 0 to 1; gradients pass.
        clamped = shape.clone()
        clamped[:, rows] = shape[:, rows].clamp(0, 1)
        return _State(
            matrix_from_rotation_vector(turn * _RADIANS) @ state.rotation,
            torch.cat([translation[:, :2], depth], -1),
            state.log_focal + focal.squeeze(-1).clamp(-0.7, 0.7),
            shape + (clamped - shape).detach(),
            state.image_errors + image_errors,
        )
