"""What a network for skin relief learns from: windows of drawn faces beside a wrong smooth head.

The smooth head of a photo comes from a fit, which errs in ways that coefficients alone do not imitate:
drawn heads are changed in their coefficients, turned a little, blurred and bent. Photos have tone
curves and lamps near the camera that drawn ones lack; both are imitated here.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.data.batch import FaceBatch, FaceTruth
from lifemask.geometry.alignment import align_points
from lifemask.geometry.rotations import matrix_from_rotation_vector
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.model import MorphableModel
from lifemask.networks.relief_network import head_mask, log_luminance
from lifemask.rendering.displacement import groove_visibility
from lifemask.systems.smooth_heads import blurred_normals, drawn_regions

SIDE = 128
"""Pixels on a side of a window."""
_SCALES = (0.75, 1.35)
"""Range of pixels of the face per pixel of a window."""
_POWERS = (0.6, 1.9)
"""Range of exponents of tone curves."""
_NEAR_LAMP = 0.5
"""Share of windows lit anew from near the camera."""
_PIXEL = 0.0005
"""Side of a pixel on the face, about, metres."""
_COARSER = 0.3
"""Share of windows that show fewer pixels than they have."""
_BENDS = (4, 8, 16, 32)
"""Cells along a side of the height fields that bend the smooth head."""
_BEND_SLOPE = 0.12
_BLURS = (0.0, 1.5, 2.5, 4.0)
"""Standard deviations of the blur of the smooth head, pixels of a window; one for each batch."""


@dataclass(frozen=True)
class ReliefPatches:
    """Windows of faces."""

    log_photo: Float[Tensor, "N 1 S S"]
    """Log luminance."""
    smooth: Float[Tensor, "N 3 S S"]
    """Unit normals of a smooth head near the true one, 0 beside it."""
    light_skin: Float[Tensor, "N 1 S S"]
    """1 where bare skin without lips and brows tells the light."""
    normals: Float[Tensor, "N 3 S S"]
    """True unit normals with relief."""
    log_albedo: Float[Tensor, "N 1 S S"]
    """True log albedo, with the tone curve of the photo."""
    skin: Float[Tensor, "N 1 S S"]
    """1 where the truth counts."""


def relief_patches(batch: FaceBatch, model: MorphableModel, count: int) -> ReliefPatches:
    """Return `count` random windows of each face, those of one face together.

    Args:
        batch: drawn faces with normals and albedo of their pixels.
        model: their head.
        count: windows of each face.

    Raises:
        ValueError: the truth of the pixels is missing.
    """
    truth = batch.truth
    if truth is None or truth.normals is None or truth.albedo is None:
        raise ValueError(
            "These faces have no normals and albedo of their pixels. Draw them with "
            "`lifemask draw FOLDER --pixel-maps`."
        )
    with torch.no_grad():
        drawn = _smooth_head(truth, model)
        images = torch.cat(
            [batch.photo, truth.normals, truth.albedo, batch.skin[:, None], drawn], 1
        )
        windows = _windows(images.repeat_interleave(count, 0))
        return _prepared(windows)


def bent(normals: Float[Tensor, "N 3 S S"]) -> Float[Tensor, "N 3 S S"]:
    """Return normals blurred and bent at random; beside the head they stay 0."""
    head = head_mask(normals)
    soft = blurred_normals(normals, _BLURS[int(torch.randint(len(_BLURS), ()))])
    count, side = len(normals), normals.shape[-1]
    height = normals.new_zeros(count, 1, side, side)
    for cells in _BENDS:
        field = torch.randn(count, 1, cells, cells, device=normals.device)
        strength = torch.rand(count, 1, 1, 1, device=normals.device) * _BEND_SLOPE * 0.6
        large = F.interpolate(field, (side, side), mode="bicubic", align_corners=False)
        height = height + large * strength * (side / cells)
    z = soft[:, 2:].clamp(min=0.3)
    right, up = _slopes(height)
    moved = torch.cat([soft[:, :1] / z - right, soft[:, 1:2] / z - up, torch.ones_like(z)], 1)
    moved = torch.where(soft[:, 2:] > 0.3, F.normalize(moved, dim=1), soft)
    return moved * head


def _smooth_head(truth: FaceTruth, model: MorphableModel) -> Float[Tensor, "B 5 H W"]:
    """Return normals of a head near the true one, then its face and its lips, brows and lids."""
    true = truth.face.coefficients
    vertices = model.vertices(true)
    weight = model.regions["face"].to(vertices)
    wrong = model.vertices(_changed(true))
    scale, rotation, shift = align_points(
        wrong, vertices, weight.expand(len(wrong), -1), with_scale=True
    )
    wrong = scale[:, None, None] * wrong @ rotation.mT + shift[:, None]
    centre = (vertices * weight[:, None]).sum(1, keepdim=True) / weight.sum()
    turn = matrix_from_rotation_vector(0.02 * torch.randn(len(wrong), 3, device=wrong.device))
    wrong = (wrong - centre) @ turn.mT + centre
    return drawn_regions(model, wrong, truth.face.camera)[:, :5]


def _changed(true: FaceCoefficients) -> FaceCoefficients:
    """Return coefficients that err as those of fits do."""
    spread = 0.15 + 0.45 * torch.rand_like(true.identity[:, :1])
    error = 0.06 * torch.randn_like(true.expression)
    error = error * (torch.rand_like(error) < 0.4)
    return replace(
        true,
        identity=true.identity + spread * torch.randn_like(true.identity),
        expression=(true.expression + error).clamp(0, 1),
    )


def _windows(images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C S S"]:
    """Return a random square of each image, at random scale, half of them mirrored."""
    count, size = len(images), images.shape[-1]
    device = images.device
    low, high = _SCALES
    side = SIDE * (low + (high - low) * torch.rand(count, device=device))
    side = side.clamp(max=size)
    corner = torch.rand(count, 2, device=device) * (size - side)[:, None]
    steps = (torch.arange(SIDE, device=device) + 0.5) / SIDE
    x, y = (corner[:, k, None] + side[:, None] * steps for k in range(2))
    flipped = torch.rand(count, device=device) < 0.5
    x = torch.where(flipped[:, None], x.flip(-1), x)
    grid = torch.stack([x[:, None].expand(-1, SIDE, -1), y[:, :, None].expand(-1, -1, SIDE)], -1)
    cut = F.grid_sample(images, grid / size * 2 - 1, padding_mode="border", align_corners=False)
    sign = torch.where(flipped, -1.0, 1.0)[:, None, None]
    cut[:, 3] *= sign
    cut[:, 10] *= sign
    return cut


def _prepared(windows: Float[Tensor, "N 15 S S"]) -> ReliefPatches:
    """Return windows with new light, tone and noise, and with a bent head."""
    photo, normals, albedo, skin, smooth, regions = windows.split([3, 3, 3, 1, 3, 2], 1)
    count = len(windows)

    def even(low: float, high: float) -> Float[Tensor, "N 1 1 1"]:
        return low + (high - low) * torch.rand(count, 1, 1, 1, device=windows.device)

    known = (normals.square().sum(1, keepdim=True) > 0.25).to(normals)
    normals = F.normalize(normals, dim=1, eps=1e-6) * known
    head = head_mask(smooth)
    smooth = F.normalize(smooth, dim=1, eps=1e-6) * head
    skin = (skin > 0.6).to(photo)
    light_skin = skin * (regions[:, :1] > 0.5) * (regions[:, 1:] < 0.1)
    photo = _lit_from_camera(photo, normals, albedo, skin)
    photo = _coarser(photo)
    photo = photo + even(0, 0.006) * torch.randn_like(photo[:, :1])
    power = even(*_POWERS)
    return ReliefPatches(
        log_luminance(photo) * power,
        bent(smooth),
        light_skin,
        normals,
        log_luminance(albedo) * power,
        skin * head * known,
    )


def _lit_from_camera(
    photo: Tensor, normals: Tensor, albedo: Tensor, skin: Tensor
) -> Float[Tensor, "N 3 S S"]:
    """Return photos whose skin, in some of them, is lit by one lamp near the camera."""
    count, device = len(photo), photo.device
    sideways = 0.35 * torch.randn(count, 2, device=device)
    lamp = F.normalize(torch.cat([sideways, torch.ones(count, 1, device=device)], 1), dim=1)
    ambient = 0.12 * torch.rand(count, 1, 1, 1, device=device)
    shading = (normals * lamp[:, :, None, None]).sum(1, keepdim=True).clamp(min=0) + ambient
    shading = shading * groove_visibility(height_of_normals(normals) * _PIXEL, _PIXEL)
    chosen = (torch.rand(count, 1, 1, 1, device=device) < _NEAR_LAMP) & (skin > 0)
    return torch.where(chosen, 1.5 * albedo * shading, photo)


def height_of_normals(normals: Float[Tensor, "N 3 S S"]) -> Float[Tensor, "N 1 S S"]:
    """Return the height towards the camera with the slopes of normals, in pixels.

    Least squares in the frequencies of the mirrored image (Frankot and Chellappa 1988).
    """
    z = normals[:, 2:].clamp(min=0.3)
    right, down = -normals[:, :1] / z, normals[:, 1:2] / z
    right = torch.cat([right, -right.flip(-1)], -1)
    right = torch.cat([right, right.flip(-2)], -2)
    down = torch.cat([down, down.flip(-1)], -1)
    down = torch.cat([down, -down.flip(-2)], -2)
    rows, columns = right.shape[-2:]
    across = 2 * torch.pi * torch.fft.rfftfreq(columns, device=z.device)
    along = 2 * torch.pi * torch.fft.fftfreq(rows, device=z.device)[:, None]
    squared = (across.square() + along.square()).clamp(min=1e-6)
    spectrum = across * torch.fft.rfft2(right) + along * torch.fft.rfft2(down)
    height = torch.fft.irfft2(-1j * spectrum / squared, s=(rows, columns))
    return height[..., : rows // 2, : columns // 2]


def _coarser(photo: Float[Tensor, "N 3 S S"]) -> Float[Tensor, "N 3 S S"]:
    """Return photos of which some have lost their finest detail, as small ones have."""
    factor = 1 + 2 * float(torch.rand(()))
    small = F.interpolate(photo, scale_factor=1 / factor, mode="bilinear", antialias=True)
    large = F.interpolate(small, photo.shape[-2:], mode="bicubic", align_corners=False).clamp(min=0)
    chosen = torch.rand(len(photo), 1, 1, 1, device=photo.device) < _COARSER
    return torch.where(chosen, large, photo)


def _slopes(height: Float[Tensor, "N 1 S S"]) -> tuple[Tensor, Tensor]:
    """Return the derivatives of a height in pixels, to the right and upwards."""
    padded = F.pad(height, (1, 1, 1, 1), mode="replicate")
    right = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    up = (padded[..., :-2, 1:-1] - padded[..., 2:, 1:-1]) / 2
    return right, up


def each_face(values: Float[Tensor, "N"], count: int) -> Float[Tensor, "B"]:
    """Return the means over the windows of each face."""
    return values.unflatten(0, (-1, count)).mean(1)
