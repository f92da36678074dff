"""The rasteriser's result: the nearest triangle of each pixel, and the position on it."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Fragments:
    """The nearest triangle at each pixel centre; all images of one view share it."""

    triangle_index: Int[Tensor, "*batch H W"]
    """Row of `triangles`; -1 without a triangle. Not differentiable."""
    barycentric: Float[Tensor, "*batch H W 3"]
    """Perspective-correct weights of the three corners, sum one; zero without a triangle.

    They use the exact corners, but coverage uses corners snapped to 1/256 pixel; therefore a weight
    can lie outside [0, 1], at most by 1/16.
    """
    depth: Float[Tensor, "*batch H W"]
    """Distance along the optical axis in metres; zero without a triangle."""

    @property
    def mask(self) -> Bool[Tensor, "*batch H W"]:
        """Whether a triangle covers the pixel centre."""
        return self.triangle_index >= 0
