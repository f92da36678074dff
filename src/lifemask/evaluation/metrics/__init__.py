"""One metric per file, as `docs/benchmarks.md` defines them; NumPy in, numbers out."""
