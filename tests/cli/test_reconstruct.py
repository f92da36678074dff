"""`lifemask reconstruct` continues after bad photos, separates results and reports each photo."""

import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lifemask.cli import photo_work
from lifemask.cli.main import main
from lifemask.io.images import Photo


@dataclass
class FakeFace:
    """Replaces a reconstruction: one face, in the colour of the photo."""

    colour: list[int]
    confidence: float = 0.9

    def save(self, path: Path) -> None:
        path.write_text(f"mesh {self.colour}")

    def preview(self) -> np.ndarray:
        return np.zeros((20, 120, 3), np.uint8)

    def to_json_dict(self) -> dict[str, Any]:
        return {"photo": {"width": 64}, "colour": self.colour}

    def save_arrays(self, path: Path) -> None:
        np.savez(path, vertices_head=np.zeros((4, 3), np.float32))


class FakeReconstructor:
    """Finds as many faces as the value of green in the photo; it fails if red is 255."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, photo: Photo, **options: Any) -> Sequence[FakeFace]:
        self.calls.append(options)
        colour = photo.pixels[0, 0].tolist()
        if colour[0] == 255:
            raise ZeroDivisionError("division by zero")
        return [FakeFace(colour)] * colour[1]


@pytest.fixture
def reconstructor(monkeypatch: pytest.MonkeyPatch) -> FakeReconstructor:
    fake = FakeReconstructor()
    monkeypatch.setattr(photo_work, "load_reconstructor", lambda options: fake)
    return fake


def photo(path: Path, *, faces: int = 1, red: int = 0, blue: int = 0) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (red, faces, blue)).save(path)
    return str(path)


def run(*arguments: str | Path) -> int:
    return main(["reconstruct", *map(str, arguments)])


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_one_face(
    tmp_path: Path, reconstructor: FakeReconstructor, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert run(photo(tmp_path / "ada.png"), "--output", out) == 0
    names = ["ada.glb", "ada.json", "ada_preview.png"]
    assert files(out) == names
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(out / name) for name in names]
    assert printed.err == "", "quiet in a pipe"
    document = json.loads((out / "ada.json").read_text())
    assert document["photo"]["width"] == 64
    assert document["photo"]["file"] == "ada.png"
    assert len(document["photo"]["sha256"]) == 64


def test_several_faces_are_numbered(tmp_path: Path, reconstructor: FakeReconstructor) -> None:
    out = tmp_path / "out"
    assert run(photo(tmp_path / "ada.png", faces=2), "--output", out) == 0
    assert files(out) == [
        *("ada_1.glb", "ada_1.json", "ada_1_preview.png"),
        *("ada_2.glb", "ada_2.json", "ada_2_preview.png"),
    ]


def test_options_arrive(tmp_path: Path, reconstructor: FakeReconstructor) -> None:
    out = tmp_path / "out"
    options = ["--format", "glb,obj,ply", "--arrays", "--crop", "--faces", "largest"]
    assert run(photo(tmp_path / "ada.png"), "--output", out, *options) == 0
    assert {Path(name).suffix for name in files(out)} == {
        *(".glb", ".obj", ".ply", ".json", ".png", ".npz")
    }
    assert reconstructor.calls == [{"faces": "largest", "crop": True}]
    with np.load(out / "ada.npz", allow_pickle=False) as arrays:
        assert arrays["vertices_head"].shape == (4, 3)


def unreadable(folder: Path) -> dict[Path, str]:
    """Return photos that cannot be read, each with a part of its error message."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for suffix in ("jpg", "png"):
        Image.fromarray(noise).save(folder / f"truncated.{suffix}")
        os.truncate(folder / f"truncated.{suffix}", 2000)
    (folder / "folder.jpg").mkdir()
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("hello, I am a photo, really")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("1", (12000, 10000)).save(folder / "bomb.png")
    return {
        folder / "missing.jpg": "no file",
        folder / "folder.jpg": "is a folder",
        folder / "empty.jpg": "is empty",
        folder / "truncated.jpg": "damaged",
        folder / "truncated.png": "damaged",
        folder / "text.jpg": "is not a photo",
        folder / "dot.png": "1 x 1 pixels",
        folder / "bomb.png": "120 megapixels",
    }


def test_bad_photos_do_not_stop_the_others(
    tmp_path: Path, reconstructor: FakeReconstructor, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {str(path): reason for path, reason in unreadable(tmp_path).items()} | {
        photo(tmp_path / "failing.png", red=255): "unexpected ZeroDivisionError",
        photo(tmp_path / "nobody.png", faces=0): "--crop",
    }
    assert run(*expected, photo(tmp_path / "ada.png"), "--output", tmp_path / "out") == 1
    assert files(tmp_path / "out") == ["ada.glb", "ada.json", "ada_preview.png"]
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == len(expected), "one line each"
    for line, (path, reason) in zip(errors, expected.items(), strict=True):
        assert line.startswith(path)
        assert reason in line


def test_no_face_exits_with_3(
    tmp_path: Path, reconstructor: FakeReconstructor, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(photo(tmp_path / "sky.png", faces=0), "--output", out) == 3
    assert files(out) == []
    assert "no face found" in capsys.readouterr().err


def test_json_reports_every_photo(
    tmp_path: Path, reconstructor: FakeReconstructor, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [photo(tmp_path / f"{n}.png", faces=n) for n in (2, 0)]
    out = tmp_path / "out"
    assert run(*photos, tmp_path / "missing.jpg", "--output", out, "--json") == 1
    printed = capsys.readouterr()
    reports = [json.loads(line) for line in printed.out.splitlines()]
    assert [report["status"] for report in reports] == ["done", "no face", "failed"]
    assert [len(report["faces"]) for report in reports] == [2, 0, 0]
    assert all(Path(file).exists() for face in reports[0]["faces"] for file in face["files"])
    assert "no file" in reports[2]["message"]
    assert printed.err == ""


def test_equal_names_from_two_folders_never_overwrite_each_other(
    tmp_path: Path, reconstructor: FakeReconstructor
) -> None:
    """Photos have different names in one run and in two runs; the same photo keeps its name."""
    out = tmp_path / "out"
    first, second = (
        photo(tmp_path / folder / "ada.png", blue=blue) for folder, blue in (("x", 1), ("y", 2))
    )
    assert run(first, second, "--output", out) == 0
    assert [name for name in files(out) if name.endswith(".glb")] == ["ada.glb", "y_ada.glb"]
    third = photo(tmp_path / "z" / "ada.png", blue=3)
    assert run(third, "--output", out) == 0
    assert run(third, "--output", out) == 0
    assert run(first, "--output", out) == 0
    meshes = {name: (out / name).read_text() for name in files(out) if name.endswith(".glb")}
    assert meshes == {
        "ada.glb": "mesh [0, 1, 1]",
        "y_ada.glb": "mesh [0, 1, 2]",
        "z_ada.glb": "mesh [0, 1, 3]",
    }


def test_files_of_other_programs_are_not_overwritten(
    tmp_path: Path, reconstructor: FakeReconstructor
) -> None:
    (tmp_path / "ada.glb").write_text("precious")
    assert run(photo(tmp_path / "ada.png"), "--output", tmp_path) == 0
    assert (tmp_path / "ada.glb").read_text() == "precious"


def test_output_that_is_a_file_stops_before_anything_is_done(
    tmp_path: Path, reconstructor: FakeReconstructor, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").touch()
    assert run(photo(tmp_path / "ada.png"), "--output", tmp_path / "out") == 1
    assert "a file where the folder should be" in capsys.readouterr().err
    assert reconstructor.calls == []


def test_folder_that_may_not_be_written_stops_before_anything_is_done(
    tmp_path: Path,
    reconstructor: FakeReconstructor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The permission is simulated, because the superuser may write everywhere."""
    picture = photo(tmp_path / "ada.png")
    monkeypatch.setattr("os.access", lambda *_: False)
    assert run(picture, "--output", tmp_path / "out") == 1
    assert "not writable" in capsys.readouterr().err
    assert reconstructor.calls == []


def test_full_disk_is_reported_and_leaves_nothing(
    tmp_path: Path,
    reconstructor: FakeReconstructor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_room(self: FakeFace, path: Path) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FakeFace, "save", no_room)
    assert run(photo(tmp_path / "ada.png"), "--output", tmp_path / "out") == 1
    assert files(tmp_path / "out") == []
    assert "disk is full" in capsys.readouterr().err


def test_broken_installation_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> None:
        raise RuntimeError("asset head/basis is damaged")

    monkeypatch.setattr(photo_work, "load_reconstructor", fail)
    photos = [photo(tmp_path / f"{n}.png") for n in range(3)]
    assert run(*photos, "--output", tmp_path / "out") == 1
    assert capsys.readouterr().err.count("head/basis is damaged") == 1


@pytest.mark.parametrize("formats", ["stl", "", "glb,fbx"])
def test_unknown_format_is_wrong_usage(
    tmp_path: Path, formats: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("a.jpg", "--output", tmp_path / "out", "--format", formats) == 2
    assert "glb, obj, ply, usdz" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_usdz_is_a_format(tmp_path: Path, reconstructor: FakeReconstructor) -> None:
    pytest.importorskip("pxr", reason="the extra `usd` is not installed")
    picture = photo(tmp_path / "ada.png")
    assert run(picture, "--output", tmp_path / "out", "--format", "usdz") == 0
    assert files(tmp_path / "out") == ["ada.json", "ada.usdz", "ada_preview.png"]


def test_usdz_without_its_package_stops_before_anything_is_done(
    tmp_path: Path,
    reconstructor: FakeReconstructor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "pxr", None)
    picture = photo(tmp_path / "ada.png")
    assert run(picture, "--output", tmp_path / "out", "--format", "glb,usdz") == 1
    assert "pip install 'lifemask[usd]'" in capsys.readouterr().err
    assert reconstructor.calls == []
    assert not (tmp_path / "out").exists()
