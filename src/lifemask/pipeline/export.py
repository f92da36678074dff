"""A reconstruction as a scene for mesh formats: neutral head, textures, morph targets, skeleton."""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from lifemask.geometry.meshes import vertex_normals
from lifemask.hair.head_of_hair import HeadOfHair
from lifemask.io.colour import pixels_from_image
from lifemask.io.files import write_bytes
from lifemask.io.gltf import write_glb
from lifemask.io.images import encode_image
from lifemask.io.obj import write_obj
from lifemask.io.ply import write_ply
from lifemask.io.scenes import Joint, Node, Scene, Surface, SurfaceMaterial
from lifemask.io.stl import write_stl
from lifemask.io.texture_files import write_textures
from lifemask.io.usd import require_usd, write_usdz
from lifemask.morphable.assets import attribution
from lifemask.morphable.model import MorphableModel
from lifemask.morphable.rig import JOINTS, PARENTS, HeadRig, head_rig
from lifemask.morphable.tongue import without_opening
from lifemask.morphable.visemes import VISEMES
from lifemask.pipeline.detailed_head import with_relief
from lifemask.pipeline.displacement_file import displacement_range_mm, encode_displacement
from lifemask.pipeline.head_morphs import HeadMorphs, head_morphs
from lifemask.pipeline.head_parts import HeadPart, head_parts, in_quads
from lifemask.pipeline.outputs import HAIR, SKIN, Detail, displacement_name
from lifemask.pipeline.reconstructed_head import ReconstructedHead
from lifemask.pipeline.saved import SavedHead
from lifemask.rendering.displacement import groove_visibility
from lifemask.rendering.filters import resized
from lifemask.rendering.heads import displaced_vertices
from lifemask.texture.expression_folds import without_expression_folds
from lifemask.texture.skin_detail import normal_map
from lifemask.texture.skin_maps import skin_image, skin_roughness

_WRITERS: dict[str, Callable[[Path, Scene], object]] = {
    ".glb": write_glb,
    ".obj": write_obj,
    ".ply": write_ply,
    ".stl": write_stl,
    ".usdz": write_usdz,
}
"""Writers of scenes, by suffix."""
_OPTIMISED_SIZE = 4096
"""Most texels along a side of textures whose JPEG codes are optimised, so that files are smaller."""
_JPEG_QUALITY = 92
_HAIR_COLOURS = 256
"""Colours and opacities of a picture of hair."""
_CUTOUT_MARGIN = 4
"""Texels around a cut-out, for filtering."""


def write_head(
    path: str | os.PathLike[str],
    face: ReconstructedHead,
    *,
    neutral: bool = False,
    detail: Detail = "map",
) -> None:
    """Write the head as GLB, OBJ, PLY, STL or USDZ, by the path's suffix.

    Args:
        path: the file.
        face: whose head.
        neutral: write it without the photo's expression.
        detail: see `head_scene`.

    Raises:
        ValueError: if the suffix is none of these, or the detail is unknown.
        ImportError: if a USDZ file needs the extra `usd`, which is not installed.
        OutputError: if the file cannot be written; nothing half-written is left.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    writer = _WRITERS.get(suffix)
    if writer is None:
        raise ValueError(f"Cannot write {path.name!r}. Known formats: {sorted(_WRITERS)}.")
    if suffix == ".usdz":
        require_usd()
    # PLY and STL have no opacity: the gaps between strands would be closed.
    hair = suffix not in (".ply", ".stl")
    writer(path, head_scene(face, neutral=neutral, hair=hair, detail=detail))


def write_head_textures(
    folder: str | os.PathLike[str], stem: str, face: ReconstructedHead
) -> list[Path]:
    """Write the textures of a head as `STEM_MATERIAL_USE.png|jpg`, and return the files.

    If the head has a relief, `STEM_Skin_displacement.png` is among them, as `displacement_file`
    describes it.

    Raises:
        OutputError: if a file cannot be written.
    """
    surfaces = [surface for node in head_scene(face).nodes for surface in node.surfaces]
    materials = list(dict.fromkeys(s.material for s in surfaces if s.material is not None))
    names = [material.name for material in materials]
    written = write_textures(Path(folder), stem, materials, names).written
    if (displacement := resting_displacement(face)) is not None:
        assert face.surface.displacement is not None
        range_mm = displacement_range_mm(face.surface.displacement)
        file = Path(folder) / displacement_name(stem)
        write_bytes(file, encode_displacement(displacement, range_mm))
        written.append(file)
    return written


def saved_head(face: ReconstructedHead) -> SavedHead:
    """Return a head as its GLB file holds it, without writing one."""
    return SavedHead(head_scene(face), face.camera)


def head_scene(
    face: ReconstructedHead,
    *,
    neutral: bool = False,
    hair: bool = True,
    detail: Detail = "map",
) -> Scene:
    """Return the person's neutral head with morph targets set to the photo's expression.

    A node each for head, eyes, teeth, tongue and lashes, with the morph targets that move it: 52 under
    ARKit's names and 15 visemes; the head has all of them. The eyeballs turn in the `eyeLook…`
    targets. A head of hair adds a node for each of its layers. A skeleton moves all nodes; at rest it
    changes nothing.

    Args:
        face: the reconstruction.
        neutral: set all morph targets to zero.
        hair: whether a head of hair belongs to the scene.
        detail: `map` shows the relief of the skin in the normal map; `mesh` makes finer triangles on
            the face, which have the relief, and leaves out the visemes and the normals of morph
            targets, as they would take most of the file. Without a relief, both are the
            same.

    Raises:
        ValueError: the detail is unknown.
    """
    if detail not in get_args(Detail):
        raise ValueError(f"Got detail={detail!r}. Known: {', '.join(get_args(Detail))}.")
    model = face.model
    person = face.neutral_coefficients
    smooth = model.vertices(person)
    displacement = resting_displacement(face)
    fine = displacement if detail == "mesh" else None
    vertices = smooth if displacement is None else displaced_vertices(model, smooth, displacement)
    rig = head_rig(model, person.identity)
    whole = _WholeHead(
        model,
        vertices,
        vertex_normals(vertices, model.triangles),
        _targets(head_morphs(model, person, smooth, vertices), visemes=fine is None),
        None if rig is None else rig.weights,
    )
    images = {"base_colour_image": _jpeg(face.texture.pixels())}
    relief = None
    if fine is None:
        relief = _png(normal_map(face.texture, model, vertices=smooth, displacement=displacement))
    weights = {} if neutral else _expression(face)
    nodes: list[Node] = []
    for part in head_parts(model):
        if part.material.alpha_mode == "OPAQUE":
            is_skin = part.material.name == SKIN
            material = replace(part.material, **images)
            if is_skin:
                material = _skin_material(face, material, relief)
            if fine is not None and is_skin:
                bare = replace(
                    whole, vertices=smooth, normals=vertex_normals(smooth, model.triangles)
                )
                surface, names = _surface(bare, part, material)
                used = model.triangles[part.triangles].unique()
                surface = with_relief(surface, model.regions["face"][used] > 0.5, fine)
            else:
                surface, names = _surface(whole, part, material)
        else:
            surface, names = _surface(whole, part, part.material)
            surface = _with_cutout(face, surface, part.material)
        nodes.append(
            Node(
                part.name,
                (surface,),
                morph_names=names,
                morph_weights=tuple(weights.get(name, 0.0) for name in names),
            )
        )
    worn = face.hair.mesh if hair else None
    if worn is not None:
        nodes += _hair(worn, rigged=rig is not None)
    camera = face.camera
    extras = {
        "camera": {
            "focal_pixels": float(camera.focal_pixels),
            "principal_point": camera.principal_point.tolist(),
            "head_to_camera": camera.world_to_camera.tolist(),
            "image_size": list(camera.image_size),
        },
        "light_sh": face.light.coefficients.tolist(),
    }
    skeleton = () if rig is None else _joints(rig)
    return Scene(tuple(nodes), extras=extras, copyright=attribution(), skeleton=skeleton)


def resting_displacement(face: ReconstructedHead) -> Float[Tensor, "R R"] | None:
    """Return the relief of the neutral head in metres, in UV; None without one."""
    displacement = face.surface.displacement
    if displacement is None:
        return None
    return without_expression_folds(displacement, face.coefficients.expression, face.model)


def _targets(morphs: HeadMorphs, *, visemes: bool) -> HeadMorphs:
    """Return the morph targets, with or without the visemes, which stand at the end."""
    if visemes:
        return morphs
    count = len(morphs.names) - len(VISEMES)
    return HeadMorphs(morphs.names[:count], morphs.positions[:count], morphs.normals[:count])


@dataclass(frozen=True)
class _WholeHead:
    """All vertices of a head, as they are written."""

    model: MorphableModel
    vertices: Float[Tensor, "V 3"]
    normals: Float[Tensor, "V 3"]
    morphs: HeadMorphs
    joint_weights: Float[Tensor, "V J"] | None


def _skin_material(
    face: ReconstructedHead, material: SurfaceMaterial, normal_image: bytes | None
) -> SurfaceMaterial:
    """Give the skin its normal map, and one image with occlusion in red and roughness in green.

    Grooves of the skin hide light too.
    """
    values = torch.stack([face.unhidden, skin_roughness(face.model)], -1)
    image = skin_image(face.model, values)
    if (displacement := resting_displacement(face)) is not None:
        image[0] *= resized(groove_visibility(displacement)[None], image.shape[-1])[0]
    pixels = _bytes(image)
    both = _jpeg(np.dstack([pixels, np.zeros_like(pixels[..., :1])]))
    return replace(
        material,
        normal_image=normal_image,
        metallic_roughness_image=both,
        occlusion_image=both,
        roughness=1.0,
    )


def _expression(face: ReconstructedHead) -> dict[str, float]:
    """Return the weight of each target in the photo's expression."""
    names, weights = face.model.expression_names, face.coefficients.expression
    if "tongue" in face.model.vertex_parts:
        weights = without_opening(weights, names)
    return dict(zip(names, weights.tolist(), strict=True))


def _joints(rig: HeadRig) -> tuple[Joint, ...]:
    """Return the joints of a rig; their names differ from those of the nodes."""
    return tuple(
        Joint(f"{name}_joint", (x, y, z), parent)
        for name, parent, (x, y, z) in zip(JOINTS, PARENTS, rig.positions.tolist(), strict=True)
    )


def _surface(
    whole: _WholeHead, part: HeadPart, material: SurfaceMaterial
) -> tuple[Surface, tuple[str, ...]]:
    """Cut a part out of the head, with only the vertices it uses and the targets that move it.

    Returns:
        The surface and the names of its targets.
    """
    model, morphs = whole.model, whole.morphs
    triangles, uv_triangles = model.triangles[part.triangles], model.uv_triangles[part.triangles]
    used, local = triangles.unique(return_inverse=True)
    uv_used, uv_local = uv_triangles.unique(return_inverse=True)
    moves = morphs.positions[:, used].abs().amax((-1, -2)) > 0
    if part.name == "head":
        moves = torch.ones_like(moves)
    kept = moves.nonzero().flatten()
    surface = Surface(
        positions=whole.vertices[used].numpy(),
        triangles=local.int().numpy(),
        normals=whole.normals[used].numpy(),
        uv=model.uv[uv_used].numpy(),
        uv_triangles=uv_local.int().numpy(),
        material=material,
        morphs=morphs.positions[kept][:, used].numpy() if len(kept) else None,
        morph_normals=morphs.normals[kept][:, used].numpy() if len(kept) else None,
        joint_weights=None if whole.joint_weights is None else whole.joint_weights[used].numpy(),
        quads=in_quads(model, part.triangles),
    )
    return surface, tuple(morphs.names[k] for k in kept.tolist())


def _hair(hair: HeadOfHair, *, rigged: bool) -> Iterator[Node]:
    """Yield the layers of hair; its gaps are cut out, so layers hide each other in every program."""
    image = _few_colours(hair.picture)
    material = SurfaceMaterial(
        HAIR, base_colour_image=image, roughness=0.6, alpha_mode="MASK", double_sided=True
    )
    names = ("hair", "hair_strands")
    for name, triangles in zip(names, hair.triangles.split(hair.layers), strict=False):
        used, local = triangles.unique(return_inverse=True)
        on_skull = np.zeros((len(used), len(JOINTS)), np.float32)
        on_skull[:, JOINTS.index("head")] = 1
        surface = Surface(
            positions=hair.vertices[used].numpy(),
            triangles=local.int().numpy(),
            normals=hair.normals[used].numpy(),
            uv=hair.uv[used].numpy(),
            material=material,
            joint_weights=on_skull if rigged else None,
        )
        yield Node(name, (surface,))


def _few_colours(picture: UInt8[np.ndarray, "R C 4"]) -> bytes:
    """Return a picture of hair as a PNG of at most 256 colours, a quarter of the size of all of them.

    All hair of a head has nearly one hue, so its colours are few.
    """
    buffer = io.BytesIO()
    few = Image.fromarray(picture).quantize(_HAIR_COLOURS, method=Image.Quantize.FASTOCTREE)
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _with_cutout(face: ReconstructedHead, surface: Surface, material: SurfaceMaterial) -> Surface:
    """Give a surface its own part of the texture, with the opacity of the atlas.

    JPEG holds no opacity, and a PNG of the whole texture would be ten times larger.
    """
    albedo = face.texture.albedo
    assert surface.uv is not None, "Every surface of the head has texture coordinates."
    size = albedo.shape[-1]
    first = np.floor(surface.uv.min(axis=0) * size).astype(int) - _CUTOUT_MARGIN
    last = np.ceil(surface.uv.max(axis=0) * size).astype(int) + _CUTOUT_MARGIN
    (left, top), (right, bottom) = first.clip(0, size).tolist(), last.clip(0, size).tolist()
    colour = pixels_from_image(albedo[:, top:bottom, left:right])
    opacity = np.full(colour.shape[:2], 255, np.uint8)
    if face.model.albedo is not None:
        shown = face.model.albedo.fine_opacity(size)[0, top:bottom, left:right]
        opacity = (shown * 255).round().to(torch.uint8).numpy()
    uv = (surface.uv * size - (left, top)) / (right - left, bottom - top)
    return replace(
        surface,
        uv=uv.astype(np.float32),
        material=replace(
            material, base_colour_image=encode_image(np.dstack([colour, opacity]), "png")
        ),
    )


def _jpeg(pixels: UInt8[np.ndarray, "R R 3"]) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    # Pillow optimises in a buffer of up to two bytes for each pixel, which is too much for large textures.
    small = len(pixels) <= _OPTIMISED_SIZE
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=small)
    return buffer.getvalue()


def _png(normals: Float[Tensor, "3 R R"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_bytes(normals * 0.5 + 0.5)).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _bytes(image: Float[Tensor, "C R R"]) -> UInt8[np.ndarray, "R R C"]:
    """Return values in [0, 1] as pixels of plain numbers, without a colour space."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
