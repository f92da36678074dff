"""Skin colour without light: a linear model of log albedo in texture space."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

_FINE = 2048


@dataclass(frozen=True)
class FinePatch:
    """A rectangle of the texture at a higher resolution than that of the linear model."""

    box: tuple[int, int, int, int]
    """Top, bottom, left, right in texels of a 2048 x 2048 texture; the mirror image is patched too."""
    log_colour: Float[Tensor, "3 h w"]
    """Natural logarithm of linear RGB."""
    iris: Float[Tensor, "1 h w"]
    """Strength of the iris modes, 0 to 1."""
    weight: Float[Tensor, "1 h w"]
    """1 where the patch replaces the linear model."""


class AlbedoModel(nn.Module):
    """Textures are exp(mean + sum of modes): always positive; a mode scales each channel."""

    mean_log: Float[Tensor, "3 R R"]
    """Natural logarithm of the mean linear RGB albedo."""
    basis_log: Float[Tensor, "A 3 R R"]
    """Change of the log albedo per standard deviation."""

    def __init__(
        self,
        mean_log: Float[Tensor, "3 R R"],
        basis_log: Float[Tensor, "A 3 R R"],
        *,
        mode_names: tuple[str, ...] = (),
        patches: tuple[FinePatch, ...] = (),
        lash_opacity: FinePatch | None = None,
    ) -> None:
        """Only `fine_texture` uses `patches`; only `fine_opacity` uses `lash_opacity` (its weight)."""
        super().__init__()
        self.register_buffer("mean_log", mean_log, persistent=False)
        self.register_buffer("basis_log", basis_log, persistent=False)
        self.mode_names = mode_names
        self._patches = patches
        self._lash_opacity = lash_opacity

    def texture(self, coefficients: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch 3 R R"]:
        """Return linear RGB textures in (0, 1] of coefficients in standard deviations."""
        log = self.mean_log + torch.tensordot(coefficients, self.basis_log, dims=1)
        return log.clamp(max=0).exp()

    def fine_texture(
        self, coefficients: Float[Tensor, "A"], resolution: int
    ) -> Float[Tensor, "3 F F"]:
        """Return one linear RGB texture of any size, with detailed irises, teeth and eye whites.

        Args:
            coefficients: standard deviations.
            resolution: texels along each side, F.
        """
        log = self.mean_log + torch.tensordot(coefficients, self.basis_log, dims=1)
        log = _resize(log, (resolution, resolution))
        for patch in self._patches:
            change = torch.zeros(3, 1, 1).to(log)
            for name in ("iris_lightness", "iris_hue"):
                if name in self.mode_names:
                    change = change + coefficients[self.mode_names.index(name)] * self._peak(name)
            fine = patch.log_colour.to(log) + patch.iris.to(log) * change
            _paste(log, fine, patch.weight.to(log), patch.box)
        return log.clamp(max=0).exp()

    def fine_opacity(self, resolution: int) -> Float[Tensor, "1 F F"]:
        """Return the opacity of the texture: 1 everywhere except between the hairs of the lashes."""
        opacity = self.mean_log.new_ones(1, resolution, resolution)
        patch = self._lash_opacity
        if patch is not None:
            weight = patch.weight.to(opacity)
            _paste(opacity, weight, torch.ones_like(weight), patch.box)
        return opacity

    def _peak(self, name: str) -> Float[Tensor, "3 1 1"]:
        """Return a mode's largest change of each channel, which is its value on the iris."""
        mode = self.basis_log[self.mode_names.index(name)]
        texel = mode.abs().sum(0).flatten().argmax()
        return mode.flatten(1)[:, texel].reshape(3, 1, 1)


def _resize(image: Float[Tensor, "C h w"], size: tuple[int, int]) -> Float[Tensor, "C H W"]:
    larger = size[0] >= image.shape[1]
    mode = "bicubic" if larger else "area"
    corners = False if larger else None
    return torch.nn.functional.interpolate(image[None], size, mode=mode, align_corners=corners)[0]


def _paste(
    target: Float[Tensor, "C F F"],
    patch: Float[Tensor, "C h w"],
    weight: Float[Tensor, "1 h w"],
    box: tuple[int, int, int, int],
) -> None:
    """Blend a patch and its mirror image into a texture, in place."""
    scale = target.shape[-1] / _FINE
    top, bottom, left, right = (round(edge * scale) for edge in box)
    if bottom <= top or right <= left:
        return
    patch = _resize(patch, (bottom - top, right - left))
    weight = _resize(weight, (bottom - top, right - left)).clamp(0, 1)
    for image, amount, columns in (
        (patch, weight, slice(left, right)),
        (patch.flip(-1), weight.flip(-1), slice(target.shape[-1] - right, target.shape[-1] - left)),
    ):
        part = target[:, top:bottom, columns]
        part += amount * (image - part)
