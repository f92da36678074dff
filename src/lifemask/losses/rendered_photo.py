"""A photo beside the drawing of the face that should explain it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.io.colour import srgb_from_linear
from lifemask.losses.means import weighted_mean
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.rendering.face_colours import FaceRenderer


@dataclass(frozen=True)
class RenderedPhoto:
    """A photo and a drawing of its face at the same size; both in sRGB, as eyes and photos count."""

    photo: Float[Tensor, "*batch 3 s s"]
    """The photo, sRGB in [0, 1]."""
    rendered: Float[Tensor, "*batch 3 s s"]
    """The drawing, sRGB, not clamped; 0 beside the face."""
    covered: Float[Tensor, "*batch s s"]
    """1 where the face is drawn."""
    skin: Float[Tensor, "*batch s s"]
    """Probability that the photo shows bare skin, 0 to 1."""

    @property
    def compared(self) -> Float[Tensor, "*batch s s"]:
        """Weight of each pixel, 0 to 1: drawn face times skin of the photo."""
        return self.covered * self.skin

    @property
    def pasted(self) -> Float[Tensor, "*batch 3 s s"]:
        """The photo with the drawing in place of its skin, sRGB in [0, 1]."""
        return torch.lerp(self.photo, self.rendered.clamp(0, 1), self.compared.unsqueeze(-3))


def rendered_photo(
    renderer: FaceRenderer,
    face: ExplainedFace,
    photo: Float[Tensor, "*batch 3 S S"],
    skin: Float[Tensor, "*batch S S"],
    *,
    size: int,
) -> RenderedPhoto:
    """Draw faces, and reduce their photos to the same size.

    Args:
        renderer: of the faces' model.
        face: with the camera of the photo.
        photo: linear RGB in [0, 1].
        skin: probability of bare skin, 0 to 1.
        size: pixels on a side of the drawing.
    """
    colour, covered = renderer(face, size)
    return RenderedPhoto(
        srgb_from_linear(_resized(photo, size)),
        srgb_from_linear(colour),
        covered,
        _resized(skin.unsqueeze(-3), size).squeeze(-3),
    )


def colour_distance_loss(
    rendered: Float[Tensor, "*batch 3 H W"],
    photo: Float[Tensor, "*batch 3 H W"],
    weight: Float[Tensor, "*batch H W"],
) -> Float[Tensor, "*batch"]:
    """Return the weighted mean distance of colours, in the colours' unit.

    The root is taken at each pixel, so that a few pixels that the model cannot explain, such as
    highlights, count less than in a mean square (Chen et al., "Self-supervised learning of detailed
    3D face reconstruction", 2020).

    Args:
        rendered: colours, for example sRGB.
        photo: the same.
        weight: 0 and more, for example `RenderedPhoto.compared`.
    """
    distance = (rendered - photo).norm(dim=-3)
    return weighted_mean(distance.flatten(-2), weight.flatten(-2))


def _resized(images: Float[Tensor, "*batch C S S"], size: int) -> Float[Tensor, "*batch C s s"]:
    if images.shape[-1] == size:
        return images
    batch = images.shape[:-3]
    small = F.interpolate(
        images.reshape(-1, *images.shape[-3:]),
        (size, size),
        mode="bilinear",
        align_corners=False,
        antialias=images.shape[-1] > size,
    )
    return small.reshape(*batch, *small.shape[1:])
