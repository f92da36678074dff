"""Environments of light from panoramas in files."""

import os

import torch

from lifemask.geometry.environments import Environment
from lifemask.io.panoramas import read_panorama


def read_environment(path: str | os.PathLike[str], *, turn_degrees: float = 0.0) -> Environment:
    """Read the environment of a panorama (.hdr; .exr with the extra `exr`), in the unit of the file.

    Args:
        path: linear light by longitude and latitude, twice as wide as high.
        turn_degrees: see `Environment.from_panorama`.

    Raises:
        PanoramaError: the file is missing, damaged or black, or it has another format or shape.
        ImportError: an .exr file needs the extra `exr`, which is not installed.
    """
    values = torch.from_numpy(read_panorama(path).transpose(2, 0, 1).copy())
    return Environment.from_panorama(values, turn_degrees=turn_degrees)
