"""Data sets, metrics and tables, for any system and for other programs' predictions."""
