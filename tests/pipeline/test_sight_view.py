"""A view along the line of sight shows what a camera in the same place would show."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight, light_axes_from_camera
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks
from lifemask.perception.observation import FaceObservation
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.pipeline.sight_view import SightView, sight_view

FOCAL, HEIGHT, WIDTH = 300.0, 340, 620


def colours(rays: np.ndarray) -> np.ndarray:
    """Return the colour of a smooth world far away in each direction, sRGB 0 to 255."""
    unit = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    waves = np.stack([np.sin(9 * unit[..., 0]), np.sin(11 * unit[..., 1]), unit[..., 2]], -1)
    return 128 + 100 * waves


def rays_of(size: tuple[int, int], focal: float) -> np.ndarray:
    """Return the directions of all pixels of a camera, in its axes."""
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    x, y = (columns - size[1] / 2) / focal, (rows - size[0] / 2) / focal
    return np.stack([x, y, np.ones_like(x)], -1)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return colours(rays_of((HEIGHT, WIDTH), FOCAL)).round().astype(np.uint8)


def observation_at(
    face: FaceReconstruction, middle: tuple[float, float], side: float
) -> FaceObservation:
    """Return the observation of a portrait, moved to another place and size."""
    seen = face.observation
    box = seen.landmarks478[:468, :2]
    low, high = box.amin(0), box.amax(0)
    scale = side / float((high - low).max())
    shift = torch.tensor(middle) - (low + high) / 2 * scale
    return dataclasses.replace(
        seen,
        landmarks478=seen.landmarks478 * scale + torch.cat([shift, torch.zeros(1)]),
        box_xyxy=seen.box_xyxy * scale + shift.repeat(2),
        keypoints5=seen.keypoints5 * scale + shift,
    )


@pytest.fixture(scope="module")
def view(face: FaceReconstruction, photo: np.ndarray) -> SightView:
    view = sight_view(photo, observation_at(face, (520.0, 260.0), 60.0), FOCAL)
    assert view is not None
    return view


def test_the_view_shows_the_world_as_its_camera_would(view: SightView) -> None:
    rays = rays_of(view.pixels.shape[:2], view.focal_pixels) @ view.rotation.numpy().T
    expected = colours(rays)
    inside = view.photo_points(
        torch.from_numpy(rays_of(view.pixels.shape[:2], 1.0)[..., :2]).flatten(0, 1).float()
        + len(view.pixels) / 2
    )
    seen = ((inside > 1) & (inside < torch.tensor([WIDTH - 1.0, HEIGHT - 1.0]))).all(-1)
    error = np.abs(view.pixels - expected).reshape(-1, 3)[seen.numpy()]
    assert seen.float().mean() > 0.8
    assert error.max() < 2


def test_points_go_to_the_view_and_back(view: SightView) -> None:
    points = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) * 150 + 400
    torch.testing.assert_close(
        view.photo_points(view.view_points(points)), points, atol=1e-2, rtol=0
    )
    middle = torch.full((1, 2), len(view.pixels) / 2)
    torch.testing.assert_close(
        view.photo_points(middle), torch.tensor([[520.0, 260.0]]), atol=3.0, rtol=0
    )


def test_a_face_of_the_view_is_seen_at_the_same_place_in_the_photo(
    face: FaceReconstruction, view: SightView
) -> None:
    size = len(view.pixels)
    camera = PerspectiveCamera(
        torch.tensor(view.focal_pixels),
        torch.full((2,), size / 2),
        rigid_transform(torch.tensor(FRONTAL_HEAD_TO_CAMERA), torch.tensor([0.02, -0.01, 0.8])),
        (size, size),
    )
    light = SphericalHarmonicsLight.from_direction(0.7, 0.2)
    landmarks = PredictedLandmarks(torch.rand(478, 2) * size, torch.ones(478))
    seen = ExplainedFace(face.coefficients, camera, light, landmarks=landmarks)
    moved = view.face_in_photo(seen)
    head = face.model.vertices(face.coefficients)
    expected = view.photo_points(camera.project(head)[:, :2])
    torch.testing.assert_close(moved.camera.project(head)[:, :2], expected, atol=0.01, rtol=0)
    assert moved.camera.image_size == (HEIGHT, WIDTH)
    assert float(moved.camera.focal_pixels) == pytest.approx(FOCAL, rel=1e-6)
    # The lamp stays where it is: the same normals of the head are lit.
    normals = torch.eye(3)
    shaded = [
        found.light.shade(light_axes_from_camera(normals @ found.camera.world_to_camera[:3, :3].T))
        for found in (seen, moved)
    ]
    torch.testing.assert_close(*shaded, atol=1e-4, rtol=0)
    assert moved.landmarks is not None
    torch.testing.assert_close(moved.landmarks.points, view.photo_points(landmarks.points))


def test_the_detection_of_the_view_lies_around_the_face(
    face: FaceReconstruction, view: SightView
) -> None:
    seen = observation_at(face, (520.0, 260.0), 60.0)
    found = view.detection(seen)
    points = view.view_points(seen.landmarks478[:468, :2])
    inside = (points >= found.box_xyxy[:2] - 5) & (points <= found.box_xyxy[2:] + 5)
    assert inside.float().mean() > 0.9
    # Of all eyes, noses and mouths, those of this face: near their landmarks.
    nose = points[1]
    assert float((found.keypoints5[2] - nose).norm()) < 0.1 * float(points.amax() - points.amin())


def test_faces_near_the_middle_need_no_view(face: FaceReconstruction, photo: np.ndarray) -> None:
    beside = WIDTH / 2 + FOCAL * math.tan(math.radians(7))
    assert sight_view(photo, observation_at(face, (beside, HEIGHT / 2), 40.0), FOCAL) is None


def test_a_focal_length_much_too_short_gives_no_view(
    face: FaceReconstruction, photo: np.ndarray
) -> None:
    seen = observation_at(face, (330.0, 170.0), 120.0)
    assert sight_view(photo, seen, 80.0) is not None
    assert sight_view(photo, seen, 8.0) is None
