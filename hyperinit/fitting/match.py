"""Pair the layers of a source with those of a module, and the inputs of each layer with those of its partner."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor, nn

from hyperinit.fitting.resize import Block, Inputs
from hyperinit.layout import KINDS, Layout
from hyperinit.layout.layers import NORM, NORMS, STATISTICS
from hyperinit.modules.wrappers import join


@dataclass(frozen=True)
class Layer:
    """A conv or linear layer, or a norm.

    Args:
        kind: such as "conv2d" or "linear".
        shape: of the weight, (outputs, inputs, *kernel); of a norm, (channels,).
        names: full name of each of its tensors by the short one: {"weight": "0.weight"}.
    """

    kind: str
    shape: tuple[int, ...]
    names: dict[str, str] = field(hash=False)


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
        if kind is None or "weight" not in own or not own["weight"].is_floating_point():
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
        if isinstance(part, NORMS):
            own = {**part._parameters, **{key: part._buffers.get(key) for key in STATISTICS}}
            held = {key: value for key, value in own.items() if value is not None}
            if held:
                shape = tuple(next(iter(held.values())).shape)
                found.append(Layer(NORM, shape, {key: join(path, key) for key in held}))
    return found


def align(source: Sequence[Layer], target: Sequence[Layer]) -> list[tuple[int, int]]:
    """Pair layers of the same kind in order, so that the sum of their similarities is as large as possible.

    Layers of either side may have no partner, such as a skip convolution that the source does not have.

    Returns:
        Pairs (index in `source`, index in `target`); both indices rise from pair to pair.

    Source: Needleman and Wunsch 1970, without a penalty for gaps.

    >>> chain = [Layer("conv2d", (8, 1, 5, 5), {}), Layer("conv2d", (6, 8, 5, 5), {})]
    >>> align(chain, [chain[0], Layer("conv2d", (8, 8, 1, 1), {}), chain[1]])
    [(0, 0), (1, 2)]
    """
    rows, columns = len(source), len(target)
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]  # best[a][b]: largest sum of the first a and b layers
    for a in range(1, rows + 1):
        for b in range(1, columns + 1):
            matched = best[a - 1][b - 1] + similarity(source, target, a - 1, b - 1)
            best[a][b] = max(matched, best[a - 1][b], best[a][b - 1])
    pairs, a, b = [], rows, columns
    while a and b:  # back from the end: a layer without which the sum is as large stays unpaired
        if best[a][b] == best[a][b - 1]:  # first, so that of equally good layers of the module the earliest is paired
            b -= 1
        elif best[a][b] == best[a - 1][b]:
            a -= 1
        else:
            a, b = a - 1, b - 1
            pairs.append((a, b))
    return pairs[::-1]


def similarity(source: Sequence[Layer], target: Sequence[Layer], a: int, b: int) -> float:
    """Return how alike source layer `a` and target layer `b` are, 0 to 1.5; layers of different kinds get 0.

    Half is the ratio of the kernel sizes, a quarter each the ratios of the outputs and of the inputs, and a quarter
    each whether both layers are the first and whether both are the last. Norms get the product of their axes' ratios.

    >>> similarity([Layer("linear", (4, 8), {})], [Layer("linear", (4, 2), {})], 0, 0)
    1.3125
    """
    left, right = source[a], target[b]
    if left.kind != right.kind or len(left.shape) != len(right.shape):  # norms may have any number of axes
        return 0.0
    alike = [min(n, m) / max(n, m) for n, m in zip(left.shape, right.shape, strict=True)]
    if left.kind == NORM:
        return math.prod(alike)
    kernel = math.prod(alike[2:])  # 1 for a linear layer
    first_or_last = (a == b == 0) + (a + 1 == len(source) and b + 1 == len(target))
    return 0.5 * kernel + 0.25 * (alike[0] + alike[1]) + 0.25 * first_or_last


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
        if old % before == 0 and new % after == 0:
            old, new = old // before, new // after  # pixels of a channel
            pixels, sides = Inputs.alike(old, new), (math.isqrt(old), math.isqrt(new))
            if (sides[0] ** 2, sides[1] ** 2) == (old, new):
                pixels = Inputs.alike(*sides).times(Inputs.alike(*sides), *sides)  # rows x columns
            return Inputs.leading(before, after).times(pixels, old, new)
    return Inputs.leading(old, new)


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
    layout: Layout, layers: Sequence[Layer], pairs: Sequence[tuple[int, int]]
) -> dict[str, tuple[str, Block]]:
    """Return the source tensor and its block for each parameter of the paired layers.

    Args:
        layout: of the source.
        layers: of the module.
        pairs: (index in the source's layers, index in `layers`), see `align`.

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
                moved = None if key != "weight" or same else inputs  # a bias has no input axis
                # what the first linear layer reads is the user's own data, and not neurons that the source lacks
                own = moved is not None and b == 0 and "conv" not in layers[b].kind
                blocks[name] = (spec.name, Block(ends[spec.name] - spec.size, spec.shape, moved, own))
    return blocks


def match_norms(layout: Layout, module: nn.Module) -> dict[str, tuple[str, Block]]:
    """Return the source tensor and its block for each tensor of the module's norms, paired in order by their widths.

    >>> list(match_norms(Layout.of(nn.LayerNorm(2)), nn.LayerNorm(4)))
    ['weight', 'bias']
    """
    source, layers = source_layers(layout, norms=True), module_norms(module)
    specs = {tensor.name: tensor for tensor in layout.tensors}
    ends = dict(zip(specs, accumulate(tensor.size for tensor in layout.tensors), strict=True))
    blocks = {}
    for a, b in align(source, layers):
        for key, name in layers[b].names.items():
            spec = specs.get(source[a].names.get(key, ""))
            if spec is not None and len(spec.shape) == len(layers[b].shape):
                blocks[name] = (spec.name, Block(ends[spec.name] - spec.size, spec.shape))
    return blocks
