"""Scenes that the mesh formats write: named nodes of textured surfaces, in plain numpy.

Positions are in head space: metres, right-handed, +X to the subject's left, +Y up, +Z out of the
face. This is also glTF's convention.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class SurfaceMaterial:
    """A material in glTF's metallic-roughness model. Images are the bytes of PNG or JPEG files."""

    name: str
    """Name for readers."""
    base_colour: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """Linear RGB and opacity in [0, 1]; multiplies the texture."""
    base_colour_image: bytes | None = None
    """Texture in sRGB, with opacity if `alpha_mode` uses it."""
    normal_image: bytes | None = None
    """Tangent-space normals in [0, 1]; green points up in the image."""
    metallic_roughness_image: bytes | None = None
    """Roughness in green, metalness in blue; multiplies the factors below."""
    occlusion_image: bytes | None = None
    """Share of the surroundings' light that reaches the surface, in red; it may be the image above."""
    metallic: float = 0.0
    """0 for skin, 1 for metal."""
    roughness: float = 0.5
    """0 is a mirror, 1 is chalk."""
    alpha_mode: Literal["OPAQUE", "MASK", "BLEND"] = "OPAQUE"
    """MASK shows only points that are at least half opaque."""
    double_sided: bool = False
    """Whether triangles are visible from both sides."""


@dataclass(frozen=True)
class Surface:
    """A triangle mesh of one material."""

    positions: Float[np.ndarray, "V 3"]
    """Metres."""
    triangles: Int[np.ndarray, "T 3"]
    """Vertex indices, counter-clockwise seen from outside."""
    normals: Float[np.ndarray, "V 3"] | None = None
    """Unit vectors."""
    uv: Float[np.ndarray, "U 2"] | None = None
    """Texture coordinates in [0, 1], origin at the top left, v down."""
    uv_triangles: Int[np.ndarray, "T 3"] | None = None
    """Indices into `uv` for each corner; those of the vertices (U = V) if None."""
    tangents: Float[np.ndarray, "V 4"] | None = None
    """Unit vector along +u, and s: s * cross(normal, tangent) is the bitangent, along -v."""
    material: SurfaceMaterial | None = None
    """Grey if None."""
    morphs: Float[np.ndarray, "K V 3"] | None = None
    """Displacements in metres of each morph target at weight 1."""
    morph_normals: Float[np.ndarray, "K V 3"] | None = None
    """Change of the normals by each morph target at weight 1."""
    joint_weights: Float[np.ndarray, "V J"] | None = None
    """Share of each joint of the scene's skeleton in the motion of each vertex; rows sum to 1.
    If None, the skeleton does not move the surface."""
    quads: bool = False
    """Whether triangles 2k and 2k + 1 are the halves (0, 1, 2) and (0, 2, 3) of a quad."""


@dataclass(frozen=True)
class Node:
    """A named part of a scene: surfaces that move together, and parts attached to it."""

    name: str
    """Name for readers, and for programs that search for the eyes."""
    surfaces: tuple[Surface, ...] = ()
    """Surfaces that share the morph targets below."""
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Metres, in the axes of the parent."""
    morph_names: tuple[str, ...] = ()
    """One name for each morph target."""
    morph_weights: tuple[float, ...] = ()
    """Weights at rest; all zero if empty."""
    children: tuple["Node", ...] = ()
    """Attached parts."""
    extras: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Any JSON values."""


@dataclass(frozen=True)
class Joint:
    """A joint of a skeleton; its axes are those of head space."""

    name: str
    """Name for readers; it should differ from those of the nodes."""
    position: tuple[float, float, float]
    """Metres, head space, at rest."""
    parent: int | None = None
    """Index of a joint that stands before this one in the skeleton; None for a root."""


@dataclass(frozen=True)
class Scene:
    """The contents of a GLB file."""

    nodes: tuple[Node, ...]
    """Roots of the node trees."""
    skeleton: tuple[Joint, ...] = field(default=(), kw_only=True)
    """Joints that move surfaces with joint weights; at rest they change nothing."""
    extras: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Any JSON values about the whole file, such as the camera."""
    copyright: str = ""
    """The credits and the licences."""

    def at_rest(self) -> list[tuple[str, Surface]]:
        """Return all surfaces with their node's name, translated and with morph weights applied."""
        return [pair for node in self.nodes for pair in _at_rest(node, np.zeros(3))]


def _at_rest(node: Node, origin: Float[np.ndarray, "3"]) -> Iterator[tuple[str, Surface]]:
    origin = origin + node.translation
    for surface in node.surfaces:
        weights = np.asarray(node.morph_weights)
        positions, normals = surface.positions + origin, surface.normals
        if surface.morphs is not None and len(weights):
            positions = positions + np.tensordot(weights, surface.morphs, 1)
        if normals is not None and surface.morph_normals is not None and len(weights):
            normals = normals + np.tensordot(weights, surface.morph_normals, 1)
            normals = normals / np.linalg.norm(normals, axis=-1, keepdims=True).clip(1e-12)
        yield (
            node.name,
            replace(
                surface,
                positions=positions.astype(np.float32),
                normals=None if normals is None else normals.astype(np.float32),
                morphs=None,
                morph_normals=None,
            ),
        )
    for child in node.children:
        yield from _at_rest(child, origin)
