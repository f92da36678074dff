"""Reading GLB files, also damaged and malicious ones: every count, index, range and number is checked.

Khronos Group, "glTF 2.0 Specification", 2021. Limits are far above what `lifemask.io.gltf` writes.
"""

import os
import struct
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

from lifemask.io.images import image_type
from lifemask.io.json_values import MOST_BYTES as MOST_JSON_BYTES
from lifemask.io.json_values import JsonError, JsonValue, parse_json
from lifemask.io.scenes import Node, Scene, Surface, SurfaceMaterial

MOST_BYTES = 1 << 30
"""Larger files are refused."""
_MOST_NODES = 1000
_MOST_LEVELS = 32
_MOST_SURFACES = 256
_MOST_MORPHS = 1000
_MOST_VALUES = 100_000_000
"""Numbers and quarters of image bytes that all surfaces together may use."""
_MOST_VERTICES = 2_000_000
_MOST_METRES = 1000.0
_MOST_TEXTURE_UNITS = 10_000.0
_MOST_WEIGHT = 1000.0

_WIDTH_OF_TYPE = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_DTYPE = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_ALPHA_MODES: dict[str, Literal["OPAQUE", "MASK", "BLEND"]] = {
    "OPAQUE": "OPAQUE",
    "MASK": "MASK",
    "BLEND": "BLEND",
}


class GltfError(ValueError):
    """A file is not a GLB that this reader can read; the message says what is wrong."""


def read_glb(path: str | os.PathLike[str]) -> Scene:
    """Read the parts of a GLB file that `write_glb` writes; everything else in it is ignored.

    Raises:
        GltfError: the file is not a GLB, is damaged, is too large, or needs an extension.
        OSError: it cannot be opened.
    """
    with open(Path(path), "rb") as file:
        data = file.read(MOST_BYTES + 1)
    return decode_glb(data, label=repr(str(path)))


def decode_glb(data: bytes, *, label: str = "the file") -> Scene:
    """Return the scene in the bytes of a GLB file; see `read_glb`."""
    try:
        return _Reader(data).scene()
    except (GltfError, JsonError) as error:
        raise GltfError(f"Cannot read {label}: {error}") from error


class _Reader:
    """Reads the JSON tree of one file; remembers what it has already used."""

    def __init__(self, data: bytes) -> None:
        chunks = _chunks(data)
        text = chunks.get(b"JSON", b"")
        if len(text) > MOST_JSON_BYTES:
            raise GltfError(
                f"its JSON has {len(text)} bytes; at most {MOST_JSON_BYTES} are allowed."
            )
        self.tree = parse_json(bytes(text))
        self.binary = chunks.get(b"BIN\0", memoryview(b""))
        self.visited: set[int] = set()
        self.values_left = _MOST_VALUES
        self.vertices_left = _MOST_VERTICES
        self.surfaces_left = _MOST_SURFACES
        self.materials: dict[int, SurfaceMaterial] = {}
        self.images: dict[int, bytes] = {}
        needed = self.tree.get("extensionsRequired")
        names = [] if needed is None else [name.text() for name in needed.items(most=_MOST_NODES)]
        if names:
            raise GltfError(
                f"it needs extensions that this reader does not have: {', '.join(names)}."
            )

    @cached_property
    def tables(self) -> dict[str, list[JsonValue]]:
        """The lists at the top of the file: nodes, meshes and others."""
        names = (
            "scenes", "nodes", "meshes", "materials", "textures", "images", "accessors",
            "bufferViews",
        )  # fmt: skip
        return {
            name: [] if (table := self.tree.get(name)) is None else table.items(most=1_000_000)
            for name in names
        }

    def scene(self) -> Scene:
        chosen = self.tree.get("scene")
        scene = self.entry("scenes", chosen or JsonValue(0, "scene"))
        roots = scene.get("nodes")
        nodes = () if roots is None else roots.items(most=_MOST_NODES)
        asset = self.tree.get("asset")
        return Scene(
            tuple(self.node(root, level=1) for root in nodes),
            _members(scene.get("extras")),
            "" if asset is None else _text(asset.get("copyright")),
        )

    def entry(self, table: str, index: JsonValue) -> JsonValue:
        """Return the entry of a table to which an index points."""
        entries = self.tables[table]
        if not entries:
            raise JsonError(f"{index.place} needs an entry of {table!r}, which has none.")
        return entries[index.integer(0, len(entries) - 1)]

    def node(self, index: JsonValue, *, level: int) -> Node:
        value = self.entry("nodes", index)
        if index.value in self.visited:
            raise GltfError(f"{value.place} is reached twice; nodes must form a tree.")
        self.visited.add(index.value)
        if len(self.visited) > _MOST_NODES or level > _MOST_LEVELS:
            raise GltfError(
                f"it has more than {_MOST_NODES} nodes or {_MOST_LEVELS} levels of nodes."
            )
        translation = value.get("translation")
        mesh = value.get("mesh")
        children = value.get("children")
        surfaces, names, weights = self.mesh(mesh) if mesh else ((), (), ())
        return Node(
            name=_text(value.get("name")),
            surfaces=surfaces,
            translation=(0.0, 0.0, 0.0) if translation is None else _triple(translation),
            morph_names=names,
            morph_weights=weights,
            children=tuple(
                self.node(child, level=level + 1)
                for child in (children.items(most=_MOST_NODES) if children else ())
            ),
            extras=_members(value.get("extras")),
        )

    def mesh(
        self, index: JsonValue
    ) -> tuple[tuple[Surface, ...], tuple[str, ...], tuple[float, ...]]:
        """Return the surfaces, names and weights of the morph targets of a mesh."""
        value = self.entry("meshes", index)
        primitives = value["primitives"].items(most=_MOST_SURFACES)
        targets = [
            0
            if (found := primitive.get("targets")) is None
            else len(found.items(most=_MOST_MORPHS))
            for primitive in primitives
        ]
        rest = value.get("weights")
        weights = (
            ()
            if rest is None
            else tuple(
                weight.number(-_MOST_WEIGHT, _MOST_WEIGHT)
                for weight in rest.items(most=_MOST_MORPHS)
            )
        )
        extras = value.get("extras")
        given = extras.get("targetNames") if extras else None
        names = (
            () if given is None else tuple(name.text() for name in given.items(most=_MOST_MORPHS))
        )
        for what, count in (("weights", len(weights)), ("names", len(names))):
            if count and any(count != have for have in targets):
                raise GltfError(
                    f"{value.place} has {count} {what} of morph targets, but its surfaces have "
                    f"{' and '.join(map(str, sorted(set(targets))))} targets."
                )
        return tuple(self.surface(primitive) for primitive in primitives), names, weights

    def surface(self, value: JsonValue) -> Surface:
        self.surfaces_left -= 1
        if self.surfaces_left < 0:
            raise GltfError(f"it has more than {_MOST_SURFACES} surfaces.")
        if (mode := value.get("mode")) is not None and mode.integer(0, 6) != 4:
            raise GltfError("it holds lines, points or strips; only triangle lists are read.")
        attributes = value["attributes"]
        positions = self.floats(attributes["POSITION"], 3, most=_MOST_METRES)
        count = len(positions)
        self.vertices_left -= count
        if self.vertices_left < 0:
            raise GltfError(f"it has more than {_MOST_VERTICES} vertices.")

        def optional(name: str, width: int, most: float) -> np.ndarray | None:
            found = attributes.get(name)
            return None if found is None else self.floats(found, width, most=most, count=count)

        material = value.get("material")
        return Surface(
            positions=positions,
            triangles=self.triangles(value, count),
            normals=optional("NORMAL", 3, 2.0),
            uv=optional("TEXCOORD_0", 2, _MOST_TEXTURE_UNITS),
            tangents=optional("TANGENT", 4, 2.0),
            material=None if material is None else self.material(material),
            morphs=self.targets(value, "POSITION", count, most=_MOST_METRES),
            morph_normals=self.targets(value, "NORMAL", count, most=4.0),
        )

    def triangles(self, surface: JsonValue, vertices: int) -> Int[np.ndarray, "T 3"]:
        place = surface.get("indices")
        if place is None:
            corners = np.arange(vertices)
        else:
            corners = self.array(place, 1, dtypes=("u1", "<u2", "<u4"))[:, 0].astype(np.int64)
        if len(corners) % 3 or len(corners) > 6 * _MOST_VERTICES:
            raise GltfError(
                f"{surface.place} has {len(corners)} corners of triangles; a multiple of 3 up to "
                f"{6 * _MOST_VERTICES} is needed."
            )
        if corners.max() >= vertices:
            raise GltfError(f"{surface.place} uses vertex {corners.max()} of {vertices}.")
        return corners.reshape(-1, 3)

    def material(self, index: JsonValue) -> SurfaceMaterial:
        value = self.entry("materials", index)
        if index.value not in self.materials:
            self.materials[index.value] = self.new_material(value)
        return self.materials[index.value]

    def new_material(self, value: JsonValue) -> SurfaceMaterial:
        surface = value.get("pbrMetallicRoughness") or JsonValue({}, value.place)
        factor = surface.get("baseColorFactor")
        red, green, blue, alpha = (
            (1.0,) * 4 if factor is None else factor.numbers((4,), least=0.0, most=1.0).tolist()
        )
        alpha_mode = value.get("alphaMode")
        if alpha_mode is not None and alpha_mode.text() not in _ALPHA_MODES:
            alpha_mode.refuse(f"one of {', '.join(_ALPHA_MODES)}")
        double_sided = value.get("doubleSided")
        return SurfaceMaterial(
            name=_text(value.get("name")),
            base_colour=(red, green, blue, alpha),
            base_colour_image=self.image(surface.get("baseColorTexture")),
            normal_image=self.image(value.get("normalTexture")),
            metallic_roughness_image=self.image(surface.get("metallicRoughnessTexture")),
            occlusion_image=self.image(value.get("occlusionTexture")),
            metallic=_share(surface.get("metallicFactor")),
            roughness=_share(surface.get("roughnessFactor")),
            alpha_mode=_ALPHA_MODES[alpha_mode.text()] if alpha_mode else "OPAQUE",
            double_sided=double_sided is not None and double_sided.flag(),
        )

    def image(self, texture: JsonValue | None) -> bytes | None:
        if texture is None:
            return None
        source = self.entry("textures", texture["index"])["source"]
        image = self.entry("images", source)
        if source.value not in self.images:
            view = image.get("bufferView")
            if view is None:
                raise GltfError(
                    "it refers to an image file beside it; only embedded images are read."
                )
            data, _ = self.view(view)
            self.spend(len(data) // 4)
            try:
                image_type(bytes(data[:16]))
            except ValueError as error:
                raise GltfError(f"{image.place} is damaged. {error}") from error
            self.images[source.value] = bytes(data)
        return self.images[source.value]

    def targets(
        self, surface: JsonValue, name: str, count: int, *, most: float
    ) -> Float[np.ndarray, "K V 3"] | None:
        found = surface.get("targets")
        targets = [] if found is None else found.items(most=_MOST_MORPHS)
        if not targets or any(target.get(name) is None for target in targets):
            return None
        return np.stack(
            [self.floats(target[name], 3, most=most, count=count) for target in targets]
        )

    def floats(
        self, index: JsonValue, width: int, *, most: float, count: int | None = None
    ) -> Float[np.ndarray, "N C"]:
        """Return an accessor of finite numbers up to `most`, with a row for each of `count` vertices."""
        normalised = width == 2
        dtypes = ("<f4", "u1", "<u2") if normalised else ("<f4",)
        values = self.array(index, width, dtypes=dtypes)
        if count is not None and len(values) != count:
            raise GltfError(f"{index.place} has {len(values)} elements for {count} vertices.")
        if values.dtype != np.float32:
            values = values.astype(np.float32) / np.iinfo(values.dtype).max
        if not (np.abs(values) <= most).all():
            raise GltfError(f"{index.place} holds NaN, or numbers beyond {most:g}.")
        return values

    def array(
        self, index: JsonValue, width: int, *, dtypes: tuple[str, ...]
    ) -> Shaped[np.ndarray, "N C"]:
        """Return a copy of an accessor, which must have this width and one of these types."""
        accessor = self.entry("accessors", index)
        kind = accessor["type"]
        if _WIDTH_OF_TYPE.get(kind.text()) != width:
            kind.refuse(repr(next(k for k, w in _WIDTH_OF_TYPE.items() if w == width)))
        dtype = _dtype(accessor["componentType"], dtypes)
        count = accessor["count"].integer(1, _MOST_VALUES)
        self.spend(count * width)
        if accessor.get("bufferView") is None:
            values = np.zeros((count, width), dtype)
        else:
            values = self.elements(accessor, dtype, count, width).copy()
        if sparse := accessor.get("sparse"):
            listed = sparse["count"].integer(1, count)
            places = sparse["indices"]
            integer = _dtype(places["componentType"], ("u1", "<u2", "<u4"))
            rows = self.elements(places, integer, listed, 1)[:, 0]
            if rows.max() >= count:
                raise GltfError(f"{places.place} lists element {rows.max()} of {count}.")
            values[rows] = self.elements(sparse["values"], dtype, listed, width)
        return values

    def elements(
        self, place: JsonValue, dtype: np.dtype[Any], count: int, width: int
    ) -> Shaped[np.ndarray, "N C"]:
        data, stride = self.view(place["bufferView"])
        size = dtype.itemsize * width
        offset = place.get("byteOffset")
        start = 0 if offset is None else offset.integer(0, MOST_BYTES)
        stride = stride or size
        if start + (count - 1) * stride + size > len(data):
            raise GltfError(f"{place.place} reaches beyond its buffer view.")
        return np.ndarray((count, width), dtype, data, start, (stride, dtype.itemsize))

    def view(self, index: JsonValue) -> tuple[memoryview, int | None]:
        """Return the bytes of a buffer view, and its stride if it has one."""
        view = self.entry("bufferViews", index)
        offset, stride = view.get("byteOffset"), view.get("byteStride")
        start = 0 if offset is None else offset.integer(0, MOST_BYTES)
        end = start + view["byteLength"].integer(1, MOST_BYTES)
        view["buffer"].integer(0, 0)
        if end > len(self.binary):
            raise GltfError(f"{view.place} reaches beyond the file.")
        return self.binary[start:end], None if stride is None else stride.integer(4, 252)

    def spend(self, values: int) -> None:
        self.values_left -= values
        if self.values_left < 0:
            raise GltfError(f"its surfaces use more than {_MOST_VALUES} numbers.")


def _chunks(data: bytes) -> dict[bytes, memoryview]:
    if len(data) > MOST_BYTES:
        raise GltfError(f"it has more than {MOST_BYTES} bytes.")
    if len(data) < 20 or data[:4] != b"glTF":
        raise GltfError(f"it is not a GLB file: it starts with {data[:4]!r}, not b'glTF'.")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise GltfError(f"it is glTF version {version}; version 2 is needed.")
    if length > len(data):
        raise GltfError(f"it is cut off: {len(data)} of {length} bytes are there.")
    chunks: dict[bytes, memoryview] = {}
    whole = memoryview(data)[:length]
    start = 12
    while start + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, start)
        chunks.setdefault(kind, whole[start + 8 : start + 8 + size])
        start += 8 + size
    return chunks


def _dtype(kind: JsonValue, allowed: tuple[str, ...]) -> np.dtype[Any]:
    dtype = _DTYPE.get(kind.integer(0, 10_000))
    if dtype not in allowed:
        kind.refuse(f"one of {', '.join(str(k) for k, name in _DTYPE.items() if name in allowed)}")
    return np.dtype(dtype)


def _text(value: JsonValue | None) -> str:
    return "" if value is None else value.text()


def _members(value: JsonValue | None) -> dict[str, Any]:
    return {} if value is None else dict(value.members())


def _share(value: JsonValue | None) -> float:
    return 1.0 if value is None else value.number(0.0, 1.0)


def _triple(value: JsonValue) -> tuple[float, float, float]:
    x, y, z = value.numbers((3,), least=-_MOST_METRES, most=_MOST_METRES).tolist()
    return x, y, z
