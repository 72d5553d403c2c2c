"""What an ensemble saves can be loaded; what cannot be loaded is not saved."""

import json
import math

import pytest
import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.utils import parametrizations

from hyperinit import nets
from hyperinit.ensembles import file
from hyperinit.ensembles.ensemble import Ensemble
from hyperinit.errors import ArgumentError, ArtifactError, WriteError
from hyperinit.files import headers


class Holder(nn.Module):
    """A module with a weight and a buffer of any kind."""

    def __init__(self, value, name="extra"):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer(name, value)


class Frozen(nn.Module):
    """A module with a parameter of any kind."""

    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(value, requires_grad=False)


class State(nn.Linear):
    """A layer with further state."""

    def __init__(self, value):
        super().__init__(2, 2)
        self.value = value

    def get_extra_state(self):
        return self.value

    def set_extra_state(self, state):
        self.value = state


def described(path):
    with safe_open(path, "pt") as opened:
        return json.loads(opened.metadata()["hyperinit-ensemble"])["architecture"]


def refused(members, message, tmp_path):
    path = tmp_path / "e.safetensors"
    path.write_bytes(b"before")
    with pytest.raises(ArtifactError, match=message):
        Ensemble(members).save(path)
    assert [found.name for found in tmp_path.iterdir()] == ["e.safetensors"]
    assert path.read_bytes() == b"before"


def test_the_dtypes_of_writer_and_reader_are_the_same(tmp_path):
    members = [Holder(torch.zeros(3).to(dtype)) for dtype in file.DTYPES]
    Ensemble(members).save(tmp_path / "e.safetensors")
    with safe_open(tmp_path / "e.safetensors", "pt") as opened:
        found = {opened.get_slice(name).get_dtype() for name in sorted(opened.keys())}
    assert found == set(headers.DTYPES)
    makes = iter([Holder(torch.ones(3).to(dtype)) for dtype in file.DTYPES])
    again = Ensemble.load(tmp_path / "e.safetensors", model=lambda: next(makes))
    for ours, before in zip(again.members, members, strict=True):
        assert ours.extra.dtype == before.extra.dtype
        assert torch.equal(ours.extra.to(torch.complex64), torch.zeros(3, dtype=torch.complex64))


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
@pytest.mark.parametrize(
    "dtype",
    [
        torch.uint16, torch.uint32, torch.uint64, torch.complex128, torch.complex32, torch.float8_e4m3fnuz,
        torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
    ],
)  # fmt: skip
def test_other_dtypes_are_not_saved(dtype, tmp_path):
    message = rf"^'extra' of member 1 must be of float64, .*, bool to be saved, got {dtype}$"
    refused([Holder(torch.zeros(2)), Holder(torch.zeros(2, dtype=dtype))], message, tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch's prototypes
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.eye(2).to_sparse(), r"a dense tensor with values to be saved, got torch\.sparse_coo on cpu"),
        (lambda: torch.eye(2).to_sparse_csr(), r"a dense tensor .*, got torch\.sparse_csr on cpu"),
        (lambda: torch.eye(2, device="meta"), r"a dense tensor .*, got torch\.strided on meta"),
        (lambda: torch.eye(2).to_mkldnn(), r"a dense tensor .*, got torch\._mkldnn on cpu"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), r"a dense tensor .*, got nested"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8), r"of float64, .*, got torch\.qint8"),
        (lambda: torch.ones(2).as_subclass(type("Odd", (torch.Tensor,), {})), "a tensor to be saved, got Odd"),
    ],
)
def test_tensors_of_another_kind_are_not_saved(make, kind, tmp_path):
    refused([Holder(make())], rf"^'extra' of member 0 must be {kind}", tmp_path)
    refused([Frozen(make())], rf"^'weight' of member 0 must be {kind}", tmp_path)


def test_parameters_that_were_never_made_are_not_saved(tmp_path):
    message = "^'weight' of member 0 must be a tensor to be saved, got UninitializedParameter$"
    refused([nn.LazyLinear(3)], message, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_parameters_of_8_bits_are_checked_as_others(dtype, tmp_path):
    Ensemble([Frozen(torch.ones(2).to(dtype))]).save(tmp_path / "e.safetensors")
    again = Ensemble.load(tmp_path / "e.safetensors", model=lambda: Frozen(torch.zeros(2).to(dtype)))
    assert again.members[0].weight.float().tolist() == [1, 1]
    message = "parameter weight of member 0 must be finite, got NaN or infinity"
    refused([Frozen(torch.tensor([math.nan]).to(dtype))], message, tmp_path)


@pytest.mark.parametrize("value", [{"a": 1}, None, [1], "text"])
def test_further_state_must_be_a_tensor(value, tmp_path):
    kind = type(value).__name__
    refused([State(value)], rf"^'_extra_state' of member 0 must be a tensor to be saved, got {kind}$", tmp_path)


def test_further_state_that_is_a_tensor_is_saved(tmp_path):
    Ensemble([State(torch.ones(2))]).save(tmp_path / "e.safetensors")
    again = Ensemble.load(tmp_path / "e.safetensors", model=lambda: State(None))
    assert again.members[0].value.tolist() == [1, 1]


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2, 3).T, torch.ones(1).expand(4), torch.ones(0, 3), torch.tensor(math.inf), torch.ones(2)[::2],
        torch.tensor([1 + 2j]).conj(), torch.tensor([1 + 2j]).conj().imag, torch.ones(2, requires_grad=True) * 2,
    ],
)  # fmt: skip
def test_values_come_back_whatever_their_memory(value, tmp_path):
    Ensemble([Holder(value)]).save(tmp_path / "e.safetensors")
    again = Ensemble.load(tmp_path / "e.safetensors", model=lambda: Holder(torch.zeros_like(value)))
    assert torch.equal(again.members[0].extra, value)


@pytest.mark.parametrize("name", ["a\ud800", "a" * (1 << 20)])
def test_a_header_that_cannot_be_read_is_not_written(name, tmp_path):
    refused(
        [Holder(torch.ones(1), name)], "e.safetensors must get an ensemble that can be loaded again, got: ", tmp_path
    )


def test_members_without_tensors_are_not_saved(tmp_path):
    message = r"must get an ensemble that can be loaded again, got: n must be from 1 to the number of tensors, 0, got 2"
    refused([nn.Tanh(), nn.Tanh()], message, tmp_path)


def test_more_modules_than_are_read_are_not_saved(tmp_path):
    net = lambda: nn.Sequential(nn.Linear(1, 1), *(nn.Tanh() for _ in range(1000)))  # noqa: E731
    refused([net() for _ in range(9)], "9 members of 1001 modules, and this hyperinit makes at most 8192", tmp_path)


def test_a_changed_way_of_combining_is_not_saved(tmp_path):
    ensemble = Ensemble([nn.Sequential(nn.Linear(2, 2))])
    ensemble.combine = "votes"
    with pytest.raises(ArtifactError, match="combine must be probabilities or logits, got 'votes'"):
        ensemble.save(tmp_path / "e.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_of_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(file, "save_file", full)
    with pytest.raises(WriteError, match=r"e\.safetensors cannot be written, got: I/O error: No space left"):
        Ensemble([nn.Linear(2, 2)]).save(tmp_path / "e.safetensors")
    assert not list(tmp_path.iterdir())


def tanh():
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh())


def hooked():
    net = tanh()
    net[1].register_forward_hook(lambda part, args, output: 2 * output)
    return net


def normed():
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3)), nn.Tanh())


def replaced():
    net = tanh()
    net[1].forward = torch.relu
    return net


@pytest.mark.parametrize(
    "members",
    [
        [tanh(), nn.Sequential(nn.Linear(4, 3), nn.ReLU())],
        [tanh(), nn.Linear(4, 3)],
        [tanh(), hooked()],
        [replaced(), tanh()],
        [normed()],
        [nn.Linear(4, 3)],
    ],
)
def test_members_that_no_description_makes_need_a_factory(members, tmp_path):
    path = tmp_path / "e.safetensors"
    Ensemble(members).save(path)
    assert described(path) is None
    with pytest.raises(ArgumentError, match="model must be given"):
        Ensemble.load(path)


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.complex64])
def test_described_members_come_back_in_their_dtype(dtype, tmp_path):
    ensemble = Ensemble([tanh().to(dtype), tanh()])
    ensemble.save(tmp_path / "e.safetensors")
    again = Ensemble.load(tmp_path / "e.safetensors")
    assert [net[0].weight.dtype for net in again.members] == [dtype, torch.float32]
    for ours, before in zip(again.parameters(), ensemble.parameters(), strict=True):
        assert torch.equal(ours, before)
        assert ours.requires_grad


def test_residual_networks_come_back(tmp_path):
    members = [nets.resnet(8, width=2) for _ in range(2)]
    Ensemble(members).save(tmp_path / "e.safetensors")
    again = Ensemble.load(tmp_path / "e.safetensors").eval()
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(again(x), Ensemble(members).eval()(x))


@pytest.mark.parametrize("made", [None, "net", 3])
def test_a_factory_must_make_modules(made, tmp_path):
    Ensemble([tanh()]).save(tmp_path / "e.safetensors")
    with pytest.raises(ArgumentError, match=f"^model must return a module, got {type(made).__name__}$"):
        Ensemble.load(tmp_path / "e.safetensors", model=lambda: made)


def test_a_factory_must_make_values(tmp_path):
    Ensemble([tanh()]).save(tmp_path / "e.safetensors")
    with pytest.raises(ArgumentError, match=r"^model must return a module with values, got one on the meta device"):
        Ensemble.load(tmp_path / "e.safetensors", model=lambda: tanh().to("meta"))
