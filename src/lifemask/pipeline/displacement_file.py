"""The relief of the skin as a picture: 16-bit grey, whose unit is stated beside it."""

import io
import math

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from lifemask.texture.relief import MOST_METRES

_LARGEST = 65535


def displacement_range_mm(displacement: Float[Tensor, "R R"]) -> float:
    """Return the millimetres from black to white: 4, or more if the displacement needs it.

    Args:
        displacement: metres along the normal.
    """
    most = max(float(displacement.abs().max()), MOST_METRES)
    return 2.0 * math.ceil(round(most * 1000, 3))


def encode_displacement(displacement: Float[Tensor, "R R"], range_mm: float) -> bytes:
    """Return a PNG file: millimetres = (value / 65535 - 0.5) * range_mm.

    Args:
        displacement: metres along the normal.
        range_mm: millimetres from black to white.
    """
    share = displacement.double() * 1000 / range_mm + 0.5
    values = (share * _LARGEST).round().clamp(0, _LARGEST).to(torch.int32).numpy()
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
