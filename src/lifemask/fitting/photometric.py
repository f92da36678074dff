"""Shape, light and albedo from the photo's colours, by Gauss-Newton on the vertices of the face.

Every visible skin vertex predicts the logarithm of the colour the photo shows there: its albedo,
linear in the albedo coefficients, plus the shading of its normal. The derivative of the shading
by the shape makes the fit a shape from shading held by the morphable model (Blanz and Vetter,
1999; Garrido et al., "Reconstruction of personalized 3D face rigs", 2016). Hair, glasses, cast
shadows and highlights are outliers of a robust loss.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifemask.fitting.landmark_fit import (
    LinearPoints,
    PoseAndShape,
    posed_points,
    projected_points,
)
from lifemask.fitting.normal_equations import NormalEquations, ParameterLayout, geman_mcclure
from lifemask.geometry.lighting import (
    SphericalHarmonicsLight,
    light_axes_from_camera,
    spherical_harmonics,
)
from lifemask.rendering.filters import gaussian_blur

_USUAL_LIGHT = SphericalHarmonicsLight.from_direction(
    0.0, 0.45, strength=0.55, ambient=0.5
).coefficients
"""A face in a room or outdoors: from above the camera, half of it from everywhere."""
_DARKEST_SHADING = 0.02
"""Shading is not allowed below this: the logarithm needs it positive."""
_FARTHEST = 5.0
"""Shading of skin that faces the camera is at first neither this nor its inverse: cameras expose."""
_LARGEST_LEAP = 4.0
"""Nor does one step change it by a larger factor: it is the logarithm that is linearised."""
_DARKEST = 0.004
"""Linear intensity added before logarithms: below this a sensor shows noise."""


@dataclass(frozen=True)
class SurfacePatch:
    """The vertices whose colours are compared with the photo, and their neighbourhood.

    Single precision; S sample vertices come first among the W vertices kept.
    """

    points: LinearPoints
    """All W vertices: samples first, then those that only their normals need."""
    triangles: Int[Tensor, "T 3"]
    """Triangles around the samples, indexing the W vertices."""
    log_albedo_mean: Float[Tensor, "S 3"]
    """Logarithm of the mean linear albedo at each sample."""
    log_albedo_basis: Float[Tensor, "S 3 A"]
    """Its change per standard deviation of each albedo mode."""
    vertex_index: Int[Tensor, "W"]
    """Index of each vertex in the whole model."""
    weight: Float[Tensor, "S"]
    """Trust in each sample: skin is 1, lips and brows less."""

    @property
    def samples(self) -> int:
        """Number of vertices that are compared with the photo."""
        return len(self.weight)


@dataclass(frozen=True)
class Appearance:
    """Light and albedo of one face."""

    light: Float[Tensor, "9 3"]
    """Spherical harmonics coefficients as in `lifemask.geometry.lighting`."""
    albedo: Float[Tensor, "A"]
    """Standard deviations of the albedo modes."""


@dataclass(frozen=True)
class AppearancePriors:
    """What is believed about light and albedo before the photo is looked at.

    Cameras expose and balance their photos: a face is lit by about one unit of nearly white light.
    Without that, dark skin in strong light could not be told from light skin in weak light.
    """

    exposure: float = 0.95
    """Expected shading of skin that faces the camera."""
    exposure_sigma: float = 0.1
    """Spread of it, tight because thousands of vertices speak for hue and contrast of the skin."""
    first_order: float = 0.35
    """Standard deviation of degree-1 light relative to degree 0, around light from the front."""
    second_order: float = 0.12
    """The same for degree 2."""
    chroma: float = 0.1
    """Standard deviation of a channel's light from the mean over channels, relative to degree 0."""
    tone_precision: float = 10.0
    """Strength of the unit Gaussian prior on the first albedo mode, which is the tone."""
    albedo_precision: float = 2.0
    """The same for the other modes."""


@dataclass(frozen=True)
class PhotoPyramidLevel:
    """One blurred copy of the photo with its derivatives."""

    log_colour: Float[Tensor, "3 H W"]
    """Logarithm of linear RGB."""
    gradient: Float[Tensor, "6 H W"]
    """Derivative by x of the three channels, then by y, per pixel of the level."""
    corner: tuple[float, float]
    """(x, y) in the photo's pixels of the top left corner of the level."""
    scale: float
    """Pixels of this level per pixel of the photo."""


def make_level(
    linear: Float[Tensor, "3 H W"], blur_pixels: float, corner: tuple[float, float], scale: float
) -> PhotoPyramidLevel:
    """Blur a linear crop of the photo with a Gaussian and take logarithm and derivatives."""
    log_colour = (gaussian_blur(linear, blur_pixels) + _DARKEST).log()
    padded = torch.nn.functional.pad(log_colour[None], (1, 1, 1, 1), mode="replicate")[0]
    by_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    by_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    return PhotoPyramidLevel(log_colour, torch.cat([by_x, by_y]), corner, scale)


def add_photometric_term(
    equations: NormalEquations,
    layout: ParameterLayout,
    state: PoseAndShape,
    appearance: Appearance,
    patch: SurfacePatch,
    level: PhotoPyramidLevel,
    principal_point: Float[Tensor, "2"],
    visible: Float[Tensor, "S"],
    *,
    sigma: float,
    robust_sigmas: float,
    moves_shape: bool = True,
) -> float:
    """Add the colour residuals of the visible samples; return their robust root mean square.

    Args:
        principal_point: pixels of the photo.
        visible: 0 to 1 for each sample, including what segmentation leaves of it.
        sigma: standard deviation of a residual in log colour.
        moves_shape: if false only light and albedo answer to colours, which is several times
            quicker.
    """
    samples = patch.samples
    posed, by_geometry = posed_points(state, patch.points)
    projected, by_point = projected_points(posed[:samples], state.focal_pixels)
    colour, gradient, inside = _sample(level, projected + principal_point.to(projected))
    normals = sample_normals(state, patch)
    harmonics = spherical_harmonics(light_axes_from_camera(normals))
    light = appearance.light.to(harmonics)
    shading = (harmonics @ light).clamp(min=_DARKEST_SHADING)
    predicted = _log_colour(appearance, patch, shading)
    residual = colour - predicted
    # Share of the prediction that is signal, not the floor below which logarithms mean nothing.
    signal = 1 - _DARKEST / predicted.exp()

    lit = (shading > _DARKEST_SHADING).to(shading)
    light_jacobian = torch.einsum(
        "nk,nc,cd->nckd", harmonics, signal * lit / shading, torch.eye(3, dtype=harmonics.dtype)
    )
    columns = [
        light_jacobian.reshape(samples, 3, 27),
        signal[..., None] * patch.log_albedo_basis,
    ]
    block = slice(layout.light_block.start, layout.size)
    if moves_shape:
        by_normal = _normal_jacobian(posed, by_geometry, patch)
        by_light_normal = _harmonics_derivative(light_axes_from_camera(normals))
        flip = torch.tensor([1.0, -1.0, -1.0]).to(normals)
        by_camera_normal = torch.einsum("nkj,kc->ncj", by_light_normal, light) * flip
        shading_jacobian = (by_camera_normal * (lit / shading)[..., None]) @ by_normal
        # Moving a point moves where the photo is read; the prediction must follow that change.
        moved_pixels = by_point @ by_geometry[:samples]
        photo_jacobian = gradient[:, :, 0, None] * moved_pixels[:, None, 0] + (
            gradient[:, :, 1, None] * moved_pixels[:, None, 1]
        )
        by_log_focal = (gradient * projected[:, None, :]).sum(-1, keepdim=True)
        geometry = signal[..., None] * shading_jacobian - photo_jacobian
        columns = [geometry[..., :6], -by_log_focal, geometry[..., 6:], *columns]
        block = slice(0, layout.size)
    squared = (residual**2).mean(-1) / sigma**2
    robust = geman_mcclure(squared, robust_sigmas)
    trust = robust * patch.weight * visible * inside / sigma**2
    jacobian = torch.cat(columns, dim=-1)
    equations.add_residuals(block, residual, jacobian, trust[:, None].expand(-1, 3))
    return float((trust * squared).sum() / trust.sum().clamp(min=1e-9)) ** 0.5 * sigma


def predict_log_colour(
    state: PoseAndShape,
    appearance: Appearance,
    patch: SurfacePatch,
    level: PhotoPyramidLevel,
    principal_point: Float[Tensor, "2"],
) -> tuple[Float[Tensor, "S 3"], Float[Tensor, "S 3"]]:
    """Return the log colours the photo shows at the samples, and those the model predicts."""
    posed, _ = posed_points(state, patch.points)
    projected, _ = projected_points(posed[: patch.samples], state.focal_pixels)
    colour, _, _ = _sample(level, projected + principal_point.to(projected))
    harmonics = spherical_harmonics(light_axes_from_camera(sample_normals(state, patch)))
    shading = (harmonics @ appearance.light.to(harmonics)).clamp(min=_DARKEST_SHADING)
    return colour, _log_colour(appearance, patch, shading)


def _log_colour(
    appearance: Appearance, patch: SurfacePatch, shading: Float[Tensor, "S 3"]
) -> Float[Tensor, "S 3"]:
    log_albedo = patch.log_albedo_mean + patch.log_albedo_basis @ appearance.albedo.to(shading)
    return (log_albedo.exp() * shading + _DARKEST).log()


def sample_normals(state: PoseAndShape, patch: SurfacePatch) -> Float[Tensor, "S 3"]:
    """Return the unit normals of the samples in camera axes."""
    posed, _ = posed_points(state, patch.points)
    a, b, c = (posed[patch.triangles[:, k]] for k in range(3))
    total = _sum_around_samples(torch.linalg.cross(b - a, c - a), patch)
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-20)


def _normal_jacobian(
    posed: Float[Tensor, "W 3"], by_geometry: Float[Tensor, "W 3 Q"], patch: SurfacePatch
) -> Float[Tensor, "S 3 Q"]:
    """Return the derivative of the samples' unit normals by pose and coefficients."""
    a, b, c = (posed[patch.triangles[:, k]] for k in range(3))
    total = _sum_around_samples(torch.linalg.cross(b - a, c - a), patch)
    # (b - a) x (c - a) = a x b + b x c + c x a, so a corner's motion counts by the opposite edge.
    # Components first: the products below then run over contiguous memory.
    by_shape = by_geometry[..., 6:].permute(1, 0, 2).contiguous()
    by_cross = by_shape.new_zeros(3, len(patch.triangles), by_shape.shape[-1])
    for k, edge in enumerate((b - c, c - a, a - b)):
        moved = by_shape.index_select(1, patch.triangles[:, k])
        x, y, z = edge.T[..., None].unbind(0)
        by_cross[0].addcmul_(moved[1], z).addcmul_(moved[2], y, value=-1)
        by_cross[1].addcmul_(moved[2], x).addcmul_(moved[0], z, value=-1)
        by_cross[2].addcmul_(moved[0], y).addcmul_(moved[1], x, value=-1)
    by_total = torch.stack([_sum_around_samples(part, patch) for part in by_cross], dim=1)
    length = total.norm(dim=-1, keepdim=True).clamp(min=1e-20)
    normals = total / length
    along = normals[:, None] @ by_total
    by_coefficients = (by_total - normals[..., None] * along) / length[..., None]
    by_rotation = -_skew(normals)
    by_translation = torch.zeros_like(by_rotation)
    return torch.cat([by_rotation, by_translation, by_coefficients], dim=-1)


def _sum_around_samples(
    per_triangle: Float[Tensor, "T C"], patch: SurfacePatch
) -> Float[Tensor, "S C"]:
    """Add up what the triangles around each sample say."""
    total = per_triangle.new_zeros(len(patch.vertex_index), per_triangle.shape[1])
    for k in range(3):
        total.index_add_(0, patch.triangles[:, k], per_triangle)
    return total[: patch.samples]


def _skew(vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3 3"]:
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)


def _harmonics_derivative(normals: Float[Tensor, "N 3"]) -> Float[Tensor, "N 9 3"]:
    """Return the derivative of the nine harmonics by the unit normal (in its ambient space)."""
    with torch.enable_grad():
        # Nine quadratic polynomials: their derivative is exact by automatic differentiation.
        repeated = normals.detach().unsqueeze(0).expand(9, -1, -1).clone().requires_grad_()
        values = spherical_harmonics(repeated)
        (gradient,) = torch.autograd.grad(values.diagonal(dim1=0, dim2=2).sum(), repeated)
    return gradient.transpose(0, 1)


def _sample(
    level: PhotoPyramidLevel, pixels: Float[Tensor, "S 2"]
) -> tuple[Float[Tensor, "S 3"], Float[Tensor, "S 3 2"], Float[Tensor, "S"]]:
    """Read log colour and its derivative (per photo pixel) bilinearly; and whether inside."""
    height, width = level.log_colour.shape[-2:]
    size = torch.tensor([width, height]).to(pixels)
    corner = torch.tensor(level.corner).to(pixels)
    normalised = (pixels - corner) * level.scale / size * 2 - 1
    stacked = torch.cat([level.log_colour, level.gradient])[None]
    values = torch.nn.functional.grid_sample(
        stacked, normalised[None, None], mode="bilinear", padding_mode="border", align_corners=False
    )[0, :, 0].T
    inside = (normalised.abs() < 1).all(-1).to(pixels)
    gradient = values[:, 3:].view(-1, 2, 3).transpose(1, 2) * level.scale
    return values[:, :3], gradient, inside


def initial_appearance(
    state: PoseAndShape,
    patch: SurfacePatch,
    level: PhotoPyramidLevel,
    principal_point: Float[Tensor, "2"],
    visible: Float[Tensor, "S"],
) -> Appearance:
    """Return white-ish light that explains the photo with the mean albedo, by robust least squares.

    Where no sample is visible it is the usual light.
    """
    albedo = torch.zeros(patch.log_albedo_basis.shape[-1])
    posed, _ = posed_points(state, patch.points)
    projected, _ = projected_points(posed[: patch.samples], state.focal_pixels)
    colour, _, inside = _sample(level, projected + principal_point.to(projected))
    normals = sample_normals(state, patch)
    harmonics = spherical_harmonics(light_axes_from_camera(normals))
    target = (colour.exp() - _DARKEST).clamp(min=0) / patch.log_albedo_mean.exp()
    weight = patch.weight * visible * inside
    if not bool(weight.any()):
        return Appearance(_USUAL_LIGHT.float(), albedo)
    light = torch.zeros(9, 3)
    for _ in range(5):
        # Second-order terms and colour are held back: one photo says little about them.
        precision = torch.tensor([1e-4] + [0.02] * 3 + [0.2] * 5) * weight.sum()
        left = harmonics.T @ (weight[:, None] * harmonics) + torch.diag(precision)
        light = torch.linalg.solve(left, harmonics.T @ (weight[:, None] * target))
        error = ((harmonics @ light - target) ** 2).mean(-1)
        spread = error.median() * 4 + 1e-9
        weight = patch.weight * visible * inside * geman_mcclure(error, float(spread) ** 0.5)
    strength = float(_exposure(light))
    if strength < 1 / _FARTHEST:
        light = _USUAL_LIGHT.float()
    elif strength > _FARTHEST:
        light = light / strength
    return Appearance(light, albedo)


def add_appearance_priors(
    equations: NormalEquations,
    layout: ParameterLayout,
    appearance: Appearance,
    priors: AppearancePriors,
) -> None:
    """Add the Gaussian priors on albedo and light."""
    precision = torch.full_like(appearance.albedo, priors.albedo_precision).double()
    precision[:1] = priors.tone_precision
    equations.add_prior(layout.albedo_block, appearance.albedo.double(), 0.0, precision)
    light = appearance.light.double()
    scale = float(light[0].mean().clamp(min=1e-3))
    # Seen from the camera, light from the front, constant light and curvature along the view look
    # alike; only a belief about how faces are lit keeps the brightness of the skin apart from it.
    usual = _USUAL_LIGHT.double()
    error = light - usual * (scale / float(usual[0].mean()))
    sigmas = torch.tensor([1.0, priors.first_order, priors.second_order], dtype=torch.float64)
    relative = sigmas.repeat_interleave(torch.tensor([1, 3, 5]))
    mean = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    rest = torch.eye(3, dtype=torch.float64) - mean
    # Per harmonic: a prior on the mean over channels, another on the differences between them.
    precision = mean / (relative[:, None, None] * scale) ** 2 / 3
    precision = precision + rest / (priors.chroma * scale) ** 2
    block = torch.block_diag(*precision)
    equations.hessian[layout.light_block, layout.light_block] += block
    equations.gradient[layout.light_block] -= block @ error.reshape(-1)
    facing = spherical_harmonics(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    row = facing.repeat_interleave(3) / 3
    exposure = torch.log((row @ light.reshape(-1)).clamp(min=0.05) / priors.exposure)
    row = row / (row @ light.reshape(-1)).clamp(min=0.05)
    equations.add_residuals(
        layout.light_block,
        -exposure[None],
        row[None],
        torch.full((1,), priors.exposure_sigma**-2, dtype=torch.float64),
    )


def moved_appearance(
    appearance: Appearance, layout: ParameterLayout, step: Float[Tensor, "P"]
) -> Appearance:
    """Apply a Gauss-Newton step to light and albedo, shortened where light would leap or vanish."""
    to_light = step[layout.light_block].view(9, 3).to(appearance.light)
    before, change = float(_exposure(appearance.light)), float(_exposure(to_light))
    reach = 1.0
    if before > 0 and change > (_LARGEST_LEAP - 1) * before:
        reach = (_LARGEST_LEAP - 1) * before / change
    elif before > 0 and -change > (1 - 1 / _LARGEST_LEAP) * before:
        reach = (1 - 1 / _LARGEST_LEAP) * before / -change
    albedo = appearance.albedo + reach * step[layout.albedo_block].to(appearance.albedo)
    return Appearance(appearance.light + reach * to_light, albedo)


def _exposure(light: Float[Tensor, "9 3"]) -> Float[Tensor, ""]:
    """Return the shading of skin that faces the camera, the mean of the channels."""
    facing = spherical_harmonics(light.new_tensor([0.0, 0.0, 1.0]))
    return (facing @ light).mean()


def facing(
    state: PoseAndShape, patch: SurfacePatch, *, minimum_cosine: float = 0.15
) -> Bool[Tensor, "S"]:
    """Return which samples look towards the camera (not whether something hides them)."""
    posed, _ = posed_points(state, patch.points)
    view = torch.nn.functional.normalize(-posed[: patch.samples], dim=-1)
    return (sample_normals(state, patch) * view).sum(-1) > minimum_cosine
