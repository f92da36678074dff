"""The whites of the eyes tell the colour of the light, where they are brighter than the skin."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import UInt8

from lifemask.fitting.appearance import (
    Appearance,
    AppearancePriors,
    add_appearance_priors,
    exposure,
    moved_appearance,
)
from lifemask.fitting.eye_whites import EyeWhites, eye_whites
from lifemask.fitting.normal_equations import NormalEquations, ParameterLayout
from lifemask.geometry.lighting import SphericalHarmonicsLight, spherical_harmonics
from lifemask.pipeline.reconstruction import FaceReconstruction


def painted(
    face: FaceReconstruction, skin: tuple[int, int, int], white: tuple[int, int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Return a picture of two colours: wide eyes at the face's landmarks, and skin."""
    pixels = np.full_like(face.photo.pixels, 0)
    pixels[:] = skin
    landmarks = face.observation.landmarks478[:, :2]
    for first, second in ((33, 133), (263, 362)):
        middle = ((landmarks[first] + landmarks[second]) / 2).long().tolist()
        reach = int((landmarks[first] - landmarks[second]).norm())
        rows = slice(middle[1] - reach, middle[1] + reach)
        pixels[rows, middle[0] - reach : middle[0] + reach] = white
    return pixels


def test_white_of_neutral_light_is_nearly_neutral(face: FaceReconstruction) -> None:
    found = eye_whites(painted(face, (80, 60, 50), (190, 180, 172)), face.observation)
    assert found is not None
    assert found.trust == 1
    assert float(found.chroma.abs().max()) < 0.05


def test_blue_light_is_told(face: FaceReconstruction) -> None:
    found = eye_whites(painted(face, (60, 60, 70), (150, 170, 200)), face.observation)
    assert found is not None
    assert found.chroma[2] > 0.25
    assert found.chroma[0] < -0.25
    assert float(found.chroma.sum().abs()) < 1e-5


@pytest.mark.parametrize("white", [(180, 150, 130), (185, 155, 135)])
def test_whites_that_are_no_brighter_than_skin_say_nothing(
    face: FaceReconstruction, white: tuple[int, int, int]
) -> None:
    assert eye_whites(painted(face, (180, 150, 130), white), face.observation) is None


def test_small_eyes_say_nothing(face: FaceReconstruction) -> None:
    seen = face.observation
    small = replace(seen, landmarks478=seen.landmarks478 * 0.02)
    assert eye_whites(painted(face, (80, 60, 50), (190, 180, 172)), small) is None


def test_trusted_whites_decide_the_colour_of_the_light() -> None:
    layout = ParameterLayout(0, 0, 3)
    appearance = Appearance(SphericalHarmonicsLight.ambient().coefficients, torch.zeros(3))
    chroma = torch.tensor([0.3, 0.0, -0.3])
    priors = AppearancePriors(whites=EyeWhites(chroma, 1.0))
    for _ in range(5):
        equations = NormalEquations(layout.size)
        add_appearance_priors(equations, layout, appearance, priors)
        equations.hessian.diagonal()[layout.geometry_block] += 1
        none = torch.zeros(0, dtype=torch.float64)
        step = equations.solve(bounded=layout.expression_block, lower=none, upper=none)
        appearance = moved_appearance(appearance, layout, step)
    shading = spherical_harmonics(torch.tensor([0.0, 0.0, 1.0])) @ appearance.light
    found = shading.log() - shading.log().mean()
    torch.testing.assert_close(found, chroma, atol=0.03, rtol=0)
    assert float(exposure(appearance.light)) > 0.5
