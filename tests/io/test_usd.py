"""USDZ files hold meshes, textures and blend shapes, and satisfy USD's own validators."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lifemask.io.scenes import Scene
from lifemask.io.surfaces import split_at_seams
from lifemask.io.usd import write_usdz


def test_missing_package_names_the_extra(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(ImportError, match=r"pip install 'lifemask\[usd\]'"):
        write_usdz(tmp_path / "face.usdz", scene)


def test_usdz_holds_the_scene(tmp_path: Path, scene: Scene) -> None:
    pytest.importorskip("pxr", reason="the extra `usd` is not installed")
    from pxr import Usd, UsdGeom, UsdSkel, UsdValidation

    write_usdz(tmp_path / "face.usdz", scene)
    stage = Usd.Stage.Open(str(tmp_path / "face.usdz"))
    meshes = [UsdGeom.Mesh(prim) for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]
    assert len(meshes) == 4
    head = split_at_seams(scene.nodes[0].surfaces[0])
    np.testing.assert_array_equal(np.array(meshes[0].GetPointsAttr().Get()), head.positions)
    names = UsdSkel.BindingAPI(meshes[0].GetPrim()).GetBlendShapesAttr().Get()
    assert list(names) == ["jawOpen", "puff", "none"]
    shape = UsdSkel.BlendShape(stage.GetPrimAtPath("/Head/head/jawOpen"))
    offsets = np.zeros_like(head.positions)
    offsets[np.array(shape.GetPointIndicesAttr().Get())] = np.array(shape.GetOffsetsAttr().Get())
    np.testing.assert_array_equal(offsets, head.morphs[0])
    animation = UsdSkel.Animation(stage.GetPrimAtPath("/Head/Skeleton/Rest"))
    assert list(animation.GetBlendShapeWeightsAttr().Get()) == [0.5, 0.0, 0.0]

    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [(error.GetName(), error.GetMessage()) for error in errors] == []


def test_usdz_names_meshes_and_moves_them_with_the_skeleton(tmp_path: Path, skinned: Scene) -> None:
    """A joint turned by 90 degrees about x moves its vertices by the rotation about its place."""
    pytest.importorskip("pxr", reason="the extra `usd` is not installed")
    from pxr import Gf, Usd, UsdGeom, UsdSkel, UsdValidation, Vt

    write_usdz(tmp_path / "face.usdz", skinned)
    stage = Usd.Stage.Open(str(tmp_path / "face.usdz"))
    skeleton = UsdSkel.Skeleton(stage.GetPrimAtPath("/Head/Skeleton"))
    joints = list(skeleton.GetJointsAttr().Get())
    assert joints == ["root", "root/neck_joint", "root/neck_joint/jaw_joint"]
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/Head/head"))
    assert set(mesh.GetFaceVertexCountsAttr().Get()) == {4}
    cache = UsdSkel.Cache()
    root = UsdSkel.Root(stage.GetPrimAtPath("/Head"))
    cache.Populate(root, Usd.PrimDefaultPredicate)
    query = cache.GetSkinningQuery(mesh.GetPrim())
    posed = Vt.Matrix4dArray([Gf.Matrix4d(1)] * 3)
    jaw = Gf.Vec3d(*skinned.skeleton[1].position)
    turn = Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d(1, 0, 0), 90))
    posed[2] = Gf.Matrix4d().SetTranslate(-jaw) * turn * Gf.Matrix4d().SetTranslate(jaw)
    points = mesh.GetPointsAttr().Get()
    before = np.array(points)
    assert query.ComputeSkinnedPoints(posed, points, Usd.TimeCode.Default())
    moved = np.array(points)
    x, y, z = (before - np.array(jaw)).T
    expected = np.stack([x, -z, y], -1) + np.array(jaw)
    below = before[:, 1] < 0
    np.testing.assert_allclose(moved[below], expected[below], atol=1e-6)
    np.testing.assert_allclose(moved[~below], before[~below], atol=1e-6)
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [(error.GetName(), error.GetMessage()) for error in errors] == []
