"""Fitting: plan which decoded weights go where in a module, resize them, fill the rest, and write everything."""

from hyperinit.fitting.apply import apply_
from hyperinit.fitting.options import FILLS, FITS, Options
from hyperinit.fitting.plan import Plan, Row
from hyperinit.fitting.planner import make_plan

__all__ = ["FILLS", "FITS", "Options", "Plan", "Row", "apply_", "make_plan"]
