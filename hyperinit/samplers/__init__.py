"""Samplers by method name. A name that ends in "30" fits the sampler to the best 30 % of the anchors."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from hyperinit.errors import UnknownNameError
from hyperinit.samplers.base import Anchors, Sampler, SamplerOptions
from hyperinit.samplers.baselines import Average, Noise, Uniform
from hyperinit.samplers.kde import JointKDE, LocalKDE, MarginalKDE

__all__ = ["METHODS", "Anchors", "Method", "Sampler", "SamplerOptions", "fitted"]


@dataclass(frozen=True)
class Method:
    """A named way to draw networks: a sampler, the share of anchors it is fitted to, and one line about it."""

    sampler: type[Sampler]
    share: float
    title: str


_BEST = ", fitted to the best 30 % of the zoo"
METHODS: dict[str, Method] = {
    "kde": Method(JointKDE, 1.0, "an anchor plus Gaussian noise in the latent space"),
    "kde30": Method(JointKDE, 0.3, "an anchor plus Gaussian noise in the latent space" + _BEST),
    "kde-marginal": Method(MarginalKDE, 1.0, "every latent dimension drawn independently (the paper's text)"),
    "kde30-marginal": Method(MarginalKDE, 0.3, "every latent dimension drawn independently (the paper's text)" + _BEST),
    "local": Method(LocalKDE, 1.0, "every latent dimension drawn from an anchor's nearest anchors"),
    "local30": Method(LocalKDE, 0.3, "every latent dimension drawn from an anchor's nearest anchors" + _BEST),
    "uniform": Method(Uniform, 1.0, "uniform in the latent cube (baseline, near chance)"),
    "noise": Method(Noise, 1.0, "a training snapshot plus noise on its weights (baseline)"),
    "average": Method(Average, 1.0, "the mean of neighbouring training snapshots (baseline)"),
}


def fitted(name: str, anchors: Anchors, options: SamplerOptions) -> Sampler:
    """Return the sampler of method `name`, fitted to its share of the anchors.

    Raises:
        UnknownNameError: with the nearest names, if there is no such method.
    """
    if name not in METHODS:
        near = get_close_matches(str(name), METHODS, n=3, cutoff=0.4)
        raise UnknownNameError(f"unknown method {name!r}; did you mean {' or '.join(near or METHODS)}?")
    method = METHODS[name]
    sampler = method.sampler(options)
    sampler.fit(anchors.best(method.share) if method.share < 1 else anchors)
    return sampler
