"""An installation for the tests of the hub."""

import pytest

from hyperinit.hub import publish, sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder of an installation with two embedded sources; the working folder is the one above it."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    monkeypatch.setattr(sources, "FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "svhn-v2"):
        (folder / f"{name}.safetensors").write_bytes(name.encode() * 100)
        publish.register_embedded(folder / f"{name}.safetensors", name, f"{name}, 100 models")
    return folder
