"""Perception: finds faces in a photo; measures landmarks, expression, segmentation and identity."""

from lifemask.perception.face_perception import FacePerception
from lifemask.perception.observation import FaceDetection, FaceObservation

__all__ = ["FaceDetection", "FaceObservation", "FacePerception"]
