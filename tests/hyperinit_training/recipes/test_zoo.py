"""Recipes of a zoo: checks, scaling down, and varied hyperparameters."""

import json
from dataclasses import replace
from itertools import product

import pytest

from hyperinit.errors import ArgumentError
from hyperinit_training.recipes.zoo import ZooRecipe, scaled


def test_to_json_equals_a_round_trip_through_json():
    plain = ZooRecipe(images="digits", models=4, snapshots=(1, 3)).to_json()
    assert plain["snapshots"] == [1, 3]
    assert json.loads(json.dumps(plain)) == plain
    assert ZooRecipe(**plain | {"snapshots": (1, 3)}).to_json() == plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": 0}, r"models must be at least 1, got 0$"),
        ({"families": 3}, r"models must be a multiple of families, got 4 and 3$"),
        ({"families": -2}, r"families must be at least 0, got -2$"),
        ({"schedule": "cosine"}, r"schedule must be constant or linear for network cnn, got 'cosine'$"),
        ({"schedule": "step"}, r"schedule must be one of 'constant', 'linear', 'cosine', 'one-cycle', got 'step'$"),
        ({"optimizer": "sgd"}, r"optimizer must be adam for network cnn, got 'sgd'$"),
        ({"smoothing": 0.1}, r"smoothing must be 0 for network cnn, got 0.1$"),
        ({"augment": "crop"}, r"augment must be '' for network cnn, got 'crop'$"),
        ({"network": "vgg"}, r"network must be resnet, a depth, x and a width, such as resnet14x16, got 'vgg'$"),
        ({"network": "resnet15x4"}, r"depth must be 6 n \+ 2, .*, got 15$"),
        ({"network": "resnet8x4", "dropout": 0.1}, r"dropout must be 0 for network resnet8x4, got 0.1$"),
        ({"network": "resnet8x4", "momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0$"),
        ({"network": "resnet8x4", "vary": {"activation": ["tanh"]}}, r"vary of activation needs network cnn"),
        ({"init": "zeros"}, r"init must be one of default, uniform, .*, got 'zeros'$"),
        ({"activation": "swish"}, r"activation must be one of tanh, relu, sigmoid, gelu, got 'swish'$"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0$"),
        ({"vary": {"batch": [1]}}, r"vary must list values of activation, decay, dropout, init, rate .*got .*batch"),
        ({"vary": {"rate": []}}, r"vary must list values of"),
        ({"vary": {"rate": [1e-3]}, "families": 2}, r"vary must list values .* and needs families = 0, got"),
        ({"vary": {"activation": ["tanh", "swish"]}}, r"activation must be one of .*, got 'swish'$"),
        ({"epochs": 0}, r"epochs, branch_epochs and batch must be at least 1, got \(0, 1, 64\)$"),
        ({"branch_epochs": 0}, r"must be at least 1, got \(3, 0, 64\)$"),
        ({"batch": 0}, r"must be at least 1, got \(3, 1, 0\)$"),
        ({"snapshots": (1, 4)}, r"snapshots must lie in 1 to 3 and need families = 0, got \(1, 4\)$"),
        ({"snapshots": (0,)}, r"snapshots must lie in 1 to 3 and need families = 0, got \(0,\)$"),
        ({"snapshots": (1,), "families": 2}, r"snapshots must lie in 1 to 3 and need families = 0, got \(1,\)$"),
    ],
)
def test_bad_values_of_a_zoo_are_refused(changes, message):
    with pytest.raises(ArgumentError, match=message):
        ZooRecipe(**{"images": "digits", "models": 4} | changes)


FAMILIES = ZooRecipe(images="digits", models=160, families=10, epochs=40)
SEEDS = ZooRecipe(images="digits", models=160, epochs=40, snapshots=(5, 20, 40))


@pytest.mark.parametrize(
    ("recipe", "given", "expected"),
    [
        (FAMILIES, {}, {}),
        (FAMILIES, {"models": 25}, {"models": 20}),
        (FAMILIES, {"models": 4}, {"models": 4, "families": 4}),
        (FAMILIES, {"epochs": 3, "images": 100}, {"epochs": 3, "limit": 100}),
        (SEEDS, {"models": 7}, {"models": 7}),
        (SEEDS, {"epochs": 20}, {"epochs": 20, "snapshots": (5, 20)}),
        (SEEDS, {"epochs": 3}, {"epochs": 3, "snapshots": (3,)}),
    ],
)
def test_scaled_keeps_what_is_not_given(recipe, given, expected):
    asked = {"models": None, "epochs": None, "images": None} | given
    assert scaled(recipe, **asked) == ZooRecipe(**{**vars(recipe), **expected})


@pytest.mark.parametrize(("given", "message"), [({"models": 0}, r"got 0$"), ({"epochs": 0}, r"got \(0, 1, 64\)$")])
def test_scaling_to_zero_is_refused(given, message):
    with pytest.raises(ArgumentError, match=message):
        scaled(FAMILIES, **{"models": None, "epochs": None, "images": None} | given)


def test_models_go_through_all_combinations_in_an_order_that_the_seed_decides():
    vary = {"activation": ["tanh", "relu"], "dropout": [0.0, 0.3, 0.5]}
    recipe = ZooRecipe(images="digits", models=13, vary=vary)
    found = [(own.activation, own.dropout) for own in recipe.varied]
    assert set(found[:6]) == set(product(*vary.values())) == set(found[6:12])
    assert found[12] == found[0]
    assert all(
        own == replace(recipe, vary={}, activation=a, dropout=d)
        for own, (a, d) in zip(recipe.varied, found, strict=True)
    )
    assert [own.dropout for own in replace(recipe, seed=1).varied] != [own.dropout for own in recipe.varied]
    assert recipe.to_json()["vary"] == vary


def test_json_leaves_out_unused_dropout_and_vary():
    assert not {"dropout", "vary"} & ZooRecipe(images="digits", models=1).to_json().keys()
