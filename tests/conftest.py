"""Settings and fixtures of all tests: one thread per process, and optional development data."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

if TYPE_CHECKING:
    from lifemask.pipeline.reconstruction import FaceReconstruction
    from lifemask.pipeline.reconstructor import FaceReconstructor

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


@pytest.fixture(scope="session")
def reconstructor() -> "FaceReconstructor":
    """Return the released recipe with a small texture."""
    from lifemask.pipeline.reconstructor import FaceReconstructor

    return FaceReconstructor.from_pretrained(texture_size=512)


@pytest.fixture(scope="session")
def fast_reconstructor(reconstructor: "FaceReconstructor") -> "FaceReconstructor":
    """Return the recipe of quality `fast`, with the same networks and head."""
    from lifemask.fitting.config import FitConfig
    from lifemask.fitting.fit import FaceFitter
    from lifemask.pipeline.reconstructor import FaceReconstructor

    fitter = FaceFitter(reconstructor.model, FitConfig.preset("fast"))
    return FaceReconstructor(
        reconstructor.perception, reconstructor.predictor, fitter, texture_size=512
    )


@pytest.fixture(scope="session")
def face(reconstructor: "FaceReconstructor", samples: Path) -> "FaceReconstruction":
    """Return a sample portrait, reconstructed once; nothing may change it."""
    (face,) = reconstructor(samples / "portrait_1.jpg")
    return face


@pytest.fixture(scope="session")
def validate_glb() -> Callable[[Path], dict[str, Any]]:
    """Return the Khronos glTF validator: GLB path to its `issues` (numErrors, messages, …).

    It is fetched from npm once, into .cache; without node or npm the test is skipped.
    """
    package = REPOSITORY / ".cache" / "gltf-validator-2.0.0-dev.3.10"
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are needed to run the Khronos glTF validator")
    if not package.is_dir():
        package.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=package.parent) as folder:
            fetch = ["npm", "install", "--silent", "--no-save", "--prefix", folder]
            done = subprocess.run(
                [*fetch, "gltf-validator@2.0.0-dev.3.10"],
                capture_output=True,
                text=True,
                timeout=120,
            )
            if done.returncode:
                pytest.skip(f"the Khronos glTF validator cannot be fetched: {done.stderr[:200]}")
            if not package.is_dir():
                shutil.move(Path(folder) / "node_modules" / "gltf-validator", package)

    script = """
        const validator = require(process.argv[1]), fs = require('fs');
        validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[2])), {maxIssues: 20})
            .then(report => console.log(JSON.stringify(report.issues)));
    """

    def validate(path: Path) -> dict[str, Any]:
        command = ["node", "-e", script, str(package), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        return json.loads(done.stdout)

    return validate
