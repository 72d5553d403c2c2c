"""Weights that decoded ones do not reach, and the mix with the default draw."""

import pytest
import torch
from fitting_cases import put, wide
from module_states import same, state
from seeds import gen
from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit.fitting import apply_, make_plan
from hyperinit.fitting.apply import zoo_draw
from hyperinit.fitting.plan import Rest
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.fixture
def layout():
    return Layout.of(cnn())


@pytest.fixture
def weights(layout):
    return torch.randn(layout.size, generator=gen()) / 4


def test_flat_leaves_norms_alone(layout, weights):
    """A run of the weight vector, cut anywhere, would be nonsense as the scale of a norm."""
    net = put(nn.Sequential(nn.Conv2d(1, 8, 5), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 5)), layout, weights, fit="flat")
    assert torch.equal(net[1].weight, torch.ones(8))
    assert torch.equal(net[2].weight.flatten(), weights[208:1408])


def test_the_plan_says_what_decodes_to_zero(layout, weights):
    """A wider layer's decoded outputs get zero as weights from neurons that the source does not have."""
    net = put(wide(), layout, weights)
    plan = make_plan(wide(), layout, members=1)
    row = plan.rows[2]  # (12, 16, 5, 5) from (6, 8, 5, 5)
    assert row.zeros == 6 * 8 * 25 == int((net[3].weight == 0).sum())
    assert "25% zero, default draw" in str(plan)
    assert "zero beside them" in str(plan)
    assert not any(row.zeros for row in make_plan(wide(), layout, fill="keep").rows)


def test_a_first_linear_layer_gets_nonzero_weights_from_all_its_inputs(layout, weights):
    net = put(nn.Sequential(nn.Linear(100, 20), nn.ReLU(), nn.Linear(20, 10)), layout, weights)
    assert not (net[0].weight == 0).any()


def test_zoo_draw_has_the_layers_moments():
    torch.manual_seed(0)
    draw = zoo_draw((1000, 10), "a", {"a": (torch.tensor(2.0), 0.5)})
    assert draw.mean().item() == pytest.approx(2, abs=0.03)
    assert draw.std().item() == pytest.approx(0.5, rel=0.03)


def test_new_neurons_of_a_wider_network_are_drawn(layout, weights):
    module = put(wide(), layout, weights, generator=gen())
    assert module[3].weight[6:].std().item() == pytest.approx((16 * 25 * 3) ** -0.5, rel=0.1)
    assert not module[3].weight[:6, 8:].any()


def test_strength_mixes_with_the_default_draw(layout, weights):
    decoded, drawn = put(cnn(), layout, weights), put(cnn(), layout, weights, strength=0, generator=gen(3))
    mixed = put(cnn(), layout, weights, strength=0.25, generator=gen(3))
    for name, value in mixed.state_dict().items():
        expected = 0.25 * decoded.state_dict()[name] + 0.75 * drawn.state_dict()[name]
        torch.testing.assert_close(value, expected)
    assert not torch.equal(drawn[0].weight, decoded[0].weight)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_outside_is_refused(layout, weights, strength):
    with pytest.raises(ArgumentError, match=r"in \[0, 1\], got"):
        put(cnn(), layout, weights, strength=strength)


def test_a_resized_layer_is_mixed_row_by_row(layout, weights):
    drawn = put(wide(), layout, weights, strength=0, generator=gen(1))[3].weight
    mixed = put(wide(), layout, weights, strength=0.5, generator=gen(1))[3].weight
    block = layout.raw_tensors(weights)["3.weight"]
    torch.testing.assert_close(mixed[:6, :8], 0.5 * drawn[:6, :8] + 0.5 * block)
    torch.testing.assert_close(mixed[:6, 8:], 0.5 * drawn[:6, 8:])  # these inputs decode to zero
    assert torch.equal(mixed[6:], drawn[6:])


def test_zoo_fill_draws_with_the_sources_mean_and_std(layout, weights):
    stats = {layer.name: (torch.tensor(3.0), 0.5) for layer in layout.layers} | {"3": (-8.0, 0.1)}
    module = nn.Sequential(*wide(), nn.BatchNorm1d(10))
    plan = make_plan(module, layout, fill="zoo", members=1)
    assert {row.name: row.rest for row in plan.rows}["3.weight"] == Rest("zoo", "3")
    apply_(module, plan, weights, layer_stats=stats, generator=gen())
    assert module[3].weight[6:].mean().item() == pytest.approx(-8, abs=0.02)
    assert module[3].weight[6:].std().item() == pytest.approx(0.1, rel=0.1)
    assert module[0].weight[8:].mean().item() == pytest.approx(3, abs=0.2)
    assert module[12].weight.eq(1).all()
    before = state(module)
    with pytest.raises(ArgumentError, match=r"layer_stats.*layer '0', got None"):
        apply_(module, plan, weights)
    assert same(module, before)


def test_the_generator_decides_and_the_global_one_is_left_alone(layout, weights):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = (put(wide(), layout, weights, strength=0.5, generator=gen(1)) for _ in range(2))
    other = put(wide(), layout, weights, strength=0.5, generator=gen(2))
    assert same(first, second.state_dict())
    assert not same(first, other.state_dict())
    networks = [wide() for _ in range(3)]
    torch.manual_seed(5)
    for network in networks:
        put(network, layout, weights, strength=0.5, generator=gen(1))
    assert torch.equal(torch.rand(1), expected)


def test_without_a_generator_manual_seed_decides(layout, weights):
    networks = [wide() for _ in range(3)]
    torch.manual_seed(1)
    put(networks[0], layout, weights)
    put(networks[1], layout, weights)
    torch.manual_seed(1)
    put(networks[2], layout, weights)
    assert same(networks[0], networks[2].state_dict())
    assert not same(networks[0], networks[1].state_dict())
