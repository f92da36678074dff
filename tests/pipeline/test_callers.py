"""What callers do with the Python API: copies, wrong options, and another default precision."""

import copy
import dataclasses
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lifemask
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.reconstructor import FaceReconstructor


def test_a_pickled_face_is_small_and_the_same(face: FaceReconstruction) -> None:
    data = pickle.dumps(face)
    assert len(data) < 3e6, "with a small texture"
    back, other = pickle.loads(data), pickle.loads(data)
    assert back.model is other.model, "faces share the head that ships"
    np.testing.assert_array_equal(back.photo.pixels, face.photo.pixels)
    np.testing.assert_array_equal(back.texture.pixels(), face.texture.pixels())
    assert torch.equal(back.texture.origin, face.texture.origin)
    assert back.to_json_dict() == face.to_json_dict()
    assert back.observation.segmentation is not None
    torch.testing.assert_close(
        back.observation.segmentation, face.observation.segmentation, atol=5e-4, rtol=0
    )


def test_a_face_with_another_head_is_pickled_with_it(face: FaceReconstruction) -> None:
    model = copy.copy(face.model)
    model.is_pretrained = False
    back = pickle.loads(pickle.dumps(dataclasses.replace(face, model=model)))
    assert torch.equal(back.model.mean, face.model.mean)


def test_copies_share_what_is_large_and_nothing_changes(face: FaceReconstruction) -> None:
    twin = copy.deepcopy(face)
    assert type(twin) is FaceReconstruction
    assert twin.model is face.model
    assert twin.texture is face.texture
    twin.coefficients.identity.zero_()
    assert face.coefficients.identity.abs().max() > 0
    assert copy.copy(face).fit is face.fit


def test_photos_come_from_all_that_callers_have(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = samples / "portrait_1.jpg"
    found: list[np.ndarray] = []

    def observe(_: object, photo: lifemask.Photo, *__: object, **___: object) -> list[object]:
        found.append(photo.pixels)
        return []

    monkeypatch.setattr(FaceReconstructor, "observe", observe)
    parts = object.__new__(FaceReconstructor)
    pixels = lifemask.read_photo(path).pixels
    tensor = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    with path.open("rb") as file, Image.open(path) as image:
        data = path.read_bytes()
        for source in (path, str(path), data, io.BytesIO(data), file, image, pixels, pixels / 255):
            assert parts(source) == []
        assert parts(tensor, layout="CHW") == []
    assert len(found) == 9
    for other in found:
        np.testing.assert_array_equal(other, pixels)


def test_lights_of_callers_are_checked(face: FaceReconstruction) -> None:
    wrong = SphericalHarmonicsLight(torch.full((9, 3), torch.nan))
    for draw in (face.relight, lambda light: face.render(light=light)):
        with pytest.raises(ValueError, match="9 x 3 finite coefficients"):
            draw(wrong)
    with pytest.raises(ValueError, match="only finite numbers"):
        SphericalHarmonicsLight.from_direction(float("nan"), 0.0)
    double = SphericalHarmonicsLight(face.light.coefficients.double())
    assert torch.equal(face.render(light=double).colour, face.render(light=face.light).colour)


def test_the_callers_precision_changes_nothing(
    face: FaceReconstruction, reconstructor: FaceReconstructor
) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        again = reconstructor.reconstruct(face.photo, face.observation)
        assert again.to_json_dict() == face.to_json_dict()
        assert again.preview().dtype == np.uint8
        light = SphericalHarmonicsLight.from_direction(0.5, 0.2)
        assert light.coefficients.dtype == torch.float32
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


OPTIONS = """
import numpy as np
from lifemask import FaceReconstructor, FitConfig, Photo
parts = object.__new__(FaceReconstructor)
photo = Photo(np.zeros((64, 64, 3), np.uint8))
for call in (
    lambda: FitConfig(quality="ultra"),
    lambda: FaceReconstructor.from_pretrained(quality="ultra"),
    lambda: FaceReconstructor.from_pretrained(texture_size=1000),
    lambda: parts(photo, faces="first"),
    lambda: parts(None),
):
    try:
        call()
    except ValueError as error:
        print(error)
"""


def test_unknown_options_are_refused() -> None:
    """In a process of its own, because the tests' type checker would refuse them earlier."""
    done = subprocess.run(
        [sys.executable, "-c", OPTIONS],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(lifemask.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["Got quality='ultra'. Known: fast, full."] * 2
    assert "texture resolution of 1000" in lines[2]
    assert lines[3] == "Got faces='first'. Known: all, largest."
    assert lines[4].startswith("Got NoneType, which is no photo.")
