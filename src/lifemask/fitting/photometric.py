"""Shape, light and albedo from the photo's colours, by Gauss-Newton on the vertices of the face.

The log colour of the photo at each visible skin vertex is predicted as log albedo, linear in the
albedo coefficients, plus the log shading of its normal. The derivative of the shading by the shape
makes the fit a shape from shading, constrained by the morphable model (Blanz and Vetter, 1999;
Garrido et al., "Reconstruction of personalized 3D face rigs", 2016). Hair, glasses, cast shadows
and highlights are outliers of a robust loss.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifemask.fitting.appearance import USUAL_LIGHT, Appearance, exposure
from lifemask.fitting.landmark_fit import (
    LinearPoints,
    PoseAndShape,
    posed_points,
    projected_points,
)
from lifemask.fitting.normal_equations import NormalEquations, ParameterLayout, geman_mcclure
from lifemask.geometry.lighting import light_axes_from_camera, spherical_harmonics
from lifemask.rendering.filters import gaussian_blur

_DARKEST_SHADING = 0.02
"""Smallest shading allowed, because the logarithm needs positive values."""
_LARGEST_EXPOSURE = 5.0
"""The first exposure lies between this and its inverse, because cameras expose for faces."""
_DARKEST = 0.004
"""Linear intensity that is added before logarithms; below it, a photo shows mostly noise."""


@dataclass(frozen=True)
class SurfacePatch:
    """The vertices with colours that are compared with the photo, and their neighbours.

    Tensors are in single precision; the S samples are the first of the W vertices.
    """

    points: LinearPoints
    """All W vertices: samples first, then those needed only for their normals."""
    triangles: Int[Tensor, "T 3"]
    """Triangles around the samples, indexing the W vertices."""
    log_albedo_mean: Float[Tensor, "S 3"]
    """Logarithm of the mean linear albedo at each sample."""
    log_albedo_basis: Float[Tensor, "S 3 A"]
    """Its change per standard deviation of each albedo mode."""
    vertex_index: Int[Tensor, "W"]
    """Index of each vertex in the whole model."""
    weight: Float[Tensor, "S"]
    """Weight of each sample: 1 on skin, less on lips and brows."""

    @property
    def samples(self) -> int:
        """Number of vertices that are compared with the photo."""
        return len(self.weight)


@dataclass(frozen=True)
class PhotoPyramidLevel:
    """One blurred copy of the photo with its derivatives."""

    log_colour: Float[Tensor, "3 H W"]
    """Logarithm of linear RGB."""
    gradient: Float[Tensor, "6 H W"]
    """Derivative by x of the three channels, then by y, per pixel of the level."""
    corner: tuple[float, float]
    """Top left corner of the level: (x, y) in the photo's pixels."""
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


@dataclass(frozen=True)
class PatchInPhoto:
    """The samples of a patch and the photo that their colours are compared with."""

    patch: SurfacePatch
    """The samples."""
    level: PhotoPyramidLevel
    """The photo, blurred."""
    principal_point: Float[Tensor, "2"]
    """Principal point of the photo's camera, pixels."""
    visible: Float[Tensor, "S"]
    """0 to 1 for each sample: 1 if it is not hidden and segmented as skin."""


@dataclass(frozen=True)
class ColourComparison:
    """Log colours of a photo and of a model at the samples, with the geometry behind them."""

    observed: Float[Tensor, "S 3"]
    """Log colour of the photo."""
    photo_gradient: Float[Tensor, "S 3 2"]
    """Its derivative by x and y, per pixel of the photo."""
    inside: Float[Tensor, "S"]
    """1 where the sample lies inside the crop of the photo, else 0."""
    predicted: Float[Tensor, "S 3"]
    """Log colour that the model predicts."""
    shading: Float[Tensor, "S 3"]
    """Shading of the samples, at least the smallest allowed."""
    harmonics: Float[Tensor, "S 9"]
    """Spherical harmonics at their normals."""
    normals: Float[Tensor, "S 3"]
    """Unit normals in camera axes."""
    posed: Float[Tensor, "W 3"]
    """All vertices of the patch in camera axes, metres."""
    by_geometry: Float[Tensor, "W 3 Q"]
    """Their derivative by rotation, translation and coefficients."""
    projected: Float[Tensor, "S 2"]
    """Image points relative to the principal point, pixels."""
    by_point: Float[Tensor, "S 2 3"]
    """Their derivative by the samples' positions."""

    @property
    def residual(self) -> Float[Tensor, "S 3"]:
        """Observed minus predicted log colour."""
        return self.observed - self.predicted

    @property
    def signal(self) -> Float[Tensor, "S 3"]:
        """Share of the predicted colour without the intensity that is added before the logarithm."""
        return 1 - _DARKEST / self.predicted.exp()

    @property
    def lit(self) -> Float[Tensor, "S 3"]:
        """0 where the shading is clamped and thus has no derivative, else 1."""
        return (self.shading > _DARKEST_SHADING).to(self.shading)


def compare_colours(
    state: PoseAndShape, appearance: Appearance, seen: PatchInPhoto
) -> ColourComparison:
    """Read the photo at the samples of a state and predict their colours."""
    patch = seen.patch
    posed, by_geometry = posed_points(state, patch.points)
    projected, by_point = projected_points(posed[: patch.samples], state.focal_pixels)
    observed, gradient, inside = _sample(seen.level, projected + seen.principal_point.to(projected))
    normals = _normals(posed, patch)
    harmonics = spherical_harmonics(light_axes_from_camera(normals))
    shading = (harmonics @ appearance.light.to(harmonics)).clamp(min=_DARKEST_SHADING)
    return ColourComparison(
        observed=observed,
        photo_gradient=gradient,
        inside=inside,
        predicted=_log_colour(appearance, patch, shading),
        shading=shading,
        harmonics=harmonics,
        normals=normals,
        posed=posed,
        by_geometry=by_geometry,
        projected=projected,
        by_point=by_point,
    )


def add_photometric_term(
    equations: NormalEquations,
    layout: ParameterLayout,
    state: PoseAndShape,
    appearance: Appearance,
    seen: PatchInPhoto,
    *,
    sigma: float,
    robust_sigmas: float,
    moves_shape: bool = True,
) -> float:
    """Add the colour residuals of the visible samples; return their robust root mean square.

    Args:
        equations: the equations to add to.
        layout: positions of the unknowns.
        state: pose and shape.
        appearance: light and albedo.
        seen: the samples and the photo.
        sigma: standard deviation of a residual in log colour.
        robust_sigmas: residuals beyond this many standard deviations lose weight (Geman-McClure).
        moves_shape: if false, only light and albedo change, which is several times faster.
    """
    patch = seen.patch
    compared = compare_colours(state, appearance, seen)
    columns = _appearance_jacobian(compared, patch)
    block = slice(layout.light_block.start, layout.size)
    if moves_shape:
        columns = _geometry_jacobian(compared, appearance, patch) + columns
        block = slice(0, layout.size)
    residual = compared.residual
    squared = (residual**2).mean(-1) / sigma**2
    robust = geman_mcclure(squared, robust_sigmas)
    trust = robust * patch.weight * seen.visible * compared.inside / sigma**2
    jacobian = torch.cat(columns, dim=-1)
    equations.add_residuals(block, residual, jacobian, trust[:, None].expand(-1, 3))
    return float((trust * squared).sum() / trust.sum().clamp(min=1e-9)) ** 0.5 * sigma


def _appearance_jacobian(
    compared: ColourComparison, patch: SurfacePatch
) -> list[Float[Tensor, "S 3 _"]]:
    """Return the derivative of the predicted colours by light and albedo, as blocks of columns."""
    by_light = torch.einsum(
        "nk,nc,cd->nckd",
        compared.harmonics,
        compared.signal * compared.lit / compared.shading,
        torch.eye(3, dtype=compared.harmonics.dtype),
    )
    by_albedo = compared.signal[..., None] * patch.log_albedo_basis
    return [by_light.reshape(patch.samples, 3, 27), by_albedo]


def _geometry_jacobian(
    compared: ColourComparison, appearance: Appearance, patch: SurfacePatch
) -> list[Float[Tensor, "S 3 _"]]:
    """Return the derivative of predicted minus observed colours by pose, focal length and shape."""
    by_normal = _normal_jacobian(compared.posed, compared.by_geometry, patch)
    by_light_normal = _harmonics_derivative(light_axes_from_camera(compared.normals))
    light = appearance.light.to(compared.harmonics)
    flip = torch.tensor([1.0, -1.0, -1.0]).to(compared.normals)
    by_camera_normal = torch.einsum("nkj,kc->ncj", by_light_normal, light) * flip
    by_shading = compared.lit / compared.shading
    shading_jacobian = (by_camera_normal * by_shading[..., None]) @ by_normal
    # A moved point lies at another pixel of the photo, so the observed colour changes too.
    moved_pixels = compared.by_point @ compared.by_geometry[: patch.samples]
    gradient = compared.photo_gradient
    photo_jacobian = gradient[:, :, 0, None] * moved_pixels[:, None, 0] + (
        gradient[:, :, 1, None] * moved_pixels[:, None, 1]
    )
    by_log_focal = (gradient * compared.projected[:, None, :]).sum(-1, keepdim=True)
    geometry = compared.signal[..., None] * shading_jacobian - photo_jacobian
    return [geometry[..., :6], -by_log_focal, geometry[..., 6:]]


def _log_colour(
    appearance: Appearance, patch: SurfacePatch, shading: Float[Tensor, "S 3"]
) -> Float[Tensor, "S 3"]:
    log_albedo = patch.log_albedo_mean + patch.log_albedo_basis @ appearance.albedo.to(shading)
    return (log_albedo.exp() * shading + _DARKEST).log()


def sample_normals(state: PoseAndShape, patch: SurfacePatch) -> Float[Tensor, "S 3"]:
    """Return the unit normals of the samples in camera axes."""
    posed, _ = posed_points(state, patch.points)
    return _normals(posed, patch)


def _normals(posed: Float[Tensor, "W 3"], patch: SurfacePatch) -> Float[Tensor, "S 3"]:
    a, b, c = (posed[patch.triangles[:, k]] for k in range(3))
    total = _sum_around_samples(torch.linalg.cross(b - a, c - a), patch)
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-20)


def _normal_jacobian(
    posed: Float[Tensor, "W 3"], by_geometry: Float[Tensor, "W 3 Q"], patch: SurfacePatch
) -> Float[Tensor, "S 3 Q"]:
    """Return the derivative of the samples' unit normals by pose and coefficients."""
    a, b, c = (posed[patch.triangles[:, k]] for k in range(3))
    total = _sum_around_samples(torch.linalg.cross(b - a, c - a), patch)
    # (b - a) x (c - a) = a x b + b x c + c x a: the derivative by a corner is the opposite edge.
    # Components come first, because the products below then use contiguous memory.
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
    """Sum values over the triangles around each sample."""
    total = per_triangle.new_zeros(len(patch.vertex_index), per_triangle.shape[1])
    for k in range(3):
        total.index_add_(0, patch.triangles[:, k], per_triangle)
    return total[: patch.samples]


def _skew(vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3 3"]:
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)


def _harmonics_derivative(normals: Float[Tensor, "N 3"]) -> Float[Tensor, "N 9 3"]:
    """Return the derivative of the nine harmonics by the three components of the normal."""
    with torch.enable_grad():
        # The harmonics are polynomials, so automatic differentiation is exact.
        repeated = normals.detach().unsqueeze(0).expand(9, -1, -1).clone().requires_grad_()
        values = spherical_harmonics(repeated)
        (gradient,) = torch.autograd.grad(values.diagonal(dim1=0, dim2=2).sum(), repeated)
    return gradient.transpose(0, 1)


def _sample(
    level: PhotoPyramidLevel, pixels: Float[Tensor, "S 2"]
) -> tuple[Float[Tensor, "S 3"], Float[Tensor, "S 3 2"], Float[Tensor, "S"]]:
    """Return bilinear log colour, its derivative per photo pixel, and 1 inside the crop, else 0."""
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


def initial_appearance(state: PoseAndShape, seen: PatchInPhoto) -> Appearance:
    """Return nearly white light that explains the photo with the mean albedo.

    It solves robust least squares. If no sample is visible, it returns the usual light.
    """
    patch = seen.patch
    albedo = torch.zeros(patch.log_albedo_basis.shape[-1])
    posed, _ = posed_points(state, patch.points)
    projected, _ = projected_points(posed[: patch.samples], state.focal_pixels)
    colour, _, inside = _sample(seen.level, projected + seen.principal_point.to(projected))
    harmonics = spherical_harmonics(light_axes_from_camera(_normals(posed, patch)))
    target = (colour.exp() - _DARKEST).clamp(min=0) / patch.log_albedo_mean.exp()
    given = patch.weight * seen.visible * inside
    if not bool(given.any()):
        return Appearance(USUAL_LIGHT.float(), albedo)
    weight, light = given, torch.zeros(9, 3)
    for _ in range(5):
        # Second-order terms and colour are regularised: one photo determines them poorly.
        precision = torch.tensor([1e-4] + [0.02] * 3 + [0.2] * 5) * weight.sum()
        left = harmonics.T @ (weight[:, None] * harmonics) + torch.diag(precision)
        light = torch.linalg.solve(left, harmonics.T @ (weight[:, None] * target))
        error = ((harmonics @ light - target) ** 2).mean(-1)
        spread = error.median() * 4 + 1e-9
        weight = given * geman_mcclure(error, float(spread) ** 0.5)
    strength = float(exposure(light))
    if strength < 1 / _LARGEST_EXPOSURE:
        light = USUAL_LIGHT.float()
    elif strength > _LARGEST_EXPOSURE:
        light = light / strength
    return Appearance(light, albedo)


def facing(
    state: PoseAndShape, patch: SurfacePatch, *, minimum_cosine: float = 0.15
) -> Bool[Tensor, "S"]:
    """Return which samples face the camera, including those that something hides."""
    posed, _ = posed_points(state, patch.points)
    view = torch.nn.functional.normalize(-posed[: patch.samples], dim=-1)
    return (sample_normals(state, patch) * view).sum(-1) > minimum_cosine
