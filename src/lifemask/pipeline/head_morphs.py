"""The morph targets of a head in files: ARKit's 52 expressions, then the 15 visemes."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.eyeballs import gaze_of_expressions
from lifemask.morphable.model import MorphableModel
from lifemask.morphable.tongue import with_open_lips
from lifemask.morphable.visemes import VISEMES, viseme_weights

_INVISIBLE_METRES, _INVISIBLE_VISEME_METRES = 5e-5, 1e-4
_INVISIBLE_TURN, _INVISIBLE_VISEME_TURN = 0.02, 0.06
"""By so much, displacements and changes of normals (radians) are reduced. Most then become zero and
need no bytes, and no step shows. A file of full precision is a quarter larger."""


@dataclass(frozen=True)
class HeadMorphs:
    """How each target at weight 1 changes the neutral head."""

    names: tuple[str, ...]
    """ARKit's names, then those of the visemes."""
    positions: Float[Tensor, "K V 3"]
    """Displacements, metres."""
    normals: Float[Tensor, "K V 3"]
    """Changes of the normals."""


def head_morphs(
    model: MorphableModel,
    person: FaceCoefficients,
    smooth: Float[Tensor, "V 3"],
    vertices: Float[Tensor, "V 3"],
) -> HeadMorphs:
    """Return the targets of one person.

    Args:
        model: the head.
        person: without expression.
        smooth: their vertices without displacement.
        vertices: their vertices as they are written.
    """
    expressions = expression_morphs(model, person, smooth)
    normals = vertex_normals(vertices, model.triangles)
    turns = vertex_normals(vertices + expressions, model.triangles) - normals
    visemes = viseme_weights(model.expression_names)
    spoken, spoken_turns = (torch.tensordot(visemes, part, dims=1) for part in (expressions, turns))
    return HeadMorphs(
        (*model.expression_names, *VISEMES),
        torch.cat(
            [_reduced(expressions, _INVISIBLE_METRES), _reduced(spoken, _INVISIBLE_VISEME_METRES)]
        ),
        torch.cat(
            [_reduced(turns, _INVISIBLE_TURN), _reduced(spoken_turns, _INVISIBLE_VISEME_TURN)]
        ),
    )


def expression_morphs(
    model: MorphableModel, person: FaceCoefficients, neutral: Float[Tensor, "V 3"]
) -> Float[Tensor, "E V 3"]:
    """Return how each expression at weight 1 moves the vertices of this person, metres.

    Lids close on the person's own eyeballs; the model's linear basis fits those of the mean person.
    The eyeballs turn in the `eyeLook…` targets, and `tongueOut` opens the mouth.

    Args:
        model: the head.
        person: without expression.
        neutral: their vertices.
    """
    count = len(model.expression_names)
    alone = FaceCoefficients(
        person.identity.expand(count, -1),
        torch.eye(count),
        gaze_of_expressions(model.expression_names),
        person.albedo.expand(count, -1),
    )
    morphs = model.vertices(alone) - neutral
    if "tongue" in model.vertex_parts:
        morphs = with_open_lips(
            neutral, morphs, model.expression_names, model.vertex_parts["tongue"]
        )
    return morphs


def _reduced(vectors: Float[Tensor, "K V 3"], by: float) -> Float[Tensor, "K V 3"]:
    """Return vectors that are shorter by a length; those that are not longer become zero."""
    length = vectors.norm(dim=-1, keepdim=True)
    return vectors * (1 - by / length.clamp(min=by))
