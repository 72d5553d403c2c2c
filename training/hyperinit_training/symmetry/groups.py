"""Find groups of neurons that can be permuted or flipped in sign without changing the network's function.

`hyperinit_training.symmetry.trace` proposes groups from the graph. Every proposed group is checked: the network is run
with the group permuted or flipped, and the group is dropped if the outputs change. This guards augmentation and
alignment against wrong rules of the tracer. A larger batch of inputs reaches more neurons and checks more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hyperinit.errors import LayoutError
from hyperinit.layout import TensorSpec
from hyperinit.layout.layers import group_sizes, reorder
from hyperinit_training.symmetry.functions import arguments, in_float64
from hyperinit_training.symmetry.neurons import Neurons
from hyperinit_training.symmetry.positions import Groups
from hyperinit_training.symmetry.trace import Tracer, trace

# The check runs in float64. With all tensors of a group changed, no output may change by more than TOLERANCE, as a
# share of the largest output. With only the first tensor changed, the outputs must change by more than LEAST, or the
# check proves nothing. In a deep network this second change can be small, so TOLERANCE is also relative to it.
TOLERANCE, LEAST = 1e-5, 1e-10
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
Change = Callable[[Tensor, TensorSpec, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Symmetry:
    """Groups of neurons whose order or signs do not affect the network's function.

    Args:
        groups: for each tensor of the network, by name, the group of each of its axes, or None; see
            `hyperinit.layout.TensorSpec`. `Layout.with_groups` takes them.
        notes: one sentence for each operation or check that prevents a group.
    """

    groups: dict[str, tuple[str | None, ...]]
    notes: tuple[str, ...]


def permutation_groups(
    module: nn.Module, example_input: Tensor | tuple[Tensor, ...], groups: Groups | None = None
) -> Symmetry:
    """Find the groups of neurons that can be permuted, in any feed-forward network that torch.fx can trace.

    Supported operations are convolutions, linear and norm layers, activations, pooling, sums (a residual connection
    joins groups), flattening and concatenation. The order of the neurons that any other operation reads is fixed. The
    order of the network's inputs and outputs is fixed, too. A network without symmetries gives no groups, and a note.

    Args:
        module: any network; it is not modified.
        example_input: positional arguments of the network. Only the shapes of float tensors matter; the check replaces
            their values by random ones. Use a batch of 16 or more: with few inputs, all ReLUs of a narrow layer can be
            inactive, and the check misses a wrong group.
        groups: groups written by hand, instead of tracing. Tensors that are not named have no groups. These groups are
            checked, too.

    Raises:
        LayoutError: if the module cannot be traced, or `groups` do not fit its tensors.
        ArgumentError: if the module fails on the example input.

    Source: Ainsworth et al. 2022, "Git Re-Basin", arXiv:2209.04836, where the groups are written by hand.

    >>> net = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.ReLU(), nn.Linear(2, 1))
    >>> permutation_groups(net, torch.ones(2, 3)).groups["3.weight"]
    (None, '0')
    """
    return _find(module, example_input, groups, reorder, _orders, signs=False)


def sign_groups(
    module: nn.Module, example_input: Tensor | tuple[Tensor, ...], groups: Groups | None = None
) -> Symmetry:
    """Find the groups of neurons whose sign can be flipped.

    A flip negates a neuron's incoming weights and bias, and its outgoing weights. The activation between the two layers
    must be odd (tanh, identity, Hardtanh, Softsign). Average pooling allows flips; max pooling and norms do not. The
    arguments and errors are those of `permutation_groups`.

    >>> net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> sign_groups(net, torch.ones(2, 3)).groups["2.weight"]
    (None, '0')
    """
    return _find(module, example_input, groups, flip, _flips, signs=True)


def flip(tensor: Tensor, spec: TensorSpec, signs: Mapping[str, Tensor]) -> Tensor:
    """Multiply the axes of one tensor whose groups are in `signs` by 1 or -1, and return a new tensor.

    An axis that is longer than its group, such as the inputs behind a flatten, has one sign per block.

    >>> flip(torch.ones(4), TensorSpec("a", (4,), ("x",)), {"x": torch.tensor([1.0, -1.0])})
    tensor([ 1.,  1., -1., -1.])
    """
    for axis, group in enumerate(spec.groups):
        if group is not None and group in signs:
            factor = signs[group].repeat_interleave(tensor.shape[axis] // len(signs[group]))
            tensor = tensor * factor.to(tensor.dtype).reshape(-1, *[1] * (tensor.ndim - axis - 1))
    return tensor


def _find(  # noqa: PLR0913
    module: nn.Module,
    example_input: Tensor | tuple[Tensor, ...],
    groups: Groups | None,
    change: Change,
    draw: Callable[[int, torch.Generator], Tensor],
    *,
    signs: bool,
) -> Symmetry:
    generator = torch.Generator().manual_seed(0)  # used only by the check
    network = copy.deepcopy(module).eval().to("cpu", torch.float64)
    inputs = _random_inputs(example_input, generator)
    _randomise(network, inputs, generator)
    expected = in_float64(network, inputs)
    notes: list[str] = []
    if groups is None:
        tracer = trace(network, inputs, signs=signs)
        notes, groups = tracer.notes, _named(network, tracer, least=1 if signs else 2)
    specs = _specs(network, groups)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    places = {name: value.data_ptr() for name, value in network.state_dict().items()}
    for group, size in group_sizes(specs).items():
        moved = [spec for spec in specs if group in spec.groups]
        first = [
            spec for spec in moved if places[spec.name] == places[moved[0].name]
        ]  # several names if the tensor is tied
        vector = {group: draw(size, generator)}
        alone, together = (
            _distance(network, inputs, expected, state | {s.name: change(state[s.name], s, vector) for s in part})
            for part in (first, moved)
        )
        if not alone > LEAST:
            notes.append(
                f"group {group} is dropped: changing {moved[0].name} alone does not change the outputs, so the check "
                "is inconclusive"
            )
        elif not together <= TOLERANCE * min(alone, 1.0):
            notes.append(f"group {group} is dropped: the outputs change by {together:.1e} of the largest output")
        else:
            continue
        specs = [_without(spec, group) for spec in specs]
    if not group_sizes(specs):
        notes.append("no symmetry was found")
    return Symmetry({spec.name: spec.groups for spec in specs}, tuple(notes))


def _named(network: nn.Module, tracer: Tracer, least: int) -> dict[str, tuple[str | None, ...]]:
    """Return the groups by tensor. A group has the name of the first layer whose output neurons are in it."""
    tensors = {name: tracer.weights.get(id(value), ()) for name, value in network.state_dict(keep_vars=True).items()}
    names: dict[Neurons, str] = {}
    for first in (True, False):  # first axes are outputs; the others name only groups that are no layer's output
        for name, axes in tensors.items():
            for neurons in axes[:1] if first else axes[1:]:
                root = neurons.root()
                if not root.fixed and root.size >= least and root not in names:
                    layer = name.rpartition(".")[0]
                    names[root] = layer if layer and layer not in names.values() else name
    return {name: tuple(names.get(neurons.root()) for neurons in axes) for name, axes in tensors.items() if axes}


def _specs(network: nn.Module, groups: Groups) -> list[TensorSpec]:
    """List all floating-point tensors with their groups."""
    tensors = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    wrong = [
        f"{name} {found}" for name, found in groups.items() if name not in tensors or len(found) != tensors[name].ndim
    ]
    if wrong:
        raise LayoutError(f"groups must give one entry for each axis of the module's tensors, got {'; '.join(wrong)}")
    return [
        TensorSpec(name, tuple(value.shape), tuple(groups.get(name, (None,) * value.ndim)))
        for name, value in tensors.items()
    ]


def _without(spec: TensorSpec, group: str) -> TensorSpec:
    return TensorSpec(spec.name, spec.shape, tuple(None if found == group else found for found in spec.groups))


def _orders(size: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(size, generator=generator)  # the identity would prove nothing
    return order.roll(1) if torch.equal(order, torch.arange(size)) else order


def _flips(size: int, generator: torch.Generator) -> Tensor:
    signs = torch.randint(2, (size,), generator=generator) * 2.0 - 1
    signs[0] = -1  # all ones would prove nothing
    return signs


@torch.no_grad()
def _randomise(network: nn.Module, inputs: tuple[Tensor, ...], generator: torch.Generator) -> None:
    """Perturb all weights and running statistics, so that no two neurons have equal values, such as zero biases.

    With equal values a wrong permutation would not change the outputs. Running statistics stay close to those of the
    inputs, so that the signal reaches the outputs.
    """
    for value in network.parameters():
        if value.is_floating_point():
            spread = value.std().item() if value.numel() > 1 else 0.0
            value.add_(0.1 * (spread or 1.0) * torch.randn(value.shape, generator=generator, dtype=value.dtype))

    def estimate(norm: nn.Module, seen: tuple[Tensor, ...]) -> None:
        rows = seen[0].transpose(0, 1).flatten(1)
        spread = rows.std(1, correction=0).clamp(min=0.1)
        noise = torch.randn(2, len(rows), generator=generator, dtype=rows.dtype)
        norm.running_mean.copy_(rows.mean(1) + 0.1 * spread * noise[0])  # type: ignore[operator]
        norm.running_var.copy_(spread.square() * (0.1 * noise[1]).exp())  # type: ignore[operator]

    norms = [m for m in network.modules() if isinstance(m, BATCH_NORMS) and m.running_mean is not None]
    hooks = [norm.register_forward_pre_hook(estimate) for norm in norms]
    in_float64(network, inputs)
    for hook in hooks:
        hook.remove()


def _random_inputs(example_input: Tensor | tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    return tuple(
        torch.randn(value.shape, generator=generator, dtype=torch.float64) if value.is_floating_point() else value.cpu()
        for value in arguments(example_input)
    )


def _distance(network: nn.Module, inputs: tuple[Tensor, ...], expected: Tensor, state: Mapping[str, Tensor]) -> float:
    """Return the largest change of an output with the weights `state`, as a share of the largest output."""
    network.load_state_dict(state)
    return ((in_float64(network, inputs) - expected).abs().max() / expected.abs().max()).item()
