"""The model's face as samples for the photometric fit: choice of vertices and their visibility."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lifemask.fitting.landmark_fit import LinearPoints, PoseAndShape, posed_points, projected_points
from lifemask.fitting.photometric import SurfacePatch, facing
from lifemask.io.colour import image_from_pixels
from lifemask.morphable.head_surface import vertex_uv
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.perception.photo_segments import skin_probability
from lifemask.rendering import rasterize, sample_texture

_WORKING_PIXELS_PER_METRE = 1300.0
"""Photos are reduced to this. A face then has about 260 pixels, which is finer than the mesh."""
_DEPTH_MARGIN = 0.004
"""Metres by which a visible vertex may lie behind the nearest surface."""


def surface_patch(model: MorphableModel, identity_modes: int) -> SurfacePatch:
    """Choose the skin vertices of the face and return their data for the photometric fit.

    Raises:
        ValueError: the model has no albedo.
    """
    if model.albedo is None:
        raise ValueError(
            "This model has no albedo, so colours cannot be fitted. Use quality='fast' or the "
            "default head."
        )
    regions = model.regions
    inner = regions["mouth_bag"] + regions["teeth"] + regions["tongue"] + regions["lashes"]
    inner = inner + regions["eyeball_left"] + regions["eyeball_right"]
    weight = regions["face"] * (1 - inner).clamp(0, 1)
    # Opening lips and moving brows can hide skin of the model.
    weight = weight * (1 - regions["lips"]) * (1 - 0.7 * regions["brows"])
    samples = (weight > 0.3).nonzero().squeeze(-1)
    touches = torch.zeros(len(model.mean), dtype=torch.bool)
    touches[samples] = True
    triangles = model.triangles[touches[model.triangles].any(-1)]
    others = torch.tensor(sorted(set(triangles.flatten().tolist()) - set(samples.tolist())))
    kept = torch.cat([samples, others.long()])
    local = torch.full((len(model.mean),), -1)
    local[kept] = torch.arange(len(kept))
    triangles = local[triangles]
    basis = torch.cat([model.identity_basis[:identity_modes], model.expression_basis])[:, kept]
    points = LinearPoints(model.mean[kept], basis.permute(1, 2, 0).contiguous(), identity_modes)
    uv = vertex_uv(model)[samples].T[None, :, :, None]
    albedo = model.albedo
    layers = torch.cat([albedo.mean_log[None], albedo.basis_log])
    values = sample_texture(layers, uv.expand(len(layers), -1, -1, -1)).squeeze(-1)
    return SurfacePatch(
        points,
        triangles,
        values[0].T.contiguous(),
        values[1:].permute(2, 1, 0).contiguous(),
        kept,
        weight[samples],
    )


@dataclass(frozen=True)
class PhotoCrop:
    """The face cut from the photo, in linear light, at working resolution."""

    linear: Float[Tensor, "3 h w"]
    """Linear RGB."""
    corner: tuple[float, float]
    """Top left corner: (x, y) in photo pixels."""
    scale: float
    """Pixels of the crop per pixel of the photo, at most 1."""
    pixels_per_millimetre: float
    """Scale of the face in the crop."""


def photo_crop(
    pixels: UInt8[np.ndarray, "H W 3"],
    state: PoseAndShape,
    patch: SurfacePatch,
    principal_point: Float[Tensor, "2"],
) -> PhotoCrop:
    """Crop the face from the photo with some margin and reduce it to working resolution."""
    posed, _ = posed_points(state, patch.points)
    image_points = projected_points(posed, state.focal_pixels)[0] + principal_point.to(posed)
    low, high = image_points.amin(0), image_points.amax(0)
    margin = 0.1 * float((high - low).max())
    height, width = pixels.shape[:2]
    left = int(max(0, min(width - 2, float(low[0]) - margin)))
    top = int(max(0, min(height - 2, float(low[1]) - margin)))
    right = int(min(width, max(left + 2, float(high[0]) + margin)))
    bottom = int(min(height, max(top + 2, float(high[1]) + margin)))
    linear = image_from_pixels(pixels[top:bottom, left:right])
    per_metre = state.focal_pixels / float(state.translation[2])
    scale = min(1.0, _WORKING_PIXELS_PER_METRE / per_metre)
    if scale < 1:
        size = (max(2, round(linear.shape[1] * scale)), max(2, round(linear.shape[2] * scale)))
        linear = torch.nn.functional.interpolate(
            linear[None], size, mode="bilinear", antialias=True, align_corners=False
        )[0]
    return PhotoCrop(linear, (float(left), float(top)), scale, per_metre * scale / 1000)


def visibility(
    state: PoseAndShape,
    patch: SurfacePatch,
    model: MorphableModel,
    observation: FaceObservation,
    principal_point: Float[Tensor, "2"],
    covered: Float[Tensor, "V"] | None = None,
) -> Float[Tensor, "S"]:
    """Return for each sample, 0 to 1, whether it is visible skin: facing the camera, not covered.

    Args:
        state: pose and shape of the face.
        patch: its samples.
        model: its head.
        observation: of the photo; its segmentation tells skin.
        principal_point: of the photo's camera, pixels.
        covered: probability that something hides each vertex; None if unknown.
    """
    posed, _ = posed_points(state, patch.points)
    image_points, _ = projected_points(posed, state.focal_pixels)
    depth = posed[:, 2:]
    resolution = 192
    low, high = image_points.amin(0), image_points.amax(0)
    fitted = (image_points - low) / (high - low).clamp(min=1e-6).max() * (resolution - 1)
    fragments = rasterize(
        torch.cat([fitted, depth], -1), patch.triangles, (resolution, resolution), cull="none"
    )
    nearest = torch.where(fragments.triangle_index >= 0, fragments.depth, torch.inf)
    columns, rows = (fitted[: patch.samples].long().clamp(0, resolution - 1)).unbind(-1)
    seen = depth[: patch.samples, 0] < nearest[rows, columns] + _DEPTH_MARGIN
    skin = skin_probability(observation, image_points[: patch.samples] + principal_point.to(depth))
    if covered is not None:
        skin = skin * (1 - covered[patch.vertex_index[: patch.samples]]).to(skin)
    return seen.float() * facing(state, patch).float() * skin
