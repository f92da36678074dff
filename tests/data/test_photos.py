"""Shards are read completely or refused with a reason; photos become framed batches."""

import io
import json
import logging
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.cards import held_out_people, person_number
from lifemask.data.observed import ObservationCache
from lifemask.data.photo_faces import FaceCrops, open_photos
from lifemask.data.photos import ShardError, find_shards, index_shards
from lifemask.geometry.tensors import named_tensors

Writer = Callable[..., Path]


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def jpeg(colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 48, 3), colour, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def write_shard(path: Path, photos: dict[str, bytes], **about: object) -> Path:
    entry = {"source": "test", "identity": None, "licence_tier": "open", "face_box_xyxy": [0] * 4}
    with tarfile.open(path, "w") as archive:
        for key, data in photos.items():
            add(archive, f"{key}.jpg", data)
            add(archive, f"{key}.json", json.dumps({**entry, "identity": key, **about}).encode())
    return path


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return [
        write_shard(tmp_path / f"a-00{n}.tar", {f"k{n}{i}": jpeg(9 * i) for i in range(3)})
        for n in range(2)
    ]


def test_photos_are_read_from_their_place_in_the_order_of_the_shards(shards: list[Path]) -> None:
    places, passed = index_shards(shards)
    assert passed == {}
    photos = [place.read() for place in places]
    assert [photo.key for photo in photos] == ["k00", "k01", "k02", "k10", "k11", "k12"]
    assert photos[0].image != photos[1].image


def test_patterns_find_shards_in_order(shards: list[Path]) -> None:
    assert find_shards(shards[0].parent, ["a-*.tar"]) == shards
    assert find_shards(None, [str(shards[1]), str(shards[0].parent / "a-*.tar")]) == shards[::-1]


@pytest.mark.parametrize("pattern", ["b-*.tar", "a-007.tar"])
def test_a_pattern_without_shards_is_refused(shards: list[Path], pattern: str) -> None:
    with pytest.raises(ShardError, match=r"There is no .*Check --data"):
        find_shards(shards[0].parent, ["a-*.tar", pattern])


def test_relative_patterns_need_a_folder() -> None:
    with pytest.raises(ShardError, match="Name it with --data"):
        find_shards(None, ["train/a-*.tar"])


def test_a_gap_in_numbered_shards_is_refused(shards: list[Path]) -> None:
    shutil.copy(shards[0], shards[0].with_name("a-003.tar"))
    with pytest.raises(ShardError, match=r"a-002\.tar is missing"):
        find_shards(shards[0].parent, ["a-*.tar"])


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.97])
def test_a_truncated_shard_is_refused_and_says_where_it_ends(
    shards: list[Path], kept: float
) -> None:
    end = sum(index_shards(shards)[0][-1].about)
    shards[1].write_bytes(shards[1].read_bytes()[: int(end * kept)])
    with pytest.raises(ShardError, match=r"a-001\.tar cannot be read beyond k1\d\.\w+ .*cut off"):
        index_shards(shards)


def test_a_shard_cut_between_two_photos_is_refused(shards: list[Path]) -> None:
    places, _ = index_shards(shards[:1])
    start, size = places[1].about
    end = start + -(-size // 512) * 512
    shards[0].write_bytes(shards[0].read_bytes()[:end])
    with pytest.raises(ShardError, match="end mark is missing"):
        index_shards(shards)


def test_files_without_a_partner_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "one.jpg", jpeg(1))
        add(archive, "two.json", b"{}")
    with caplog.at_level(logging.WARNING):
        places, passed = index_shards([path])
    assert places == []
    assert passed == {"without a JSON file": 1, "without a photo": 1}
    assert "one in" in caplog.text


def test_a_shard_that_shrinks_while_training_is_noticed(shards: list[Path]) -> None:
    places, _ = index_shards(shards)
    shards[0].write_bytes(b"")
    with pytest.raises(ShardError, match="cannot be read from"):
        places[0].read()


def faces(folder: Path, samples: Path, tmp_path: Path, **changes: object):
    values = {
        "tiers": ["open"], "held_out": 0.3, "crops": FaceCrops(64, 0, Augmentation.none()),
        "store": ObservationCache(tmp_path / "observed"),
    }  # fmt: skip
    return open_photos(folder, ["*.tar"], **(values | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def portraits(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a shard of four portraits, a wall and a broken file."""
    folder = tmp_path_factory.mktemp("portraits")
    photos = {f"p{n}": (samples / f"portrait_{n}.jpg").read_bytes() for n in range(1, 5)}
    photos |= {"wall": jpeg(120), "broken": jpeg(60)[:-300]}
    write_shard(folder / "a-000.tar", photos)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ObservationCache:
    return ObservationCache(tmp_path_factory.mktemp("observed"))


def test_photos_without_a_face_and_broken_ones_are_counted_and_logged(
    portraits: Path,
    samples: Path,
    tmp_path: Path,
    store: ObservationCache,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        training, held, about = faces(portraits, samples, tmp_path, store=store)
    assert about["left_out"] == {"no face": 1, "damaged": 1}
    assert len(training) + len(held) == 4
    assert "wall of a-000.tar is left out: no face." in caplog.text
    assert "broken of a-000.tar is left out: damaged." in caplog.text


def test_observed_photos_are_not_processed_again(
    portraits: Path, samples: Path, tmp_path: Path, store: ObservationCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first = faces(portraits, samples, tmp_path, store=store)

    def looked(*_: object) -> None:
        raise AssertionError("looked again")

    monkeypatch.setattr("lifemask.data.observed.observe_face", looked)
    assert faces(portraits, samples, tmp_path, store=store) == first
    # A damaged file of the cache is not trusted.
    next(store.folder.rglob("*.safetensors")).write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="looked again"):
        faces(portraits, samples, tmp_path, store=store)


def test_framed_photos_hold_landmarks_where_the_face_is(
    portraits: Path, samples: Path, tmp_path: Path, store: ObservationCache
) -> None:
    training, _, _ = faces(portraits, samples, tmp_path, store=store)
    batch = training.batch(0, len(training))
    assert batch.photo.shape == (len(training), 3, 64, 64)
    assert batch.truth is None
    low, high = batch.landmarks478[:, :468].amin(1), batch.landmarks478[:, :468].amax(1)
    # The frame is one and a half faces wide and centred on the face.
    assert float(((high - low).amax(-1) - 64 / 1.5).abs().max()) < 0.01
    assert float(((high + low) / 2 - 32).abs().max()) < 0.01
    assert float(batch.landmarks478_weight.mean()) > 0.7
    # The tip of the nose is skin, the corner of the frame is not.
    nose = batch.landmarks478[:, 1].long()
    for k in range(len(training)):
        assert float(batch.skin[k, nose[k, 1], nose[k, 0]]) > 0.8
    assert float(batch.skin[:, :4, :4].max()) < 0.2
    assert float(batch.aflw21_weight.sum()) == 0
    assert len(set(batch.person.tolist())) == len(training)
    assert batch.person[0] >= 0


def test_manual_landmarks_are_carried_into_the_crop(
    samples: Path, tmp_path: Path, store: ObservationCache
) -> None:
    with Image.open(samples / "portrait_1.jpg") as image:
        width, height = image.size
    points = [None] * 21
    points[14] = [width / 2, height / 2]
    for name, number in (("a", 1), ("b", 2)):
        photo = (samples / f"portrait_{number}.jpg").read_bytes()
        write_shard(tmp_path / f"{name}.tar", {name: photo}, landmarks21_xy=points)
    training, held, _ = faces(tmp_path, samples, tmp_path, store=store, held_out=0.6)
    batch = (training if training.places[0][0].key == "a" else held).batch(0, 1)
    assert batch.aflw21_weight[0].nonzero().flatten().tolist() == [14]
    nose, centre = batch.landmarks478[0, 1], batch.aflw21[0, 14]
    assert float((nose - centre).norm()) < 25


def test_every_photo_comes_once_in_each_round(
    portraits: Path, samples: Path, tmp_path: Path, store: ObservationCache
) -> None:
    training, _, _ = faces(portraits, samples, tmp_path, store=store)
    count = len(training)
    rounds = [sorted(training.batch(k, count).person.tolist()) for k in range(3)]
    assert rounds[0] == rounds[1] == rounds[2]
    assert len(set(rounds[0])) == count
    one, again = training.batch(5, 2), training.batch(5, 2)
    for name, value in named_tensors(one).items():
        assert torch.equal(value, named_tensors(again)[name])


def test_people_to_validate_on_are_not_trained_on(
    samples: Path, tmp_path: Path, store: ObservationCache
) -> None:
    photos = {f"p{n}": (samples / f"portrait_{n}.jpg").read_bytes() for n in range(1, 5)}
    for n, (key, data) in enumerate(photos.items()):
        write_shard(tmp_path / f"{key}.tar", {key: data}, identity=f"person {n % 2}")
    for share in (0.5, 0.7):
        try:
            training, held, _ = faces(tmp_path, samples, tmp_path, store=store, held_out=share)
        except ShardError:
            continue
        people = [set(part.batch(0, len(part)).person.tolist()) for part in (training, held)]
        assert not people[0] & people[1]


def test_photos_of_another_licence_are_refused(
    samples: Path, tmp_path: Path, store: ObservationCache
) -> None:
    write_shard(tmp_path / "a.tar", {"x": jpeg(3)}, licence_tier="research")
    with pytest.raises(ShardError, match=r"x in .* has the licence tier 'research'.*allows open"):
        faces(tmp_path, samples, tmp_path, store=store)


def test_shards_without_any_face_are_refused(
    samples: Path, tmp_path: Path, store: ObservationCache
) -> None:
    write_shard(tmp_path / "a.tar", {"x": jpeg(3)})
    with pytest.raises(ShardError, match="Of 1 photos, 0 show a face"):
        faces(tmp_path, samples, tmp_path, store=store)


def test_people_have_numbers_that_fit_and_stay() -> None:
    assert person_number("frl/lon041") == person_number("frl/lon041")
    assert 0 <= person_number("lfw/Nona_Gaye") < 2**56


def test_whether_somebody_is_held_out_depends_on_the_name_alone() -> None:
    names = [f"somebody {k}" for k in range(400)]
    out = held_out_people(names, 0.2)
    assert 0.15 < len(out) / len(names) < 0.25
    assert held_out_people(names[::-2], 0.2) == out & set(names[::-2])
    assert len(held_out_people(names, 0.0)) == 1
    assert len(held_out_people(names[:2], 1.0)) == 1
