"""Relighting a photo changes only what depends on light."""

import dataclasses

import numpy as np
import pytest
import torch

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
