"""Whole methods, one file each: which networks, which losses, and where each departs from its paper."""
