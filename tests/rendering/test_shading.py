"""Shading of images agrees with the light at each normal."""

import math

import torch

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.rendering import shade_normals


def test_shading_of_an_image_equals_the_light_of_each_normal():
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(2, 3, 4, 5, generator=generator), dim=1)
    light = SphericalHarmonicsLight(torch.randn(2, 9, 3, generator=generator))
    shading = shade_normals(normals, light)
    for b in range(2):
        one = SphericalHarmonicsLight(light.coefficients[b])
        for i in range(4):
            for j in range(5):
                expected = one.shade(normals[b, :, i, j][None])[0]
                torch.testing.assert_close(shading[b, :, i, j], expected)


def test_a_lamp_lights_what_faces_it_and_nothing_lights_no_surface():
    light = SphericalHarmonicsLight.from_direction(math.pi / 2, 0.0, ambient=0.0)
    normals = torch.zeros(3, 1, 3)
    normals[0, 0, 0], normals[0, 0, 1] = 1, -1
    shading = shade_normals(normals, light)
    torch.testing.assert_close(shading[:, 0, 0], torch.ones(3))
    assert (shading[:, 0, 1] < 0.1).all()
    assert not shading[:, 0, 2].any()
