"""Faces to learn from: photos, clips and faces that never existed."""
