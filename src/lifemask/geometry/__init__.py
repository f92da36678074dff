"""Meshes, cameras, rotations and light: the plain geometry everything else stands on."""
