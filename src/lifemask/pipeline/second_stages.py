"""The second stages of a full reconstruction, in their order."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import UInt8

from lifemask.morphable.explained_face import ExplainedFace
from lifemask.morphable.model import MorphableModel
from lifemask.perception.observation import FaceObservation
from lifemask.pipeline.relief import ReliefEstimator
from lifemask.pipeline.shadows import ShadowEstimator
from lifemask.systems.registry import ALBEDO_SYSTEM, RELIEF_SYSTEM, load_system
from lifemask.systems.rerenderable_albedo import RerenderableAlbedo

SecondStage = Callable[[UInt8[np.ndarray, "H W 3"], FaceObservation, ExplainedFace], ExplainedFace]
"""Adds something to a fitted face of a photo: sRGB pixels, observation and face in, the face out."""


def released_stages(
    model: MorphableModel, device: torch.device | str = "cpu"
) -> tuple[ReliefEstimator | ShadowEstimator, ...]:
    """Return the second stages that ship with the package.

    Args:
        model: the head of the faces, on the CPU.
        device: of the networks.
    """
    albedo = load_system(ALBEDO_SYSTEM, device)
    assert isinstance(albedo, RerenderableAlbedo)
    relief = load_system(RELIEF_SYSTEM, device)
    return ShadowEstimator(albedo), ReliefEstimator(relief, model)
