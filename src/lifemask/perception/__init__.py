"""Perception: faces, dense landmarks, expression scores, segmentation and identity from a photo."""

from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceDetection, FaceObservation

__all__ = ["FaceDetection", "FaceObservation", "FacePerception"]
