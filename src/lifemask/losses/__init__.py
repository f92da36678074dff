"""Losses: one idea per file, one value per image, unweighted."""
