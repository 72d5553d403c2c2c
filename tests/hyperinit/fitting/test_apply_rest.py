"""What decoded weights do not reach: norms, attention, a first layer's own inputs, and what decodes to zero."""

import pytest
import torch
from torch import nn

from hyperinit.errors import PlanError
from hyperinit.fitting import apply_, make_plan
from hyperinit.layout import Layout
from hyperinit.nets import cnn


@pytest.fixture
def layout():
    return Layout.of(cnn())


@pytest.fixture
def weights(layout):
    return torch.randn(layout.size, generator=torch.Generator().manual_seed(0))


def wide():
    return nn.Sequential(nn.Conv2d(1, 16, 5), nn.Tanh(), nn.Conv2d(16, 12, 5), nn.Flatten(), nn.Linear(4800, 10))


def put(module, layout, weights, fit="auto"):
    return apply_(module, make_plan(module, layout, fit=fit), weights, generator=torch.Generator())


def test_flat_leaves_norms_alone(layout, weights):
    """Decoded weights as the scales of a norm would be nonsense."""
    net = put(nn.Sequential(nn.Conv2d(1, 8, 5), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 5)), layout, weights, fit="flat")
    assert torch.equal(net[1].weight, torch.ones(8))
    assert torch.equal(net[2].weight.flatten(), weights[208:1408])


@pytest.mark.parametrize("fit", ["flat", "layerwise", "auto"])
def test_no_fit_writes_into_a_module_without_layers(layout, fit):
    with pytest.raises(PlanError, match="must hold a conv or linear layer to decode into, got BatchNorm2d with none"):
        make_plan(nn.BatchNorm2d(3), layout, fit=fit)


def test_the_plan_says_what_decodes_to_zero(layout, weights):
    """A wider layer's decoded outputs get nothing from neurons that the source does not have."""
    net = put(wide(), layout, weights)
    plan = make_plan(wide(), layout)
    row = plan.rows[2]  # (12, 16, 5, 5) from (6, 8, 5, 5)
    assert row.zeros == 6 * 8 * 25 == int((net[2].weight == 0).sum())
    assert "25% zero, default draw" in str(plan)
    assert "zero beside them" in str(plan)
    assert not any(row.zeros for row in make_plan(wide(), layout, fill="keep").rows)


def test_a_first_linear_layer_hears_all_its_inputs(layout, weights):
    net = put(nn.Sequential(nn.Linear(100, 20), nn.ReLU(), nn.Linear(20, 10)), layout, weights)
    assert not (net[0].weight == 0).any()


def test_attention_is_filled_and_not_decoded(layout):
    plan = make_plan(nn.Sequential(nn.Conv2d(1, 8, 5), nn.MultiheadAttention(20, 2)), layout)
    assert {row.origin for row in plan.rows if row.name.startswith("1.")} == {"filled"}
