"""A saved head has the shape and colours of the fitted head, and can be animated."""

import dataclasses
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import cKDTree

from lifemask.io.gltf_reader import read_glb
from lifemask.io.scenes import Scene
from lifemask.morphable import ARKIT_EXPRESSIONS
from lifemask.pipeline import export
from lifemask.pipeline.outputs import face_files
from lifemask.pipeline.reconstruction import FaceReconstruction


@pytest.fixture(scope="module")
def glb(face: FaceReconstruction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "head.glb"
    face.save(path)
    return path


@pytest.fixture(scope="module")
def scene(glb: Path) -> Scene:
    return read_glb(glb)


def test_rest_pose_and_weights_make_the_fitted_head(face: FaceReconstruction, scene: Scene) -> None:
    """Lids slide over eyeballs and eyeballs rotate; morph targets only approximate both."""
    positions = np.concatenate([surface.positions for _, surface in scene.at_rest()])
    away, _ = cKDTree(positions).query(face.mesh.vertices.numpy())
    eyeballs, regions = face.model.eyeballs, face.model.regions
    assert eyeballs is not None
    eyes = regions["eyeball_left"] + regions["eyeball_right"] + regions["lashes"] > 0.5
    eyes[eyeballs.lids.flatten()] = True
    assert eyes.float().mean() < 0.3
    assert away[~eyes.numpy()].max() < 0.0005
    assert away.max() < 0.004


def test_morph_targets_have_the_names_of_arkit(scene: Scene) -> None:
    (node,) = scene.nodes
    assert node.morph_names == ARKIT_EXPRESSIONS
    assert all(0 <= weight <= 1 for weight in node.morph_weights)
    jaw = ARKIT_EXPRESSIONS.index("jawOpen")
    for surface in node.surfaces:
        assert surface.morphs is not None
        assert len(surface.morphs) == 52
    assert max(np.abs(s.morphs[jaw]).max() for s in node.surfaces if s.morphs is not None) > 0.01


def test_every_triangle_has_one_material(face: FaceReconstruction, scene: Scene) -> None:
    surfaces = {s.material.name: s for _, s in scene.at_rest() if s.material is not None}
    assert {"Skin", "Eyes"} <= set(surfaces)
    own = [surfaces[name] for name in surfaces.keys() - {"Hair"}]
    assert sum(len(surface.triangles) for surface in own) == len(face.model.triangles)


def test_hair_is_a_node_below_the_head_without_morph_targets(
    face: FaceReconstruction, scene: Scene
) -> None:
    (node,) = scene.nodes[0].children
    assert (node.name, node.morph_names) == ("Hair", ())
    hair = face.hair.mesh
    assert hair is not None
    assert tuple(len(surface.triangles) for surface in node.surfaces) == hair.layers
    corners = np.concatenate([surface.positions[surface.triangles] for surface in node.surfaces])
    np.testing.assert_allclose(corners, hair.vertices[hair.triangles], atol=1e-6)
    materials = {surface.material for surface in node.surfaces}
    assert [(m.name, m.alpha_mode) for m in materials if m is not None] == [("Hair", "MASK")]


def test_a_head_without_hair_has_no_node_for_it(face: FaceReconstruction) -> None:
    assert export.head_scene(dataclasses.replace(face, hair_style="none")).nodes[0].children == ()


def test_the_skin_has_the_texture(face: FaceReconstruction, scene: Scene) -> None:
    (skin,) = (s for _, s in scene.at_rest() if s.material and s.material.name == "Skin")
    assert skin.material is not None
    assert skin.material.base_colour_image is not None
    assert skin.material.normal_image is not None
    with Image.open(io.BytesIO(skin.material.base_colour_image)) as image:
        srgb = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    assert (linear - face.texture.albedo).abs().mean() < 0.01


def test_the_validator_finds_no_error(
    glb: Path, validate_glb: Callable[[Path], dict[str, Any]]
) -> None:
    issues = validate_glb(glb)
    assert issues["numErrors"] == 0, issues["messages"]


def test_all_files_of_a_face_are_listed(face: FaceReconstruction, tmp_path: Path) -> None:
    """The guard against overwriting relies on the list."""
    for suffix in ("glb", "obj", "ply"):
        face.save(tmp_path / f"a b.{suffix}")
    listed = face_files("a b", ("glb", "obj", "ply"), arrays=False)
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
    for mesh, surface in zip(meshes, scene.nodes[0].surfaces, strict=False):
        points = np.array(mesh.GetPointsAttr().Get())
        np.testing.assert_allclose(points, surface.positions, atol=1e-6)
        names = UsdSkel.BindingAPI(mesh.GetPrim()).GetBlendShapesAttr().Get()
        assert tuple(names) == ARKIT_EXPRESSIONS
        material, _ = UsdShade.MaterialBindingAPI(mesh.GetPrim()).ComputeBoundMaterial()
        shader, _, _ = material.ComputeSurfaceSource()
        assert surface.material is not None
        inputs[surface.material.name] = sorted(
            given.GetBaseName() for given in shader.GetInputs() if given.HasConnectedSource()
        )
    assert UsdSkel.BindingAPI(meshes[-1].GetPrim()).GetBlendShapesAttr().Get() is None
    assert inputs == {
        "Skin": ["diffuseColor", "normal"],
        "Eyes": ["diffuseColor"],
        "Lashes": ["diffuseColor", "opacity"],
    }
    skeleton = UsdSkel.Animation(stage.GetPrimAtPath("/Head/Skeleton/Rest"))
    weights = skeleton.GetBlendShapeWeightsAttr().Get()
    np.testing.assert_allclose(weights, face.coefficients.expression, atol=1e-6)

    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [(error.GetName(), error.GetMessage()) for error in errors] == []


def test_usdz_without_its_package_is_refused_before_any_work(
    face: FaceReconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pxr", None)
    monkeypatch.setattr(export, "head_scene", lambda face: pytest.fail("work was done"))
    with pytest.raises(ImportError, match=r"pip install 'lifemask\[usd\]'"):
        face.save(tmp_path / "head.usdz")
