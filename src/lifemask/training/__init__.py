"""One trainer for every system: recipes, the loop, checkpoints and what it writes down."""
