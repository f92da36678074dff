"""What all tests share: one thread per process, and the optional folder of development data."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the development data (photos, ground truth, other models), or skip the test.

    The folder is $LIFEMASK_DATA, else `../shared/data` beside the repository.
    """
    folder = Path(os.environ.get("LIFEMASK_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"development data not found at {folder}; set LIFEMASK_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """Return the folder of sample portraits that ship with the package."""
    return REPOSITORY / "src" / "lifemask" / "assets" / "samples"
