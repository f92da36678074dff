"""The benchmarks: each asks every system about one data set and returns one table."""
