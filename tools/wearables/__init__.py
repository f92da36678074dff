"""Converts MakeHuman's hair, glasses, hat and clothes to wearables of the default head."""
