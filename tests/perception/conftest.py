"""Fixtures of the perception tests: the loaded networks, a portrait, recorded outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from lifemask.perception import FacePerception


@pytest.fixture(scope="session")
def perception() -> FacePerception:
    return FacePerception.from_pretrained()


@pytest.fixture(scope="session")
def portrait(samples: Path) -> np.ndarray:
    return np.array(Image.open(samples / "portrait_1.jpg").convert("RGB"))


@pytest.fixture(scope="session")
def reference() -> dict[str, Tensor]:
    """Return outputs of the original runtimes, from tools/record_perception_reference.py."""
    return load_file(Path(__file__).parent / "reference.safetensors")


@pytest.fixture(scope="session")
def face(reference: dict[str, Tensor]) -> Tensor:
    """Return the 128-pixel face of these outputs, sRGB in 0..1, (1, 3, 128, 128)."""
    return reference["face"].permute(2, 0, 1)[None].float() / 255.0


def repeated(image: Tensor, times: int) -> Tensor:
    """Return an enlarged image with repeated pixels, which is the same in every library."""
    return torch.repeat_interleave(torch.repeat_interleave(image, times, -1), times, -2)
