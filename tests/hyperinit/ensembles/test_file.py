"""Files of ensembles, from any origin: every field and tensor is checked before a member is made."""

import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from hyperinit import nets
from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.errors import ArtifactError
from hyperinit.files import headers

KEY = "hyperinit-ensemble"


class Masked(nn.Module):
    """A module of the user's own with a mask of infinities, and a counter."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x):
        return self.linear(x) + self.mask


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "e.safetensors"
    Ensemble([nn.Sequential(nn.Linear(4, 2), nn.Tanh()) for _ in range(3)]).save(path)
    return path


@pytest.fixture
def forge(path):
    """Change header and tensors and give the file the right digest."""

    def change(edit):
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()[KEY])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        edit(header, tensors)
        header.pop("digest", None)
        text = json.dumps(header | {"digest": headers.digest(header, tensors)})
        save_file(tensors, path, {KEY: text})
        return path

    return change


def refused(path, message, **options):
    with pytest.raises(ArtifactError, match=f"must be an ensemble that was saved whole, got: {message}"):
        Ensemble.load(path, **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2, "needs": "0.5"}, "format 2, and this hyperinit reads format 1; install hyperinit 0.5 or later"),
        ({"format": None}, "format must be a positive integer, got None"),
        ({"n": 0}, "n must be from 1 to the number of tensors, 6, got 0"),
        ({"n": 7}, "n must be from 1 to the number of tensors, 6, got 7"),
        ({"n": True}, "n must be from 1"),
        ({"n": 2.0}, "n must be from 1"),
        ({"n": 2}, "tensors that do not fit the header: unexpected 2.0.bias; unexpected 2.0.weight"),
        ({"n": 4}, r"tensors that do not fit the header: 3.0.weight None, expected \(2, 4\)"),
        ({"combine": "votes"}, "combine must be probabilities or logits, got 'votes'"),
        ({"combine": ["logits"]}, "combine must be"),
        ({"more": 1}, "header must have the fields .*; it has the unknown 'more'"),
        ({"architecture": [["exec", {}]]}, "not a network description"),
        ({"architecture": [["tanh", {}]]}, "tensors that do not fit the header: unexpected 0.0.bias"),
    ],
)
def test_headers_that_lie_are_refused(forge, changes, message):
    refused(forge(lambda header, tensors: header.update(changes)), message)


@pytest.mark.parametrize("field", ["n", "combine", "architecture"])
def test_each_field_is_needed(forge, field):
    refused(forge(lambda header, tensors: header.pop(field)), f"header must have the fields .*; it lacks {field}")


def test_huge_members_are_refused_before_any_is_made(forge, monkeypatch):
    made = []
    build = nets.build
    monkeypatch.setattr(nets, "build", lambda *args, **options: made.append(options) or build(*args, **options))
    huge = [["linear", {"in_features": 2**30, "out_features": 2**30}]]
    refused(forge(lambda header, tensors: header.update(architecture=huge)), "tensors that do not fit the header")
    assert made == [{"device": "meta"}]


def test_more_modules_than_a_small_file_should_cost_are_refused(forge):
    steps = [["linear", {"in_features": 4, "out_features": 2}]] + [["tanh", {}]] * 1000
    assert len(Ensemble.load(forge(lambda header, tensors: header.update(architecture=steps))).members) == 3
    tensors = {f"{index}.0.{name}": value for index in range(9) for name, value in nn.Linear(4, 2).state_dict().items()}
    path = forge(lambda header, old: (header.update(n=9), old.update(tensors)))
    refused(path, "9 members of 1001 modules, and this hyperinit makes at most 8192 together")


def test_a_changed_number_is_found_by_the_digest(path):
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in sorted(file.keys())}
    tensors["0.0.bias"][0] += 1
    save_file(tensors, path, metadata)
    refused(path, "its contents do not match the digest in its header")


def test_a_file_from_before_there_was_a_digest_is_read(path):
    with safe_open(path, "pt") as file:
        header, tensors = (
            json.loads(file.metadata()[KEY]),
            {name: file.get_tensor(name) for name in sorted(file.keys())},
        )
    old = {key: header[key] for key in ("format", "n", "combine", "architecture")}
    save_file(tensors, path, {KEY: json.dumps(old)})
    assert torch.equal(Ensemble.load(path).members[2][0].bias, tensors["2.0.bias"])


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_parameters_that_are_not_finite_are_neither_read_nor_written(forge, path, number):
    before = path.read_bytes()
    ensemble = Ensemble.load(path)
    ensemble.members[1][0].bias.data[0] = number
    message = r"parameter 0\.bias of member 1 must be finite, got NaN or infinity"
    with pytest.raises(ArtifactError, match=message):
        ensemble.save(path)
    assert path.read_bytes() == before
    refused(forge(lambda header, tensors: tensors["1.0.bias"].fill_(number)), message)


def test_buffers_may_hold_anything(tmp_path):
    ensemble = Ensemble([Masked(), Masked()])
    ensemble.save(tmp_path / "m.safetensors")
    again = Ensemble.load(tmp_path / "m.safetensors", model=Masked)
    assert torch.equal(again.members[1].mask, ensemble.members[1].mask)
    assert again.members[0].steps == 3


@pytest.mark.parametrize("name", ["9.0.bias", "x.0.bias", "0", "²", "-1.0.bias", "9999999999.a"])
def test_tensors_of_no_member_are_refused_beside_a_factory(forge, name):
    path = forge(lambda header, tensors: tensors.update({name: torch.zeros(1)}))
    message = "tensor .* must begin with the number of a member, below 3|Error.* in loading state_dict"
    refused(path, message, model=lambda: nn.Sequential(nn.Linear(4, 2)))


def test_an_error_in_a_factory_is_its_own(path):
    def factory():
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match=r"^out of luck$"):
        Ensemble.load(path, model=factory)


def test_what_was_loaded_does_not_depend_on_the_file(path):
    ensemble = Ensemble.load(path)
    before = ensemble.members[0][0].weight.clone()
    with path.open("r+b") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        file.write(bytes(32))
    assert torch.equal(ensemble.members[0][0].weight, before)
