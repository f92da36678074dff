"""The `lifemask` command, one file per subcommand: it parses, calls the Python API and prints."""
