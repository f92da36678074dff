"""Full reconstructions have the relief of the skin that the photo shows, and say how fine it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.reconstructor import FaceReconstructor
from lifemask.pipeline.relief import ReliefEstimator, finest_millimetres, relief_share
from lifemask.systems.registry import load_system


@pytest.fixture(scope="module")
def estimator(face: FaceReconstruction) -> ReliefEstimator:
    return ReliefEstimator(load_system("skin_relief"), face.model)


@pytest.fixture(scope="module")
def smooth(face: FaceReconstruction) -> FaceReconstruction:
    bare = replace(face.fit.face, displacement_map=None, normals=None)
    return replace(face, fit=replace(face.fit, face=bare))


def test_a_full_reconstruction_has_relief_on_its_face_alone(face: FaceReconstruction) -> None:
    relief = face.fit.face.displacement_map
    assert relief is not None
    height = relief.values[0]
    assert 0.00001 < height.square().mean().sqrt() < 0.0005
    arrays = face.arrays()
    changed = np.linalg.norm(arrays["normals"] - arrays["normals_coarse"], axis=-1) > 0.01
    assert 0.2 < changed[arrays["mask"]].mean() < 0.95
    np.testing.assert_array_equal(changed[~arrays["mask"]], False)
    np.testing.assert_allclose(arrays["displacement"], height.numpy())


def test_the_same_photo_gives_the_same_relief(
    estimator: ReliefEstimator, face: FaceReconstruction, smooth: FaceReconstruction
) -> None:
    again = estimator(face.photo.pixels, face.observation, smooth.fit.face)
    assert again.displacement_map is not None
    assert face.fit.face.displacement_map is not None
    assert torch.equal(again.displacement_map.values, face.fit.face.displacement_map.values)


def test_a_face_in_the_corner_of_a_larger_photo_has_the_same_relief(
    estimator: ReliefEstimator, face: FaceReconstruction, smooth: FaceReconstruction
) -> None:
    pixels = face.photo.pixels
    height, width = pixels.shape[:2]
    larger = np.full((height + 90, width + 70, 3), 128, np.uint8)
    larger[90:, 70:] = pixels
    camera = smooth.camera.cropped(-70, -90, (height + 90, width + 70))
    seen = face.observation
    affine = seen.segmentation_to_photo.clone()
    affine[:, 2] += torch.tensor([70.0, 90.0])
    moved = estimator(
        larger,
        replace(seen, segmentation_to_photo=affine),
        replace(smooth.fit.face, camera=camera),
    )
    still = estimator(pixels, seen, smooth.fit.face)
    assert moved.displacement_map is not None
    assert still.displacement_map is not None
    difference = (moved.displacement_map.values - still.displacement_map.values).abs()
    assert difference.mean() < 0.1 * still.displacement_map.values.abs().mean()


def test_a_small_face_has_none_and_says_how_coarse_it_is(
    estimator: ReliefEstimator, face: FaceReconstruction, smooth: FaceReconstruction
) -> None:
    height, width = face.photo.pixels.shape[:2]
    tiny = smooth.camera.cropped(0, 0, (height // 12, width // 12), 1 / 12)
    small = replace(smooth.fit.face, camera=tiny)
    assert relief_share(small, face.model) == 0
    assert relief_share(smooth.fit.face, face.model) == 1
    assert finest_millimetres(small, face.model) > 5 * finest_millimetres(
        smooth.fit.face, face.model
    )
    seen = face.observation
    reduced = replace(
        seen,
        landmarks478=seen.landmarks478 / 12,
        segmentation_to_photo=seen.segmentation_to_photo / 12,
    )
    found = estimator(face.photo.pixels[::12, ::12].copy(), reduced, small)
    assert found.displacement_map is not None
    assert found.displacement_map.values.abs().max() == 0
    assert found.normals is None


def test_the_document_says_how_high_and_how_fine(
    face: FaceReconstruction, smooth: FaceReconstruction
) -> None:
    relief = face.to_json_dict()["relief"]
    assert 0.01 < relief["rms_mm"] < relief["most_mm"] <= 2
    assert relief["finest_mm"] >= 2
    assert relief["range_mm"] == 4
    assert smooth.to_json_dict()["relief"] is None


def test_a_second_stage_is_no_system_to_start_from() -> None:
    with pytest.raises(ValueError, match=r"skin_relief.*refines.*flagship"):
        FaceReconstructor.from_pretrained(system="skin_relief")


def test_fast_reconstructions_are_smooth(reconstructor: FaceReconstructor) -> None:
    assert FaceReconstructor.from_pretrained(quality="fast").stages == ()
    assert any(isinstance(stage, ReliefEstimator) for stage in reconstructor.stages)
