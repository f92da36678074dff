"""Files in and out: photos, colour, and one file format per module."""
