"""The steps that turn public CC0 meshes, targets and skins into the default head."""
