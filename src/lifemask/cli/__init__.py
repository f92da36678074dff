"""The `lifemask` command: one file per subcommand; each parses, calls the Python API, and prints."""
