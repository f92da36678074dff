"""Analysis by synthesis: fits the head, its light and its colours to one photo."""
