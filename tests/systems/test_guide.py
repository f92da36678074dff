"""A guide says of the whole photo what its system says of the crop, and looks again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.data.batch import FaceBatch
from lifemask.geometry.cameras import PerspectiveCamera
from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.geometry.viewpoints import viewpoint_of
from lifemask.io.images import read_photo
from lifemask.morphable.model import MorphableModel
from lifemask.networks.estimate import FaceEstimate
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
    guide = SystemGuide(system, system.model, looks=1)
    estimate = guide(pixels, observation)
    frame = face_frame(observation.landmarks478)
    points = crop_points(guide.dense_points(estimate), frame, 96)
    low, high = points[:468].amin(0), points[:468].amax(0)
    torch.testing.assert_close((low + high) / 2, torch.full((2,), 48.0), atol=1.5, rtol=0)
    assert float((high - low).max()) == pytest.approx(96 / 1.5, rel=0.03)
    assert estimate.camera.image_size == pixels.shape[:2]
    middle = torch.tensor([pixels.shape[1] / 2, pixels.shape[0] / 2])
    torch.testing.assert_close(estimate.camera.principal_point, middle)


def test_looking_again_at_what_fits_the_frame_changes_little(
    seen: tuple[np.ndarray, FaceObservation], system: DirectRegression
):
    pixels, observation = seen
    once = SystemGuide(system, system.model, looks=1)(pixels, observation)
    again = SystemGuide(system, system.model, looks=3)(pixels, observation)
    first, last = viewpoint_of(once.camera), viewpoint_of(again.camera)
    size = float(first.pixels_per_metre) * 0.2
    assert float((first.place - last.place).norm()) < 0.03 * size
    assert float(last.pixels_per_metre / first.pixels_per_metre) == pytest.approx(1, abs=0.03)


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

        def forward(self, photo: Float[Tensor, "*batch 3 S S"]) -> FaceEstimate:
            estimate = self.inner(photo)
            light = torch.zeros_like(estimate.light.coefficients)
            light[..., 1, :] = 1.0
            return FaceEstimate(
                estimate.coefficients, estimate.camera, SphericalHarmonicsLight(light)
            )

        def losses(
            self, batch: FaceBatch, estimate: FaceEstimate
        ) -> dict[str, Float[Tensor, "*batch"]]:
            return {}

        def draw(
            self, batch: FaceBatch, estimate: FaceEstimate
        ) -> Float[Tensor, "*batch panels 3 S S"]:
            raise NotImplementedError

    # A photo on its side: the frame turns along, and so does "above".
    quarter = np.ascontiguousarray(np.rot90(pixels))
    x, y, z = observation.landmarks478.unbind(-1)
    turned = torch.stack([y, pixels.shape[1] - x, z], dim=-1)
    on_its_side = type(observation)(**{**vars(observation), "landmarks478": turned})
    guide = SystemGuide(LitFromAbove(), MorphableModel.from_pretrained(), looks=1)
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

    def looking(pixels: np.ndarray, frame: FaceFrame) -> FaceEstimate:
        estimate = SystemGuide._look(guide, pixels, frame)
        if float(frame.centre.min()) < 0:
            # Nobody is there: the answer strays.
            motion = estimate.camera.world_to_camera.clone()
            motion[0, 3] += 0.1
            camera = PerspectiveCamera(
                estimate.camera.focal_pixels, estimate.camera.principal_point, motion,
                estimate.camera.image_size,
            )  # fmt: skip
            return FaceEstimate(estimate.coefficients, camera, estimate.light)
        return estimate

    object.__setattr__(guide, "_look", looking)
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
