"""The command starts fast and has help, and its small subcommands print correct facts."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import lifemask
from lifemask.cli.main import main

SOURCE = Path(lifemask.__file__).parents[1]


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        timeout=120,
        check=False,
    )


def lifemask_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from lifemask.cli.main import main; sys.exit(main())"
    return python(code, *arguments)


def processor_seconds(code: str, *arguments: str) -> float:
    """Return user and system time of code minus that of an empty program, the best of three runs."""

    def once(code: str) -> float:
        before = os.times()
        python(code, *arguments)
        after = os.times()
        user, system = (
            after.children_user - before.children_user,
            after.children_system - before.children_system,
        )
        return user + system

    return min(once(code) for _ in range(3)) - min(once("") for _ in range(3))


def test_import_is_fast() -> None:
    assert processor_seconds("import lifemask") < 0.2


def test_help_is_fast() -> None:
    code = "from lifemask.cli.main import main; main(['--help'])"
    assert processor_seconds(code) < 0.5


@pytest.mark.parametrize("code", ["import lifemask", "import lifemask.cli.main"])
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    heavy = {"torch", "numpy", "numba", "scipy", "PIL", "onnxruntime"}
    done = python(f"{code}; import sys; print(*{heavy!r} & sys.modules.keys())")
    assert done.stdout.strip() == ""


def test_every_public_name_can_be_imported() -> None:
    for name in lifemask.__all__:
        assert getattr(lifemask, name) is not None
        assert name in dir(lifemask)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = lifemask.nonsense


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lifemask {lifemask.__version__}\n"
    module = "import runpy; runpy.run_module('lifemask', run_name='__main__')"
    assert python(module, "--version").stdout == f"lifemask {lifemask.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["reconstruct"],
        ["reconstruct", "a.jpg"],
        ["reconstruct", "a.jpg", "--output", "x", "--quality", "best"],
        ["relight", "a.glb", "--output", "x.png"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("command", ["reconstruct", "relight", "models", "licenses", "evaluate"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"lifemask {command}" in capsys.readouterr().out


def test_models_lists_licence_source_and_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert "samples/portrait_1" in [card["name"] for card in cards]
    assert all(card["licence"] and card["sources"] and len(card["sha256"]) == 64 for card in cards)
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert all(card["name"] in text and card["sha256"] in text for card in cards)


def test_licenses_credit_all_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["licenses"]) == 0
    assert "Face Research Lab London Set" in capsys.readouterr().out


def test_audit_passes_and_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["licenses", "--audit"]) == 0
    monkeypatch.setattr("lifemask.morphable.assets.audit", lambda: ["x.bin has no card."])
    assert main(["licenses", "--audit"]) == 1
    assert "x.bin has no card." in capsys.readouterr().err


def test_relight_explains_what_it_cannot_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    light = tmp_path / "light.json"
    light.write_text(json.dumps(np.zeros((4, 3)).tolist()))
    cases = [
        ("a.glb", "left", "a.png", 1, "lifemask reconstruct"),
        ("a.glb", "left", "a.gif", 2, "Known: .png, .jpg"),
        ("a.glb", "moon", "a.png", 2, "There is no light 'moon'"),
        ("a.glb", str(light), "a.png", 1, "the file is a list of 4; a list of 9 x 3 numbers"),
        ("a.glb", str(tmp_path), "a.png", 1, "Is a directory"),
        ("a.glb", "left", "nowhere/a.png", 1, "its folder does not exist"),
    ]
    for head, name, output, code, message in cases:
        head, output = str(tmp_path / head), str(tmp_path / output)
        assert main(["relight", head, "--light", name, "--output", output]) == code
        assert message in capsys.readouterr().err


def test_relight_refuses_sizes_and_damaged_textures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lifemask.io.gltf import write_glb
    from lifemask.io.scenes import Node, Scene, Surface, SurfaceMaterial

    output = str(tmp_path / "a.png")
    assert main(["relight", "a.glb", "--light", "left", "--output", output, "--size", "0"]) == 2
    assert "Allowed: 16 to 8192" in capsys.readouterr().err
    surface = Surface(
        np.eye(3, dtype=np.float32),
        np.array([[0, 1, 2]]),
        uv=np.zeros((3, 2), np.float32),
        material=SurfaceMaterial("Skin", base_colour_image=b"\xff\xd8\xff and no more"),
    )
    camera = {
        "focal_pixels": 100.0,
        "principal_point": [50.0, 50.0],
        "head_to_camera": [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1]],
        "image_size": [100, 100],
    }
    write_glb(tmp_path / "a.glb", Scene((Node("Head", (surface,)),), {"camera": camera}))
    head = str(tmp_path / "a.glb")
    assert main(["relight", head, "--light", "left", "--output", output]) == 1
    assert "texture" in capsys.readouterr().err
    assert not Path(output).exists()


def test_a_closed_output_is_not_an_error() -> None:
    """The output is closed as in `lifemask models | head -1`."""
    code = "import sys; from lifemask.cli.main import main; sys.exit(main(['models', '--json']))"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
    ) as process:
        process.stdout.close()
        error = process.stderr.read()
        process.wait(timeout=120)
    assert b"Traceback" not in error


def test_interrupt_leaves_nothing_half_written(tmp_path: Path) -> None:
    """After Ctrl-C during writing, the exit code is 130 and the folder is empty."""
    (tmp_path / "out").mkdir()
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import signal, sys, time
# A shell that starts tests in the background lets its programs ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["lifemask", "reconstruct", {str(SOURCE / "lifemask/assets/samples/portrait_1.jpg")!r},
            "--output", {str(tmp_path / "out")!r}]
from lifemask.cli import photo_work
from lifemask.cli.main import main

class Face:
    confidence = 1.0
    def to_json_dict(self):
        return {{}}
    def save(self, path, neutral):
        path.write_text("half")
        print("saving", flush=True)
        time.sleep(60)

photo_work.load_reconstructor = lambda options: lambda photo, **_: [Face()]
sys.exit(main())
"""
    )
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
    ) as process:
        assert process.stdout.readline() == "saving\n", process.stderr.read()
        time.sleep(0.1)
        process.send_signal(2)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in error
    assert os.listdir(tmp_path / "out") == []
