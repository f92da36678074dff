"""Readers of other people's morphable models, in the formats in which they are published.

Every reader follows a cited public loader, reports what is missing or wrong in a file, and returns
an `ImportedModel` in metres and head axes. Pickles are read only if the caller allows it.
"""

from lifemask.morphable.importers.bfm import load_bfm
from lifemask.morphable.importers.flame import load_flame
from lifemask.morphable.importers.gnm import load_gnm
from lifemask.morphable.importers.ict import load_ict
from lifemask.morphable.importers.imported import ImportedModel, ModelFileError
from lifemask.morphable.importers.surrey import load_surrey

__all__ = [
    "ImportedModel",
    "ModelFileError",
    "load_bfm",
    "load_flame",
    "load_gnm",
    "load_ict",
    "load_surrey",
]
