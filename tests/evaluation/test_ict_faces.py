"""Test faces are the same for the same seed, their truth is consistent, known errors are measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from scipy.spatial.transform import Rotation

from lifemask.evaluation.benchmarks.robustness import DAMAGES, damaged
from lifemask.evaluation.benchmarks.still_evaluator import (
    StillEvaluator,
    appearance,
    light_on_sphere,
)
from lifemask.evaluation.config import EvaluationConfig, EvaluationError
from lifemask.evaluation.correspondence import HeadToIct
from lifemask.evaluation.ict_faces.head import FACE, IctHead, light_reaches
from lifemask.evaluation.ict_faces.light import TestLight, random_light, sphere_normals
from lifemask.evaluation.ict_faces.people import random_person, random_shot
from lifemask.evaluation.ict_faces.photo import FaceTruth, photograph, photograph_lit
from lifemask.evaluation.ict_faces.sets import TestFaces
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.run import evaluate, write_test_photos
from lifemask.io.colour import image_from_pixels
from lifemask.perception.observation import FaceObservation


@pytest.fixture(scope="module")
def shown(ict_head: IctHead) -> tuple[np.ndarray, FaceTruth]:
    return draw(ict_head, seed=1)


def draw(head: IctHead, *, seed: int) -> tuple[np.ndarray, FaceTruth]:
    generator = np.random.default_rng(seed)
    person = random_person(head, generator)
    return photograph(
        head, person, random_shot(head, person, generator, yaw_range_degrees=(30, 60))
    )


@pytest.fixture(scope="module")
def partners(ict_head: IctHead) -> HeadToIct:
    """Return ICT's face as its own partner, so that the truth itself can be evaluated."""
    vertices = np.arange(0, FACE, 5)
    corners = np.repeat(vertices[:, None], 3, axis=1)
    weights = np.tile([1.0, 0.0, 0.0], (len(vertices), 1))
    return HeadToIct(vertices, corners, weights, np.ones(len(vertices)), np.array(FACE))


def perfect(head: IctHead, truth: FaceTruth) -> Prediction:
    """Return the truth as a perfect prediction."""
    triangles = head.skin_triangles[(head.skin_triangles < FACE).all(1)]
    return Prediction(
        vertices_camera=truth.vertices_camera,
        vertices_neutral=truth.vertices_neutral,
        triangles=triangles,
        vertices_albedo=truth.albedo_points,
        landmarks68=truth.landmarks68,
        landmarks68_camera=truth.landmarks68_camera,
        normals=truth.normals,
        mask=truth.skin,
        albedo=truth.albedo,
    )


def test_the_same_seed_draws_the_same_photo_and_another_one_another(
    ict_head: IctHead, shown: tuple[np.ndarray, FaceTruth]
) -> None:
    pixels, truth = draw(ict_head, seed=1)
    np.testing.assert_array_equal(pixels, shown[0])
    np.testing.assert_array_equal(truth.vertices_camera, shown[1].vertices_camera)
    assert (draw(ict_head, seed=2)[0] != pixels).mean() > 0.5


def test_truth_agrees_with_itself(ict_head: IctHead, shown: tuple[np.ndarray, FaceTruth]) -> None:
    _, truth = shown
    np.testing.assert_allclose(truth.points[ict_head.landmarks], truth.landmarks68, atol=1e-3)
    np.testing.assert_allclose(truth.vertices_camera[ict_head.landmarks], truth.landmarks68_camera)
    lengths = np.linalg.norm(truth.normals, axis=-1)
    np.testing.assert_allclose(lengths[truth.skin], 1, atol=1e-5)
    assert not lengths[~truth.skin].any()
    assert 0.05 < truth.skin.mean() < 0.7
    # Between 30 and 60 degrees part of the face is hidden, but not most of it.
    assert 0.3 < truth.visible.mean() < 0.9
    column, row = truth.points[truth.visible].astype(int).T
    on_skin = truth.skin[row, column]
    colours = truth.albedo_points[truth.visible][on_skin]
    difference = np.abs(colours - truth.albedo[row, column][on_skin])
    assert np.median(difference) < 0.02


def test_skin_is_brighter_where_its_truth_says_more_light(ict_head: IctHead) -> None:
    """Without shadows, specular light and camera degradations, the photo is albedo times shading."""
    generator = np.random.default_rng(5)
    person = random_person(ict_head, generator)
    shot = random_shot(ict_head, person, generator, yaw_range_degrees=(0, 20))
    _, truth = photograph(ict_head, person, shot)
    lamp_only = TestLight(np.zeros((9, 3)), np.array([0.0, 0.0, 1.0]), np.full(3, 0.9))
    photo = image_from_pixels(photograph_lit(ict_head, person, shot, lamp_only)).permute(1, 2, 0)
    expected = truth.albedo * lamp_only.shading(truth.normals)
    difference = np.abs(photo.numpy() - expected)[truth.skin]
    assert np.median(difference) < 0.004


def test_true_shading_times_albedo_is_the_photo_without_specular_light(ict_head: IctHead) -> None:
    generator = np.random.default_rng(6)
    person = random_person(ict_head, generator)
    shot = random_shot(ict_head, person, generator, yaw_range_degrees=(20, 40))
    _, truth = photograph(ict_head, person, shot)
    photo = image_from_pixels(photograph_lit(ict_head, person, shot, shot.light)).permute(1, 2, 0)
    seen = truth.skin & (photo.numpy().max(-1) < 0.95)
    difference = np.abs(photo.numpy() - truth.albedo * truth.shading)[seen]
    assert np.median(difference) < 0.004
    column, row = truth.points[truth.visible].astype(int).T
    near = truth.vertices_camera[truth.visible, 2] - truth.depth[row, column]
    assert np.median(np.abs(near[truth.skin[row, column]])) < 0.001


def test_depth_and_shading_count_without_their_scale(
    shown: tuple[np.ndarray, FaceTruth],
) -> None:
    _, truth = shown
    right = Prediction(
        albedo=truth.albedo / 2,
        shading=2 * truth.shading,
        depth=np.where(truth.depth > 0, 3 * truth.depth + 0.5, 0),
    )
    figures = appearance(right, truth)
    assert figures["depth %"] == pytest.approx(0, abs=1e-3)
    assert figures["shading energy"] == pytest.approx(1, abs=1e-3)
    flat = replace(right, shading=np.ones_like(truth.shading))
    assert appearance(flat, truth)["shading energy"] == pytest.approx(0, abs=1e-6)
    assert "shading energy" not in appearance(replace(right, albedo=None), truth)


def test_the_truth_itself_has_no_error(
    ict_head: IctHead, shown: tuple[np.ndarray, FaceTruth], partners: HeadToIct
) -> None:
    _, truth = shown
    figures = StillEvaluator(partners)(perfect(ict_head, truth), truth)
    for name in ("sparse %", "dense %", "surface mm", "points mm", "neutral mm"):
        assert figures[name] == pytest.approx(0, abs=0.02), name
    assert figures["normals °"] == pytest.approx(0, abs=0.1)
    for name in ("albedo seen %", "chroma °", "albedo hidden %"):
        assert figures[name] == pytest.approx(0, abs=0.1), name


def test_known_errors_in_known_figures_out(
    ict_head: IctHead, shown: tuple[np.ndarray, FaceTruth], partners: HeadToIct
) -> None:
    _, truth = shown
    prediction, evaluate_still = perfect(ict_head, truth), StillEvaluator(partners)
    size = np.sqrt(np.prod(np.ptp(truth.landmarks68, axis=0)))
    shift = np.array([0.03 * size, 0])
    shifted = evaluate_still(replace(prediction, landmarks68=truth.landmarks68 + shift), truth)
    assert shifted["sparse %"] == pytest.approx(3, rel=1e-3)
    assert shifted["inner %"] == pytest.approx(3, rel=1e-3)
    outline = truth.landmarks68 + np.where(np.arange(68) < 17, 1, 0)[:, None] * shift
    jaw_only = evaluate_still(replace(prediction, landmarks68=outline), truth)
    assert jaw_only["sparse %"] == pytest.approx(3 * 17 / 68, rel=1e-3)
    assert jaw_only["inner %"] == pytest.approx(0, abs=1e-9)
    # The camera that the landmarks tell moves with them, and with it every dense point.
    assert shifted["dense %"] == pytest.approx(3, rel=0.01)
    noise = np.random.default_rng(0).normal(0, 0.002, truth.vertices_camera.shape)
    rough = evaluate_still(
        replace(prediction, vertices_camera=truth.vertices_camera + noise), truth
    )
    assert rough["points mm"] == pytest.approx(2 * np.sqrt(8 / np.pi), rel=0.05)
    assert 0.3 < rough["surface mm"] < rough["points mm"]
    turned = Rotation.from_rotvec([0, 0, np.radians(5)]).as_matrix()
    tilted = evaluate_still(replace(prediction, normals=truth.normals @ turned.T), truth)
    # A turn about the line of sight moves a normal by less, the nearer it lies to that line.
    sine = np.linalg.norm(truth.normals[truth.skin][:, :2], axis=-1)
    expected = np.degrees(2 * np.arcsin(sine * np.sin(np.radians(2.5)))).mean()
    assert tilted["normals °"] == pytest.approx(expected, abs=0.02)
    darker = replace(prediction, albedo=truth.albedo * [1.0, 0.5, 0.5])
    figures = evaluate_still(darker, truth)
    assert figures["albedo seen %"] > 10
    assert figures["chroma °"] > 5
    rim = truth.skin & ~binary_erosion(truth.skin, iterations=2)
    narrow = replace(
        prediction,
        albedo=truth.albedo * ~rim[..., None],
        normals=truth.normals * ~rim[..., None],
    )
    figures, share = evaluate_still(narrow, truth), rim.sum() / truth.skin.sum()
    assert figures["empty %"] == pytest.approx(100 * share)
    assert figures["normals °"] == pytest.approx(90 * share, abs=0.1)
    # The colour beside the rim is nearly that on it.
    assert figures["albedo seen %"] < 5
    half = replace(prediction, albedo=truth.albedo / 2, vertices_albedo=truth.albedo_points / 2)
    assert evaluate_still(half, truth)["albedo hidden %"] == pytest.approx(0, abs=0.1)
    mismatched = replace(prediction, vertices_albedo=truth.albedo_points * 1.2)
    assert evaluate_still(mismatched, truth)["albedo hidden %"] == pytest.approx(20, abs=0.2)


def test_light_is_measured_by_the_scale_of_the_albedo(shown: tuple[np.ndarray, FaceTruth]) -> None:
    light = random_light(np.random.default_rng(0), lamp_share=0.0)
    truth = replace(shown[1], light_on_sphere=light_on_sphere(light.environment))
    right = Prediction(albedo=truth.albedo / 3, light_sh=3 * light.environment)
    assert appearance(right, truth)["light %"] == pytest.approx(0, abs=1e-4)
    brighter = replace(right, light_sh=3.3 * light.environment)
    assert appearance(brighter, truth)["light %"] == pytest.approx(10, abs=1e-3)


def test_shadows_fall_behind_what_stands_in_the_light() -> None:
    square = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    vertices = np.concatenate([square * 3 - [0, 0, 1], square])
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    points = np.array([[0.0, 0, -1], [2.5, 0, -1], [0, 0, 0.0], [0, 0, 0.5]])
    lit = light_reaches(vertices, triangles, points, np.array([0.0, 0, 1]))
    np.testing.assert_allclose(lit, [0, 1, 1, 1])


def test_sphere_faces_the_viewer_evenly() -> None:
    normals = sphere_normals()
    assert normals[:, 2].min() > 0
    np.testing.assert_allclose(normals.mean(0), [0, 0, 0.5], atol=0.01)


def test_sets_are_kept_and_their_photos_written_for_other_programs(
    ict_path: Path, shared_data: Path, tmp_path: Path
) -> None:
    sets = TestFaces(ict_path, seed=3, cache=tmp_path / "cache")
    (face,) = sets.relit(1)
    before = (face.folder / f"{face.key}.npz").stat().st_mtime_ns
    (again,) = sets.relit(1)
    assert (again.folder / f"{again.key}.npz").stat().st_mtime_ns == before
    assert len(face.relit()) == 3
    truth = face.truth()
    assert truth.landmarks68.shape == (68, 2)
    config = EvaluationConfig(data=shared_data, cache=tmp_path / "cache", limit=1)
    with pytest.raises(EvaluationError, match="are in the data folder"):
        write_test_photos("yaleb", config, tmp_path)


def test_a_missing_model_says_where_it_should_be(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    with pytest.raises(EvaluationError, match=r"ict_facekit_light\.npz"):
        next(evaluate("robustness", EvaluationConfig(systems=(), data=tmp_path, cache=tmp_path)))


def test_damage_moves_landmarks_and_only_missing_ones_have_infinite_sigma() -> None:
    generator = np.random.default_rng(0)
    points = torch.from_numpy(generator.uniform(0, 100, (478, 3))).float()
    observation = FaceObservation(
        torch.zeros(4), 1.0, torch.zeros(5, 2), points, torch.zeros(478), 1.0, torch.zeros(52),
        None, torch.zeros(2, 3), None,
    )  # fmt: skip
    for damage in DAMAGES:
        changed = damaged(observation, damage, np.random.default_rng(1))
        moved = (changed.landmarks478 - points)[:, :2].norm(dim=-1)
        unknown = torch.isinf(changed.landmark_sigma)
        assert (changed.landmarks478[:, 2] == points[:, 2]).all()
        if damage.jitter_percent:
            # The mean length of two Gaussian coordinates is sigma times sqrt(pi / 2).
            expected = damage.jitter_percent * np.sqrt(np.pi / 2)
            assert float(moved.mean()) == pytest.approx(expected, rel=0.1)
            assert not unknown.any()
        else:
            assert (moved[~unknown] == 0).all()
            share = 0.5 if damage.missing_side else damage.missing_share
            assert float(unknown.float().mean()) == pytest.approx(share, abs=0.02)
