"""`python -m lifemask`: the command `lifemask`."""

import sys

from lifemask.cli.main import main

sys.exit(main())
