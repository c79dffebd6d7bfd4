"""`python -m sereno`: the command, run by the interpreter of a backend that has sereno on its path."""

import sys

from sereno.cli import main

sys.exit(main())
