"""Typology angles of known colours, and errors of albedo that keep the scale."""

import numpy as np
import pytest
import torch

from lifemask.evaluation.metrics.skin_tone import log_albedo_rms, typology_angle
from lifemask.io.colour import linear_from_srgb


def angle_of(*srgb: int) -> float:
    return typology_angle(linear_from_srgb(torch.tensor(srgb) / 255).numpy())


def test_angles_of_known_colours() -> None:
    # The two skins of the ColorChecker chart: L* 65.7, b* 17.8, and L* 38.0, b* 14.1.
    assert angle_of(194, 150, 130) == pytest.approx(41.4, abs=2)
    assert angle_of(115, 82, 68) == pytest.approx(-40.4, abs=2)


def test_darker_skin_has_a_smaller_angle() -> None:
    light = np.array([0.6, 0.4, 0.3])
    angles = [typology_angle(light * factor) for factor in (1, 0.5, 0.25, 0.1)]
    assert angles == sorted(angles, reverse=True)


def test_the_log_error_has_no_free_scale() -> None:
    true = np.full((4, 4, 3), 0.2)
    mask = np.ones((4, 4), bool)
    mask[0] = False
    predicted = true * 1.5
    predicted[0] = 0.9
    assert log_albedo_rms(predicted, true, mask) == pytest.approx(np.log(1.5))
