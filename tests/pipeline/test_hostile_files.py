"""Two thousand damaged heads and lights are drawn or refused in one line; nothing else happens."""

import copy
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.io.gltf import encode_glb
from lifemask.io.gltf_reader import GltfError
from lifemask.io.images import PhotoError, encode_image
from lifemask.io.scenes import Node, Scene, Surface, SurfaceMaterial
from lifemask.pipeline.light_file import LightFileError, read_light
from lifemask.pipeline.saved import SavedHeadError, read_head

STRANGE: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 4, 7, 255, 2**31, 2**70, -0.5, 0.5, 1e9, 1e-30, 1e308,
    float("nan"), float("inf"), "", "x", "MASK", "BLEND", [], {}, [[]], [0, 0, 0], [None] * 3,
    [[1, 0], [0, 1]], [[0.0] * 4] * 4, np.eye(4).tolist(), [0], [1], {"index": 0},
]  # fmt: skip
"""Values that replace others."""

few_seconds = {
    "derandomize": True,
    "database": None,
    "deadline": 5000,
    # Without shrinking: a failure is shown at once, and becomes an `example` of its own.
    "phases": [Phase.explicit, Phase.generate],
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}
changes = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(["replace", "remove", "repeat", "copy"]),
              st.integers(0, 10**6)),
    min_size=1, max_size=3,
)  # fmt: skip
edits = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8)


def small_head() -> bytes:
    rows, columns = np.mgrid[0:4, 0:4] / 3
    x, y = 2 * columns - 1, 1 - 2 * rows
    normals = np.stack([x, y, np.sqrt(3 - x**2 - y**2)], -1).reshape(-1, 3) / np.sqrt(3)
    index = np.arange(16).reshape(4, 4)
    a, b, c, d = (
        corner.reshape(-1)
        for corner in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:])
    )
    grey = encode_image(np.full((16, 16, 4), 128, np.uint8), "png")
    skin = Surface(
        positions=(normals * 0.1).astype(np.float32),
        triangles=np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]),
        normals=normals.astype(np.float32),
        uv=np.stack([columns, rows], -1).reshape(-1, 2).astype(np.float32),
        material=SurfaceMaterial("Skin", base_colour_image=grey, alpha_mode="BLEND"),
        morphs=np.full((2, 16, 3), 0.001, np.float32),
    )
    nose = Surface(skin.positions * np.float32(0.1), skin.triangles)
    node = Node(
        "Head",
        (skin,),
        morph_names=("jawOpen", "puff"),
        morph_weights=(0.5, 0.0),
        children=(Node("Nose", (nose,), translation=(0.0, 0.0, 0.1)),),
    )
    camera = {
        "focal_pixels": 500.0,
        "principal_point": [50.0, 50.0],
        "head_to_camera": [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1], [0, 0, 0, 1]],
        "image_size": [100, 100],
    }
    return encode_glb(Scene((node,), {"camera": camera}))


HEAD = small_head()
(TREE_LENGTH,) = struct.unpack_from("<I", HEAD, 12)
TREE = json.loads(HEAD[20 : 20 + TREE_LENGTH])
LIGHT = {"light_sh": SphericalHarmonicsLight.ambient().coefficients.tolist(), "schema": 1}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every list or object with each of its indices or keys."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in inside:
        yield value, key
        if isinstance(child, dict | list):
            yield from places(child)


def mutated(value: Any, changes: list[tuple[int, str, int]]) -> Any:
    """Return a copy of a JSON value with a few places replaced, removed, repeated or copied."""
    top = [copy.deepcopy(value)]
    for place, kind, choice in changes:
        known = list(places(top))
        owner, key = known[place % len(known)]
        other, name = known[choice % len(known)]
        match kind:
            case "replace":
                owner[key] = STRANGE[choice % len(STRANGE)]
            case "remove" if owner is not top:
                del owner[key]
            case "repeat" if isinstance(owner, list) and owner is not top:
                owner.extend(copy.deepcopy(owner[key]) for _ in range(choice % 3))
            case _:
                owner[key] = copy.deepcopy(other[name])
    return top[0]


def with_tree(tree: Any) -> bytes:
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + HEAD[20 + TREE_LENGTH :]
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def drawn_or_refused(folder: Path, data: bytes, *, draw: bool) -> None:
    path = folder / "a.glb"
    path.write_bytes(data)
    try:
        head = read_head(path)
        if draw:
            picture = head.draw(SphericalHarmonicsLight.ambient(), size=16)
            assert picture[..., 3].any(), "an empty picture"
    except (GltfError, SavedHeadError, PhotoError) as error:
        assert "\n" not in str(error)


def test_the_head_itself_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "a.glb").write_bytes(with_tree(TREE))
    picture = read_head(tmp_path / "a.glb").draw(SphericalHarmonicsLight.ambient(), size=16)
    assert picture[..., 3].max() > 100


@settings(max_examples=1000, **few_seconds)
@given(changes=changes)
def test_changed_trees(tmp_path: Path, changes: list[tuple[int, str, int]]) -> None:
    # One in ten is drawn, because drawing takes far longer than reading.
    drawn_or_refused(tmp_path, with_tree(mutated(TREE, changes)), draw=changes[0][2] % 10 == 0)


@settings(max_examples=400, **few_seconds)
@given(edits=edits, end=st.integers(0, 200))
def test_changed_bytes(tmp_path: Path, edits: list[tuple[int, int]], end: int) -> None:
    data = bytearray(HEAD)
    for position, value in edits:
        # One half of the changes is in the numbers, behind the tree.
        start = 20 + TREE_LENGTH if position % 2 else 0
        data[start + position % (len(data) - start)] = value
    data = bytes(data[: len(data) - end // 10 if end > 180 else None])
    drawn_or_refused(tmp_path, data, draw=end % 10 == 0)


@settings(max_examples=600, **few_seconds)
@given(changes=changes, bare=st.booleans())
def test_changed_lights(tmp_path: Path, changes: list[tuple[int, str, int]], bare: bool) -> None:
    path = tmp_path / "light.json"
    path.write_text(json.dumps(mutated(LIGHT["light_sh"] if bare else LIGHT, changes)))
    try:
        light = read_light(path)
    except LightFileError as error:
        assert "\n" not in str(error)
    else:
        assert light.coefficients.isfinite().all()
        assert light.coefficients.shape == (9, 3)


@pytest.mark.parametrize(
    "text",
    ["null", "{}", '{"light_sh": null}', "[" * 100_000, "[" * 70 + "]" * 70, "[1e999]", "7",
     '{"light_sh": {"a": 1}}', json.dumps([[float("nan")] * 3] * 9), "1" * 5000, "\ufeff", ""],
)  # fmt: skip
def test_texts_without_a_light_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "light.json"
    path.write_text(text, "utf-8")
    with pytest.raises(LightFileError, match=r"light\.json' holds no light: ") as caught:
        read_light(path)
    assert "\n" not in str(caught.value)
