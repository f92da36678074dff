"""Files appear complete or not at all, and photos of equal name have separate results."""

import errno
import json
import os
from pathlib import Path

import pytest

from lifemask.io.files import (
    OutputError,
    atomic_write,
    check_writable,
    make_folder,
    staged,
    unique_names,
    write_bytes,
    write_json,
)


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "face.glb"
    with atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert os.listdir(tmp_path) == ["face.glb"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_interrupted_write_leaves_the_older_file_alone(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "face.glb"
    write_bytes(path, b"older")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"newer")
        raise error
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["face.glb"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full simulates the full disk")
def test_full_disk_gives_a_clear_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hidden file is redirected to a device without space."""
    plain_open = open

    def open_full(path: Path, mode: str) -> object:
        plain_open(path, mode).close()
        return plain_open("/dev/full", "wb")

    monkeypatch.setattr("builtins.open", open_full)
    with pytest.raises(OutputError, match="disk is full"):
        write_bytes(tmp_path / "face.glb", b"data" * 100_000)
    assert os.listdir(tmp_path) == []


def test_missing_folder_and_file_in_the_way_give_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder does not exist"):
        write_bytes(tmp_path / "nowhere" / "face.glb", b"")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file where the folder should be"):
        make_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="a file where the folder should be"):
        make_folder(tmp_path / "file" / "deeper")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/a.png", "folder does not exist"),
        ("file/a.png", "a file where the folder should be"),
        ("folder", "a folder already has that name"),
        ("\u5bcc" * 85 + ".png", "the name is too long"),
    ],
)
def test_places_that_take_no_file_are_known_before_the_work(
    tmp_path: Path, name: str, message: str
) -> None:
    """The same message comes when the file is written."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for write in (check_writable, lambda path: write_bytes(path, b"")):
        with pytest.raises(OutputError, match=message):
            write(tmp_path / name)
    check_writable(tmp_path / "file")


def test_folder_without_permission_gives_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OutputError, match="not writable"):
        make_folder(tmp_path)


def test_json_refuses_what_other_readers_refuse(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Zoë", "value": 1.5})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"name": "Zoë", "value": 1.5}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()


def test_staged_files_appear_together(tmp_path: Path) -> None:
    with staged(tmp_path) as folder:
        (folder / "face.obj").write_text("o")
        (folder / "face.mtl").write_text("m")
        assert not (tmp_path / "face.obj").exists()
    assert sorted(os.listdir(tmp_path)) == ["face.mtl", "face.obj"]


def test_staged_files_are_removed_together(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staged(tmp_path) as folder:
        (folder / "face.obj").write_text("o")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_disk_that_fills_up_while_staging_gives_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="disk is full"), staged(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_messages_do_not_name_the_hidden_folder(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(OutputError, match="disk is full") as caught,
        staged(tmp_path) as folder,
        atomic_write(folder / "face.glb"),
    ):
        raise full
    assert repr(str(tmp_path / "face.glb")) in str(caught.value)
    assert ".part" not in str(caught.value)


@pytest.mark.parametrize(
    ("photos", "names"),
    [
        (["a.jpg", "b.png"], ["a", "b"]),
        (["x/a.jpg", "y/a.jpg", "y/a.png"], ["a", "y_a", "a-2"]),
        (["x/a.jpg", "x/A.jpg"], ["a", "x_A"]),
        (["x/a.jpg", "x/a_1.jpg"], ["a", "x_a_1"]),
        (["x/a_1.jpg", "x/a.jpg"], ["a_1", "x_a"]),
        (["IMG_1.jpg", "IMG_2.jpg"], ["IMG_1", "IMG_2"]),
        (["x/a b.jpg", "x/a_b.jpg"], ["a b", "x_a_b"]),
        (["x/a\udce9.jpg"], ["a_"]),
        ([f"{'n' * 150}/{'é' * 120}.jpg"], ["é" * 100]),
        (["x/" + "a" * 220 + "1.jpg", "x/" + "a" * 220 + "2.jpg"], ["a" * 200, "x_" + "a" * 198]),
    ],
)
def test_names_of_results_never_collide(photos: list[str], names: list[str]) -> None:
    assert unique_names([Path("/home") / photo for photo in photos]) == names


def test_names_avoid_what_is_taken() -> None:
    photos = [Path("/x/a.jpg"), Path("/x/b.jpg")]
    taken = {(0, "a"), (0, "x_a")}
    assert unique_names(photos, taken=lambda index, name: (index, name) in taken) == ["a-2", "b"]


def test_files_that_may_not_be_replaced_stay(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("precious")
    with (
        pytest.raises(OutputError, match=r"b\.txt' exists and is not an earlier result"),
        staged(tmp_path, may_replace=lambda name: name != "b.txt") as folder,
    ):
        for name in ("a.txt", "b.txt"):
            (folder / name).write_text("new")
    assert (tmp_path / "b.txt").read_text() == "precious"
    assert os.listdir(tmp_path) == ["b.txt"]


def test_hidden_files_have_short_names(tmp_path: Path) -> None:
    """Each of these signs takes three bytes, and a name has at most 255."""
    write_bytes(tmp_path / ("\u5bcc" * 83 + ".glb"), b"")
    assert len(os.listdir(tmp_path)) == 1
