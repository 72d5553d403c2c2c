"""Make a plan: which parameter gets which decoded tensor, and how."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import zip_longest

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, LayoutError, PlanError, UnknownNameError
from hyperinit.fitting.fill import FILLS, nearest_sources, rest_of
from hyperinit.fitting.match import align, match_norms, match_runs, match_tensors, module_layers, source_layers, targets
from hyperinit.fitting.plan import KEPT, Patterns, Plan, Row
from hyperinit.fitting.resize import Block
from hyperinit.layout import Layout
from hyperinit.modules.wrappers import join, parametrised, plain, unwrapped
from hyperinit.modules.write import check_writable

FITS = ("auto", "exact", "flat", "layerwise")


def make_plan(  # noqa: PLR0913
    module: nn.Module,
    layout: Layout,
    *,
    fit: str = "auto",
    fill: str = "default",
    include: Patterns = None,
    exclude: Patterns = None,
    skip_frozen: bool = False,
) -> Plan:
    """Decide which decoded tensor goes where; nothing is written and nothing is drawn.

    Args:
        module: any network; wrappers and parametrisations are looked through, see `hyperinit.modules.wrappers`.
        layout: of the source's network.
        fit: "exact" needs the source's shapes in the source's order, under any names; "flat" fills the parameters
            in order from the vector, except those of norms, and cuts off what is left; "layerwise" pairs conv and
            linear layers by kind, order and shape and resizes them; "auto" is exact where it can be and layerwise
            elsewhere.
        fill: "default" is the default initialisation of each module's own type, "keep" leaves what is there, "zoo"
            draws from a normal with the mean and standard deviation of the source layer. A parameter whose module
            has no `reset_parameters` is left as it is, and so is a parametrised one that no decoded weight reaches.
        include: patterns of the names of parameters to write, as the shell's (`features.*`); None is all.
        exclude: patterns of those to leave as they are; layers are paired as if they were not excluded.
        skip_frozen: leave parameters with `requires_grad=False` as they are.

    Raises:
        UnknownNameError: for another fit or fill, or a pattern that no parameter matches.
        LayoutError: if the fit is exact and the shapes are not.
        PlanError: if there is nothing to decode into, or parameters are not materialised.

    Source: the flat fit is the one of Schürholt et al. 2022, arXiv:2209.14733, Table 4.

    >>> source = Layout.of(nn.Linear(2, 2))
    >>> make_plan(nn.Sequential(nn.Linear(3, 2, bias=False), nn.LayerNorm(2)), source).decoded_share
    0.4
    """
    for what, name, names in (("fit", fit, FITS), ("fill", fill, FILLS)):
        if name not in names:
            near = get_close_matches(str(name), names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(names)}"
            raise UnknownNameError(f"unknown {what} {name!r}; {hint}")
    module = unwrapped(module)
    fixed, module = parametrised(module), plain(module)
    parameters = targets(module, layout)
    check_writable(parameters)
    left = left_out(parameters, include, exclude, skip_frozen=skip_frozen)
    if fit in ("auto", "exact"):
        problems = _differences(parameters, layout)
        if problems and fit == "exact":
            raise LayoutError(
                f"fit='exact' needs the source's {len(layout.tensors)} tensors in order; got {'; '.join(problems[:8])}"
                f"{f'; and {len(problems) - 8} more' * (len(problems) > 8)}. Pass fit='layerwise' to resize"
            )
        fit = "layerwise" if problems else "exact"
    layers = module_layers(module)
    if not layers:
        raise PlanError(
            f"the module must hold a conv or linear layer to decode into, got {type(module).__name__} with none; "
            f"pass the part of your network that does"
        )
    pairs = [] if fit == "exact" else align(source_layers(layout), layers)
    if fit == "layerwise":
        blocks = match_tensors(layout, layers, pairs) | match_norms(layout, module)
    else:
        norms = _norm_parameters(module) if fit == "flat" else set()
        blocks = match_runs({name: value for name, value in parameters.items() if name not in norms}, layout)
    stats = nearest_sources(layout, layers, pairs) if fill == "zoo" else {}
    rows = []
    for name, value in parameters.items():
        shape = tuple(value.shape)
        if name in left:
            rows.append(Row(name, shape, left[name], None, 0, KEPT))
            continue
        rest = rest_of(module.get_submodule(name.rpartition(".")[0]), value, fill, stats.get(name))
        rows.append(_row(name, shape, fit, blocks.get(name), KEPT if name in fixed and name not in blocks else rest))
    return Plan(fit, tuple(rows), fill, layout)


def _differences(parameters: Mapping[str, Tensor], layout: Layout) -> list[str]:
    """Say where the parameters' shapes leave the source's, one entry per place in the order."""
    ours = [(name, tuple(value.shape)) for name, value in parameters.items() if value.is_floating_point()]
    theirs = [(tensor.name, tensor.shape) for tensor in layout.tensors]
    places = zip_longest(ours, theirs, fillvalue=("nothing", None))
    return [f"{a} {x or ''} for {b} {y or ''}".replace("  ", " ").strip() for (a, x), (b, y) in places if x != y]


def _norm_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters of norms: decoded weights would be nonsense as their scales."""
    kinds = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    parts = [(name, part) for name, part in module.named_modules() if isinstance(part, kinds)]
    return {f"{name}.{key}".lstrip(".") for name, part in parts for key in (*part._parameters, *part._buffers)}


def _row(name: str, shape: tuple[int, ...], fit: str, found: tuple[str, Block] | None, rest: str) -> Row:
    if found is None:
        return Row(name, shape, "untouched" if rest == KEPT else "filled", None, 0, rest)
    source, block = found
    size = math.prod(shape)
    _, mask = block.decode(torch.zeros(block.start + math.prod(block.shape), device="cpu"), shape)
    overlap = size if mask is None else int(mask.sum())
    whole = block.inputs is None and block.shape == shape
    origin = fit if fit != "layerwise" else "exact" if whole else "resized"
    zeros = 0
    if mask is not None and block.silences and rest != KEPT:
        zeros = int(mask.flatten(1).any(1).sum()) * (size // shape[0]) - overlap
    return Row(name, shape, origin, source, overlap, "" if overlap == size else rest, block, zeros)


def left_out(
    parameters: Mapping[str, Tensor], include: Patterns, exclude: Patterns, *, skip_frozen: bool
) -> dict[str, str]:
    """Say which parameters a plan must leave as they are, and why: "excluded" or "frozen".

    Raises:
        ArgumentError: if a pattern is no string.
        UnknownNameError: if one matches no parameter; it names the nearest ones.
        PlanError: if none would be left to write.

    >>> left_out(dict(nn.Linear(2, 1).named_parameters()), None, "b*", skip_frozen=False)
    {'bias': 'excluded'}
    """
    chosen = set(parameters) if include is None else _matching(parameters, include, "include")
    chosen -= set() if exclude is None else _matching(parameters, exclude, "exclude")
    found = {name: "excluded" for name in parameters if name not in chosen}
    if skip_frozen:
        found |= {name: "frozen" for name in chosen if not _trains(parameters, name)}
    if len(found) == len(parameters):
        raise PlanError(
            f"at least one parameter must be written, got {len(found)} that are all excluded or frozen: change "
            f"include={include!r}, exclude={exclude!r} or skip_frozen={skip_frozen}"
        )
    return found


def _trains(parameters: Mapping[str, Tensor], name: str) -> bool:
    """Whether a parameter trains; a running statistic does as the weight of its norm does."""
    if isinstance(parameters[name], nn.Parameter):
        return parameters[name].requires_grad
    weight = parameters.get(join(name.rpartition(".")[0], "weight"))
    return weight is None or weight.requires_grad


def _matching(parameters: Mapping[str, Tensor], patterns: str | Iterable[str], what: str) -> set[str]:
    found: set[str] = set()
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        if not isinstance(pattern, str):
            raise ArgumentError(f"{what} must be a pattern or several, got {pattern!r} among them")
        names = fnmatch.filter(parameters, pattern)
        if not names:
            near = get_close_matches(pattern, parameters, n=3, cutoff=0.3) or list(parameters)[:8]
            raise UnknownNameError(f"{what} must match a parameter, got {pattern!r}; near it are {', '.join(near)}")
        found |= set(names)
    return found
