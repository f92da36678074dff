"""Eyes: the colour of the irises in the photo, and the light that reaches the eyeballs."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lifemask.morphable.eyes import IRIS_ANGLE_RADIANS
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.perception.photo_segments import segmentation_at
from lifemask.rendering import Fragments, interpolate, rasterize
from lifemask.rendering.filters import gaussian_blur

_IRIS_LANDMARKS = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))
"""Centre and four border points of the subject's right and left iris."""
_LID_LANDMARKS = ((159, 145), (386, 374))
"""Middle of the upper and lower lid of the right and left eye."""
_SMALLEST_RADIUS = 2.5
"""Smallest radius in pixels of irises for the measurement of their colour."""
_COVERS = [0, 1, 4, 5]
"""Segmentation classes that cover an eye: background, hair, clothes, other."""
_COVERED = 0.5
_SOCKET_LIGHT = 0.75
"""Share of the light that reaches an eyeball between its lids. It is painted into the texture."""
_LID_SHADE_FROM = 0.12
_LID_SHADE_WIDTH = 0.35
"""Start and width of the upper lid's shade: sine of the elevation on the eyeball."""
_DARKEST = 0.008
_BRIGHTEST = 0.30
"""Linear luminance of irises without light."""


def iris_colour(
    photo: Float[Tensor, "3 H W"],
    landmarks: Float[Tensor, "478 2"],
    shading: Float[Tensor, "3"],
    *,
    hidden: tuple[bool, bool] = (False, False),
) -> Float[Tensor, "3"] | None:
    """Return the light-free linear RGB of the irises, or None if they are too small or hidden.

    Args:
        photo: linear RGB.
        landmarks: dense landmarks in this photo's pixels.
        shading: light on a surface that faces the camera.
        hidden: whether dark glasses or hair cover the subject's right and left eye.
    """
    height, width = photo.shape[-2:]
    samples: list[Tensor] = []
    for iris, (upper, lower), covered in zip(_IRIS_LANDMARKS, _LID_LANDMARKS, hidden, strict=True):
        if covered:
            continue
        centre = landmarks[iris[0]]
        radius = float((landmarks[list(iris[1:])] - centre).norm(dim=-1).mean())
        if radius < _SMALLEST_RADIUS:
            continue
        left, top = (centre - radius).floor().long().clamp(min=0).tolist()
        right, bottom = (centre + radius).ceil().long().tolist()
        right, bottom = min(right, width), min(bottom, height)
        if right <= left or bottom <= top:
            continue
        rows = torch.arange(top, bottom) + 0.5
        columns = torch.arange(left, right) + 0.5
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        distance = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2).sqrt() / radius
        # The upper rim lies in the shadow of lid and lashes. The pupil is not part of the iris.
        open_part = (y > landmarks[upper, 1] + 0.35 * radius) & (y < landmarks[lower, 1])
        ring = (distance > 0.45) & (distance < 0.85) & open_part
        samples.append(photo[:, top:bottom, left:right][:, ring])
    pixels = torch.cat(samples, dim=-1) if samples else photo.new_zeros(3, 0)
    if pixels.shape[-1] < 6:
        return None
    # Less light reaches the eye in its socket than the skin around.
    colour = pixels.median(dim=-1).values / (0.8 * shading.clamp(min=1e-3))
    luminance = colour.mean().clamp(min=1e-4)
    return colour / luminance * luminance.clamp(_DARKEST, _BRIGHTEST)


def eyes_hidden(observation: FaceObservation) -> tuple[bool, bool]:
    """Return whether something dark or opaque covers the subject's right and left eye."""
    right, left = (
        bool(
            segmentation_at(observation, observation.landmarks478[list(iris), :2])[:, _COVERS]
            .sum(-1)
            .median()
            > _COVERED
        )
        for iris in _IRIS_LANDMARKS
    )
    return right, left


def socket_light(model: MorphableModel, fragments: Fragments) -> Float[Tensor, "R R"]:
    """Return the share of the light that reaches each texel of the eyeballs; 1 elsewhere.

    Less light arrives under the upper lid and its lashes, and in the corners.
    """
    light = torch.ones(fragments.mask.shape)
    if model.eyeballs is None:
        return light
    for centre, name in zip(model.eyeballs.centres, ("eyeball_left", "eyeball_right"), strict=True):
        direction = torch.nn.functional.normalize(model.mean - centre, dim=-1)
        part = model.regions[name][:, None]
        baked = interpolate(torch.cat([direction, part], -1), model.triangles, fragments)
        lid = ((baked[1] - _LID_SHADE_FROM) / _LID_SHADE_WIDTH).clamp(0, 1)
        corner = ((baked[0].abs() - 0.3) / 0.5).clamp(0, 1)
        shade = _SOCKET_LIGHT * (1 - 0.6 * lid) * (1 - 0.35 * corner)
        light = torch.lerp(light, shade, baked[3].clamp(0, 1))
    return light


def paint_irises(
    albedo: Float[Tensor, "3 R R"], colour: Float[Tensor, "3"] | None, model: MorphableModel
) -> Float[Tensor, "3 R R"]:
    """Return the texture (linear RGB) with its irises in another colour and the same pattern."""
    if colour is None or model.eyeballs is None:
        return albedo
    rows, iris = iris_texels(model, albedo.shape[-1])
    if not iris.any():
        return albedo
    painted = albedo.clone()
    band = painted[:, rows]
    pattern = band[:, iris].mean(0)
    # The pupil is dark already; only texels that are brighter than it get the new colour.
    typical = pattern[pattern > 0.3 * pattern.median()].median()
    tinted = colour[:, None] * (pattern / typical).clamp(max=2.5)
    soft = gaussian_blur(iris[None].float(), 1.0)[0][iris]
    band[:, iris] += soft * (tinted - band[:, iris])
    return painted


def iris_texels(model: MorphableModel, resolution: int) -> tuple[slice, Bool[Tensor, "rows R"]]:
    """Return the rows of a texture that show eyeballs, and which texels in them lie on an iris.

    Pupils count as iris. The model must have eyeballs.
    """
    assert model.eyeballs is not None, "The model has no eyeballs."
    regions = model.regions
    balls = (regions["eyeball_left"] + regions["eyeball_right"])[model.triangles] > 0.5
    own = balls.all(-1)
    points = model.uv * resolution
    extent = points[model.uv_triangles[own], 1]
    first, last = int(extent.min()), min(int(extent.max()) + 1, resolution)
    points = torch.cat([points - points.new_tensor([0, first]), torch.ones_like(points[:, :1])], -1)
    size = (last - first, resolution)
    fragments = rasterize(points, model.uv_triangles[own], size, cull="none")
    inside = torch.zeros_like(fragments.mask)
    for centre, name in zip(model.eyeballs.centres, ("eyeball_left", "eyeball_right"), strict=True):
        direction = torch.nn.functional.normalize(model.mean - centre, dim=-1)[:, 2:]
        part = regions[name][:, None]
        baked = interpolate(torch.cat([direction, part], -1), model.triangles[own], fragments)
        inside |= (baked[0] > torch.cos(torch.tensor(IRIS_ANGLE_RADIANS))) & (baked[1] > 0.5)
    return slice(first, last), inside
