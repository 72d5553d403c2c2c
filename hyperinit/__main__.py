"""Runs the command line as `python -m hyperinit ...`."""

import sys

from hyperinit.cli import main

if __name__ == "__main__":
    sys.exit(main())
