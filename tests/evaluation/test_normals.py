"""Known changes of normals give known angles, correlations and ratios."""

from collections.abc import Callable

import numpy as np
import pytest

from lifemask.evaluation.metrics.individuality import individuality, masked_blur
from lifemask.evaluation.metrics.normal_error import (
    angle_degrees,
    mean_of_others,
    median_normal_angle,
)
from lifemask.evaluation.metrics.normal_stability import (
    changes_with_light,
    difference_between_people,
    stability,
)

People = Callable[[int], tuple[np.ndarray, np.ndarray]]


def random_turns(normals: np.ndarray, degrees: float, *, seed: int = 0) -> np.ndarray:
    """Return unit normals rotated by the same angle, each towards a random direction."""
    generator = np.random.default_rng(seed)
    sideways = generator.normal(size=normals.shape)
    sideways -= (sideways * normals).sum(-1, keepdims=True) * normals
    sideways /= np.linalg.norm(sideways, axis=-1, keepdims=True)
    angle = np.radians(degrees)
    return np.cos(angle) * normals + np.sin(angle) * sideways


def test_normals_turned_by_an_angle_have_that_error(people: People) -> None:
    normals, masks = people(1)
    wrong = random_turns(normals[0], 7.0)
    assert median_normal_angle(wrong, normals[0], masks[0]) == pytest.approx(7, abs=1e-3)
    assert median_normal_angle(3 * wrong, normals[0], masks[0]) == pytest.approx(7, abs=1e-3)


def test_an_empty_pixel_counts_ninety_degrees(people: People) -> None:
    normals, masks = people(1)
    half_empty = normals[0].copy()
    half_empty[: len(half_empty) // 2 + 4] = 0
    assert median_normal_angle(half_empty, normals[0], masks[0]) == 90


def test_mean_of_others_leaves_the_person_out() -> None:
    maps = np.arange(4.0)[:, None, None, None] * np.ones((4, 2, 2, 3))
    masks = np.ones((4, 2, 2), bool)
    masks[3, 0, 0] = False
    mean, enough = mean_of_others(maps, masks)
    np.testing.assert_allclose(mean[0, 1, 1], (1 + 2 + 3) / 3)
    np.testing.assert_allclose(mean[0, 0, 0], (1 + 2) / 2)
    assert enough.all()
    masks[1:, 0, 0] = False
    assert not mean_of_others(maps, masks)[1][0, 0, 0]


def test_masked_blur_keeps_constants_and_ignores_what_lies_outside() -> None:
    mask = np.zeros((40, 40), bool)
    mask[8:30, 5:33] = True
    values = np.where(mask[..., None], 2.0, 1e6) * np.ones(3)
    np.testing.assert_allclose(masked_blur(values, mask, sigma=5.0)[mask], 2)


def test_masked_blur_matches_a_gaussian_over_the_mask() -> None:
    generator = np.random.default_rng(0)
    mask = generator.random((30, 30)) > 0.3
    values = generator.normal(size=(30, 30, 1))
    y, x = np.mgrid[:30, :30]
    near = (abs(y - 14) <= 6) & (abs(x - 17) <= 6)
    weight = np.exp(-((y - 14) ** 2 + (x - 17) ** 2) / 2 / 2**2) * mask * near
    expected = (weight * values[..., 0]).sum() / weight.sum()
    assert masked_blur(values, mask, sigma=2.0)[14, 17, 0] == pytest.approx(expected)


def test_the_truth_is_fully_individual_and_always_recognised(people: People) -> None:
    normals, masks = people(5)
    for correlations in individuality(normals, normals, masks).values():
        np.testing.assert_allclose(np.diag(correlations), 1)
        np.testing.assert_array_equal(correlations.argmax(1), np.arange(5))


def test_shrinking_towards_the_mean_face_keeps_individuality_but_the_mean_has_none(
    people: People,
) -> None:
    normals, masks = people(5)
    mean = normals.mean(0, keepdims=True)
    shrunk = mean + 0.2 * (normals - mean)
    shrunk /= np.linalg.norm(shrunk, axis=-1, keepdims=True)
    low = individuality(shrunk, normals, masks)["low"]
    assert np.diag(low).min() > 0.98
    everyone = np.repeat(mean / np.linalg.norm(mean, axis=-1, keepdims=True), 5, 0)
    np.testing.assert_allclose(individuality(everyone, normals, masks)["low"], 0, atol=1e-9)


def test_swapped_people_are_recognised_as_swapped(people: People) -> None:
    normals, masks = people(4)
    order = [1, 0, 3, 2]
    for correlations in individuality(normals[order], normals, masks).values():
        np.testing.assert_array_equal(correlations.argmax(1), order)


def test_noise_of_equal_power_halves_the_squared_correlation(people: People) -> None:
    normals, masks = people(4)
    deviation = (normals - mean_of_others(normals, masks)[0])[masks].std()
    noise = np.random.default_rng(0).normal(scale=deviation, size=normals.shape)
    # Leaving one of four out spreads the others' noise into the deviation: variance 1 + 1/3, as
    # for the signal itself.
    noisy = normals + noise * np.sqrt(3 / 4)
    own = {k: np.diag(v).mean() for k, v in individuality(noisy, normals, masks).items()}
    assert own["low"] > 0.9  # White noise has little power below the blur,
    assert own["high"] < 0.75  # so it falls on the rest.


def test_stability_is_change_with_light_over_difference_between_people(people: People) -> None:
    normals, masks = people(4)
    others = [random_turns(normals[0], 2.0, seed=k) for k in range(7)]
    changes = changes_with_light(normals[0], others, masks[0])
    np.testing.assert_allclose(changes, 2, atol=1e-3)
    between = difference_between_people(normals, masks)
    assert np.isnan(np.diag(between)).all()
    direct = np.median(angle_degrees(normals[2], normals[1])[masks[2]])
    assert between[2, 1] == between[1, 2] == pytest.approx(direct)
    pairs = [between[i, j] for i in range(4) for j in range(i)]
    ratio = stability(np.tile(changes, (4, 1)), between)
    assert ratio == pytest.approx(2 / np.median(pairs), abs=1e-4)


def test_stability_of_one_face_for_everyone_is_undefined() -> None:
    assert np.isnan(stability(np.zeros((3, 7)), np.zeros((3, 3))))


def test_repeated_people_are_not_compared_with_themselves() -> None:
    between = np.array([[np.nan, 4.0], [4.0, np.nan]])
    drawn = np.array([0, 0, 1])
    assert stability(np.ones((3, 7)), between[np.ix_(drawn, drawn)]) == pytest.approx(0.25)
