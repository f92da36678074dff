"""What the README shows runs, and what the documentation lists exists."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lifemask.cli.main import main

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the sample portrait, made by the command."""
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


def documented(section: str) -> set[str]:
    """Return the names in the first column of a section's table in docs/output.md."""
    text = (REPOSITORY / "docs" / "output.md").read_text("utf-8")
    body = text.split(f"## `{section}`", 1)[1].split("\n## ", 1)[0]
    return {name.split(".")[0] for name in re.findall(r"^\| `([\w.]+)`", body, re.MULTILINE)}


def test_json_has_the_documented_entries(output: Path) -> None:
    document = json.loads((output / "portrait_1.json").read_text("utf-8"))
    assert documented("NAME.json") == set(document)


def test_arrays_are_the_documented_ones(output: Path) -> None:
    with np.load(output / "portrait_1.npz", allow_pickle=False) as arrays:
        assert documented("NAME.npz` (`--arrays") == set(arrays.files)


def test_links_of_the_documents_lead_somewhere() -> None:
    for page in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")):
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
