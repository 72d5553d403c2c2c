"""Bad arguments of the public functions: told apart, and before anything moves."""

import dataclasses
import os

import pytest
import torch

import hyperinit
from hyperinit.errors import ArgumentError, UnknownNameError
from hyperinit.nets import cnn
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import METHODS


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_the_share_must_be_one(artifact, share):
    with pytest.raises(ArgumentError, match=rf"min_share must be in \[0, 1\], got {share}"):
        hyperinit.init_(hyperinit.nets.cnn(), artifact, min_share=share)


@pytest.mark.parametrize("n", [0, 2.0])
def test_an_ensemble_has_a_member(artifact, n):
    with pytest.raises(ArgumentError, match=f"n must be an integer of at least 1, got {n}"):
        hyperinit.ensemble(n, artifact)


def test_a_replaced_file_is_read_again_whatever_its_time(artifact, tiny):
    first = hyperinit.load(artifact)
    before = artifact.stat()
    card = dataclasses.replace(tiny.card, title="another title of another length")
    header = dataclasses.replace(tiny.header, card=card)
    HyperRepresentation(header, tiny.autoencoder, tiny.anchors).save(artifact)
    os.utime(artifact, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hyperinit.load(artifact) is not first
    assert hyperinit.load(artifact) is hyperinit.load(artifact)


def test_wrong_types_are_told_apart(artifact):
    net = cnn()
    for call, message in [
        (lambda: hyperinit.init_("net", artifact), "model must be a module, got str"),
        (lambda: hyperinit.plan(None, artifact), "model must be a module, got NoneType"),
        (lambda: hyperinit.init_(net, None), "source must be a name, a path or a HyperRepresentation, got None"),
        (lambda: hyperinit.init_(net, artifact, strength="0.5"), r"strength must be in \[0, 1\], got '0.5'"),
        (lambda: hyperinit.init_(net, artifact, generator=5), "generator must be a torch.Generator or None, got int"),
        (lambda: hyperinit.ensemble(2, artifact, model=net), "model must make a member when called"),
        (lambda: hyperinit.ensemble(2, artifact, model=lambda: 5), "model must be a module, got int"),
        (lambda: hyperinit.ensemble(2, artifact, model=lambda: net), "members must not share parameters"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            call()


def test_a_bad_strength_does_not_move_the_generator(artifact):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    with pytest.raises(ArgumentError, match="strength"):
        hyperinit.init_(cnn(), artifact, strength=9, generator=generator)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith("neigh")])
def test_the_callers_default_device_changes_nothing(tiny, artifact, method):
    """The meta device stands for a GPU: whatever is made there by mistake does not mix with what is on the CPU."""
    expected, model = cnn(channels=3), cnn(channels=3)
    choice = {"method": method, "strength": 0.5, "min_share": 0}
    hyperinit.init_(expected, artifact, generator=torch.Generator().manual_seed(0), **choice)
    with torch.device("meta"):
        hyperinit.init_(model, artifact, generator=torch.Generator().manual_seed(0), **choice)
    for got, wanted in zip(model.parameters(), expected.parameters(), strict=True):  # torch may take another kernel
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


def test_an_ensemble_of_the_own_network_takes_the_strength(artifact):
    full, none = (
        hyperinit.ensemble(2, artifact, strength=strength, generator=torch.Generator().manual_seed(0))
        for strength in (1.0, 0.0)
    )
    assert not torch.equal(full.members[0][0].weight, none.members[0][0].weight)
    with pytest.raises(UnknownNameError, match="unknown fit"):
        hyperinit.ensemble(2, artifact, fit="nope")
