"""The command reconstructs difficult photos, or says what to try."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lifemask.cli import photo_work
from lifemask.cli.main import main
from lifemask.pipeline.reconstructor import FaceReconstructor


@pytest.fixture
def portrait(samples: Path) -> Image.Image:
    with Image.open(samples / "portrait_1.jpg") as picture:
        return picture.convert("RGB")


def reports(
    photos: dict[str, Image.Image],
    folder: Path,
    fast_reconstructor: FaceReconstructor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *options: str,
) -> tuple[int, dict[str, dict[str, object]]]:
    """Run the command on the pictures; return its exit code and its report of each."""
    monkeypatch.setattr(photo_work, "load_reconstructor", lambda options: fast_reconstructor)
    for name, picture in photos.items():
        picture.save(folder / f"{name}.png")
    paths = [str(folder / f"{name}.png") for name in photos]
    code = main(["reconstruct", *paths, "--output", str(folder / "out"), "--json", *options])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return code, dict(zip(photos, lines, strict=True))


def test_face_cut_by_the_border_is_completed_with_a_warning(
    tmp_path: Path,
    portrait: Image.Image,
    fast_reconstructor: FaceReconstructor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    width, height = portrait.size
    cut = {"cut": portrait.crop((width // 2, 0, width, height))}
    code, report = reports(cut, tmp_path, fast_reconstructor, monkeypatch, capsys, "--strict")
    assert code == 4, report
    document = json.loads((tmp_path / "out" / "cut.json").read_text())
    reasons = [warning["reason"] for warning in document["warnings"]]
    assert reasons == ["hidden", "landmarks"]
    x = np.array(document["landmarks68"])[:, 0]
    assert x.min() < 0, "the half that is not seen lies outside the photo"
    assert (tmp_path / "out" / "cut.glb").stat().st_size > 100_000


def test_photos_without_a_usable_face_say_what_to_try(
    tmp_path: Path,
    portrait: Image.Image,
    fast_reconstructor: FaceReconstructor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The photos show a face of five pixels, and only sky."""
    tiny = Image.new("RGB", (1200, 900), (120, 120, 120))
    tiny.paste(portrait.resize((12, 12)), (700, 400))
    sky = Image.linear_gradient("L").convert("RGB").resize((300, 200))
    code, report = reports(
        {"tiny": tiny, "sky": sky}, tmp_path, fast_reconstructor, monkeypatch, capsys
    )
    assert code == 3
    for name in ("tiny", "sky"):
        assert report[name]["status"] == "no face"
        assert "crop the photo around it" in str(report[name]["message"])
    assert list((tmp_path / "out").iterdir()) == []


def test_with_crop_a_photo_without_a_face_gives_a_head_and_a_warning(
    tmp_path: Path,
    portrait: Image.Image,
    fast_reconstructor: FaceReconstructor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    photos = {"noise": Image.fromarray(noise), "face": portrait}
    code, report = reports(photos, tmp_path, fast_reconstructor, monkeypatch, capsys, "--crop")
    assert code == 0
    faces = {name: about["faces"][0] for name, about in report.items()}  # type: ignore[index]
    assert faces["noise"]["confidence"] < 0.05
    assert faces["face"]["confidence"] > 0.5
    reasons = {name: [w["reason"] for w in face["warnings"]] for name, face in faces.items()}
    assert reasons["noise"][0] == "unsure"
    assert "unsure" not in reasons["face"]
