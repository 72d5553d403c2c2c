"""Sizes in a header are compared with the size of the file before anything is allocated."""

import re
import resource
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from hyperinit.errors import ArtifactError
from hyperinit.layout import Layout
from hyperinit.representation import HyperRepresentation
from hyperinit.representation import artifact as artifacts
from hyperinit.representation.artifact import read
from hyperinit.representation.card import FIGURES


def refused(path, message):
    """Expect one error that names the file, says what is wrong and what to do."""
    whole = (
        rf"^{re.escape(str(path))} must be a whole hyper-representation file, got: {message}.*Copy or build it again\.$"
    )
    with pytest.raises(ArtifactError, match=re.compile(whole, re.DOTALL)):
        read(path)


def test_a_huge_autoencoder_is_refused_quickly_and_in_little_memory(forge):
    path = forge(lambda header, tensors: header["autoencoder"].update(width=65536, feedforward=65536, latent=65536))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    refused(path, r"a config that needs a tensor of \d+ numbers, but the file holds only \d+")
    assert time.perf_counter() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; it would need 10^8


def with_inputs(count):
    """Make the first kernel of the layout `count` long, and drop the architecture, which would not fit."""

    def edit(header, tensors):
        header["architecture"] = None
        header["layout"]["layers"][0]["tensors"][0]["shape"] = [8, 1, 5, count]

    return edit


@pytest.mark.parametrize("count", [10**7, 10**10])
def test_a_huge_layout_is_refused_before_anything_of_its_size_is_made(forge, monkeypatch, count):
    monkeypatch.setattr(artifacts, "Autoencoder", None)  # a call would fail
    refused(forge(with_inputs(count)), rf"mean must have shape \({40 * count + 2264},\) to fit the layout, got ")


@pytest.mark.parametrize("depth", [60, 65536])
def test_a_depth_that_the_file_cannot_hold_is_refused_before_it_is_built(forge, monkeypatch, depth):
    monkeypatch.setattr(artifacts, "Autoencoder", None)  # a call would fail
    path = forge(lambda header, tensors: header["autoencoder"].update(depth=depth))
    refused(path, r"\d+ tensors, too few for a depth of 60|depth must be at most 64, got 65536")


def chunked(layout, chunk):
    """Replace the layout, cut it into chunks of `chunk` weights, and drop the architecture."""

    def edit(header, tensors):
        header["architecture"] = None
        header["layout"] = layout.to_json()
        header["autoencoder"]["chunk"] = chunk
        tensors["mean"] = torch.zeros(layout.size)

    return edit


def test_chunks_that_are_nearly_all_padding_are_refused(forge, monkeypatch):
    monkeypatch.setattr(artifacts, "Autoencoder", None)
    layout = Layout.of(nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(300))))
    refused(forge(chunked(layout, 60_000)), r"300 chunks of 60000 weights, but the file holds only \d+ numbers")


def test_layers_that_the_file_cannot_hold_are_refused_before_they_are_built(forge, monkeypatch):
    monkeypatch.setattr(artifacts, "Autoencoder", None)
    layout = Layout.of(nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(300))))
    refused(forge(chunked(layout, 0)), r"\d+ tensors, too few for 300 layers")


@pytest.mark.parametrize(("name", "most"), [("MOST_ANCHORS", 19), ("MOST_TOKENS", 47)])
def test_too_many_anchors_or_tokens_are_refused(artifact, monkeypatch, name, most):
    read(artifact)
    monkeypatch.setattr(artifacts, name, most)
    refused(artifact, rf"{most + 1} .*, but this hyperinit allows at most {most}")


def test_loaded_tensors_share_no_memory_with_the_file(artifact):
    tensors = read(artifact).tensors()
    before = {name: value.clone() for name, value in tensors.items()}
    with artifact.open("r+b") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        file.write(bytes(100_000))
    assert all(torch.equal(tensors[name], before[name]) for name in tensors)


def test_a_decoder_that_overflows_is_not_drawn_from(forge):
    """Every weight of the decoder is finite, but sums over them overflow."""

    def edit(header, tensors):
        tensors["decoder.debedders.0.weight"] = torch.full((26, 16), 3e38)
        tensors["decoder.debedders.0.bias"] = torch.full((26,), 3e38)

    hr = HyperRepresentation.read(forge(edit))
    with pytest.raises(ArtifactError, match=r"'tiny' must decode to finite weights, got NaN or infinity .* 'kde30'"):
        hr.sample(2)


def test_a_header_that_could_not_be_read_again_is_not_written(tiny, tmp_path):
    figures = dict.fromkeys(FIGURES, 0.5)
    for changes, message in (
        (
            {"measured": {"kde": figures | {"std": float("nan")}}},
            r"measured\.kde\.std must be a finite number of at most 64 bits, got nan",
        ),
        ({"measured": {"kde": figures | {"std": 3.0}}}, r"the std of 'kde' must lie in \[0, 1\], got 3.0"),
        ({"title": "\x1b[2J"}, "header.card.title must hold no control characters"),
    ):
        header = replace(tiny.header, card=replace(tiny.card, **changes))
        with pytest.raises(ArtifactError, match=message):
            tiny.with_header(header).save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
