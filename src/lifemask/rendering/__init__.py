"""Differentiable rendering: rasterise, interpolate, texture and shade triangle meshes.

`render` draws everything at once; `rasterize`, `interpolate`, `sample_texture` and
`shade_normals` are its parts. `rasterize_uv` and `unwrap_photo` work in texture space.
"""

from lifemask.rendering.backends import available_backends
from lifemask.rendering.compilation import compile_kernels
from lifemask.rendering.fragments import Fragments
from lifemask.rendering.images import Rendering, render, render_colour
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.rasterization import rasterize
from lifemask.rendering.shading import shade_normals
from lifemask.rendering.silhouettes import add_silhouette_gradients
from lifemask.rendering.texture import sample_texture
from lifemask.rendering.uv import (
    UnwrappedPhoto,
    rasterize_uv,
    texel_extent,
    unwrap_photo,
)

__all__ = [
    "Fragments",
    "Rendering",
    "UnwrappedPhoto",
    "add_silhouette_gradients",
    "available_backends",
    "compile_kernels",
    "interpolate",
    "rasterize",
    "rasterize_uv",
    "render",
    "render_colour",
    "sample_texture",
    "shade_normals",
    "texel_extent",
    "unwrap_photo",
]
