"""Makes the hair of a person in the style that was asked for, or that the photo allows."""

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.data.wearables.wardrobe import Wardrobe
from lifemask.hair.growth import grow
from lifemask.hair.head_of_hair import Hair
from lifemask.hair.shell import shell
from lifemask.hair.signs import hair_signs
from lifemask.hair.skull import skull_of
from lifemask.hair.styles import AUTO, NONE, SHELL, check_style
from lifemask.hair.wig import wig
from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.texture.hair import HairEstimate

_USUAL_COLOUR = (0.085, 0.048, 0.027)
"""Linear RGB of hair whose colour the photo does not show: brown."""


def make_hair(
    style: str,
    model: MorphableModel,
    face: ExplainedFace,
    pixels: UInt8[np.ndarray, "H W 3"],
    observation: FaceObservation,
    estimate: HairEstimate,
) -> Hair:
    """Return the hair of a person.

    Args:
        style: one of `lifemask.hair.styles.STYLES`.
        face: the fitted face, in the photo's pixels.
        pixels: the photo, sRGB.
        observation: the photo's measurements.
        estimate: the hair's colour.

    Raises:
        ValueError: the style is unknown.
    """
    check_style(style)
    asked = ("asked", f"The style {style} was asked for.")
    if style == NONE:
        return Hair(NONE, *asked)
    if "lashes" not in model.vertex_parts:
        return Hair(NONE, "model", "Only the default head has a scalp for hair.")
    colour = torch.tensor(_USUAL_COLOUR) if estimate.colour is None else estimate.colour
    neutral = model.mean + torch.tensordot(face.coefficients.identity, model.identity_basis, dims=1)
    if style not in (AUTO, SHELL):
        item = Wardrobe.from_pretrained(model)[f"hair_{style}"]
        return Hair(style, *asked, wig(item, model, neutral, colour))
    if observation.segmentation is None:
        return Hair(NONE, "unseen", "The network found no skin and no hair in the photo.")
    skull = skull_of(model, neutral)
    growth = grow(skull, face.camera, observation)
    if style == AUTO:
        objection = hair_signs(skull, growth, face.camera, observation).objection()
        if objection is None and estimate.colour is None:
            objection = ("bald", "The photo shows no hair whose colour is clear.")
        if objection is not None:
            return Hair(NONE, *objection)
        asked = ("outline", "The photo shows the outline of the hair.")
    mesh = shell(growth, face, pixels, observation, colour=colour, contrast=estimate.contrast)
    return Hair(SHELL, *asked, mesh)
