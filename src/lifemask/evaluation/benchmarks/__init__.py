"""The benchmarks: each runs all systems on one data set and returns its tables."""
