"""Fitting: which decoded tensor goes where in the user's module, what is filled, and the writing itself.

`make_plan` looks at shapes only and writes nothing; its `Plan` prints as a table. `apply_` computes every new value,
checks it, and only then copies.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, PlanError
from hyperinit.fitting.fill import FILLS, LayerStats, default_draws
from hyperinit.fitting.match import targets
from hyperinit.fitting.plan import DRAWN, KEPT, Plan, Row
from hyperinit.fitting.planner import FITS, make_plan
from hyperinit.fitting.resize import Block
from hyperinit.generators import cpu_random
from hyperinit.modules.wrappers import plain, unwrapped
from hyperinit.modules.write import check_writable, whole, write

__all__ = ["FILLS", "FITS", "Plan", "Row", "apply_", "make_plan"]


def check_strength(strength: float) -> None:
    """Refuse a strength that is no number in [0, 1].

    Raises:
        ArgumentError: saying what was got.
    """
    if not isinstance(strength, int | float) or not 0 <= strength <= 1:
        raise ArgumentError(f"strength must be in [0, 1], got {strength!r}")


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

    All or nothing, see `hyperinit.modules.write.write`. Parameters keep their identity, dtype, device, `requires_grad`
    and tying; buffers are untouched but for running statistics that the source has. All arithmetic and all draws are
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

    >>> from hyperinit.layout import Layout
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


def zoo_draw(shape: tuple[int, ...], layer: str, layer_stats: LayerStats | None) -> Tensor:
    """Draw normal weights with the mean and the standard deviation of a source layer, from torch's global generator.

    Args:
        shape: of the parameter.
        layer: name of the source layer.
        layer_stats: (mean, standard deviation) of the weights of every source layer.

    Raises:
        ArgumentError: if `layer_stats` is missing or does not list the layer.

    >>> zoo_draw((2,), "0", {"0": (3.0, 0.0)})
    tensor([3., 3.])
    """
    if layer_stats is None or layer not in layer_stats:
        got = "None" if layer_stats is None else f"only {', '.join(layer_stats) or 'nothing'}"
        raise ArgumentError(f"fill='zoo' needs layer_stats with (mean, std) of layer {layer!r}, got {got}")
    mean, std = (float(value) for value in layer_stats[layer])
    return torch.randn(shape, device="cpu") * std + mean


def mix(  # noqa: PLR0913
    block: Block, weights: Tensor, strength: float, base: Tensor | None, rest: Tensor, *, keep: bool
) -> Tensor:
    """Lay a block of decoded weights over what a parameter's other weights get.

    Args:
        block: of the vector `weights`, shape (D,).
        weights: decoded weights.
        strength: s; the block becomes s * decoded + (1 - s) * base.
        base: default draw of the parameter; None for s = 1.
        rest: what the other weights get, in the parameter's shape.
        keep: whether `rest` stands as it is beside a resized block. Otherwise it is mixed too: a resized layer's
            decoded outputs get weights that decode to zero from the inputs that the source does not have.

    >>> mix(Block(0, (1,)), torch.ones(1), 0.5, torch.zeros(2), torch.tensor([8.0, 9.0]), keep=True)
    tensor([0.5000, 9.0000])
    """
    decoded, mask = block.decode(weights, tuple(rest.shape))
    if base is not None:
        decoded = strength * decoded + (1 - strength) * (base if mask is None else torch.where(mask, base, rest))
    if mask is None:
        return decoded
    if block.silences and not keep:
        mask = mask.flatten(1).any(1).reshape(-1, *(1 for _ in rest.shape[1:]))
    return torch.where(mask, decoded, rest)
