"""Layouts of state dicts: order, buffers, tied and skipped tensors, and writing a row into a network."""

import pytest
import torch
from torch import nn

from hyperinit.checkpoints.layout import StateLayout, StateTensor, differences
from hyperinit.errors import LayoutError


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4, bias=False)
        self.head.weight = self.embed.weight


@pytest.fixture
def net():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 1))


@pytest.mark.parametrize("how", ["module", "state"])
def test_a_layout_keeps_the_order_and_marks_statistics(net, how):
    layout = StateLayout.of_module(net) if how == "module" else StateLayout.of(net.state_dict())
    assert [(t.name, t.shape, t.buffer) for t in layout.tensors] == [
        ("0.weight", (2, 1, 3, 3), False), ("0.bias", (2,), False), ("1.weight", (2,), False), ("1.bias", (2,), False),
        ("1.running_mean", (2,), True), ("1.running_var", (2,), True), ("2.weight", (1, 2), False),
        ("2.bias", (1,), False),
    ]  # fmt: skip
    assert layout.left_out == ("1.num_batches_tracked",)
    assert layout.size == 31
    assert layout.is_buffer.nonzero()[:, 0].tolist() == [24, 25, 26, 27]


def test_buffers_of_a_module_are_found_whatever_their_name():
    net = nn.Linear(1, 1)
    net.register_buffer("scale", torch.ones(2))
    assert StateLayout.of_module(net).is_buffer.tolist() == [False, False, True, True]
    assert not StateLayout.of(net.state_dict()).is_buffer.any()


def test_a_row_goes_into_a_network_and_only_counters_stay(net):
    layout = StateLayout.of_module(net)
    net[1].num_batches_tracked.fill_(5)
    assert layout.write_(net, torch.arange(31.0)) is net
    state = layout.select(net.state_dict())
    assert torch.equal(torch.cat([value.flatten() for value in state.values()]), torch.arange(31.0))
    assert net[1].num_batches_tracked == 5


def test_a_row_goes_into_a_compiled_network(net):
    layout = StateLayout.of_module(net)
    layout.write_(torch.compile(net, backend="eager"), torch.arange(31.0))
    assert net[2].bias.item() == 30


def test_another_network_is_refused_and_left_as_it_was(net):
    layout = StateLayout.of_module(net)
    other = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(LayoutError, match=r"checkpoints, got 2.weight has shape \(2, 2\), expected \(1, 2\); 2.bias"):
        layout.write_(other, torch.arange(31.0))
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_tied_tensors_are_held_once():
    net = Tied()
    layout = StateLayout.of_module(net)
    assert layout.tensors == (StateTensor("embed.weight", (4, 3), False),)
    assert layout.left_out == ("head.weight",)
    layout.write_(net, torch.arange(12.0))
    assert net.head.weight[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("kept", [("embed.weight",), ("head.weight",), ("embed.weight", "head.weight")])
def test_any_name_of_a_tied_tensor_is_accepted(kept):
    state = Tied().state_dict()
    found = StateLayout.of_module(Tied()).select({name: state[name] for name in kept})
    assert list(found) == ["embed.weight"]
    assert torch.equal(found["embed.weight"], state["head.weight"])


def test_empty_tensors_are_not_tied():
    layout = StateLayout.of({"a": torch.empty(0), "b": torch.empty(0), "c": torch.ones(2)})
    assert ([tensor.name for tensor in layout.tensors], layout.size) == (["a", "b", "c"], 2)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"n": torch.tensor(3)}, "must hold floating-point tensors, got none among 1 tensors$"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "must hold real tensors, got torch.complex64 in w$"),
    ],
)
def test_states_without_floating_point_numbers_are_refused(state, message):
    with pytest.raises(LayoutError, match=message):
        StateLayout.of(state)


def test_many_differences_are_cut_short():
    wanted = {str(i): (i,) for i in range(9)}
    assert differences({}, wanted).endswith("missing 3 (3,); and 5 more")
    assert differences(wanted, dict(reversed(wanted.items()))) == ""


def test_tensors_on_the_meta_device_are_not_tied():
    """All their addresses are 0."""
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        tied = Tied()
    assert StateLayout.of_module(net) == StateLayout.of_module(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    assert StateLayout.of_module(tied) == StateLayout.of_module(Tied())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda: torch.eye(2).to_sparse(), "a torch.sparse_coo tensor"),
        (lambda: torch.eye(2).to_sparse_csr(), "a torch.sparse_csr tensor"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "a quantized tensor of torch.qint8"),
        (lambda: torch.nested.nested_tensor([torch.ones(2)]), "a nested tensor"),
        (lambda: torch.nn.UninitializedBuffer(), "a lazy tensor, which has no shape before the network has run once"),
    ],
)
def test_networks_with_other_than_dense_tensors_are_refused(net, value, kind):
    net.register_buffer("adj", value())
    with pytest.raises(LayoutError, match=rf"must hold dense tensors, got {kind} in adj$"):
        StateLayout.of_module(net)


def test_extra_states_of_modules_are_no_tensors():
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"scale": 3}

        def set_extra_state(self, state):
            pass

    layout = StateLayout.of_module(Extra(2, 1))
    assert layout.write_(Extra(2, 1), torch.arange(3.0)).bias.item() == 2


def test_a_tensor_that_cannot_be_written_is_named():
    net = nn.Linear(2, 1)
    net.register_buffer("scale", torch.ones(1).expand(4))
    with pytest.raises(LayoutError, match=r"must hold tensors that can be written, got scale: "):
        StateLayout.of_module(net).write_(net, torch.arange(7.0))
