"""Writing binary glTF 2.0 (GLB): textured heads with morph targets, without other packages.

Files use only core glTF, so every program opens them: images are PNG or JPEG, morph targets are
sparse accessors with their names in `mesh.extras.targetNames`, a surface with a normal map has
tangents, and all skinned meshes share one skin. Khronos Group, "glTF 2.0 Specification", 2021; comments cite its section names.
"""

import json
import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

import lifemask
from lifemask.io.files import write_bytes
from lifemask.io.images import image_type
from lifemask.io.scenes import Joint, Node, Scene, Surface, SurfaceMaterial
from lifemask.io.surfaces import split_at_seams, with_tangents

_BYTE, _SHORT, _INT, _FLOAT = 5121, 5123, 5125, 5126
_TYPE_OF_WIDTH = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_JOINTS_OF_VERTEX = 4
"""Most joints of one vertex; glTF has more only in further attributes, which few programs read."""
_NEGLIGIBLE_METRES = 1e-6
_NEGLIGIBLE_NORMAL = 1e-3
_SPARSE_UNTIL = 0.75
"""Above this share of moved vertices, a sparse morph target is larger, as it stores indices too."""


def write_glb(path: str | os.PathLike[str], scene: Scene) -> None:
    """Write a scene to a GLB file, complete or not at all; equal scenes give equal bytes.

    Raises:
        ValueError: the surfaces of a node do not have its morph targets, an image is neither PNG
            nor JPEG, a surface with a normal map lacks normals or texture coordinates, or a node
            that the skeleton moves is translated or inside another one.
        OutputError: the file cannot be written.
    """
    write_bytes(path, encode_glb(scene))


def encode_glb(scene: Scene) -> bytes:
    """Return a scene as the bytes of a GLB file; see `write_glb`."""
    return _Writer().encode(scene)


class _Writer:
    """Collects the JSON tree and the binary chunk of one file."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.tree: dict[str, list[Any]] = {
            name: []
            for name in (
                "nodes", "meshes", "skins", "materials", "textures", "images", "accessors",
                "bufferViews",
            )
        }  # fmt: skip
        self.known: dict[bytes, int] = {}

    def encode(self, scene: Scene) -> bytes:
        roots = [self.node(node, is_root=True) for node in scene.nodes]
        roots += self.skeleton(scene.skeleton)
        tree: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": f"lifemask {lifemask.__version__}"}
            | _given(copyright=scene.copyright),
            "scene": 0,
            "scenes": [{"nodes": roots} | _given(extras=dict(scene.extras))],
        }
        tree |= {name: value for name, value in self.tree.items() if value}
        if self.tree["textures"]:
            # Linear filtering with mipmaps; no repetition, because border texels belong to the head.
            sampler = {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}
            tree["samplers"] = [sampler]
        self.binary += b"\0" * (-len(self.binary) % 4)
        if self.binary:
            tree["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        if self.binary:
            chunks += struct.pack("<I4s", len(self.binary), b"BIN\0") + self.binary
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks

    def add(self, kind: str, value: Any) -> int:
        self.tree[kind].append(value)
        return len(self.tree[kind]) - 1

    def node(self, node: Node, *, is_root: bool = False) -> int:
        value: dict[str, Any] = {"name": node.name}
        if any(node.translation):
            value["translation"] = list(node.translation)
        if node.surfaces:
            value["mesh"] = self.mesh(node)
        if any(surface.joint_weights is not None for surface in node.surfaces):
            # "Skins": the transforms of such a node and of its parents have no effect.
            if any(node.translation) or not is_root:
                raise ValueError(
                    f"The skeleton moves node {node.name!r}, so it must be a root without translation."
                )
            value["skin"] = 0
        children = [self.node(child) for child in node.children]
        return self.add("nodes", value | _given(children=children, extras=dict(node.extras)))

    def skeleton(self, joints: Sequence[Joint]) -> list[int]:
        """Add the joints and their skin; return the nodes of the joints without parents."""
        if not joints:
            return []
        positions = np.array([joint.position for joint in joints])
        first = len(self.tree["nodes"])
        for k, joint in enumerate(joints):
            origin = 0 if joint.parent is None else positions[joint.parent]
            children = [first + i for i, other in enumerate(joints) if other.parent == k]
            value = {"name": joint.name, "translation": (positions[k] - origin).tolist()}
            self.add("nodes", value | _given(children=children))
        inverse = np.tile(np.eye(4), (len(joints), 1, 1))
        inverse[:, 3, :3] = -positions  # "Accessors": matrices are stored column by column.
        skin = {
            "name": "skeleton",
            "joints": list(range(first, first + len(joints))),
            "inverseBindMatrices": self.floats(inverse.reshape(-1, 16), target=None),
        }
        self.add("skins", skin)
        return [first + k for k, joint in enumerate(joints) if joint.parent is None]

    def mesh(self, node: Node) -> int:
        count = len(node.morph_names)
        for surface in node.surfaces:
            have = 0 if surface.morphs is None else len(surface.morphs)
            if have != count or len(node.morph_weights) not in (0, count):
                raise ValueError(
                    f"Node {node.name!r} names {count} morph targets and has "
                    f"{len(node.morph_weights)} weights, but a surface has {have} targets; all "
                    "must agree (no weights at all means zeros)."
                )
        value: dict[str, Any] = {
            "name": node.name,
            "primitives": [self.primitive(surface) for surface in node.surfaces],
        }
        if count:
            value["weights"] = [float(w) for w in node.morph_weights] or [0.0] * count
            value["extras"] = {"targetNames": list(node.morph_names)}
        return self.add("meshes", value)

    def primitive(self, surface: Surface) -> dict[str, Any]:
        surface = split_at_seams(surface)
        textured = surface.material is not None and surface.material.normal_image is not None
        if textured and surface.tangents is None:
            surface = with_tangents(surface)
        attributes = {"POSITION": self.floats(surface.positions, bounds=True)}
        for name, values in (
            ("NORMAL", surface.normals),
            ("TANGENT", surface.tangents),
            ("TEXCOORD_0", surface.uv),
        ):
            if values is not None:
                attributes[name] = self.floats(values)
        if surface.joint_weights is not None:
            attributes |= self.joint_weights(surface.joint_weights)
        value: dict[str, Any] = {
            "attributes": attributes,
            "indices": self.indices(surface.triangles, len(surface.positions)),
        }
        if surface.material is not None:
            value["material"] = self.material(surface.material)
        if surface.morphs is not None:
            targets = [
                {"POSITION": self.morph(morph, _NEGLIGIBLE_METRES, bounds=True)}
                for morph in surface.morphs
            ]
            for k, morph in enumerate(
                () if surface.morph_normals is None else surface.morph_normals
            ):
                targets[k]["NORMAL"] = self.morph(morph, _NEGLIGIBLE_NORMAL)
            value["targets"] = targets
        return value

    def joint_weights(self, weights: Float[np.ndarray, "V J"]) -> dict[str, int]:
        """Return the attributes with the strongest joints of each vertex and their shares."""
        strongest = np.argsort(-weights, axis=-1, kind="stable")[:, :_JOINTS_OF_VERTEX]
        shares = np.take_along_axis(weights, strongest, axis=-1)
        whole = np.iinfo(np.uint16).max
        steps = np.round(shares / shares.sum(-1, keepdims=True) * whole).astype(np.int64)
        steps[:, 0] += whole - steps.sum(-1)
        # "Skinned mesh attributes": joints without weight must be zero.
        padding = ((0, 0), (0, _JOINTS_OF_VERTEX - steps.shape[1]))
        joints = np.pad(np.where(steps > 0, strongest, 0), padding).astype("u1")
        value = {"count": len(weights), "type": "VEC4"}
        return {
            "JOINTS_0": self.add(
                "accessors",
                value | {"bufferView": self.view(joints.tobytes(), 34962), "componentType": _BYTE},
            ),
            "WEIGHTS_0": self.add(
                "accessors",
                value
                | {
                    "bufferView": self.view(np.pad(steps, padding).astype("<u2").tobytes(), 34962),
                    "componentType": _SHORT,
                    "normalized": True,
                },
            ),
        }

    def material(self, material: SurfaceMaterial) -> int:
        surface: dict[str, Any] = {
            "baseColorFactor": list(material.base_colour),
            "metallicFactor": material.metallic,
            "roughnessFactor": material.roughness,
        }
        if material.base_colour_image is not None:
            surface["baseColorTexture"] = self.texture(
                material.base_colour_image, f"{material.name}_colour"
            )
        if material.metallic_roughness_image is not None:
            surface["metallicRoughnessTexture"] = self.texture(
                material.metallic_roughness_image, f"{material.name}_roughness"
            )
        value: dict[str, Any] = {"name": material.name, "pbrMetallicRoughness": surface}
        if material.normal_image is not None:
            value["normalTexture"] = self.texture(material.normal_image, f"{material.name}_normal")
        if material.occlusion_image is not None:
            value["occlusionTexture"] = self.texture(
                material.occlusion_image, f"{material.name}_occlusion"
            )
        if material.alpha_mode != "OPAQUE":
            value["alphaMode"] = material.alpha_mode
        if material.double_sided:
            value["doubleSided"] = True
        if value in self.tree["materials"]:
            return self.tree["materials"].index(value)
        return self.add("materials", value)

    def texture(self, image: bytes, name: str) -> dict[str, int]:
        if image not in self.known:
            value = {"name": name, "mimeType": image_type(image), "bufferView": self.view(image)}
            source = self.add("images", value)
            self.known[image] = self.add("textures", {"source": source, "sampler": 0})
        return {"index": self.known[image]}

    def view(self, data: bytes, target: int | None = None) -> int:
        self.binary += b"\0" * (-len(self.binary) % 4)
        value = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)}
        self.binary += data
        return self.add("bufferViews", value if target is None else value | {"target": target})

    def floats(
        self,
        values: Float[np.ndarray, "N C"],
        *,
        bounds: bool = False,
        target: int | None = 34962,
    ) -> int:
        values = np.ascontiguousarray(values, "<f4")
        value: dict[str, Any] = {
            "bufferView": self.view(values.tobytes(), target),
            "componentType": _FLOAT,
            "count": len(values),
            "type": _TYPE_OF_WIDTH[values.shape[1]],
        }
        return self.add("accessors", value | (_bounds(values) if bounds else {}))

    def indices(self, triangles: Shaped[np.ndarray, "T 3"], vertices: int) -> int:
        # The largest index of each type restarts a strip and must not occur.
        short = vertices <= 0xFFFF
        data = np.ascontiguousarray(triangles, "<u2" if short else "<u4").tobytes()
        return self.add(
            "accessors",
            {
                "bufferView": self.view(data, 34963),
                "componentType": _SHORT if short else _INT,
                "count": triangles.size,
                "type": "SCALAR",
            },
        )

    def morph(
        self, values: Float[np.ndarray, "V 3"], negligible: float, *, bounds: bool = False
    ) -> int:
        x, y, z = np.abs(values).T
        moved = np.flatnonzero(np.maximum(np.maximum(x, y), z) > negligible)
        if len(moved) > _SPARSE_UNTIL * len(values):
            return self.floats(values, bounds=bounds)
        # "Sparse accessors" must hold at least one element.
        moved = moved if len(moved) else np.array([0])
        short = len(values) <= 0xFFFF
        kept = values[moved].astype("<f4")
        sparse = {
            "count": len(moved),
            "indices": {
                "bufferView": self.view(moved.astype("<u2" if short else "<u4").tobytes()),
                "componentType": _SHORT if short else _INT,
            },
            "values": {"bufferView": self.view(kept.tobytes())},
        }
        value = {"componentType": _FLOAT, "count": len(values), "type": "VEC3", "sparse": sparse}
        if not bounds:
            return self.add("accessors", value)
        # The range includes vertices that are not listed: their displacement is zero.
        resting = kept[:0] if len(kept) == len(values) else np.zeros_like(kept[:1])
        return self.add("accessors", value | _bounds(np.concatenate([kept, resting])))


def _bounds(values: Float[np.ndarray, "N C"]) -> dict[str, list[float]]:
    return {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
