"""Turns what `source=` takes into a source: a hyper-representation, or trained networks of the caller's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hyperinit.checkpoints.gather import gather
from hyperinit.checkpoints.networks import Networks
from hyperinit.errors import ArgumentError, shown
from hyperinit.hub import address
from hyperinit.hub.load import Source, checkpoint, load
from hyperinit.representation import HyperRepresentation

Network = nn.Module | Mapping[str, Any] | str | Path
AnySource = Source | Network | Networks | Sequence[Network]


def given(source: AnySource) -> HyperRepresentation | Networks:
    """Load a source. Names and artifacts come first; another existing file is read as a checkpoint.

    Args:
        source: as for `init_`.

    Raises:
        ArgumentError, LayoutError, ZooError: as `gather`.
        UnknownNameError, ArtifactError, DownloadError: as `load`.

    >>> given(nn.Linear(2, 1)).layout.size
    3
    """
    if isinstance(source, HyperRepresentation | Networks):
        return source
    if type(source) is nn.ModuleList:  # it computes nothing itself
        source = list(source)
    if isinstance(source, nn.Module | Mapping):
        return gather([source], [_name(source, "source")])
    if isinstance(source, str | Path):
        path = checkpoint(source)
        return load(source) if path is None else gather([path], [str(path)])
    if isinstance(source, list | tuple):
        items = [_item(item, f"source[{index}]") for index, item in enumerate(source)]
        alone = len(items) == 1
        return gather(items, [_name(item, "source" if alone else f"source[{n}]") for n, item in enumerate(items)])
    raise ArgumentError(
        "source must be a name, a path, a HyperRepresentation, a module, a state dict, or a list of modules, state "
        f"dicts and paths of checkpoints, got {shown(source)}"
    )


def _item(item: object, name: str) -> nn.Module | Mapping[str, Any] | Path:
    if isinstance(item, nn.Module | Mapping):
        return item
    path = checkpoint(item) if isinstance(item, str | Path) else None
    if path is None:
        got = repr(address.shown(str(item))) if isinstance(item, str | Path) else shown(item)
        raise ArgumentError(
            f"{name} must be a module, a state dict or the path of a checkpoint file, got {got}; a list holds trained "
            "networks alone"
        )
    return path


def _name(item: nn.Module | Mapping[str, Any] | Path, place: str) -> str:
    if isinstance(item, Path):
        return str(item)
    return type(item).__name__ if isinstance(item, nn.Module) and place == "source" else place
