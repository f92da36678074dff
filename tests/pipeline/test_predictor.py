"""A predictor transfers its system's predictions for a crop and its mirror image to the photo."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from lifemask.data.batch import FaceBatch
from lifemask.data.mirroring import mirror478
from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.rotations import matrix_from_yaw_pitch_roll
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.io.images import read_photo
from lifemask.morphable.averaging import average_faces
from lifemask.morphable.explained_face import ExplainedFace, PredictedLandmarks
from lifemask.morphable.model import MorphableModel
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.framing import FaceFrame, crop_points, face_frame
from lifemask.perception.observation import FaceObservation
from lifemask.pipeline.predictor import (
    SystemPredictor,
    face_in_photo,
    frame_change,
    whole_photo_frame,
)
from lifemask.rendering.depth import depth_normals
from lifemask.rendering.rasterization import rasterize
from lifemask.systems.direct_regression import DirectRegression
from lifemask.training.system import FramedFaces, Losses, System


@pytest.fixture(scope="module")
def seen(samples: Path) -> tuple[np.ndarray, FaceObservation]:
    pixels = read_photo(samples / "portrait_1.jpg").pixels
    perception = FacePerception.from_pretrained()
    return pixels, perception.observe(pixels, perception.detect(pixels)[0], quality="fast")


@pytest.fixture(scope="module")
def system() -> DirectRegression:
    return DirectRegression.build(crop_size=96, input_size=128, hidden=16, pretrained=False)


def test_an_untrained_predictor_puts_the_mean_face_into_the_frame(
    seen: tuple[np.ndarray, FaceObservation], system: DirectRegression
):
    pixels, observation = seen
    predictor = SystemPredictor(system, system.model)
    estimate = predictor(pixels, observation)
    frame = face_frame(observation.landmarks478)
    points = crop_points(predictor.dense_points(estimate), frame, 96)
    low, high = points[:468].amin(0), points[:468].amax(0)
    torch.testing.assert_close((low + high) / 2, torch.full((2,), 48.0), atol=1.5, rtol=0)
    assert float((high - low).max()) == pytest.approx(96 / 1.5, rel=0.03)
    assert estimate.camera.image_size == pixels.shape[:2]
    torch.testing.assert_close(estimate.camera.principal_point, frame.centre)


def test_a_mirrored_photo_gives_the_mirrored_face(
    seen: tuple[np.ndarray, FaceObservation], system: DirectRegression
):
    pixels, observation = seen
    talking = copy.deepcopy(system)
    torch.nn.init.normal_(
        talking.head.outputs.weight, std=0.02, generator=torch.Generator().manual_seed(0)
    )
    predictor = SystemPredictor(talking, system.model)
    height, width = pixels.shape[:2]
    frame = FaceFrame(
        torch.tensor([width * 0.45, height * 0.4]), torch.tensor(300.0), torch.tensor(0.1)
    )
    opposite = FaceFrame(
        torch.stack([width - frame.centre[0], frame.centre[1]]), frame.side, -frame.roll
    )
    flipped = np.ascontiguousarray(pixels[:, ::-1])
    with torch.no_grad():
        ahead, mirrored = predictor.predict_frame(pixels, frame, observation)
        other, back = predictor.predict_frame(flipped, opposite, observation)
    # The crop of a flipped photo is the flipped crop, so the network saw the same four pictures.
    for one, two in ((ahead, back), (mirrored, other)):
        points, twins = predictor.dense_points(one), predictor.dense_points(two)
        twins = torch.stack([width - twins[:, 0], twins[:, 1]], -1)[mirror478()]
        assert float((points - twins).norm(dim=-1).median()) < 0.01 * float(frame.side)
        torch.testing.assert_close(
            one.light.coefficients[[3, 4, 7]], -two.light.coefficients[[3, 4, 7]], atol=2e-2, rtol=0
        )


def test_the_mean_of_estimates_is_seen_where_they_are(system: DirectRegression):
    def seen_at(x: float, yaw: float) -> ExplainedFace:
        turn = matrix_from_yaw_pitch_roll(torch.tensor(yaw), torch.tensor(0.0), torch.tensor(0.0))
        frontal = torch.tensor(FRONTAL_HEAD_TO_CAMERA)
        camera = PerspectiveCamera(
            torch.tensor(500.0),
            torch.tensor([50.0, 50.0]),
            rigid_transform(frontal @ turn, torch.tensor([x, 0.0, 1.0])),
            (100, 100),
        )
        return ExplainedFace(system.model.neutral(), camera, SphericalHarmonicsLight.ambient())

    def yaw_of(estimate: ExplainedFace) -> float:
        frontal = torch.tensor(FRONTAL_HEAD_TO_CAMERA)
        rotation = frontal.T @ viewpoint_of(estimate.camera).rotation
        return float(torch.atan2(rotation[0, 2], rotation[2, 2]))

    both = joined(
        [map_tensors(lambda t: t[None], seen_at(x, yaw)) for x, yaw in ((0, 0.2), (0, 0.6))]
    )
    even = average_faces(both, torch.tensor([2.0, 2.0]))
    assert yaw_of(even) == pytest.approx(0.4, abs=1e-3)
    leaning = average_faces(both, torch.tensor([3.0, 1.0]))
    assert 0.29 < yaw_of(leaning) < 0.31
    beside = joined([map_tensors(lambda t: t[None], seen_at(x, 0.0)) for x in (-0.02, 0.04)])
    place = viewpoint_of(average_faces(beside, torch.ones(2)).camera).translation
    torch.testing.assert_close(place, torch.tensor([55.0, 50.0]), atol=0.05, rtol=0)


def test_the_light_stays_where_it_is_when_the_frame_is_rolled(
    seen: tuple[np.ndarray, FaceObservation], system: DirectRegression
):
    pixels, observation = seen

    class LitFromAbove(System):
        name = "lit_from_above"
        phases: ClassVar = {}
        crop_size = 96

        def __init__(self) -> None:
            super().__init__()
            self.inner = system

        def forward(self, faces: FramedFaces) -> ExplainedFace:
            face = self.inner(faces)
            light = torch.zeros_like(face.light.coefficients)
            light[..., 1, :] = 1.0
            return replace(face, light=SphericalHarmonicsLight(light))

        def losses(self, phase: str, batches: Sequence[FaceBatch]) -> list[Losses]:
            raise NotImplementedError

    # A photo on its side: the frame turns along, and so does "above".
    quarter = np.ascontiguousarray(np.rot90(pixels))
    x, y, z = observation.landmarks478.unbind(-1)
    turned = torch.stack([y, pixels.shape[1] - x, z], dim=-1)
    on_its_side = type(observation)(**{**vars(observation), "landmarks478": turned})
    predictor = SystemPredictor(LitFromAbove(), MorphableModel.from_pretrained())
    upright = predictor(pixels, observation).light.coefficients[:, 0]
    rolled = predictor(quarter, on_its_side).light.coefficients[:, 0]
    # Harmonics 1 and 3 are y and x: up has become left.
    assert float(upright[1]) == pytest.approx(1.0, abs=0.02)
    assert float(rolled[3]) == pytest.approx(-float(upright[1]), abs=1e-3)
    assert isinstance(predictor(quarter, on_its_side).camera, PerspectiveCamera)


def test_a_face_that_fills_the_photo_is_found_though_its_landmarks_are_elsewhere(
    seen: tuple[np.ndarray, FaceObservation], system: DirectRegression
):
    pixels, observation = seen
    # An untrained system always predicts a face in its frame: the whole photo's is as good as any.
    whole = whole_photo_frame(*pixels.shape[:2])
    points = observation.landmarks478
    lost = type(observation)(
        **{**vars(observation), "landmarks478": points * 0.01 - 5000.0, "score": 0.0}
    )
    predictor = SystemPredictor(system, system.model)

    def astray(estimate: ExplainedFace) -> ExplainedFace:
        motion = estimate.camera.world_to_camera.clone()
        motion[0, 3] += 0.1
        return replace(estimate, camera=replace(estimate.camera, world_to_camera=motion))

    def predict_frame(
        pixels: np.ndarray, frame: FaceFrame, observation: FaceObservation
    ) -> tuple[ExplainedFace, ExplainedFace]:
        ahead, mirrored = SystemPredictor.predict_frame(predictor, pixels, frame, observation)
        # Where nobody is the prediction strays.
        nobody = float(frame.centre.min()) < 0
        return (astray(ahead), astray(mirrored)) if nobody else (ahead, mirrored)

    object.__setattr__(predictor, "predict_frame", predict_frame)
    frame = face_frame(predictor.dense_points(predictor(pixels, lost)))
    assert frame_change(whole, frame) < 0.1


def test_the_change_between_frames_counts_shift_scale_and_turn():
    def frame(x: float, side: float, roll: float) -> FaceFrame:
        return FaceFrame(torch.tensor([x, 0.0]), torch.tensor(side), torch.tensor(roll))

    first = frame(0.0, 100.0, 3.1)
    assert frame_change(first, first) == 0.0
    assert frame_change(first, frame(10.0, 100.0, 3.1)) == pytest.approx(0.1)
    assert frame_change(first, frame(0.0, 50.0, 3.1)) == pytest.approx(0.6931, abs=1e-3)
    # Around the back of the circle.
    assert frame_change(first, frame(0.0, 100.0, -3.1)) == pytest.approx(0.0832, abs=1e-3)


def test_depth_and_landmarks_of_a_crop_are_those_of_the_photo(system: DirectRegression):
    """A plane has the same place and depth in the crop's camera and in the photo's camera."""
    size, height, width = 64, 300, 400
    frame = FaceFrame(torch.tensor([150.0, 120.0]), torch.tensor(128.0), torch.tensor(0.3))
    face = system(FramedFaces(torch.zeros(1, 3, 96, 96)))[0].detach()
    camera = replace(
        face.camera,
        principal_point=face.camera.principal_point * size / 96,
        focal_pixels=face.camera.focal_pixels * size / 96,
        image_size=(size, size),
    )
    vertices = system.model.vertices(face.coefficients)
    drawn = rasterize(camera.project(vertices), system.model.triangles, (size, size))
    points = torch.rand(478, 2, generator=torch.Generator().manual_seed(0)) * size
    crop = replace(
        face,
        camera=camera,
        depth=drawn.depth * drawn.mask,
        landmarks=PredictedLandmarks(points, torch.full((478,), 2.0)),
    )
    photo = face_in_photo(crop, frame, size, (height, width))
    direct = rasterize(photo.camera.project(vertices), system.model.triangles, (height, width))
    assert photo.depth is not None
    both = (photo.depth > 0) & direct.mask
    assert float(both.float().mean()) > 0.03
    assert float((photo.depth - direct.depth)[both].abs().median()) < 1e-3
    assert photo.landmarks is not None
    torch.testing.assert_close(crop_points(photo.landmarks.points, frame, size), points)
    torch.testing.assert_close(photo.landmarks.sigma, torch.full((478,), 4.0))


def test_the_depth_of_a_crop_stays_a_plane_in_a_larger_photo(system: DirectRegression):
    """Eight photo pixels show one pixel of the crop; steps between them would be slopes."""
    size, side = 32, 256
    frame = FaceFrame(
        torch.tensor([side / 2, side / 2]), torch.tensor(float(side)), torch.tensor(0.0)
    )
    face = system(FramedFaces(torch.zeros(1, 3, 96, 96)))[0].detach()
    camera = replace(
        face.camera,
        principal_point=torch.full((2,), size / 2),
        focal_pixels=face.camera.focal_pixels * size / 96,
        image_size=(size, size),
    )
    # A plane that is turned about the vertical: 1 / depth is linear in the image.
    columns = (torch.arange(size) + 0.5 - size / 2) / camera.focal_pixels
    depth = (0.9 / (1 + 0.5 * columns)).expand(size, size)
    photo = face_in_photo(replace(face, camera=camera, depth=depth), frame, size, (side, side))
    assert photo.depth is not None
    normals = depth_normals(photo.depth, photo.camera)[:, 16:-16, 16:-16]
    middle = normals.mean((1, 2), keepdim=True)
    assert float(middle.norm()) > 0.99
    assert float((normals - middle).norm(dim=0).max()) < 0.02
