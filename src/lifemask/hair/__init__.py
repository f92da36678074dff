"""A head of hair as a mesh of its own, from a photo."""
