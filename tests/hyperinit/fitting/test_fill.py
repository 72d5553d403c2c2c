"""The default draw of a parameter is what PyTorch itself would draw, and the module is only read."""

import pytest
import torch
from torch import nn

from hyperinit.fitting.fill import default_draws, has_default, nearest_sources
from hyperinit.fitting.match import module_layers
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.mark.parametrize(
    "make",
    [
        cnn,
        lambda: nn.LSTM(3, 4, num_layers=2),
        lambda: nn.MultiheadAttention(8, 2),
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0),
        lambda: nn.Sequential(
            nn.Embedding(4, 3, padding_idx=0), nn.LayerNorm(3), nn.Conv1d(3, 2, 1), nn.BatchNorm1d(2)
        ),
        lambda: nn.Bilinear(2, 3, 4),
    ],
    ids=["cnn", "lstm", "attention", "encoder layer", "mixed", "bilinear"],
)
def test_draws_equal_a_new_module_of_the_same_seed(make):
    module = make()
    with torch.no_grad():
        for value in module.parameters():
            value.fill_(9)
    torch.manual_seed(4)
    expected = dict(make().named_parameters())
    torch.manual_seed(4)
    draws = default_draws(module, set(expected))
    assert draws.keys() == expected.keys()
    for name, value in draws.items():
        assert torch.equal(value, expected[name]), name
    assert all(value.eq(9).all() for value in module.parameters())


class Own(nn.Module):
    """A user's module with a reset of its own, a plain list of layers, a buffer and a bare parameter."""

    def __init__(self):
        super().__init__()
        self.inner, self.token = nn.Linear(2, 2), nn.Parameter(torch.full((3,), 4.0))
        self.register_buffer("count", torch.zeros(1))
        self.listed = [self.inner]
        self.named = {"token": self.token}

    def reset_parameters(self):
        self.count += 1
        nn.init.constant_(self.listed[0].weight, 5.0)
        nn.init.constant_(self.named["token"], 6.0)


def test_a_reset_that_reaches_around_cannot_touch_the_module():
    module = nn.Sequential(Own())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    draws = default_draws(module, {"0.token", "0.inner.weight"})
    assert draws["0.token"].eq(6).all()
    assert draws["0.inner.weight"].eq(5).all()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module[0].listed[0] is module[0].inner


def test_modules_may_refer_to_each_other_in_circles():
    parent = nn.Sequential(nn.Linear(2, 2))
    parent[0].owners = [parent]
    assert default_draws(parent, {"0.bias"})["0.bias"].shape == (2,)


def test_only_what_is_named_is_drawn():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    torch.manual_seed(0)
    expected = nn.Linear(2, 2).weight
    torch.manual_seed(0)
    draws = default_draws(module, {"1.weight"})
    assert list(draws) == ["1.weight"]
    assert torch.equal(draws["1.weight"], expected)


def test_a_reset_that_needs_arguments_is_none():
    module = nn.Linear(2, 2)
    module.reset_parameters = lambda std: None
    assert not has_default(module)
    module.reset_parameters = lambda std=1.0, *rest, **options: None
    assert has_default(module)


def test_a_reset_of_compiled_code_without_a_signature_is_none():
    module = nn.Linear(2, 2)
    module.reset_parameters = module.weight.zero_
    assert not has_default(module)


def test_what_no_reset_writes_comes_back_as_it_is():
    module = nn.Sequential(nn.ParameterList([torch.full((2,), 3.0)]))
    assert default_draws(module, {"0.0"})["0.0"].eq(3).all()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_weight_norm_does_not_share_its_weight():
    module = nn.utils.weight_norm(nn.Linear(3, 3))
    before = module.weight.detach().clone()
    default_draws(module, {"bias"})
    assert torch.equal(module.weight, before)


def test_parametrised_modules_keep_their_values():
    module = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    default_draws(module, {"bias", "parametrizations.weight.original0"})
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_an_unpaired_layer_takes_the_statistics_of_the_nearest_pair_of_its_kind():
    module = nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), nn.Linear(8, 4), nn.Linear(4, 10)
    )
    layout, layers = Layout.of(cnn()), module_layers(module)
    found = nearest_sources(layout, layers, [(0, 0), (2, 2), (4, 4)])
    assert [found[f"{place}.bias"] for place in range(5)] == ["0", "0", "6", "11", "11"]
    assert "0.bias" not in nearest_sources(layout, layers, [(4, 4)])  # no convolution is paired


def test_the_nearest_source_is_counted_without_norms():
    net = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    assert nearest_sources(Layout.of(net), module_layers(net), [(0, 0), (1, 1)])["2.weight"] == "2"
