"""Videos become clips of one person, and bad ones are counted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.cards import person_number
from lifemask.data.clips import ClipFaces, VideoError, frame_shard, open_clips, video_frames
from lifemask.data.observed import ObservationCache
from lifemask.data.photo_faces import FaceCrops
from lifemask.data.photos import ShardError, index_shards

av = pytest.importorskip("av")


def write_video(path: Path, pictures: list[np.ndarray], **card: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return with_card(path, **card)


def with_card(video: Path, **card: str) -> Path:
    said = {"source": "test", "identity": video.stem, "licence_tier": "research"} | card
    video.with_suffix(".json").write_text(json.dumps(said))
    return video


def portrait(samples: Path, number: int) -> list[np.ndarray]:
    """Return frames of a portrait that moves to the right."""
    with Image.open(samples / f"portrait_{number}.jpg") as image:
        picture = np.asarray(image.convert("RGB").resize((256, 256)))
    return [np.roll(picture, 3 * k, 1) for k in range(8)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """Return a folder with two videos of a moving portrait, one of a wall, and a file of no video."""
    folder = tmp_path_factory.mktemp("videos")
    for number in (1, 2):
        write_video(folder / f"v{number}.mp4", portrait(samples, number))
    write_video(folder / "wall.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 4)
    (folder / "broken.mp4").write_bytes(b"no video at all")
    with_card(folder / "broken.mp4")
    return folder


def open_all(
    videos: Path, work: Path, frames: int = 3, tiers: tuple[str, ...] = ("research",)
) -> tuple[ClipFaces, ClipFaces, dict]:
    # The pattern matches the cards too.
    return open_clips(
        videos, ["*"], tiers=tiers, frames=frames, crops=FaceCrops(64, 0, Augmentation.none()),
        store=ObservationCache(work / "observed"), shards=work / "shards",
    )  # fmt: skip


@pytest.fixture(scope="module")
def clips(
    videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ClipFaces, ClipFaces, dict]:
    return open_all(videos, tmp_path_factory.mktemp("clips"))


def test_clips_have_frames_as_second_axis_and_one_person(
    clips: tuple[ClipFaces, ClipFaces, dict],
) -> None:
    training, held, _ = clips
    batch = training.batch(0, 2)
    assert batch.photo.shape == (2, 3, 3, 64, 64)
    assert batch.landmarks478.shape == (2, 3, 478, 2)
    assert (batch.person == batch.person[:, :1]).all()
    assert batch.person[0, 0] != held.batch(0, 1).person[0, 0]
    assert torch.equal(batch.photo, training.batch(0, 2).photo)
    assert not torch.equal(batch.photo, training.batch(1, 2).photo)


def test_videos_without_faces_and_broken_ones_are_counted(
    clips: tuple[ClipFaces, ClipFaces, dict],
) -> None:
    about = clips[2]
    assert about["left_out"] == {"damaged videos": 1, "no face": 4, "short videos": 1}
    assert (about["videos"], about["held_out"]) == (1, 1)
    assert about["tiers"] == ["research"]


def test_frames_are_of_the_person_whom_the_card_names(
    clips: tuple[ClipFaces, ClipFaces, dict],
) -> None:
    people = {int(part.batch(0, 1).person[0, 0]) for part in clips[:2]}
    assert people == {person_number("test/v1"), person_number("test/v2")}


def test_nobody_is_both_trained_on_and_held_out(samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, number, identity in (("a", 1, "anna"), ("b", 2, "ben"), ("c", 1, "anna")):
        write_video(folder / f"{name}.mp4", portrait(samples, number), identity=identity)
    training, held, about = open_all(folder, tmp_path)
    assert about["videos"] + about["held_out"] == 3
    shown = [{place.read().about["identity"] for v in part.videos for place, _ in v}
             for part in (training, held)]  # fmt: skip
    assert shown[0] | shown[1] == {"anna", "ben"}
    assert not shown[0] & shown[1]
    # With one person there is nobody to validate on.
    (folder / "b.mp4").unlink()
    with pytest.raises(ShardError, match=r"2 have 3 frames with a face and show 1 people"):
        open_all(folder, tmp_path)


def test_videos_without_a_card_or_of_another_licence_are_refused(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"never decoded")
    with pytest.raises(ShardError, match=r"has no card clip\.json beside it\. Write one with"):
        open_all(tmp_path, tmp_path)
    with_card(video)
    with pytest.raises(ShardError, match=r"clip\.mp4 has the licence tier 'research'.*allows open"):
        open_all(tmp_path, tmp_path, tiers=("open",))
    video.with_suffix(".json").write_text('{"source": "test", "identity": null}')
    with pytest.raises(ShardError, match=r"clip\.json lacks identity, licence_tier"):
        open_all(tmp_path, tmp_path)
    video.with_suffix(".json").write_text("[]")
    with pytest.raises(ShardError, match=r"clip\.json cannot be read"):
        open_all(tmp_path, tmp_path)


def test_a_changed_card_makes_another_shard(videos: Path, tmp_path: Path) -> None:
    video = tmp_path / "v1.mp4"
    video.write_bytes((videos / "v1.mp4").read_bytes())
    before = frame_shard(with_card(video), tmp_path)
    after = frame_shard(with_card(video, licence_tier="open"), tmp_path)
    assert before != after
    assert index_shards([after])[0][0].read().about["licence_tier"] == "open"


def test_frames_are_evenly_spaced_and_kept(videos: Path, tmp_path: Path) -> None:
    frames = list(video_frames(videos / "v1.mp4", 4))
    whole = list(video_frames(videos / "v1.mp4", 100))
    assert (len(frames), len(whole)) == (4, 8)
    for frame, number in zip(frames, (0, 2, 5, 7), strict=True):
        assert np.array_equal(frame, whole[number])
    shard = frame_shard(videos / "v1.mp4", tmp_path)
    before = shard.stat().st_mtime_ns
    assert frame_shard(videos / "v1.mp4", tmp_path) == shard
    assert shard.stat().st_mtime_ns == before
    assert len(index_shards([shard])[0]) == 8


def test_a_file_that_is_no_video_is_named(videos: Path) -> None:
    with pytest.raises(VideoError, match=r"broken\.mp4 cannot be decoded"):
        list(video_frames(videos / "broken.mp4", 4))


def test_clips_longer_than_all_videos_are_refused(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"Of 3 videos, 0 have 9 frames with a face"):
        open_all(videos, tmp_path, frames=9)
