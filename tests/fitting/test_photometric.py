"""The photometric term's derivatives, and what a fit with it recovers."""

import dataclasses
import math

import pytest
import torch
from fitting.toy import ALBEDO, EXPRESSION, IDENTITY, dome_patch, view

from lifemask.fitting.landmark_fit import PoseAndShape, moved, posed_points, projected_points
from lifemask.fitting.normal_equations import NormalEquations, ParameterLayout
from lifemask.fitting.photometric import (
    Appearance,
    PhotoPyramidLevel,
    add_photometric_term,
    initial_appearance,
    make_level,
    moved_appearance,
    predict_log_colour,
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
    patch, level = dome_patch(9), smooth_photo()
    visible = torch.ones(patch.samples).double()

    def half_cost(step: torch.Tensor) -> float:
        at, look = moved(state(), LAYOUT, step), moved_appearance(appearance(), LAYOUT, step)
        seen, predicted = predict_log_colour(at, look, patch, level, CENTRE)
        return float(((seen - predicted) ** 2).sum() / 2)

    equations = NormalEquations(LAYOUT.size)
    add_photometric_term(
        equations, LAYOUT, state(), appearance(), patch, level, CENTRE, visible,
        sigma=1.0, robust_sigmas=1e6,
    )  # fmt: skip
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
    patch, level = dome_patch(9), smooth_photo()
    equations = NormalEquations(LAYOUT.size)
    hidden = torch.zeros(patch.samples).double()
    add_photometric_term(
        equations, LAYOUT, state(), appearance(), patch, level, CENTRE, hidden,
        sigma=1.0, robust_sigmas=3.0,
    )  # fmt: skip
    assert equations.hessian.abs().max() == 0


def test_points_stay_in_the_photo():
    patch = dome_patch(9)
    posed, _ = posed_points(state(), patch.points)
    pixels = projected_points(posed, 500.0)[0] + CENTRE
    assert pixels.min() > 0
    assert (pixels < torch.tensor([320.0, 240.0])).all()


def facing(light: torch.Tensor) -> float:
    """Shading of what faces the camera."""
    return float(
        SphericalHarmonicsLight(light.float()).shade(torch.tensor([[0.0, 0.0, 1.0]])).mean()
    )


def test_a_step_neither_puts_out_the_light_nor_makes_it_leap():
    before = Appearance(SphericalHarmonicsLight.ambient().coefficients, torch.zeros(ALBEDO))
    direction = before.light.reshape(-1).double()
    for length, expected in ((-3.0, 0.25), (20.0, 4.0), (-0.5, 0.5), (1.5, 2.5)):
        step = torch.zeros(LAYOUT.size, dtype=torch.float64)
        step[LAYOUT.light_block] = length * direction
        step[LAYOUT.albedo_block] = length
        after = moved_appearance(before, LAYOUT, step)
        assert facing(after.light) == pytest.approx(expected, rel=1e-5)
        # Albedo goes as much of its way as light does.
        assert float(after.albedo[0]) == pytest.approx(expected - 1, rel=1e-4)


@pytest.mark.parametrize("brightness", [1e-3, 300.0])
def test_the_first_light_is_one_that_cameras_expose_for(brightness: float):
    patch, level = dome_patch(), smooth_photo()
    extreme = dataclasses.replace(level, log_colour=level.log_colour * 0 + math.log(brightness))
    visible = torch.ones(patch.samples)
    found = initial_appearance(state(), patch, extreme, CENTRE, visible.double())
    assert 0.2 <= facing(found.light) <= 5
