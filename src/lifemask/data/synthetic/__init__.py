"""Faces that never existed: photos with complete truth, made as they are needed."""

from lifemask.data.synthetic.config import SyntheticConfig
from lifemask.data.synthetic.generator import SyntheticFaces

__all__ = ["SyntheticConfig", "SyntheticFaces"]
