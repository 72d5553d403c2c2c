"""Means and spreads of a zoo, by layer and by tensor, against numpy."""

import pytest
import torch
from layered_zoo import layered_zoo
from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.zoo.statistics import layer_mean, layer_std, spread_by_layer, tensor_spread

TWO = Layout.of(nn.Linear(1, 1))


@pytest.fixture(scope="module")
def layout():
    return Layout.of(cnn())


@pytest.fixture(scope="module")
def zoo(layout):
    """Ten networks whose layers have weights of different size, around different means."""
    return layered_zoo(layout)


def test_layer_std_and_mean_are_those_of_all_entries_of_a_layer(zoo, layout):
    std, mean = layer_std(zoo, layout), layer_mean(zoo, layout)
    assert std.shape == mean.shape == (layout.size,)
    start = 0
    for layer in layout.layers:
        entries = zoo[:, start : start + layer.size].double().numpy()
        assert std[start : start + layer.size].unique().item() == pytest.approx(entries.std(ddof=1), rel=1e-5)
        assert mean[start : start + layer.size].unique().item() == pytest.approx(entries.mean(), abs=1e-5)
        start += layer.size


def test_tensor_spread_is_the_distance_to_the_mean_network_by_tensor(zoo, layout):
    spread = tensor_spread(zoo, layout)
    assert spread.shape == (layout.size,)
    parts, rows = layout.raw_tensors(spread), [layout.raw_tensors(row) for row in zoo.double()]
    for name, part in parts.items():
        entries = torch.stack([row[name] for row in rows]).numpy()
        expected = ((entries - entries.mean(0)) ** 2).mean() ** 0.5
        assert part.unique().item() == pytest.approx(expected, rel=1e-5)
    assert parts["0.weight"].unique() != parts["0.bias"].unique(), "tensors of one layer have their own values"


def test_tensor_spread_ignores_differences_within_a_network():
    """The networks are equal, so their spread is 0, although the weights of one network differ."""
    assert (tensor_spread(torch.tensor([[0.0, 5.0]] * 3), TWO) == torch.tensor(1e-4)).all()
    assert (layer_std(torch.tensor([[0.0, 5.0]] * 3), TWO) > 2).all()


@pytest.mark.parametrize("statistic", [layer_std, tensor_spread])
def test_a_constant_layer_gets_the_floor(layout, statistic):
    assert (statistic(torch.ones(3, layout.size), layout) == torch.tensor(1e-4)).all()
    assert (statistic(torch.ones(3, layout.size), layout, floor=0.5) == 0.5).all()


def test_one_value_per_layer_is_repeated_at_its_places(layout):
    values = spread_by_layer([torch.tensor(float(number)) for number in range(5)], layout)
    for number, where in enumerate(layout.layer_slices.values()):
        assert values[where].tolist() == [number] * (where.stop - where.start)


@pytest.mark.parametrize("statistic", [layer_std, layer_mean, tensor_spread])
@pytest.mark.parametrize(("shape", "got"), [((1, 2), r"\(1, 2\)"), ((5,), r"\(5,\)"), ((4, 3), r"\(4, 3\)")])
def test_other_shapes_are_refused(statistic, shape, got):
    with pytest.raises(ArgumentError, match=rf"weights must have shape \(N, 2\) with N >= 2, got {got}$"):
        statistic(torch.zeros(shape), TWO)


def test_the_floor_must_be_positive():
    with pytest.raises(ArgumentError, match=r"^floor must be > 0, got 0$"):
        layer_std(torch.zeros(2, 2), TWO, 0)
