"""The public functions. Each is thin: a source becomes a hyper-representation, that draws, the draws are fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from hyperinit.batches import selection
from hyperinit.batches.calibration import Kept, calibrate_
from hyperinit.batches.loaders import Loader
from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.errors import ArgumentError
from hyperinit.fitting import Plan, apply_, make_plan
from hyperinit.fitting.apply import check_strength
from hyperinit.fitting.plan import AS_DECODED, Choice, Patterns
from hyperinit.hub import sources as hub_sources
from hyperinit.representation import HyperRepresentation

__all__ = ["calibrate_", "ensemble", "init_", "load", "methods", "plan", "sources"]
Source = str | Path | HyperRepresentation
DEFAULT_SOURCE = "svhn"
MIN_SHARE = 0.1


@torch.no_grad()
def init_(  # noqa: PLR0913 - one argument for each choice a user has; all but the first have defaults
    model: nn.Module,
    source: Source = DEFAULT_SOURCE,
    *,
    method: str | None = None,
    strength: float = 1.0,
    fit: str = "auto",
    fill: str = "default",
    include: Patterns = None,
    exclude: Patterns = None,
    skip_frozen: bool = False,
    min_share: float = MIN_SHARE,
    calibrate: Loader | None = None,
    select: Loader | None = None,
    oversample: int | None = None,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Overwrite the parameters of `model` in place with generated weights, and return it.

    Either every parameter is written as `plan` says or, if an error is raised, none is: nothing ever falls back to
    other weights. Parameters keep their identity, dtype, device and `requires_grad`; buffers are untouched, except
    that `calibrate` gives BatchNorms new running statistics. What happens with wrappers, parametrisations and each
    kind of layer is in docs/modules.md.

    Args:
        model: any module with conv or linear layers. Those like the source's get decoded weights, resized if need
            be; the others get PyTorch's default initialisation.
        source: a name from `sources()`, the path of an artifact, or a `HyperRepresentation`.
        method: how to draw, a name from `methods(source)`; None takes the source's measured recommendation.
        strength: s in [0, 1]; parameters become s * decoded + (1 - s) * default draw. Take 1 for the source's own
            task with little training, and 0.5 for another task or a full schedule, which keeps the network able to
            learn.
        fit: "auto", "exact", "flat" or "layerwise", see `hyperinit.plan`.
        fill: what the rest gets: "default", "keep" or "zoo", see `hyperinit.plan`.
        include: patterns of the names of parameters to write, such as "features.*"; None is all.
        exclude: patterns of those to leave as they are, such as "head.*".
        skip_frozen: leave parameters with `requires_grad=False` as they are.
        min_share: least share of the weights that must be decoded, of those not left out, 0 to 1.
        calibrate: batches to estimate BatchNorm statistics on, see `calibrate_`, equal ones on all processes. Norms
            behind layers decoded whole, from a source without any, begin as the identity: training keeps what they do.
        select: labelled batches (inputs (B, ...), class indices (B,), ...), such as a DataLoader of some hundred
            training images. `oversample` networks are drawn, each is written (and calibrated), and the one most
            accurate on these batches stays, the first of equals. The loaders are read once and kept in memory.
        oversample: how many; None takes 10.
        generator: the only source of randomness; None means torch's global generator, so that
            `torch.manual_seed` decides. A given generator leaves the global one alone.

    Raises:
        UnknownNameError: if there is no such source, method, fit or fill, or a pattern matches no parameter.
        ArtifactError: if the source's file is damaged, or holds no trained sampler of a method that needs one.
        PlanError: if less than `min_share` would be decoded, or the parameters cannot be written.
        LayoutError: if the fit is "exact" and the shapes are not.
        ArgumentError: if `strength` is not in [0, 1], a loader yields what it must not, the outputs are no logits
            (B, classes), or `oversample` comes without `select`.

    Source: selection: "subsampling" of Schürholt et al. 2024, arXiv:2406.09997.

    >>> from hyperinit import nets
    >>> model = init_(nets.cnn(), source="digits")
    >>> sum(p.numel() for p in model.parameters())
    2464
    """
    _check_module(model)
    check_strength(strength)
    _check_generator(generator)
    count = selection.candidates(calibrate, select, oversample)
    representation = load(source)
    choice: Choice = {
        "fit": fit, "fill": fill, "include": include, "exclude": exclude, "skip_frozen": skip_frozen,
    }  # fmt: skip
    steps = make_plan(model, representation.layout, **choice)
    steps.check(min_share)
    weights = representation.sample(count, method=method, generator=generator)
    stats = representation.layer_stats() if fill == "zoo" else None
    write = partial(apply_, model, steps, strength=strength, generator=generator, layer_stats=stats)
    if calibrate is None and select is None:
        return write(weights[0])
    best = partial(selection.write_best_, calibrate=calibrate, select=select, generator=generator)
    return best(model, write, weights, kept=Kept.of(steps))


@torch.no_grad()
def ensemble(  # noqa: PLR0913 - see init_
    n: int = 15,
    source: Source = DEFAULT_SOURCE,
    *,
    model: Callable[[], nn.Module] | None = None,
    method: str | None = None,
    strength: float = 1.0,
    fit: str = "auto",
    fill: str = "default",
    include: Patterns = None,
    exclude: Patterns = None,
    skip_frozen: bool = False,
    min_share: float = MIN_SHARE,
    combine: str = "probabilities",
    calibrate: Loader | None = None,
    select: Loader | None = None,
    oversample: int | None = None,
    generator: torch.Generator | None = None,
) -> Ensemble:
    """Return `n` diverse generated networks as one module that averages their predictions.

    Args:
        n: number of members, at least 1.
        source: as for `init_`.
        model: makes one member, for example a class; None takes the source's own architecture.
        method: as for `init_`.
        strength: as for `init_`.
        fit: as for `init_`.
        fill: as for `init_`.
        include: as for `init_`; only with `model`.
        exclude: as for `init_`; only with `model`.
        skip_frozen: as for `init_`.
        min_share: as for `init_`.
        combine: "probabilities" or "logits", see `Ensemble`.
        calibrate: as for `init_`; read once and kept in memory.
        select: as for `init_`; of n * `oversample` networks the n best stay, in the order in which they were drawn.
        oversample: as for `init_`.
        generator: as for `init_`.

    Raises:
        ArgumentError: if `n` is not a positive integer, or parameters are left out of the source's own network.
        Others as for `init_`.

    Source: Schürholt et al. 2022, arXiv:2209.14733, Figure 5.

    >>> ensemble(n=3, source="digits")(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    if type(n) is not int or n < 1:
        raise ArgumentError(f"n must be an integer of at least 1, got {n!r}")
    if isinstance(model, nn.Module):
        raise ArgumentError(f"model must make a member when called, such as a class, got a {type(model).__name__}")
    if model is None and not (include is None and exclude is None):
        raise ArgumentError("include and exclude need model=: without it members are the source's network, all decoded")
    check_strength(strength)
    _check_generator(generator)
    count = n * selection.candidates(calibrate, select, oversample)
    representation = load(source)
    weights = representation.sample(count, method=method, generator=generator)
    choice: Choice = {
        "fit": fit, "fill": fill, "include": include, "exclude": exclude, "skip_frozen": skip_frozen,
    }  # fmt: skip
    stats = representation.layer_stats() if fill == "zoo" else None

    def member(row: Tensor) -> tuple[nn.Module, Kept]:
        if model is None and strength == 1 and choice == AS_DECODED:
            return representation.build_model(row), Kept()
        with unmoved(generator):
            module = representation.build_model(row) if model is None else model()
        _check_module(module)
        steps = make_plan(module, representation.layout, **choice)
        steps.check(min_share)
        return apply_(module, steps, row, strength=strength, generator=generator, layer_stats=stats), Kept.of(steps)

    members = map(member, weights)
    chosen = selection.choose(members, n, calibrate=calibrate, select=select, generator=generator)
    return Ensemble(chosen, combine=combine)


def plan(  # noqa: PLR0913
    model: nn.Module,
    source: Source = DEFAULT_SOURCE,
    *,
    fit: str = "auto",
    fill: str = "default",
    include: Patterns = None,
    exclude: Patterns = None,
    skip_frozen: bool = False,
) -> Plan:
    """Say what `init_` would do to `model`, without doing it; `print(plan(...))` shows a table.

    Args:
        model: the module.
        source: as for `init_`.
        fit: "exact" needs the source's shapes in order; "layerwise" pairs conv and linear layers by kind, order and
            shape and resizes them; "flat" fills parameters in order from the vector (the paper's redistribution);
            "auto" is exact where it can be and layerwise elsewhere.
        fill: what the parameters get that no decoded weight reaches: "default" (PyTorch's own initialisation),
            "keep" (what is there) or "zoo" (normal with the source layer's mean and standard deviation).
        include: as for `init_`.
        exclude: as for `init_`; layers are paired as if they were not excluded.
        skip_frozen: as for `init_`.

    Raises:
        As `init_`.

    >>> from hyperinit import nets
    >>> plan(nets.cnn(), source="digits").fit
    'exact'
    """
    _check_module(model)
    return make_plan(
        model, load(source).layout, fit=fit, fill=fill, include=include, exclude=exclude, skip_frozen=skip_frozen
    )


def load(source: Source = DEFAULT_SOURCE, *, offline: bool | None = None) -> HyperRepresentation:
    """Load a hyper-representation; one that is already in memory, or given, is returned as it is.

    It is shared by all calls of the process: do not change its tensors.

    Args:
        source: a name from `sources()`, the path of an artifact, "https://...#sha256=HEX" or
            "hf://org/repo/path/file.safetensors@revision"; see docs/hub.md.
        offline: True forbids to open a socket, as HYPERINIT_OFFLINE=1 does; what is cached is found.

    Raises:
        UnknownNameError: if there is no such source.
        ArgumentError: if it is an address that cannot be trusted or read.
        DownloadError: if it must be fetched and cannot be.
        ArtifactError: if its file is damaged.

    >>> load("digits").layout.size
    2464
    """
    if isinstance(source, HyperRepresentation):
        return source
    if not isinstance(source, str | Path):
        raise ArgumentError(f"source must be a name, a path or a HyperRepresentation, got {source!r}")
    path = hub_sources.find(source, offline=offline).resolve()
    stat = path.stat()
    return _load(path, stat.st_mtime_ns, stat.st_size)


def sources() -> dict[str, str]:
    """Names of the embedded sources and of those that HYPERINIT_REGISTRY lists, with one line each.

    Raises:
        DownloadError: if HYPERINIT_REGISTRY is set and its index cannot be had.

    >>> "digits" in sources()
    True
    """
    return hub_sources.available()


def methods(source: Source = DEFAULT_SOURCE) -> dict[str, str]:
    """Names of the methods that a source can draw with, each with one line: what it does and the accuracy measured.

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
def _load(path: Path, modified: int, size: int) -> HyperRepresentation:
    """Read a file once for as long as neither its time nor its size changes."""
    hub_sources.verify(path)
    return HyperRepresentation.read(path)


@contextmanager
def unmoved(generator: torch.Generator | None) -> Iterator[None]:
    """Keep the global generator where it is while a member is made, if a generator was given."""
    if generator is None:
        yield
    else:
        with torch.random.fork_rng(devices=[]):
            yield
