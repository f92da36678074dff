"""One photo in; a detailed, relightable, animatable 3D head out.

The names below are imported on first use. Torch is imported only when it is needed, so
`import lifemask` takes far less than a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lifemask.fitting.config import FitConfig as FitConfig
    from lifemask.fitting.fit import fit as fit
    from lifemask.geometry.cameras import PerspectiveCamera as PerspectiveCamera
    from lifemask.geometry.lighting import SphericalHarmonicsLight as SphericalHarmonicsLight
    from lifemask.geometry.meshes import Mesh as Mesh
    from lifemask.io.images import Photo as Photo
    from lifemask.io.images import PhotoError as PhotoError
    from lifemask.io.images import read_photo as read_photo
    from lifemask.morphable.assets import list_models as list_models
    from lifemask.morphable.coefficients import FaceCoefficients as FaceCoefficients
    from lifemask.morphable.model import MorphableModel as MorphableModel
    from lifemask.pipeline.reconstruction import FaceReconstruction as FaceReconstruction
    from lifemask.pipeline.reconstructor import FaceReconstructor as FaceReconstructor
    from lifemask.rendering import rasterize as rasterize
    from lifemask.rendering import render as render
    from lifemask.systems.registry import load_system as load_system

_HOMES = {
    "FaceCoefficients": "lifemask.morphable.coefficients",
    "FaceReconstruction": "lifemask.pipeline.reconstruction",
    "FaceReconstructor": "lifemask.pipeline.reconstructor",
    "FitConfig": "lifemask.fitting.config",
    "Mesh": "lifemask.geometry.meshes",
    "MorphableModel": "lifemask.morphable.model",
    "PerspectiveCamera": "lifemask.geometry.cameras",
    "Photo": "lifemask.io.images",
    "PhotoError": "lifemask.io.images",
    "SphericalHarmonicsLight": "lifemask.geometry.lighting",
    "fit": "lifemask.fitting.fit",
    "list_models": "lifemask.morphable.assets",
    "load_system": "lifemask.systems.registry",
    "rasterize": "lifemask.rendering",
    "read_photo": "lifemask.io.images",
    "render": "lifemask.rendering",
}
"""The module of each public name. Must agree with the imports for type checkers above."""

__all__ = ["__version__", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lifemask' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
