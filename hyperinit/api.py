"""The public functions. Each is thin: it loads the source, samples weight vectors, and fits them into the module."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hyperinit.batches import selection
from hyperinit.batches.calibration import calibrate_
from hyperinit.batches.expected import watched
from hyperinit.batches.kept import Kept
from hyperinit.batches.loaders import Loader
from hyperinit.batches.transforms import Transform
from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.ensembles.file import COMBINE
from hyperinit.errors import ArgumentError, one_line, shown, unknown
from hyperinit.fitting import Plan
from hyperinit.fitting.options import DEFAULTS, Default, Patterns, check_min_share
from hyperinit.generators import check_generator, global_unmoved
from hyperinit.hub.given import AnySource
from hyperinit.hub.load import DEFAULT_SOURCE, Source, load, methods, sources
from hyperinit.request import Request
from hyperinit.request import request as asked

__all__ = ["calibrate_", "ensemble", "init_", "load", "methods", "plan", "sources", "transforms"]
LOG = logging.getLogger("hyperinit")  # silent unless the caller sets the level INFO
MIN_SHARE = 0.1
SOURCE: Any = Default(DEFAULT_SOURCE)  # as DEFAULTS: tells whether the argument was passed


@torch.no_grad()
def init_(  # noqa: PLR0913 - one argument for each choice a user has; all but the first have defaults
    model: nn.Module,
    source: AnySource = SOURCE,
    *,
    plan: Plan | None = None,
    method: str | None = DEFAULTS.method,
    strength: float | None = DEFAULTS.strength,
    fit: str = DEFAULTS.fit,
    fill: str = DEFAULTS.fill,
    include: Patterns = DEFAULTS.include,
    exclude: Patterns = DEFAULTS.exclude,
    skip_frozen: bool = DEFAULTS.skip_frozen,
    members: int | None = DEFAULTS.members,
    spread: bool = DEFAULTS.spread,
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
    parametrisations and each kind of layer. The logger "hyperinit" records what the plan says, at the level INFO.

    Args:
        model: any module with conv or linear layers. Layers like the source's get decoded weights, resized if their
            shapes differ. The others get PyTorch's default initialisation.
        source: a name from `sources()`, the path of an artifact, or a `HyperRepresentation`. Or trained networks of
            your own, which are taken as they are: a module, a state dict, the path of a checkpoint, or a list of them.
            The networks of a list must be of one kind, and are laid side by side.
        plan: from `hyperinit.plan(model, ...)`: exactly what it shows is done. It fixes the source and all options
            from `method` to `spread`, except a `strength` that it leaves open. Any of these that is passed as
            well must have the plan's value.
        method: the sampler, a name from `methods(source)`; None takes the one that the source recommends. Networks of
            your own are not sampled, so they take None alone.
        strength: s in [0, 1]; parameters become s * decoded + (1 - s) * default draw. None takes 1, which suits the
            source's own task with little training. Take 0.5 for another task or a long training, so that the network
            stays able to learn.
        fit: "auto", "exact", "flat" or "layerwise", see `hyperinit.plan`.
        fill: values for weights that are not decoded: "default", "keep" or "zoo", see `hyperinit.plan`.
        include: patterns of the names of parameters to write, such as "features.*"; None means all.
        exclude: patterns of the names of parameters to leave unchanged, such as "head.*".
        skip_frozen: leave parameters with `requires_grad=False` unchanged.
        members: number of generated networks that lie side by side in a wider module, which then computes the mean of
            their outputs. None takes as many as fit, at most 16. 1 takes one network, beside which the new neurons get
            their fill. docs/sizes.md shows the layout. Of your own networks, None takes all, and a number the first.
        spread: whether several networks come from as many families of the zoo as there are, in turn, so that they
            differ more. False draws each from all anchors. Without effect on one network.
        min_share: least share of the weights that the source must decide, 0 to 1: decoded weights and the zeros beside
            them. Parameters left out do not count.
        calibrate: batches to estimate BatchNorm statistics on, see `calibrate_`. All processes must pass equal ones.
            If the source has no norms, norms that read only outputs of layers decoded whole start as the identity, so
            that training starts with the outputs of those layers. Norms that are left out keep their statistics.
            In a narrower module, or one with smaller kernels, the layers are first corrected by least squares on up to
            1,024 inputs, so that they compute what the source's network computes there.
        select: labelled batches (inputs (B, ...), class indices (B,), ...), such as a DataLoader of a few hundred
            training images. `oversample` networks are sampled, and each is written (and calibrated). The one with the
            highest accuracy on these batches stays; of equals, the first. The loaders are read once, into memory.
        oversample: number of networks to select from; None takes 10.
        generator: the only source of randomness, on the CPU; torch's global one does not move. None means the global
            generator, so that `torch.manual_seed` decides.

    Raises:
        UnknownNameError: if there is no such source, method, fit or fill, or a pattern matches no parameter.
        ArtifactError: if the source's file is damaged, or lacks the trained sampler that the method needs.
        PlanError: if the source would decide less than `min_share`, fewer than `members` networks fit, the parameters
            cannot be written, or `plan` was made for a module whose parameters have other names or shapes.
        LayoutError: if the fit is "exact" and the shapes differ from the source's, or networks in a list differ.
        ZooError: if a checkpoint cannot be read.
        ArgumentError: if `strength` is not in [0, 1], `members` is no positive integer, an argument contradicts
            `plan`, a loader yields anything else, the model fails on a batch, the outputs are not logits (B, classes),
            or `oversample` is passed without `select`.

    Warns:
        MismatchWarning: if the module computes something else than the source's network; UnusableWarning: see the card.

    Source: selection is the "subsampling" of Schürholt et al. 2024, arXiv:2406.09997.

    >>> from hyperinit import nets
    >>> model = init_(nets.cnn(), source="digits")
    >>> sum(p.numel() for p in model.parameters())
    2464
    """
    _check_module(model)
    check_generator(generator)
    check_min_share(min_share)
    count = selection.candidates(calibrate, select, oversample)
    request = asked(
        plan, source, method=method, strength=strength, fit=fit, fill=fill,
        include=include, exclude=exclude, skip_frozen=skip_frozen, members=members, spread=spread,
    )  # fmt: skip
    steps = request.plan_for(model)
    steps.check(min_share)
    request.warn_of(steps, calibrated=calibrate is not None)
    LOG.info("init_ of %s from %s: %s", type(model).__name__, one_line(request.source.card.source), steps.summary)
    weights = request.sample(count, steps, generator)
    write = partial(request.write, model, steps, generator=generator)
    if calibrate is None and select is None:
        return write(weights[0])
    calibrate, select = watched(calibrate, select, request.source.card)
    best = partial(selection.write_best_, calibrate=calibrate, select=select, generator=generator)
    return best(model, write, weights, kept=request.kept(steps))


@torch.no_grad()
def ensemble(  # noqa: PLR0913 - see init_
    n: int = 15,
    source: AnySource = SOURCE,
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
    members: int | None = DEFAULTS.members,
    spread: bool = DEFAULTS.spread,
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
        source: as for `init_`. Networks of your own come in turn, one in each member.
        model: makes one member, for example a class; None takes the source's own architecture.
        plan: as for `init_`, for a module that `model` makes; every member is written as it says. Needs `model`.
        include, exclude: as for `init_`; only with `model`.
        method, strength, fit, fill, skip_frozen, min_share: as for `init_`.
        members: as for `init_`; each module gets networks of its own.
        spread: as for `init_`, for all networks of all members.
        combine: "probabilities" or "logits", see `Ensemble`.
        calibrate: as for `init_`; read once, into memory.
        select: as for `init_`; of n * `oversample` networks the n best stay, in the order in which they were sampled.
        oversample, generator: as for `init_`.

    Raises:
        ArgumentError: if `n` is not a positive integer, `model` is a module and not a factory, or `plan`, `include`
            or `exclude` is passed without `model`.
        UnknownNameError, ArtifactError, PlanError, LayoutError, ZooError: as for `init_`.

    Source: Schürholt et al. 2022, arXiv:2209.14733, Figure 5.

    >>> ensemble(n=3, source="digits")(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    if type(n) is not int or n < 1:
        raise ArgumentError(f"n must be an integer of at least 1, got {n!r}")
    if not isinstance(combine, str) or combine not in COMBINE:
        raise unknown("combine", combine, COMBINE)
    _check_factory(model)
    check_min_share(min_share)
    if model is None and plan is not None:
        raise ArgumentError("plan= needs model=, which makes the module that the plan is for")
    check_generator(generator)
    count = n * selection.candidates(calibrate, select, oversample)
    request = asked(
        plan, source, method=method, strength=strength, fit=fit, fill=fill,
        include=include, exclude=exclude, skip_frozen=skip_frozen, members=members, spread=spread,
    )  # fmt: skip
    if model is None and (request.options.include, request.options.exclude) != (None, None):
        raise ArgumentError("include and exclude need model=: without it all parameters of each member are decoded")
    if model is None and request.options.members not in (None, 1):
        got = shown(request.options.members)
        raise ArgumentError(f"members needs model=: the source's own network holds one network, got members={got}")
    calibrated = calibrate is not None
    calibrate, select = watched(calibrate, select, request.source.card)
    if model is None:
        rows = request.sample(count, None, generator, ensemble=count > 1)
        made: Iterator[tuple[nn.Module, Kept]] = (
            _written(request, request.source.build_model(row), row, min_share, generator) for row in rows
        )
    else:
        made = _members(request.one_by_one(), model, count, min_share, generator, calibrated=calibrated)
    chosen = selection.choose(made, n, calibrate=calibrate, select=select, generator=generator)
    return Ensemble(chosen, combine=combine)


def _written(
    request: Request, module: nn.Module, weights: Tensor, min_share: float, generator: torch.Generator | None
) -> tuple[nn.Module, Kept]:
    """Write one weight vector (D,) into a module that the source built with it; a no-op if all of it is decoded."""
    if request.whole:
        return module, Kept()
    steps = request.plan_for(module)
    steps.check(min_share)
    return request.write(module, steps, weights, generator=generator), request.kept(steps, weights)


def _members(  # noqa: PLR0913 - a request, how to make modules, and options
    request: Request,
    make: Callable[[], nn.Module],
    count: int,
    min_share: float,
    generator: torch.Generator | None,
    *,
    calibrated: bool,
) -> Iterator[tuple[nn.Module, Kept]]:
    """Make modules one by one and write generated weights into each. The first one's plan says how many weights."""
    weights: Tensor | None = None
    for index in range(count):
        with global_unmoved(generator):
            module = make()
        _check_module(module)
        steps = request.plan_for(module, compared=weights is None)
        steps.check(min_share)
        if weights is None:
            request.warn_of(steps, calibrated=calibrated)
            weights = request.sample(count, steps, generator, ensemble=count > 1)
        yield request.write(module, steps, weights[index], generator=generator), request.kept(steps, weights[index])


def plan(  # noqa: PLR0913 - see init_
    model: nn.Module,
    source: AnySource = SOURCE,
    *,
    method: str | None = DEFAULTS.method,
    strength: float | None = DEFAULTS.strength,
    fit: str = DEFAULTS.fit,
    fill: str = DEFAULTS.fill,
    include: Patterns = DEFAULTS.include,
    exclude: Patterns = DEFAULTS.exclude,
    skip_frozen: bool = DEFAULTS.skip_frozen,
    members: int | None = DEFAULTS.members,
    spread: bool = DEFAULTS.spread,
    example_input: Tensor | None = None,
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
        include, skip_frozen, members, spread: as for `init_`.
        example_input: a batch for the module. The plan then says how far the outputs of the module, written at full
            strength, are from the mean of the source's networks. Both run on the CPU; the module does not change.

    Raises:
        UnknownNameError, ArtifactError, PlanError, LayoutError, ZooError, ArgumentError: as for `init_`.

    >>> from hyperinit import nets
    >>> plan(nets.cnn(), source="digits").fit
    'exact'
    """
    _check_module(model)
    request = asked(
        None, source, method=method, strength=strength, fit=fit, fill=fill,
        include=include, exclude=exclude, skip_frozen=skip_frozen, members=members, spread=spread,
    )  # fmt: skip
    steps = request.plan_for(model)
    request.warn_of(steps)
    if example_input is None:
        return steps
    return replace(steps, notes=(*steps.notes, str(request.proof(model, steps, example_input))))


def transforms(source: Source = DEFAULT_SOURCE) -> Transform:
    """Return a callable that turns images into inputs of the source's networks. It needs no torchvision.

    It takes a PIL image, a uint8 array (H, W) or (H, W, channels), or a uint8 tensor (channels, H, W) or
    (B, channels, H, W), and returns a float32 tensor of one image (channels, size, size), or of a batch.

    Args:
        source: as for `init_`.

    Raises:
        ArgumentError: if the card of the source does not say how images are prepared.

    >>> transforms("digits")(torch.zeros(1, 8, 8, dtype=torch.uint8)).shape
    torch.Size([1, 28, 28])
    """
    return Transform.of(load(source).card)


def _check_factory(model: object) -> None:
    if model is None:
        return
    if isinstance(model, nn.Module) or not callable(model):
        raise ArgumentError(f"model must make a member when called, such as a class, got a {type(model).__name__}")
    try:
        inspect.signature(model).bind()
    except TypeError as error:
        raise ArgumentError(
            f"model must make a member when called without arguments, got {shown(model)}: {error}; pass a lambda or a "
            f"functools.partial"
        ) from None
    except ValueError:  # compiled code need not have a signature
        pass


def _check_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a module, got {type(model).__name__}")
