"""A small deformable dome, for tests of fits that need no real head."""

import torch
from tiny_head import grid_triangles

from lifemask.fitting.landmark_fit import FittingPriors, LinearPoints, PoseAndShape
from lifemask.fitting.photometric import SurfacePatch
from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA
from lifemask.geometry.rotations import matrix_from_rotation_vector

IDENTITY, EXPRESSION, ALBEDO = 5, 3, 2


def dome(
    side: int = 15, *, dtype: torch.dtype = torch.float64
) -> tuple[LinearPoints, torch.Tensor]:
    """Return a grid of points on a dome of 8 cm with smooth random modes, and its triangles."""
    generator = torch.Generator().manual_seed(3)
    steps = torch.linspace(-1, 1, side, dtype=dtype)
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    z = 0.5 * (1 - 0.4 * x**2 - 0.3 * y**2)
    mean = torch.stack([x, y, z], -1).reshape(-1, 3) * 0.08
    waves = torch.stack([torch.ones_like(x), x, y, x * y, x**2, y**2, (3 * x).sin(), (3 * y).cos()])
    mix = torch.randn(8, 3, IDENTITY + EXPRESSION, generator=generator, dtype=dtype)
    basis = torch.einsum("wn,wcp->ncp", waves.reshape(8, -1), mix) * 0.002
    return LinearPoints(mean, basis, IDENTITY), grid_triangles(side)


def dome_patch(side: int = 15) -> SurfacePatch:
    """Return the dome with a smooth albedo; every vertex is a sample."""
    points, triangles = dome(side)
    count = len(points.mean)
    x, y = points.mean[:, 0] / 0.08, points.mean[:, 1] / 0.08
    mean_log = torch.stack([-0.6 + 0.1 * x, -1.0 + 0.1 * y, -1.3 + 0.05 * x * y], -1)
    basis_log = torch.stack(
        [torch.ones(count, 3).double() * 0.2, 0.1 * x[:, None].expand(-1, 3)], -1
    )
    return SurfacePatch(
        points, triangles, mean_log, basis_log, torch.arange(count), torch.ones(count).double()
    )


def view(coefficients: torch.Tensor, *, turn=(0.1, -0.2, 0.05)) -> PoseAndShape:
    """Return the state of the dome at a distance of about 60 cm."""
    frontal = torch.tensor(FRONTAL_HEAD_TO_CAMERA, dtype=torch.float64)
    rotation = matrix_from_rotation_vector(torch.tensor(turn, dtype=torch.float64)) @ frontal
    translation = torch.tensor([0.01, -0.02, 0.6], dtype=torch.float64)
    return PoseAndShape(rotation, translation, 500.0, coefficients)


def frontal_state(
    points: LinearPoints,
    centre: torch.Tensor,
    pixels_per_metre: float,
    priors: FittingPriors,
    principal_point: torch.Tensor,
) -> PoseAndShape:
    """Return the mean points in frontal pose, with their origin at `centre` in pixels."""
    rotation = centre.new_tensor(FRONTAL_HEAD_TO_CAMERA)
    identity = points.mean.new_zeros(points.identity_modes)
    focal = priors.focal_pixels or pixels_per_metre * priors.distance_metres
    beside = (centre - principal_point) / pixels_per_metre
    depth = centre.new_tensor([focal / pixels_per_metre])
    coefficients = torch.cat([identity, priors.expression_mean])
    return PoseAndShape(rotation, torch.cat([beside, depth]), focal, coefficients)


def project(
    state: PoseAndShape, points: LinearPoints, principal_point: torch.Tensor
) -> torch.Tensor:
    """Return the image points of a state in pixels, without derivatives."""
    posed = points.positions(state.coefficients) @ state.rotation.T + state.translation
    return posed[:, :2] / posed[:, 2:] * state.focal_pixels + principal_point
