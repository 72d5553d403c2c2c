"""UMAP maps on disk, so that only the first process that draws from anchors fits them.

A fit of a hundred anchors takes 0.1 s, but 10 s are spent before that on compiling what it needs. Drawing needs other
functions, which take a few seconds. So what the inverse reads of a fitted map is kept in the cache folder, and a
process that finds it there does without the fit. A map is kept only if the map restored from the file inverts as the
fitted one does, and it is used only if the file carries the digest of its contents and was written by the same
versions of the packages for the same anchors; otherwise it is made anew.

Letters: N anchors, L latent size.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hyperinit.errors import ArtifactError
from hyperinit.files import cache, headers
from hyperinit.files.atomic import replacing

HEADER = "hyperinit-map"
MAKERS = ("umap-learn", "numba", "numpy", "scipy", "scikit-learn")  # another version may give another map
ARRAYS = {"embedding_": np.float32, "_sigmas": np.float32, "_rhos": np.float32}  # one row for each anchor
NUMBERS = ("_a", "_b")


def fitted(z: np.ndarray, options: dict[str, Any]) -> Any:
    """Return a `umap.UMAP(**options)` fitted to latents, float32 (N, L), or one that inverts likewise."""
    path = cache.path() / cache.name(_key(z, options), "map.safetensors")
    try:
        return _restored(z, options, _read(path, len(z)))
    except (OSError, SafetensorError, ArtifactError, AttributeError):
        pass  # not there, not whole, or not of this kind
    import umap

    found = umap.UMAP(**options).fit(z)
    tensors = _state(found)
    if _agree(z, options, tensors, found):
        _write(path, tensors)
    return found


def _key(z: np.ndarray, options: dict[str, Any]) -> str:
    facts = [sorted(options.items()), z.shape, [version(name) for name in MAKERS]]
    return hashlib.sha256(json.dumps(facts).encode() + z.tobytes()).hexdigest()


def _state(fitted_map: Any) -> dict[str, Tensor]:
    tensors = {name: torch.from_numpy(np.array(getattr(fitted_map, name), kind)) for name, kind in ARRAYS.items()}
    return tensors | {name: torch.tensor(float(getattr(fitted_map, name)), dtype=torch.float64) for name in NUMBERS}


def _restored(z: np.ndarray, options: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """Put into an unfitted map what a fit leaves there and the inverse reads."""
    import umap
    from umap import distances

    found = umap.UMAP(**options)
    for name, value in tensors.items():
        setattr(found, name, value.item() if name in NUMBERS else value.numpy())
    found._raw_data, found._sparse_data, found._initial_alpha = z, False, found.learning_rate
    found._metric_kwds = found._output_metric_kwds = {}
    found._inverse_distance_func = distances.named_distances_with_gradients[found.metric]
    return found


def _agree(z: np.ndarray, options: dict[str, Any], tensors: dict[str, Tensor], found: Any) -> bool:
    """Whether the restored map inverts as the fitted one: its inner names are UMAP's own and may change."""
    points = found.embedding_.mean(0, keepdims=True, dtype=np.float32)
    try:
        return np.array_equal(_restored(z, options, tensors).inverse_transform(points), found.inverse_transform(points))
    except (AttributeError, KeyError, TypeError):
        return False


def _read(path: Path, count: int) -> dict[str, Tensor]:
    with headers.opened(path, HEADER) as (header, file):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
    if header != {"digest": headers.digest({}, tensors)} or tensors.keys() != {*ARRAYS, *NUMBERS}:
        raise ArtifactError("a map must have the tensors and the digest that were written")
    if any(len(tensors[name]) != count for name in ARRAYS):
        raise ArtifactError(f"a map must have a row for each of the {count} anchors")
    return tensors


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, {HEADER: json.dumps({"digest": headers.digest({}, tensors)})})
    except OSError:
        pass  # a folder that cannot be written: the next process fits again
