"""Light and albedo of one face: their priors, and how a Gauss-Newton step changes them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.fitting.eye_whites import EyeWhites
from lifemask.fitting.normal_equations import NormalEquations, ParameterLayout
from lifemask.geometry.lighting import SphericalHarmonicsLight, spherical_harmonics

USUAL_LIGHT = SphericalHarmonicsLight.from_direction(
    0.0, 0.45, strength=0.55, ambient=0.5
).coefficients
"""Typical light indoors or outdoors: half of it from above the camera, half of it ambient."""
_LARGEST_CHANGE = 4.0
"""Largest factor by which one step may change the exposure, because the logarithm is linearised."""


@dataclass(frozen=True)
class Appearance:
    """Light and albedo of one face."""

    light: Float[Tensor, "9 3"]
    """Spherical harmonics coefficients as in `lifemask.geometry.lighting`."""
    albedo: Float[Tensor, "A"]
    """Standard deviations of the albedo modes."""


@dataclass(frozen=True)
class AppearancePriors:
    """Gaussian priors on light and albedo.

    Cameras adjust exposure and white balance, so the light on a face is nearly white and about one
    unit strong. Without this prior, dark skin in strong light looks like light skin in weak light.
    """

    exposure: float = 0.95
    """Expected shading of skin that faces the camera."""
    exposure_sigma: float = 0.1
    """Spread of its logarithm; small, because thousands of vertices determine the skin's colour."""
    first_order: float = 0.35
    """Standard deviation of degree-1 light relative to degree 0, around light from the front."""
    second_order: float = 0.12
    """The same for degree-2 light."""
    chroma: float = 0.1
    """Standard deviation of a channel's light from the mean over channels, relative to degree 0."""
    tone_precision: float = 10.0
    """Strength of the unit Gaussian prior on the first albedo mode, which is the tone."""
    albedo_precision: float = 2.0
    """The same for the other modes."""
    whites: EyeWhites | None = None
    """What the whites of the eyes say about the colour of the light; None: nothing."""
    whites_sigma: float = 0.02
    """Standard deviation of the log chroma that they tell, if they are trusted wholly; small, as that of
    the exposure."""


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
    # In the photo, light from the front, ambient light and second-order light along the view look
    # alike. Only a prior on usual light separates them from the brightness of the skin.
    usual = USUAL_LIGHT.double()
    error = light - usual * (scale / float(usual[0].mean()))
    sigmas = torch.tensor([1.0, priors.first_order, priors.second_order], dtype=torch.float64)
    relative = sigmas.repeat_interleave(torch.tensor([1, 3, 5]))
    mean = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    rest = torch.eye(3, dtype=torch.float64) - mean
    # Each harmonic has a prior on the mean over channels and one on their differences.
    precision = mean / (relative[:, None, None] * scale) ** 2 / 3
    precision = precision + rest / (priors.chroma * scale) ** 2
    block = torch.block_diag(*precision)
    equations.hessian[layout.light_block, layout.light_block] += block
    equations.gradient[layout.light_block] -= block @ error.reshape(-1)
    facing = spherical_harmonics(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    row = facing.repeat_interleave(3) / 3
    log_exposure = torch.log((row @ light.reshape(-1)).clamp(min=0.05) / priors.exposure)
    row = row / (row @ light.reshape(-1)).clamp(min=0.05)
    equations.add_residuals(
        layout.light_block,
        -log_exposure[None],
        row[None],
        torch.full((1,), priors.exposure_sigma**-2, dtype=torch.float64),
    )
    if priors.whites is not None:
        _add_whites(equations, layout, light, facing, priors.whites, priors.whites_sigma)


def _add_whites(
    equations: NormalEquations,
    layout: ParameterLayout,
    light: Float[Tensor, "9 3"],
    facing: Float[Tensor, "9"],
    whites: EyeWhites,
    sigma: float,
) -> None:
    """Add that the light towards the camera has the colour which the whites of the eyes tell."""
    shading = (facing @ light).clamp(min=0.05)
    centred = torch.eye(3, dtype=torch.float64) - 1 / 3
    by_light = torch.zeros(3, 9, 3, dtype=torch.float64)
    for channel in range(3):
        by_light[channel, :, channel] = facing / shading[channel]
    equations.add_residuals(
        layout.light_block,
        whites.chroma.double() - centred @ shading.log(),
        centred @ by_light.view(3, 27),
        torch.full((3,), whites.trust / sigma**2, dtype=torch.float64),
    )


def moved_appearance(
    appearance: Appearance, layout: ParameterLayout, step: Float[Tensor, "P"]
) -> Appearance:
    """Apply a Gauss-Newton step to light and albedo.

    The step is shortened if it changes the exposure by too large a factor.
    """
    to_light = step[layout.light_block].view(9, 3).to(appearance.light)
    before, change = float(exposure(appearance.light)), float(exposure(to_light))
    reach = 1.0
    if before > 0 and change > (_LARGEST_CHANGE - 1) * before:
        reach = (_LARGEST_CHANGE - 1) * before / change
    elif before > 0 and -change > (1 - 1 / _LARGEST_CHANGE) * before:
        reach = (1 - 1 / _LARGEST_CHANGE) * before / -change
    albedo = appearance.albedo + reach * step[layout.albedo_block].to(appearance.albedo)
    return Appearance(appearance.light + reach * to_light, albedo)


def exposure(light: Float[Tensor, "9 3"]) -> Float[Tensor, ""]:
    """Return the shading of skin that faces the camera, the mean of the channels."""
    facing = spherical_harmonics(light.new_tensor([0.0, 0.0, 1.0]))
    return (facing @ light).mean()
