"""Apply: compute the new values of a module's parameters as a plan says, check them, and only then write them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, PlanError
from hyperinit.fitting.fill import LayerStats, default_draws
from hyperinit.fitting.match import targets
from hyperinit.fitting.narrow import best_first
from hyperinit.fitting.options import check_strength
from hyperinit.fitting.plan import DRAWN, KEPT, LEFT_OUT, Plan
from hyperinit.fitting.resize import Piece
from hyperinit.generators import cpu_random, settled
from hyperinit.modules.state import is_dense
from hyperinit.modules.wrappers import plain, unwrapped
from hyperinit.modules.write import check_dense, check_writable, shape_of, whole, write

MOST_PROBLEMS = 5  # that one message lists


@settled()
def apply_(  # noqa: PLR0913 - three things meet, and three options say how
    module: nn.Module,
    plan: Plan,
    weights: Tensor,
    *,
    strength: float = 1.0,
    generator: torch.Generator | None = None,
    layer_stats: LayerStats | None = None,
) -> nn.Module:
    """Write a decoded weight vector into a module, in place, as its plan says; return the module.

    If an error is raised, nothing is written, see `hyperinit.modules.write.write`. Parameters keep their identity,
    dtype, device, `requires_grad` and tying. Buffers are untouched, except running statistics if the source has some.
    All arithmetic and all draws are float32 on the CPU.

    Args:
        module: the one that the plan was made for, or one whose parameters have the same names and shapes.
        plan: from `make_plan`.
        weights: decoded weights, shape (D,), or (k, D) for a plan of k networks side by side.
        strength: s in [0, 1]; a decoded weight becomes s * decoded + (1 - s) * default draw. A parameter whose module
            has no default draw is mixed with its present value instead.
        generator: the only source of randomness; None means torch's global CPU generator.
        layer_stats: mean and standard deviation of each source layer's weights, for fill="zoo".

    Raises:
        ArgumentError: if `weights` has another shape, `strength` is not in [0, 1], or `layer_stats` lacks a layer.
        PlanError: if the plan was made for another module, or a value is not finite in its parameter's dtype.

    Source: the mix is shrink and perturb, Ash and Adams 2020, arXiv:1910.08475.

    >>> from hyperinit.fitting import make_plan
    >>> from hyperinit.layout import Layout
    >>> net = nn.Linear(2, 1)
    >>> apply_(net, make_plan(net, Layout.of(net)), torch.tensor([1.0, 2.0, 3.0])).bias.item()
    3.0
    """
    check_strength(strength)
    expected = (plan.members, plan.layout.size)[plan.members == 1 :]
    if tuple(weights.shape) != expected:
        raise ArgumentError(f"weights must have shape {expected}, got {tuple(weights.shape)}")
    network = unwrapped(module)
    view = plain(network)
    parameters = targets(view, plan.layout)
    _check_parameters(parameters, plan)
    state = plan.layout.state(weights.detach().to("cpu", torch.float32))  # named tensors; no variance below zero
    if plan.narrowed:
        state = best_first(state, plan.layout, plan.narrowed)
    weights = torch.cat([state[tensor.name].flatten(-len(tensor.shape)) for tensor in plan.layout.tensors], -1)
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


def check_module(module: nn.Module, plan: Plan) -> None:
    """Refuse a module that a plan was not made for, or that cannot be written.

    Raises:
        PlanError: if its parameters differ from the plan's in name, shape or order; the message names them.

    >>> from hyperinit.fitting import make_plan
    >>> from hyperinit.layout import Layout
    >>> check_module(nn.Linear(2, 1), make_plan(nn.Linear(2, 1), Layout.of(nn.Linear(2, 1))))
    """
    _check_parameters(targets(plain(unwrapped(module)), plan.layout), plan)


def _check_parameters(parameters: Mapping[str, Tensor], plan: Plan) -> None:
    left = {row.name for row in plan.rows if row.origin in LEFT_OUT}
    kept = {row.name for row in plan.rows if row.block is None and row.rest == KEPT}
    sparse = {name: value for name, value in parameters.items() if not is_dense(value)}
    check_writable(parameters, {*left, *sparse})
    check_dense({name: value for name, value in sparse.items() if name not in kept})
    got = {name: shape_of(value) for name, value in parameters.items()}
    planned = {row.name: row.shape for row in plan.rows}
    if list(got.items()) == list(planned.items()):
        return
    wrong = [f"{name} {shape} for {planned[name]}" for name, shape in got.items() if planned.get(name, shape) != shape]
    wrong += [f"{name} {shape}, which is not in the plan" for name, shape in got.items() if name not in planned]
    wrong += [f"no {name} {shape}" for name, shape in planned.items() if name not in got]
    more = f"; and {len(wrong) - MOST_PROBLEMS} more" if len(wrong) > MOST_PROBLEMS else ""
    raise PlanError(
        f"module must have the parameters that the plan was made for, got "
        f"{'; '.join(wrong[:MOST_PROBLEMS]) or 'them in another order'}{more}; make a new plan for this module"
    )


def _draw(
    module: nn.Module, plan: Plan, strength: float, generator: torch.Generator | None, layer_stats: LayerStats | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Draw the values that decoded blocks are mixed with, and the values of the weights beside the blocks, by name."""
    mixed = {row.name for row in plan.rows if row.block and strength < 1}
    # at full strength no default draw shows in a parameter that the source decides whole
    drawn = {row.name for row in plan.rows if row.rest == DRAWN and (strength < 1 or row.decided < row.size)}
    normal = [(row.name, row.shape, row.rest.layer) for row in plan.rows if row.rest and row.rest.layer is not None]
    if not (mixed or drawn or normal):
        return {}, {}  # the generator does not move
    with cpu_random(generator):
        draws = default_draws(module, mixed | drawn)
        rests = {name: zoo_draw(shape, layer, layer_stats) for name, shape, layer in normal}
    return {name: draws[name] for name in mixed}, rests | {name: draws[name] for name in drawn}


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
    return torch.randn(shape, dtype=torch.float32, device="cpu") * std + mean


def mix(  # noqa: PLR0913 - the block, the two values that are mixed, and the value beside them
    block: Piece, weights: Tensor, strength: float, base: Tensor | None, rest: Tensor, *, keep: bool
) -> Tensor:
    """Return the new value of a parameter: a block of decoded weights, and other values where the block does not reach.

    Args:
        block: of the weight vector.
        weights: decoded weights, shape (D,) or (k, D).
        strength: s; the block becomes s * decoded + (1 - s) * base.
        base: default draw in the parameter's shape; None for s = 1.
        rest: values of the other weights, in the parameter's shape.
        keep: whether `rest` stands unchanged beside a resized block. Otherwise the whole rows of the decoded outputs
            are mixed: their weights from inputs that the source lacks become s * 0 + (1 - s) * rest.

    >>> from hyperinit.fitting.resize import Block
    >>> mix(Block(0, (1,)), torch.ones(1), 0.5, torch.zeros(2), torch.tensor([8.0, 9.0]), keep=True)
    tensor([0.5000, 9.0000])
    """
    decoded, mask = block.decode(weights, tuple(rest.shape))  # both in the parameter's shape; mask None: all decoded
    if base is not None:
        decoded = strength * decoded + (1 - strength) * (base if mask is None else torch.where(mask, base, rest))
    if mask is None:
        return decoded
    if block.silences and not keep:  # the mask of decoded weights becomes that of decoded outputs, (outputs, 1, 1, 1)
        mask = mask.flatten(1).any(1).reshape(-1, *(1 for _ in rest.shape[1:]))
    return torch.where(mask, decoded, rest)
