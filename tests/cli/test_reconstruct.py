"""`lifemask reconstruct` continues after bad photos, separates results and reports each photo."""

import errno
import io
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_reconstructor import FakeFace, FakeReconstructor, load
from PIL import Image

from lifemask.cli import photo_work
from lifemask.cli.main import main
from lifemask.cli.progress import ProgressLine


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
        folder / "folder.jpg": "no photo is in this folder",
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
    for path, reason in expected.items():
        (line,) = (line for line in errors if line.startswith(f"{path}:"))
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


@pytest.mark.parametrize(
    "own",
    ["ada.glb", "ada.json", "ada_preview.png", "ADA.npz", "ada_2_preview.png", "ada.mtl",
     "ada_Skin_colour.jpg", "ada_Lashes_colour.png"],
)  # fmt: skip
def test_no_file_of_the_user_is_replaced(
    tmp_path: Path, reconstructor: FakeReconstructor, capsys: pytest.CaptureFixture[str], own: str
) -> None:
    """The photo is refused before its reconstruction; another photo is not."""
    (tmp_path / own).write_text("precious")
    photos = [photo(tmp_path / "ada.png"), photo(tmp_path / "bob.png")]
    options = ["--output", tmp_path, "--format", "glb,obj", "--arrays"]
    assert run(*photos, *options) == 1
    assert (tmp_path / own).read_text() == "precious"
    assert f"{own}' exists and is not an earlier result" in capsys.readouterr().err
    assert len(reconstructor.calls) == 1
    assert not (tmp_path / "ada.ply").exists()
    assert (tmp_path / "bob.glb").exists()
    assert run(*photos, *options, "--overwrite") == 0
    assert (tmp_path / "ada.glb").read_text() == "mesh [0, 1, 0]"


def test_results_of_the_same_photo_are_replaced(
    tmp_path: Path, reconstructor: FakeReconstructor
) -> None:
    """Each run writes other files; the files of all runs belong to the photo."""
    picture = photo(tmp_path / "ada.png", faces=2)
    for formats in ("glb", "obj", "glb,obj"):
        assert run(picture, "--output", tmp_path, "--format", formats) == 0
    assert json.loads((tmp_path / "ada_1.json").read_text())["files"] == sorted(
        set(files(tmp_path)) - {"ada.png"}
    )
    (tmp_path / "ada_1.ply").write_text("of another program")
    assert run(picture, "--output", tmp_path, "--format", "ply") == 1


def test_results_of_earlier_versions_are_replaced(
    tmp_path: Path, reconstructor: FakeReconstructor
) -> None:
    """Their JSON names the photo, but not the files."""
    picture = photo(tmp_path / "ada.png")
    assert run(picture, "--output", tmp_path) == 0
    document = json.loads((tmp_path / "ada.json").read_text())
    (tmp_path / "ada.json").write_text(json.dumps({"photo": document["photo"]}))
    assert run(picture, "--output", tmp_path) == 0
    assert files(tmp_path) == ["ada.glb", "ada.json", "ada.png", "ada_preview.png"]


def test_photos_are_never_replaced(
    tmp_path: Path, reconstructor: FakeReconstructor, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [photo(tmp_path / name) for name in ("ada.png", "ada_preview.png")]
    before = Path(photos[1]).read_bytes()
    assert run(*photos, "--output", tmp_path, "--overwrite") == 1
    assert Path(photos[1]).read_bytes() == before
    assert "ada_preview.png' is one of the photos" in capsys.readouterr().err


def test_files_that_appear_during_the_work_are_not_replaced(
    tmp_path: Path,
    reconstructor: FakeReconstructor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"

    def slow(self: FakeFace, path: Path, *, neutral: bool, detail: str) -> None:
        path.write_text("mesh")
        (out / "ada.glb").write_text("precious")

    monkeypatch.setattr(FakeFace, "save", slow)
    assert run(photo(tmp_path / "ada.png"), "--output", out) == 1
    assert (out / "ada.glb").read_text() == "precious"
    assert files(out) == ["ada.glb"]
    assert "ada.glb' exists" in capsys.readouterr().err


def test_patterns_that_the_shell_leaves_are_replaced_by_names(
    tmp_path: Path, reconstructor: FakeReconstructor, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = photo(tmp_path / "b[1].png")
    photo(tmp_path / "a.png")
    (tmp_path / "c.png").mkdir()
    assert run(tmp_path / "*.png", "--output", tmp_path / "out") == 0
    assert [name for name in files(tmp_path / "out") if name.endswith("glb")] == [
        *("a.glb", "b[1].glb")
    ]
    assert run(odd, "--output", tmp_path / "odd") == 0
    assert run(tmp_path / "*.jpg", "--output", tmp_path / "none") == 1
    assert f"no file in {str(tmp_path)!r} matches" in capsys.readouterr().err


@pytest.mark.parametrize(
    "stem",
    [os.fsdecode(b"caf\xe9"), "a" * 250, "\u5bcc" * 83, "two\nlines"],
    ids=["not UTF-8", "long", "long in bytes", "control"],
)
def test_any_name_of_a_photo_gives_results(
    tmp_path: Path,
    reconstructor: FakeReconstructor,
    capsys: pytest.CaptureFixture[str],
    stem: str,
) -> None:
    picture = tmp_path / f"{stem}.png"
    try:
        photo(picture)
    except OSError:
        pytest.skip("this file system does not take the name")
    out = tmp_path / "out"
    options = ["--output", out, "--format", "obj", "--arrays", "--json"]
    assert run(picture, *options) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["photo"] == str(picture)
    assert sorted(Path(file).name for file in report["faces"][0]["files"]) == files(out)
    assert all(len(os.fsencode(name)) <= 230 for name in files(out))
    (document,) = (name for name in files(out) if name.endswith(".json"))
    assert json.loads((out / document).read_text("utf-8"))["photo"]["file"].endswith(".png")
    assert run(picture, *options) == 0, "the results of the same photo are replaced"


def test_doubtful_results_have_warnings(
    tmp_path: Path, reconstructor: FakeReconstructor, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = photo(tmp_path / "good.png"), photo(tmp_path / "bad.png", blue=99)
    out = tmp_path / "out"
    assert run(good, bad, "--output", out) == 0
    errors = capsys.readouterr().err.splitlines()
    assert errors == [f"{bad}: warning for bad: It is {name}." for name in ("small", "blurred")]
    assert run(good, bad, "--output", out, "--json") == 0
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(report["faces"][0]["warnings"]) for report in reports] == [0, 2]
    assert reports[1]["faces"][0]["warnings"][0] == {"reason": "small", "message": "It is small."}


def test_strict_exits_with_4_unless_something_is_worse(
    tmp_path: Path, reconstructor: FakeReconstructor
) -> None:
    good, bad = photo(tmp_path / "good.png"), photo(tmp_path / "bad.png", blue=99)
    options = ["--output", tmp_path / "out", "--strict"]
    assert run(good, *options) == 0
    assert run(good, bad, *options) == 4
    assert run(bad, photo(tmp_path / "sky.png", faces=0), *options) == 3
    assert run(bad, tmp_path / "missing.png", *options) == 1


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
    def no_room(self: FakeFace, path: Path, *, neutral: bool, detail: str) -> None:
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


def test_an_unknown_system_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = photo(tmp_path / "ada.png")
    assert run(picture, "--output", tmp_path / "out", "--system", "best") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("Unknown system 'best'. Known: ")
    assert not (tmp_path / "out").exists()


def test_a_second_stage_finds_no_faces(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.jpg", "--output", "heads", "--system", "skin_relief") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "refines the faces of another system" in line
    assert "dense_landmarks" in line


@pytest.mark.parametrize("formats", ["dae", "", "glb,fbx"])
def test_unknown_format_is_wrong_usage(
    tmp_path: Path, formats: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("a.jpg", "--output", tmp_path / "out", "--format", formats) == 2
    assert "glb, obj, ply, stl, usdz" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unknown_hair_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.jpg", "--output", tmp_path / "out", "--hair", "mohawk") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("Cannot make hair 'mohawk'. Known: auto, none, shell, ")
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


def test_o_stands_for_output(tmp_path: Path, reconstructor: FakeReconstructor) -> None:
    assert run(photo(tmp_path / "ada.png"), "-o", tmp_path / "out") == 0
    assert files(tmp_path / "out") == ["ada.glb", "ada.json", "ada_preview.png"]


def test_a_folder_names_its_photos_but_no_results(
    tmp_path: Path, reconstructor: FakeReconstructor, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice into the folder of the photos: previews of the first run are no photos of the second."""
    for name in ("b.png", "a.JPG", ".hidden.png", "below/c.png"):
        photo(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photo")
    for _ in range(2):
        assert run(tmp_path, "-o", tmp_path) == 0
        assert len(reconstructor.calls) == 2
        reconstructor.calls.clear()
    assert [name for name in files(tmp_path) if name.endswith(".glb")] == ["a.glb", "b.glb"]
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", "-o", tmp_path / "out") == 1
    assert "empty: no photo is in this folder" in capsys.readouterr().err


def test_a_photo_that_is_named_twice_is_made_once(
    tmp_path: Path, reconstructor: FakeReconstructor, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = photo(tmp_path / "ada.png")
    monkeypatch.chdir(tmp_path)
    assert run(picture, "ada.png", "./ada.png", ".", "*.png", "-o", tmp_path / "out") == 0
    assert len(reconstructor.calls) == 1
    assert files(tmp_path / "out") == ["ada.glb", "ada.json", "ada_preview.png"]


def standard_input(data: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data))


def test_a_minus_reads_the_standard_input(
    tmp_path: Path,
    reconstructor: FakeReconstructor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The next photo on it is another one, so it gets another name."""
    out = tmp_path / "out"
    for red in (1, 2):
        data = Path(photo(tmp_path / "ada.png", red=red)).read_bytes()
        monkeypatch.setattr("sys.stdin", standard_input(data))
        assert run("-", "-", "-o", out, "--no-preview") == 0
    heads = [name for name in files(out) if name.endswith(".glb")]
    assert len(heads) == 2
    assert "stdin.glb" in heads
    document = json.loads((out / "stdin.json").read_text())
    assert document["photo"]["file"] == "stdin"
    monkeypatch.setattr("sys.stdin", standard_input(b""))
    assert run("-", "-o", out) == 1
    assert "-: The standard input is empty." in capsys.readouterr().err


def test_previews_can_be_left_out(tmp_path: Path, reconstructor: FakeReconstructor) -> None:
    assert run(photo(tmp_path / "ada.png"), "-o", tmp_path / "out", "--no-preview") == 0
    assert files(tmp_path / "out") == ["ada.glb", "ada.json"]


def test_existing_results_are_skipped_if_they_are_complete_and_of_the_same_photo(
    tmp_path: Path, reconstructor: FakeReconstructor, capsys: pytest.CaptureFixture[str]
) -> None:
    ada, two = photo(tmp_path / "ada.png"), photo(tmp_path / "two.png", faces=2)
    out = tmp_path / "out"
    skip = [ada, two, "-o", out, "--skip-existing"]

    def made() -> int:
        assert run(*skip) == 0
        count = len(reconstructor.calls)
        reconstructor.calls.clear()
        return count

    assert made() == 2
    capsys.readouterr()
    assert made() == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [f"Skipped 2: their results are in {str(out)!r}."]
    (out / "two_2.glb").unlink()
    assert made() == 1, "one file is missing"
    skip += ["--format", "glb,obj"]
    assert made() == 2, "another format is wanted"
    photo(tmp_path / "ada.png", red=7)
    assert made() == 1, "this is another photo"
    capsys.readouterr()
    assert run(*skip, "--json") == 0
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [report["status"] for report in reports] == ["skipped", "skipped"]


def test_jobs_are_processes_and_one_that_dies_fails_its_photo_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(photo_work, "load_reconstructor", load)
    good = [photo(tmp_path / f"{n}.png", faces=n) for n in (1, 2)]
    dying, bad = photo(tmp_path / "dying.png", blue=66), photo(tmp_path / "bad.png", red=255)
    out = tmp_path / "out"
    options = ["-o", out, "--jobs", "2", "--json", "--no-preview"]
    assert run(dying, bad, *good, tmp_path / "missing.jpg", *options) == 1
    printed = capsys.readouterr()
    assert printed.err == "", "quiet in a pipe"
    reports = {report["photo"]: report for report in map(json.loads, printed.out.splitlines())}
    assert len(reports) == 5
    assert "its process ended unexpectedly" in reports[dying]["message"]
    assert "ZeroDivisionError" in reports[bad]["message"]
    assert [len(reports[name]["faces"]) for name in good] == [1, 2]
    assert len(files(out)) == 6, "nothing half-written is left"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--device", "banana"], "Got the device 'banana'. Allowed: auto, cpu, cuda, cuda:1, mps."),
        (["--device", "cuda:x"], "Got the device 'cuda:x'. Allowed:"),
        (["--device", "cuda:63"], "Got the device 'cuda:63', but torch finds"),
        (["--device", "mps", "--runtime", "onnxruntime"], "'mps'"),
    ],
)
def test_a_device_that_is_not_there_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert run("a.jpg", "-o", tmp_path / "out", *options) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_jobs_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.jpg", "-o", tmp_path / "out", "--jobs", "0") == 2
    assert "at least 1 is needed" in capsys.readouterr().err


def test_a_terminal_shows_stage_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After 2 of 10 photos in 60 seconds, 8 photos need 240 seconds; a pipe stays empty."""
    line = ProgressLine(10, begun=time.monotonic() - 60, finished=2)
    line.show("ada.jpg", "fitting")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    line.show("ada.jpg", "fitting")
    line.clear()
    shown = capsys.readouterr().err
    assert "[3/10] ada.jpg: fitting, about 4 min left" in shown
    assert shown.endswith("\r\033[K")


def test_finer_triangles_on_request(tmp_path: Path, reconstructor: FakeReconstructor) -> None:
    out = tmp_path / "out"
    assert run(photo(tmp_path / "ada.png"), "-o", out, "--detail", "mesh") == 0
    assert (out / "ada.glb").read_text().startswith("fine mesh")


def test_neutral_heads_and_textures_on_request(
    tmp_path: Path, reconstructor: FakeReconstructor
) -> None:
    out = tmp_path / "out"
    options = ["-o", out, "--neutral", "--textures", "--no-preview"]
    assert run(photo(tmp_path / "ada.png"), *options) == 0
    assert files(out) == ["ada.glb", "ada.json", "ada_Skin_colour.jpg"]
    assert (out / "ada.glb").read_text().startswith("neutral mesh")
    (out / "ada_Skin_colour.jpg").write_text("edited by hand")
    (out / "ada.json").unlink()
    assert run(tmp_path / "ada.png", *options) == 1, "a texture that is in the way is kept"
    assert (out / "ada_Skin_colour.jpg").read_text() == "edited by hand"
