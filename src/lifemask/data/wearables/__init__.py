"""Hair, brows, lashes, glasses, hats and clothes that synthetic people wear."""
