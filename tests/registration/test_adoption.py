"""Imported models fit photos through the same code as the default head."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lifemask.fitting.config import FitConfig
from lifemask.fitting.fit import FaceFitter
from lifemask.io.images import read_photo
from lifemask.morphable import ARKIT_EXPRESSIONS, MorphableModel
from lifemask.morphable.importers import load_ict
from lifemask.perception import FacePerception
from lifemask.registration.adoption import adopt, arkit_name
from lifemask.registration.surface_landmarks import geometric_median


def test_sides_are_spelled_as_arkit_does() -> None:
    assert arkit_name("mouthSmile_L") == "mouthSmileLeft"
    assert arkit_name("browDown_R") == "browDownRight"
    assert arkit_name("jawOpen") == "jawOpen"


def test_geometric_median_forgets_outliers() -> None:
    points = np.random.default_rng(0).normal(size=(30, 3)) * 0.01
    points[:10] += 5
    middle = geometric_median(points, np.ones(30), iterations=200)
    assert np.linalg.norm(middle) < 0.05
    assert np.linalg.norm(points.mean(0)) > 1


@pytest.mark.timeout(240)
def test_a_fit_with_ict_works_through_the_same_code(shared_data: Path, samples: Path) -> None:
    perception = FacePerception.from_pretrained()
    head = MorphableModel.from_pretrained()
    imported = load_ict(shared_data / "models" / "ict_facekit_light.npz")
    model = adopt(imported, head, perception)
    assert model.expression_names == ARKIT_EXPRESSIONS
    own = imported.expression_basis[imported.expression_names.index("mouthSmile_L")]
    row = ARKIT_EXPRESSIONS.index("mouthSmileLeft")
    torch.testing.assert_close(model.expression_basis[row], torch.from_numpy(own).float())
    photo = next(iter(sorted(samples.glob("*.jpg"))))
    pixels = read_photo(photo).pixels
    observation = perception.observe(pixels, perception.detect(pixels)[0], quality="fast")
    error = FaceFitter(model, FitConfig(quality="fast"))(pixels, observation).landmark_error
    # A share of the face's size. The default head, with landmarks from real portraits, has 0.003.
    assert error < 0.009
