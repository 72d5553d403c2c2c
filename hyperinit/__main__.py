"""`python -m hyperinit ...`: the command line without its console script."""

import sys

from hyperinit.cli import main

if __name__ == "__main__":
    sys.exit(main())
