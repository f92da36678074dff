"""Reading and writing files: photos, colour, and one file format per module."""
