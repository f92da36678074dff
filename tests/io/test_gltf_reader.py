"""The reader of GLB files refuses every count, index, range and number that is wrong."""

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lifemask.io.gltf import encode_glb
from lifemask.io.gltf_reader import GltfError, decode_glb
from lifemask.io.scenes import Scene

Tree = dict[str, Any]


def changed(scene: Scene, change: Callable[[Tree], object]) -> bytes:
    """Return the GLB file of a scene with another JSON tree."""
    data = encode_glb(scene)
    (length,) = struct.unpack_from("<I", data, 12)
    tree = json.loads(data[20 : 20 + length])
    change(tree)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + data[20 + length :]
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def with_twins(tree: Tree) -> None:
    """Let each of 28 nodes name the next one twice: 2^28 paths."""
    last = len(tree["nodes"]) - 1
    tree["nodes"] += [{"children": [last + k, last + k]} for k in range(28)]
    tree["scenes"][0]["nodes"] = [last + 28]


def with_chain(tree: Tree) -> None:
    first = len(tree["nodes"])
    tree["nodes"] += [{"children": [first + k + 1]} for k in range(50)] + [{}]
    tree["scenes"][0]["nodes"] = [first]


def with_copies(tree: Tree) -> None:
    tree["meshes"][-1]["primitives"] *= 300
    tree["meshes"][-1].pop("weights", None)
    tree["meshes"][-1].pop("extras", None)


def with_empty_millions(tree: Tree) -> None:
    (primitive, *_) = tree["meshes"][-1]["primitives"]
    accessor = tree["accessors"][primitive["attributes"]["POSITION"]]
    del accessor["bufferView"]
    accessor["count"] = 10**8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_twins, r"is reached twice; nodes must form a tree"),
        (with_chain, r"more than 1000 nodes or 32 levels"),
        (with_copies, "300 values; at most 256 are allowed"),
        (with_empty_millions, "more than 100000000 numbers"),
        (lambda t: t["nodes"][-1].update(children=[len(t["nodes"]) - 1]), "reached twice"),
        (lambda t: t["scenes"][0].update(nodes=[-1]), r"scenes\[0\].nodes\[0\] is -1; a whole"),
        (lambda t: t.update(scenes=[]), "scene needs an entry of 'scenes', which has none"),
        (lambda t: t.update(nodes=None), "nodes is null; a list is needed"),
        (lambda t: t["nodes"][0].update(mesh="0"), r'nodes\[0\].mesh is "0"; a whole number'),
        (lambda t: t["accessors"][0].update(count=1e3), "count is 1000.0; a whole number"),
        (lambda t: t["accessors"][0].update(type="VEC4"), "type is \"VEC4\"; 'VEC3' is needed"),
        (lambda t: t["accessors"][0].update(componentType=5121), "componentType is 5121; one of"),
        (lambda t: t["bufferViews"][0].update(byteLength=10**8), "beyond the file"),
        (lambda t: t["bufferViews"][0].update(byteOffset=-4), "byteOffset is -4; a whole number"),
        (lambda t: t["nodes"][0].update(translation=[0, float("nan"), 0]), "holds NaN"),
        (lambda t: t["nodes"][0].update(translation=[0, 1e9, 0]), "a number from -1000 to 1000"),
        (lambda t: t["meshes"][-1].update(weights=[0.5]), "has 1 weights of morph targets"),
        (lambda t: t["images"][0].update(bufferView=0), "Images must be PNG or JPEG"),
        (lambda t: t["materials"][0].update(alphaMode="GLASS"), "one of OPAQUE, MASK, BLEND"),
    ],
)
def test_wrong_values_are_named(
    scene: Scene, change: Callable[[Tree], object], message: str
) -> None:
    with pytest.raises(GltfError, match=message) as caught:
        decode_glb(changed(scene, change))
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_refused(scene: Scene) -> None:
    data = encode_glb(scene)
    (length,) = struct.unpack_from("<I", data, 12)
    start = 20 + length + 8
    broken = data[:start] + np.float32(np.nan).tobytes() + data[start + 4 :]
    with pytest.raises(GltfError, match=r"POSITION holds NaN, or numbers beyond 1000"):
        decode_glb(broken)
