"""Augmentations change a photo and all its data in the same way."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lifemask.data import occlusion
from lifemask.data.augmentation import augmented, cut, random_frames, reframed
from lifemask.data.augmentation_config import Augmentation
from lifemask.data.batch import FaceBatch
from lifemask.data.compression import compressed
from lifemask.data.mirroring import (
    MIRROR21,
    MIRROR68,
    MIRROR200,
    mirror478,
    mirrored_batch,
    mirrored_coefficients,
    mirrored_face,
)
from lifemask.data.mixture import generator_for
from lifemask.data.occlusion import occluded
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.geometry.tensors import map_tensors, named_tensors
from lifemask.io.colour import linear_from_srgb
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.explained_face import PredictedLandmarks
from lifemask.morphable.model import MorphableModel
from lifemask.perception.framing import FaceFrame
from lifemask.rendering.shading import shade_normals


@pytest.fixture(scope="module")
def head() -> MorphableModel:
    return MorphableModel.from_pretrained()


@pytest.fixture(scope="module")
def faces(head: MorphableModel) -> FaceBatch:
    config = SyntheticConfig(size=64, texture_size=64, samples=1, yaw_limit_degrees=60)
    return SyntheticFaces(config, model=head).batch(0, 0, 3)


def projected(batch: FaceBatch, head: MorphableModel) -> Tensor:
    assert batch.truth is not None
    assert head.dense478 is not None
    vertices = head.vertices(batch.truth.face.coefficients)
    points = head.dense478.points(vertices, head.triangles)
    return batch.truth.face.camera.project(points)[..., :2]


def shading(batch: FaceBatch) -> Tensor:
    assert batch.truth is not None
    assert batch.truth.normals is not None
    return shade_normals(batch.truth.normals, batch.truth.face.light)


def test_mirrored_truth_explains_the_mirrored_landmarks(
    faces: FaceBatch, head: MorphableModel
) -> None:
    mirrored = mirrored_batch(faces)
    error = (projected(mirrored, head) - mirrored.landmarks478).norm(dim=-1)
    before = (projected(faces, head) - faces.landmarks478).norm(dim=-1)
    # The mirrored identity is exact to a tenth of a millimetre: well below a pixel here.
    assert float(error.max()) < float(before.max()) + 0.1


def test_mirrored_normals_under_the_mirrored_light_shade_alike(faces: FaceBatch) -> None:
    torch.testing.assert_close(
        shading(mirrored_batch(faces)), shading(faces).flip(-1), atol=1e-5, rtol=1e-4
    )


def test_mirroring_twice_gives_the_batch_back(faces: FaceBatch) -> None:
    twice = named_tensors(mirrored_batch(mirrored_batch(faces)))
    for name, value in named_tensors(faces).items():
        tolerance = 2e-2 if name.endswith("identity") else 1e-4
        torch.testing.assert_close(twice[name], value, atol=tolerance, rtol=1e-4, msg=name)


def test_a_mirrored_face_mirrors_maps_depth_and_landmarks(faces: FaceBatch) -> None:
    assert faces.truth is not None
    face, size = faces.truth.face, faces.photo.shape[-1]
    sigma = torch.rand(3, 478, generator=torch.Generator().manual_seed(4))
    face = replace(
        face,
        light_map=face.albedo_map,
        landmarks=PredictedLandmarks(faces.landmarks478, sigma),
    )
    mirrored, batch = mirrored_face(face, size), mirrored_batch(faces)
    assert mirrored.landmarks is not None
    assert torch.equal(mirrored.landmarks.points, batch.landmarks478)
    assert torch.equal(mirrored.landmarks.sigma, sigma[:, mirror478()])
    given, flipped = named_tensors(face), named_tensors(mirrored)
    assert set(given) == set(flipped)
    images = [name for name in given if "_map" in name or name == "depth"]
    assert len(images) == 7
    for name in images:
        assert torch.equal(flipped[name], given[name].flip(-1)), name


def test_reframed_landmarks_are_those_of_the_frame(faces: FaceBatch) -> None:
    assert faces.truth is not None
    landmarks = PredictedLandmarks(faces.landmarks478, torch.ones(3, 478))
    face = replace(faces.truth.face, landmarks=landmarks)
    frame = FaceFrame(torch.full((3, 2), 30.0), torch.full((3,), 32.0), torch.full((3,), 0.3))
    moved = reframed(replace(faces, truth=replace(faces.truth, face=face)), frame)
    assert moved.truth is not None
    assert moved.truth.face.landmarks is not None
    assert torch.equal(moved.truth.face.landmarks.points, moved.landmarks478)
    # Half as wide a frame shows everything twice as large.
    torch.testing.assert_close(moved.truth.face.landmarks.sigma, torch.full((3, 478), 2.0))


def test_mirror_tables_swap_sides_of_the_mean_face(head: MorphableModel) -> None:
    sets = ((head.landmarks68, MIRROR68), (head.landmarks68_outline, MIRROR68))
    for embedding, order in (*sets, (head.aflw21, MIRROR21), (head.surface200, MIRROR200)):
        assert embedding is not None
        points = embedding.points(head.mean, head.triangles)
        swapped = points[list(order)] * torch.tensor([-1.0, 1.0, 1.0])
        # The contour's points slide and are not placed quite evenly.
        assert float((swapped - points).norm(dim=-1).max()) < 0.012
        assert sorted(order) == list(range(len(order)))


def test_mirrored_gaze_and_expression_make_the_mirrored_face(head: MorphableModel) -> None:
    generator = torch.Generator().manual_seed(0)

    def even(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    given = FaceCoefficients(
        even(100) * 2 - 1, even(52) * 0.3, even(2, 2) * 0.4 - 0.2, torch.zeros(17)
    )
    assert head.mirror is not None
    flipped = head.vertices(given)[head.mirror] * torch.tensor([-1.0, 1.0, 1.0])
    error = (head.vertices(mirrored_coefficients(given)) - flipped).norm(dim=-1)
    assert float(error.max()) < 5e-4


def test_reframed_truth_explains_the_reframed_landmarks(
    faces: FaceBatch, head: MorphableModel
) -> None:
    strength = Augmentation(shift=0.1, scale=0.3, turn_degrees=40)
    frame = random_frames(3, 64, strength, torch.Generator().manual_seed(1))
    moved = reframed(faces, frame)
    torch.testing.assert_close(
        projected(moved, head) - moved.landmarks478,
        (projected(faces, head) - faces.landmarks478) * 0,
        atol=0.1,
        rtol=0,
    )


def test_reframed_normals_under_the_reframed_light_shade_alike(faces: FaceBatch) -> None:
    strength = Augmentation(shift=0.05, scale=0.1, turn_degrees=60)
    frame = random_frames(3, 64, strength, torch.Generator().manual_seed(2))
    moved = reframed(faces, frame)
    # Shading carried along as if it were an albedo must be the shading of what was carried along.
    assert faces.truth is not None
    carried = replace(faces, truth=replace(faces.truth, albedo=shading(faces)))
    expected = reframed(carried, frame).truth
    assert expected is not None
    torch.testing.assert_close(shading(moved), expected.albedo, atol=1e-4, rtol=1e-3)


def test_exposure_and_tint_go_into_the_true_light(faces: FaceBatch) -> None:
    dark = replace(faces, photo=faces.photo * 0.3)  # so that nothing clips
    strength = replace(Augmentation.none(), exposure=0.4, tint=0.1)
    varied = augmented(dark, strength, torch.Generator().manual_seed(3))
    gain = varied.photo / dark.photo.clamp(min=1e-4)
    ratio = shading(varied) / shading(dark)
    inside = (dark.photo > 0.01) & (shading(dark).abs() > 1e-3)
    torch.testing.assert_close(gain[inside], ratio[inside], atol=1e-2, rtol=1e-2)
    assert float((ratio[inside] - 1).abs().mean()) > 0.03


def test_patches_hide_points_and_skin_but_keep_landmarks(faces: FaceBatch) -> None:
    hidden = occluded(faces, 1.0, torch.Generator().manual_seed(7))
    changed = (hidden.photo - faces.photo).abs().sum(1) > 0.02
    assert 0.01 < float(changed.float().mean()) < 0.6
    assert faces.truth is not None
    assert hidden.truth is not None
    lost = faces.truth.visible478 & ~hidden.truth.visible478
    assert lost.any()
    assert not (hidden.truth.visible478 & ~faces.truth.visible478).any()
    under = hidden.skin < 0.01 * faces.skin
    assert under.any()
    # A patch may by chance look like what it hides.
    assert float((hidden.skin - faces.skin)[~changed].abs().mean()) < 0.02
    assert torch.equal(hidden.landmarks478_weight, faces.landmarks478_weight)


def test_a_hand_has_about_the_colour_of_the_skin(
    faces: FaceBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(occlusion, "HANDS", 1.0)
    hidden = occluded(faces, 1.0, torch.Generator().manual_seed(7))
    away = []
    for before, after, skin in zip(faces.photo, hidden.photo, faces.skin, strict=True):
        changed = (after - before).abs().sum(0) > 0.05
        hue = [c / c.sum() for c in (after[:, changed].mean(-1), before[:, skin > 0.5].mean(-1))]
        away.append(float((hue[0] - hue[1]).abs().sum()))
    assert max(away) < 0.25


def test_what_lies_beyond_a_cut_repeats_the_border_or_is_black_and_is_not_visible(
    faces: FaceBatch,
) -> None:
    many = map_tensors(lambda t: t[:1].repeat(16, *[1] * (t.ndim - 1)), faces)
    ended = cut(many, 1.0, torch.Generator().manual_seed(1))
    assert many.truth is not None
    assert ended.truth is not None
    assert torch.equal(ended.landmarks478, many.landmarks478)
    assert (many.truth.visible478 & ~ended.truth.visible478).any()
    assert not (ended.truth.visible478 & ~many.truth.visible478).any()
    changed = (ended.photo != many.photo).any(1)
    assert 0.05 < float(changed.float().mean()) < 0.6
    assert float(ended.skin[changed].max()) == 0
    # The middle of a frame never ends.
    assert not changed[:, 20:44, 20:44].any()
    black = ((ended.photo[:, :, 0] == 0).all(1) | (ended.photo[:, :, -1] == 0).all(1)).any(1)
    repeated = (ended.photo[:, :, 0] == ended.photo[:, :, 1]).all((1, 2)) & ~black
    assert black.any()
    assert repeated.any()


def test_compression_does_what_jpeg_does(samples) -> None:
    with Image.open(samples / "portrait_1.jpg") as image:
        pixels = np.asarray(image.convert("RGB").resize((96, 80)))
    picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    for quality in (15, 50, 90):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2)
        expected = torch.from_numpy(np.asarray(Image.open(buffer)).copy()).permute(2, 0, 1) / 255
        ours = compressed(picture[None], torch.tensor([float(quality)]))[0]
        damage = (expected - picture).abs().mean()
        assert float((ours - expected).abs().mean()) < 0.35 * float(damage) + 0.004


def test_the_same_generator_gives_the_same_batch(faces: FaceBatch) -> None:
    one, other, third = (
        augmented(faces, Augmentation(), generator_for(seed, "test")) for seed in (1, 1, 2)
    )
    for name, value in named_tensors(one).items():
        assert torch.equal(value, named_tensors(other)[name]), name
    assert not torch.equal(one.photo, third.photo)
    assert float(one.photo.min()) >= 0
    assert float(one.photo.max()) <= 1


def test_no_strength_changes_nothing(faces: FaceBatch) -> None:
    assert augmented(faces, Augmentation.none(), torch.Generator()) is faces


def test_frames_of_a_clip_are_mirrored_together(faces: FaceBatch) -> None:
    clips = map_tensors(lambda t: torch.stack([t, t], 1), faces)
    strength = replace(Augmentation.none(), mirror=0.5)
    seen = set()
    for seed in range(4):
        varied = augmented(clips, strength, torch.Generator().manual_seed(seed))
        assert varied.photo.shape == (3, 2, 3, 64, 64)
        flipped = (varied.photo != clips.photo).flatten(2).any(-1)
        assert torch.equal(flipped[:, 0], flipped[:, 1])
        seen |= set(flipped[:, 0].tolist())
    assert seen == {True, False}


def test_unknown_landmarks_may_be_anything(faces: FaceBatch) -> None:
    unknown = replace(faces, aflw21=torch.full_like(faces.aflw21, float("nan")), truth=None)
    varied = augmented(unknown, replace(Augmentation(), occlusion=1.0), torch.Generator())
    assert torch.isfinite(varied.photo).all()
    assert torch.isfinite(varied.landmarks478).all()


def test_linear_and_srgb_are_not_mixed_up(faces: FaceBatch) -> None:
    # Noise of sRGB strength s on a dark photo is far weaker in linear light.
    black = replace(faces, photo=torch.full_like(faces.photo, 0.02))
    strength = replace(Augmentation.none(), noise=0.05)
    varied = augmented(black, strength, torch.Generator().manual_seed(0))
    step = linear_from_srgb(torch.tensor(0.20)) - linear_from_srgb(torch.tensor(0.15))
    assert 0 < float((varied.photo - black.photo).std()) < float(step)
