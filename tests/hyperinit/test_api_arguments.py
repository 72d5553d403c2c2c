"""Arguments of the public functions: bad ones are refused before anything moves, and the choice of parameters works."""

import dataclasses
import inspect
import os
import re
from copy import deepcopy

import numpy as np
import pytest
import torch
from module_states import same, state
from seeds import gen
from torch import nn

import hyperinit
from hyperinit.errors import ArgumentError, HyperinitError, UnknownNameError
from hyperinit.nets import cnn
from hyperinit.representation import HyperRepresentation
from hyperinit.samplers import METHODS


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_least_share_outside_0_to_1_is_refused(artifact, share):
    with pytest.raises(ArgumentError, match=rf"min_share must be in \[0, 1\], got {share}"):
        hyperinit.init_(hyperinit.nets.cnn(), artifact, min_share=share)


@pytest.mark.parametrize("n", [0, 2.0])
def test_a_number_of_members_below_one_is_refused(artifact, n):
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


def test_an_argument_of_a_wrong_type_is_named(artifact):
    net = cnn()
    for call, message in [
        (lambda: hyperinit.init_("net", artifact), "model must be a module, got str"),
        (lambda: hyperinit.plan(None, artifact), "model must be a module, got NoneType"),
        (lambda: hyperinit.init_(net, None), "source must be a name, a path, a HyperRepresentation, a module"),
        (lambda: hyperinit.init_(net, artifact, strength="0.5"), r"strength must be in \[0, 1\], got '0.5'"),
        (lambda: hyperinit.init_(net, artifact, generator=5), "generator must be a torch.Generator or None, got int"),
        (lambda: hyperinit.ensemble(2, artifact, model=net), "model must make a member when called"),
        (lambda: hyperinit.ensemble(2, artifact, model=lambda: 5), "model must be a module, got int"),
        (lambda: hyperinit.ensemble(2, artifact, model=lambda: net), "members must not share parameters"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            call()


def test_a_bad_strength_does_not_move_the_generator(artifact):
    generator = gen()
    before = generator.get_state()
    with pytest.raises(ArgumentError, match="strength"):
        hyperinit.init_(cnn(), artifact, strength=9, generator=generator)
    assert torch.equal(generator.get_state(), before)


WRONG = {
    "none": None, "bool": True, "int": 5, "huge": 10**400, "text": "x", "bytes": b"x", "list": ["kde"],
    "dict": {"a": 1}, "pattern": re.compile("0.*"), "object": object(), "nan": float("nan"), "complex": 1j,
    "scalar": torch.tensor(0.5), "tensor": torch.tensor([0.1, 0.2]), "array": np.array(["auto"]), "class": nn.Linear,
    "module": nn.ReLU(),
}  # fmt: skip
RIGHT = {  # kinds of values that an argument may have
    "source": "", "plan": "none", "method": "none", "strength": "none", "include": "none", "exclude": "none",
    "skip_frozen": "bool", "calibrate": "none", "select": "none", "oversample": "none", "generator": "none", "n": "int",
    "model": "none", "members": "none", "spread": "bool", "example_input": "none",
}  # fmt: skip
CALLS = {
    (call, name): [kind for kind in WRONG if kind not in RIGHT.get(name, "").split()]
    for call in ("init_", "plan", "ensemble")
    for name in inspect.signature(getattr(hyperinit, call)).parameters
}


@pytest.mark.parametrize(("call", "name"), CALLS)
@pytest.mark.filterwarnings("ignore::hyperinit.MismatchWarning")
def test_each_argument_of_each_wrong_type_is_refused_and_nothing_is_written(artifact, call, name):
    generator = gen()
    moved = generator.get_state()
    for kind in CALLS[call, name]:
        if (call, name, kind) == ("init_", "model", "module") or (name in ("calibrate", "select") and kind in LOADERS):
            continue
        net = cnn()
        before = state(net)
        given = {"source": artifact} | ({"n": 2} if call == "ensemble" else {"model": net})
        given |= {} if call == "plan" else {"generator": generator}
        with pytest.raises(HyperinitError):
            getattr(hyperinit, call)(**given | {name: WRONG[kind]})
        assert same(net, before)
        assert torch.equal(generator.get_state(), moved), kind


LOADERS = ("text", "bytes", "list", "dict", "array")  # iterable: their items are refused as batches


@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith("neigh")])
def test_the_callers_default_device_changes_nothing(tiny, artifact, method):
    """The meta device stands for a GPU: whatever is made there by mistake does not mix with what is on the CPU."""
    expected, model = cnn(channels=3), cnn(channels=3)
    choice = {"method": method, "strength": 0.5, "min_share": 0}
    hyperinit.init_(expected, artifact, generator=gen(), **choice)
    with torch.device("meta"):
        hyperinit.init_(model, artifact, generator=gen(), **choice)
    for got, wanted in zip(model.parameters(), expected.parameters(), strict=True):  # torch may take another kernel
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


def test_an_ensemble_of_the_own_network_takes_the_strength(artifact):
    full, none = (hyperinit.ensemble(2, artifact, strength=strength, generator=gen()) for strength in (1.0, 0.0))
    assert not torch.equal(full.members[0][0].weight, none.members[0][0].weight)
    with pytest.raises(UnknownNameError, match="unknown fit"):
        hyperinit.ensemble(2, artifact, fit="nope")


def test_the_public_functions_write_the_chosen_parameters(embedded, tiny):
    model = cnn()
    before = model[11].weight.clone()
    hyperinit.init_(model, "tiny", exclude="11.*", generator=gen())
    assert torch.equal(model[11].weight, before)
    plain = hyperinit.init_(cnn(), "tiny", generator=gen())
    assert torch.equal(model[0].weight, plain[0].weight)
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    assert torch.equal(hyperinit.init_(model, "tiny", skip_frozen=True)[0].weight, before)
    members = hyperinit.ensemble(2, "tiny", model=lambda: deepcopy(model), include="0.bias").members
    assert all(torch.equal(member[0].weight, before) for member in members)
    assert not torch.equal(members[0][0].bias, members[1][0].bias)
    plan = hyperinit.plan(cnn(), "tiny", include="0.*", exclude="0.bias")
    assert [row.name for row in plan.rows if row.overlap] == ["0.weight"]


@pytest.mark.parametrize("choice", [{"include": "0.*"}, {"exclude": "0.*"}])
def test_an_ensemble_of_the_sources_own_network_is_decoded_whole(embedded, choice):
    with pytest.raises(ArgumentError, match="include and exclude need model="):
        hyperinit.ensemble(2, "tiny", **choice)
