"""The table of methods, and fitted samplers by name. Methods whose name ends in "30" use the best 30 % of anchors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError, unknown
from hyperinit.generators import settled
from hyperinit.samplers import families
from hyperinit.samplers.base import Anchors, Sampler, SamplerOptions, StartingSampler, TrainedSampler
from hyperinit.samplers.baselines import Average, Noise, Uniform
from hyperinit.samplers.counterfactual import Counterfactual
from hyperinit.samplers.gan import LatentGAN
from hyperinit.samplers.kde import JointKDE, LocalKDE, MarginalKDE
from hyperinit.samplers.neigh import Neighbourhood

SPACES = ("latent", "weight")
SHARE = 0.3  # of the anchors, for methods whose name ends in "30"


@dataclass(frozen=True)
class Method:
    """A sampler, the share of anchors that it is fitted to, and a one-line description."""

    sampler: type[Sampler]
    share: float
    title: str


_JOINT = "an anchor plus Gaussian noise in the latent space"
_MARGINAL = "every latent dimension drawn independently (the paper's text)"
_LOCAL = "every latent dimension drawn from an anchor's nearest anchors"
_NEIGH = "uniform in a three-dimensional map of the anchors (UMAP), taken back to latents"
_GAN = "a small GAN over the latents, stored in the artifact"
_BEST = ", fitted to the best 30 % of the zoo"
METHODS: dict[str, Method] = {
    "kde": Method(JointKDE, 1.0, _JOINT),
    "kde30": Method(JointKDE, SHARE, _JOINT + _BEST),
    "kde-marginal": Method(MarginalKDE, 1.0, _MARGINAL),
    "kde30-marginal": Method(MarginalKDE, SHARE, _MARGINAL + _BEST),
    "local": Method(LocalKDE, 1.0, _LOCAL),
    "local30": Method(LocalKDE, SHARE, _LOCAL + _BEST),
    "neigh": Method(Neighbourhood, 1.0, _NEIGH),
    "neigh30": Method(Neighbourhood, SHARE, _NEIGH + _BEST),
    "gan": Method(LatentGAN, 1.0, _GAN),
    "gan30": Method(LatentGAN, SHARE, _GAN + _BEST),
    "uniform": Method(Uniform, 1.0, "uniform in the latent cube (baseline, near chance)"),
    "counterfactual": Method(Counterfactual, 1.0, "where the anchors are least dense (baseline, near chance)"),
    "noise": Method(Noise, 1.0, "a training snapshot plus noise on its weights (baseline)"),
    "average": Method(Average, 1.0, "the mean of neighbouring training snapshots (baseline)"),
}


def find(name: str) -> Method:
    """Return the method with this name.

    Raises:
        UnknownNameError: if there is no such method. The message suggests the most similar names.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def fitted(name: str, anchors: Anchors, options: SamplerOptions, *, spread: bool = False) -> Sampler:
    """Return the sampler of method `name`, fitted to its share of the anchors.

    Args:
        name: of the method.
        anchors: of the zoo.
        options: of the artifact.
        spread: whether to take the share of each family, in place of that of the whole zoo.

    Raises:
        UnknownNameError: if there is no such method.
        ArgumentError: if the method needs more anchors.
    """
    method = find(name)
    with settled():
        sampler = method.sampler(options)
        kept = anchors.best(method.share, by_family=spread) if method.share < 1 else anchors
        sampler.fit(kept)
        return Spread(cast(StartingSampler, sampler), kept.families) if spread else sampler


class Spread:
    """A sampler whose draws begin at anchors of as many families as there are, in turn.

    Args:
        sampler: fitted; its draws begin at anchors.
        families: number of the family of each anchor that it is fitted to, int64 (N,).
    """

    space: ClassVar[str] = "weight"

    def __init__(self, sampler: StartingSampler, families: Tensor) -> None:
        self.sampler, self.families = sampler, families
        self.space = sampler.space  # type: ignore[misc] # that of the sampler, not of the class

    def fit(self, anchors: Anchors) -> None:
        """Fit the sampler to other anchors."""
        self.sampler.fit(anchors)
        self.families = anchors.families

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Draw `count` rows."""
        return self.sampler.sample(count, generator, families.spread(self.families, count, generator))


def starts(name: str) -> bool:
    """Return whether each draw of a method begins at an anchor, so that draws can be spread over families.

    >>> starts("kde30"), starts("uniform")
    (True, False)
    """
    return bool(getattr(find(name).sampler, "starts", False))


def trained(name: str) -> type[TrainedSampler] | None:
    """Return the sampler class of a method whose fitted state is stored in artifacts, or None for other methods."""
    sampler = find(name).sampler
    whole = all(hasattr(sampler, part) for part in ("shapes", "state", "load"))
    return cast(type[TrainedSampler], sampler) if whole else None


def restored(name: str, state: Mapping[str, Tensor], options: SamplerOptions) -> Sampler:
    """Restore the trained sampler of method `name` from its stored state.

    Raises:
        UnknownNameError: if there is no such method.
        ArgumentError: if its sampler is not a trained one.
    """
    kind = trained(name)
    if kind is None:
        raise ArgumentError(f"method must have a sampler with shapes, state and load, got {name!r}")
    with settled():
        sampler = kind(options)
        sampler.load(state)
    return sampler


def enough(name: str, anchors: Anchors) -> bool:
    """Return whether there are enough anchors for the method's sampler."""
    method = find(name)
    kept = len(anchors.best(method.share)) if method.share < 1 else len(anchors)
    return kept >= int(getattr(method.sampler, "least", 1))


def register_sampler(name: str, sampler_class: type[Sampler], *, title: str, replace: bool = False) -> None:
    """Register a custom sampler as a method of every hyper-representation in this process.

    Two methods are added: `name`, and `name` + "30", which is fitted to the best 30 % of the anchors.

    Args:
        name: lower-case letters, digits and hyphens. It must not end in 30.
        sampler_class: class with `fit(anchors)` and `sample(count, generator)`, see `hyperinit.samplers.Sampler`. Its
            `space` is "latent" if it draws latents (count, L), and "weight" if it draws weight vectors (count, D).
        title: one-line description, for `hyperinit.methods`.
        replace: whether to replace an existing method with this name.

    Raises:
        ArgumentError: if the name is taken or malformed, or the class is not a sampler.

    >>> class Centre:
    ...     space = "latent"
    ...     def __init__(self, options): pass
    ...     def fit(self, anchors): self.mean = anchors.z.mean(0)
    ...     def sample(self, count, generator): return self.mean.expand(count, -1)
    >>> register_sampler("centre", Centre, title="the mean of the anchors")
    >>> [METHODS.pop(name).title for name in ("centre", "centre30")]
    ['the mean of the anchors', 'the mean of the anchors, fitted to the best 30 % of the zoo']
    """
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9-]+", name) or name.endswith("30"):
        raise ArgumentError(f"name must consist of a-z, 0-9 and - and not end in 30, got {name!r}")
    taken = [known for known in (name, name + "30") if known in METHODS]
    if taken and not replace:
        raise ArgumentError(f"name must be new, got {name!r}, but {taken[0]!r} exists; pass replace=True to replace it")
    missing = [part for part in ("fit", "sample") if not callable(getattr(sampler_class, part, None))]
    if not isinstance(sampler_class, type) or missing:
        lack = f" without {' and '.join(missing)}" if missing else ""
        raise ArgumentError(f"sampler_class must be a class with fit and sample, got {sampler_class!r}{lack}")
    space = getattr(sampler_class, "space", None)
    if space not in SPACES:
        raise ArgumentError(f"sampler_class.space must be {' or '.join(map(repr, SPACES))}, got {space!r}")
    METHODS[name] = Method(sampler_class, 1.0, title)
    METHODS[name + "30"] = Method(sampler_class, SHARE, title + _BEST)
