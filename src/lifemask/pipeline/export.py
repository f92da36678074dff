"""A reconstruction as a scene for mesh formats: neutral head, textures, 52 morph targets."""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from lifemask.geometry.meshes import vertex_normals
from lifemask.hair.head_of_hair import HeadOfHair
from lifemask.io.colour import pixels_from_image
from lifemask.io.gltf import write_glb
from lifemask.io.images import encode_image
from lifemask.io.obj import write_obj
from lifemask.io.ply import write_ply
from lifemask.io.scenes import Node, Scene, Surface, SurfaceMaterial
from lifemask.io.usd import require_usd, write_usdz
from lifemask.morphable.assets import attribution
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.model import MorphableModel
from lifemask.pipeline.outputs import EYES, HAIR, LASHES, SKIN
from lifemask.pipeline.reconstructed_head import ReconstructedHead
from lifemask.rendering.heads import displaced_vertices
from lifemask.texture.skin_detail import normal_map

Part = Callable[[ReconstructedHead], Bool[Tensor, "T"]]
"""Chooses the triangles of one material."""

_WRITERS: dict[str, Callable[[Path, Scene], object]] = {
    ".glb": write_glb,
    ".obj": write_obj,
    ".ply": write_ply,
    ".usdz": write_usdz,
}
"""Writers of scenes, by suffix."""
_JPEG_QUALITY = 92
_CUTOUT_MARGIN = 4
"""Texels around a cut-out, for filtering."""


def write_head(path: str | os.PathLike[str], face: ReconstructedHead) -> None:
    """Write the head as GLB, OBJ, PLY or USDZ, by the path's suffix.

    Raises:
        ValueError: if the suffix is none of these.
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
    # PLY has no opacity: the gaps between strands would be closed.
    writer(path, head_scene(face, hair=suffix != ".ply"))


def head_scene(face: ReconstructedHead, *, hair: bool = True) -> Scene:
    """Return the person's neutral head with morph targets set to the photo's expression.

    One node `Head` with a surface each for skin, eyes and lashes; they share 52 morph targets under
    ARKit's names. The eyeballs turn in the `eyeLook…` targets. Hair is a node `Hair` below it, which
    has no morph targets.

    Args:
        hair: whether a head of hair belongs to the scene.
    """
    model = face.model
    person = face.neutral_coefficients
    smooth = model.vertices(person)
    morphs = person_morphs(model, person, smooth)
    displacement = face.surface.displacement
    vertices = smooth if displacement is None else displaced_vertices(model, smooth, displacement)
    normals = vertex_normals(vertices, model.triangles)
    morph_normals = vertex_normals(vertices + morphs, model.triangles) - normals
    colour = _jpeg(face.texture.pixels())
    materials = _materials(colour, _png(normal_map(face.texture, model, displacement=displacement)))
    surfaces = [
        _surface(face, part, material, vertices, normals, morphs, morph_normals)
        for part, material in materials
        if part(face).any()
    ]
    if _lashes(face).any():
        material = SurfaceMaterial(LASHES, roughness=0.8, alpha_mode="BLEND", double_sided=True)
        cards = _surface(face, _lashes, material, vertices, normals, morphs, morph_normals)
        surfaces.append(_with_cutout(face, cards, material))
    worn = face.hair.mesh if hair else None
    node = Node(
        "Head",
        tuple(surfaces),
        morph_names=tuple(model.expression_names),
        morph_weights=tuple(float(w) for w in face.coefficients.expression),
        children=() if worn is None else (Node(HAIR, tuple(_hair(worn))),),
    )
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
    return Scene((node,), extras=extras, copyright=attribution())


def person_morphs(
    model: MorphableModel, person: FaceCoefficients, neutral: Float[Tensor, "V 3"]
) -> Float[Tensor, "E V 3"]:
    """Return how each expression at weight 1 moves the vertices of this person, metres.

    Lids close on the person's own eyeballs; the model's linear basis fits those of the mean person.
    The eyeballs turn in the `eyeLook…` targets.

    Args:
        person: without expression.
        neutral: their vertices.
    """
    count = len(model.expression_names)
    alone = FaceCoefficients(
        person.identity.expand(count, -1),
        torch.eye(count),
        torch.zeros(count, 2, 2),
        person.albedo.expand(count, -1),
    )
    morphs = model.vertices(alone) - neutral
    if model.eyeballs is not None:
        balls = model.eyeballs.vertices.flatten()
        morphs[:, balls] = model.eye_look_basis(identity=person.identity)[:, balls]
    return morphs


def _eyes(face: ReconstructedHead) -> Bool[Tensor, "T"]:
    regions = face.model.regions
    return _triangles_in(face, regions["eyeball_left"] + regions["eyeball_right"])


def _lashes(face: ReconstructedHead) -> Bool[Tensor, "T"]:
    return _triangles_in(face, face.model.regions["lashes"])


def _skin(face: ReconstructedHead) -> Bool[Tensor, "T"]:
    return ~(_eyes(face) | _lashes(face))


def _triangles_in(face: ReconstructedHead, weight: Float[Tensor, "V"]) -> Bool[Tensor, "T"]:
    return (weight[face.model.triangles] > 0.5).all(-1)


def _materials(colour: bytes, normal: bytes) -> tuple[tuple[Part, SurfaceMaterial], ...]:
    skin = SurfaceMaterial(
        SKIN, base_colour_image=colour, normal_image=normal, roughness=0.55, double_sided=False
    )
    eyes = SurfaceMaterial(EYES, base_colour_image=colour, roughness=0.12)
    return ((_skin, skin), (_eyes, eyes))


def _surface(
    face: ReconstructedHead,
    part: Part,
    material: SurfaceMaterial,
    vertices: Tensor,
    normals: Tensor,
    morphs: Tensor,
    morph_normals: Tensor,
) -> Surface:
    """Cut one material's triangles out of the head, with only the vertices they use."""
    model = face.model
    chosen = part(face)
    triangles, uv_triangles = model.triangles[chosen], model.uv_triangles[chosen]
    used, local = triangles.unique(return_inverse=True)
    uv_used, uv_local = uv_triangles.unique(return_inverse=True)
    return Surface(
        positions=vertices[used].numpy(),
        triangles=local.int().numpy(),
        normals=normals[used].numpy(),
        uv=model.uv[uv_used].numpy(),
        uv_triangles=uv_local.int().numpy(),
        material=material,
        morphs=morphs[:, used].numpy(),
        morph_normals=morph_normals[:, used].numpy(),
    )


def _hair(hair: HeadOfHair) -> Iterator[Surface]:
    """Yield the layers of hair; its gaps are cut out, so layers hide each other in every program."""
    image = encode_image(hair.picture, "png")
    material = SurfaceMaterial(
        HAIR, base_colour_image=image, roughness=0.6, alpha_mode="MASK", double_sided=True
    )
    for triangles in hair.triangles.split(hair.layers):
        used, local = triangles.unique(return_inverse=True)
        yield Surface(
            positions=hair.vertices[used].numpy(),
            triangles=local.int().numpy(),
            normals=hair.normals[used].numpy(),
            uv=hair.uv[used].numpy(),
            material=material,
        )


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
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _png(normals: Float[Tensor, "3 R R"]) -> bytes:
    encoded = ((normals * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    buffer = io.BytesIO()
    pixels = np.ascontiguousarray(encoded.permute(1, 2, 0).numpy())
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
