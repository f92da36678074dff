"""Data sets, metrics and tables, for any system and for predictions of other programs."""
