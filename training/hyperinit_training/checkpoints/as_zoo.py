"""Checkpoints as a zoo."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hyperinit import nets
from hyperinit.errors import LayoutError
from hyperinit.layout import Layout
from hyperinit_training.checkpoints.read import Checkpoints
from hyperinit_training.zoo.zoo import LEAST_MODELS, Snapshot, Zoo


def as_zoo(  # noqa: PLR0913
    found: Checkpoints, layout: Layout, families: Tensor, factory: Callable[[], nn.Module], holdout: float, seed: int
) -> Zoo:
    """Order checkpoints as a layout orders weights, and hold some of them out: copies stay on one side.

    Raises:
        LayoutError: if the network holds tensors that are no part of conv, linear or norm layers.
    """
    slices = found.layout.slices
    missing = {tensor.name for tensor in layout.tensors} ^ set(slices)
    if missing:
        raise LayoutError(
            f"all float tensors must belong to conv, linear or norm layers, got {', '.join(sorted(missing)[:5])}"
        )
    columns = torch.cat([torch.arange(slices[t.name].start, slices[t.name].stop) for t in layout.tensors])
    same = {digest: number for number, digest in enumerate(dict.fromkeys(found.digests))}
    models = [same[digest] for digest in found.digests]
    count = max(0, min(max(1, round(holdout * len(same))), len(same) - LEAST_MODELS)) if holdout else 0
    held = set(torch.randperm(len(same), generator=torch.Generator().manual_seed(seed))[:count].tolist())
    scores = torch.zeros(len(found)) if found.scores is None else found.scores
    epochs = torch.zeros(len(found)) if found.epochs is None else found.epochs
    rows = zip(models, families.tolist(), epochs.tolist(), scores.tolist(), strict=True)
    snapshots = tuple(
        Snapshot(number, family, epoch, "val" if number in held else "train", score, score)
        for number, family, epoch, score in rows
    )
    module = factory()
    try:
        architecture = nets.describe(module) if type(module) is nn.Sequential else None
    except LayoutError:
        architecture = None
    return Zoo(layout, found.weights[:, columns], snapshots, architecture, {})
