"""Videos become clips of one person, and bad ones are counted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lifemask.data.augmentation_config import Augmentation
from lifemask.data.clips import ClipFaces, VideoError, frame_shard, open_clips, video_frames
from lifemask.data.observed import ObservationCache
from lifemask.data.photos import ShardError, index_shards

av = pytest.importorskip("av")


def write_video(path: Path, pictures: list[np.ndarray]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """Return a folder with two videos of a moving portrait, one of a wall and one that is none."""
    folder = tmp_path_factory.mktemp("videos")
    for number in (1, 2):
        with Image.open(samples / f"portrait_{number}.jpg") as image:
            picture = np.asarray(image.convert("RGB").resize((256, 256)))
        write_video(folder / f"v{number}.mp4", [np.roll(picture, 3 * k, 1) for k in range(8)])
    write_video(folder / "wall.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 4)
    (folder / "broken.mp4").write_bytes(b"no video at all")
    return folder


def open_all(videos: Path, work: Path, frames: int = 3) -> tuple[ClipFaces, ClipFaces, dict]:
    return open_clips(
        videos, ["*.mp4"], frames=frames, size=64, seed=0, augmentation=Augmentation.none(),
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
