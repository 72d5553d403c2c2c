"""The disk cache of maps: equal draws, no second fit, and a new fit in place of a damaged file."""

import importlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import umap
from safetensors.torch import load_file, save_file

from hyperinit.errors import ArgumentError
from hyperinit.files import cache, headers
from hyperinit.samplers import neigh_maps

OPTIONS = {"n_neighbors": 15, "min_dist": 0.01, "n_components": 3, "random_state": 42, "n_jobs": 1}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERINIT_HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield tmp_path


@pytest.fixture
def fits(monkeypatch):
    """A list with one entry for each fit of UMAP."""
    count, fit = [], umap.UMAP.fit
    monkeypatch.setattr(umap.UMAP, "fit", lambda self, z: (count.append(1), fit(self, z))[1])
    return count


def latents(seed=0):
    return torch.randn(20, 6, generator=torch.Generator().manual_seed(seed)).tanh().numpy()


def inverted(found):
    points = found.embedding_[:4] + np.float32(0.01)
    return found.inverse_transform(points)


def test_a_stored_map_inverts_as_the_fitted_one_and_is_not_fitted_again(folder, fits):
    first, second = (neigh_maps.fitted(latents(), OPTIONS) for _ in range(2))
    assert len(fits) == 1
    assert np.array_equal(first.embedding_, second.embedding_)
    assert np.array_equal(inverted(first), inverted(second))
    [file] = cache.entries()
    assert file.parent == folder
    assert cache.clear() == 1


@pytest.mark.slow
@pytest.mark.parametrize("other", [lambda: (latents(1), OPTIONS), lambda: (latents(), OPTIONS | {"min_dist": 0.1})])
def test_other_anchors_or_options_are_another_map(fits, other):
    neigh_maps.fitted(latents(), OPTIONS)
    neigh_maps.fitted(*other())
    assert len(fits) == len(cache.entries()) == 2


@pytest.mark.slow
def test_other_versions_are_another_map(fits, monkeypatch):
    neigh_maps.fitted(latents(), OPTIONS)
    monkeypatch.setattr(neigh_maps, "version", lambda name: "0")
    neigh_maps.fitted(latents(), OPTIONS)
    assert len(fits) == 2


def forged(file, **changes):
    """Write the file with other tensors and a digest that fits them."""
    tensors = {name: value for name, value in (load_file(file) | changes).items() if value is not None}
    save_file(tensors, file, {neigh_maps.HEADER: json.dumps({"digest": headers.digest({}, tensors)})})


def flipped(file):
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


@pytest.mark.slow  # each inverse takes a second or two
@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(b""),
        lambda file: forged(file, _rhos=None),
        lambda file: forged(file, embedding_=torch.zeros(19, 3)),
    ],
    ids=["a bit", "cut short", "empty", "a tensor missing", "a row missing"],
)
def test_a_damaged_map_is_fitted_again(fits, damage):
    expected = inverted(neigh_maps.fitted(latents(), OPTIONS))
    [file] = cache.entries()
    whole = file.read_bytes()
    damage(file)
    assert np.array_equal(inverted(neigh_maps.fitted(latents(), OPTIONS)), expected)
    assert len(fits) == 2
    assert file.read_bytes() == whole


@pytest.mark.slow
def test_a_map_that_cannot_be_restored_is_not_stored(fits, monkeypatch):
    monkeypatch.setattr(neigh_maps, "ARRAYS", {"embedding_": np.float32, "_sigmas": np.float32})
    found = neigh_maps.fitted(latents(), OPTIONS)
    assert inverted(found).shape == (4, 6)
    assert cache.entries() == []


@pytest.mark.slow
def test_a_read_only_folder_means_another_fit(tmp_path, fits, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HYPERINIT_HOME", str(tmp_path / "file"))
    for _ in range(2):
        neigh_maps.fitted(latents(), OPTIONS)
    assert len(fits) == 2


class Locked(RuntimeError):
    """What numba raises where it can write nowhere."""


@pytest.fixture
def locked(monkeypatch):
    """An installation in which `import umap` fails until numba has a folder; gives the folders that it was given."""
    import numba

    real, folders = importlib.import_module, []

    def imported(name):
        if name == "umap" and not numba.config.CACHE_DIR:
            raise Locked("cannot cache function 'rdist': no locator available for file 'layouts.py'")
        folders.append(numba.config.CACHE_DIR)
        return real(name)

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(neigh_maps.importlib, "import_module", imported)
    return folders


def test_without_a_folder_that_can_be_written_numba_gets_a_temporary_one(locked):
    assert neigh_maps._umap().UMAP is umap.UMAP
    [folder] = set(map(Path, filter(None, locked)))
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0  # numba unpickles what lies there
    neigh_maps._remove(str(folder), os.getpid() + 1)
    assert folder.is_dir()  # a fork leaves it alone
    neigh_maps._remove(str(folder), os.getpid())
    assert not folder.exists()


def test_without_any_folder_that_can_be_written_the_error_says_what_to_do(locked, monkeypatch):
    def refuse(prefix):
        raise OSError("read-only file system")

    monkeypatch.setattr(neigh_maps.tempfile, "mkdtemp", refuse)
    with pytest.raises(ArgumentError, match=r"got none that can be written \(read-only.*Set NUMBA_CACHE_DIR to one"):
        neigh_maps._umap()


def test_other_errors_of_the_import_are_not_hidden(monkeypatch):
    def broken(name):
        raise RuntimeError("something else")

    monkeypatch.setattr(neigh_maps.importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="something else"):
        neigh_maps._umap()


def test_without_a_home_folder_no_map_is_stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    neigh_maps._write(Path("~nosuchuser/map.safetensors"), {"a": torch.zeros(1)})
    assert not [*tmp_path.iterdir()]
