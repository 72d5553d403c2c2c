"""Make a plan: pair the parameters of a module with the tensors of a source."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hyperinit.errors import LayoutError, PlanError, UnknownNameError, did_you_mean, listed, shown
from hyperinit.fitting import depth, flow
from hyperinit.fitting.fill import nearest_sources, rest_of
from hyperinit.fitting.match import (
    match_norms,
    match_runs,
    match_tensors,
    module_layers,
    side_by_side,
    source_layers,
    targets,
)
from hyperinit.fitting.narrow import narrowed
from hyperinit.fitting.options import Options
from hyperinit.fitting.pairing import Layer, pair
from hyperinit.fitting.plan import KEPT, Plan, Rest, Row
from hyperinit.fitting.resize import Block
from hyperinit.generators import settled
from hyperinit.layout import Layout
from hyperinit.layout.layers import fits
from hyperinit.modules.state import is_dense
from hyperinit.modules.wrappers import join, parametrised, plain, unwrapped
from hyperinit.modules.write import check_dense, check_writable, shape_of

MOST_PROBLEMS = 8  # that one message lists


@settled()
def make_plan(module: nn.Module, layout: Layout, options: Options | None = None, **choice: Any) -> Plan:
    """Decide which decoded tensor goes into which parameter; nothing is written and nothing is drawn.

    Args:
        module: any network; names are those that it has without wrappers and parametrisations, see
            `hyperinit.modules.wrappers`.
        layout: of the source's network.
        options: None takes the defaults of `Options`.
        **choice: options by name, in place of those in `options`.
            fit: "exact" needs the source's shapes in the source's order, under any names; "flat" fills the parameters
            in order from the weight vector, except those of norms, and drops the surplus; "layerwise" pairs conv and
            linear layers by kind, order and shape and resizes them; "auto" is "exact" if the shapes allow it, and
            else "layerwise".
            fill: "default" takes the default initialisation of each module's own type, "keep" the present values, and
            "zoo" a normal draw with the mean and standard deviation of the source layer. A parameter keeps its values
            if its module has no `reset_parameters`, or if it is parametrised and no decoded weight reaches it.
            include: shell-style patterns of the names of parameters to write, such as `features.*`; None means all.
            exclude: patterns of the names of parameters to leave unchanged; layers are paired as if none were excluded.
            skip_frozen: whether to leave parameters with `requires_grad=False` unchanged.
            members: number of networks side by side in a wider module; None takes as many as fit.

    Raises:
        UnknownNameError: for another fit or fill, or a pattern that no parameter matches.
        ArgumentError: if a pattern is not a string.
        LayoutError: if the fit is "exact" and the shapes differ from the source's.
        PlanError: if the module has no layer to decode into, its parameters cannot be written, or more members are
            asked for than fit.

    Source: the flat fit is the one of Schürholt et al. 2022, arXiv:2209.14733, Table 4.

    >>> source = Layout.of(nn.Linear(2, 2))
    >>> make_plan(nn.Sequential(nn.Linear(3, 2, bias=False), nn.LayerNorm(2)), source).decoded_share
    0.4
    """
    options = replace(options or Options(), **choice)
    module = unwrapped(module)
    fixed, module = parametrised(module), plain(module)
    parameters = targets(module, layout)
    left = left_out(parameters, options)
    check_writable(parameters, {*left, *(name for name, value in parameters.items() if not is_dense(value))})
    fit = _fit(parameters, layout, options.fit, _misfits(module))
    layers = module_layers(module)
    if not layers:
        raise PlanError(
            f"the module must hold a conv or linear layer to decode into, got {type(module).__name__} with none; "
            f"pass the part of your network that does"
        )
    pairs = [] if fit == "exact" else pair(source_layers(layout), layers)
    members = _members(fit, module, layout, pairs, options.members)
    blocks = _blocks(fit, module, layout, layers, pairs, members)
    passing = _passing(fit, options, module, pairs, blocks, layers, len(source_layers(layout)))
    stats = nearest_sources(layout, layers, pairs) if options.fill == "zoo" else {}
    rows = []
    for name, value in parameters.items():
        shape = shape_of(value)
        if name in left:
            rows.append(Row(name, shape, left[name], None, 0, KEPT))
            continue
        rest = rest_of(module.get_submodule(name.rpartition(".")[0]), value, options.fill, stats.get(name))
        # a parametrisation may change a default draw, and `write` would then refuse the module
        if name in passing and name not in fixed:
            rows.append(_passing_row(name, shape, passing[name], rest))
            continue
        rows.append(_row(name, shape, fit, blocks.get(name), KEPT if name in fixed and name not in blocks else rest))
    check_dense({row.name: parameters[row.name] for row in rows if row.block is not None or row.rest != KEPT})
    # several networks lie side by side only in a module that is wider everywhere
    found = [(blocks[name][0], shape_of(value)) for name, value in parameters.items() if name in blocks]
    lost = narrowed(layout, found) if fit == "layerwise" and members == 1 else ()
    return Plan(fit, tuple(rows), layout, options, members, lost)


def _members(fit: str, module: nn.Module, layout: Layout, pairs: Sequence[tuple[int, int]], asked: int | None) -> int:
    """Return the number of networks side by side, and refuse more than fit."""
    most = side_by_side(layout, module, pairs) if fit == "layerwise" else 1
    if asked is not None and asked > most:
        beside = "" if fit == "layerwise" else f" with fit {fit}"
        raise PlanError(f"at most {most} networks of the source fit side by side{beside}, got members={shown(asked)}")
    return most if asked is None else asked


def _fit(parameters: Mapping[str, Tensor], layout: Layout, fit: str, odd: Collection[str]) -> str:
    """Resolve "auto", and refuse "exact" for shapes that differ."""
    if fit not in ("auto", "exact"):
        return fit
    problems = _differences(parameters, layout)
    problems += [f"{name}, whose layer announces another shape" for name in parameters if name in odd]
    if problems and fit == "exact":
        more = f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        raise LayoutError(
            f"fit='exact' needs the source's {len(layout.tensors)} tensors in order; "
            f"got {'; '.join(problems[:MOST_PROBLEMS])}{more}. Pass fit='layerwise' to resize"
        )
    return "layerwise" if problems else "exact"


def _differences(parameters: Mapping[str, Tensor], layout: Layout) -> list[str]:
    """Describe where the parameters' shapes differ from the source's, one entry for each place in the order."""
    ours = [
        (name, shape_of(value)) for name, value in parameters.items() if is_lazy(value) or value.is_floating_point()
    ]
    theirs = [(tensor.name, tensor.shape) for tensor in layout.tensors]
    places = zip_longest(ours, theirs, fillvalue=("nothing", None))
    return [f"{a} {x or ''} for {b} {y or ''}".replace("  ", " ").strip() for (a, x), (b, y) in places if x != y]


def _blocks(  # noqa: PLR0913 - the module and its parts
    fit: str, module: nn.Module, layout: Layout, layers: Sequence[Layer], pairs: Sequence[tuple[int, int]], members: int
) -> dict[str, tuple[str, Block]]:
    """Return the source tensor and the block for each parameter that decoded weights reach."""
    if fit == "layerwise":
        return match_tensors(layout, layers, pairs, members) | match_norms(layout, module, members)
    left = _misfits(module) | (_norm_parameters(module) if fit == "flat" else set())
    return match_runs({name: value for name, value in targets(module, layout).items() if name not in left}, layout)


def _misfits(module: nn.Module) -> set[str]:
    """Return the names of all tensors of layers whose shapes are not those that they announce, such as packed ones."""
    odd = [(name, part) for name, part in module.named_modules() if not fits(part)]
    return {join(name, key) for name, part in odd for key in (*part._parameters, *part._buffers)}


def _norm_parameters(module: nn.Module) -> set[str]:
    """Return the names of all tensors of norms; a run of the vector, cut anywhere, is no sensible scale of a norm."""
    kinds = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    parts = [(name, part) for name, part in module.named_modules() if isinstance(part, kinds)]
    return {join(name, key) for name, part in parts for key in (*part._parameters, *part._buffers)}


def _passing(  # noqa: PLR0913 - the module, and what is known of it
    fit: str,
    options: Options,
    module: nn.Module,
    pairs: Sequence[tuple[int, int]],
    blocks: Collection[str],
    layers: Sequence[Layer],
    of_source: int,
) -> depth.Fixed:
    """Return the values with which layers that the source lacks pass their input on; none for an unlike module.

    A module is deeper than the source if it has partners for all layers of the source, and other layers.
    """
    deeper = fit == "layerwise" and len(pairs) == of_source < len(layers)
    traced = flow.graph_of(module) if deeper and options.fill == "default" else None
    return {} if traced is None else depth.passed_on(*traced, {name.rpartition(".")[0] for name in blocks})


def _passing_row(name: str, shape: tuple[int, ...], found: depth.Constant | depth.Passing, rest: Rest) -> Row:
    _, mask = found.decode(torch.empty(0), shape)
    count = math.prod(shape) if mask is None else int(mask.sum())
    return Row(name, shape, "passes on", None, 0, None if mask is None else rest, found, passing=count)


def _row(name: str, shape: tuple[int, ...], fit: str, found: tuple[str, Block] | None, rest: Rest) -> Row:
    if found is None:
        return Row(name, shape, "untouched" if rest == KEPT else "filled", None, 0, rest)
    source, block = found
    size = math.prod(shape)
    drawn = () if block.members is None else (block.members.count,)
    vector = torch.zeros(*drawn, block.start + math.prod(block.shape), dtype=torch.float32, device="cpu")
    _, mask = block.decode(vector, shape)
    overlap = size if mask is None else int(mask.sum())
    whole = block.inputs is None and block.shape == shape and block.members is None
    origin = fit if fit != "layerwise" else "exact" if whole else "resized"
    zeros = 0
    if mask is not None and block.silences and rest != KEPT:
        # an output with any decoded weight has zero as its other weights: count all its weights, minus the decoded ones
        decoded_outputs = int(mask.flatten(1).any(1).sum())  # (outputs, inputs * kernel) -> a number
        zeros = decoded_outputs * (size // max(1, shape[0])) - overlap
    return Row(name, shape, origin, source, overlap, None if overlap == size else rest, block, zeros)


def left_out(parameters: Mapping[str, Tensor], options: Options) -> dict[str, str]:
    """Name the parameters that a plan must leave unchanged, with the reason: "excluded" or "frozen".

    Raises:
        UnknownNameError: if a pattern matches no parameter; the message names the nearest ones.
        PlanError: if no parameter would be left to write.

    >>> left_out(dict(nn.Linear(2, 1).named_parameters()), Options(exclude="b*"))
    {'bias': 'excluded'}
    """
    include, exclude = options.include, options.exclude
    chosen = set(parameters) if include is None else _matching(parameters, include, "include")
    chosen -= set() if exclude is None else _matching(parameters, exclude, "exclude")
    found = {name: "excluded" for name in parameters if name not in chosen}
    if options.skip_frozen:
        found |= {name: "frozen" for name in chosen if not _trains(parameters, name)}
    if parameters and len(found) == len(parameters):
        raise PlanError(
            f"at least one parameter must be written, got {len(found)} that are all excluded or frozen; change "
            f"include={include!r}, exclude={exclude!r} or skip_frozen={options.skip_frozen}"
        )
    return found


def _trains(parameters: Mapping[str, Tensor], name: str) -> bool:
    """Return whether a parameter is trained; a running statistic is trained with the parameters around it."""
    if isinstance(parameters[name], nn.Parameter):
        return parameters[name].requires_grad
    path = name.rpartition(".")[0]
    while True:  # up to the smallest part around it that has parameters
        inside = [v for n, v in parameters.items() if n.startswith(join(path, "")) and isinstance(v, nn.Parameter)]
        if inside or not path:
            return any(value.requires_grad for value in inside) or not inside
        path = path.rpartition(".")[0]


def _matching(parameters: Mapping[str, Tensor], patterns: Iterable[str], what: str) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        names = fnmatch.filter(parameters, pattern)
        if not names:
            hint = did_you_mean(pattern, parameters, cutoff=0.3) or f"the parameters are {listed(parameters, 8)}"
            raise UnknownNameError(f"{what} must match a parameter, got {shown(pattern)}; {hint}")
        found |= set(names)
    return found
