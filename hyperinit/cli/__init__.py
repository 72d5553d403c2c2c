"""The command line `hyperinit ...`."""

from hyperinit.cli.program import main

__all__ = ["main"]
