"""The README's commands and the examples work, and the names in the documents exist."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lifemask.cli.main import main

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the command's results for the sample portrait."""
    folder = tmp_path_factory.mktemp("output")
    sample = REPOSITORY / "src/lifemask/assets/samples/portrait_1.jpg"
    arguments = [str(sample), "--output", str(folder), "--quality", "fast", "--arrays"]
    assert main(["reconstruct", *arguments]) == 0
    return folder


def test_python_of_the_readme_runs(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (REPOSITORY / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes((samples / "portrait_2.jpg").read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "face.glb").read_bytes().startswith(b"glTF")
    with Image.open(tmp_path / "photo.jpg") as photo, Image.open(tmp_path / "relit.png") as relit:
        assert relit.size == photo.size


def run_example(name: str, *arguments: str | Path) -> None:
    sys.argv = [name, *map(str, arguments)]
    runpy.run_path(str(REPOSITORY / "examples" / name), run_name="__main__")


@pytest.fixture(autouse=True)
def _restore_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)


def test_every_example_is_tested() -> None:
    own = Path(__file__).read_text("utf-8")
    for example in (REPOSITORY / "examples").glob("*.py"):
        assert f'run_example("{example.name}"' in own


def test_example_relights_a_photo(tmp_path: Path, samples: Path) -> None:
    strip = tmp_path / "strip.png"
    run_example("relight_photo.py", samples / "portrait_1.jpg", strip, "--steps", "2")
    with Image.open(strip) as image:
        pictures = np.array_split(np.asarray(image).astype(float), 3, axis=1)
    face = (slice(200, 500), slice(200, 440))
    left, right = (picture[face] for picture in pictures[1:])
    assert left[:, :120].mean() > right[:, :120].mean()
    assert left[:, 120:].mean() < right[:, 120:].mean()


def test_example_animates_a_head(tmp_path: Path, output: Path) -> None:
    arguments = [output / "portrait_1.glb", tmp_path / "open.gif", "--frames", "2", "--size", "96"]
    run_example("animate_head.py", *arguments)
    with Image.open(tmp_path / "open.gif") as image:
        assert image.n_frames == 2
        first = np.asarray(image.convert("L")).astype(int)
        image.seek(1)
        assert np.abs(np.asarray(image.convert("L")) - first).max() > 40


def documented(section: str) -> set[str]:
    """Return the names in the first column of a section's table in docs/output.md."""
    text = (REPOSITORY / "docs" / "output.md").read_text("utf-8")
    body = text.split(f"## `{section}`", 1)[1].split("\n##", 1)[0]
    return {name.split(".")[0] for name in re.findall(r"^\| `([\w.]+)`", body, re.MULTILINE)}


def test_json_has_the_documented_entries(output: Path) -> None:
    document = json.loads((output / "portrait_1.json").read_text("utf-8"))
    assert documented("NAME.json") == set(document)


def test_arrays_are_the_documented_ones(output: Path) -> None:
    with np.load(output / "portrait_1.npz", allow_pickle=False) as arrays:
        # A fast head has no relief.
        assert documented("NAME.npz` (`--arrays") - {"displacement"} == set(arrays.files)


def test_links_of_the_documents_lead_somewhere() -> None:
    for page in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")):
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
