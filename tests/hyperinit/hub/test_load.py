"""A source is read once in a process, and again only when its file was replaced or changed."""

import dataclasses
import os

import pytest

import hyperinit
from hyperinit.errors import ArgumentError
from hyperinit.hub.load import load, methods, sources
from hyperinit.representation import HyperRepresentation


@pytest.fixture
def other(tiny):
    """A source whose file has the size of that of `tiny`."""
    card = dataclasses.replace(tiny.card, title=tiny.card.title.upper())
    return HyperRepresentation(dataclasses.replace(tiny.header, card=card), tiny.autoencoder, tiny.anchors, tiny.states)


def test_a_file_is_read_once(artifact):
    assert load(artifact) is load(str(artifact)) is hyperinit.load(artifact)
    assert load(load(artifact)) is load(artifact)


def test_a_file_of_the_same_size_and_time_is_read_again_if_it_was_replaced(artifact, other):
    first, before = load(artifact), artifact.stat()
    other.save(artifact)
    os.utime(artifact, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert artifact.stat().st_size == before.st_size
    assert load(artifact).card.title == other.card.title != first.card.title


def test_names_and_methods_are_listed(embedded):
    assert list(sources()) == ["tiny"]
    assert "kde30" in methods("tiny")


@pytest.mark.parametrize(
    "source", [None, 5, b"tiny", ["tiny"], {}, 1j, 10**5000, object()], ids=lambda v: type(v).__name__
)
def test_a_source_of_another_type_is_refused(source):
    with pytest.raises(ArgumentError, match="source must be a name, a path or a HyperRepresentation, got"):
        load(source)


@pytest.mark.parametrize("offline", ["no", 1, 0.0, []])
def test_offline_must_be_true_or_false(artifact, offline):
    with pytest.raises(ArgumentError, match="offline must be True, False or None, got"):
        load(artifact, offline=offline)
