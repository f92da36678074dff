"""Fitted photos are stored exactly, and the truth of re-rendered fits agrees with the picture."""

import json
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lifemask.data.rerendered import RerenderedFaces, photo_surface
from lifemask.data.stored_fits import FitStore, StoredFit, StoredFitError, write_fits
from lifemask.data.synthetic import SyntheticConfig, SyntheticFaces
from lifemask.data.synthetic.backgrounds import Surroundings
from lifemask.geometry.tensors import map_tensors, named_tensors
from lifemask.perception.framing import face_frame
from lifemask.rendering.rasterization import rasterize

CONFIG = SyntheticConfig(
    size=64, texture_size=64, samples=1, degradations=0.0, yaw_limit_degrees=40.0
)


@pytest.fixture(scope="module")
def faces() -> SyntheticFaces:
    return SyntheticFaces(CONFIG)


@pytest.fixture(scope="module")
def fit(faces: SyntheticFaces) -> StoredFit:
    """A drawn face, stored as if it were a photo."""
    batch = map_tensors(lambda value: value[0], faces.batch(5, 0, 1))
    truth = batch.truth
    assert truth is not None
    front = torch.zeros(CONFIG.size, CONFIG.size)
    return StoredFit("somebody", batch.photo, front, truth.face)


@pytest.fixture
def store(fit: StoredFit, tmp_path: Path) -> FitStore:
    path = tmp_path / "fits.tar"
    assert write_fits(path, [fit], head="abc") == 1
    return FitStore([path], head="abc")


def test_a_store_gives_back_what_was_written(store: FitStore, fit: StoredFit) -> None:
    assert store.keys == ["somebody"]
    read = store[0]
    assert read.face.camera.image_size == fit.face.camera.image_size
    for part in ("coefficients", "camera", "light"):
        written = named_tensors(getattr(fit.face, part))
        for name, value in named_tensors(getattr(read.face, part)).items():
            torch.testing.assert_close(value, written[name], msg=name)
    # JPEG changes pixels a little.
    assert (read.photo - fit.photo).abs().mean() < 0.02
    assert (read.albedo - fit.albedo).abs().mean() < 0.02


def test_fits_of_another_head_are_refused(fit: StoredFit, tmp_path: Path) -> None:
    write_fits(tmp_path / "fits.tar", [fit], head="abc")
    with pytest.raises(StoredFitError, match="uses the head abc"):
        FitStore([tmp_path / "fits.tar"], head="def")


def test_missing_and_damaged_stores_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoredFitError, match="no store of fits at"):
        FitStore([tmp_path / "none.tar"], head="abc")
    (tmp_path / "text.tar").write_text("not a tar")
    with pytest.raises(StoredFitError, match="cannot be read"):
        FitStore([tmp_path / "text.tar"], head="abc")


def test_a_fit_without_an_albedo_map_is_not_written(fit: StoredFit, tmp_path: Path) -> None:
    bare = replace(fit, face=replace(fit.face, albedo_map=None))
    with pytest.raises(ValueError, match="somebody needs a face with an albedo map"):
        write_fits(tmp_path / "fits.tar", [bare], head="abc")


def test_a_fit_without_its_skin_is_refused(fit: StoredFit, tmp_path: Path) -> None:
    path = tmp_path / "fits.tar"
    write_fits(path, [fit], head="abc")
    with tarfile.open(path) as whole, tarfile.open(tmp_path / "part.tar", "w") as part:
        for member in whole:
            if not member.name.endswith(".skin.jpg"):
                part.addfile(member, whole.extractfile(member))
    with pytest.raises(StoredFitError, match=r"lacks skin\.jpg"):
        FitStore([tmp_path / "part.tar"], head="abc")


def test_a_photo_depends_on_seed_and_number_alone(store: FitStore, faces: SyntheticFaces) -> None:
    rerendered = RerenderedFaces(store, faces)
    together, alone = rerendered.batch(3, 0, 2), rerendered.batch(3, 1, 1)
    for name, value in named_tensors(alone).items():
        torch.testing.assert_close(named_tensors(together)[name][1:], value, msg=name)
    other = rerendered.batch(4, 0, 1)
    assert (other.photo - together.photo[:1]).abs().mean() > 0.01


def test_truth_agrees_with_itself(store: FitStore, faces: SyntheticFaces) -> None:
    batch = RerenderedFaces(store, faces).batch(0, 0, 4)
    truth = batch.truth
    assert truth is not None
    embedding = faces.model.landmarks68_outline
    assert embedding is not None
    vertices = faces.model.vertices(truth.face.coefficients)
    points = truth.face.camera.project(embedding.points(vertices, faces.model.triangles))
    torch.testing.assert_close(points[..., :2], batch.landmarks68)
    identity = store[0].face.coefficients.identity.expand_as(truth.face.coefficients.identity)
    torch.testing.assert_close(truth.face.coefficients.identity, identity)
    assert batch.photo.min() >= 0
    assert batch.photo.max() <= 1
    assert truth.visible478.float().mean() > 0.3
    frame = face_frame(truth.face.camera.project(_dense(faces, vertices))[..., :2])
    assert (frame.centre / CONFIG.size - 0.5).abs().max() < 0.25


def test_the_surface_of_an_unmoved_camera_is_the_photo(
    fit: StoredFit, faces: SyntheticFaces
) -> None:
    vertices = faces.model.vertices(fit.face.coefficients)
    same = map_tensors(lambda value: value[None], fit.face.camera)
    neck = faces.model.regions["neck"]
    surface = photo_surface(fit, vertices, faces.material.triangles, same, neck)
    torch.testing.assert_close(
        surface.points[:, :2], surface.source * CONFIG.size, atol=0.02, rtol=0
    )


def test_ears_and_hair_give_way_and_collars_stay(fit: StoredFit, faces: SyntheticFaces) -> None:
    vertices = faces.model.vertices(fit.face.coefficients)
    same = map_tensors(lambda value: value[None], fit.face.camera)
    neck = faces.model.regions["neck"]

    def taken(person: float) -> torch.Tensor:
        known = replace(fit, person=torch.full_like(fit.front, person))
        return photo_surface(known, vertices, faces.material.triangles, same, neck).head

    points = fit.face.camera.project(vertices)
    head = rasterize(points, faces.model.triangles, fit.face.camera.image_size).mask
    low = min(int(points[neck > 0.9, 1].max()), CONFIG.size - 2)
    assert taken(1.0).sum() > taken(0.0).sum() * 1.05
    assert taken(0.0)[head][: head.sum() // 2].min() > 0.5
    assert taken(1.0)[low:].max() == 0


def test_a_fit_may_say_where_the_person_is(fit: StoredFit) -> None:
    assert _memory_store(fit)[0].person is None
    person = torch.linspace(0, 1, fit.front.numel()).view_as(fit.front)
    read = _memory_store(replace(fit, person=person))[0].person
    assert read is not None
    torch.testing.assert_close(read, person, atol=1 / 255, rtol=0)


def test_what_lay_over_the_head_is_drawn_over_it(fit: StoredFit, faces: SyntheticFaces) -> None:
    def drawn(front: float) -> torch.Tensor:
        store = _memory_store(replace(fit, front=torch.full_like(fit.front, front)))
        batch = RerenderedFaces(store, faces).batch(0, 0, 3)
        assert batch.truth is not None
        return batch.truth.visible478.float().mean()

    assert drawn(1.0) < 0.5 * drawn(0.0)


def test_an_empty_store_is_refused(faces: SyntheticFaces, tmp_path: Path) -> None:
    write_fits(tmp_path / "none.tar", [], head="abc")
    with pytest.raises(ValueError, match="empty"):
        RerenderedFaces(FitStore([tmp_path / "none.tar"], head="abc"), faces)


def test_numbers_are_stored_as_plain_json(store: FitStore, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "fits.tar") as archive:
        content = archive.extractfile("somebody.json")
        assert content is not None
        assert set(json.load(content)) == {"head", "coefficients", "camera", "light_sh"}


def _dense(faces: SyntheticFaces, vertices: torch.Tensor) -> torch.Tensor:
    embedding = faces.model.dense478
    assert embedding is not None
    return embedding.points(vertices, faces.model.triangles)


def _memory_store(fit: StoredFit) -> FitStore:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fits.tar"
        write_fits(path, [fit], head="abc")
        return FitStore([path], head="abc")


def test_the_surroundings_of_a_photo_hold_nothing_of_its_head(
    faces: SyntheticFaces, fit: StoredFit, tmp_path: Path
) -> None:
    vertices = faces.model.vertices(fit.face.coefficients)
    points = fit.face.camera.project(vertices)
    head = rasterize(points, faces.model.triangles, fit.face.camera.image_size).mask
    red = torch.where(head, torch.tensor([0.9, 0.0, 0.0])[:, None, None], 0.3)
    write_fits(tmp_path / "red.tar", [replace(fit, photo=red)], head="abc")
    rooms = Surroundings(FitStore([tmp_path / "red.tar"], head="abc"), faces.model)
    for seed in range(4):
        room = rooms.sample(np.random.default_rng(seed))
        assert room.shape == (3, 48, 48)
        assert (room[0] / room[1]).max() < 1.4
    again = rooms.sample(np.random.default_rng(3))
    assert np.array_equal(room, again)


def test_the_share_of_photo_backgrounds_is_an_option(
    faces: SyntheticFaces, store: FitStore
) -> None:
    def seen(probability: float) -> torch.Tensor:
        config = replace(CONFIG, photo_background=probability)
        made = SyntheticFaces(config, model=faces.model, surroundings=store)
        return made.batch(6, 0, 2).photo

    assert torch.equal(seen(0.0), seen(0.0))
    assert not torch.equal(seen(0.0), seen(1.0))
