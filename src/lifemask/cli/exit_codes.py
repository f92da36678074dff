"""Exit codes of the command, documented in docs/command-line.md.

If several apply: 130 and 2 before 1, 1 before 3, 3 before 4.
"""

DONE = 0
"""Everything worked."""
FAILED = 1
"""Something failed; with several photos at least one failed, and the others were finished."""
USAGE = 2
"""The command line was wrong; nothing was done."""
NO_FACE = 3
"""Nothing failed, but in at least one photo no face was found that convinces."""
DOUBTFUL = 4
"""With `--strict`: nothing failed and all photos show faces, but a result has a warning."""
INTERRUPTED = 130
"""Ctrl-C; finished results are complete, and no file is half-written."""
TERMINATED = 143
"""A termination signal; files as after Ctrl-C."""
