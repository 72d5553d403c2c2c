"""How decoded weights meet a module: plan, match, resize, fill and apply."""

from hyperinit.fitting.apply import apply_
from hyperinit.fitting.fill import FILLS
from hyperinit.fitting.plan import Plan, Row
from hyperinit.fitting.planner import FITS, make_plan

__all__ = ["FILLS", "FITS", "Plan", "Row", "apply_", "make_plan"]
