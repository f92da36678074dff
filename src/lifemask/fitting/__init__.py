"""Fit morphable models: to a photo, to a mesh or point cloud, to each other."""
