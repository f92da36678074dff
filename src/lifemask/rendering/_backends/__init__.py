"""The implementations behind `rendering.backends`: one module each, with the same functions."""
