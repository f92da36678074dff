"""Systems that can be evaluated: they run on photos, or read predictions of other programs."""
