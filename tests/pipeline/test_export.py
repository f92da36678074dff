"""A saved head has the shape and colours of the fitted head, and can be animated."""

import dataclasses
import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import cKDTree

from lifemask.io.gltf import encode_glb
from lifemask.io.gltf_reader import read_glb
from lifemask.io.scenes import Scene
from lifemask.morphable import ARKIT_EXPRESSIONS
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.rig import JOINTS
from lifemask.morphable.tongue import without_opening
from lifemask.morphable.visemes import VISEMES
from lifemask.pipeline import export
from lifemask.pipeline.export import head_scene, resting_displacement
from lifemask.pipeline.outputs import face_files
from lifemask.pipeline.reconstruction import FaceReconstruction
from lifemask.rendering.displacement import groove_visibility
from lifemask.rendering.filters import resized
from lifemask.rendering.heads import head_vertices
from lifemask.texture.expression_folds import without_expression_folds
from lifemask.texture.skin_maps import skin_image, skin_roughness


@pytest.fixture(scope="module")
def glb(face: FaceReconstruction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "head.glb"
    face.save(path)
    return path


@pytest.fixture(scope="module")
def scene(glb: Path) -> Scene:
    return read_glb(glb)


def settled(face: FaceReconstruction) -> ExplainedFace:
    """Return the face with the relief that files have, that of the neutral head."""
    relief = face.face.displacement_map
    assert relief is not None
    expression = face.coefficients.expression
    height = without_expression_folds(relief.values[0], expression, face.model)
    return replace(face.face, displacement_map=replace(relief, values=height[None]))


def test_rest_pose_and_weights_make_the_fitted_head(face: FaceReconstruction, scene: Scene) -> None:
    """Lids slide over eyeballs and eyeballs rotate; morph targets only approximate both."""
    positions = np.concatenate([surface.positions for _, surface in scene.at_rest()])
    expected = head_vertices(face.model, settled(face))
    away, _ = cKDTree(positions).query(face.mesh.vertices.numpy())
    assert away.max() < 0.004
    away, _ = cKDTree(positions).query(expected.numpy())
    eyeballs, regions = face.model.eyeballs, face.model.regions
    assert eyeballs is not None
    eyes = regions["eyeball_left"] + regions["eyeball_right"] + regions["lashes"] > 0.5
    eyes[eyeballs.lids.flatten()] = True
    assert eyes.float().mean() < 0.3
    assert away[~eyes.numpy()].max() < 0.0005
    assert away.max() < 0.004


def test_morph_targets_have_the_names_of_arkit_and_of_visemes(
    face: FaceReconstruction, scene: Scene
) -> None:
    """The head has all targets, in this order; other parts have those that move them."""
    names = (*ARKIT_EXPRESSIONS, *VISEMES)
    head, *others = scene.nodes
    assert head.morph_names == names
    expression = without_opening(face.coefficients.expression, ARKIT_EXPRESSIONS).tolist()
    np.testing.assert_allclose(head.morph_weights, [*expression, *([0] * 15)], atol=1e-6)
    for node in others:
        assert list(node.morph_names) == [name for name in names if name in node.morph_names]
    (skin,) = head.surfaces
    assert skin.morphs is not None
    jaw = ARKIT_EXPRESSIONS.index("jawOpen")
    assert np.abs(skin.morphs[jaw]).max() > 0.01
    (tongue,) = (node for node in others if node.name == "tongue")
    assert "tongueOut" in tongue.morph_names
    assert "browInnerUp" not in tongue.morph_names


def test_a_viseme_is_the_sum_of_its_expressions(scene: Scene) -> None:
    """Up to a tenth of a millimetre, by which small displacements are reduced."""
    (skin,) = scene.nodes[0].surfaces
    assert skin.morphs is not None
    names = list(scene.nodes[0].morph_names)
    for viseme, mixture in VISEMES.items():
        total = sum(
            (weight * skin.morphs[names.index(name)] for name, weight in mixture.items()),
            start=np.zeros_like(skin.morphs[0]),
        )
        away = np.linalg.norm(skin.morphs[names.index(viseme)] - total, axis=-1)
        assert away.max() < 4e-4, viseme


def test_parts_are_named_nodes_with_materials_of_their_own(scene: Scene) -> None:
    materials = {node.name: node.surfaces[0].material for node in scene.nodes if node.surfaces}
    assert {name: material.name for name, material in materials.items() if material} == {
        "head": "Skin",
        "eye_left": "Eyes",
        "eye_right": "Eyes",
        "teeth": "Teeth",
        "tongue": "Tongue",
        "lashes": "Lashes",
        "hair": "Hair",
        "hair_strands": "Hair",
    }
    assert materials["teeth"] is not None
    assert materials["head"] is not None
    assert materials["tongue"] is not None
    assert materials["teeth"].roughness < materials["tongue"].roughness < 0.4


def test_the_head_has_a_skeleton_and_quads(face: FaceReconstruction) -> None:
    scene = head_scene(face)
    joints = {joint.name: joint for joint in scene.skeleton}
    assert list(joints) == [f"{name}_joint" for name in JOINTS]
    for node in scene.nodes:
        (surface,) = node.surfaces
        assert surface.joint_weights is not None
        assert surface.quads != node.name.startswith("hair")
        if node.name.startswith("eye"):
            place = joints[f"{node.name}_joint"].position
            middle = (surface.positions.max(0) + surface.positions.min(0)) / 2
            assert np.linalg.norm(place - middle) < 0.002
            assert (surface.joint_weights[:, list(joints).index(f"{node.name}_joint")] == 1).all()


def test_a_neutral_head_has_no_expression(face: FaceReconstruction, tmp_path: Path) -> None:
    face.save(tmp_path / "neutral.glb", neutral=True)
    neutral = read_glb(tmp_path / "neutral.glb")
    assert not any(any(node.morph_weights) for node in neutral.nodes)
    (head, *_) = neutral.nodes
    expected = head_vertices(face.model, settled(face), face.neutral_coefficients).numpy()
    away, _ = cKDTree(expected).query(head.surfaces[0].positions)
    assert away.max() < 1e-5


def test_an_stl_is_watertight(face: FaceReconstruction, tmp_path: Path) -> None:
    """Every edge is used as often in one direction as in the other, and the head has its volume."""
    face.save(tmp_path / "head.stl", neutral=True)
    data = (tmp_path / "head.stl").read_bytes()
    fields = [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")]
    corners = np.frombuffer(data, fields, offset=84)["corners"]
    _, vertex = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    edges = vertex.reshape(-1, 3)[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    there = np.sort(edges[:, 0] * len(vertex) + edges[:, 1])
    back = np.sort(edges[:, 1] * len(vertex) + edges[:, 0])
    np.testing.assert_array_equal(there, back)
    litres = np.linalg.det(corners.astype(np.float64)).sum() / 6 / 1e6
    assert 3 < litres < 7


def test_textures_are_written_as_files(face: FaceReconstruction, tmp_path: Path) -> None:
    written = face.save_textures(tmp_path, "a b")
    names = {file.name for file in tmp_path.iterdir()}
    assert {file.name for file in written} == names
    assert names == {
        "a_b_Skin_colour.jpg",
        "a_b_Skin_normal.png",
        "a_b_Skin_roughness.png",
        "a_b_Skin_occlusion.png",
        "a_b_Skin_displacement.png",
        "a_b_Lashes_colour.png",
        "a_b_Hair_colour.png",
    }
    assert names <= set(face_files("a b", ("glb",), arrays=False, textures=True))


def test_finer_triangles_keep_the_expressions(face: FaceReconstruction) -> None:
    """Only the head is finer; it has the 52 expressions, and no normal map."""
    scene, fine = head_scene(face), head_scene(face, detail="mesh")
    assert [node.name for node in fine.nodes] == [node.name for node in scene.nodes]
    (usual,), (finer,) = (nodes[0].surfaces for nodes in (scene.nodes, fine.nodes))
    assert fine.nodes[0].morph_names == face.model.expression_names
    assert len(finer.positions) > 4 * len(usual.positions)
    assert finer.material is not None
    assert finer.material.normal_image is None
    moved = np.linalg.norm(finer.positions[: len(usual.positions)] - usual.positions, axis=-1)
    assert moved.max() < 3e-4, "old points stay, but for the side of a seam that gives their height"


def test_every_triangle_has_one_material(face: FaceReconstruction, scene: Scene) -> None:
    surfaces = [(s.material.name, s) for _, s in scene.at_rest() if s.material is not None]
    assert {"Skin", "Eyes"} <= {name for name, _ in surfaces}
    own = [surface for name, surface in surfaces if name != "Hair"]
    assert sum(len(surface.triangles) for surface in own) == len(face.model.triangles)


def test_hair_has_nodes_without_morph_targets_that_follow_the_head(
    face: FaceReconstruction, scene: Scene
) -> None:
    nodes = [node for node in scene.nodes if node.name.startswith("hair")]
    assert [(node.name, node.morph_names) for node in nodes] == [("hair", ()), ("hair_strands", ())]
    hair = face.hair.mesh
    assert hair is not None
    surfaces = [surface for node in nodes for surface in node.surfaces]
    assert tuple(len(surface.triangles) for surface in surfaces) == hair.layers
    corners = np.concatenate([surface.positions[surface.triangles] for surface in surfaces])
    np.testing.assert_allclose(corners, hair.vertices[hair.triangles], atol=1e-6)
    materials = {surface.material for surface in surfaces}
    assert [(m.name, m.alpha_mode) for m in materials if m is not None] == [("Hair", "MASK")]


def test_a_head_with_hair_is_small_and_its_hair_keeps_its_colours(
    face: FaceReconstruction, scene: Scene
) -> None:
    """This head has small textures; with 2048 texels a file has about 0.5 MB more, at most 9.5 MB."""
    hair = face.hair.mesh
    assert hair is not None
    node = next(node for node in scene.nodes if node.name == "hair")
    material = node.surfaces[0].material
    assert material is not None
    assert material.base_colour_image is not None
    assert len(material.base_colour_image) < 0.45e6
    few = np.array(Image.open(io.BytesIO(material.base_colour_image)).convert("RGBA"))
    shown = hair.picture[..., 3] > 200
    difference = few[shown].astype(int) - hair.picture[shown]
    assert np.abs(difference).mean() < 4
    assert len(encode_glb(scene)) < 9.0e6


def test_a_head_without_hair_has_no_node_for_it(face: FaceReconstruction) -> None:
    names = {node.name for node in head_scene(dataclasses.replace(face, hair_style="none")).nodes}
    assert not any(name.startswith("hair") for name in names)


def test_the_skin_has_the_texture(face: FaceReconstruction, scene: Scene) -> None:
    (skin,) = (s for _, s in scene.at_rest() if s.material and s.material.name == "Skin")
    assert skin.material is not None
    assert skin.material.base_colour_image is not None
    assert skin.material.normal_image is not None
    with Image.open(io.BytesIO(skin.material.base_colour_image)) as image:
        srgb = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    assert (linear - face.texture.albedo).abs().mean() < 0.01


def test_the_skin_has_one_small_image_of_occlusion_and_roughness(
    face: FaceReconstruction, scene: Scene
) -> None:
    """As glTF has it: occlusion in red, roughness in green, and no metal in blue."""
    material = scene.nodes[0].surfaces[0].material
    assert material is not None
    assert material.occlusion_image is not None
    assert material.occlusion_image == material.metallic_roughness_image
    assert (material.metallic, material.roughness) == (0, 1)
    assert len(material.occlusion_image) < 60_000
    pixels = np.array(Image.open(io.BytesIO(material.occlusion_image)))
    values = torch.stack([face.unhidden, skin_roughness(face.model)], -1)
    expected = skin_image(face.model, values).permute(1, 2, 0).numpy()
    displacement = resting_displacement(face)
    assert displacement is not None
    passed = resized(groove_visibility(displacement)[None], len(pixels))[0].numpy()
    assert passed.min() < 0.95
    expected[..., 0] *= passed
    away = np.abs(pixels[..., :2] / 255 - expected)
    assert away.mean() < 0.005
    assert np.quantile(away, 0.999) < 0.04
    assert pixels[..., 2].mean() < 1


def test_the_validator_finds_no_error(
    glb: Path, validate_glb: Callable[[Path], dict[str, Any]]
) -> None:
    issues = validate_glb(glb)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


def test_all_files_of_a_face_are_listed(face: FaceReconstruction, tmp_path: Path) -> None:
    """The guard against overwriting relies on the list."""
    for suffix in ("glb", "obj", "ply", "stl"):
        face.save(tmp_path / f"a b.{suffix}")
    listed = face_files("a b", ("glb", "obj", "ply", "stl"), arrays=False)
    assert {file.name for file in tmp_path.iterdir()} <= set(listed)
    assert {"a b.obj", "a_b.mtl", "a_b_Skin_normal.png"} <= {f.name for f in tmp_path.iterdir()}


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_other_formats_are_written(face: FaceReconstruction, tmp_path: Path, suffix: str) -> None:
    face.save(tmp_path / f"head{suffix}")
    assert (tmp_path / f"head{suffix}").stat().st_size > 100_000


def test_usdz_holds_the_head_with_its_materials_and_52_blend_shapes(
    face: FaceReconstruction, scene: Scene, tmp_path: Path
) -> None:
    pytest.importorskip("pxr", reason="the extra `usd` is not installed")
    from pxr import Usd, UsdGeom, UsdShade, UsdSkel, UsdValidation

    face.save(tmp_path / "head.usdz")
    stage = Usd.Stage.Open(str(tmp_path / "head.usdz"))
    meshes = [UsdGeom.Mesh(prim) for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]
    surfaces = [surface for _, surface in scene.at_rest()]
    assert len(meshes) == len(surfaces)
    inputs: dict[str, list[str]] = {}
    for mesh, node in zip(meshes, scene.nodes[: len(meshes)], strict=True):
        (surface,) = node.surfaces
        assert mesh.GetPath().name == node.name
        points = np.array(mesh.GetPointsAttr().Get())
        np.testing.assert_allclose(points, surface.positions, atol=1e-6)
        names = UsdSkel.BindingAPI(mesh.GetPrim()).GetBlendShapesAttr().Get()
        assert tuple(names or ()) == node.morph_names
        material, _ = UsdShade.MaterialBindingAPI(mesh.GetPrim()).ComputeBoundMaterial()
        shader, _, _ = material.ComputeSurfaceSource()
        assert surface.material is not None
        inputs[surface.material.name] = sorted(
            given.GetBaseName() for given in shader.GetInputs() if given.HasConnectedSource()
        )
    assert UsdSkel.BindingAPI(meshes[-1].GetPrim()).GetBlendShapesAttr().Get() is None
    assert inputs == {
        "Skin": ["diffuseColor", "metallic", "normal", "occlusion", "roughness"],
        "Eyes": ["diffuseColor"],
        "Teeth": ["diffuseColor"],
        "Tongue": ["diffuseColor"],
        "Lashes": ["diffuseColor", "opacity"],
        "Hair": ["diffuseColor", "opacity"],
    }
    rest = UsdSkel.Animation(stage.GetPrimAtPath("/Head/Skeleton/Rest"))
    assert list(rest.GetBlendShapesAttr().Get()) == [*ARKIT_EXPRESSIONS, *VISEMES]
    weights = rest.GetBlendShapeWeightsAttr().Get()
    expression = without_opening(face.coefficients.expression, ARKIT_EXPRESSIONS)
    np.testing.assert_allclose(weights[:52], expression, atol=1e-6)
    assert [path.rsplit("/", 1)[-1] for path in rest.GetJointsAttr().Get()] == [
        "root",
        *(f"{name}_joint" for name in JOINTS),
    ]

    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [(error.GetName(), error.GetMessage()) for error in errors] == []


def test_usdz_without_its_package_is_refused_before_any_work(
    face: FaceReconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pxr", None)
    monkeypatch.setattr(export, "head_scene", lambda face, **_: pytest.fail("work was done"))
    with pytest.raises(ImportError, match=r"pip install 'lifemask\[usd\]'"):
        face.save(tmp_path / "head.usdz")
