"""Binary glTF 2.0 (GLB): textured heads with morph targets, written and read without other packages.

Files use only core glTF, so every program opens them: images are PNG or JPEG, morph targets are
sparse accessors with their names in `mesh.extras.targetNames`, and a surface with a normal map has
tangents. Khronos Group, "glTF 2.0 Specification", 2021; comments cite its section names.
"""

import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped

import lifemask
from lifemask.io.files import write_bytes
from lifemask.io.images import image_type
from lifemask.io.scenes import Node, Scene, Surface, SurfaceMaterial
from lifemask.io.surfaces import split_at_seams, with_tangents

_FLOAT, _SHORT, _INT = 5126, 5123, 5125
_TYPE_OF_WIDTH = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
_WIDTH_OF_TYPE = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_DTYPE = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_NEGLIGIBLE_METRES = 1e-6
_NEGLIGIBLE_NORMAL = 1e-3
_SPARSE_UNTIL = 0.75
"""Above this share of moved vertices, a sparse morph target is larger, as it stores indices too."""


class GltfError(ValueError):
    """A file is not a GLB that this reader can read; the message says what is wrong."""


def write_glb(path: str | os.PathLike[str], scene: Scene) -> None:
    """Write a scene to a GLB file, complete or not at all; equal scenes give equal bytes.

    Raises:
        ValueError: the surfaces of a node do not have its morph targets, an image is neither PNG
            nor JPEG, or a surface with a normal map lacks normals or texture coordinates.
        OutputError: the file cannot be written.
    """
    write_bytes(path, encode_glb(scene))


def encode_glb(scene: Scene) -> bytes:
    """Return a scene as the bytes of a GLB file; see `write_glb`."""
    return _Writer().encode(scene)


def read_glb(path: str | os.PathLike[str]) -> Scene:
    """Read the parts of a GLB file that `write_glb` writes; everything else in it is ignored.

    Raises:
        GltfError: the file is not a GLB, is damaged, or needs an extension.
        OSError: it cannot be opened.
    """
    return decode_glb(Path(path).read_bytes(), label=repr(str(path)))


def decode_glb(data: bytes, *, label: str = "the file") -> Scene:
    """Return the scene in the bytes of a GLB file; see `read_glb`."""
    try:
        return _Reader(data).scene()
    except GltfError as error:
        raise GltfError(f"Cannot read {label}: {error}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise GltfError(f"Cannot read {label}: it is damaged ({error!r}).") from error


class _Writer:
    """Collects the JSON tree and the binary chunk of one file."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.tree: dict[str, list[Any]] = {
            name: []
            for name in (
                "nodes", "meshes", "materials", "textures", "images", "accessors", "bufferViews"
            )
        }  # fmt: skip
        self.known: dict[bytes, int] = {}

    def encode(self, scene: Scene) -> bytes:
        roots = [self.node(node) for node in scene.nodes]
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

    def node(self, node: Node) -> int:
        value: dict[str, Any] = {"name": node.name}
        if any(node.translation):
            value["translation"] = list(node.translation)
        if node.surfaces:
            value["mesh"] = self.mesh(node)
        children = [self.node(child) for child in node.children]
        return self.add("nodes", value | _given(children=children, extras=dict(node.extras)))

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
        value: dict[str, Any] = {
            "attributes": attributes,
            "indices": self.indices(surface.triangles, len(surface.positions)),
        }
        if surface.material is not None:
            value["material"] = self.material(surface.material)
        if surface.morphs is not None:
            targets = [
                {"POSITION": self.morph(morph, _NEGLIGIBLE_METRES)} for morph in surface.morphs
            ]
            for k, morph in enumerate(
                () if surface.morph_normals is None else surface.morph_normals
            ):
                targets[k]["NORMAL"] = self.morph(morph, _NEGLIGIBLE_NORMAL)
            value["targets"] = targets
        return value

    def material(self, material: SurfaceMaterial) -> int:
        surface: dict[str, Any] = {
            "baseColorFactor": list(material.base_colour),
            "metallicFactor": material.metallic,
            "roughnessFactor": material.roughness,
        }
        if material.base_colour_image is not None:
            surface["baseColorTexture"] = self.texture(material.base_colour_image)
        if material.metallic_roughness_image is not None:
            surface["metallicRoughnessTexture"] = self.texture(material.metallic_roughness_image)
        value: dict[str, Any] = {"name": material.name, "pbrMetallicRoughness": surface}
        if material.normal_image is not None:
            value["normalTexture"] = self.texture(material.normal_image)
        if material.alpha_mode != "OPAQUE":
            value["alphaMode"] = material.alpha_mode
        if material.double_sided:
            value["doubleSided"] = True
        if value in self.tree["materials"]:
            return self.tree["materials"].index(value)
        return self.add("materials", value)

    def texture(self, image: bytes) -> dict[str, int]:
        if image not in self.known:
            source = self.add(
                "images", {"mimeType": image_type(image), "bufferView": self.view(image)}
            )
            self.known[image] = self.add("textures", {"source": source, "sampler": 0})
        return {"index": self.known[image]}

    def view(self, data: bytes, target: int | None = None) -> int:
        self.binary += b"\0" * (-len(self.binary) % 4)
        value = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)}
        self.binary += data
        return self.add("bufferViews", value if target is None else value | {"target": target})

    def floats(self, values: Float[np.ndarray, "N C"], *, bounds: bool = False) -> int:
        values = np.ascontiguousarray(values, "<f4")
        value: dict[str, Any] = {
            "bufferView": self.view(values.tobytes(), 34962),
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

    def morph(self, values: Float[np.ndarray, "V 3"], negligible: float) -> int:
        x, y, z = np.abs(values).T
        moved = np.flatnonzero(np.maximum(np.maximum(x, y), z) > negligible)
        if len(moved) > _SPARSE_UNTIL * len(values):
            return self.floats(values, bounds=True)
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
        # The range includes vertices that are not listed: their displacement is zero.
        resting = kept[:0] if len(kept) == len(values) else np.zeros_like(kept[:1])
        return self.add("accessors", value | _bounds(np.concatenate([kept, resting])))


class _Reader:
    """Reads the JSON tree of one file and checks every range of the binary chunk."""

    def __init__(self, data: bytes) -> None:
        if len(data) < 20 or data[:4] != b"glTF":
            raise GltfError(f"it is not a GLB file: it starts with {data[:4]!r}, not b'glTF'.")
        version, length = struct.unpack_from("<II", data, 4)
        if version != 2:
            raise GltfError(f"it is glTF version {version}; version 2 is needed.")
        if length > len(data):
            raise GltfError(f"it is cut off: {len(data)} of {length} bytes are there.")
        chunks: dict[bytes, bytes] = {}
        start = 12
        while start + 8 <= length:
            size, kind = struct.unpack_from("<I4s", data, start)
            chunks.setdefault(kind, data[start + 8 : start + 8 + size])
            start += 8 + size
        self.tree: dict[str, Any] = json.loads(chunks.get(b"JSON", b"{}"))
        self.binary = chunks.get(b"BIN\0", b"")
        if needed := self.tree.get("extensionsRequired"):
            raise GltfError(
                f"it needs extensions that this reader does not have: {', '.join(needed)}."
            )

    def scene(self) -> Scene:
        scene = self.tree["scenes"][self.tree.get("scene", 0)]
        nodes = tuple(self.node(index) for index in scene.get("nodes", []))
        notice = self.tree.get("asset", {}).get("copyright", "")
        return Scene(nodes, scene.get("extras", {}), notice)

    def node(self, index: int) -> Node:
        value = self.tree["nodes"][index]
        mesh = self.tree["meshes"][value["mesh"]] if "mesh" in value else {}
        x, y, z = value.get("translation", (0.0, 0.0, 0.0))
        return Node(
            name=value.get("name", ""),
            surfaces=tuple(self.surface(primitive) for primitive in mesh.get("primitives", [])),
            translation=(float(x), float(y), float(z)),
            morph_names=tuple(mesh.get("extras", {}).get("targetNames", ())),
            morph_weights=tuple(float(w) for w in mesh.get("weights", ())),
            children=tuple(self.node(child) for child in value.get("children", [])),
            extras=value.get("extras", {}),
        )

    def surface(self, primitive: Mapping[str, Any]) -> Surface:
        if primitive.get("mode", 4) != 4:
            raise GltfError("it holds lines, points or strips; only triangle lists are read.")
        attributes = primitive["attributes"]
        positions = self.array(attributes["POSITION"])
        indices = (
            self.array(primitive["indices"])[:, 0]
            if "indices" in primitive
            else np.arange(len(positions))
        )
        triangles = indices.astype(np.int64).reshape(-1, 3)
        if triangles.size and triangles.max() >= len(positions):
            raise GltfError(f"a triangle uses vertex {triangles.max()} of {len(positions)}.")
        return Surface(
            positions=positions,
            triangles=triangles,
            normals=self.optional(attributes, "NORMAL"),
            uv=self.optional(attributes, "TEXCOORD_0"),
            tangents=self.optional(attributes, "TANGENT"),
            material=self.material(primitive["material"]) if "material" in primitive else None,
            morphs=self.targets(primitive, "POSITION"),
            morph_normals=self.targets(primitive, "NORMAL"),
        )

    def material(self, index: int) -> SurfaceMaterial:
        value = self.tree["materials"][index]
        surface = value.get("pbrMetallicRoughness", {})
        red, green, blue, alpha = surface.get("baseColorFactor", (1.0, 1.0, 1.0, 1.0))
        return SurfaceMaterial(
            name=value.get("name", ""),
            base_colour=(float(red), float(green), float(blue), float(alpha)),
            base_colour_image=self.image(surface.get("baseColorTexture")),
            normal_image=self.image(value.get("normalTexture")),
            metallic_roughness_image=self.image(surface.get("metallicRoughnessTexture")),
            metallic=float(surface.get("metallicFactor", 1.0)),
            roughness=float(surface.get("roughnessFactor", 1.0)),
            alpha_mode=value.get("alphaMode", "OPAQUE"),
            double_sided=value.get("doubleSided", False),
        )

    def image(self, texture: Mapping[str, Any] | None) -> bytes | None:
        if texture is None:
            return None
        image = self.tree["images"][self.tree["textures"][texture["index"]]["source"]]
        if "bufferView" not in image:
            raise GltfError("it refers to an image file beside it; only embedded images are read.")
        return self.view(image["bufferView"])

    def targets(
        self, primitive: Mapping[str, Any], name: Literal["POSITION", "NORMAL"]
    ) -> Float[np.ndarray, "K V 3"] | None:
        targets: Sequence[Mapping[str, int]] = primitive.get("targets", [])
        if not targets or any(name not in target for target in targets):
            return None
        return np.stack([self.array(target[name]) for target in targets])

    def optional(self, attributes: Mapping[str, int], name: str) -> np.ndarray | None:
        return self.array(attributes[name]) if name in attributes else None

    def array(self, index: int) -> Shaped[np.ndarray, "N C"]:
        accessor = self.tree["accessors"][index]
        count, width = accessor["count"], _WIDTH_OF_TYPE[accessor["type"]]
        dtype = np.dtype(_DTYPE[accessor["componentType"]])
        if "bufferView" in accessor:
            values = self.elements(accessor, dtype, count, width)
        elif count * width > 50_000_000:
            raise GltfError(f"an accessor claims {count} elements without data.")
        else:
            values = np.zeros((count, width), dtype)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            integer = np.dtype(_DTYPE[sparse["indices"]["componentType"]])
            places = self.elements(sparse["indices"], integer, sparse["count"], 1)[:, 0]
            values = values.copy()
            values[places] = self.elements(sparse["values"], dtype, sparse["count"], width)
        if accessor.get("normalized"):
            values = np.maximum(values.astype(np.float32) / np.iinfo(dtype).max, -1)
        return values

    def elements(
        self, place: Mapping[str, Any], dtype: np.dtype[Any], count: int, width: int
    ) -> Shaped[np.ndarray, "N C"]:
        data = self.view(place["bufferView"])
        stride = self.tree["bufferViews"][place["bufferView"]].get(
            "byteStride", dtype.itemsize * width
        )
        start = place.get("byteOffset", 0)
        if (
            start < 0
            or count < 0
            or start + (count - 1) * stride + dtype.itemsize * width > len(data)
        ):
            raise GltfError("an accessor reaches beyond its buffer view.")
        strides = (stride, dtype.itemsize)
        return np.ndarray((count, width), dtype, data, start, strides)

    def view(self, index: int) -> bytes:
        view = self.tree["bufferViews"][index]
        start = view.get("byteOffset", 0)
        if view.get("buffer", 0) != 0 or not 0 <= start <= start + view["byteLength"] <= len(
            self.binary
        ):
            raise GltfError("a buffer view reaches beyond the file.")
        return self.binary[start : start + view["byteLength"]]


def _bounds(values: Float[np.ndarray, "N C"]) -> dict[str, list[float]]:
    return {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
