"""List the layers of a source and of a module, and lay the tensors of paired layers into each other."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from hyperinit.fitting.pairing import Layer, pair
from hyperinit.fitting.resize import Block, Inputs, Members
from hyperinit.layout import KINDS, Layout
from hyperinit.layout.layers import NORM, NORMS, STATISTICS, fits
from hyperinit.modules.wrappers import join

MOST_MEMBERS = 16  # networks side by side


def targets(module: nn.Module, layout: Layout) -> dict[str, Tensor]:
    """Return all tensors of a module that a source may write, by name, in the order in which parts were registered.

    These are its parameters and, if the source's layout has running statistics, the running statistics of its norms.

    >>> list(targets(nn.BatchNorm1d(2), Layout.of(nn.BatchNorm1d(2))))
    ['weight', 'bias', 'running_mean', 'running_var']
    """
    if not any(tensor.buffer for tensor in layout.tensors):
        return dict(module.named_parameters())
    found: dict[str, Tensor] = {}
    for path, part in module.named_modules():
        own = {**part._parameters, **{key: part._buffers.get(key) for key in STATISTICS if isinstance(part, NORMS)}}
        found |= {join(path, key): value for key, value in own.items() if value is not None}
    first = {id(value): name for name, value in reversed(found.items())}  # of a tied tensor, the first name
    return {name: value for name, value in found.items() if first[id(value)] == name}


def source_layers(layout: Layout, *, norms: bool = False) -> list[Layer]:
    """Return the conv and linear layers of a source, or its norms.

    >>> [layer.shape for layer in source_layers(Layout.of(nn.Linear(3, 2)))]
    [(2, 3)]
    """
    return [
        Layer(layer.kind, layer.tensors[0].shape, {t.name.rpartition(".")[2]: t.name for t in layer.tensors})
        for layer in layout.layers
        if (layer.kind == NORM) is norms
    ]


def module_layers(module: nn.Module) -> list[Layer]:
    """Return the conv and linear layers of any module in the order of registration; tied layers once.

    A layer counts only if its tensors have the shapes that its attributes announce. Packed ones have others.
    The projections inside `nn.MultiheadAttention` are not among them.

    >>> [layer.kind for layer in module_layers(nn.Sequential(nn.Conv2d(2, 2, 1, groups=2), nn.ReLU(), nn.Linear(2, 1)))]
    ['grouped conv2d', 'linear']
    """
    names = {id(value): name for name, value in module.named_parameters()}
    attention = {
        id(part) for owner in module.modules() if isinstance(owner, nn.MultiheadAttention) for part in owner.modules()
    }
    layers = []
    for part in module.modules():
        if id(part) in attention:  # queries, keys and values stand side by side, not in a chain of layers
            continue
        kind = next((name for type_, name in KINDS.items() if isinstance(part, type_)), None)
        own = {key: value for key, value in part.named_parameters(recurse=False) if id(value) in names}
        if kind is None or "weight" not in own or not fits(part) or not own["weight"].is_floating_point():
            continue
        if getattr(part, "groups", 1) != 1:
            kind = f"grouped {kind}"
        layers.append(Layer(kind, tuple(own["weight"].shape), {key: names.pop(id(own[key])) for key in own}))
    return layers


def module_norms(module: nn.Module) -> list[Layer]:
    """Return the norms of a module that hold tensors, running statistics included.

    >>> module_norms(nn.Sequential(nn.BatchNorm1d(3, affine=False)))[0].names
    {'running_mean': '0.running_mean', 'running_var': '0.running_var'}
    """
    found = []
    for path, part in module.named_modules():
        if isinstance(part, NORMS) and fits(part):
            own = {**part._parameters, **{key: part._buffers.get(key) for key in STATISTICS}}
            held = {key: value for key, value in own.items() if value is not None}
            if held:
                shape = tuple(next(iter(held.values())).shape)
                found.append(Layer(NORM, shape, {key: join(path, key) for key in held}))
    return found


def inputs_of(source: Sequence[Layer], target: Sequence[Layer], a: int, b: int) -> Inputs:
    """Map the inputs of source layer `a` to those of target layer `b`.

    The first convolution reads image channels: they are spread (`Inputs.alike`). A linear layer after a convolution
    reads channels x pixels: channels keep their places (`Inputs.leading`) and pixels are spread, by rows and by
    columns if both numbers of pixels are squares. All other inputs keep their places.

    >>> inputs_of([Layer("conv2d", (8, 1, 5, 5), {})], [Layer("conv2d", (8, 3, 5, 5), {})], 0, 0).target
    tensor([0, 1, 2])
    """
    old, new, is_conv = source[a].shape[1], target[b].shape[1], "conv" in source[a].kind
    if a == b == 0 and is_conv:
        return Inputs.alike(old, new)
    if a and b and not is_conv and "conv" in source[a - 1].kind and "conv" in target[b - 1].kind:
        before, after = source[a - 1].shape[0], target[b - 1].shape[0]
        if before and after and old % before == 0 and new % after == 0:
            old, new = old // before, new // after  # pixels of a channel
            pixels, sides = Inputs.alike(old, new), (math.isqrt(old), math.isqrt(new))
            if (sides[0] ** 2, sides[1] ** 2) == (old, new):
                pixels = Inputs.alike(*sides).times(Inputs.alike(*sides), *sides)  # rows x columns
            return Inputs.leading(before, after).times(pixels, old, new)
    return Inputs.leading(old, new)


def side_by_side(layout: Layout, module: nn.Module, pairs: Sequence[tuple[int, int]]) -> int:
    """Return how many networks of the source fit side by side into a module, 1 to 16.

    It is the least ratio of the widths of all paired layers but the source's last, rounded down. Norms count as well,
    and so do inputs, except image channels. It is 1 unless all layers of the source but its last have a partner,
    because several networks of which parts are missing compute nothing together.

    Args:
        layout: of the source.
        module: whose layers are paired.
        pairs: (index in the source's layers, index in the module's layers), see `pair`.

    >>> wide = nn.Sequential(nn.Linear(3, 9), nn.Tanh(), nn.Linear(9, 2))
    >>> side_by_side(Layout.of(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))), wide, [(0, 0), (1, 1)])
    2
    """
    source, layers = source_layers(layout), module_layers(module)
    if {a for a, _ in pairs} | {len(source) - 1} != set(range(len(source))):
        return 1
    ratios = [layers[b].shape[0] // source[a].shape[0] for a, b in pairs if a + 1 < len(source)]
    ratios += [layers[b].shape[1] // source[a].shape[1] for a, b in pairs if a]
    old, new = source_layers(layout, norms=True), module_norms(module)
    ratios += [new[b].shape[0] // old[a].shape[0] for a, b in pair(old, new)]
    return max(1, min([*ratios, MOST_MEMBERS])) if ratios else 1


def match_runs(parameters: Mapping[str, Tensor], layout: Layout) -> dict[str, tuple[str, Block]]:
    """Cut the weight vector into runs, one for each floating-point parameter in order, until it is used up.

    Returns:
        For each parameter that gets weights: the names of the source tensors that its run comes from, and the run.

    >>> match_runs({"scale": torch.ones(3)}, Layout.of(nn.Linear(2, 2)))
    {'scale': ('weight', Block(start=0, shape=(3,), inputs=None))}
    """
    ends = list(accumulate(tensor.size for tensor in layout.tensors))
    runs, start = {}, 0
    for name, value in parameters.items():
        count = min(value.numel(), layout.size - start) if value.is_floating_point() else 0
        if count:
            # a tensor ends where the next begins, so the number of ends at or before a place is its tensor's index
            used = dict.fromkeys(layout.tensors[bisect_right(ends, at)].name for at in (start, start + count - 1))
            runs[name] = (" to ".join(used), Block(start, (count,)))  # "0.weight to 3.bias", or one name
            start += count
    return runs


def match_tensors(
    layout: Layout, layers: Sequence[Layer], pairs: Sequence[tuple[int, int]], members: int = 1
) -> dict[str, tuple[str, Block]]:
    """Return the source tensor and its block for each parameter of the paired layers.

    Args:
        layout: of the source.
        layers: of the module.
        pairs: (index in the source's layers, index in `layers`), see `pair`.
        members: number of networks side by side, see `side_by_side`.

    >>> net = nn.Linear(2, 2)
    >>> match_tensors(Layout.of(net), module_layers(net), [(0, 0)])["bias"]
    ('bias', Block(start=4, shape=(2,), inputs=None))
    """
    specs = {tensor.name: tensor for tensor in layout.tensors}
    ends = dict(zip(specs, accumulate(tensor.size for tensor in layout.tensors), strict=True))
    source, blocks = source_layers(layout), {}
    for a, b in pairs:
        inputs = inputs_of(source, layers, a, b)
        for key, name in layers[b].names.items():
            if key in source[a].names:
                spec = specs[source[a].names[key]]
                # equal shapes are not enough: 4 channels x 9 pixels and 9 x 4 are both 36 inputs, in other places
                same = spec.shape == layers[b].shape and torch.equal(inputs.target, inputs.source)
                places = _places(source, layers, a, b, members)
                moved = inputs if key == "weight" and (places or not same) else None  # a bias has no input axis
                # what the first linear layer reads is the user's own data, and not neurons that the source lacks
                own = moved is not None and b == 0 and "conv" not in layers[b].kind
                blocks[name] = (spec.name, Block(ends[spec.name] - spec.size, spec.shape, moved, own, places))
    return blocks


def _places(source: Sequence[Layer], target: Sequence[Layer], a: int, b: int, members: int) -> Members | None:
    """Return the places of several networks in a layer; None for one network."""
    if members == 1:
        return None
    outputs = source[a].shape[0] if a + 1 < len(source) else 0
    if not a:
        return Members(members, outputs, 0)
    inputs, is_conv = source[a].shape[1], "conv" in source[a].kind
    if b and not is_conv and "conv" in source[a - 1].kind and "conv" in target[b - 1].kind:
        before, after, new = source[a - 1].shape[0], target[b - 1].shape[0], target[b].shape[1]
        if inputs % before == 0 and new % after == 0:
            inputs = before * (new // after)  # channels of one network x pixels of the module
    return Members(members, outputs, inputs)


def match_norms(layout: Layout, module: nn.Module, members: int = 1) -> dict[str, tuple[str, Block]]:
    """Return the source tensor and its block for each tensor of the module's norms, paired in order by their widths.

    Args:
        layout: of the source.
        module: whose norms are paired.
        members: number of networks side by side, see `side_by_side`.

    >>> list(match_norms(Layout.of(nn.LayerNorm(2)), nn.LayerNorm(4)))
    ['weight', 'bias']
    """
    source, layers = source_layers(layout, norms=True), module_norms(module)
    specs = {tensor.name: tensor for tensor in layout.tensors}
    ends = dict(zip(specs, accumulate(tensor.size for tensor in layout.tensors), strict=True))
    blocks = {}
    for a, b in pair(source, layers):
        for key, name in layers[b].names.items():
            spec = specs.get(source[a].names.get(key, ""))
            if spec is not None and len(spec.shape) == len(layers[b].shape):
                places = Members(members, spec.shape[0], 0) if members > 1 else None
                blocks[name] = (spec.name, Block(ends[spec.name] - spec.size, spec.shape, members=places))
    return blocks
