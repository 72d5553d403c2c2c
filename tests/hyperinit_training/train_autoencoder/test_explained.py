"""Explained variance of reconstructions, of whole networks and of each layer."""

import pytest
import torch
from layered_zoo import layered_zoo

from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit_training.train_autoencoder.explained import r2, r2_per_layer
from hyperinit_training.zoo.statistics import layer_std


@pytest.fixture(scope="module")
def layout():
    return Layout.of(cnn())


@pytest.fixture(scope="module")
def zoo(layout):
    return layered_zoo(layout)


def test_r2_is_1_for_the_target_and_0_for_the_mean(zoo, layout):
    std, mean = layer_std(zoo, layout), zoo.mean(0)
    assert r2(zoo, zoo, std, mean).item() == 1
    assert r2(mean.expand_as(zoo), zoo, std, mean).item() == 0
    assert r2(2 * mean - zoo, zoo, std, mean).item() == pytest.approx(-3, abs=1e-4)


def test_r2_is_measured_in_units_of_each_layer(zoo, layout):
    """An error in the layer of smallest weights is seen with std and not without."""
    output, last = zoo.clone(), layout.layer_slices["11"]
    output[:, last] = zoo.mean(0)[last]
    std, mean = layer_std(zoo, layout), zoo.mean(0)
    assert r2(output, zoo, None, mean).item() > 0.9999
    assert r2(output, zoo, std, mean).item() == pytest.approx(1 - 210 / layout.size, abs=0.02)


def test_r2_per_layer_names_the_layer_that_is_wrong(zoo, layout):
    output, mean = zoo.clone(), zoo.mean(0)
    output[:, layout.layer_slices["6"]] = mean[layout.layer_slices["6"]]
    expected = {"0": 1, "3": 1, "6": 0, "9": 1, "11": 1}
    assert r2_per_layer(output, zoo, layout) == expected
    assert r2_per_layer(output, zoo, layout, mean) == expected
    assert r2_per_layer(output, zoo, layout, torch.zeros(layout.size))["6"] > 0.9
