"""The public functions. Each is thin: it loads the source, samples weight vectors, and fits them into the module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.batches import selection
from hyperinit.batches.calibration import Kept, calibrate_
from hyperinit.batches.loaders import Loader
from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.errors import ArgumentError
from hyperinit.files.found import Found
from hyperinit.fitting import Options, Plan, apply_, make_plan
from hyperinit.fitting.apply import check_module
from hyperinit.fitting.options import DEFAULTS, Default, Patterns, passed
from hyperinit.generators import global_unmoved
from hyperinit.hub import sources as hub_sources
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import methods as sampling

__all__ = ["calibrate_", "ensemble", "init_", "load", "methods", "plan", "sources"]
Source = str | Path | HyperRepresentation
DEFAULT_SOURCE = "svhn"
MIN_SHARE = 0.1
SOURCE: Any = Default(DEFAULT_SOURCE)  # as DEFAULTS: tells whether the argument was passed


@torch.no_grad()
def init_(  # noqa: PLR0913 - one argument for each choice a user has; all but the first have defaults
    model: nn.Module,
    source: Source = SOURCE,
    *,
    plan: Plan | None = None,
    method: str | None = DEFAULTS.method,
    strength: float | None = DEFAULTS.strength,
    fit: str = DEFAULTS.fit,
    fill: str = DEFAULTS.fill,
    include: Patterns = DEFAULTS.include,
    exclude: Patterns = DEFAULTS.exclude,
    skip_frozen: bool = DEFAULTS.skip_frozen,
    min_share: float = MIN_SHARE,
    calibrate: Loader | None = None,
    select: Loader | None = None,
    oversample: int | None = None,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Overwrite the parameters of `model` in place with generated weights, and return it.

    Either every parameter is written as `plan` says or, if an error is raised, none is. Nothing falls back to other
    weights. Parameters keep their identity, dtype, device and `requires_grad`. Buffers are untouched, except that
    `calibrate` gives BatchNorms new running statistics. docs/modules.md says what happens with wrappers,
    parametrisations and each kind of layer.

    Args:
        model: any module with conv or linear layers. Layers like the source's get decoded weights, resized if their
            shapes differ. The others get PyTorch's default initialisation.
        source: a name from `sources()`, the path of an artifact, or a `HyperRepresentation`.
        plan: from `hyperinit.plan(model, ...)`: exactly what it shows is done. It fixes the source and all options
            from `method` to `skip_frozen`, except a `strength` that it leaves open. Any of these that is passed as
            well must have the plan's value.
        method: the sampler, a name from `methods(source)`; None takes the one that the source recommends.
        strength: s in [0, 1]; parameters become s * decoded + (1 - s) * default draw. None takes 1, which suits the
            source's own task with little training. Take 0.5 for another task or a long training, so that the network
            stays able to learn.
        fit: "auto", "exact", "flat" or "layerwise", see `hyperinit.plan`.
        fill: values for weights that are not decoded: "default", "keep" or "zoo", see `hyperinit.plan`.
        include: patterns of the names of parameters to write, such as "features.*"; None means all.
        exclude: patterns of the names of parameters to leave unchanged, such as "head.*".
        skip_frozen: leave parameters with `requires_grad=False` unchanged.
        min_share: least share of the weights that must be decoded, 0 to 1; parameters left out do not count.
        calibrate: batches to estimate BatchNorm statistics on, see `calibrate_`. All processes must pass equal ones.
            If the source has no norms, norms that follow layers decoded whole start as the identity, so that training
            starts with the outputs of those layers.
        select: labelled batches (inputs (B, ...), class indices (B,), ...), such as a DataLoader of a few hundred
            training images. `oversample` networks are sampled, and each is written (and calibrated). The one with the
            highest accuracy on these batches stays; of equals, the first. The loaders are read once, into memory.
        oversample: number of networks to select from; None takes 10.
        generator: the only source of randomness; torch's global generator does not move. None means the global
            generator, so that `torch.manual_seed` decides.

    Raises:
        UnknownNameError: if there is no such source, method, fit or fill, or a pattern matches no parameter.
        ArtifactError: if the source's file is damaged, or lacks the trained sampler that the method needs.
        PlanError: if less than `min_share` would be decoded, the parameters cannot be written, or `plan` was made for
            a module whose parameters have other names or shapes.
        LayoutError: if the fit is "exact" and the shapes differ from the source's.
        ArgumentError: if `strength` is not in [0, 1], an argument contradicts `plan`, a loader yields anything else,
            the outputs are not logits (B, classes), or `oversample` is passed without `select`.

    Source: selection is the "subsampling" of Schürholt et al. 2024, arXiv:2406.09997.

    >>> from hyperinit import nets
    >>> model = init_(nets.cnn(), source="digits")
    >>> sum(p.numel() for p in model.parameters())
    2464
    """
    _check_module(model)
    _check_generator(generator)
    count = selection.candidates(calibrate, select, oversample)
    request = _request(
        plan, source, method=method, strength=strength, fit=fit, fill=fill,
        include=include, exclude=exclude, skip_frozen=skip_frozen,
    )  # fmt: skip
    steps = request.plan_for(model)
    steps.check(min_share)
    weights = request.sample(count, generator)
    write = partial(request.write, model, steps, generator=generator)
    if calibrate is None and select is None:
        return write(weights[0])
    best = partial(selection.write_best_, calibrate=calibrate, select=select, generator=generator)
    return best(model, write, weights, kept=Kept.of(steps))


@torch.no_grad()
def ensemble(  # noqa: PLR0913 - see init_
    n: int = 15,
    source: Source = SOURCE,
    *,
    model: Callable[[], nn.Module] | None = None,
    plan: Plan | None = None,
    method: str | None = DEFAULTS.method,
    strength: float | None = DEFAULTS.strength,
    fit: str = DEFAULTS.fit,
    fill: str = DEFAULTS.fill,
    include: Patterns = DEFAULTS.include,
    exclude: Patterns = DEFAULTS.exclude,
    skip_frozen: bool = DEFAULTS.skip_frozen,
    min_share: float = MIN_SHARE,
    combine: str = "probabilities",
    calibrate: Loader | None = None,
    select: Loader | None = None,
    oversample: int | None = None,
    generator: torch.Generator | None = None,
) -> Ensemble:
    """Return `n` different generated networks as one module that averages their predictions.

    Args:
        n: number of members, at least 1.
        source: as for `init_`.
        model: makes one member, for example a class; None takes the source's own architecture.
        plan: as for `init_`, for a module that `model` makes; every member is written as it says. Needs `model`.
        include, exclude: as for `init_`; only with `model`.
        method, strength, fit, fill, skip_frozen, min_share: as for `init_`.
        combine: "probabilities" or "logits", see `Ensemble`.
        calibrate: as for `init_`; read once, into memory.
        select: as for `init_`; of n * `oversample` networks the n best stay, in the order in which they were sampled.
        oversample, generator: as for `init_`.

    Raises:
        ArgumentError: if `n` is not a positive integer, `model` is a module and not a factory, or `plan`, `include`
            or `exclude` is passed without `model`.
        UnknownNameError, ArtifactError, PlanError, LayoutError: as for `init_`.

    Source: Schürholt et al. 2022, arXiv:2209.14733, Figure 5.

    >>> ensemble(n=3, source="digits")(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    if type(n) is not int or n < 1:
        raise ArgumentError(f"n must be an integer of at least 1, got {n!r}")
    if isinstance(model, nn.Module):
        raise ArgumentError(f"model must make a member when called, such as a class, got a {type(model).__name__}")
    if model is None and plan is not None:
        raise ArgumentError("plan= needs model=, which makes the module that the plan is for")
    _check_generator(generator)
    count = n * selection.candidates(calibrate, select, oversample)
    request = _request(
        plan, source, method=method, strength=strength, fit=fit, fill=fill,
        include=include, exclude=exclude, skip_frozen=skip_frozen,
    )  # fmt: skip
    if model is None and (request.options.include, request.options.exclude) != (None, None):
        raise ArgumentError("include and exclude need model=: without it all parameters of each member are decoded")
    weights = request.sample(count, generator)

    def member(row: Tensor) -> tuple[nn.Module, Kept]:
        if model is None and request.whole:
            return request.source.build_model(row), Kept()
        with global_unmoved(generator):
            module = request.source.build_model(row) if model is None else model()
        _check_module(module)
        steps = request.plan_for(module)
        steps.check(min_share)
        return request.write(module, steps, row, generator=generator), Kept.of(steps)

    members = map(member, weights)
    chosen = selection.choose(members, n, calibrate=calibrate, select=select, generator=generator)
    return Ensemble(chosen, combine=combine)


def plan(  # noqa: PLR0913 - see init_
    model: nn.Module,
    source: Source = SOURCE,
    *,
    method: str | None = DEFAULTS.method,
    strength: float | None = DEFAULTS.strength,
    fit: str = DEFAULTS.fit,
    fill: str = DEFAULTS.fill,
    include: Patterns = DEFAULTS.include,
    exclude: Patterns = DEFAULTS.exclude,
    skip_frozen: bool = DEFAULTS.skip_frozen,
) -> Plan:
    """Return what `init_` would do to `model`, without doing it; `print(plan(...))` shows a table.

    `init_(model, plan=...)` then does exactly that.

    Args:
        model: the module.
        source: as for `init_`.
        method: as for `init_`.
        strength: as for `init_`; None leaves the choice to `init_(model, plan=..., strength=...)`.
        fit: "exact" needs the source's shapes in order; "layerwise" pairs conv and linear layers by kind, order and
            shape and resizes them; "flat" fills parameters in order from the weight vector (the paper's
            redistribution); "auto" is "exact" if the shapes allow it, and else "layerwise".
        fill: values for weights that no decoded weight reaches: "default" (PyTorch's own initialisation), "keep"
            (the present values) or "zoo" (a normal draw with the source layer's mean and standard deviation).
        exclude: as for `init_`; layers are paired as if none were excluded.
        include, skip_frozen: as for `init_`.

    Raises:
        UnknownNameError, ArtifactError, PlanError, LayoutError, ArgumentError: as for `init_`.

    >>> from hyperinit import nets
    >>> plan(nets.cnn(), source="digits").fit
    'exact'
    """
    _check_module(model)
    request = _request(
        None, source, method=method, strength=strength, fit=fit, fill=fill,
        include=include, exclude=exclude, skip_frozen=skip_frozen,
    )  # fmt: skip
    return request.plan_for(model)


@dataclass(frozen=True)
class _Request:
    """What a call of `init_`, `ensemble` or `plan` asks for. All three make it by `_request`, so they cannot differ.

    Args:
        source: loaded.
        options: checked; the method is named.
        plan: the one that the caller passed, or None.
    """

    source: HyperRepresentation
    options: Options
    plan: Plan | None

    @property
    def strength(self) -> float:
        """The share of the decoded weights, 0 to 1."""
        return 1.0 if self.options.strength is None else self.options.strength

    @cached_property
    def stats(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each source layer's weights, for fill="zoo"; empty for other fills."""
        return self.source.layer_stats() if self.options.fill == "zoo" else {}

    @property
    def whole(self) -> bool:
        """Whether the source's own network holds the decoded weights alone, so that no plan is needed."""
        return self.strength == 1 and replace(self.options, method=None, strength=None) == Options()

    def plan_for(self, module: nn.Module) -> Plan:
        """Make the plan for a module, or check that the caller's plan is one for it."""
        if self.plan is None:
            return replace(make_plan(module, self.source.layout, self.options), source=self.source)
        check_module(module, self.plan)
        return self.plan

    def sample(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Sample weight vectors, (count, D)."""
        return self.source.sample(count, method=self.options.method, generator=generator)

    def write(self, module: nn.Module, steps: Plan, weights: Tensor, *, generator: torch.Generator | None) -> nn.Module:
        """Write one weight vector (D,) into a module as a plan says."""
        return apply_(module, steps, weights, strength=self.strength, generator=generator, layer_stats=self.stats)


def _request(plan: Plan | None, source: Source, **options: Any) -> _Request:
    """Take source and options from the caller's plan, or from the arguments; refuse arguments that contradict the plan.

    Arguments that were not passed are a `Default`.
    """
    given = passed(**options)
    if plan is None:
        chosen = Options(**given)  # before the source is loaded, which may download it
        loaded = load(source.value if isinstance(source, Default) else source)
    else:
        loaded = _source_of(plan)
        if not isinstance(source, Default) and load(source) is not loaded:
            got = f"source={source!r}" if isinstance(source, str | Path) else "another source"
            raise ArgumentError(
                f"plan= fixes its source ({loaded.card.source!r}), got {got}; leave it out or make a new plan"
            )
        if given.get("method", "") is None:
            given["method"] = loaded.card.recommended
        chosen = plan.options.agreeing(given)
    if chosen.method is None:
        return _Request(loaded, replace(chosen, method=loaded.card.recommended), plan)
    sampling.find(chosen.method)  # raises if there is no such method
    return _Request(loaded, chosen, plan)


def _source_of(plan: Plan) -> HyperRepresentation:
    if not isinstance(plan, Plan):
        raise ArgumentError(f"plan must be a Plan from hyperinit.plan, got {type(plan).__name__}")
    if not isinstance(plan.source, HyperRepresentation):
        raise ArgumentError("plan must be a Plan from hyperinit.plan, got one without a source")
    return plan.source


def load(source: Source = DEFAULT_SOURCE, *, offline: bool | None = None) -> HyperRepresentation:
    """Load a hyper-representation.

    A file is read once in a process, and all calls share the result, so do not change its tensors. A
    `HyperRepresentation` is returned unchanged.

    Args:
        source: a name from `sources()`, the path of an artifact, "https://...#sha256=HEX" or
            "hf://org/repo/path/file.safetensors@revision"; see docs/hub.md.
        offline: True forbids downloads, as HYPERINIT_OFFLINE=1 does; embedded and cached files are found. None asks
            HYPERINIT_OFFLINE.

    Raises:
        UnknownNameError: if there is no such source.
        ArgumentError: if the source is of another type, or an address that is malformed or lacks a digest.
        DownloadError: if the file is not on this machine and cannot be downloaded.
        ArtifactError: if its file is missing or damaged.

    >>> load("digits").layout.size
    2464
    """
    if isinstance(source, HyperRepresentation):
        return source
    if not isinstance(source, str | Path):
        raise ArgumentError(f"source must be a name, a path or a HyperRepresentation, got {source!r}")
    found = hub_sources.find(source, offline=offline)
    found = replace(found, path=found.path.resolve())
    stat = found.path.stat()
    return _load(found, stat.st_mtime_ns, stat.st_size)


def sources() -> dict[str, str]:
    """Return the embedded sources and those that HYPERINIT_REGISTRY lists: one line of description by name.

    Raises:
        DownloadError: if HYPERINIT_REGISTRY is set and its index cannot be downloaded.

    >>> "digits" in sources()
    True
    """
    return hub_sources.available()


def methods(source: Source = DEFAULT_SOURCE) -> dict[str, str]:
    """Return the methods by which a source can sample: one line by name, with the measured accuracy.

    Args:
        source: as for `init_`.

    Raises:
        As `load`.

    >>> "kde30" in methods("digits")
    True
    """
    return load(source).methods()


def _check_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a module, got {type(model).__name__}")


def _check_generator(generator: object) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ArgumentError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")


@lru_cache(maxsize=8)
def _load(found: Found, modified: int, size: int) -> HyperRepresentation:
    """Read a file; the cache returns the same object until the file's time of change or size is another."""
    return HyperRepresentation.read(found)
