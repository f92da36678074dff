"""Lights in JSON files: nine rows of linear RGB, alone or in the JSON of a reconstructed head."""

import os

import torch

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.io.json_values import JsonError, read_json

_BRIGHTEST = 1000.0
"""Largest coefficient; a shading of 1 is daylight on the whole face."""


class LightFileError(ValueError):
    """A file holds no light; the message says what is wrong."""


def read_light(path: str | os.PathLike[str]) -> SphericalHarmonicsLight:
    """Read a light from a JSON file: 9 x 3 coefficients, or an object with these as `light_sh`.

    `lifemask.geometry.lighting` gives their order and unit.

    Raises:
        LightFileError: the file holds other values, NaN, or coefficients beyond ±1000.
        OSError: it cannot be opened.
    """
    try:
        value = read_json(path)
        rows = value["light_sh"] if isinstance(value.value, dict) else value
        coefficients = rows.numbers((9, 3), least=-_BRIGHTEST, most=_BRIGHTEST)
    except JsonError as error:
        raise LightFileError(
            f"{str(path)!r} holds no light: {error} A light is nine rows of red, green and blue, "
            "alone or under the key light_sh."
        ) from error
    return SphericalHarmonicsLight(torch.from_numpy(coefficients).float())
