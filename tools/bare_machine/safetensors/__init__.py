"""The part of the package safetensors that training needs, in plain Python.

It is for machines without that package. A packed training puts it last on the path, so that Python
imports the real package if it is installed.
"""

from safetensors.plain import SafetensorError, safe_open

__all__ = ["SafetensorError", "safe_open"]
