"""Faces for training: photos, clips, re-rendered fits and synthetic faces."""
