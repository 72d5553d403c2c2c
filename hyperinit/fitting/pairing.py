"""Pair the layers of a source with those of a module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hyperinit.layout.layers import NORM

Pairs = list[tuple[int, int]]  # (index in the source's layers, index in the module's layers), both rising


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

    @property
    def path(self) -> str:
        """Name of the module that the layer is.

        >>> Layer("linear", (2, 3), {"weight": "head.0.weight"}).path
        'head.0'
        """
        return next(iter(self.names.values()), "").rpartition(".")[0]


def pair(source: Sequence[Layer], target: Sequence[Layer]) -> Pairs:
    """Pair the layers of a source with those of a module, in order.

    Layers with the names of the source's, perhaps behind a common prefix, are paired by name. So are those of a module
    that has fewer layers, if its first and last ones are the source's. Otherwise layers are paired one by one if both
    networks have the same kinds of layers and kernels in the same order. Otherwise the most similar ones are paired,
    see `align`, by their widths or by their widths in relation to the widest layer of the network: of these two, the
    pairing counts that decides more weights.

    >>> chain = [Layer("conv2d", (4, 4, 3, 3), {}), Layer("conv2d", (8, 4, 3, 3), {})]
    >>> pair(chain, [Layer("conv2d", (8, 8, 3, 3), {}), Layer("conv2d", (16, 8, 3, 3), {})])
    [(0, 0), (1, 1)]
    """
    named = _by_name(source, target)
    if named is not None:
        return named
    fewer = _by_name(target, source) or []  # the module has some of the source's layers, and both ends
    if fewer[:1] == [(0, 0)] and fewer[-1] == (len(target) - 1, len(source) - 1):
        return [(a, b) for b, a in fewer]
    forms = [[(layer.kind, len(layer.shape), _kernel(layer)) for layer in layers] for layers in (source, target)]
    if forms[0] == forms[1]:
        return [(index, index) for index in range(len(source))]
    absolute, relative = align(source, target), align(_relative(source), _relative(target))
    return max(absolute, relative, key=lambda pairs: _decided(source, target, pairs))  # of equals, the first


def _by_name(source: Sequence[Layer], target: Sequence[Layer]) -> Pairs | None:
    """Pair layers by name, or return None unless all layers of the source have partners, in order."""
    paths = {layer.path: index for index, layer in enumerate(target)}
    if not source or not all(layer.path for layer in source):
        return None
    first = source[0].path
    for prefix in (path.removesuffix(first) for path in paths if path.endswith(first)):
        found = [paths.get(prefix + layer.path) for layer in source]
        places = [index for index in found if index is not None]
        if len(places) < len(found) or places != sorted(places) or (prefix and not prefix.endswith(".")):
            continue
        partners = [target[b] for b in places]
        if all((a.kind, len(a.shape)) == (b.kind, len(b.shape)) for a, b in zip(source, partners, strict=True)):
            return list(enumerate(places))
    return None


def _kernel(layer: Layer) -> tuple[int, ...]:
    return () if layer.kind == NORM else layer.shape[2:]


def _relative(layers: Sequence[Layer]) -> list[Layer]:
    """Return layers with their widths in per mille of the widest hidden layer."""
    widest = max((layer.shape[0] for layer in layers[:-1]), default=1) or 1
    return [
        replace(layer, shape=(*(max(1, 1000 * n // widest) for n in layer.shape[:2]), *layer.shape[2:]))
        for layer in layers
    ]


def _decided(source: Sequence[Layer], target: Sequence[Layer], pairs: Pairs) -> float:
    """Estimate the number of weights that the source decides: whole rows of as many networks as fit side by side."""
    ratios = [target[b].shape[0] // source[a].shape[0] for a, b in pairs if a + 1 < len(source)]
    members = max(1, min(ratios, default=1))
    return sum(
        math.prod(target[b].shape) * min(1.0, members * source[a].shape[0] / max(1, target[b].shape[0]))
        for a, b in pairs
    )


def align(source: Sequence[Layer], target: Sequence[Layer]) -> Pairs:
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
