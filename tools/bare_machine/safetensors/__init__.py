"""The part of the package safetensors that training needs, in plain Python.

For machines without that package: a packed training puts it last on the path, so that the real one
wins where it is installed.
"""

from safetensors.plain import SafetensorError, safe_open

__all__ = ["SafetensorError", "safe_open"]
