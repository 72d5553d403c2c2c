"""Sources whose networks have norms: affine parameters and running statistics are decoded and written, too."""

import pytest
import torch
from fitting_cases import put
from seeds import gen
from torch import nn

from hyperinit.fitting import apply_, make_plan
from hyperinit.layout import Layout


def net(width=4, *, affine=True, statistics=True):
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width, affine=affine, track_running_stats=statistics), nn.ReLU(),
        nn.Flatten(), nn.Linear(36 * width, 6), nn.LayerNorm(6), nn.Linear(6, 2),
    )  # fmt: skip


@pytest.fixture
def source():
    torch.manual_seed(0)
    network = net()
    network.train()(torch.randn(8, 1, 8, 8) * 3 + 1)
    with torch.no_grad():
        network[1].weight.uniform_(0.5, 2)
        network[5].bias.normal_()
    return network.eval()


@pytest.fixture
def layout(source):
    return Layout.of(source)


@pytest.fixture
def weights(source, layout):
    return layout.flatten(source.state_dict())


def test_a_network_of_the_same_kind_computes_the_same(source, layout, weights):
    x, module = torch.randn(5, 1, 8, 8), net().eval()
    plan = make_plan(module, layout)
    assert plan.fit == "exact"
    assert plan.decoded_share == 1
    assert [row.name for row in plan.rows][2:6] == ["1.weight", "1.bias", "1.running_mean", "1.running_var"]
    identities = [id(value) for value in module.buffers()]
    apply_(module, plan, weights)
    torch.testing.assert_close(module(x), source(x))
    assert [id(value) for value in module.buffers()] == identities
    assert module[1].num_batches_tracked == 0


def test_a_wider_network_takes_the_norms_of_the_channels_it_shares(source, layout, weights):
    module = put(net(6), layout, weights, generator=gen())
    for key in ("weight", "bias", "running_mean", "running_var"):
        ours, theirs = getattr(module[1], key), getattr(source[1], key)
        assert torch.equal(ours[:4], theirs), key
        assert torch.equal(ours[4:], getattr(nn.BatchNorm2d(2), key)), key
    assert torch.equal(module[5].bias, source[5].bias)


@pytest.mark.parametrize("options", [{"affine": False}, {"statistics": False}])
def test_norms_with_fewer_tensors_take_what_they_have(source, layout, weights, options):
    module = net(**options)
    plan = make_plan(module, layout)
    assert plan.fit == "layerwise"
    assert plan.decoded_share == 1
    apply_(module, plan, weights)
    if options == {"affine": False}:
        assert torch.equal(module[1].running_mean, source[1].running_mean)
    else:
        assert torch.equal(module[1].weight, source[1].weight)


def test_a_variance_that_decodes_to_a_negative_number_is_raised(layout, weights):
    place = layout.raw_tensors(torch.arange(layout.size))["1.running_var"]
    weights[place] = -1.0
    module = put(net(), layout, weights)
    assert (module[1].running_var > 0).all()
    assert module.eval()(torch.randn(2, 1, 8, 8)).isfinite().all()


def test_running_statistics_are_left_out_like_the_norm_or_by_name(layout, weights):
    module = net()
    module[1].requires_grad_(False)
    plan = make_plan(module, layout, skip_frozen=True)
    frozen = {row.name for row in plan.rows if row.origin == "frozen"}
    assert frozen == {"1.weight", "1.bias", "1.running_mean", "1.running_var"}
    put(module, layout, weights, exclude="1.running_*")
    assert torch.equal(module[1].running_mean, torch.zeros(4))


def test_sources_without_norms_leave_statistics_alone(weights):
    module = net()
    module.train()(torch.randn(8, 1, 8, 8))
    before = module[1].running_mean.clone()
    plain = Layout.of(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 6), nn.Linear(6, 2)))
    put(module, plain, torch.randn(plain.size))
    assert torch.equal(module[1].running_mean, before)


def test_a_failure_puts_statistics_back(layout, weights, monkeypatch):
    from hyperinit.modules import write

    module = net()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count, piece = iter(range(99)), write.piece

    def failing(value, parameter):
        if next(count) == 6:
            raise KeyboardInterrupt
        return piece(value, parameter)

    monkeypatch.setattr(write, "piece", failing)
    with pytest.raises(KeyboardInterrupt):
        put(module, layout, weights)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
