"""Synthetic faces: photos of people who do not exist, with complete truth, drawn on demand."""

from lifemask.data.synthetic.config import SyntheticConfig
from lifemask.data.synthetic.generator import SyntheticFaces

__all__ = ["SyntheticConfig", "SyntheticFaces"]
