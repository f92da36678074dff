"""Blender reads the heads; only with LIFEMASK_BLENDER_TESTS=1, because its package has 900 MB."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lifemask.io.gltf import write_glb
from lifemask.io.obj import write_obj
from lifemask.io.scenes import Scene
from lifemask.morphable.arkit import ARKIT_EXPRESSIONS
from lifemask.morphable.visemes import VISEMES
from lifemask.pipeline.reconstruction import FaceReconstruction

REPOSITORY = Path(__file__).resolve().parents[2]

SCRIPT = """
import bpy, json, sys
seen = {}
for path, read in ((sys.argv[1], bpy.ops.import_scene.gltf), (sys.argv[2], bpy.ops.wm.obj_import)):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    read(filepath=path)
    seen[path.rsplit(".", 1)[1]] = {
        item.name: {
            "keys": {
                key.name: max((a.co - b.co).length for a, b in zip(key.data, item.data.vertices))
                for key in item.data.shape_keys.key_blocks
            } if item.data.shape_keys else {},
            "weights": {
                key.name: key.value for key in item.data.shape_keys.key_blocks
            } if item.data.shape_keys else {},
            "materials": [material.name for material in item.data.materials if material],
            "images": [
                node.image.name for material in item.data.materials if material
                for node in material.node_tree.nodes if node.type == "TEX_IMAGE"
            ],
        }
        for item in bpy.data.objects if item.type == "MESH"
    }
print("SEEN" + json.dumps(seen))
"""


pytestmark = [
    pytest.mark.skipif(
        os.environ.get("LIFEMASK_BLENDER_TESTS") != "1",
        reason="LIFEMASK_BLENDER_TESTS=1 installs bpy (900 MB) and runs this",
    ),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="bpy 4.5 is for Python 3.11 only"),
    pytest.mark.timeout(1200),
]


def seen_by_blender(glb: Path, obj: Path) -> dict[str, Any]:
    """Return Blender's contents of both files: for each object its keys, materials and images.

    Blender is fetched from PyPI once, into .cache.
    """
    python = REPOSITORY / ".cache" / "blender" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "bpy==4.5.15"]
        subprocess.run(install, check=True)
    command = [str(python), "-c", SCRIPT, str(glb), str(obj)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.split("SEEN", 1)[1].splitlines()[0])


def test_blender_sees_shape_keys_materials_and_textures(tmp_path: Path, scene: Scene) -> None:
    write_glb(tmp_path / "face.glb", scene)
    write_obj(tmp_path / "face.obj", scene)
    seen = seen_by_blender(tmp_path / "face.glb", tmp_path / "face.obj")
    assert set(seen["glb"]) == {"head", "eye_left", "eye_right"}
    assert list(seen["glb"]["head"]["keys"]) == ["Basis", "jawOpen", "puff", "none"]
    assert len(seen["glb"]["head"]["images"]) == 3
    assert len(seen["obj"]) == 4
    assert len(seen["obj"]["head"]["images"]) == 3


def test_blender_sees_a_head_with_52_expressions(tmp_path: Path, face: FaceReconstruction) -> None:
    """Each expression moves a vertex by at least a millimetre, and none by the size of a head."""
    face.save(tmp_path / "face.glb")
    face.save(tmp_path / "face.obj")
    seen = seen_by_blender(tmp_path / "face.glb", tmp_path / "face.obj")
    nodes = {"head", "eye_left", "eye_right", "teeth", "tongue", "lashes"}
    assert set(seen["glb"]) == nodes
    head = seen["glb"]["head"]
    assert list(head["keys"]) == ["Basis", *ARKIT_EXPRESSIONS, *VISEMES]
    for name in ARKIT_EXPRESSIONS:
        moved = max(part["keys"].get(name, 0.0) for part in seen["glb"].values())
        assert 0.001 < moved < 0.1, name
    for name, weight in zip(ARKIT_EXPRESSIONS, face.coefficients.expression.tolist(), strict=True):
        assert head["weights"][name] == pytest.approx(weight, abs=1e-5)
    materials = [material for part in seen["glb"].values() for material in part["materials"]]
    assert sorted(materials) == ["Eyes", "Eyes", "Lashes", "Skin", "Teeth", "Tongue"]
    assert sorted(head["images"]) == ["Skin_colour", "Skin_normal"]
    assert len(seen["obj"]) >= 1
