"""Relighting a photo changes only what depends on light."""

import dataclasses

import numpy as np
import pytest
import torch

from lifemask.geometry.environments import Environment
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.io.colour import image_from_pixels
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.relighting import relit_photo


def test_the_photos_own_light_gives_the_photo(face: FaceReconstruction) -> None:
    relit = relit_photo(face, face.light).astype(int)
    assert np.abs(relit - face.photo.pixels).max() <= 1


def test_half_the_light_gives_half_the_photo(face: FaceReconstruction) -> None:
    half = SphericalHarmonicsLight(face.light.coefficients / 2)
    relit = image_from_pixels(relit_photo(face, half))
    torch.testing.assert_close(
        relit, image_from_pixels(face.photo.pixels) / 2, atol=0.004, rtol=0.02
    )


def test_in_the_environment_of_its_own_light_the_photo_stays(face: FaceReconstruction) -> None:
    relit = relit_photo(face, Environment.from_harmonics(face.light)).astype(int)
    assert np.abs(relit - face.photo.pixels).max() <= 1


def test_the_chin_shades_the_neck(face: FaceReconstruction) -> None:
    """Under a lamp above, the neck loses more light in an environment than without shadows."""
    lamp = Environment.from_lamp(0.0, 1.0, ambient=0.1)
    free, hidden = (
        image_from_pixels(relit_photo(face, light)).mean(0) for light in (lamp.light, lamp)
    )
    neck = face.model.regions["neck"] > 0.5
    x, y, _ = face.camera.project(face.mesh.vertices[neck]).T
    height, width = face.photo.image_size
    seen = (x > 0) & (x < width) & (y > 0) & (y < height)
    at_neck = y[seen].long(), x[seen].long()
    assert hidden[at_neck].mean() < 0.95 * free[at_neck].mean()


@pytest.mark.parametrize("side", [-1, 1])
def test_a_lamp_brightens_its_side_of_the_face(face: FaceReconstruction, side: int) -> None:
    lamp = SphericalHarmonicsLight.from_direction(side * 1.2, 0.0)
    relit = image_from_pixels(relit_photo(face, lamp)).mean(0)
    photo = image_from_pixels(face.photo.pixels).mean(0)
    drawn = face.render()
    ratio = relit / photo.clamp(min=0.01)
    left, right = (
        ratio[(drawn.normals[0] * sign > 0.6) & (photo > 0.02)].median() for sign in (-1, 1)
    )
    assert (right / left) ** side > 1.5


def test_the_surroundings_keep_their_contrast(face: FaceReconstruction) -> None:
    """Far from the head all pixels of a channel are multiplied by nearly the same number."""
    grey = dataclasses.replace(face.photo, pixels=np.full_like(face.photo.pixels, 128))
    lamp = SphericalHarmonicsLight.from_direction(0.8, 0.2)
    relit = relit_photo(dataclasses.replace(face, photo=grey), lamp)
    corners = relit[:20, :20].reshape(-1, 3), relit[:20, -20:].reshape(-1, 3)
    for corner in corners:
        assert corner.std(0).max() < 3


def test_the_method_returns_an_image_of_the_photos_size(face: FaceReconstruction) -> None:
    height, width = face.photo.pixels.shape[:2]
    assert face.relight(SphericalHarmonicsLight.ambient()).size == (width, height)
