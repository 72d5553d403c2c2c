"""A layer counts only if its tensors have the shapes that it announces, and what is left out may be of any kind."""

import pytest
import torch
from torch import nn

import hyperinit
from hyperinit.errors import PlanError
from hyperinit.fitting import apply_, make_plan
from hyperinit.layout import Layout
from hyperinit.nets import cnn

LAYOUT = Layout.of(cnn())
WEIGHTS = torch.arange(float(LAYOUT.size))


class Packed(nn.Linear):
    """A linear layer in 4 bits: two weights in each byte, stored as bfloat16."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.weight = nn.Parameter(torch.ones(inputs * outputs // 4, 1, dtype=torch.bfloat16), requires_grad=False)


class Bytes(nn.Linear):
    """A linear layer in 8 bits, of the announced shape."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.weight = nn.Parameter(torch.ones(outputs, inputs, dtype=torch.int8), requires_grad=False)


@pytest.mark.parametrize("options", [{}, {"fit": "layerwise"}, {"fit": "flat"}, {"fill": "zoo"}, {"strength": 0.5}])
@pytest.mark.parametrize("kind", [Packed, Bytes])
def test_a_packed_layer_is_not_touched(kind, options):
    net = cnn()
    net[9] = kind(36, 20)
    before = net[9].weight.clone(), net[9].bias.clone()
    hyperinit.init_(net, "digits", **options)
    assert torch.equal(net[9].weight, before[0])
    assert torch.equal(net[9].bias, before[1])
    rows = {row.name: row for row in hyperinit.plan(net, "digits").rows}
    assert rows["9.weight"].origin == rows["9.bias"].origin == "untouched"
    assert rows["11.weight"].origin == "exact"


@pytest.mark.parametrize(
    "damage",
    [
        lambda net: setattr(net[0], "groups", 2),
        lambda net: setattr(net[0], "kernel_size", (3, 3)),
        lambda net: setattr(net[0], "out_channels", 9),
        lambda net: setattr(net[0], "bias", nn.Parameter(torch.ones(7))),
    ],
)
def test_other_layers_that_announce_another_shape_are_not_touched(damage):
    net = cnn()
    damage(net)
    origins = {row.name: row.origin for row in make_plan(net, LAYOUT).rows}
    assert origins["0.weight"] == origins["0.bias"] == "untouched"
    with pytest.raises(hyperinit.HyperinitError, match=r"0\.weight, whose layer announces another shape"):
        make_plan(net, LAYOUT, fit="exact")


def test_norms_of_another_shape_are_not_touched():
    source = Layout.of(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)))
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
    net[1].weight = nn.Parameter(torch.ones(2, 2))
    origins = {row.name: row.origin for row in make_plan(net, source).rows}
    assert origins["1.weight"] == origins["1.running_var"] == "untouched"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [nn.Linear, nn.LSTM, nn.Embedding])
def test_torchs_quantised_layers_are_refused(kind):
    from torch.ao.quantization import float_qparams_weight_only_qconfig, quantize_dynamic

    net = cnn()
    net.append({nn.Linear: nn.Identity, nn.LSTM: nn.LSTM, nn.Embedding: nn.Embedding}[kind](*(10, 4)))
    choice = {nn.Embedding: float_qparams_weight_only_qconfig} if kind is nn.Embedding else {kind}
    net = quantize_dynamic(net, choice)
    with pytest.raises(PlanError, match=r"^\d+ is quantised, and packed integers are no weights; call init_ before"):
        hyperinit.plan(net, "digits")


# Left out


class Extra(nn.Module):
    """The source's network beside a parameter of another kind, in a part with a reset."""

    def __init__(self, value):
        super().__init__()
        self.body, self.extra = cnn(), nn.Module()
        self.extra.odd = value
        self.extra.reset_parameters = lambda: None


KINDS = {
    "sparse": lambda: nn.Parameter(torch.eye(3).to_sparse(), requires_grad=False),
    "compressed": lambda: nn.Parameter(torch.eye(3).to_sparse_csr(), requires_grad=False),
    "expanded": lambda: nn.Parameter(torch.zeros(1).expand(8)),
    "lazy": nn.UninitializedParameter,
    "meta": lambda: nn.Parameter(torch.zeros(3, device="meta")),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of sparse tensors, about themselves
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_out_may_be_of_any_kind(kind):
    net = Extra(KINDS[kind]())
    with pytest.raises(PlanError, match=r"got (sparse|expanded|lazy, meta or inference-mode) ones: extra\.odd"):
        make_plan(net, LAYOUT)
    plan = make_plan(net, LAYOUT, exclude="extra.*")
    assert plan.decoded_share == 1
    apply_(net, plan, WEIGHTS)
    assert torch.equal(net.body[0].weight.flatten(), WEIGHTS[: net.body[0].weight.numel()])
    net.extra.odd.requires_grad = False
    assert make_plan(net, LAYOUT, skip_frozen=True).rows[-1].origin == "frozen"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_sparse_parameter_that_nothing_would_write_needs_no_exclude():
    net = cnn()
    net.adj = nn.Parameter(torch.eye(5).to_sparse_csr(), requires_grad=False)
    hyperinit.init_(net, "digits")
    assert {row.name: row.origin for row in hyperinit.plan(net, "digits").rows}["adj"] == "untouched"
    with pytest.raises(PlanError, match=r"^parameters must be dense to be written, got sparse ones: adj; leave them"):
        make_plan(net, LAYOUT, fit="flat")


def test_what_is_left_out_must_not_share_memory_with_what_is_written():
    net = nn.Sequential(nn.Linear(36, 20), nn.Linear(20, 36), nn.Linear(36, 20))
    net[1].weight = nn.Parameter(net[0].weight.detach().T)
    with pytest.raises(PlanError, match="in each other's memory"):
        make_plan(net, LAYOUT, exclude="1.*")
    make_plan(net, LAYOUT, exclude=["0.*", "1.*"])


def test_statistics_of_norms_without_parameters_are_frozen_with_what_is_around_them():
    def make():
        return nn.Sequential(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4, affine=False)), nn.Linear(4, 2))

    net = make()
    net[0].requires_grad_(False)
    origins = {row.name: row.origin for row in make_plan(net, Layout.of(make()), skip_frozen=True).rows}
    assert origins["0.1.running_mean"] == origins["0.1.running_var"] == "frozen"
    assert origins["1.weight"] == "exact"
