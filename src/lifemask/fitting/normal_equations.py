"""Gauss-Newton steps over named blocks of parameters, with bounds for the expression weights."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ParameterLayout:
    """The position of each block of unknowns in the parameter vector."""

    identity: int
    """Number of identity modes."""
    expression: int
    """Number of expression weights."""
    albedo: int = 0
    """Number of albedo modes; 0 for fits to landmarks alone, which have no light either."""

    ROTATION = slice(0, 3)
    TRANSLATION = slice(3, 6)
    LOG_FOCAL = 6

    @property
    def identity_block(self) -> slice:
        """Identity coefficients."""
        return slice(7, 7 + self.identity)

    @property
    def expression_block(self) -> slice:
        """Expression weights."""
        return slice(7 + self.identity, 7 + self.identity + self.expression)

    @property
    def geometry_block(self) -> slice:
        """Pose, focal length, identity and expression."""
        return slice(0, 7 + self.identity + self.expression)

    @property
    def light_block(self) -> slice:
        """Nine spherical harmonics times three channels, harmonic-major."""
        start = 7 + self.identity + self.expression
        return slice(start, start + (27 if self.albedo else 0))

    @property
    def albedo_block(self) -> slice:
        """Albedo coefficients."""
        return slice(self.light_block.stop, self.light_block.stop + self.albedo)

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return self.albedo_block.stop


class NormalEquations:
    """Accumulates J'WJ and J'Wr of several terms and solves for the step."""

    def __init__(self, size: int) -> None:
        self.hessian = torch.zeros(size, size, dtype=torch.float64)
        self.gradient = torch.zeros(size, dtype=torch.float64)

    def add_residuals(
        self,
        block: slice,
        residual: Float[Tensor, "*rows"],
        jacobian: Float[Tensor, "*rows P"],
        weight: Float[Tensor, "*rows"],
    ) -> None:
        """Add the term sum w (r - J step)²; `residual` is observed minus predicted."""
        flat = jacobian.reshape(-1, jacobian.shape[-1])
        weighted = flat * weight.reshape(-1, 1)
        self.hessian[block, block] += (weighted.T @ flat).double()
        self.gradient[block] += (weighted.T @ residual.reshape(-1)).double()

    def add_prior(
        self,
        index: slice | int,
        current: Tensor | float,
        mean: Tensor | float,
        precision: Tensor | float,
    ) -> None:
        """Add independent Gaussian priors on parameters with the current values `current`."""
        self.hessian.diagonal()[index] += precision
        self.gradient[index] -= precision * (current - mean)

    def solve(
        self, *, bounded: slice, lower: Tensor, upper: Tensor, free: Tensor | None = None
    ) -> Tensor:
        """Return the step that minimises the sum, with `bounded` entries inside [lower, upper].

        The bounds apply to the step. An active set fixes parameters that would leave them. Parameters
        that are not `free` (bool) do not change.
        """
        step = torch.zeros_like(self.gradient)
        fixed = torch.zeros(len(step), dtype=torch.bool) if free is None else ~free
        hessian = self.hessian + 1e-9 * torch.eye(len(step), dtype=torch.float64)
        for _ in range(4):
            open_ = ~fixed
            right = self.gradient[open_] - hessian[open_][:, fixed] @ step[fixed]
            step[open_] = torch.linalg.solve(hessian[open_][:, open_], right)
            proposed = step[bounded].clone()
            outside = ((proposed < lower) | (proposed > upper)) & ~fixed[bounded]
            step[bounded] = proposed.clamp(lower, upper)
            if not outside.any():
                break
            fixed[bounded] |= outside
        return step


def geman_mcclure(squared: Float[Tensor, "*rows"], scale: float) -> Float[Tensor, "*rows"]:
    """Return the weight that iteratively reweighted least squares gives to a squared residual."""
    return (scale**2 / (scale**2 + squared)) ** 2
