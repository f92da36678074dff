"""Systems, one file each: networks, losses and recipes; and the registry of their names."""
