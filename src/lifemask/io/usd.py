"""USDZ with blend shapes, for Apple's viewers and film programs; needs the extra `usd`."""

# usd-core has no types, and may not be installed.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from lifemask.io.files import write_bytes
from lifemask.io.images import image_type
from lifemask.io.scenes import Joint, Node, Scene, Surface, SurfaceMaterial
from lifemask.io.surfaces import faces, split_at_seams

_NEGLIGIBLE_METRES = 1e-6


def write_usdz(path: str | os.PathLike[str], scene: Scene) -> None:
    """Write a scene as USDZ: textured meshes with UsdSkel blend shapes at their rest weights.

    Meshes are named after their nodes, and the skeleton moves them.

    Raises:
        ImportError: the extra `usd` is not installed.
        OutputError: the file cannot be written.
        RuntimeError: usd-core fails to pack the file.
    """
    require_usd()
    from pxr import UsdUtils

    with tempfile.TemporaryDirectory() as folder:
        layer, package = Path(folder) / "head.usdc", Path(folder) / "head.usdz"
        _write_stage(layer, scene)
        if not UsdUtils.CreateNewUsdzPackage(str(layer), str(package)):
            raise RuntimeError("usd-core could not pack the USDZ file.")
        write_bytes(path, package.read_bytes())


def require_usd() -> None:
    """Raise an ImportError that says what to install, if usd-core is missing."""
    try:
        import_module("pxr")
    except ImportError as error:
        raise ImportError(
            "USDZ files need the package usd-core. Run: pip install 'lifemask[usd]'."
        ) from error


def _write_stage(layer: Path, scene: Scene) -> None:
    from pxr import Usd, UsdGeom, UsdSkel, Vt

    stage: Any = Usd.Stage.CreateNew(str(layer))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdSkel.Root.Define(stage, "/Head")
    stage.SetDefaultPrim(root.GetPrim())
    if scene.copyright:
        stage.GetRootLayer().comment = scene.copyright
    skeleton = _define_skeleton(stage, scene.skeleton)
    weights: dict[str, float] = {}
    materials: dict[SurfaceMaterial, Any] = {}
    images: dict[bytes, str] = {}
    used = {"Skeleton", "Materials"}
    for node, surface, origin in _placed(scene):
        prim_path = f"/Head/{_identifier(node.name, used)}"
        mesh = _define_mesh(stage, prim_path, split_at_seams(surface), origin, node)
        if surface.material is not None:
            if surface.material not in materials:
                UsdGeom.Scope.Define(stage, "/Head/Materials")
                taken = {each.GetPath().name for each in materials.values()}
                name = _identifier(surface.material.name, taken)
                materials[surface.material] = _define_material(
                    stage, layer.parent, f"/Head/Materials/{name}", surface.material, images
                )
            _bind(mesh, materials[surface.material])
        rest = node.morph_weights or (0.0,) * len(node.morph_names)
        weights |= dict(zip(node.morph_names, rest, strict=True))
    animation = UsdSkel.Animation.Define(stage, "/Head/Skeleton/Rest")
    animation.CreateJointsAttr(skeleton.GetJointsAttr().Get())
    animation.SetTransforms(skeleton.GetRestTransformsAttr().Get())
    animation.CreateBlendShapesAttr(list(weights))
    animation.CreateBlendShapeWeightsAttr(Vt.FloatArray(list(weights.values())))
    binding = UsdSkel.BindingAPI.Apply(skeleton.GetPrim())
    binding.CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    stage.Save()


def _define_skeleton(stage: Any, joints: Sequence[Joint]) -> Any:
    """Define the joints below one that never moves: blend shapes need skinned meshes."""
    from pxr import Gf, UsdSkel, Vt

    paths, bind, rest = ["root"], [Gf.Matrix4d(1)], [Gf.Matrix4d(1)]
    for joint in joints:
        parent = 0 if joint.parent is None else joint.parent + 1
        paths.append(f"{paths[parent]}/{joint.name}")
        place = Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(*joint.position))
        bind.append(place)
        rest.append(place * bind[parent].GetInverse())
    skeleton = UsdSkel.Skeleton.Define(stage, "/Head/Skeleton")
    skeleton.CreateJointsAttr(paths)
    skeleton.CreateBindTransformsAttr(Vt.Matrix4dArray(bind))
    skeleton.CreateRestTransformsAttr(Vt.Matrix4dArray(rest))
    return skeleton


def _identifier(name: str, used: set[str]) -> str:
    """Return a name that USD allows and that is not used yet, and remember it."""
    from pxr import Tf

    plain = Tf.MakeValidIdentifier(name)
    free, number = plain, 2
    while free in used:
        free, number = f"{plain}_{number}", number + 1
    used.add(free)
    return free


def _placed(scene: Scene) -> Iterator[tuple[Node, Surface, np.ndarray]]:
    waiting = [(node, np.zeros(3)) for node in scene.nodes]
    while waiting:
        node, origin = waiting.pop(0)
        origin = origin + node.translation
        yield from ((node, surface, origin) for surface in node.surfaces)
        waiting += [(child, origin) for child in node.children]


def _define_mesh(
    stage: Any, prim_path: str, surface: Surface, origin: np.ndarray, node: Node
) -> Any:
    from pxr import Sdf, UsdGeom, UsdSkel, Vt

    mesh = UsdGeom.Mesh.Define(stage, prim_path)
    positions = (surface.positions + origin).astype(np.float32)
    count = len(positions)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(positions))
    mesh.CreateExtentAttr(UsdGeom.PointBased.ComputeExtent(mesh.GetPointsAttr().Get()))
    corners = faces(surface.triangles.astype(np.int32), quads=surface.quads)
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray([corners.shape[1]] * len(corners)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(corners.ravel()))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDoubleSidedAttr(surface.material is not None and surface.material.double_sided)
    if surface.normals is not None:
        mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(surface.normals.astype(np.float32)))
        mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    if surface.uv is not None:
        # In USD, v points upwards.
        uv = (surface.uv * (1, -1) + (0, 1)).astype(np.float32)
        kind = Sdf.ValueTypeNames.TexCoord2fArray
        primvar = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", kind, UsdGeom.Tokens.vertex)
        primvar.Set(Vt.Vec2fArray.FromNumpy(uv))
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets(["/Head/Skeleton"])
    shares = np.ones((count, 1)) if surface.joint_weights is None else surface.joint_weights
    # The first joint is the one that never moves.
    first = 0 if surface.joint_weights is None else 1
    indices = np.tile(np.arange(shares.shape[1], dtype=np.int32) + first, count)
    width = shares.shape[1]
    binding.CreateJointIndicesPrimvar(False, width).Set(Vt.IntArray.FromNumpy(indices))
    flat = shares.astype(np.float32).ravel()
    binding.CreateJointWeightsPrimvar(False, width).Set(Vt.FloatArray.FromNumpy(flat))
    if surface.morphs is not None:
        targets: list[Any] = []
        for name, morph in zip(node.morph_names, surface.morphs, strict=True):
            moved = np.flatnonzero(np.abs(morph).max(-1) > _NEGLIGIBLE_METRES).astype(np.int32)
            shape = UsdSkel.BlendShape.Define(stage, f"{prim_path}/{name}")
            shape.CreateOffsetsAttr(Vt.Vec3fArray.FromNumpy(morph[moved].astype(np.float32)))
            shape.CreatePointIndicesAttr(Vt.IntArray.FromNumpy(moved))
            targets.append(shape.GetPath())
        binding.CreateBlendShapesAttr(list(node.morph_names))
        binding.CreateBlendShapeTargetsRel().SetTargets(targets)
    return mesh


def _define_material(
    stage: Any, folder: Path, prim_path: str, material: SurfaceMaterial, images: dict[bytes, str]
) -> Any:
    """Define a material; `images` remembers the files of images, so that each is stored once."""
    from pxr import Gf, Sdf, UsdShade

    types = Sdf.ValueTypeNames
    definition = UsdShade.Material.Define(stage, prim_path)
    surface = UsdShade.Shader.Define(stage, f"{prim_path}/Surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    roughness = surface.CreateInput("roughness", types.Float)
    roughness.Set(material.roughness)
    metallic = surface.CreateInput("metallic", types.Float)
    metallic.Set(material.metallic)
    colour = surface.CreateInput("diffuseColor", types.Color3f)
    colour.Set(Gf.Vec3f(*material.base_colour[:3]))
    opacity = surface.CreateInput("opacity", types.Float)
    opacity.Set(material.base_colour[3])
    reader = UsdShade.Shader.Define(stage, f"{prim_path}/Coordinates")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", types.String).Set("st")
    coordinates = reader.CreateOutput("result", types.Float2)

    def texture(name: str, image: bytes, space: str) -> Any:
        if image not in images:
            suffix = ".png" if image_type(image) == "image/png" else ".jpg"
            images[image] = f"{prim_path.rsplit('/', 1)[1]}_{name.lower()}{suffix}"
            (folder / images[image]).write_bytes(image)
        shader = UsdShade.Shader.Define(stage, f"{prim_path}/{name}")
        shader.CreateIdAttr("UsdUVTexture")
        # Without the dot, USD searches the name in its search paths.
        shader.CreateInput("file", types.Asset).Set(f"./{images[image]}")
        shader.CreateInput("st", types.Float2).ConnectToSource(coordinates)
        shader.CreateInput("sourceColorSpace", types.Token).Set(space)
        return shader

    if material.base_colour_image is not None:
        shader = texture("Colour", material.base_colour_image, "sRGB")
        colour.ConnectToSource(shader.CreateOutput("rgb", types.Float3))
        if material.alpha_mode != "OPAQUE":
            opacity.ConnectToSource(shader.CreateOutput("a", types.Float))
        if material.alpha_mode == "MASK":
            surface.CreateInput("opacityThreshold", types.Float).Set(0.5)
    if material.normal_image is not None:
        shader = texture("Normal", material.normal_image, "raw")
        shader.CreateInput("scale", types.Float4).Set(Gf.Vec4f(2, 2, 2, 1))
        shader.CreateInput("bias", types.Float4).Set(Gf.Vec4f(-1, -1, -1, 0))
        normal = surface.CreateInput("normal", types.Normal3f)
        normal.ConnectToSource(shader.CreateOutput("rgb", types.Float3))
    if (image := material.metallic_roughness_image) is not None:
        shader = texture("Roughness", image, "raw")
        shader.CreateInput("scale", types.Float4).Set(
            Gf.Vec4f(1, material.roughness, material.metallic, 1)
        )
        roughness.ConnectToSource(shader.CreateOutput("g", types.Float))
        metallic.ConnectToSource(shader.CreateOutput("b", types.Float))
    if (image := material.occlusion_image) is not None:
        occlusion = surface.CreateInput("occlusion", types.Float)
        shader = texture("Occlusion", image, "raw")
        occlusion.ConnectToSource(shader.CreateOutput("r", types.Float))
    definition.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    return definition


def _bind(mesh: Any, material: Any) -> None:
    from pxr import UsdShade

    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)
