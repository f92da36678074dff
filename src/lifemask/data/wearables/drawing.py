"""Draws wearables over pictures of heads: transparent layers, nearest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.data.wearables import _torch
from lifemask.data.wearables.dressing import Dressed
from lifemask.data.wearables.shading import vertex_colours
from lifemask.data.wearables.sheets import Sheets, gather
from lifemask.geometry.cameras import PerspectiveCamera

LAYERS = 12
"""Largest number of surfaces in one pixel; farther surfaces are left out."""
LayerBackend = Literal["auto", "numba", "torch"]


@dataclass(frozen=True)
class Layers:
    """Pictures of dressed heads."""

    colour: Float[Tensor, "N 3 H W"]
    """Linear RGB of the wearables over the given picture."""
    opacity: Float[Tensor, "N H W"]
    """Share of the given picture that is hidden, 0 to 1."""
    depth: Float[Tensor, "N H W"]
    """Metres to the surface that stops half of the light; else the given depth."""


def draw_layers(
    colour: Float[Tensor, "N 3 H W"],
    depth: Float[Tensor, "N H W"],
    dressed: Sequence[Dressed],
    camera: PerspectiveCamera,
    *,
    soft: Float[Tensor, "N 9 3"],
    direction: Float[Tensor, "N 3"],
    lamp: Float[Tensor, "N 3"],
    backend: LayerBackend = "auto",
) -> Layers:
    """Return pictures of heads with their wearables, drawn over pictures of the bare heads.

    Every pixel shows the `LAYERS` nearest surfaces in front of the head; surfaces behind an opaque
    one do not count. Textures are sampled from the level of a pyramid that fits their size on the
    image; for smooth strands draw at twice the size and average.

    Args:
        colour: linear RGB, including the background.
        depth: metres; 0 where there is no head.
        dressed: one for each image.
        camera: of the images.
        soft: harmonics of the surrounding light's irradiance over pi, in light axes.
        direction: unit vectors to the lamps, light axes.
        lamp: linear RGB shading that the lamps give surfaces facing them.
        backend: "torch" (any device; the reference), "numba" (CPU), or "auto".

    Raises:
        ValueError: the counts differ, or the backend is unknown or cannot use the device.
    """
    sheets, compiled = _lit_sheets(
        dressed, camera, len(colour), colour.device, soft, direction, lamp, backend
    )
    if not compiled:
        return Layers(*_torch.draw(colour, depth, sheets, LAYERS))
    from lifemask.data.wearables import _numba

    return Layers(*_numba.draw(colour, depth, sheets, LAYERS))


def draw_worn(
    depth: Float[Tensor, "N HS WS"],
    dressed: Sequence[Dressed],
    camera: PerspectiveCamera,
    samples: int,
    *,
    soft: Float[Tensor, "N 9 3"],
    direction: Float[Tensor, "N 3"],
    lamp: Float[Tensor, "N 3"],
    backend: LayerBackend = "auto",
) -> tuple[Layers, Float[Tensor, "N H W"]]:
    """Return the wearables over black, averaged over the samples of a pixel.

    The depth is that of the nearest sample, infinite if none is half hidden. The second result is
    the part of each pixel where wearables cover the head.

    Args:
        depth: metres at each sample; 0 where there is no head.
        dressed: one for each image.
        camera: of the images.
        samples: per pixel along each axis.
        soft, direction, lamp, backend: as in `draw_layers`.

    Raises:
        ValueError: the counts differ, or the backend is unknown or cannot use the device.
    """
    height, width = camera.image_size
    fine = camera.cropped(0, 0, (height * samples, width * samples), scale=float(samples))
    sheets, compiled = _lit_sheets(
        dressed, fine, len(depth), depth.device, soft, direction, lamp, backend
    )
    if compiled:
        from lifemask.data.wearables import _numba

        *layers, both = _numba.draw_averaged(depth, sheets, LAYERS, samples)
    else:
        black = depth.new_zeros(len(depth), 3, *depth.shape[1:])
        drawn = _torch.draw(black, depth, sheets, LAYERS)
        *layers, both = _torch.averaged(*drawn, depth, samples)
    return Layers(*layers), both


def _lit_sheets(
    dressed: Sequence[Dressed],
    camera: PerspectiveCamera,
    count: int,
    device: torch.device,
    soft: Float[Tensor, "N 9 3"],
    direction: Float[Tensor, "N 3"],
    lamp: Float[Tensor, "N 3"],
    backend: LayerBackend,
) -> tuple[Sheets, bool]:
    """Return all lit triangles, and whether numba draws them."""
    if backend not in get_args(LayerBackend):
        raise ValueError(f"Unknown backend {backend!r}. Known: {sorted(get_args(LayerBackend))}.")
    if len(dressed) != count:
        raise ValueError(f"Got {count} images and {len(dressed)} outfits: give one for each.")
    if backend == "numba" and device.type != "cpu":
        raise ValueError(f"The numba backend draws on the CPU, not on {device}.")
    compiled = backend == "numba" or (backend == "auto" and device.type == "cpu")
    motions = camera.world_to_camera.expand(count, 4, 4)
    cameras = [
        PerspectiveCamera(
            camera.focal_pixels.expand(count)[k],
            camera.principal_point.expand(count, 2)[k],
            motions[k],
            camera.image_size,
        )
        for k in range(count)
    ]
    if compiled:
        from lifemask.data.wearables import _numba

        lit = [
            _numba.vertex_colours(one, motions[k], soft[k], direction[k], lamp[k])
            for k, one in enumerate(dressed)
        ]
    else:
        lit = [
            vertex_colours(one, cameras[k], soft=soft[k], direction=direction[k], lamp=lamp[k])
            for k, one in enumerate(dressed)
        ]
    return gather(dressed, cameras, lit), compiled
