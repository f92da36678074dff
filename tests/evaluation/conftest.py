"""Bumpy surfaces in place of people, and the head of ICT-FaceKit where its data is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lifemask.evaluation.ict_faces.head import IctHead, load_head

People = Callable[[int], tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="session")
def ict_path(shared_data: Path) -> Path:
    """Return the file of ICT-FaceKit Light, or skip the test."""
    path = shared_data / "models" / "ict_facekit_light.npz"
    if not path.exists():
        pytest.skip(f"ICT-FaceKit Light is not at {path}")
    return path


@pytest.fixture(scope="session")
def ict_head(ict_path: Path) -> IctHead:
    """Return its head."""
    return load_head(ict_path)


@pytest.fixture(scope="session")
def people() -> People:
    """Return a function of N that returns normals (N, H, W, 3) and a mask for each person."""
    return _bumpy_people


def _bumpy_people(count: int, *, size: int = 48, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return unit normals (N, H, W, 3) of different smooth surfaces, and a mask for each."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    maps: list[np.ndarray] = []
    for _ in range(count):
        slope_x, slope_y = 0.8 * x, 0.8 * y
        for _ in range(6):
            frequency, phase = generator.uniform(1, 9, 2), generator.uniform(0, 6, 2)
            slope_x = slope_x + 0.12 * np.sin(frequency[0] * x + frequency[1] * y + phase[0])
            slope_y = slope_y + 0.12 * np.sin(frequency[1] * x - frequency[0] * y + phase[1])
        normals = np.stack([slope_x, slope_y, np.ones_like(x)], axis=-1)
        maps.append(normals / np.linalg.norm(normals, axis=-1, keepdims=True))
    mask = np.broadcast_to(x**2 + y**2 < 0.9, (count, size, size)).copy()
    return np.stack(maps), mask
