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
from PIL import Image

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Got no light. Give one of --light, --environment and --like."),
        (["--light", "left", "--like", "b.jpg"], "Got --light and --like. Give one of"),
        (["--light", "left", "--turn", "20"], "Got --turn with --light"),
        (["--light", "left", "--exposure", "40"], "Cannot draw --exposure 40. Allowed: -10 to 10"),
        (["--light", "left", "--azimuth", "999"], "Allowed for --turn, --azimuth and --elevation"),
        (["--light", "left", "--azimuth", "nan"], "Allowed for --turn, --azimuth and --elevation"),
    ],
)
def test_relight_explains_options_that_exclude_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["relight", "a.glb", "--output", str(tmp_path / "a.png"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_relight_explains_files_that_hold_no_environment_or_no_face(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lifemask.cli import relight
    from lifemask.pipeline.reconstructor import FaceReconstructor

    class NobodyThere(FaceReconstructor):
        def __init__(self) -> None:
            pass

        def __call__(self, photo: object, *, faces: str) -> list[object]:
            return []

        def observe(self, photo: object, faces: str, *, crop: bool) -> list[object]:
            return []

    monkeypatch.setattr(relight, "load_reconstructor", NobodyThere)
    output, photo, broken = (str(tmp_path / name) for name in ("o.png", "p.jpg", "b.hdr"))
    Image.new("RGB", (64, 64)).save(photo)
    Path(broken).write_bytes(b"no light")
    head = str(Path(__file__).parent.parent / "pipeline" / "head_without_skeleton.glb")
    cases = [
        ([head, "--environment", str(tmp_path / "a.hdr")], 1, "a.hdr': No such file"),
        ([head, "--environment", broken], 1, "is no Radiance picture: it does not begin with"),
        ([head, "--environment", photo], 1, "Known formats: .hdr, .exr"),
        ([head, "--like", photo], 3, "p.jpg' shows no face that convinces"),
        ([photo, "--light", "left"], 3, "p.jpg' shows no face that convinces"),
        ([photo, "--light", "left", "--size", "64"], 2, "Got --size with a photo"),
    ]
    for options, code, message in cases:
        assert main(["relight", *options, "--output", output]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not Path(output).exists()
    assert main(["relight", photo, "--light", "left", "--output", photo]) == 2
    assert "would replace what it is made of" in capsys.readouterr().err


def test_relight_draws_a_head_from_another_side_in_an_environment(tmp_path: Path) -> None:
    """The panorama is bright only at the right of the picture."""
    pixels = np.zeros((16, 32, 4), np.uint8)
    pixels[:, 18:30] = (128, 128, 128, 129)
    pixels[:, :18] = (128, 128, 128, 124)
    (tmp_path / "a.hdr").write_bytes(b"#?RADIANCE\n\n-Y 16 +X 32\n" + pixels.tobytes())
    head = str(Path(__file__).parent.parent / "pipeline" / "head_without_skeleton.glb")
    output = str(tmp_path / "o.png")
    options = ["--environment", str(tmp_path / "a.hdr"), "--azimuth", "5", "--size", "64"]
    assert main(["relight", head, "--output", output, *options]) == 0
    picture = np.asarray(Image.open(output)).astype(int)
    assert picture.shape == (64, 64, 4)
    shown = np.where(picture[..., 3:] == 255, picture[..., :3], 0)
    assert shown[:, 36:].sum() > 1.3 * shown[:, :28].sum()


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
    def save(self, path, neutral, detail):
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
