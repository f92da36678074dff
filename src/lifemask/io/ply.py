"""Binary PLY with vertex colours: the whole head at rest as one coloured mesh."""

import io
import os

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from lifemask.io.colour import pixels_from_image
from lifemask.io.files import write_bytes
from lifemask.io.scenes import Scene, Surface
from lifemask.io.surfaces import split_at_seams


def write_ply(path: str | os.PathLike[str], scene: Scene) -> None:
    """Write a scene as little-endian PLY with normals and 8-bit sRGB vertex colours.

    The colour of a vertex comes from the texture. Points on texture seams are repeated.

    Raises:
        OutputError: the file cannot be written.
    """
    surfaces = [split_at_seams(surface) for _, surface in scene.at_rest()]
    normals = all(surface.normals is not None for surface in surfaces)
    fields = [(axis, "<f4") for axis in "xyz"]
    fields += [(f"n{axis}", "<f4") for axis in "xyz"] if normals else []
    fields += [(colour, "u1") for colour in ("red", "green", "blue")]
    count = sum(len(surface.positions) for surface in surfaces)
    vertices = np.zeros(count, fields)
    triangles = np.zeros(
        sum(len(surface.triangles) for surface in surfaces), [("n", "u1"), ("i", "<i4", 3)]
    )
    triangles["n"] = 3
    vertex, triangle = 0, 0
    for surface in surfaces:
        block = vertices[vertex : vertex + len(surface.positions)]
        for k, axis in enumerate("xyz"):
            block[axis] = surface.positions[:, k]
            if normals and surface.normals is not None:
                block[f"n{axis}"] = surface.normals[:, k]
        colours = _vertex_colours(surface)
        for k, colour in enumerate(("red", "green", "blue")):
            block[colour] = colours[:, k]
        end = triangle + len(surface.triangles)
        triangles["i"][triangle:end] = surface.triangles + vertex
        vertex, triangle = vertex + len(block), end

    names = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0"]
    header += [f"comment {line}" for line in scene.copyright.splitlines()]
    header += [f"element vertex {count}"]
    header += [f"property {names[kind]} {name}" for name, kind in fields]
    header += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
    text = "\n".join([*header, "end_header", ""]).encode("ascii", "replace")
    write_bytes(path, text + vertices.tobytes() + triangles.tobytes())


def _vertex_colours(surface: Surface) -> UInt8[np.ndarray, "V 3"]:
    material = surface.material
    if material is None or material.base_colour_image is None or surface.uv is None:
        linear = torch.tensor((1.0, 1.0, 1.0) if material is None else material.base_colour[:3])
        colour = pixels_from_image(linear.view(3, 1, 1))
        return np.broadcast_to(colour[0], (len(surface.positions), 3))
    with Image.open(io.BytesIO(material.base_colour_image)) as image:
        texture = np.asarray(image.convert("RGB"))
    return _sample(texture, surface.uv)


def _sample(
    texture: UInt8[np.ndarray, "H W 3"], uv: Float[np.ndarray, "V 2"]
) -> UInt8[np.ndarray, "V 3"]:
    """Return the bilinear samples of a texture with texel centres at +0.5."""
    size = np.array(texture.shape[1::-1])
    place = np.clip(uv * size - 0.5, 0, size - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, size - 1)
    right, down = np.moveaxis(place - low, -1, 0)[..., None]
    top = texture[low[:, 1], low[:, 0]] * (1 - right) + texture[low[:, 1], high[:, 0]] * right
    bottom = texture[high[:, 1], low[:, 0]] * (1 - right) + texture[high[:, 1], high[:, 0]] * right
    return np.round(top * (1 - down) + bottom * down).astype(np.uint8)
