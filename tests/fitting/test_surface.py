"""The samples of the model that are compared with the photo, and their visibility."""

import dataclasses

import pytest
import torch

from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.fitting.landmark_fit import PoseAndShape
from lifemask.fitting.photometric import SurfacePatch
from lifemask.fitting.surface import (
    photo_crop,
    surface_patch,
    visibility,
)
from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.io.colour import image_from_pixels
from lifemask.pipeline.reconstruction import FaceReconstruction

MODES = 80


@pytest.fixture(scope="module")
def patch(face: FaceReconstruction) -> SurfacePatch:
    return surface_patch(face.model, MODES)


def state_of(face: FaceReconstruction, *, turned_radians: float = 0.0) -> PoseAndShape:
    """Return the fitted pose and shape, with the head rotated about its own vertical axis."""
    pose = face.camera.world_to_camera.double()
    turn = matrix_from_rotation_vector(torch.tensor([0.0, turned_radians, 0.0]).double())
    coefficients = torch.cat([face.coefficients.identity[:MODES], face.coefficients.expression])
    return PoseAndShape(
        pose[:3, :3] @ turn, pose[:3, 3], float(face.camera.focal_pixels), coefficients.double()
    )


def test_samples_are_skin_of_the_face(face: FaceReconstruction, patch: SurfacePatch) -> None:
    samples, regions = patch.vertex_index[: patch.samples], face.model.regions
    torch.testing.assert_close(patch.points.mean, face.model.mean[patch.vertex_index])
    assert regions["face"][samples].min() > 0.3
    for hidden in ("teeth", "tongue", "mouth_bag", "lashes", "eyeball_left", "eyeball_right"):
        assert regions[hidden][samples].max() < 0.7
    assert patch.weight.min() > 0.3
    assert patch.weight.max() <= 1


def test_every_triangle_of_a_sample_is_kept(face: FaceReconstruction, patch: SurfacePatch) -> None:
    samples = set(patch.vertex_index[: patch.samples].tolist())
    around = [t for t in face.model.triangles.tolist() if samples & set(t)]
    assert patch.vertex_index[patch.triangles].tolist() == around


def test_samples_that_turn_away_are_not_seen(face: FaceReconstruction, patch: SurfacePatch) -> None:
    everywhere = dataclasses.replace(face.observation, segmentation=None)
    seen = {
        turned: visibility(
            state_of(face, turned_radians=turned),
            patch,
            face.model,
            everywhere,
            face.camera.principal_point.double(),
        )
        for turned in (0.0, 1.2, -1.2)
    }
    left = patch.points.mean[: patch.samples, 0] > 0.03
    right = patch.points.mean[: patch.samples, 0] < -0.03
    assert seen[0.0][left].mean() > 0.5
    assert seen[0.0][right].mean() > 0.5
    # A positive rotation brings +z towards +x: the subject looks to its left and shows its right.
    assert seen[1.2][right].mean() > 0.8
    assert seen[1.2][left].mean() < 0.2
    assert seen[-1.2][left].mean() > 0.8
    assert seen[-1.2][right].mean() < 0.2
    for share in seen.values():
        assert share.min() >= 0
        assert share.max() <= 1


def test_the_crop_shows_the_same_colours(face: FaceReconstruction, patch: SurfacePatch) -> None:
    centre = face.camera.principal_point.double()
    crop = photo_crop(face.photo.pixels, state_of(face), patch, centre)
    assert crop.scale <= 1
    x, y = (torch.tensor([320.0, 300.0]) - torch.tensor(crop.corner)) * crop.scale
    photo = image_from_pixels(face.photo.pixels)[:, 296:304, 316:324].mean((1, 2))
    around = crop.linear[:, int(y) - 2 : int(y) + 2, int(x) - 2 : int(x) + 2].mean((1, 2))
    torch.testing.assert_close(around, photo, atol=0.03, rtol=0.1)


def test_a_face_of_which_no_skin_is_seen_is_fitted_in_the_usual_light(
    face: FaceReconstruction,
) -> None:
    seen = face.observation
    assert seen.segmentation is not None
    hidden = torch.zeros_like(seen.segmentation)
    hidden[5] = 1
    fitter = FaceFitter(face.model, FitConfig.preset("fast"))
    fit = fitter(face.photo.pixels, dataclasses.replace(seen, segmentation=hidden))
    shading = fit.face.light.coefficients
    assert bool(torch.isfinite(shading).all())
    # White, and as strong as cameras expose faces.
    torch.testing.assert_close(
        shading, shading.mean(1, keepdim=True).expand(9, 3), atol=0.01, rtol=0
    )
    assert 1.0 < float(shading[0, 0]) < 4.0
    assert not fit.face.coefficients.albedo.abs().gt(0.05).any()
