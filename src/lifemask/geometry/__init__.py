"""Meshes, cameras, rotations and light: the geometry that all other packages use."""
