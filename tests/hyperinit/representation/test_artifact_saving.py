"""Saving: the bytes are reproducible, and nothing is written that could not be read."""

from dataclasses import replace

import pytest

from hyperinit.errors import ArtifactError
from hyperinit.representation import HyperRepresentation


def test_what_half_precision_cannot_hold_is_not_written(tiny, tmp_path):
    """A file that nothing can read would be found out when it is too late."""
    heavy = HyperRepresentation(tiny.header, tiny.autoencoder, tiny.anchors)
    object.__setattr__(heavy, "anchors", replace(tiny.anchors, weights=tiny.anchors.weights + 1e6))
    with pytest.raises(ArtifactError, match=r"tensor anchors\.weights must hold finite numbers"):
        heavy.save(tmp_path / "heavy.safetensors")
    assert not list(tmp_path.iterdir())


def test_equal_content_gives_equal_bytes(tiny, tmp_path):
    for name in "ab":
        tiny.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
