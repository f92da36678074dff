"""Eyes: the colour of the irises in the photo, and the light that reaches the eyeballs."""

from dataclasses import dataclass
from typing import Literal

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
_SMALLEST_RADIUS = 4.0
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
_BRIGHTEST, _BRIGHTEST_BROWN = 0.22, 0.08
"""Range of the linear luminance of irises without light; brown ones are dark."""
_WARM, _GREENISH = (-1.5, 1.7), (-0.1, 0.3)
"""Range of the hues of irises: logarithms of red over blue, and of green over the mean of both."""
_UNLIKE = 0.25
"""A measured colour whose log chroma lies further from that range than this is not that of an iris."""
_LEAST_OPENING = 1.0
"""Least distance between the lids, in radii of the iris: below, lids and their shadow are measured."""
_FEWEST_PIXELS = 6
"""Fewest pixels of both irises for their colour."""

IrisReason = Literal["photo", "small", "closed", "hidden", "unlike"]
"""`photo`: measured. Otherwise the usual colour: the irises are too small, the lids too close, something
covers the eyes, or the colour is not that of an iris."""


@dataclass(frozen=True)
class IrisEstimate:
    """The irises in the photo."""

    colour: Float[Tensor, "3"] | None
    """Linear RGB without light; None for the usual colour."""
    reason: IrisReason
    """Where the colour comes from, or why the photo does not tell it."""


def estimate_irises(
    photo: Float[Tensor, "3 H W"],
    landmarks: Float[Tensor, "478 2"],
    shading: Float[Tensor, "3"],
    *,
    hidden: tuple[bool, bool] = (False, False),
) -> IrisEstimate:
    """Return the light-free colour of the irises, however the face is turned in the picture.

    Hue and brightness are limited to those of irises. Far beyond, it is lid, reflection or red eye.

    Args:
        photo: linear RGB.
        landmarks: dense landmarks in this photo's pixels.
        shading: light on a surface that faces the camera.
        hidden: whether dark glasses or hair cover the subject's right and left eye.
    """
    if all(hidden):
        return IrisEstimate(None, "hidden")
    down = _down(landmarks)
    samples: list[Tensor] = []
    reason: IrisReason = "small"
    for iris, lids, covered in zip(_IRIS_LANDMARKS, _LID_LANDMARKS, hidden, strict=True):
        radius = float((landmarks[list(iris[1:])] - landmarks[iris[0]]).norm(dim=-1).mean())
        if covered or radius < _SMALLEST_RADIUS:
            continue
        upper, lower = landmarks[list(lids)] @ down
        if lower - upper < _LEAST_OPENING * radius:
            reason = "closed"
            continue
        # The upper rim lies in the shadow of lid and lashes.
        between = (float(upper) + 0.35 * radius, float(lower) - 0.1 * radius)
        samples.append(_ring(photo, landmarks[iris[0]], radius, down, between))
    pixels = torch.cat(samples, dim=-1) if samples else photo.new_zeros(3, 0)
    if pixels.shape[-1] < _FEWEST_PIXELS:
        return IrisEstimate(None, reason)
    # Less light reaches the eye in its socket than the skin around.
    measured = pixels.median(dim=-1).values / (0.8 * shading.clamp(min=1e-3))
    colour = _of_irises(measured)
    if float(_chroma(colour, measured)) > _UNLIKE:
        return IrisEstimate(None, "unlike")
    return IrisEstimate(colour, "photo")


def _down(landmarks: Float[Tensor, "478 2"]) -> Float[Tensor, "2"]:
    """Return the unit vector in the picture from forehead to chin, across the line of the eyes."""
    across = landmarks[_IRIS_LANDMARKS[1][0]] - landmarks[_IRIS_LANDMARKS[0][0]]
    return torch.nn.functional.normalize(torch.stack([-across[1], across[0]]), dim=0)


def _ring(
    photo: Float[Tensor, "3 H W"],
    centre: Float[Tensor, "2"],
    radius: float,
    down: Float[Tensor, "2"],
    between: tuple[float, float],
) -> Float[Tensor, "3 N"]:
    """Return the pixels of an iris, without pupil and rim, between two heights along `down`."""
    height, width = photo.shape[-2:]
    left, top = (centre - radius).floor().long().clamp(min=0).tolist()
    right, bottom = (centre + radius).ceil().long().tolist()
    right, bottom = min(right, width), min(bottom, height)
    if right <= left or bottom <= top:
        return photo.new_zeros(3, 0)
    y, x = torch.meshgrid(
        torch.arange(top, bottom) + 0.5, torch.arange(left, right) + 0.5, indexing="ij"
    )
    points = torch.stack([x, y], dim=-1)
    distance = (points - centre).norm(dim=-1) / radius
    along = points @ down
    ring = (distance > 0.45) & (distance < 0.85) & (along > between[0]) & (along < between[1])
    return photo[:, top:bottom, left:right][:, ring]


def _of_irises(colour: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    """Return the nearest colour that irises have: from brown over green and grey to blue."""
    red, green, blue = colour.clamp(min=1e-4).log().tolist()
    warm = min(max(red - blue, _WARM[0]), _WARM[1])
    greenish = min(max(green - (red + blue) / 2, _GREENISH[0]), _GREENISH[1])
    hue = colour.new_tensor([warm / 2, greenish, -warm / 2]).exp()
    brown = min(max((warm - 0.4) / 0.8, 0.0), 1.0)
    brightest = _BRIGHTEST + (_BRIGHTEST_BROWN - _BRIGHTEST) * brown
    return hue / hue.mean() * colour.mean().clamp(_DARKEST, brightest)


def _chroma(one: Float[Tensor, "3"], other: Float[Tensor, "3"]) -> Float[Tensor, ""]:
    """Return the root mean square difference of the log chroma of two colours."""
    difference = one.clamp(min=1e-4).log() - other.clamp(min=1e-4).log()
    return (difference - difference.mean()).square().mean().sqrt()


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
