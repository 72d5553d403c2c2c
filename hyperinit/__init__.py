"""Initialise PyTorch networks with weights sampled from a generative model of trained networks.

    hyperinit.init_(model, source="mnist")              # writes the parameters in place
    ens = hyperinit.ensemble(n=15)                      # 15 different networks in one module
    plan = hyperinit.plan(model, source="mnist")        # what init_ would do; print(plan) is a table
    hyperinit.init_(model, plan=plan)                   # exactly that

Source: Schürholt et al. 2022, arXiv:2209.14733, "Hyper-Representations as Generative Models".
"""

from hyperinit import nets
from hyperinit.api import calibrate_, ensemble, init_, load, methods, plan, sources, transforms
from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.errors import HyperinitError, MismatchWarning, UnusableWarning
from hyperinit.fitting import Plan
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import register_sampler

__version__ = "0.1.0"
__all__ = [
    "Ensemble",
    "HyperRepresentation",
    "HyperinitError",
    "MismatchWarning",
    "Plan",
    "UnusableWarning",
    "calibrate_",
    "ensemble",
    "init_",
    "load",
    "methods",
    "nets",
    "plan",
    "register_sampler",
    "sources",
    "transforms",
]
