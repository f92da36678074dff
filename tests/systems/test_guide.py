"""A guide says of the whole photo what its system says of the crop, as it is and in a mirror."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.data.batch import FaceBatch
from lifemask.data.mirroring import mirror478
from lifemask.geometry.cameras import FRONTAL_HEAD_TO_CAMERA, PerspectiveCamera, rigid_transform
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.rotations import matrix_from_yaw_pitch_roll
from lifemask.geometry.tensors import joined, map_tensors
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.io.images import read_photo
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.networks.estimate import mean_estimate
from lifemask.perception.face_perception import FacePerception
from lifemask.perception.framing import FaceFrame, crop_points, face_frame
from lifemask.perception.observation import FaceObservation
from lifemask.systems.direct_regression import DirectRegression
from lifemask.systems.guide import SystemGuide, frame_change, whole_photo_frame
from lifemask.systems.system import System


@pytest.fixture(scope="module")
def seen(samples: Path) -> tuple[np.ndarray, FaceObservation]:
    pixels = read_photo(samples / "portrait_1.jpg").pixels
    perception = FacePerception.from_pretrained()
    return pixels, perception.observe(pixels, perception.detect(pixels)[0], quality="fast")


@pytest.fixture(scope="module")
def system() -> DirectRegression:
    return DirectRegression.build(crop_size=96, input_size=128, hidden=16, pretrained=False)


def test_an_untrained_guide_puts_the_mean_face_into_the_frame(
    seen: tuple[np.ndarray, FaceObservation], system: DirectRegression
):
    pixels, observation = seen
    guide = SystemGuide(system, system.model)
    estimate = guide(pixels, observation)
    frame = face_frame(observation.landmarks478)
    points = crop_points(guide.dense_points(estimate), frame, 96)
    low, high = points[:468].amin(0), points[:468].amax(0)
    torch.testing.assert_close((low + high) / 2, torch.full((2,), 48.0), atol=1.5, rtol=0)
    assert float((high - low).max()) == pytest.approx(96 / 1.5, rel=0.03)
    assert estimate.camera.image_size == pixels.shape[:2]
    middle = torch.tensor([pixels.shape[1] / 2, pixels.shape[0] / 2])
    torch.testing.assert_close(estimate.camera.principal_point, middle)


def test_a_mirrored_photo_gives_the_mirrored_face(
    seen: tuple[np.ndarray, FaceObservation], system: DirectRegression
):
    pixels, _ = seen
    talking = copy.deepcopy(system)
    torch.nn.init.normal_(
        talking.regressor.heads.weight, std=0.02, generator=torch.Generator().manual_seed(0)
    )
    guide = SystemGuide(talking, system.model)
    height, width = pixels.shape[:2]
    frame = FaceFrame(
        torch.tensor([width * 0.45, height * 0.4]), torch.tensor(300.0), torch.tensor(0.1)
    )
    opposite = FaceFrame(
        torch.stack([width - frame.centre[0], frame.centre[1]]), frame.side, -frame.roll
    )
    flipped = np.ascontiguousarray(pixels[:, ::-1])
    with torch.no_grad():
        ahead, mirrored = guide.look(pixels, frame)
        other, back = guide.look(flipped, opposite)
    # The crop of a flipped photo is the flipped crop, so the network saw the same four pictures.
    for one, two in ((ahead, back), (mirrored, other)):
        points, twins = guide.dense_points(one), guide.dense_points(two)
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
    even = mean_estimate(both, torch.tensor([2.0, 2.0]))
    assert yaw_of(even) == pytest.approx(0.4, abs=1e-3)
    leaning = mean_estimate(both, torch.tensor([3.0, 1.0]))
    assert 0.29 < yaw_of(leaning) < 0.31
    beside = joined([map_tensors(lambda t: t[None], seen_at(x, 0.0)) for x in (-0.02, 0.04)])
    place = viewpoint_of(mean_estimate(beside, torch.ones(2)).camera).translation
    torch.testing.assert_close(place, torch.tensor([55.0, 50.0]), atol=0.05, rtol=0)


def test_the_light_stays_where_it_is_when_the_frame_is_rolled(
    seen: tuple[np.ndarray, FaceObservation], system: DirectRegression
):
    pixels, observation = seen

    class LitFromAbove(System):
        name = "lit_from_above"
        loss_names = ()
        crop_size = 96

        def __init__(self) -> None:
            super().__init__()
            self.inner = system

        def forward(self, photo: Float[Tensor, "*batch 3 S S"]) -> ExplainedFace:
            estimate = self.inner(photo)
            light = torch.zeros_like(estimate.light.coefficients)
            light[..., 1, :] = 1.0
            return ExplainedFace(
                estimate.coefficients, estimate.camera, SphericalHarmonicsLight(light)
            )

        def losses(
            self, batch: FaceBatch, estimate: ExplainedFace
        ) -> dict[str, Float[Tensor, "*batch"]]:
            return {}

        def draw(
            self, batch: FaceBatch, estimate: ExplainedFace
        ) -> Float[Tensor, "*batch panels 3 S S"]:
            raise NotImplementedError

    # A photo on its side: the frame turns along, and so does "above".
    quarter = np.ascontiguousarray(np.rot90(pixels))
    x, y, z = observation.landmarks478.unbind(-1)
    turned = torch.stack([y, pixels.shape[1] - x, z], dim=-1)
    on_its_side = type(observation)(**{**vars(observation), "landmarks478": turned})
    guide = SystemGuide(LitFromAbove(), MorphableModel.from_pretrained())
    upright = guide(pixels, observation).light.coefficients[:, 0]
    rolled = guide(quarter, on_its_side).light.coefficients[:, 0]
    # Harmonics 1 and 3 are y and x: up has become left.
    assert float(upright[1]) == pytest.approx(1.0, abs=0.02)
    assert float(rolled[3]) == pytest.approx(-float(upright[1]), abs=1e-3)
    assert isinstance(guide(quarter, on_its_side).camera, PerspectiveCamera)


def test_a_face_that_fills_the_photo_is_found_though_its_landmarks_are_elsewhere(
    seen: tuple[np.ndarray, FaceObservation], system: DirectRegression
):
    pixels, observation = seen
    # An untrained system always answers with its frame: the whole photo's is as good as any.
    whole = whole_photo_frame(*pixels.shape[:2])
    points = observation.landmarks478
    lost = type(observation)(
        **{**vars(observation), "landmarks478": points * 0.01 - 5000.0, "score": 0.0}
    )
    guide = SystemGuide(system, system.model)

    def astray(estimate: ExplainedFace) -> ExplainedFace:
        motion = estimate.camera.world_to_camera.clone()
        motion[0, 3] += 0.1
        return replace(estimate, camera=replace(estimate.camera, world_to_camera=motion))

    def looking(pixels: np.ndarray, frame: FaceFrame) -> tuple[ExplainedFace, ExplainedFace]:
        ahead, mirrored = SystemGuide.look(guide, pixels, frame)
        # Where nobody is the answer strays.
        nobody = float(frame.centre.min()) < 0
        return (astray(ahead), astray(mirrored)) if nobody else (ahead, mirrored)

    object.__setattr__(guide, "look", looking)
    frame = face_frame(guide.dense_points(guide(pixels, lost)))
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
