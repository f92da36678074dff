"""GLB files hold the whole scene and satisfy the Khronos validator; damaged ones are refused."""

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lifemask.io.gltf import encode_glb, write_glb
from lifemask.io.gltf_reader import GltfError, decode_glb, read_glb
from lifemask.io.scenes import Node, Scene, Surface, SurfaceMaterial
from lifemask.io.surfaces import split_at_seams, with_tangents


def tree_of(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[20 : 20 + length])


def same(surface: Surface, other: Surface) -> None:
    for field in dataclasses.fields(Surface):
        left, right = getattr(surface, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right, err_msg=field.name)
        else:
            assert left == right, field.name


def test_read_scene_equals_written_scene(tmp_path: Path, scene: Scene) -> None:
    """Only seams are split, and surfaces with normal maps have tangents."""
    write_glb(tmp_path / "face.glb", scene)
    back = read_glb(tmp_path / "face.glb")
    assert (back.extras, back.copyright) == (scene.extras, scene.copyright)
    (head,), (head_back,) = scene.nodes, back.nodes
    for node, other in zip((head, *head.children), (head_back, *head_back.children), strict=True):
        for field in ("name", "translation", "morph_names", "morph_weights", "extras"):
            assert getattr(node, field) == getattr(other, field)
        assert len(node.surfaces) == len(other.surfaces)
    same(with_tangents(head.surfaces[0]), head_back.surfaces[0])
    same(head.surfaces[1], head_back.surfaces[1])
    same(head.children[0].surfaces[0], head_back.children[0].surfaces[0])


def test_khronos_validator_finds_no_error(
    tmp_path: Path, scene: Scene, validate_glb: Callable[[Path], dict[str, Any]]
) -> None:
    write_glb(tmp_path / "face.glb", scene)
    issues = validate_glb(tmp_path / "face.glb")
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


def test_same_scene_gives_the_same_bytes(scene: Scene) -> None:
    assert encode_glb(scene) == encode_glb(scene)


def test_images_and_materials_used_twice_are_stored_once(scene: Scene) -> None:
    tree = tree_of(encode_glb(scene))
    assert len(tree["images"]) == 3
    assert len(tree["materials"]) == 2


def test_few_moved_vertices_are_stored_sparsely(scene: Scene) -> None:
    data = encode_glb(scene)
    tree = tree_of(data)
    targets = tree["meshes"][0]["primitives"][0]["targets"]
    accessors = [tree["accessors"][target["POSITION"]] for target in targets]
    assert ["sparse" in accessor for accessor in accessors] == [True, False, True]
    assert accessors[2]["sparse"]["count"] == 1, "an empty sparse accessor is not allowed"


@pytest.mark.parametrize(("count", "kind"), [(65535, 5123), (65536, 5125)])
def test_index_type_never_reaches_its_restart_value(count: int, kind: int) -> None:
    positions = np.zeros((count, 3), np.float32)
    surface = Surface(positions, np.array([[0, 1, count - 1]]))
    data = encode_glb(Scene((Node("many", (surface,)),)))
    assert tree_of(data)["accessors"][1]["componentType"] == kind
    assert decode_glb(data).nodes[0].surfaces[0].triangles[0, 2] == count - 1


def test_every_number_is_aligned(scene: Scene) -> None:
    data = encode_glb(scene)
    assert len(data) % 4 == 0
    assert struct.unpack_from("<I", data, 8) == (len(data),)
    assert all(view["byteOffset"] % 4 == 0 for view in tree_of(data)["bufferViews"])


def test_morph_targets_must_agree_with_their_names(scene: Scene) -> None:
    wrong = dataclasses.replace(scene.nodes[0], morph_names=("jawOpen",))
    with pytest.raises(ValueError, match="names 1 morph targets and has 3 weights"):
        encode_glb(Scene((wrong,)))


def test_other_files_are_refused_with_a_reason(tmp_path: Path, scene: Scene) -> None:
    data = encode_glb(scene)
    (tmp_path / "a.glb").write_bytes(b"solid cube facet normal")
    with pytest.raises(GltfError, match=r"a\.glb': it is not a GLB file"):
        read_glb(tmp_path / "a.glb")
    with pytest.raises(GltfError, match="version 1"):
        decode_glb(data[:4] + struct.pack("<I", 1) + data[8:])
    with pytest.raises(GltfError, match="cut off"):
        decode_glb(data[:-100])
    with pytest.raises(FileNotFoundError):
        read_glb(tmp_path / "missing.glb")


def test_required_extensions_are_named() -> None:
    text = b'{"asset":{"version":"2.0"},"extensionsRequired":["EXT_meshopt_compression"]} '
    text += b" " * (-len(text) % 4)
    data = struct.pack("<4sII", b"glTF", 2, 20 + len(text))
    data += struct.pack("<I4s", len(text), b"JSON") + text
    with pytest.raises(GltfError, match="EXT_meshopt_compression"):
        decode_glb(data)


def test_tangents_of_a_flat_square_follow_the_texture() -> None:
    """u increases along +x and v (down in the image) along -y: tangent +x, bitangent +y."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    normals = np.tile(np.float32([0, 0, 1]), (4, 1))
    surface = Surface(positions, np.array([[0, 1, 2], [0, 2, 3]]), normals, uv)
    np.testing.assert_allclose(with_tangents(surface).tangents, [[1, 0, 0, 1]] * 4, atol=1e-6)
    mirrored = dataclasses.replace(surface, uv=uv * (-1, 1) + np.float32([1, 0]))
    tangents = with_tangents(dataclasses.replace(mirrored, uv=mirrored.uv.astype(np.float32)))
    np.testing.assert_allclose(tangents.tangents, [[-1, 0, 0, -1]] * 4, atol=1e-6)


def test_tangents_are_unit_vectors_in_the_surface_even_without_texture_area(scene: Scene) -> None:
    surface = scene.nodes[0].surfaces[0]
    for uv in (surface.uv, np.zeros_like(surface.uv)):
        result = with_tangents(dataclasses.replace(surface, uv=uv))
        directions = result.tangents[:, :3]
        np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1, atol=1e-5)
        np.testing.assert_allclose((directions * result.normals).sum(-1), 0, atol=1e-5)
        assert set(result.tangents[:, 3]) <= {-1.0, 1.0}


def test_normal_map_without_texture_coordinates_is_refused(scene: Scene) -> None:
    bare = dataclasses.replace(scene.nodes[0].surfaces[0], uv=None, uv_triangles=None)
    with pytest.raises(ValueError, match="Tangents need"):
        encode_glb(Scene((dataclasses.replace(scene.nodes[0], surfaces=(bare,)),)))


def test_splitting_seams_keeps_every_corner(scene: Scene) -> None:
    surface = scene.nodes[0].surfaces[0]
    split = split_at_seams(surface)
    assert split.uv_triangles is None
    assert len(split.positions) == len(split.uv) > len(surface.positions)
    np.testing.assert_array_equal(
        split.positions[split.triangles], surface.positions[surface.triangles]
    )
    np.testing.assert_array_equal(split.uv[split.triangles], surface.uv[surface.uv_triangles])
    np.testing.assert_array_equal(
        split.morphs[:, split.triangles], surface.morphs[:, surface.triangles]
    )


def test_images_must_be_png_or_jpeg() -> None:
    material = SurfaceMaterial("skin", base_colour_image=b"GIF89a")
    surface = Surface(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]]), material=material)
    with pytest.raises(ValueError, match="PNG or JPEG"):
        encode_glb(Scene((Node("a", (surface,)),)))


def test_the_skeleton_rests_at_its_joints_and_its_weights_sum_to_one(
    tmp_path: Path, skinned: Scene, validate_glb: Callable[[Path], dict[str, Any]]
) -> None:
    """The inverse bind matrices undo the places of the joints, so the rest pose changes nothing."""
    write_glb(tmp_path / "face.glb", skinned)
    issues = validate_glb(tmp_path / "face.glb")
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]
    data = encode_glb(skinned)
    tree = tree_of(data)
    (skin,) = tree["skins"]
    assert [tree["nodes"][k]["name"] for k in skin["joints"]] == ["neck_joint", "jaw_joint"]
    neck, jaw = (tree["nodes"][k] for k in skin["joints"])
    assert neck["children"] == skin["joints"][1:]
    np.testing.assert_allclose(jaw["translation"], [0, 0.12, 0.03], atol=1e-9)
    assert skin["joints"][0] in tree["scenes"][0]["nodes"]

    def values(accessor: dict[str, Any], kind: str, width: int) -> np.ndarray:
        view = tree["bufferViews"][accessor["bufferView"]]
        start = 20 + struct.unpack_from("<I", data, 12)[0] + 8 + view["byteOffset"]
        return np.frombuffer(data, kind, accessor["count"] * width, start).reshape(-1, width)

    inverse = values(tree["accessors"][skin["inverseBindMatrices"]], "<f4", 16).reshape(-1, 4, 4)
    for matrix, joint in zip(inverse, skinned.skeleton, strict=True):
        np.testing.assert_allclose(matrix.T @ [*joint.position, 1], [0, 0, 0, 1], atol=1e-6)
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    joints = values(tree["accessors"][attributes["JOINTS_0"]], "u1", 4)
    weights = values(tree["accessors"][attributes["WEIGHTS_0"]], "<u2", 4)
    assert set(weights.sum(-1).tolist()) == {65535}
    below = split_at_seams(skinned.nodes[0].surfaces[0]).positions[:, 1] < 0
    np.testing.assert_array_equal(joints[:, 0], below)


def test_a_node_that_the_skeleton_moves_must_be_a_root(skinned: Scene) -> None:
    inside = Node("group", children=skinned.nodes)
    moved = dataclasses.replace(skinned.nodes[0], translation=(0.0, 1.0, 0.0))
    for node in (inside, moved):
        with pytest.raises(ValueError, match="must be a root without translation"):
            encode_glb(dataclasses.replace(skinned, nodes=(node,)))


def test_images_are_named_after_material_and_use(scene: Scene) -> None:
    names = [image["name"] for image in tree_of(encode_glb(scene))["images"]]
    assert names == ["skin_colour", "skin_roughness", "skin_occlusion"], (
        "the normal map is the same image"
    )
