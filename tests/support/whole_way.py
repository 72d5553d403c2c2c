"""Use a file that was read in every way: print, encode, decode, sample, plan, fit, build and save."""

import math

import torch
from torch import nn

import hyperinit
from hyperinit.errors import HyperinitError, LayoutError, printable
from hyperinit.samplers import METHODS

MOST_SHOWN = 200  # characters of a failure


class Targets:
    """Modules to fit into: equal to the seed's network, wider with norms, and of other kinds."""

    @staticmethod
    def same():
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3))

    @staticmethod
    def wider():
        return nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 1, bias=False), nn.Flatten(),
            nn.Linear(36, 7), nn.LayerNorm(7), nn.Linear(7, 2),
        )  # fmt: skip

    @staticmethod
    def other():
        return nn.Sequential(nn.Conv1d(1, 2, 3), nn.GroupNorm(1, 2), nn.Conv3d(1, 1, 1), nn.Linear(2, 1))


class Way:
    """The ways one file is used. A HyperinitError is a refusal; every other error ends the process's test."""

    def __init__(self, hr):
        self.hr, self.refusals = hr, []

    def attempt(self, name, call, *arguments, **options):
        """Return the result of a call, or None if it was refused."""
        try:
            return call(*arguments, **options)
        except HyperinitError as error:
            text = str(error)
            assert text, name
            assert text == printable(text), name
            if not isinstance(error, LayoutError):  # a module or a file does not suit a use; nothing is damaged
                self.refusals.append(f"{name}: {text[:MOST_SHOWN]}")
            return None
        except BaseException as error:
            error.add_note(f"while: {name}")
            raise

    def codes(self):
        latents = self.attempt("encode", self.hr.encode, self.hr.anchors.weights[:3])
        for name, z in (("decode", latents), ("decode anchors", self.hr.anchors.z[:3])):
            weights = None if z is None else self.attempt(name, self.hr.decode, z)
            assert z is None or bool(z.isfinite().all()), name
            assert weights is None or bool(weights.isfinite().all()), name
        stats = self.attempt("layer_stats", self.hr.layer_stats)
        assert stats is None or all(math.isfinite(value) for pair in stats.values() for value in pair), "layer_stats"

    def draws(self, *, neigh):
        """Draw by every method, whether the file offers it or not. UMAP takes seconds, so it is a choice."""
        offered = self.hr.methods()
        for method in METHODS:
            if method.startswith("neigh") and not neigh:
                continue
            generator = torch.Generator().manual_seed(0)
            weights = self.attempt(f"sample {method}", self.hr.sample, 2, method=method, generator=generator)
            assert weights is None or (weights.shape == (2, self.hr.layout.size) and bool(weights.isfinite().all()))
            assert weights is None or method in offered, method
            if weights is not None and self.hr.header.architecture is not None:
                self.hr.build_model(weights[0])

    def fits(self):
        for make in (Targets.same, Targets.wider, Targets.other):
            for options in ({}, {"fit": "flat"}, {"fit": "layerwise", "fill": "zoo"}, {"fit": "exact"}):
                self.fit(make(), f"into {make.__name__} {' '.join(options.values())}".strip(), options)

    def fit(self, module, name, options):
        plan = self.attempt(f"plan {name}", hyperinit.plan, module, self.hr, **options)
        if plan is None:
            return
        text = str(plan)
        assert text == printable(text), name
        options = {**options, "min_share": 0, "generator": torch.Generator().manual_seed(0)}
        if self.hr.card.recommended.startswith("neigh"):
            options["method"] = "kde"
        self.attempt(f"init_ {name}", hyperinit.init_, module, self.hr, **options)
        assert all(value.isfinite().all() for value in module.state_dict().values()), name


def use_artifact(hr, path, *, neigh=False):
    """Use an artifact in every way; return what was refused."""
    way, text = Way(hr), str(hr.card)
    assert text == printable(text)
    text.encode()
    assert hr.methods()
    way.codes()
    way.draws(neigh=neigh)
    way.fits()
    if not hr.card.recommended.startswith("neigh"):
        way.attempt("ensemble", hyperinit.ensemble, 2, hr, generator=torch.Generator().manual_seed(0))
    way.attempt("save", hr.save, path)
    return way.refusals


def use_once(hr, path):
    """Print an artifact, draw from it by the methods that compare all anchors, and fit it once."""
    way = Way(hr)
    assert str(hr.card) == printable(hr.card)
    generator = torch.Generator().manual_seed(0)
    for method in ("kde", "local", "average"):
        way.attempt(f"sample {method}", hr.sample, 1, method=method, generator=generator)
    way.fit(Targets.wider(), "into wider", {})
    return way.refusals


def use_ensemble(ensemble, path):
    """Print, check and save an ensemble; return what was refused."""
    way, text = Way(None), repr(ensemble)
    assert text == printable(text)
    assert all(value.isfinite().all() for value in ensemble.parameters())
    way.attempt("save", ensemble.save, path)
    return way.refusals
