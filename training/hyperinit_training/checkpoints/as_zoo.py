"""Convert checkpoints to a zoo: order their columns by a layout, and hold some networks out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hyperinit import nets
from hyperinit.errors import LayoutError
from hyperinit.layout import Layout
from hyperinit_training.checkpoints.read import Checkpoints, build
from hyperinit_training.zoo.zoo import LEAST_MODELS, Snapshot, Zoo


def as_zoo(  # noqa: PLR0913
    found: Checkpoints, layout: Layout, families: Tensor, factory: Callable[[], nn.Module], holdout: float, seed: int
) -> Zoo:
    """Convert checkpoints to a zoo whose columns follow `layout`, with a random "val" split.

    Args:
        found: N checkpoints.
        layout: the layout of the same network.
        families: family of each checkpoint, int64 (N,).
        factory: makes the network. It only serves to describe the architecture.
        holdout: share of the distinct networks to hold out, 0 to 1. Copies of one network are on one side of the split.
        seed: seed of the split.

    Returns:
        The zoo. Its models are the distinct networks. Unknown scores and epochs are 0.

    Raises:
        LayoutError: if the network has float tensors outside of conv, linear and norm layers.
    """
    slices = found.layout.slices
    missing = {tensor.name for tensor in layout.tensors} ^ set(slices)  # in one of the two only
    if missing:
        raise LayoutError(
            f"all float tensors must belong to conv, linear or norm layers, got {', '.join(sorted(missing)[:5])}"
        )
    columns = torch.cat([torch.arange(slices[t.name].start, slices[t.name].stop) for t in layout.tensors])  # (D,)
    same = {digest: number for number, digest in enumerate(dict.fromkeys(found.digests))}  # number by content
    models = [same[digest] for digest in found.digests]
    wanted = max(1, round(holdout * len(same))) if holdout else 0  # a holdout > 0 takes at least one network
    count = max(0, min(wanted, len(same) - LEAST_MODELS))  # and leaves LEAST_MODELS to train on
    held = set(torch.randperm(len(same), generator=torch.Generator().manual_seed(seed))[:count].tolist())
    unknown = torch.zeros(len(found), dtype=torch.float32)
    scores = unknown if found.scores is None else found.scores
    epochs = unknown if found.epochs is None else found.epochs
    rows = zip(models, families.tolist(), epochs.tolist(), scores.tolist(), strict=True)
    snapshots = tuple(
        Snapshot(number, family, epoch, "val" if number in held else "train", score, score)
        for number, family, epoch, score in rows
    )
    module = build(factory)
    try:
        architecture = nets.describe(module) if type(module) is nn.Sequential else None
    except LayoutError:
        architecture = None
    return Zoo(layout, found.weights[:, columns], snapshots, architecture, {})
