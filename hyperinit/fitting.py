"""Fitting: which decoded tensor goes where in the user's module, what is filled, and the writing itself.

`make_plan` looks at shapes only and writes nothing; its `Plan` prints as a table. `apply_` computes every new value,
checks it, and only then copies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import zip_longest

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, LayoutError, PlanError, UnknownNameError
from hyperinit.filling import (
    DRAWN,
    FILLS,
    KEPT,
    LayerStats,
    cpu_random,
    default_draws,
    mix,
    nearest_sources,
    rest_of,
    zoo_draw,
)
from hyperinit.layout import Layout
from hyperinit.matching import (
    align,
    match_norms,
    match_runs,
    match_tensors,
    module_layers,
    source_layers,
    targets,
)
from hyperinit.planning import Patterns, Plan, Row, left_out
from hyperinit.resizing import Block
from hyperinit.views import parametrised, plain, unwrapped
from hyperinit.writing import check_writable, whole, write

__all__ = ["FILLS", "FITS", "Plan", "Row", "apply_", "make_plan"]

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
        module: any network; wrappers and parametrisations are looked through, see `hyperinit.views`.
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


def check_strength(strength: float) -> None:
    """Refuse a strength that is no number in [0, 1].

    Raises:
        ArgumentError: saying what was got.
    """
    if not isinstance(strength, int | float) or not 0 <= strength <= 1:
        raise ArgumentError(f"strength must be in [0, 1], got {strength!r}")


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


@torch.no_grad()
def apply_(  # noqa: PLR0913
    module: nn.Module,
    plan: Plan,
    weights: Tensor,
    *,
    strength: float = 1.0,
    generator: torch.Generator | None = None,
    layer_stats: LayerStats | None = None,
) -> nn.Module:
    """Write a decoded weight vector into a module, in place, as its plan says; return the module.

    All or nothing, see `hyperinit.writing.write`. Parameters keep their identity, dtype, device, `requires_grad` and
    tying; buffers are untouched but for running statistics that the source has. All arithmetic and all draws are
    float32 on the CPU.

    Args:
        module: the one that the plan was made for, or one of the same shapes.
        plan: of `make_plan`.
        weights: decoded weights, shape (D,).
        strength: s in [0, 1]; a decoded weight becomes s * decoded + (1 - s) * default draw. What its module cannot
            draw is mixed with its present value instead.
        generator: the only source of randomness; None means torch's global CPU generator.
        layer_stats: mean and standard deviation of each source layer's weights, for fill="zoo".

    Raises:
        ArgumentError: if an argument has another value or shape.
        PlanError: if the plan belongs to another module, or a value is not finite in its parameter's dtype.

    Source: the mix is shrink and perturb, Ash and Adams 2020, arXiv:1910.08475.

    >>> net = nn.Linear(2, 1)
    >>> apply_(net, make_plan(net, Layout.of(net)), torch.tensor([1.0, 2.0, 3.0])).bias.item()
    3.0
    """
    network = unwrapped(module)
    view = plain(network)
    parameters = targets(view, plan.layout)
    _check_arguments(parameters, plan, weights, strength)
    weights = plan.layout.flatten(plan.layout.state(weights.detach().to("cpu", torch.float32)))
    draws, rests = _draw(view, plan, strength, generator, layer_stats)
    values = {}
    for row in plan.rows:
        if row.block is None and row.rest == KEPT:
            continue
        present = parameters[row.name]
        rest = rests[row.name] if row.name in rests else whole(present).to("cpu", torch.float32)
        if row.block is not None:
            rest = mix(row.block, weights, strength, draws.get(row.name), rest, keep=row.rest == KEPT)
        values[row.name] = rest.to(present.dtype)
        if not values[row.name].float().isfinite().all():
            raise PlanError(f"every new value must be finite, got others for {row.name} in {present.dtype}")
    write(network, values)
    return module


def _draw(
    module: nn.Module, plan: Plan, strength: float, generator: torch.Generator | None, layer_stats: LayerStats | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Draw what decoded blocks are mixed with, and what the weights beside them get."""
    mixed = {row.name for row in plan.rows if row.block and strength < 1}
    drawn = {row.name for row in plan.rows if row.rest == DRAWN}
    normal = {row.name: (row.shape, row.stats) for row in plan.rows if row.stats}
    if not (mixed or drawn or normal):
        return {}, {}
    with cpu_random(generator):
        draws = default_draws(module, mixed | drawn)
        rests = {name: zoo_draw(shape, layer, layer_stats) for name, (shape, layer) in normal.items()}
    return {name: draws[name] for name in mixed}, rests | {name: draws[name] for name in drawn}


def _check_arguments(parameters: Mapping[str, Tensor], plan: Plan, weights: Tensor, strength: float) -> None:
    check_strength(strength)
    if tuple(weights.shape) != (plan.layout.size,):
        raise ArgumentError(f"weights must have shape ({plan.layout.size},), got {tuple(weights.shape)}")
    check_writable(parameters)
    got = [(name, tuple(value.shape)) for name, value in parameters.items()]
    planned = [(row.name, row.shape) for row in plan.rows]
    if got != planned:
        wrong = [f"{name} {shape}" for name, shape in got if (name, shape) not in planned]
        raise PlanError(f"the module must be the plan's, got {len(got)} parameters, {wrong[:5]}; make a new plan")
