"""Fits to landmarks find the state that produced them."""

from dataclasses import replace

import torch
from fitting.toy import EXPRESSION, IDENTITY, dome, frontal_state, project, view

from lifemask.fitting.landmark_fit import (
    FittingPriors,
    LandmarkTargets,
    PoseAndShape,
    fit_landmarks,
    landmark_residuals,
    moved,
    posed_points,
    projected_points,
)

CENTRE = torch.tensor([160.0, 120.0], dtype=torch.float64)
PRIORS = FittingPriors(
    expression_mean=torch.full((EXPRESSION,), 0.3).double(),
    expression_sigma=torch.full((EXPRESSION,), 0.5).double(),
    identity_precision=1e-3,
    distance_metres=0.6,
)


def truth() -> PoseAndShape:
    return view(torch.tensor([0.8, -1.0, 0.5, 1.2, -0.7, 0.6, 0.1, 0.9]).double())


def targets(points: torch.Tensor, sigma: float = 0.3) -> LandmarkTargets:
    return LandmarkTargets(points, torch.eye(2).double().expand(len(points), 2, 2) / sigma)


def test_fit_recovers_the_image_points_it_was_made_from():
    points, _ = dome()
    seen = project(truth(), points, CENTRE)
    start = frontal_state(points, seen.mean(0), 800.0, PRIORS, CENTRE)
    found = fit_landmarks(points, targets(seen), PRIORS, start, CENTRE, iterations=25)
    assert (project(found, points, CENTRE) - seen).norm(dim=-1).max() < 0.05
    assert landmark_residuals(found, points, targets(seen), CENTRE).root_mean_square < 0.2


def test_identity_stays_near_an_expected_person_where_points_say_little():
    points, _ = dome()
    seen = project(truth(), points, CENTRE)
    expected = torch.linspace(-1.0, 1.0, IDENTITY).double()
    start = frontal_state(points, seen.mean(0), 800.0, PRIORS, CENTRE)

    def found(sigma: float) -> torch.Tensor:
        priors = replace(PRIORS, identity_mean=expected, identity_precision=1.0)
        state = fit_landmarks(points, targets(seen, sigma), priors, start, CENTRE, iterations=25)
        return state.coefficients[:IDENTITY]

    torch.testing.assert_close(found(1e4), expected, atol=0.02, rtol=0)
    true = truth().coefficients[:IDENTITY]
    assert (found(0.3) - true).norm() < 0.5 * (true - expected).norm()


def test_outliers_lose_their_weight():
    points, _ = dome()
    seen = project(truth(), points, CENTRE)
    spoiled = seen.clone()
    spoiled[::20] += 30.0
    start = frontal_state(points, seen.mean(0), 800.0, PRIORS, CENTRE)
    found = fit_landmarks(points, targets(spoiled), PRIORS, start, CENTRE, iterations=30)
    residuals = landmark_residuals(found, points, targets(spoiled), CENTRE)
    assert residuals.robust_weights[::20].max() < 0.05
    good = torch.ones(len(seen), dtype=torch.bool)
    good[::20] = False
    assert (project(found, points, CENTRE) - seen)[good].norm(dim=-1).max() < 0.3


def test_expression_stays_between_zero_and_one():
    points, _ = dome()
    extreme = view(torch.tensor([0.0] * IDENTITY + [3.0, -2.0, 0.5]).double())
    seen = project(extreme, points, CENTRE)
    start = frontal_state(points, seen.mean(0), 800.0, PRIORS, CENTRE)
    found = fit_landmarks(points, targets(seen), PRIORS, start, CENTRE)
    expression = found.coefficients[IDENTITY:]
    assert expression.min() >= 0
    assert expression.max() <= 1


def test_a_known_focal_length_is_kept():
    points, _ = dome()
    seen = project(truth(), points, CENTRE)
    priors = FittingPriors(
        PRIORS.expression_mean, PRIORS.expression_sigma, focal_pixels=900.0, focal_log_sigma=1e-4
    )
    start = frontal_state(points, seen.mean(0), 800.0, priors, CENTRE)
    found = fit_landmarks(points, targets(seen), priors, start, CENTRE)
    assert abs(found.focal_pixels - 900.0) < 1.0


def test_derivatives_of_the_projection_match_finite_differences():
    points, _ = dome(5)
    state, layout = truth(), points.layout
    posed, by_geometry = posed_points(state, points)
    projected, by_point = projected_points(posed, state.focal_pixels)
    chain = by_point @ by_geometry
    analytic = torch.cat([chain[..., :6], projected[..., None], chain[..., 6:]], dim=-1)
    for parameter in range(layout.geometry_block.stop):
        step = torch.zeros(layout.geometry_block.stop, dtype=torch.float64)
        step[parameter] = 1e-6
        ahead = project(_unclamped(state, step), points, CENTRE)
        behind = project(_unclamped(state, -step), points, CENTRE)
        numeric = (ahead - behind) / 2e-6
        torch.testing.assert_close(analytic[..., parameter], numeric, rtol=1e-5, atol=1e-3)


def _unclamped(state: PoseAndShape, step: torch.Tensor) -> PoseAndShape:
    points, _ = dome(5)
    return moved(state, points.layout, step)
