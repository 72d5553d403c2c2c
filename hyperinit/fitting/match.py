"""Which layer of the source goes to which layer of the user's module, and which of its inputs to which."""

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
    """A conv or linear layer: its kind, its weight's shape (outputs, inputs, *kernel), its parameters' full names."""

    kind: str
    shape: tuple[int, ...]
    names: dict[str, str] = field(hash=False)


def targets(module: nn.Module, layout: Layout) -> dict[str, Tensor]:
    """Name all tensors of a module that a source may write, in the order in which parts were registered.

    These are its parameters and, if the source's layout has running statistics, those of its norms.

    >>> list(targets(nn.BatchNorm1d(2), Layout.of(nn.BatchNorm1d(2))))
    ['weight', 'bias', 'running_mean', 'running_var']
    """
    if not any(tensor.buffer for tensor in layout.tensors):
        return dict(module.named_parameters())
    found: dict[str, Tensor] = {}
    for path, part in module.named_modules():
        own = {**part._parameters, **{key: part._buffers.get(key) for key in STATISTICS if isinstance(part, NORMS)}}
        found |= {join(path, key): value for key, value in own.items() if value is not None}
    first = {id(value): name for name, value in reversed(found.items())}  # a tied tensor comes once
    return {name: value for name, value in found.items() if first[id(value)] == name}


def source_layers(layout: Layout, *, norms: bool = False) -> list[Layer]:
    """List the conv and linear layers of a source, or its norms.

    >>> [layer.shape for layer in source_layers(Layout.of(nn.Linear(3, 2)))]
    [(2, 3)]
    """
    return [
        Layer(layer.kind, layer.tensors[0].shape, {t.name.rpartition(".")[2]: t.name for t in layer.tensors})
        for layer in layout.layers
        if (layer.kind == NORM) is norms
    ]


def module_layers(module: nn.Module) -> list[Layer]:
    """List the conv and linear layers of any module in the order of its registration; tied layers come once.

    The projections inside of `nn.MultiheadAttention` are not among them.

    >>> [layer.kind for layer in module_layers(nn.Sequential(nn.Conv2d(2, 2, 1, groups=2), nn.ReLU(), nn.Linear(2, 1)))]
    ['grouped conv2d', 'linear']
    """
    names = {id(value): name for name, value in module.named_parameters()}
    attention = {
        id(part) for owner in module.modules() if isinstance(owner, nn.MultiheadAttention) for part in owner.modules()
    }
    layers = []
    for part in module.modules():
        if id(part) in attention:  # its projections are no layers of a chain
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
    """List the norms of a module that hold tensors, running statistics included.

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
    """Pair layers of one kind in order, so that the sum of their similarities is the largest possible.

    Layers on either side may be left out, such as a skip convolution that the source does not have. Returns pairs
    (index in `source`, index in `target`), both rising.

    Source: Needleman and Wunsch 1970, without a penalty for gaps.

    >>> chain = [Layer("conv2d", (8, 1, 5, 5), {}), Layer("conv2d", (6, 8, 5, 5), {})]
    >>> align(chain, [chain[0], Layer("conv2d", (8, 8, 1, 1), {}), chain[1]])
    [(0, 0), (1, 2)]
    """
    rows, columns = len(source), len(target)
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]  # best[a][b]: the first a against the first b layers
    for a in range(1, rows + 1):
        for b in range(1, columns + 1):
            matched = best[a - 1][b - 1] + _similarity(source, target, a - 1, b - 1)
            best[a][b] = max(matched, best[a - 1][b], best[a][b - 1])
    pairs, a, b = [], rows, columns
    while a and b:
        if best[a][b] == best[a][b - 1]:  # the earliest of equally good layers
            b -= 1
        elif best[a][b] == best[a - 1][b]:
            a -= 1
        else:
            a, b = a - 1, b - 1
            pairs.append((a, b))
    return pairs[::-1]


def _similarity(source: Sequence[Layer], target: Sequence[Layer], a: int, b: int) -> float:
    """Score a pair, 0 to 1.5: how alike kernels and widths are, and whether both are the first or the last layer."""
    left, right = source[a], target[b]
    if left.kind != right.kind:
        return 0.0
    alike = [min(n, m) / max(n, m) for n, m in zip(left.shape, right.shape, strict=True)]
    if len(alike) != 2 and left.kind == NORM:
        return math.prod(alike)
    kernel = math.prod(alike[2:])
    first_or_last = (a == b == 0) + (a + 1 == len(source) and b + 1 == len(target))
    return 0.5 * kernel + 0.25 * (alike[0] + alike[1]) + 0.25 * first_or_last


def inputs_of(source: Sequence[Layer], target: Sequence[Layer], a: int, b: int) -> Inputs:
    """Say where the inputs of source layer `a` go in target layer `b`.

    Image channels are alike. A linear layer behind a convolution reads channels x pixels: channels stay in their
    places and pixels are alike, in rows and columns where both counts are squares. Everything else is leading.
    """
    old, new, is_conv = source[a].shape[1], target[b].shape[1], "conv" in source[a].kind
    if a == b == 0 and is_conv:
        return Inputs.alike(old, new)
    if a and b and not is_conv and "conv" in source[a - 1].kind and "conv" in target[b - 1].kind:
        before, after = source[a - 1].shape[0], target[b - 1].shape[0]
        if old % before == 0 and new % after == 0:
            old, new = old // before, new // after
            pixels, sides = Inputs.alike(old, new), (math.isqrt(old), math.isqrt(new))
            if (sides[0] ** 2, sides[1] ** 2) == (old, new):
                pixels = Inputs.alike(*sides).times(Inputs.alike(*sides), *sides)
            return Inputs.leading(before, after).times(pixels, old, new)
    return Inputs.leading(old, new)


def match_runs(parameters: Mapping[str, Tensor], layout: Layout) -> dict[str, tuple[str, Block]]:
    """Cut the vector into runs, one for each floating-point parameter, until it is used up; name their source tensors.

    >>> match_runs({"scale": torch.ones(3)}, Layout.of(nn.Linear(2, 2)))
    {'scale': ('weight', Block(start=0, shape=(3,), inputs=None))}
    """
    ends = list(accumulate(tensor.size for tensor in layout.tensors))
    runs, start = {}, 0
    for name, value in parameters.items():
        count = min(value.numel(), layout.size - start) if value.is_floating_point() else 0
        if count:
            used = {layout.tensors[bisect_right(ends, at)].name: at for at in (start, start + count - 1)}
            runs[name] = (" to ".join(used), Block(start, (count,)))
            start += count
    return runs


def match_tensors(
    layout: Layout, layers: Sequence[Layer], pairs: Sequence[tuple[int, int]]
) -> dict[str, tuple[str, Block]]:
    """Say which source tensor goes into which parameter of the paired layers, and how.

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
                same = spec.shape == layers[b].shape and torch.equal(inputs.target, inputs.source)
                lies = None if key != "weight" or same else inputs
                own = lies is not None and b == 0 and "conv" not in layers[b].kind
                block = Block(ends[spec.name] - spec.size, spec.shape, lies, own)
                blocks[name] = (spec.name, block)
    return blocks


def match_norms(layout: Layout, module: nn.Module) -> dict[str, tuple[str, Block]]:
    """Say which tensor of a source's norms goes into which of a module's, paired in order by their widths.

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
