"""A head of hair: a mesh with its own texture, in head space."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class HeadOfHair:
    """A textured mesh that follows the skull."""

    vertices: Float[Tensor, "V 3"]
    """Head space, metres."""
    triangles: Int[Tensor, "T 3"]
    """Vertex indices, counter-clockwise seen from outside; inner layers come first."""
    normals: Float[Tensor, "V 3"]
    """Unit vectors, away from the head."""
    uv: Float[Tensor, "V 2"]
    """Texture coordinates in [0, 1], v down."""
    layers: tuple[int, ...]
    """Number of triangles in each layer, from the innermost to the outermost."""
    picture: UInt8[np.ndarray, "h w 4"]
    """Albedo (sRGB) and opacity."""


@dataclass(frozen=True)
class Hair:
    """The hair of a person, and why it is this."""

    style: str
    """`none`, `shell` or the name of a mesh."""
    reason: str
    """One word: `asked`, or what the photo shows."""
    message: str
    """The same in a sentence."""
    mesh: HeadOfHair | None = None
    """The hair; None if it is only painted on the scalp."""
