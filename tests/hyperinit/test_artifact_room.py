"""What a header asks for is compared with the file before any of it is made."""

import re
import resource
import time

import pytest

from hyperinit import artifact as artifacts
from hyperinit.artifact import read
from hyperinit.errors import ArtifactError


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
    refused(path, r"a config that calls for a tensor of \d+ numbers, and the file holds \d+")
    assert time.perf_counter() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; it would need 10^8


def with_inputs(count):
    """A layout whose first kernel is that long, and no architecture to contradict it."""

    def edit(header, tensors):
        header["architecture"] = None
        header["layout"]["layers"][0]["tensors"][0]["shape"] = [8, 1, 5, count]

    return edit


@pytest.mark.parametrize("count", [10**7, 10**10])
def test_a_huge_layout_is_refused_before_anything_of_its_size_is_made(forge, monkeypatch, count):
    monkeypatch.setattr(artifacts, "Autoencoder", None)  # not even looked at
    refused(forge(with_inputs(count)), rf"mean must have shape \({40 * count + 2264},\) as the layout says, it has ")


@pytest.mark.parametrize("depth", [60, 65536])
def test_a_depth_that_the_file_cannot_hold_is_refused_before_it_is_built(forge, monkeypatch, depth):
    monkeypatch.setattr(artifacts, "Autoencoder", None)  # not even looked at
    path = forge(lambda header, tensors: header["autoencoder"].update(depth=depth))
    refused(path, r"\d+ tensors, too few for a depth of 60|depth must be at most 64, got 65536")
