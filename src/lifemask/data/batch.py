"""Batches of faces: the common form of data for networks, losses and training."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifemask.morphable.explained_face import ExplainedFace


@dataclass(frozen=True)
class FaceTruth:
    """The exact truth of a drawn or re-rendered face."""

    face: ExplainedFace
    """The default head in the crop's pixels, with albedo map, displacement map and depth if the
    source has them.

    The light is the nearest distant light without shadows and specular reflection. The depth is
    that of the bare head in metres, 0 beside it.
    """
    normals: Float[Tensor, "*batch 3 H W"] | None
    """Unit normals of the displaced head in light axes; 0 beside it. None if the source has none."""
    albedo: Float[Tensor, "*batch 3 H W"] | None
    """Linear RGB of the bare head without light, in the crop; 0 beside it. None if the source has
    none."""
    visible68: Bool[Tensor, "*batch 68"]
    """Whether each iBUG point faces the camera and nothing hides it."""
    visible478: Bool[Tensor, "*batch 478"]
    """As `visible68`, for the dense points."""
    surface200: Float[Tensor, "*batch 200 2"]
    """Crop pixels (x, y) of the surface points (`MorphableModel.surface200`)."""
    visible200: Bool[Tensor, "*batch 200"]
    """As `visible68`, for the surface points."""


@dataclass(frozen=True)
class PhotoFeatures:
    """What layers that never learn see in crops; see `lifemask.data.bank.encoded`."""

    fine: Float[Tensor, "*batch F f f"]
    """A fine map of features over the crop."""
    coarse: Float[Tensor, "*batch C c c"]
    """A coarser map."""
    last: Float[Tensor, "*batch n"]
    """Features of the whole crop."""


@dataclass(frozen=True)
class FaceBatch:
    """Square crops of faces from one source; a clip has its frames as the last batch axis."""

    photo: Float[Tensor, "*batch 3 H W"]
    """Linear RGB in [0, 1]."""
    landmarks68: Float[Tensor, "*batch 68 2"]
    """Crop pixels (x, y) of iBUG's points; any value if the weight is 0. Drawn faces have the jaw of
    `MorphableModel.landmarks68_outline`."""
    landmarks68_weight: Float[Tensor, "*batch 68"]
    """0 (unknown) to 1."""
    landmarks478: Float[Tensor, "*batch 478 2"]
    """Crop pixels (x, y); any value if the weight is 0."""
    landmarks478_weight: Float[Tensor, "*batch 478"]
    """0 (unknown) to 1."""
    aflw21: Float[Tensor, "*batch 21 2"]
    """Crop pixels (x, y) of AFLW's points; any value if the weight is 0."""
    aflw21_weight: Float[Tensor, "*batch 21"]
    """0 (unknown) to 1."""
    skin: Float[Tensor, "*batch H W"]
    """Probability that the pixel shows bare skin of this face, 0 to 1."""
    person: Int[Tensor, "*batch"]
    """Number of the person; equal numbers are the same person, -1 is unknown."""
    truth: FaceTruth | None
    """Truth of drawn and re-rendered faces; None for photos."""
    features: PhotoFeatures | None = None
    """Of crops from an encoded bank, in place of the network's frozen layers; they belong to these
    crops exactly, so such a batch cannot be varied any more."""
