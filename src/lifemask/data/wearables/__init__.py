"""Hair, brows, lashes, glasses, hats and clothes of synthetic people."""
