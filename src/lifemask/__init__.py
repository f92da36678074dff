"""One photo in; a detailed, relightable, animatable 3D head out."""

__version__ = "0.1.0"
