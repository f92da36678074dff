"""The rasteriser's result: the nearest triangle of each pixel, and the position on it."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Fragments:
    """The nearest triangle at each pixel centre, shared by all images drawn from one view."""

    triangle_index: Int[Tensor, "*batch H W"]
    """Row of `triangles`; -1 where there is none. Not differentiable."""
    barycentric: Float[Tensor, "*batch H W 3"]
    """Perspective-correct weights of the three corners, summing to one; zero where none.

    They belong to the exact corners while coverage belongs to corners snapped to 1/256 pixel, so a
    weight can lie outside [0, 1] by the snap, at most by 1/16.
    """
    depth: Float[Tensor, "*batch H W"]
    """Distance along the optical axis in metres; zero where none."""

    @property
    def mask(self) -> Bool[Tensor, "*batch H W"]:
        """Whether a triangle covers the pixel centre."""
        return self.triangle_index >= 0
