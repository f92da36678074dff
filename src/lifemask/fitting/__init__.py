"""Analysis by synthesis: the head, its light and its colours fitted to one photo."""
