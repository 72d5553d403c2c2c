"""A disk cache of fitted UMAP maps, so that only the first process fits the map of given anchors.

Fitting a hundred anchors takes 0.1 s, but compiling the functions of the fit takes 10 s before that. The inverse uses
other functions, which compile in a few seconds. The cache therefore stores the attributes that the inverse reads.

A map is stored only if a map restored from its tensors inverts exactly as the fitted one does. A stored map is used
only if its digest matches its contents and if anchors, options and package versions are the same. Otherwise the map is
fitted again.

Letters: N anchors, L latent size.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import json
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hyperinit.errors import ArgumentError, ArtifactError
from hyperinit.files import cache, headers
from hyperinit.files.atomic import replacing

HEADER = "hyperinit-map"
MAKERS = ("umap-learn", "numba", "numpy", "scipy", "scikit-learn")  # another version may give another map
ARRAYS = {"embedding_": np.float32, "_sigmas": np.float32, "_rhos": np.float32}  # (N, 3), (N,) and (N,)
NUMBERS = ("_a", "_b")  # parameters of the curve that turns distances in the map into similarities


def fitted(z: np.ndarray, options: dict[str, Any]) -> Any:
    """Return a `umap.UMAP(**options)` fitted to latents, float32 (N, L), or a restored map with the same inverse."""
    path = cache.path() / cache.name(_key(z, options), "map.safetensors")
    try:
        return _restored(z, options, _read(path, len(z)))
    except (OSError, SafetensorError, ArtifactError, AttributeError):
        pass  # missing, damaged, or not a map: fit it
    found = _umap().UMAP(**options).fit(z)
    tensors = _state(found)
    if _agree(z, options, tensors, found):
        _write(path, tensors)
    return found


def _umap() -> Any:
    """Import UMAP, whose functions are compiled into files beside it or in the home folder.

    In a container that can write to neither, the files of this process lie in a temporary folder.

    Raises:
        ArgumentError: if no temporary folder can be written either.
    """
    try:
        return importlib.import_module("umap")
    except RuntimeError as error:  # numba's, while functions with a cache are defined
        if "cannot cache function" not in str(error):
            raise
    try:
        folder = tempfile.mkdtemp(prefix="hyperinit-numba-")
    except OSError as error:
        raise ArgumentError(
            f"method neigh must have a folder for its compiled functions, got none that can be written ({error}). "
            f"Set NUMBA_CACHE_DIR to one, or choose another method."
        ) from None
    atexit.register(_remove, folder, os.getpid())
    importlib.import_module("numba").config.CACHE_DIR = folder
    return importlib.import_module("umap")


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:  # a fork inherits the exit handler, but its parent still needs the folder
        shutil.rmtree(folder, ignore_errors=True)


def _key(z: np.ndarray, options: dict[str, Any]) -> str:
    facts = [sorted(options.items()), z.shape, [version(name) for name in MAKERS]]
    return hashlib.sha256(json.dumps(facts).encode() + z.tobytes()).hexdigest()


def _state(fitted_map: Any) -> dict[str, Tensor]:
    tensors = {name: torch.from_numpy(np.array(getattr(fitted_map, name), kind)) for name, kind in ARRAYS.items()}
    return tensors | {name: torch.tensor(float(getattr(fitted_map, name)), dtype=torch.float64) for name in NUMBERS}


def _restored(z: np.ndarray, options: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """Make an unfitted map and set the attributes that the inverse reads."""
    umap = _umap()
    found = umap.UMAP(**options)
    for name, value in tensors.items():
        setattr(found, name, value.item() if name in NUMBERS else value.numpy())
    # The inverse starts from the anchors' latents; these attributes have the values that `fit` sets for dense input.
    found._raw_data, found._sparse_data, found._initial_alpha = z, False, found.learning_rate
    found._metric_kwds = found._output_metric_kwds = {}
    found._inverse_distance_func = umap.distances.named_distances_with_gradients[found.metric]
    return found


def _agree(z: np.ndarray, options: dict[str, Any], tensors: dict[str, Tensor], found: Any) -> bool:
    """Check that the restored map inverts as the fitted one, since UMAP's private attributes may change."""
    points = found.embedding_.mean(0, keepdims=True, dtype=np.float32)  # (1, 3), inside the hull
    try:
        return np.array_equal(_restored(z, options, tensors).inverse_transform(points), found.inverse_transform(points))
    except (AttributeError, KeyError, TypeError):
        return False


def _read(path: Path, count: int) -> dict[str, Tensor]:
    with headers.opened(path, HEADER) as (header, file):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
    if header != {"digest": headers.digest({}, tensors)} or tensors.keys() != {*ARRAYS, *NUMBERS}:
        raise ArtifactError("a stored map must have the expected tensors and a matching digest, got others")
    if any(len(tensors[name]) != count for name in ARRAYS):
        raise ArtifactError(f"a stored map must have one row for each of {count} anchors, got another number")
    return tensors


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    if not path.is_absolute():
        return  # there is no home folder
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, {HEADER: json.dumps({"digest": headers.digest({}, tensors)})})
    except OSError:
        pass  # the folder is not writable: the next process fits again
