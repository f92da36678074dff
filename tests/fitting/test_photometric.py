"""Derivatives of the photometric term are correct, and light stays within its limits."""

import dataclasses
import math

import pytest
import torch
from fitting.toy import ALBEDO, EXPRESSION, IDENTITY, dome_patch, view

from lifemask.fitting.appearance import Appearance, moved_appearance
from lifemask.fitting.landmark_fit import PoseAndShape, moved, posed_points, projected_points
from lifemask.fitting.normal_equations import NormalEquations, ParameterLayout
from lifemask.fitting.photometric import (
    PatchInPhoto,
    PhotoPyramidLevel,
    add_photometric_term,
    compare_colours,
    initial_appearance,
    make_level,
    sample_normals,
)
from lifemask.geometry.lighting import SphericalHarmonicsLight

LAYOUT = ParameterLayout(IDENTITY, EXPRESSION, ALBEDO)
CENTRE = torch.tensor([160.0, 120.0], dtype=torch.float64)


def smooth_photo() -> PhotoPyramidLevel:
    y, x = torch.meshgrid(torch.arange(240.0).double(), torch.arange(320.0).double(), indexing="ij")
    wave = 0.4 + 0.1 * (x / 60).sin() + 0.1 * (y / 50).cos()
    return make_level(torch.stack([wave, wave * 0.8, wave * 0.6]), 1.0, (0.0, 0.0), 1.0)


def appearance() -> Appearance:
    light = SphericalHarmonicsLight.from_direction(0.4, 0.3, strength=0.8, ambient=0.4)
    return Appearance(light.coefficients.double(), torch.tensor([0.3, -0.5]).double())


def state() -> PoseAndShape:
    return view(torch.tensor([0.8, -1.0, 0.5, 1.2, -0.7, 0.6, 0.2, 0.8]).double())


def test_the_gradient_is_the_derivative_of_half_the_squared_residuals():
    patch = dome_patch(9)
    seen = PatchInPhoto(patch, smooth_photo(), CENTRE, torch.ones(patch.samples).double())

    def half_cost(step: torch.Tensor) -> float:
        at, lit = moved(state(), LAYOUT, step), moved_appearance(appearance(), LAYOUT, step)
        return float((compare_colours(at, lit, seen).residual ** 2).sum() / 2)

    equations = NormalEquations(LAYOUT.size)
    add_photometric_term(
        equations, LAYOUT, state(), appearance(), seen, sigma=1.0, robust_sigmas=1e6
    )
    for parameter in range(LAYOUT.size):
        step = torch.zeros(LAYOUT.size, dtype=torch.float64)
        step[parameter] = 1e-5
        numeric = (half_cost(step) - half_cost(-step)) / 2e-5
        analytic = -float(equations.gradient[parameter])
        assert abs(numeric - analytic) < 2e-2 * abs(numeric) + 2e-2 * float(
            equations.hessian[parameter, parameter] ** 0.5
        )


def test_normals_point_to_the_camera_on_a_dome_that_faces_it():
    normals = sample_normals(state(), dome_patch())
    assert (normals[:, 2] < 0).all()
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(len(normals)).double())


def test_hidden_samples_do_not_count():
    patch = dome_patch(9)
    hidden = PatchInPhoto(patch, smooth_photo(), CENTRE, torch.zeros(patch.samples).double())
    equations = NormalEquations(LAYOUT.size)
    add_photometric_term(
        equations, LAYOUT, state(), appearance(), hidden, sigma=1.0, robust_sigmas=3.0
    )
    assert equations.hessian.abs().max() == 0


def test_points_stay_in_the_photo():
    patch = dome_patch(9)
    posed, _ = posed_points(state(), patch.points)
    pixels = projected_points(posed, 500.0)[0] + CENTRE
    assert pixels.min() > 0
    assert (pixels < torch.tensor([320.0, 240.0])).all()


def facing(light: torch.Tensor) -> float:
    """Return the shading of a surface that faces the camera."""
    return float(
        SphericalHarmonicsLight(light.float()).shade(torch.tensor([[0.0, 0.0, 1.0]])).mean()
    )


def test_a_step_changes_the_exposure_by_at_most_a_factor_of_four():
    before = Appearance(SphericalHarmonicsLight.ambient().coefficients, torch.zeros(ALBEDO))
    direction = before.light.reshape(-1).double()
    for length, expected in ((-3.0, 0.25), (20.0, 4.0), (-0.5, 0.5), (1.5, 2.5)):
        step = torch.zeros(LAYOUT.size, dtype=torch.float64)
        step[LAYOUT.light_block] = length * direction
        step[LAYOUT.albedo_block] = length
        after = moved_appearance(before, LAYOUT, step)
        assert facing(after.light) == pytest.approx(expected, rel=1e-5)
        # Albedo takes the same share of its step.
        assert float(after.albedo[0]) == pytest.approx(expected - 1, rel=1e-4)


@pytest.mark.parametrize("brightness", [1e-3, 300.0])
def test_the_first_exposure_is_within_a_factor_of_five(brightness: float):
    patch, level = dome_patch(), smooth_photo()
    extreme = dataclasses.replace(level, log_colour=level.log_colour * 0 + math.log(brightness))
    seen = PatchInPhoto(patch, extreme, CENTRE, torch.ones(patch.samples).double())
    found = initial_appearance(state(), seen)
    assert 0.2 <= facing(found.light) <= 5
