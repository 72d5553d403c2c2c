"""Each embedded source is undamaged and measured, and its samples are networks that work."""

import pytest
import torch

import hyperinit
from hyperinit.files.atomic import digest
from hyperinit.hub import sources
from hyperinit.representation.card import ROWS
from hyperinit.samplers import METHODS

SOURCES = list(hyperinit.sources())
LEAST_ACCURACY = {
    "cifar10": 0.48,
    "digits": 0.9,
    "mnist": 0.96,
    "svhn": 0.73,
    "stl10": 0.4,
}  # of the recommended method
LIGHT = [name for name in METHODS if not name.startswith("neigh")]  # a map of all anchors takes long

each_source = pytest.mark.parametrize("source", SOURCES)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@each_source
def test_the_file_is_the_registered_one_and_small(source):
    found = sources.find(source)
    assert found.digest == sources.embedded()[source].sha256 == digest(found.path)
    assert found.path.stat().st_size <= sources.LARGEST
    assert hyperinit.load(source).card.source == source


@each_source
def test_the_card_has_figures_for_every_method_and_for_the_zoo(source):
    measured, methods = hyperinit.load(source).card.measured, hyperinit.methods(source)
    assert METHODS.keys() <= measured.keys()
    assert METHODS.keys() == methods.keys()
    assert measured.keys() - METHODS.keys() <= ROWS.keys()
    assert "zoo" in measured
    assert all(0 <= row["accuracy"] <= 1 and row["n"] >= 2 for row in measured.values())
    assert all("before any training" in line for name, line in methods.items() if name in measured)


@each_source
def test_the_recommended_method_is_good_before_any_training(source):
    card = hyperinit.load(source).card
    assert card.measured[card.recommended]["accuracy"] >= LEAST_ACCURACY[source]


@each_source
@pytest.mark.parametrize(
    "method", [*LIGHT, *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name not in LIGHT)]
)
def test_every_method_draws_networks(source, method, generator):
    hr = hyperinit.load(source)
    assert method in hr.methods()
    weights = hr.sample(2, method=method, generator=generator)
    assert weights.isfinite().all()
    assert not torch.equal(*weights)


@each_source
def test_a_network_and_an_ensemble_are_made(source, generator):
    hr = hyperinit.load(source)
    size = hr.card.preprocessing
    images = torch.randn(2, size["channels"], size["size"], size["size"], generator=generator)
    model = hr.build_model(hr.anchors.weights[0])
    before = hr.layout.flatten(model.state_dict())
    assert hyperinit.init_(model, source, generator=generator) is model
    assert not torch.equal(hr.layout.flatten(model.state_dict()), before)
    classes = model(images).shape[1]
    assert hyperinit.ensemble(3, source, generator=generator)(images).shape == (2, classes)
