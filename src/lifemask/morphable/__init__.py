"""Morphable face models: coefficients in, a face out."""

from lifemask.morphable.albedo import AlbedoModel
from lifemask.morphable.arkit import ARKIT_EXPRESSIONS
from lifemask.morphable.coefficients import FaceCoefficients
from lifemask.morphable.eyeballs import Eyeballs
from lifemask.morphable.landmarks import FaceLandmarks, LandmarkEmbedding
from lifemask.morphable.model import MorphableModel

__all__ = [
    "ARKIT_EXPRESSIONS",
    "AlbedoModel",
    "Eyeballs",
    "FaceCoefficients",
    "FaceLandmarks",
    "LandmarkEmbedding",
    "MorphableModel",
]
