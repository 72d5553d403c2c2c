"""Samplers, which draw new latents or weights. `methods` lists them by name; each family has a module of its own."""

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
