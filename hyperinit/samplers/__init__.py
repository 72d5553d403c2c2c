"""Samplers by method name: the table is in `registry`, and there is one small file for each family."""

from hyperinit.samplers.base import Anchors, Sampler, SamplerOptions, TrainedSampler
from hyperinit.samplers.methods import METHODS, Method, enough, fitted, register_sampler, restored, trained

__all__ = [
    "METHODS",
    "Anchors",
    "Method",
    "Sampler",
    "SamplerOptions",
    "TrainedSampler",
    "enough",
    "fitted",
    "register_sampler",
    "restored",
    "trained",
]
