"""Align networks: permute the neurons of copies so that their weights lie close to each other, for averages of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, LayoutError, listed, one_line
from hyperinit.layout import TensorSpec
from hyperinit.layout.layers import reorder
from hyperinit.modules.state import has_values
from hyperinit.modules.wrappers import wrapped
from hyperinit_training.symmetry.activations import activations
from hyperinit_training.symmetry.functions import arguments, in_float64
from hyperinit_training.symmetry.groups import flip, permutation_groups, sign_groups
from hyperinit_training.symmetry.matching import Movable, Moves, fit_all, movable
from hyperinit_training.symmetry.positions import Groups

TOLERANCE = 1e-6  # greatest change of an output in float64, as a share of the largest output


def align(  # noqa: PLR0913 - what to align to, how long, and by which symmetries are independent choices
    *networks: nn.Module,
    example_input: Tensor | tuple[Tensor, ...],
    reference: nn.Module | None = None,
    by: str = "activations",
    rounds: int = 1,
    signs: bool = False,
    groups: Groups | None = None,
    generator: torch.Generator | None = None,
) -> list[nn.Module]:
    """Permute the hidden neurons of networks so that their weights lie close to each other.

    Two trained networks have their neurons in different orders, so the average of their weights is no network. Aligned
    networks can be averaged better. Whether well enough depends on the networks: `hyperinit_training.soup` measures it.

    Every copy computes what its network computes in evaluation mode. This is checked on the example input in float64.

    Args:
        *networks: networks of one architecture, on any device; not modified.
        example_input: positional arguments of a network. Use a batch of 16 or more.
        reference: the network to match to. Default: the first one.
        by: "activations" matches neurons whose outputs are correlated over the example input. Weights decide between
            neurons that do the same. Pass real inputs, or random ones; with equal inputs, weights decide alone.
            "weights" matches neurons with similar weights. It brings weights closer, but averages of residual and of
            wide networks are worse.
        rounds: number of rounds, at least 1. Every round after the first matches to the mean of the networks as the
            round before left them. Use 3 for more than two networks.
        signs: also flip the signs of neurons behind odd activations such as tanh.
        groups: permutation groups written by hand, see `symmetry.permutation_groups`.
        generator: draws the order in which groups are visited. Default: one of seed 0.

    Returns:
        A copy of every network with permuted neurons.

    Raises:
        ArgumentError: if there is no network, networks differ in architecture, a weight is not finite, or the example
            input does not fit.
        LayoutError: if no group of neurons can be found. The message names the operations that prevent it.

    Source: Ainsworth et al. 2022, "Git Re-Basin", arXiv:2209.04836.

    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> swapped = copy.deepcopy(net)
    >>> for tensor, axis in ((swapped[0].weight, 0), (swapped[0].bias, 0), (swapped[2].weight, 1)):
    ...     tensor.data = tensor.data.flip(axis)
    >>> one, other = align(net, swapped, example_input=torch.randn(16, 1))
    >>> torch.equal(one[0].weight, other[0].weight)
    True
    """
    found, _ = align_with_notes(
        networks,
        example_input,
        reference=reference,
        by=by,
        rounds=rounds,
        signs=signs,
        groups=groups,
        generator=generator,
    )
    return found


def align_with_notes(  # noqa: PLR0913
    networks: Sequence[nn.Module],
    example_input: Tensor | tuple[Tensor, ...],
    *,
    reference: nn.Module | None = None,
    by: str = "activations",
    rounds: int = 1,
    signs: bool = False,
    groups: Groups | None = None,
    generator: torch.Generator | None = None,
) -> tuple[list[nn.Module], tuple[str, ...]]:
    """Align as `align` does, and also return a sentence for each operation that keeps the order of its neurons.

    >>> net = nn.Sequential(nn.Linear(1, 8), nn.GLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> align_with_notes([net], torch.ones(16, 1))[1]
    ('_1 (GLU) fixes the order of its input neurons',)
    """
    check_networks(networks if reference is None else [*networks, reference])
    if by not in ("activations", "weights"):
        raise ArgumentError(f"by must be 'activations' or 'weights', got {by!r}")
    if type(rounds) is not int or rounds < 1:
        raise ArgumentError(f"rounds must be an integer of at least 1, got {rounds!r}")
    symmetry = permutation_groups(networks[0], example_input, groups)
    notes = tuple(note for note in symmetry.notes if note != "no symmetry was found")
    flips = sign_groups(networks[0], example_input).groups if signs else None
    state = networks[0].state_dict()
    specs = [TensorSpec(name, tuple(state[name].shape), axes) for name, axes in symmetry.groups.items()]
    free = movable(specs, flips)
    if not free and notes:
        raise LayoutError(
            f"{type(networks[0]).__name__} must have hidden neurons that can be permuted, got none: "
            f"{listed(notes, 3)}; write the groups by hand, such as groups={{'fc1.weight': ('a', None), "
            "'fc1.bias': ('a',), 'fc2.weight': (None, 'a')}"
        )
    copies = [_copy(network) for network in networks]
    first = copies[0] if reference is None else _copy(reference)
    active = _active(copies, first, arguments(example_input), specs, free) if by == "activations" and free else None
    generator = generator or torch.Generator().manual_seed(0)
    moves = fit_all(*_matrix(copies, first, specs), free, generator, rounds, active=active)
    for number, (network, before) in enumerate(zip(copies, networks, strict=True)):
        own = {name: found[number] for name, found in moves.items()}
        network.load_state_dict(_moved(before.state_dict(), specs, flips or {}, free, own))
        _check_function(before, network, example_input, number)
    return copies, notes


def check_networks(networks: Sequence[nn.Module]) -> None:
    """Check that networks have one architecture and no wrapper.

    The classes of all parts, and the names and shapes of all tensors, must be equal.

    Raises:
        ArgumentError: if they are not, or if there is no network.

    >>> check_networks([nn.Linear(1, 1), nn.Linear(1, 1)])
    """
    wrong = [type(network).__name__ for network in networks if not isinstance(network, nn.Module)]
    if wrong or not networks:
        raise ArgumentError(f"networks must be modules, got {', '.join(wrong[:3]) or 'none'}")
    for number, network in enumerate(networks):
        if wrapped(network):
            raise ArgumentError(
                f"networks must not be compiled, parallel or sharded, got network {number} with a wrapper; pass the "
                "network inside, such as model.module"
            )
        empty = next((name for name, value in network.state_dict().items() if _is_empty(value)), None)
        if empty is not None:
            raise ArgumentError(
                f"networks must hold values, got {one_line(empty)} of network {number} without any; load its weights, "
                "or run one batch through a lazy module"
            )
        if why := _difference(networks[0], network):
            raise ArgumentError(f"networks must have one architecture, network {number} differs from network 0: {why}")


def _is_empty(value: object) -> bool:
    return isinstance(value, Tensor) and not has_values(value)


def _difference(one: nn.Module, other: nn.Module) -> str:
    """Return the first difference of two architectures, or an empty text."""
    kinds = [{name: type(part).__name__ for name, part in network.named_modules()} for network in (one, other)]
    shapes = [
        {name: tuple(value.shape) for name, value in network.state_dict().items() if isinstance(value, Tensor)}
        for network in (one, other)
    ]
    for mine, theirs in (kinds, shapes):
        for name in [*mine, *theirs]:
            if mine.get(name) != theirs.get(name):
                found, expected = theirs.get(name, "nothing"), mine.get(name, "nothing")
                return f"{one_line(name) or 'the network'} is {found} and not {expected}"
    return ""


def _matrix(networks: Sequence[nn.Module], first: nn.Module, specs: Sequence[TensorSpec]) -> tuple[Tensor, Tensor]:
    """Return the weights (N, D) and those of the reference (D,), each tensor in units of its root mean square."""
    weights = torch.stack([_vector(network, specs, f"network {number}") for number, network in enumerate(networks)])
    target = _vector(first, specs, "the reference")
    start = 0
    for spec in specs:
        place = slice(start, start + spec.size)
        unit = weights[:, place].square().mean().sqrt().item() or 1.0
        weights[:, place] /= unit
        target[place] /= unit
        start += spec.size
    return weights, target


def _active(
    networks: Sequence[nn.Module],
    first: nn.Module,
    inputs: Sequence[Tensor],
    specs: Sequence[TensorSpec],
    free: Mapping[str, Movable],
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the activations of all networks (N, n, S) and of the reference (n, S), by permutation group."""
    groups = {spec.name: spec.groups for spec in specs}
    sizes = {name: len(group.positions[0]) for name, group in free.items() if group.order is not None}
    wanted = activations(first, inputs, groups, sizes)
    rows = [activations(network, inputs, groups, sizes) for network in networks]
    return {group: (torch.stack([found[group] for found in rows]), target) for group, target in wanted.items()}


def _vector(network: nn.Module, specs: Sequence[TensorSpec], name: str) -> Tensor:
    """Return the weights that may move as one vector, float64 on the CPU."""
    state = network.state_dict()
    for spec in specs:
        if not state[spec.name].isfinite().all():
            raise ArgumentError(f"networks must hold finite weights, got NaN or infinity in {spec.name} of {name}")
    parts = [state[spec.name].detach().reshape(-1).cpu().double() for spec in specs]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def _moved(
    state: Mapping[str, Tensor],
    specs: Sequence[TensorSpec],
    flips: Groups,
    free: Mapping[str, Movable],
    moves: Mapping[str, Moves],
) -> dict[str, Tensor]:
    """Return a network's state dict with its neurons moved, in its own dtypes and on its own devices."""
    orders = {group.order: moves[name].order for name, group in free.items() if group.order is not None}
    signs = {group.signs: moves[name].signs for name, group in free.items() if group.signs is not None}
    found = dict(state)
    for spec in specs:
        value = state[spec.name].detach()
        device = value.device
        value = reorder(value, spec, {name: order.to(device) for name, order in orders.items()})
        axes = TensorSpec(spec.name, spec.shape, tuple(flips.get(spec.name, (None,) * len(spec.shape))))
        found[spec.name] = flip(value, axes, {name: sign.to(device) for name, sign in signs.items()})
    return found


def _copy(network: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(network)
    except Exception as error:  # the module is the user's: it may hold anything
        raise ArgumentError(
            f"networks must be modules that copy.deepcopy can copy, got {type(error).__name__}: {error}"
        ) from error


def _check_function(
    before: nn.Module, after: nn.Module, example_input: Tensor | tuple[Tensor, ...], number: int
) -> None:
    """Refuse a network whose function has changed: it may have attributes that those of network 0 do not tell."""
    expected, got = (
        in_float64(_copy(network).eval().to("cpu", torch.float64), example_input) for network in (before, after)
    )
    change = ((got - expected).abs().max() / expected.abs().max().clamp(min=1e-300)).item()
    if not change <= TOLERANCE:
        raise ArgumentError(
            f"networks must have one architecture, got network {number} whose outputs change by {change:.1e} of the "
            "largest by a permutation that keeps the outputs of network 0; compare the settings of their layers"
        )
